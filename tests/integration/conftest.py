"""Clusters for the tests of this folder, and a way to run playbooks against them.

KUBEKEEL_TESTS=all (``make test-all``) runs those, too, that show in one more way what another test shows.

KUBEKEEL_TEST_LAB=NAME takes a lab that stands instead of a new one, for the tests that fit it, and leaves it standing.
"""

import contextlib
import itertools
import json
import os
import pathlib
import re
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import ansible_runner
import jmespath
import pytest
import yaml

ROOT = pathlib.Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}
"""Of commands of Ansible that are run beside ansible-runner."""
SECRET = re.compile(r"PRIVATE KEY-----\n(\S{40,})|(?:client-key-data|token): (\S{20,})|^K10\w+::\w+:(\w+)$", re.MULTILINE)
SECRETS = (
    "/var/snap/microk8s/current/certs/*.key /var/snap/microk8s/current/credentials/* /etc/rancher/k3s/*.yaml"
    " /var/lib/rancher/k3s/server/token /var/lib/rancher/k3s/server/tls/*.key /var/lib/rancher/k3s/server/tls/*/*.key"
)
"""Files with tokens and keys, on nodes that have them."""
LEFT_BEHIND = "/var/lib/kubekeel /run/kubekeel /tmp /var/tmp /home /root/.ansible"
"""Where a run could leave something on a node."""
ALL = os.environ.get("KUBEKEEL_TESTS") == "all"
SETTLED = 10
"""Seconds for which the cluster has to be well before the next node's turn: rolling_restart_stable."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is marked as thorough, unless everything is asked for."""
    left_out = [] if ALL else [item for item in items if any(map(partial(applies, item), item.iter_markers("thorough")))]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


