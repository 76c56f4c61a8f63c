"""What kubekeel is resolved from, and whether the nodes can be reached and managed. Changes nothing."""

import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent import futures
from dataclasses import dataclass
from typing import Any

import yaml
from ansible_collections.kubekeel.ha.plugins.plugin_utils import profiles
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from . import __version__, collection, inventories, jobs, runs
from .errors import UsageError
from .inventories import Inventory
from .terminal import Terminal

CORE = ((2, 19), (2, 23))
"""The first line of ansible-core that kubekeel runs with, and the first one that it was not tried with."""
CONNECT, TASK, NODES, COMMAND = 5, 12, 25.0, 10.0
"""Seconds: for a connection to a node, for what is asked there, for all nodes together, and for a command on this machine."""
FORKS = 50
"""How many nodes are asked at a time."""
FORK_MEMORY = 50 * 2**20
"""Bytes that Ansible needs for each node that it works on at the same time, about."""
DETAIL = 200
"""Characters of what Ansible says of a node."""
CLOCK = 5.0
"""Seconds that a node's clock may be off here. A run measures it closer, see the guard clock_skew."""

# What a run would import, asked in the Python that Ansible itself uses.
_PROBE = """
import importlib, json
from ansible.plugins.loader import init_plugin_loader
init_plugin_loader()
from ansible import constants
try:
    found = list(importlib.import_module("ansible_collections.kubekeel.ha").__path__)
except ImportError:
    found = []
print(json.dumps({"collection": found, "config": constants.CONFIG_FILE, "forks": constants.DEFAULT_FORKS}))
"""
_FACTS = "gather_subset=!all,!min,python,date_time,user"
_WRAPPING = re.compile(
    r"^(Task failed: |Action failed: |Failed to connect to the host via ssh: |Data could not be sent to .*? over ssh: "
    r"|Premature end of .*?>>> Standard Error )+"
)
_ANSWER = re.compile(r"^(?P<node>\S+) \| (?P<state>[A-Z]+)!? => (?=\{)", re.MULTILINE)


@dataclass(frozen=True)
class Line:
    """One thing that was looked at."""

    what: str
    value: str
    ok: bool | None
    """None for what is only to be known."""
    cure: str = ""
    """What to do where it is not ok."""


@dataclass(frozen=True)
class Cause:
    """Why a node cannot be managed."""

    pattern: str
    """What Ansible or ssh says of it."""
    what: str
    cure: str


CAUSES = (
    Cause(
        r"(sudo|become) password|a password is required|a terminal is required|Incorrect sudo",
        "sudo needs a password",
        "give it with --ask-become-pass, in ansible_become_password, or let sudo ask this user for none (NOPASSWD)",
    ),
    Cause(r"not in the sudoers|not allowed to (run|execute)", "the user may not use sudo", "allow it to, or log in as root (ansible_user)"),
    Cause(r"sudo: (command )?not found", "there is no sudo", "install sudo there, or log in as root (ansible_user)"),
    Cause(r"sshpass", "ssh is to use a password", "use a key (ansible_ssh_private_key_file), or install sshpass here"),
    Cause(
        r"Permission denied|Authentication fail|Too many authentication",
        "ssh is refused",
        "look at ansible_user and ansible_ssh_private_key_file; 'ssh -v' to the node tells which keys were offered",
    ),
    Cause(
        r"Host key verification failed|IDENTIFICATION HAS CHANGED",
        "its host key is not known, or another one",
        "make sure that it is this node, then put its key into known_hosts: 'ssh' to it by hand once",
    ),
    Cause(r"Could not resolve|Name or service not known", "its name is not known", "give its address in ansible_host"),
    Cause(r"Connection refused", "nobody listens there", "start sshd on the node, or correct ansible_host and ansible_port"),
    Cause(
        r"timed out|Timeout|No response|No route to host|unreachable network|Network is unreachable|banner exchange",
        "it does not answer",
        "see whether it is up, and whether a firewall or a wrong ansible_host keeps it away",
    ),
    Cause(
        r"minimum of Python|requires Python|SyntaxError",
        "its Python is too old",
        "install Python 3.8 or later there, or name another one in ansible_python_interpreter",
    ),
    Cause(
        r"interpreter.*not found|no python interpreter|python[0-9.]*: .*not found|no start of json",
        "Python is missing, or does not start",
        "install python3 there, or name it in ansible_python_interpreter",
    ),
    Cause(r"vault (password|secret)", "its variables are encrypted", "give the password of the vault in ANSIBLE_VAULT_PASSWORD_FILE"),
)
"""In the order in which they are tried."""


