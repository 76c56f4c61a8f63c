"""One run, from what is asked for to its result, and the folders in which results are kept."""

import contextlib
import datetime
import json
import os
import pathlib
import re
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from . import inventories, jobs, result
from . import waivers as waived
from .errors import KubekeelError, UsageError
from .events import Event, Watcher
from .inventories import Inventory
from .jobs import Ended, Job
from .result import About, Result

NOBODY = "no server and no agent was looked at: --limit or an option leaves none"
ASKING = ("--ask-", "-k", "-K", "-J")
"""Beginnings of options of ansible-playbook that ask for a password."""
KEPT = 100
"""Runs of a cluster that are kept."""
ERROR = re.compile(r"^(?:\[?ERROR\]?!?:?|fatal:)\s*(.+)$")

Play = Callable[[Job, Callable[[jobs.RawEvent], None], threading.Event], Ended]
"""Runs a job: C(jobs.play), or the same on a bastion."""


@dataclass(frozen=True)
class Command:
    """What a command is in terms of Ansible."""

    playbook: str
    options: tuple[str, ...] = ()
    finishes: bool = False
    """Whether it goes from node to node, so that it can stop between two of them."""
    variables: Mapping[str, Any] = field(default_factory=dict)


COMMANDS: Mapping[str, Command] = {
    "audit": Command("audit"),
    "plan": Command("remediate", ("--check", "--diff")),
    "remediate": Command("remediate", finishes=True),
    "rollback": Command("rollback", finishes=True),
    "recover": Command("recover_k3s_lb", finishes=True),
    "restart": Command("restart", finishes=True),
    "drill": Command("drill"),
}
VERIFY = "verify"


@dataclass(frozen=True)
class Asked:
    """What is asked for, checked."""

    command: str
    inventory: Inventory
    variables: Mapping[str, Any]
    limit: str
    tags: tuple[str, ...]
    check: bool
    fail_on: str
    waivers: tuple[waived.Waiver, ...]
    options: tuple[str, ...]
    id: str
    folder: pathlib.Path


def run(
    command: str,
    inventory: str | Inventory | None = None,
    *,
    variables: Mapping[str, Any] | None = None,
    limit: str = "",
    tags: Sequence[str] = (),
    check: bool = False,
    forks: int | None = None,
    fail_on: str = "critical",
    waivers: pathlib.Path | None = None,
    on_event: Callable[[Event], None] | None = None,
    cancel: threading.Event | None = None,
    kill: threading.Event | None = None,
    folder: pathlib.Path | None = None,
    become_password_file: pathlib.Path | None = None,
    ansible_options: Sequence[str] = (),
    play: Play = jobs.play,
) -> Result:
    """Do what a command does, and return its result. May be called from several threads at once.

    What a cluster does is no error: it stands in the result. Each run has a folder of its own, with C(result.json) and
    C(output.txt), what Ansible printed.

    Args:
        command: audit, plan, remediate, verify, drill, rollback, recover or restart.
        inventory: a path, with C(#CLUSTER) for one cluster of a fleet; by default that of the environment, or the standing lab's.
        variables: variables of the roles and playbooks.
        limit: which nodes, as C(--limit) takes it.
        tags: which remedies.
        check: whether it only says what it would do.
        forks: how many nodes Ansible works on at a time.
        fail_on: info, warning, critical or never: the least severity of a finding that makes the exit code 1.
        waivers: a file with findings that do not count.
        on_event: is told what happens, in the thread of the caller. What it raises is raised again once the run has ended and is kept.
        cancel: once it is set, a run that changes nodes ends after the node that it is at, every other one at once.
        kill: once it is set, the run is broken off at once; it then holds the cluster until its Lease runs out.
        folder: where runs are kept; by default C(default_folder()).
        become_password_file: holds the password of sudo on the nodes.
        ansible_options: further options of ansible-playbook.
        play: runs the job; here by default.

    Raises:
        UsageError: what was asked for cannot be done
        KubekeelError: something is missing that every run needs
    """
    options = [*ansible_options, *(["--become-password-file", str(become_password_file)] if become_password_file else [])]
    asked = _asked(command, inventory, variables or {}, limit, tags, check, forks, fail_on, waivers, folder, options)
    # Whether it can be kept must not turn out afterwards.
    try:
        (asked.folder / asked.id).mkdir(parents=True, mode=0o700)
    except OSError as error:
        raise KubekeelError(f"Runs cannot be kept in {asked.folder}: {error.strerror}. Name another folder with --runs") from error
    began = datetime.datetime.now(datetime.UTC)
    start = time.monotonic()
    watcher = Watcher(asked.inventory.label, asked.id, on_event)
    facts: dict[str, Any] | None
    with jobs.private_folder() as private:
        if command == VERIFY:
            ended, facts, verified = _verified(asked, private, cancel or kill)
        else:
            ended, facts = _played(asked, watcher, private, play, cancel or threading.Event(), kill or threading.Event())
            verified = []
    about = About(
        asked.id,
        command,
        str(asked.inventory),
        asked.inventory.label,
        _written(began),
        _written(datetime.datetime.now(datetime.UTC)),
        time.monotonic() - start,
        asked.check,
        asked.limit,
        asked.tags,
        asked.fail_on,
    )
    document = result.build(about, ended.status, watcher.seen, facts, asked.waivers, verified, _errors(ended))
    _findings, notes = waived.apply(document["findings"], asked.waivers, began.date())
    found = Result(document, asked.folder / asked.id, tuple(notes))
    _keep(found, ended.output)
    watcher.tell("end", time.time(), text=found.status)
    if watcher.error:
        raise watcher.error
    return found