def applies(item: pytest.Item, marker: pytest.Mark) -> bool:
    """Tell whether a marker with ids of parameters, or with none, is about a test."""
    parameters = item.callspec.id.split("-") if isinstance(item, pytest.Function) and hasattr(item, "callspec") else []
    return not marker.args or not set(marker.args).isdisjoint(parameters)


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
        data = yaml.safe_load((self.inventory / "hosts.yml").read_text())
        self.distribution: str = data["all"]["vars"]["kubekeel_distribution"]
        self.servers = list(self.hosts("servers"))
        self.nodes = [*self.servers, *self.hosts("agents")]
        self.outputs: list[str] = []
        """What every run of a playbook printed."""
        self.remediated = ""
        """The run that remediated them all."""
        self.original = self.state()
        """What the nodes were when the tests began."""

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
            # One of its own for each run: the options of an earlier one would count again.
            private_data_dir=tempfile.mkdtemp(dir=os.environ["KUBEKEEL_TEST_RUNS"]),
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
        self.outputs.append("\n".join(output))
        print(self.outputs[-1])
        return Run(runner.rc, self.outputs[-1], changed, touched)

    def drill(self, folder: pathlib.Path, **variables: object) -> tuple[Run, dict[str, Any]]:
        """Run a drill; return what it printed and its result, empty where there is none."""
        before = set(folder.glob("*.json"))
        run = self.play("drill", options(**{"drill_confirm": self.name, "drill_folder": str(folder), **variables}))
        results = [json.loads(path.read_text()) for path in set(folder.glob("*.json")) - before]
        return run, results[0] if results else {}

    def kubectl(self, server: str, *arguments: str) -> Any:
        """Run kubectl on a server and return what it prints as JSON."""
        return json.loads(self.on(server, self.distribution, "kubectl", *arguments, "-o", "json"))

    def readiness(self, server: str) -> dict[str, str]:
        """What an API server says of the nodes, by name."""
        return {
            node["metadata"]["name"]: next(one["status"] for one in node["status"]["conditions"] if one["type"] == "Ready")
            for node in self.kubectl(server, "get", "nodes")["items"]
        }

    def not_ready(self, server: str, nodes: list[str] | None = None) -> list[str]:
        """Which nodes, or which of some, an API server does not call Ready."""
        return sorted(node for node, ready in self.readiness(server).items() if ready != "True" and node in (nodes or self.nodes))

    def answers(self, server: str, path: str = "/readyz") -> bool:
        """Tell whether a server's API is ready, as one outside of the cluster sees it."""
        port = 16443 if self.distribution == "microk8s" else 6443
        url = f"https://{self.hosts('servers')[server]['ansible_host']}:{port}{path}"
        context = ssl._create_unverified_context()  # noqa: S323
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=2, context=context) as answer:
            return bool(answer.status == 200)
        return False

    def unit(self, node: str) -> str:
        """Return the unit that runs Kubernetes on a node."""
        if self.distribution == "microk8s":
            return "snap.microk8s.daemon-kubelite"
        return "k3s" if node in self.servers else "k3s-agent"

    def started(self) -> dict[str, str]:
        """Return when the unit of Kubernetes was started on each node, and how often it died since."""
        properties = "--property=ExecMainStartTimestampMonotonic,NRestarts"
        return {node: self.on(node, "systemctl", "show", self.unit(node), properties) for node in self.nodes}

    def state(self) -> dict[str, str]:
        """Return checksums over everything on each node that kubekeel could have changed."""
        script = (
            "find /etc /var/snap /var/lib/kubekeel /run/kubekeel -type f"
            " -not -path '*/var/kubernetes/backend/*' -not -path '/var/snap/microk8s/common/*' -not -path '*/var/lock/*'"
            " -print0 2>/dev/null | sort -z | xargs -0 sha256sum; sysctl -a 2>/dev/null | grep -E '^net.(ipv4.tcp|core)'"
        )
        return {node: self.on(node, "sh", "-c", script) for node in self.nodes}

    def secrets(self) -> set[str]:
        """Every token and key of the cluster."""
        texts = (self.on(node, "sh", "-c", f"cat {SECRETS} 2>/dev/null; true") for node in self.nodes)
        return {next(filter(None, found)) for text in texts for found in SECRET.findall(text)}

    def assert_keeps_its_secrets(self, *folders: pathlib.Path) -> None:
        """See that no token and no key is in what runs printed, nor in what they left on nodes and in these folders."""
        secrets = self.secrets()
        assert len(secrets) > 5
        assert [output for output in self.outputs if any(secret in output for secret in secrets)] == []
        patterns = "\n".join(secrets)
        for node in self.nodes:
            script = f'printf %s "$1" > /run/patterns; grep -rlF -f /run/patterns {LEFT_BEHIND} 2>/dev/null; rm /run/patterns'
            assert self.on(node, "sh", "-c", script, "sh", patterns) == ""
            logged = self.on(node, "sh", "-c", "journalctl --output cat | grep '^ansible-' || true")
            assert not any(secret in logged for secret in secrets)
            assert self.on(node, "find", "/var/lib/kubekeel/runs", "-perm", "/077", "-not", "-type", "l") == ""
        for folder in folders:
            found = subprocess.run(["grep", "-rlF", "-f", "-", str(folder)], input=patterns, text=True, capture_output=True, check=False)
            assert found.stdout == ""

    def roll_back(self, run_id: str, **variables: object) -> None:
        """Take a run back, and see that every file is as it was when the tests began, and that a second time changes nothing."""
        run = self.play("rollback", options(rollback_run=run_id, **variables))
        assert run.code == 0
        assert run.says(f"TOOK BACK run {run_id} on {', '.join(self.nodes)}")
        state, started = self.state(), self.started()
        for node in self.nodes:
            assert without_records(state[node]) == without_records(self.original[node])
        assert self.play("audit").says("all nodes Ready, 3 voters up, 1 server may be lost")
        again = self.play("rollback", options(rollback_run=run_id, **variables))
        assert again.code == 0
        assert again.says(f"NOTHING TO TAKE BACK: run {run_id} was taken back already")
        assert not any(again.changed.values())
        assert (self.state(), self.started()) == (state, started)

    def remediate_under_traffic(self, report: pathlib.Path, *options: str) -> str:
        """Remediate while every node asks the web Service, and see that nobody noticed and each node restarted once.

        Returns the run's name.
        """
        started = self.started()
        command = [sys.executable, "-m", "lab", "traffic", "--name", self.name, "--output", str(report), "--"]
        command += ["ansible-playbook", "-i", str(self.inventory), "kubekeel.ha.remediate", *options]
        done = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, text=True, capture_output=True, check=False)
        self.outputs.append(done.stdout)
        # Standard error says who was not served, standard output what Ansible did: the end of it tells why it failed.
        assert done.returncode == 0, f"{done.stderr}{done.stdout[-10000:]}"
        seen = json.loads(report.read_text())
        assert jmespath.search("service[].failed", seen) == [0] * len(self.nodes)
        assert min(jmespath.search("service[].requests", seen)) > 100
        assert seen["no_api_server"] == []
        assert all(down > 0 for down in jmespath.search("api_servers[].longest_down_seconds", seen)), "did anything restart at all?"
        restarted = self.started()
        assert all("NRestarts=0" in text for text in restarted.values())
        assert all(restarted[node] != started[node] for node in self.nodes)
        moments = [start_of(restarted[node]) for node in self.nodes]
        assert moments == sorted(moments)
        assert min(later - earlier for earlier, later in itertools.pairwise(moments)) > SETTLED
        for node in self.nodes:
            assert self.starts_since(node, start_of(started[node])) == 1
        (run_id,) = re.findall(r"kubekeel\.ha\.rollback -e rollback_run=(\S+)", done.stdout)
        return str(run_id)

    def remediate_with_nothing_to_do(self) -> None:
        """Remediate, and see that nothing was changed and nothing restarted."""
        before, started = self.state(), self.started()
        run = self.play("remediate")
        assert run.code == 0
        assert not any(run.changed.values())
        assert (self.state(), self.started()) == (before, started)

    def starts_since(self, node: str, moment: float) -> int:
        """How often systemd has started the unit of Kubernetes on a node after a moment of the monotonic clock."""
        filters = ["SYSLOG_IDENTIFIER=systemd", "JOB_TYPE=restart", "JOB_RESULT=done"]
        lines = self.on(node, "journalctl", "--unit", self.unit(node), "--output", "json", *filters)
        times = [int(json.loads(line)["__MONOTONIC_TIMESTAMP"]) / 1e6 for line in lines.splitlines()]
        return len([time for time in times if time > moment + 1])


