"""A cluster for the tests of this folder, and a way to run playbooks against it.

KUBEKEEL_TEST_LAB=NAME takes a lab that stands instead of a new one, and leaves it standing.
"""

import os
import pathlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import ansible_runner
import pytest
import yaml

ROOT = pathlib.Path(__file__).parents[2]
KUBELITE = "snap.microk8s.daemon-kubelite"


@dataclass
class Run:
    """A playbook that was run."""

    code: int
    output: str
    changed: dict[str, int]
    """Tasks that changed something, by node."""
    touched: set[str]
    """Nodes on which a task ran after the survey."""

    def says(self, text: str) -> bool:
        """Tell whether a text is in the output, wherever lines were broken."""
        return text in " ".join(self.output.split())


class Cluster:
    """A lab's cluster."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.inventory = ROOT / "inventories" / name
        self.servers = list(self.hosts("servers"))
        self.nodes = [*self.servers, *self.hosts("agents")]

    def hosts(self, group: str) -> dict[str, Any]:
        """Return a group of the inventory."""
        data = yaml.safe_load((self.inventory / "hosts.yml").read_text())
        found: dict[str, Any] = data["all"]["children"][group]["hosts"]
        return found

    def lab(self, *arguments: str, check: bool = True) -> str:
        """Run a command of the lab and return its output."""
        done = subprocess.run([sys.executable, "-m", "lab", *arguments], cwd=ROOT, text=True, capture_output=True, check=False)
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def on(self, node: str, *command: str) -> str:
        """Run a command as root on a node and return its output."""
        return self.lab("exec", "--name", self.name, node, "--", *command)

    def play(self, playbook: str, *options: str, inventory: pathlib.Path | None = None) -> Run:
        """Run a playbook of the collection."""
        output: list[str] = []
        runner = ansible_runner.interface.init_runner(
            private_data_dir=os.environ["KUBEKEEL_TEST_RUNS"],
            playbook=f"kubekeel.ha.{playbook}",
            inventory=str(inventory or self.inventory),
            cmdline=" ".join(options),
            envvars={
                "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
                "ANSIBLE_NOCOLOR": "1",
                "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".collections"),
            },
            quiet=True,
            settings={"idle_timeout": 600, "job_timeout": 900},
        )
        touched: set[str] = set()

        def note(event: dict[str, Any]) -> bool:
            data = event.get("event_data", {})
            output.append(event.get("stdout", ""))
            if event["event"].startswith("runner_on_") and data.get("play", "").startswith("Remediate"):
                touched.add(data["host"])
            return True

        runner.event_handler = note
        runner.run()
        changed = (runner.stats or {}).get("changed", {})
        return Run(runner.rc, "\n".join(output), changed, touched)

    def started(self) -> dict[str, str]:
        """Return when kubelite was started on each node, and how often it died since."""
        command = ["systemctl", "show", KUBELITE, "--property=ExecMainStartTimestampMonotonic,NRestarts"]
        return {node: self.on(node, *command) for node in self.nodes}

    def state(self) -> dict[str, str]:
        """Return checksums over everything on each node that kubekeel could have changed."""
        script = (
            "find /etc /var/snap /var/lib/kubekeel /run/kubekeel -type f"
            " -not -path '*/var/kubernetes/backend/*' -not -path '/var/snap/microk8s/common/*' -not -path '*/var/lock/*'"
            " -print0 2>/dev/null | sort -z | xargs -0 sha256sum; sysctl -a 2>/dev/null | grep -E '^net.(ipv4.tcp|core)'"
        )
        return {node: self.on(node, "sh", "-c", script) for node in self.nodes}


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster as MicroK8s leaves it after its installation."""
    os.environ["KUBEKEEL_TEST_RUNS"] = str(tmp_path_factory.mktemp("runs"))
    standing = os.environ.get("KUBEKEEL_TEST_LAB")
    if standing:
        yield Cluster(standing)
        return
    lab = [sys.executable, "-m", "lab"]
    subprocess.run([*lab, "up", "--name", "test", "--agents", "1"], cwd=ROOT, check=True)
    try:
        yield Cluster("test")
    finally:
        subprocess.run([*lab, "down", "--name", "test"], cwd=ROOT, check=True)