def examine(
    inventory: Inventory | None, limit: str = "", *, why: str = "", missing: str = "", environment: Mapping[str, str] | None = None
) -> list[Line]:
    """Look at everything that a run needs.

    Args:
        inventory: the inventory; None where there is none.
        limit: only these nodes, as Ansible names them.
        why: what the inventory was chosen by.
        missing: why there is none.
        environment: of the commands of Ansible; by default that of a run.
    """
    environment = dict(environment or jobs.environment())
    with futures.ThreadPoolExecutor() as pool:
        controller = pool.submit(_controller, environment)
        tools = pool.submit(_tools, environment)
        listing = _listing(inventory) if inventory else UsageError(missing)
        nodes = list(_nodes(inventory, limit, listing, environment)) if inventory and isinstance(listing, dict) else []
        known, config = controller.result()
        lines = [_this(), Line("Python", f"{platform.python_version()} at {sys.executable}", ok=True), *known]
        lines += [*_inventory(inventory, why, listing), *nodes]
        return [*lines, _folder(runs.default_folder()), *_memory(config, listing), *tools.result()]


def is_well(lines: Sequence[Line]) -> bool:
    """Tell whether nothing is wrong."""
    return all(line.ok is not False for line in lines)


def show(given: str | None, limit: str = "", environment: Mapping[str, str] | None = None) -> int:
    """Look at everything, print it, and return the exit code: 0, or 3 where something is not as it has to be."""
    inventory, why, missing = None, "given", ""
    if not given:
        why = next((name for name in (inventories.VARIABLE, "ANSIBLE_INVENTORY") if os.environ.get(name)), "the standing lab")
    with Terminal(stderr=True).status("looking at this machine and its nodes"):
        try:
            inventory = inventories.find(given)
        except UsageError as error:
            missing = str(error)
        lines = examine(inventory, limit, why=why, missing=missing, environment=environment)
    Terminal().print(draw(lines))
    return 0 if is_well(lines) else 3