def default_folder() -> pathlib.Path:
    """Return where runs are kept: KUBEKEEL_RUNS, or C(kubekeel/runs) below the XDG state folder."""
    chosen = os.environ.get("KUBEKEEL_RUNS")
    base = pathlib.Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state")
    return pathlib.Path(chosen or base / "kubekeel" / "runs").expanduser().absolute()


def kept(folder: pathlib.Path | None = None) -> list[pathlib.Path]:
    """Return the folders of the runs that are kept, newest first."""
    folder = folder or default_folder()
    return sorted((path.parent for path in folder.glob("*/result.json")), key=lambda path: path.name, reverse=True)


def named(name: str, folder: pathlib.Path | None = None) -> pathlib.Path:
    """Return the result.json of a run.

    Args:
        name: a run's id, the beginning of one, a path, or C(latest).
        folder: where runs are kept.

    Raises:
        UsageError: there is none, or several begin so
    """
    path = pathlib.Path(name)
    if path.is_file() or (path / "result.json").is_file():
        return path if path.is_file() else path / "result.json"
    known = kept(folder)
    if not known:
        raise UsageError(f"No run is kept in {folder or default_folder()}; 'kubekeel audit' makes one")
    if name == "latest":
        return known[0] / "result.json"
    found = [path for path in known if path.name == name] or [path for path in known if path.name.startswith(name)]
    if len(found) != 1:
        few = ", ".join(path.name for path in (found or known)[:5])
        problem = f"Several runs begin with '{name}': " if found else f"There is no run '{name}'. The latest are "
        raise UsageError(problem + few)
    return found[0] / "result.json"


def _asked(
    command: str,
    inventory: str | Inventory | None,
    variables: Mapping[str, Any],
    limit: str,
    tags: Sequence[str],
    check: bool,
    forks: int | None,
    fail_on: str,
    waivers: pathlib.Path | None,
    folder: pathlib.Path | None,
    options: Sequence[str],
) -> Asked:
    if command not in (*COMMANDS, VERIFY):
        raise UsageError(f"There is no command '{command}'; there are {', '.join([*COMMANDS, VERIFY])}")
    if fail_on not in (*result.SEVERITIES, result.NEVER):
        raise UsageError(f"'{fail_on}' is no severity; there are {', '.join([*result.SEVERITIES, result.NEVER])}")
    found = inventory if isinstance(inventory, Inventory) else inventories.find(inventory)
    known = COMMANDS.get(command, Command(""))
    strangers = [option for option in options if option.startswith(ASKING)]
    if strangers:
        raise UsageError(
            f"{strangers[0]}: ansible-runner has no terminal for the question. Give a file, or kubekeel's own --ask-become-pass"
        )
    if options and not options[0].startswith("-"):
        raise UsageError(f"'{options[0]}' is no option of ansible-playbook, and no command takes such a word")
    options = ["--check" if option == "-C" else option for option in options]
    more = [*known.options, *options, *(["--forks", str(forks)] if forks else [])]
    more += ["--limit", limit] if limit else []
    more += ["--tags", ",".join(tags)] if tags else []
    more += ["--check"] if check and "--check" not in more else []
    now = datetime.datetime.now(datetime.UTC)
    name = f"{now:%Y%m%dT%H%M%SZ}-{command}-{secrets.token_hex(4)}"
    return Asked(
        command,
        found,
        {**known.variables, **variables},
        limit,
        tuple(tags),
        "--check" in more,
        fail_on,
        tuple(waived.load(waivers)) if waivers else (),
        tuple(more),
        name,
        (folder or default_folder()).absolute(),
    )