def options(**variables: object) -> str:
    """Variables as an option of ansible-playbook."""
    return f"-e '{json.dumps(variables)}'"


def wait_for(what: str, holds: Callable[[], bool], seconds: float) -> None:
    """Wait until something holds, and fail where it does not come."""
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until, f"{what} did not come within {seconds} s"
        time.sleep(1)


def start_of(shown: str) -> float:
    """Seconds of the monotonic clock, which the nodes share."""
    found = dict(line.split("=") for line in shown.split())
    return int(found["ExecMainStartTimestampMonotonic"]) / 1e6


def without_records(state: str) -> list[str]:
    """What of a node's state is not kubekeel's own book-keeping."""
    return [line for line in state.splitlines() if "/var/lib/kubekeel/" not in line and "/run/kubekeel/" not in line]


@contextlib.contextmanager
def standing(name: str, *options: str, **environment: str) -> Iterator[Cluster]:
    """A cluster for as long as the block runs, or the one that KUBEKEEL_TEST_LAB names."""
    given = os.environ.get("KUBEKEEL_TEST_LAB")
    if given:
        yield Cluster(given)
        return
    lab = [sys.executable, "-m", "lab"]
    subprocess.run([*lab, "up", "--name", name, *options], cwd=ROOT, check=True, env={**os.environ, **environment})
    try:
        yield Cluster(name)
    finally:
        subprocess.run([*lab, "down", "--name", name], cwd=ROOT, check=True)


@pytest.fixture(scope="session", autouse=True)
def runs(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A folder for what ansible-runner leaves."""
    os.environ["KUBEKEEL_TEST_RUNS"] = str(tmp_path_factory.mktemp("runs"))