def draw(lines: Sequence[Line]) -> RenderableType:
    """Return what was found, for the screen."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    table.add_column(overflow="fold")
    for line in lines:
        mark, style = {True: ("ok", "green"), False: ("NO", "bold red"), None: ("-", "dim")}[line.ok]
        value = Text(_one_line(line.value))
        if line.cure and line.ok is not True:
            value.append(f"\n{_one_line(line.cure)}", style="yellow" if line.ok is False else "dim")
        table.add_row(Text(mark, style=style), Text(_one_line(line.what)), value)
    wrong = sum(line.ok is False for line in lines)
    end = Text("Nothing is wrong", style="green") if not wrong else Text(f"{wrong} of these keep kubekeel from its work", style="bold red")
    return Group(table, end)


def cause(message: str) -> tuple[str, str]:
    """Return what is wrong with a node, and what to do, out of what Ansible says of it."""
    for one in CAUSES:
        if re.search(one.pattern, message, re.IGNORECASE):
            return one.what, one.cure
    return "Ansible cannot work there", "'ansible NODE -m ansible.builtin.setup -vvv' with this inventory tells more"


def _one_line(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in " ".join(text.split()))


def _this() -> Line:
    how = "a checkout" if collection.CHECKOUT else "installed"
    return Line("kubekeel", f"{__version__} in {pathlib.Path(__file__).parent} ({how})", ok=True)


def _controller(environment: Mapping[str, str]) -> tuple[list[Line], Mapping[str, Any]]:
    """Return what there is of Ansible, and what it is configured to."""
    again = "install kubekeel again, from where it came"
    told = _run(["ansible", "--version"], environment, COMMAND)
    version = re.search(r"core ([0-9]+)\.([0-9]+)(\S*?)\]", told)
    module = re.search(r"python module location = (.+)", told)
    python = re.search(r"python version = .*\((\S+)\)\s*$", told, re.MULTILINE)
    if not (version and module and python):
        problem = "the command ansible does not work" if told else "there is no command ansible"
        return [Line("ansible-core", problem, ok=False, cure=again)], {}
    fits = CORE[0] <= (int(version[1]), int(version[2])) < CORE[1]
    needs = "kubekeel needs ansible-core from {}.{} on, before {}.{}".format(*CORE[0], *CORE[1])
    lines = [Line("ansible-core", f"{version[1]}.{version[2]}{version[3]} at {module[1]}", fits, f"{needs}; {again}")]
    try:
        lines.append(Line("ansible-runner", importlib.metadata.version("ansible-runner"), ok=True))
    except importlib.metadata.PackageNotFoundError:
        lines.append(Line("ansible-runner", "is missing", ok=False, cure=again))
    try:
        # The last line: a sitecustomize or a plugin may print, too.
        config = json.loads(_run([python[1], "-c", _PROBE], environment, COMMAND, errors=False).strip().rpartition("\n")[2])
    except ValueError:
        return [*lines, Line("collection kubekeel.ha", "Ansible does not start", ok=False, cure=again)], {}
    lines.append(_collection(config["collection"]))
    where = config["config"] or "none, Ansible's own defaults"
    lines.append(Line("ansible.cfg", f"{where}; {config['forks']} nodes at a time", ok=True))
    return lines, config


def _collection(found: Sequence[str]) -> Line:
    own, name = collection.FOLDER, "collection kubekeel.ha"
    if not found:
        return Line(name, f"Ansible does not find it, though it is in {own}", ok=False, cure="look at ANSIBLE_COLLECTIONS_PATH")
    path = pathlib.Path(found[0])
    version = _version(path)
    if path.resolve() == own.resolve():
        return Line(name, f"{version} at {path}", ok=True)
    return Line(
        name,
        f"{version} at {path}, which is not the one of this kubekeel, {_version(own)} at {own}",
        ok=False,
        cure=f"remove {path}, or take its folder out of ANSIBLE_COLLECTIONS_PATH and collections_path in ansible.cfg",
    )


def _version(path: pathlib.Path) -> str:
    """Return the version of a collection, as it was built or as it lies in a checkout."""
    for name in ("MANIFEST.json", "galaxy.yml"):
        try:
            content = yaml.safe_load((path / name).read_text(encoding="utf-8"))
            return str(content.get("collection_info", content)["version"])
        except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, AttributeError):
            continue
    return "a version that nobody knows"


def _listing(inventory: Inventory) -> dict[str, Any] | UsageError:
    """Return what Ansible reads of an inventory, or why it cannot. A plugin may ask a cluster that does not answer."""
    slow = f"Ansible does not come to an end with the inventory {inventory.path}: does it ask a cluster that is down?"
    found: list[dict[str, Any] | UsageError] = [UsageError(slow)]

    def read() -> None:
        try:
            found.append(inventories.listing(inventory.path))
        except (UsageError, OSError, ValueError) as error:
            found.append(UsageError(str(error)))

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    thread.join(COMMAND)
    return found[-1]


def _inventory(inventory: Inventory | None, why: str, listing: Mapping[str, Any] | UsageError) -> Iterator[Line]:
    if inventory is None:
        yield Line("inventory", "none", ok=False, cure=str(listing))
        return
    chosen = f"{inventory}{f' ({why})' if why else ''}"
    if isinstance(listing, UsageError):
        example = "correct it; inventories/k3s and inventories/microk8s are examples"
        yield Line("inventory", f"{chosen}: {listing}", ok=False, cure=example)
        return
    yield Line("inventory", chosen, ok=True)
    hosts = _members(inventory, listing)
    groups = [f"{len(names)} {role}" for role, names in hosts.items()]
    fleet = inventories.members(listing, inventories.FLEET) and list(listing[inventories.FLEET].get("children", []))
    others = set(inventories.members(listing, inventory.cluster or "all")) - {name for names in hosts.values() for name in names}
    told = [*groups, *([f"{len(others)} hosts in neither group"] if others else [])]
    told += [f"{len(fleet)} clusters: {', '.join(fleet)}"] if fleet and not inventory.cluster else []
    yield Line("nodes", ", ".join(told), bool(hosts["servers"]), "the group servers has to hold the nodes that run a control plane or etcd")
    yield from _variables([name for names in hosts.values() for name in names], listing)


def _members(inventory: Inventory, listing: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the nodes that a run would work on, by their group."""
    among = set(inventories.members(listing, inventory.cluster)) if inventory.cluster else None
    return {role: [name for name in inventories.members(listing, role) if among is None or name in among] for role in inventories.ROLES}