def _played(
    asked: Asked, watcher: Watcher, private: pathlib.Path, play: Play, cancel: threading.Event, kill: threading.Event
) -> tuple[Ended, dict[str, Any] | None]:
    """Run the playbook; return how it ended, and what it kept."""
    facts, stop = private / "facts.json", private / "stop"
    command = COMMANDS[asked.command]
    variables = {**asked.variables, "kubekeel_result_file": str(facts), "kubekeel_stop_file": str(stop)}
    gone = threading.Event()

    def note(raw: jobs.RawEvent) -> None:
        watcher(raw, time.time())

    with inventories.opened(asked.inventory, private) as path, _stopping(command.finishes, watcher, stop, cancel, kill, gone):
        job = Job(f"kubekeel.ha.{command.playbook}", path, private, variables, asked.options)
        ended = play(job, note, gone)
        known = _from_inventory(path, watcher, asked) if ended.status == "failed" and not facts.exists() else None
    if gone.is_set() or (cancel.is_set() and ended.status == "successful"):
        # A node that failed although it was to be finished is no matter of the interruption.
        ended = Ended("canceled" if ended.status != "lost" else ended.status, ended.code, ended.output)
    try:
        return ended, json.loads(facts.read_text())
    except FileNotFoundError:
        if ended.status == "successful":
            ended = Ended("failed", ended.code, f"{ended.output}\nERROR: {NOBODY}")
        return ended, known
    except ValueError as error:
        return Ended("failed", ended.code, f"{ended.output}\nERROR: what the playbook kept is damaged: {error}"), known


def _from_inventory(path: pathlib.Path, watcher: Watcher, asked: Asked) -> dict[str, Any] | None:
    """Return what the inventory knows, for a run that failed before its playbook kept anything; None where it cannot be read now."""
    try:
        listed = inventories.listing(path)
    except UsageError:
        return None
    nodes = {name: role for role in ("agent", "server") for name in inventories.members(listed, f"{role}s")}
    variables = listed["_meta"]["hostvars"]
    reached = {*watcher.seen.infos, *watcher.seen.failed}
    return {
        "cluster": next((one["kubekeel_cluster"] for one in variables.values() if "kubekeel_cluster" in one), ""),
        "asked": [name for name in nodes if name in reached or not asked.limit],
        "nodes": {name: {"role": role, "info": {}} for name, role in sorted(nodes.items(), key=lambda one: one[1], reverse=True)},
    }


@contextlib.contextmanager
def _stopping(
    finishes: bool, watcher: Watcher, stop: pathlib.Path, cancel: threading.Event, kill: threading.Event, gone: threading.Event
) -> Iterator[None]:
    """Hand on what the caller wants: an end after the present node where there is one, or the end of ansible-playbook."""
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.2):
            # Before it holds the cluster there is nothing to be finished.
            ends_itself = stop.exists() or (finishes and watcher.at_work.is_set())
            if kill.is_set() or (cancel.is_set() and not ends_itself):
                gone.set()
                return
            if cancel.is_set():
                stop.touch()

    thread = threading.Thread(target=look, name="kubekeel-stop", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _verified(asked: Asked, private: pathlib.Path, cancel: threading.Event | None) -> tuple[Ended, dict[str, Any], list[result.Finding]]:
    """Run the verification; return how it ended, the nodes, and what it found."""
    from . import verify

    with inventories.opened(asked.inventory, private) as path:
        return verify.run(path, asked, private, cancel)


def _errors(ended: Ended) -> list[str]:
    """Return why ansible-playbook failed, where that is no matter of a node."""
    if ended.status in ("successful", "canceled"):
        return []
    lines = ended.output.splitlines()
    found = [match.group(1).strip() for line in lines if (match := ERROR.match(line.strip()))]
    return list(dict.fromkeys(found))[-5:] or [line for line in lines if line.strip()][-3:] or ["ansible-playbook ended without a word"]


def _keep(found: Result, output: str) -> None:
    """Write a result and what was printed; remove the oldest runs of the same cluster."""
    for name, text in (("output.txt", output), ("result.json", json.dumps(found.document, indent=1) + "\n")):
        descriptor = os.open(found.folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as handle:
            handle.write(text)
    (found.folder / "cluster").write_text(found.document["run"]["inventory"])
    for folder in _same(found)[KEPT:]:
        shutil.rmtree(folder, ignore_errors=True)


def _same(found: Result) -> list[pathlib.Path]:
    """Return the runs of the same inventory, newest first."""
    inventory = found.document["run"]["inventory"]

    def is_same(folder: pathlib.Path) -> bool:
        with contextlib.suppress(OSError):
            return bool((folder / "cluster").read_text() == inventory)
        return False

    return [folder for folder in kept(found.folder.parent) if is_same(folder)]


def _written(moment: datetime.datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
