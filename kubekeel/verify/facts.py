"""Collects from every node, with one command each and all at once, what the checks look at."""

import base64
import configparser
import functools
import importlib.resources
import json
import os
import re
import shlex
import zlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from .checks import Node

AT_A_TIME = 20
"""Nodes that are asked at the same time."""
CONNECTION = ("ansible_host", "ansible_user", "ansible_port", "ansible_ssh_private_key_file", "ansible_private_key_file")
NEEDS_ANSIBLE = ("ansible_become_password", "ansible_become_pass", "ansible_ssh_pass", "ansible_password", "ansible_ssh_password")
"""Variables that testinfra's own connection by ssh does not know, or not as Ansible does."""
ARGUMENTS = ("ansible_ssh_common_args", "ansible_ssh_extra_args")
UNREACHABLE = "Failed to connect to the host via ssh: "
ASKS_FOR_PASSWORD = ("password is required", "a terminal is required", "no tty present")
NO_PYTHON = ("not found", "No such file")


class UnreadError(Exception):
    """A node could not be read. The message says why, and what to do."""


@dataclass(frozen=True)
class Cluster:
    """The nodes that were read, and why others could not be."""

    nodes: Mapping[str, Node] = field(default_factory=dict)
    problems: Mapping[str, str] = field(default_factory=dict)


def needs_ansible(variables: Mapping[str, Any]) -> bool:
    """Tell whether a node is reached by what only Ansible itself can do."""
    told = [variables.get(name) for name in (*CONNECTION, *ARGUMENTS)]
    return (
        any(name in variables for name in NEEDS_ANSIBLE)
        or variables.get("ansible_become_method", "sudo") not in ("sudo", "ansible.builtin.sudo")
        or any(value is not None and (isinstance(value, (dict, list)) or "{{" in str(value)) for value in told)
    )


def settings_need_ansible(config: configparser.ConfigParser) -> bool:
    """Tell whether ansible.cfg or the environment says something of connections that testinfra's own ones do not know."""
    host_keys = os.environ.get("ANSIBLE_HOST_KEY_CHECKING") or config.get("defaults", "host_key_checking", fallback="true")
    key = os.environ.get("ANSIBLE_PRIVATE_KEY_FILE") or config.get("defaults", "private_key_file", fallback="")
    password = any(os.environ.get(name) for name in ("ANSIBLE_BECOME_PASSWORD_FILE", "ANSIBLE_CONNECTION_PASSWORD_FILE"))
    return bool(key) or password or str(host_keys).lower() in ("false", "no", "0", "off")


@functools.cache
def _program() -> str:
    """Return the collector as one argument of a shell, in which neither a shell nor Ansible finds anything to replace."""
    text = importlib.resources.files(__package__).joinpath("collector.py").read_bytes()
    packed = base64.b64encode(zlib.compress(text, 9)).decode()
    return shlex.quote(f"import base64,zlib;exec(zlib.decompress(base64.b64decode('{packed}')))")


def command(python: str, asked: Mapping[str, Any]) -> str:
    """Return the one command that a node is asked with.

    Args:
        python: interpreter on the node; empty or C(auto) for the first one that is found.
        asked: see C(collector.collect).
    """
    interpreter = python if python.startswith("/") else "python3"
    return f"{interpreter} -c {_program()} {base64.b64encode(json.dumps(asked).encode()).decode()}"


def collect(host: Any, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the collector says of a node.

    Args:
        host: of testinfra.
        wanted: of this node, see wanted.py.

    Raises:
        UnreadError: the node cannot be read.
    """
    # The names are the same in both distributions.
    either = [wanted[name] for name in ("k3s", "microk8s") if name in wanted]
    asked = {
        "distribution": wanted["distribution"],
        "sysctls": sorted({name for one in either for name in one["sysctls"]}),
        "environment": sorted({name for one in either for name in one["environment"]}),
    }
    code, out, err = _run(host, command(wanted["python"], asked))
    try:
        found: dict[str, Any] = json.loads(out[out.index("{") :])
    except ValueError:
        raise UnreadError(_why(code, err or out)) from None
    if not found["unit"]:
        raise UnreadError("there is no MicroK8s and no unit of K3s on it; is it in the right group of the inventory?")
    return found


def _run(host: Any, words: str) -> tuple[int, str, str]:
    """Run a command on a node; return its exit code, output and errors."""
    try:
        if getattr(host.backend, "force_ansible", False):
            result = host.backend.run_ansible("shell", module_args=words, check=False)
            if result.get("unreachable") or "rc" not in result:
                raise UnreadError(f"Ansible could not run a command on it: {_last(str(result.get('msg')))}")
            return result["rc"], result.get("stdout", ""), result.get("stderr") or result.get("msg", "")
        done = host.run(words.replace("%", "%%"))
    except (RuntimeError, AssertionError) as error:
        # testinfra's: with the result of ssh in it, or with all that the command ansible printed.
        said = getattr(error.args[0], "stderr", None) if error.args else None
        raise UnreadError(f"it could not be reached: {_last(said or _of_ansible(str(error)))}") from error
    return done.rc, done.stdout, done.stderr


def _of_ansible(text: str) -> str:
    """Return what the command ansible says of a host that it cannot reach."""
    flat = " ".join(text.replace("\\r", " ").replace("\\n", " ").split())
    # It says so several times, the last time as the result, in quotes.
    return re.split(r"['\"\\]", flat.rpartition(UNREACHABLE)[2])[0].strip()


def _last(text: str) -> str:
    """Return the last line of an error, which tells most."""
    return ([line.strip() for line in text.splitlines() if line.strip()] or ["nobody says why"])[-1]


def _why(code: int, text: str) -> str:
    if any(sign in text for sign in ASKS_FOR_PASSWORD):
        return "sudo asks for a password there: give it as ansible_become_password, or allow the user sudo without one"
    if code == 127 or (code == 1 and any(sign in text for sign in NO_PYTHON)):
        return f"there is no Python at the place that ansible_python_interpreter names, or no python3: {_last(text)}"
    return f"it does not say what runs on it (exit code {code}): {_last(text)}"


def read(hosts: Sequence[Any], wanted: Mapping[str, Mapping[str, Any]]) -> Cluster:
    """Return what there is of nodes.

    Args:
        hosts: of testinfra.
        wanted: by node, see wanted.py.
    """
    found: dict[str, dict[str, Any]] = {}
    problems: dict[str, str] = {}

    def one(host: Any) -> None:
        name = host.backend.host
        try:
            if "problem" in wanted[name]:
                raise UnreadError(str(wanted[name]["problem"]))
            found[name] = collect(host, wanted[name])
        except UnreadError as error:
            problems[name] = str(error)

    known = [host for host in hosts if host.backend.host in wanted]
    if known:
        # Reads the inventory once, before several threads ask for it.
        known[0].backend.get_variables()
    with ThreadPoolExecutor(max_workers=AT_A_TIME) as pool:
        list(pool.map(one, known))
    views = [facts["api"] for facts in found.values() if facts["api"]]
    view = next((one for one in views if "problem" not in one), next(iter(views), None))
    nodes = {
        name: Node(
            name,
            wanted[name][facts["distribution"]],
            facts,
            facts["api"] or view,
            wanted[name]["node_name"],
            frozenset(wanted[name]["ignored"]),
        )
        for name, facts in found.items()
    }
    return Cluster(nodes, problems)