def _variables(hosts: Sequence[str], listing: Mapping[str, Any]) -> Iterator[Line]:
    variables = listing.get("_meta", {}).get("hostvars", {})

    def values(name: str, default: str) -> Counter[str]:
        return Counter(str(variables.get(host, {}).get(name, default)) for host in hosts)

    if not hosts:
        return
    wanted = values("kubekeel_profile", "balanced")
    wrong = [name for name in wanted if name not in profiles.BY_SPEED and "{{" not in name]
    yield Line("profile", ", ".join(wanted), not wrong, f"kubekeel_profile is one of {', '.join(sorted(profiles.BY_SPEED))}")
    yield Line("distribution", ", ".join(values("kubekeel_distribution", "as each node says")), ok=True)


def _nodes(inventory: Inventory, limit: str, listing: Mapping[str, Any], environment: Mapping[str, str]) -> Iterator[Line]:
    """Ask every node once, all at the same time."""
    hosts = [name for names in _members(inventory, listing).values() for name in names]
    command = ["ansible", ":".join(inventories.ROLES), "--inventory", str(inventory.path)]
    if limit and hosts:
        told = _run([*command, "--limit", limit, "--list-hosts"], environment, COMMAND)
        hosts = [name for name in hosts if re.search(rf"^\s+{re.escape(name)}$", told, re.MULTILINE)]
        if not hosts:
            yield Line("nodes asked", f"none is meant by --limit {limit}", ok=False, cure="name a node or a group of the inventory")
    if limit or inventory.cluster:
        command += ["--limit", ",".join(hosts)]
    if not hosts:
        return
    variables = listing.get("_meta", {}).get("hostvars", {})
    if any(variables.get(name, {}).get("ansible_connection", "ssh") in ("ssh", "smart") for name in hosts):
        yield _tool("ssh", ["ssh", "-V"], environment, "install an ssh client: apt install openssh-client", needed=True)
    forks = str(min(len(hosts), FORKS))
    asked = ["--module-name", "ansible.builtin.setup", "--args", _FACTS, "--forks", forks]
    asked += ["--timeout", str(CONNECT), "--task-timeout", str(TASK)]
    quietly = {
        **environment,
        "ANSIBLE_CALLBACK_RESULT_FORMAT": "json",
        "ANSIBLE_LOAD_CALLBACK_PLUGINS": "0",
        "ANSIBLE_FORCE_COLOR": "0",
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_VERBOSITY": "0",
    }
    began = time.time()
    answers = _answers(_run([*command, *asked], quietly, NODES))
    for name in hosts:
        yield _node(name, answers.get(name), (began, time.time()))


def _answers(text: str) -> dict[str, tuple[str, dict[str, Any]]]:
    """Return what Ansible printed of each node: in one word, and what the module said."""
    found = {}
    for match in _ANSWER.finditer(text):
        try:
            result, _end = json.JSONDecoder().raw_decode(text, match.end())
        except ValueError:
            continue
        found[match["node"]] = (match["state"], result)
    return found


