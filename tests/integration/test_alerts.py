"""The rulebook for Alertmanager in the real ansible-rulebook, and what the command does for an alert. No cluster: no node answers."""

import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

ROOT = pathlib.Path(__file__).parents[2]
BIN = pathlib.Path(sys.executable).parent
TOKEN = "a-token-of-the-test"  # noqa: S105
EVIL = "{{ lookup('ansible.builtin.pipe', 'touch pwned') }}"
INVENTORY = """
all:
  vars:
    ansible_host: 127.0.0.1
    ansible_port: 1
    ansible_ssh_extra_args: -o ConnectTimeout=2
  children:
    servers:
      hosts:
        node-a:
    agents:
      hosts:
        node-d:
          kubekeel_node_name: worker-d
"""
POLICY = """
cluster: prod
allow:
  - alert: KubeNodeNotReady
    action: recover
"""


def missing() -> str:
    """Why ansible-rulebook cannot run here; empty where it can."""
    if not rulebook_program():
        return "ansible-rulebook is not installed (pip install 'kubekeel[eda]')"
    java = shutil.which("java", path=f"{os.environ.get('JAVA_HOME', '/nowhere')}/bin:{os.environ['PATH']}")
    told = subprocess.run([java, "-version"], text=True, capture_output=True, check=False).stderr if java else ""
    version = re.search(r'version "(\d+)', told)
    return "" if version and int(version[1]) >= 17 else "ansible-rulebook needs Java 17"


def rulebook_program() -> str | None:
    return shutil.which("ansible-rulebook", path=f"{BIN}:{os.environ['PATH']}")


pytestmark = pytest.mark.skipif(bool(missing()), reason=missing() or "nothing is missing")


class Rulebook:
    """The rulebook, listening."""

    def __init__(self, folder: pathlib.Path, port: int) -> None:
        self.folder, self.url = folder, f"http://127.0.0.1:{port}/"
        self.log = folder / "runs/alerts.jsonl"

    def post(self, *alerts: object, token: str = TOKEN) -> int:
        """Send what Alertmanager's webhook sends (version 4), and return the HTTP status."""
        body = {
            "version": "4",
            "groupKey": "{}:{}",
            "truncatedAlerts": 0,
            "status": "firing",
            "receiver": "kubekeel",
            "groupLabels": {},
            "commonLabels": {},
            "commonAnnotations": {},
            "externalURL": "http://alertmanager.example",
            "alerts": alerts,
        }
        request = urllib.request.Request(self.url, json.dumps(body).encode(), {"Content-Type": "application/json"})  # noqa: S310
        if token:
            request.add_header("Authorization", f"Bearer {token}")
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    def entries(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()] if self.log.exists() else []

    def of(self, name: str) -> list[dict[str, Any]]:
        return [entry for entry in self.entries() if entry["event"] == "alert" and entry["alert"] == name]

    def runs(self) -> list[dict[str, Any]]:
        found = [json.loads(path.read_text())["run"] for path in self.log.parent.glob("*/result.json")]
        return sorted(found, key=lambda run: run["began"])


@pytest.fixture(scope="module")
def rulebook(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rulebook]:
    folder = tmp_path_factory.mktemp("alerts")
    (folder / "prod").mkdir()
    (folder / "prod/hosts.yml").write_text(INVENTORY)
    (folder / "localhost.yml").write_text("all: {hosts: {localhost: }}\n")
    policy = folder / "policy.yml"
    policy.write_text(POLICY)
    policy.chmod(0o600)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    program = rulebook_program()
    assert program
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "KUBEKEEL_"))},
        "PATH": f"{BIN}:{pathlib.Path(program).parent}:{os.environ['PATH']}",
        # The checkout, as if it were installed.
        "PYTHONPATH": f"{ROOT}:{ROOT / '.collections'}",
        "KUBEKEEL_ALERT_TOKEN": TOKEN,
        "KUBEKEEL_ALERT_PORT": str(port),
        "KUBEKEEL_ALERT_POLICY": str(policy),
        "KUBEKEEL_INVENTORY": str(folder / "prod"),
        "KUBEKEEL_RUNS": str(folder / "runs"),
    }
    command = [program, "--rulebook", "kubekeel.ha.alertmanager", "--inventory", "localhost.yml"]
    command += ["--env-vars", "KUBEKEEL_ALERT_TOKEN,KUBEKEEL_ALERT_PORT"]
    with (folder / "output.txt").open("w") as output:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT)
    try:
        end = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < end:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                time.sleep(0.2)
        else:
            pytest.fail((folder / "output.txt").read_text())
        yield Rulebook(folder, port)
    finally:
        process.terminate()
        process.wait(60)


