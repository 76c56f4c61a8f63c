"""The command ``kubekeel``. It asks for a run, shows how it goes, and renders its result; what it does stands in the playbooks.

click, not typer as in the lab: most commands take the same options, which click lets them share.
"""

import contextlib
import functools
import io
import itertools
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import click
from rich.table import Table
from rich.text import Text

from . import __version__, collection, doctor, explain, fleet, inventories, jobs, notify, render, result, runs
from . import via as bastions
from .errors import KubekeelError, UsageError
from .inventories import Inventory
from .progress import Progress
from .terminal import Terminal, unread

SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 110}
PASSED_ON = "[-- ANSIBLE-OPTIONS]"
FLEET_FORMS = ("text", "json")
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

err = Terminal(stderr=True)

SHARED = (
    click.option("--inventory", "-i", metavar="PATH[#CLUSTER]", help="By default the standing lab's. CLUSTER is one of a fleet."),
    click.option("--limit", "-l", default="", metavar="NODES", help="Only these nodes."),
    click.option("--extra-vars", "-e", multiple=True, metavar="NAME=VALUE", help="Variables, as ansible-playbook takes them."),
    click.option("--forks", type=click.IntRange(min=1), help="How many nodes at a time, where one after the other is not needed."),
    click.option("--ask-become-pass", "-K", is_flag=True, help="Ask for the password of sudo on the nodes."),
    click.option("--format", "-f", "form", type=click.Choice(list(render.FORMATS)), default="text", show_default=True),
    click.option("--output", "-o", type=click.Path(dir_okay=False, path_type=pathlib.Path), help="File for the report."),
    click.option("--quiet", "-q", is_flag=True, help="No progress."),
    click.option("--runs", "folder", type=click.Path(file_okay=False, path_type=pathlib.Path), help="Folder in which runs are kept."),
    click.option("--fail-on", type=click.Choice([*result.SEVERITIES, result.NEVER]), default="critical", show_default=True),
    click.option("--waivers", type=click.Path(dir_okay=False, path_type=pathlib.Path), help="File with findings that do not count."),
    click.option("--via", metavar="[USER@]HOST[:PORT]", help="Run from there, by ansible-runner over SSH."),
    click.option("--notify", metavar="URL", envvar="KUBEKEEL_NOTIFY_URL", help="Send how the run ended there, as JSON."),
    click.option("--parallel", type=click.IntRange(min=1), default=5, show_default=True, help="Clusters of a fleet at a time."),
    click.option("--canary", multiple=True, metavar="CLUSTER", help="Clusters of a fleet that come first, and have to go well."),
    click.option(
        "--stop-after", type=click.IntRange(min=0), help="Failed clusters that end a fleet's run: by default 1 if it changes any."
    ),
    click.option("--resume", metavar="FLEET-RUN", help="Go on with a fleet's run, without the clusters that are done."),
    click.argument("passed_on", nargs=-1, type=click.UNPROCESSED, metavar=PASSED_ON),
)
TAGS = click.option("--tags", "-t", multiple=True, metavar="REMEDY", help="Only these remedies.")
CHECK = click.option("--check", "-C", is_flag=True, help="Change nothing, only say what would be done.")
ACCEPT = click.option("--accept", multiple=True, metavar="NAME", help="Go on although this speaks against it, see 'kubekeel explain'.")


