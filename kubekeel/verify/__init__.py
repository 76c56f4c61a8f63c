"""The verification: what is in force on each node, by pytest and testinfra, without Ansible's modules."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from .. import jobs
from .checks import ALL, READ

if TYPE_CHECKING:
    from ..runs import Asked

Finding = dict[str, Any]

CHECKS = {f"verify.{check.name}": check for check in ALL}
"""Every check by the id of its findings."""
SEVERITY = {"pass": "info", "skip": "info", "fail": "critical", "unknown": "critical"}
"""By the status of a finding."""
POLL = 0.2
SAME_IN_ENVIRONMENT = {
    "--become-password-file": "ANSIBLE_BECOME_PASSWORD_FILE",
    "--become-pass-file": "ANSIBLE_BECOME_PASSWORD_FILE",
    "--connection-password-file": "ANSIBLE_CONNECTION_PASSWORD_FILE",
    "--conn-pass-file": "ANSIBLE_CONNECTION_PASSWORD_FILE",
    "--vault-password-file": "ANSIBLE_VAULT_PASSWORD_FILE",
    "--vault-pass-file": "ANSIBLE_VAULT_PASSWORD_FILE",
    "--private-key": "ANSIBLE_PRIVATE_KEY_FILE",
    "--user": "ANSIBLE_REMOTE_USER",
    "-u": "ANSIBLE_REMOTE_USER",
}
"""Options of ansible-playbook that count here, too, and the variables that say the same (ansible-core, configuration settings)."""


def command(
    inventory: str | os.PathLike[str],
    *,
    limit: str = "",
    variables: Iterable[str] = (),
    report: str | os.PathLike[str] = "",
    junit_path: str | os.PathLike[str] = "",
    options: Iterable[str] = (),
) -> list[str]:
    """Return the command that runs the suite, whatever the settings of the project that it is called in.

    Args:
        inventory: file or folder.
        limit: which nodes, a pattern of Ansible; empty for all.
        variables: they count more than those of the inventory, each a text as C(ansible-playbook -e) takes it: C(NAME=VALUE), JSON or
            C(@FILE).
        report: file for the outcome of each check, for C(findings).
        junit_path: file for a JUnit report.
        options: further options of pytest.
    """
    place = pathlib.Path(__file__).resolve().parent
    words = ["env", "-u", "PYTEST_ADDOPTS", "-u", "PYTEST_PLUGINS", "PYTEST_DISABLE_PLUGIN_AUTOLOAD=1"]
    words += [f"PYTHONPATH={os.pathsep.join(filter(None, (str(place.parents[1]), os.environ.get('PYTHONPATH'))))}"]
    words += [sys.executable, "-m", "pytest", "-c", os.devnull, f"--rootdir={place}", "--import-mode=importlib", "-p", "no:cacheprovider"]
    words += ["-p", "testinfra.plugin", "-p", "kubekeel.verify.plugin", "--tb=short", "-q", "-rs"]
    words += [f"--ansible-inventory={os.path.abspath(inventory)}", *(f"--kubekeel-variables={text}" for text in variables)]
    words += [f"--kubekeel-limit={limit}"] if limit else ["--hosts=ansible://servers,agents"]
    words += [f"--kubekeel-report={os.path.abspath(report)}"] if report else []
    words += [f"--junit-xml={os.path.abspath(junit_path)}", "-o", "junit_suite_name=kubekeel"] if junit_path else []
    return [*words, *options, "--pyargs", "kubekeel.verify"]


def findings(report: str | os.PathLike[str], nodes: Iterable[str]) -> list[Finding]:
    """Return the findings of a report that C(command) had written.

    Args:
        report: the file. Where it is not there nothing was looked at.
        nodes: those that were to be looked at, by their names in the inventory.
    """
    outcomes = [line for line in _lines(report) if "check" in line]
    unread = {line["node"]: line["evidence"] for line in outcomes if line["status"] == "unread"}
    seen = {line["node"] for line in outcomes}
    unread.update({node: "the verification ended before it came to this node" for node in nodes if node not in seen})
    found = [_finding(line["check"], line["node"], line["status"], line["evidence"]) for line in outcomes if line["node"] not in unread]
    return found + [_finding(READ.name, node, "unknown", why) for node, why in unread.items()]


def _lines(report: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Return the lines of a report; the last one may be cut off."""
    found = []
    path = pathlib.Path(report)
    for line in path.read_text().splitlines() if path.is_file() else ():
        try:
            found.append(json.loads(line))
        except ValueError:
            break
    return found


def _finding(name: str, node: str, status: str, evidence: str) -> Finding:
    check = CHECKS[f"verify.{name}"]
    return {
        "id": f"verify.{name}",
        "kind": "verification",
        "severity": SEVERITY[status],
        "status": status,
        "node": node,
        "title": check.title,
        "evidence": evidence,
        "why": check.why,
        "remedy": check.remedy,
        "source": check.source,
        "waiver": None,
    }


def run(
    inventory: pathlib.Path, asked: "Asked", private: pathlib.Path, cancel: threading.Event | None = None
) -> tuple[jobs.Ended, dict[str, Any], list[Finding]]:
    """Run the suite; return how it ended, the nodes as C(result.build) takes them, and what it found.

    Args:
        inventory: file or folder.
        asked: with C(limit), C(variables) and C(options).
        private: a folder for what is of no use afterwards.
        cancel: breaks it off once it is set.
    """
    report, variables = private / "verify.jsonl", private / "variables.json"
    variables.write_text(json.dumps(dict(asked.variables)))
    words = command(inventory, limit=asked.limit, variables=[f"@{variables}", *extra_variables(asked.options)], report=report)
    environment = {**jobs.environment(), **in_environment(asked.options)}
    with tempfile.TemporaryFile(dir=private) as output:
        process = subprocess.Popen(words, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True)
        canceled = False
        while process.poll() is None:
            if cancel and cancel.is_set() and not canceled:
                canceled = True
                os.killpg(process.pid, signal.SIGTERM)
            _wait(process)
        output.seek(0)
        text = output.read().decode(errors="replace")
    about: dict[str, Any] = next((line["nodes"] for line in _lines(report) if "nodes" in line), {})
    nodes = {
        name: {"role": one["role"], "info": {"distribution": one["distribution"], "release": one["release"]} if one["distribution"] else {}}
        for name, one in about.items()
    }
    # 1: some checks failed, which the findings say.
    status = "canceled" if canceled else "successful" if process.returncode in (0, 1) and nodes else "failed"
    return jobs.Ended(status, process.returncode, text), {"nodes": nodes}, [] if canceled else findings(report, nodes)


def in_environment(options: Sequence[str]) -> dict[str, str]:
    """Return those options of ansible-playbook that count here as well, as variables of the environment."""
    return {SAME_IN_ENVIRONMENT[name]: value for name, value in _pairs(options) if name in SAME_IN_ENVIRONMENT}


def extra_variables(options: Sequence[str]) -> list[str]:
    """Return the variables that were given as options of ansible-playbook."""
    return [value for name, value in _pairs(options) if name in ("-e", "--extra-vars")]


def _pairs(options: Sequence[str]) -> list[tuple[str, str]]:
    """Return options with their values, which stand behind '=' or in the next word."""
    pairs = zip(options, [*options[1:], ""], strict=True) if options else ()
    return [(name, value) if equals else (word, following) for word, following in pairs for name, equals, value in [word.partition("=")]]


def _wait(process: "subprocess.Popen[bytes]") -> None:
    """Wait a moment for the end of a program."""
    try:
        process.wait(POLL)
    except subprocess.TimeoutExpired:
        return