def alert(name: str, status: str = "firing", **labels: object) -> dict[str, Any]:
    """An alert as Alertmanager sends it."""
    return {
        "status": status,
        "labels": {"alertname": name, "severity": "critical", **labels},
        "annotations": {"summary": EVIL},
        "startsAt": "2026-11-22T12:00:00Z",
        "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "http://prometheus.example",
        "fingerprint": f"f{abs(hash(name)):x}"[:16],
    }


@pytest.fixture(scope="module")
def answers(rulebook: Rulebook) -> dict[str, list[int]]:
    """Send all alerts, and wait until the last one was dealt with; they are taken in turn."""
    found = {
        "strangers": [rulebook.post(alert("Stranger", node="node-d"), token=token) for token in ("", "wrong", f"{TOKEN} x")],
        "twice": [rulebook.post(alert("Watchdog", node="node-d")) for _ in range(2)],
        "patterns": [rulebook.post(*(alert("KubeNodeNotReady", node=node) for node in ("all", "node-a:node-d")))],
        "evil": [rulebook.post({**alert(EVIL, node=EVIL), "meta": {"hosts": "nobody"}})],
        "allowed": [rulebook.post(alert("KubeNodeNotReady", node="worker-d"))],
        "resolved": [rulebook.post(alert("Last", "resolved"))],
    }
    end = time.monotonic() + 600
    while not rulebook.of("Last"):
        assert time.monotonic() < end, (rulebook.folder / "output.txt").read_text()
        time.sleep(0.2)
    return found


def test_who_does_not_know_the_token_sets_nothing_off(rulebook: Rulebook, answers: dict[str, list[int]]) -> None:
    assert answers["strangers"] == [401, 401, 401]
    assert rulebook.of("Stranger") == []


def test_alert_gets_an_audit_as_evidence(rulebook: Rulebook, answers: dict[str, list[int]]) -> None:
    assert answers["twice"] == [200, 200]
    # Twice the same within the window.
    (line,) = rulebook.of("Watchdog")
    assert (line["decision"], line["node"], line["cluster"]) == ("audit", "node-d", "prod")
    document = json.loads((pathlib.Path(line["evidence"]) / "result.json").read_text())
    assert (document["run"]["command"], document["run"]["exit_code"], document["cluster"]["name"]) == ("audit", 3, "prod")
    assert any(failure["unreachable"] for failure in document["failures"])
    # ansible-rulebook runs playbooks by ansible-runner, whose callback is not the inner run's.
    assert "UNREACHABLE" in (pathlib.Path(line["evidence"]) / "output.txt").read_text()


@pytest.mark.usefixtures("answers")
def test_label_all_is_audited_and_never_changed(rulebook: Rulebook) -> None:
    lines = rulebook.of("KubeNodeNotReady")[:2]
    assert [(line["node"], line["decision"], line["host"], bool(line["evidence"])) for line in lines] == [
        ("all", "audit", "", True),
        ("node-a:node-d", "audit", "", True),
    ]


@pytest.mark.usefixtures("answers")
def test_alert_cannot_bring_code_or_hosts_of_its_own(rulebook: Rulebook) -> None:
    (line,) = rulebook.of(EVIL)
    assert line["node"] == EVIL
    assert list(rulebook.folder.rglob("pwned")) == []


@pytest.mark.usefixtures("answers")
def test_allowed_change_is_limited_to_the_inventorys_own_name(rulebook: Rulebook) -> None:
    """The recovery finds nobody to ask and changes nothing."""
    line = rulebook.of("KubeNodeNotReady")[2]
    assert (line["decision"], line["node"], line["host"]) == ("recover", "worker-d", "node-d")
    runs = rulebook.runs()
    # One audit for all alerts, one change for the one that names a host.
    assert [(run["command"], run["limit"]) for run in runs] == [("audit", ""), ("recover", "node-d")]
    assert (runs[1]["id"], runs[1]["status"]) == (line["run"], line["ended"])
    assert runs[1]["exit_code"] != 0


@pytest.mark.usefixtures("answers")
def test_resolved_alert_is_logged_and_nothing_else(rulebook: Rulebook) -> None:
    (line,) = rulebook.of("Last")
    assert (line["decision"], line["status"], line["evidence"]) == ("none", "resolved", "")