def _node(name: str, answer: tuple[str, Mapping[str, Any]] | None, during: tuple[float, float]) -> Line:
    what = f"node {name}"
    if answer is None:
        many = f"see whether it is up and how it is loaded; 'kubekeel doctor --limit {name}' asks it alone"
        return Line(what, f"did not answer within {NODES:.0f} s", ok=False, cure=many)
    state, result = answer
    facts = result.get("ansible_facts") or {}
    if state not in ("SUCCESS", "CHANGED"):
        said = [str(result.get(key) or "") for key in ("msg", "module_stderr", "module_stdout")]
        reason, cure = cause(" ".join(said))
        # Of what is no answer of a module Ansible says just that.
        detail = _WRAPPING.sub("", _one_line(said[1] if "deserialization" in said[0] else said[0]))[:DETAIL]
        return Line(what, f"{'unreachable' if state == 'UNREACHABLE' else 'cannot be managed'}, {reason}: {detail}", ok=False, cure=cure)
    version = facts.get("ansible_python", {}).get("version", {})
    value = "answers, Python " + ".".join(str(version.get(part, "?")) for part in ("major", "minor", "micro"))
    if facts.get("ansible_effective_user_id") != 0:
        user = facts.get("ansible_user_id", "another user")
        return Line(what, f"{value}, as {user} and not as root", ok=False, cure="set ansible_become: true in the inventory")
    clock = float(facts.get("ansible_date_time", {}).get("epoch") or during[0])
    off = min(0.0, clock - during[0]) + max(0.0, clock - during[1])
    if abs(off) > CLOCK:
        way = f"{datetime.timedelta(seconds=round(abs(off)))} {'ahead of' if off > 0 else 'behind'} this machine"
        cure = "set the time on both, and let chrony or systemd-timesyncd keep it"
        return Line(what, f"{value}, as root; its clock is {way}", ok=False, cure=cure)
    return Line(what, f"{value}, as root", ok=True)


def _folder(path: pathlib.Path) -> Line:
    """Tell whether results can be kept."""
    there = next(parent for parent in (path, *path.parents) if parent.exists())
    fine = there.is_dir() and os.access(there, os.W_OK | os.X_OK)
    value = f"{path}: {there} cannot be written" if not fine else f"{path}{'' if there == path else ', which the first run makes'}"
    return Line("results", value, fine, "name another folder with --runs or in KUBEKEEL_RUNS")


def _memory(config: Mapping[str, Any], listing: Mapping[str, Any] | UsageError) -> Iterator[Line]:
    """Tell whether there is memory for the nodes that are worked on at the same time."""
    try:
        text = pathlib.Path("/proc/meminfo").read_text(encoding="ascii")
        free = int(re.findall(r"^MemAvailable:\s+([0-9]+) kB", text, re.MULTILINE)[0]) * 1024
    except (OSError, IndexError):
        return
    hosts = len(inventories.members(listing, "all")) if isinstance(listing, dict) else 1
    forks = min(int(config.get("forks") or 5), max(hosts, 1))
    enough = free >= forks * FORK_MEMORY
    value = f"{free / 2**20:.0f} MiB free, about {forks * FORK_MEMORY / 2**20:.0f} are needed for {forks} nodes at a time"
    yield Line("memory", value, enough, f"give --forks {max(1, free // FORK_MEMORY)}, or make room")


def _tools(environment: Mapping[str, str]) -> list[Line]:
    """Return what only some commands need."""
    lab = "only the lab needs it: apt install {}"
    alerts = "only Event-Driven Ansible needs it: {}"
    java = str(pathlib.Path(environment["JAVA_HOME"], "bin", "java")) if environment.get("JAVA_HOME") else "java"
    return [
        _tool("git", ["git", "--version"], environment, lab.format("git")),
        _tool("podman", ["podman", "--version"], environment, lab.format("podman")),
        _tool("java", [java, "-version"], environment, alerts.format("install a Java 17 runtime, and set JAVA_HOME")),
        # It starts a Java machine to tell its version.
        _tool("ansible-rulebook", ["ansible-rulebook"], environment, alerts.format("install kubekeel with its extra eda")),
    ]


def _tool(name: str, command: Sequence[str], environment: Mapping[str, str], cure: str, *, needed: bool = False) -> Line:
    path = shutil.which(command[0], path=environment.get("PATH"))
    if not path:
        return Line(name, "not there", False if needed else None, cure)
    if len(command) == 1:
        return Line(name, path, ok=True)
    version = next(iter(_run(command, environment, COMMAND).splitlines()), "").strip()
    return Line(name, f"{version or 'says no version'} at {path}", ok=True if version else None, cure="" if version else cure)


def _run(command: Sequence[str], environment: Mapping[str, str], seconds: float, *, errors: bool = True) -> str:
    """Return what a command printed until its end, or for as long as it may take; nothing where it cannot be started.

    It gets no terminal that it could ask on, and a file to write to: what it leaves running must not be waited for.
    """
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output:
        program = shutil.which(command[0], path=environment.get("PATH"))
        try:
            process = subprocess.Popen(
                [program or command[0], *command[1:]],
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output if errors else subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError:
            return ""
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        output.seek(0)
        return output.read()