def shared(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that all runs have."""
    return functools.reduce(lambda made, option: option(made), reversed(SHARED), function)


@click.group(context_settings=SETTINGS)
@click.version_option(__version__, prog_name="kubekeel")
def app() -> None:
    """Keeps K3s and MicroK8s clusters up when a node dies.

    Exit codes: 0 fine; 1 findings at or above --fail-on; 2 usage; 3 could not complete; 4 the remediation, verification or drill
    failed; 5 refused by a safety gate, nothing was changed; 130 interrupted.
    """


@app.command()
@TAGS
@shared
def audit(tags: Sequence[str], **options: Any) -> None:
    """Say what differs from the wanted state, on which node, and why it matters."""
    carry_out("audit", options, tags=tags)


@app.command()
@TAGS
@ACCEPT
@shared
def plan(tags: Sequence[str], accept: Sequence[str], **options: Any) -> None:
    """Show what remediate would do, as a diff by node, and what the death of a node costs before and after."""
    carry_out("plan", options, tags=tags, variables=accepting(accept))


@app.command()
@TAGS
@ACCEPT
@CHECK
@shared
def remediate(tags: Sequence[str], accept: Sequence[str], check: bool, **options: Any) -> None:
    """Bring every node to the wanted state, servers one at a time."""
    carry_out("remediate", options, tags=tags, check=check, variables=accepting(accept))


@app.command()
@shared
def verify(**options: Any) -> None:
    """See on every node whether what was wanted is in force: in the running processes, not in their files."""
    carry_out("verify", options)


@app.command()
@click.option("--scenario", default="leader_loss", show_default=True, help="What is done, see docs/drills.md.")
@click.option("--confirm", default="", metavar="CLUSTER", help="The cluster's name: a drill takes nodes away for real.")
@CHECK
@shared
def drill(scenario: str, confirm: str, check: bool, **options: Any) -> None:
    """Lose a node for real, measure what that costs, and get it back."""
    variables = {"drill_scenario": scenario}
    if not check:
        variables["drill_confirm"] = confirm or confirmation(inventories.find(options["inventory"]))
    carry_out("drill", options, check=check, variables=variables)


@app.command()
@click.option("--run", "run_id", default="", metavar="RUN", help="Which remediation; by default the latest.")
@click.option("--force", is_flag=True, help="Overwrite what somebody else changed since.")
@CHECK
@shared
def rollback(run_id: str, force: bool, check: bool, **options: Any) -> None:
    """Take a remediation back, byte for byte, servers one at a time."""
    variables = {"rollback_run": remembered(run_id, options["folder"]), "rollback_force": force}
    carry_out("rollback", options, check=check, variables=variables)


@app.command()
@click.option("--force", is_flag=True, help="Clear what is not stale, too.")
@CHECK
@shared
def recover(force: bool, check: bool, **options: Any) -> None:
    """Bring back nodes of K3s that stay NotReady since they remember API servers that are gone."""
    carry_out("recover", options, check=check, variables={"recover_force": force})


@app.command()
@ACCEPT
@CHECK
@shared
def restart(accept: Sequence[str], check: bool, **options: Any) -> None:
    """Restart Kubernetes on every node, with the gates of a remediation."""
    carry_out("restart", options, check=check, variables=accepting(accept))


@app.command()
@click.argument("run_id", default="latest", metavar="[RUN]")
@click.option("--against", metavar="RUN", help="An earlier run to compare with.")
@click.option("--format", "-f", "form", type=click.Choice(list(render.FORMATS)), default="text", show_default=True)
@click.option("--output", "-o", type=click.Path(dir_okay=False, path_type=pathlib.Path), help="File for the report.")
@click.option("--runs", "folder", type=click.Path(file_okay=False, path_type=pathlib.Path), help="Folder in which runs are kept.")
def report(run_id: str, against: str | None, form: str, output: pathlib.Path | None, folder: pathlib.Path | None) -> None:
    """Render the result of a run again, or compare it with an earlier one. RUN is an id, the beginning of one, a file, or 'latest'."""
    document = result.load(runs.named(run_id, folder))
    earlier = result.load(runs.named(against, folder)) if against else None
    with unread():
        show(document, form, output, earlier)


@app.command("doctor")
@click.option("--inventory", "-i", metavar="PATH[#CLUSTER]", help="By default the standing lab's.")
@click.option("--limit", "-l", default="", metavar="NODES", help="Only these nodes.")
@click.option("--via", metavar="[USER@]HOST[:PORT]", help="Look whether that bastion has what a run needs, and no further.")
@click.option("--ask-become-pass", "-K", is_flag=True, help="Ask for the password of sudo on the nodes.")
def doctor_command(inventory: str | None, limit: str, via: str | None, ask_become_pass: bool) -> None:
    """Say what is resolved from where, and whether the nodes can be reached and managed."""
    if via:
        problems = bastions.look(via)
        click.echo("\n".join(problems) or f"{via} has what a run needs")
        raise SystemExit(KubekeelError.exit_code if problems else 0)
    with jobs.private_folder() as private:
        more = {"ANSIBLE_BECOME_PASSWORD_FILE": str(become(private))} if ask_become_pass else {}
        raise SystemExit(doctor.show(inventory, limit, {**jobs.environment(), **more}))


@app.command("explain")
@click.argument("identifier", default="", metavar="[ID]")
def explain_command(identifier: str) -> None:
    """Say why a finding, a setting or a rule matters, who says so, and what to do. Without an ID: which there are."""
    explain.show(identifier)


@app.command("alert")
@click.option("--inventory", "-i", metavar="PATH[#CLUSTER]", help="By default the standing lab's.")
@click.option("--policy", type=click.Path(dir_okay=False, path_type=pathlib.Path), help="What an alert may change; nothing without one.")
@click.option("--file", "source", type=click.File("r"), default="-", help="The alert, or the body of Alertmanager's webhook.")
@click.option("--runs", "folder", type=click.Path(file_okay=False, path_type=pathlib.Path), help="Folder in which runs are kept.")
def alert_command(inventory: str | None, policy: pathlib.Path | None, source: Any, folder: pathlib.Path | None) -> None:
    """Do what an alert asks for: an audit, and what the policy allows for exactly one known node."""
    from . import alerts

    try:
        body = json.load(source)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"This is no alert: {error}") from error
    with interruptible() as (cancel, kill):
        decisions = alerts.handle(
            body,
            inventory=inventories.find(inventory),
            policy=policy,
            folder=folder or runs.default_folder(),
            run=functools.partial(runs.run, cancel=cancel, kill=kill),
        )
    for decision in decisions:
        click.echo(decision.sentence)
    raise SystemExit(max((decision.exit_code for decision in decisions), default=0))


# The lab's own '--' is the lab's.
LAB = {"ignore_unknown_options": True, "allow_interspersed_args": False, "help_option_names": []}


@app.command("lab", context_settings=LAB, add_help_option=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def lab_command(arguments: Sequence[str]) -> None:
    """Start, look at and remove a real cluster to try kubekeel on: up, down, status, traffic, power-off..."""
    if not collection.CHECKOUT:
        raise UsageError("The lab is part of kubekeel's repository: clone it and run 'kubekeel lab' there")
    os.chdir(collection.CHECKOUT)
    lab = [sys.executable, "-m", "lab"]
    if arguments[:1] == ("up",):
        chosen = os.environ.get(inventories.VARIABLE) or os.environ.get("ANSIBLE_INVENTORY")
        if chosen:
            raise UsageError(f"The environment names the inventory {chosen}, so further commands would go there. Unset it first")
        is_machine = "--distribution=vm" in arguments or ("--distribution", "vm") in itertools.pairwise(arguments)
        # Its progress goes to standard error.
        done = subprocess.run([*lab, "requirements", *(["--vm"] if is_machine else [])], stdout=subprocess.DEVNULL, check=False)
        if done.returncode:
            raise SystemExit(KubekeelError.exit_code)
    os.execv(sys.executable, [*lab, *arguments])  # noqa: S606


def carry_out(
    command: str, options: Mapping[str, Any], *, tags: Sequence[str] = (), check: bool = False, variables: Mapping[str, Any] | None = None
) -> None:
    """Run a command on a cluster or a fleet, show what came of it, and exit."""
    inventory = inventories.find(options["inventory"])
    names = [] if inventory.cluster else inventories.clusters(inventory.path)
    if options["resume"] and not names:
        raise UsageError(f"--resume is for a fleet, and {inventory} has no group '{inventories.FLEET}'")
    if options["via"] and command == runs.VERIFY:
        raise UsageError("The verification runs from here, not by --via: it is no playbook. 'kubekeel verify' on the bastion does it there")
    if names and options["form"] not in FLEET_FORMS:
        raise UsageError(f"What came of a fleet is shown as {' or '.join(FLEET_FORMS)}; 'kubekeel report RUN' renders each cluster's run")
    with jobs.private_folder() as private, contextlib.ExitStack() as signals:
        password = become(private) if options["ask_become_pass"] else None
        cancel, kill = signals.enter_context(interruptible())
        given: dict[str, Any] = {
            "variables": variables or {},
            "limit": options["limit"],
            "tags": [name for text in tags for name in text.split(",")],
            "check": check,
            "forks": options["forks"],
            "fail_on": options["fail_on"],
            "waivers": options["waivers"],
            "folder": options["folder"],
            "become_password_file": password,
            "ansible_options": extra(options),
            "cancel": cancel,
            "kill": kill,
        }
        if options["via"]:
            given["play"] = functools.partial(bastions.play, options["via"])
        with Progress(names, quiet=options["quiet"]) as progress:
            if names:
                summary = fleet.run_fleet(command, inventory, fleet_options(options), on_event=progress, **given)
            else:
                found = runs.run(command, inventory, on_event=progress, **given)
    if names:
        with unread():
            show_fleet(summary, options["form"], options["output"])
        for outcome in summary.outcomes:
            # Of a fleet that was gone on with, those before were told then.
            if outcome.folder and outcome.began >= summary.began:
                tell(options["notify"], result.load(pathlib.Path(outcome.folder) / "result.json"))
        raise SystemExit(summary.exit_code)
    with unread():
        show(found.document, options["form"], options["output"])
    for note in found.notes:
        complain(note)
    tell(options["notify"], found.document)
    raise SystemExit(found.exit_code)


def tell(url: str | None, document: result.Document) -> None:
    """Notify whoever wants to know how a run ended. That this fails changes nothing of the run."""
    problem = notify.send(document, url) if url else ""
    if problem:
        complain(f"Nobody was notified of {document['run']['id']}: {problem}")


def show_fleet(summary: fleet.Summary, form: str, output: pathlib.Path | None) -> None:
    """Print what came of a fleet, or write it to a file."""
    if form == "json":
        put(json.dumps(summary.to_json(), indent=1) + "\n", output)
        return
    table = Table(title=f"{summary.command} of {len(summary.clusters)} clusters, {summary.id}", title_justify="left")
    for column in ("cluster", "ended", "s", "what", "run"):
        table.add_column(column, justify="right" if column == "s" else "left", no_wrap=column == "run")
    for each in summary.outcomes:
        table.add_row(each.cluster, each.status, f"{each.seconds:.0f}", Text(each.headline), each.run)
    for name in summary.not_begun:
        table.add_row(name, "not begun", "", summary.why, "")
    console = Terminal(record=output is not None, file=io.StringIO() if output else None)
    console.print(table)
    if summary.exit_code:
        again = f"kubekeel {summary.command} -i {summary.inventory} --resume {summary.id}"
        console.print(Text(f"To go on with what is not done: {again}"), soft_wrap=True)
    if output:
        put(console.export_text(), output)


def show(document: result.Document, form: str, output: pathlib.Path | None, against: result.Document | None = None) -> None:
    """Print a result, or write it to a file."""
    if form == "text" and output is None:
        render.text.print_document(document, Terminal(), against)
    else:
        put(render.render(document, form, against), output)


def put(text: str, output: pathlib.Path | None) -> None:
    """Print a text, or write it to a file: whoever reads that meanwhile, such as node_exporter, reads the whole of the one before."""
    if output is None:
        click.echo(text, nl=not text.endswith("\n"))
        return
    try:
        beside = output.with_name(f".{output.name}.{os.getpid()}")
        beside.write_text(text, encoding="utf-8")
        beside.replace(output)
    except OSError as error:
        raise KubekeelError(f"{output} cannot be written: {error.strerror}. The run is kept, 'kubekeel report' renders it again") from error


def fleet_options(options: Mapping[str, Any]) -> fleet.Options:
    """Return how the clusters of a fleet are gone through."""
    return fleet.Options(
        parallel=options["parallel"], canary=tuple(options["canary"]), stop_after=options["stop_after"], resume=options["resume"] or ""
    )


def accepting(names: Sequence[str]) -> dict[str, Any]:
    """Return the variable for what is accepted."""
    return {"preflight_accept": list(names)} if names else {}


def extra(options: Mapping[str, Any]) -> list[str]:
    """Return the options of ansible-playbook that were passed on."""
    return [*(word for text in options["extra_vars"] for word in ("--extra-vars", text)), *options["passed_on"]]


def become(private: pathlib.Path) -> pathlib.Path:
    """Ask for the password of sudo, and return a file that holds it, since ansible-runner has no terminal for the question."""
    path = private / "become"
    path.touch(mode=0o600)
    path.write_text(click.prompt("Password of sudo on the nodes", hide_input=True, err=True))
    return path


def confirmation(inventory: Inventory) -> str:
    """Return the confirmation of a drill: the lab needs none, and a person is asked."""
    if inventory.is_lab:
        return "lab"
    if not sys.stdin.isatty():
        raise UsageError("A drill takes nodes away for real: confirm it with --confirm CLUSTER")
    return str(click.prompt("A drill takes nodes away for real. Type the cluster's name to go on", err=True))


def remembered(run_id: str, folder: pathlib.Path | None) -> str:
    """Return the name under which nodes remember a remediation; it is another one than that of the run here."""
    with contextlib.suppress(UsageError):
        document = result.load(runs.named(run_id, folder)) if run_id else None
        if document and document["run"]["taken_back_by"]:
            return str(document["run"]["taken_back_by"])
    return run_id


@contextlib.contextmanager
def interruptible() -> Iterator[tuple[threading.Event, threading.Event]]:
    """Give two events: the first signal sets the first, the second one the other."""
    cancel, kill = threading.Event(), threading.Event()

    def note(_signal: int, _frame: object) -> None:
        (kill if cancel.is_set() else cancel).set()
        if not kill.is_set():
            complain("Interrupted: a node that is being changed is finished first. Once more breaks off at once.")

    # nohup, and a shell that starts something in the background, have it ignored on purpose.
    heard = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, note) for number in heard}
    try:
        yield cancel, kill
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def complain(text: str) -> None:
    """Say something to whoever started this, beside the report."""
    # A terminal may be gone, and that must not end what is under way.
    with contextlib.suppress(OSError):
        err.print(Text(text), soft_wrap=True)


def main() -> None:
    """Run the command; a mistake of its user is a sentence and an exit code."""
    try:
        app(prog_name="kubekeel", standalone_mode=False)
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        complain("Interrupted.")
        sys.exit(130)
    except KubekeelError as error:
        err.print(Text.assemble(("Error: ", "bold red"), str(error)), soft_wrap=True)
        sys.exit(error.exit_code)
    except Exception:
        # Python's own exit code for it would mean findings.
        traceback.print_exc()
        sys.exit(KubekeelError.exit_code)
