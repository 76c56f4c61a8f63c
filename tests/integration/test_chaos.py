"""Faults at every step of a remediation, on a real cluster: what is broken off stays whole, and a second run finishes it.

One server differs from what is wanted, in four files of three kinds. A fault strikes at a step of its remediation. Then each of
the files has to be the old one or the new one, no other server may have restarted, and once the fault is gone the next run has
to finish the work with the cluster well.
"""

import contextlib
import json
import os
import pathlib
import shlex
import signal
import ssl
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
import yaml

from .conftest import ROOT, Cluster, options, standing, wait_for

ARGS = "/var/snap/microk8s/current/args"
DROP_IN = "/etc/systemd/system/snap.microk8s.daemon-kubelite.service.d/zz-kubekeel.conf"
FILES = (f"{ARGS}/kube-apiserver", f"{ARGS}/kube-controller-manager", DROP_IN, "/etc/sysctl.d/99-zz-kubekeel.conf")
VALUES = tuple(
    {
        "eviction_unreachable_toleration_seconds": 60 + number,
        "node_lifecycle_monitor_grace_period": f"{20 + number}s",
        "node_lifecycle_http2_read_idle_timeout": 8 + number,
        "tcp_timeouts_retries2": 8 + number,
    }
    for number in (0, 1)
)
"""Two sets of values, each of which changes all of C(FILES) of a server that has the other one."""
LOCK_SECONDS = 60
ENDS_WITHIN = 420

STAGE, GATE = "kubekeel.ha.eviction : Set the default tolerations", "Make sure that the cluster may lose a server now"
RESTART, AFTER = "Restart and see whether it stays up", "Wait until the cluster may lose a server again"


@dataclass
class Run:
    """A remediation that a fault strikes."""

    cluster: Cluster
    victim: str
    """The server that is remediated."""
    other: str
    """The server that is asked meanwhile."""
    process: subprocess.Popen[str]


Strike = Callable[[Run], None]


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong at a step."""

    name: str
    at: str
    """The task at which it strikes."""
    strike: Strike
    heal: Strike = lambda _run: None
    delay: float = 0.5
    """Seconds after the task began."""
    may_succeed: bool = False
    """Whether the run may get over it by itself."""
    locked: bool = False
    """Whether the run dies with its lock."""


def kill_controller(run: Run) -> None:
    os.killpg(run.process.pid, signal.SIGKILL)


def kill_on_victim(pattern: str) -> Strike:
    return lambda run: shell(run, run.victim, f"pkill -9 -f {shlex.quote(pattern)} || true")


def shell(run: Run, node: str, command: str) -> None:
    run.cluster.on(node, "sh", "-c", command)


def power(verb: str, which: str) -> Strike:
    def strike(run: Run) -> None:
        run.cluster.lab(verb, "--name", run.cluster.name, getattr(run, which))

    return strike


def on_victim(command: str) -> Strike:
    return lambda run: shell(run, run.victim, command)


def on_other(command: str) -> Strike:
    return lambda run: shell(run, run.other, command)


# A small file system with what was there, and no room for more.
FILL = (
    "cp -a {0} /run/kept && mount -t tmpfs -o size=512k,mode=0770 full {0} && cp -a /run/kept/. {0}/"
    " && dd if=/dev/zero of={0}/filler bs=4k 2>/dev/null; true"
)
UNFILL = "rm -f {0}/filler && rm -rf /run/kept && cp -a {0} /run/kept && umount {0} && cp -a /run/kept/. {0}/ && rm -rf /run/kept"
READ_ONLY = "mount --bind {0} {0} && mount -o remount,bind,ro {0}"
HANG = "printf '#!/bin/sh\\nexec sleep 600\\n' > /run/hang && chmod 755 /run/hang && mount --bind /run/hang /usr/bin/microk8s"
# Signed by the cluster's authority, for no day.
EXPIRED = (
    "cd /run && openssl req -newkey rsa:2048 -nodes -keyout old.key -out old.csr -subj /O=system:masters/CN=admin 2>/dev/null"
    " && openssl x509 -req -in old.csr -CA {0}/certs/ca.crt -CAkey {0}/certs/ca.key -set_serial 7 -days 0 -out old.crt 2>/dev/null"
    ' && sed -e "s|client-certificate-data:.*|client-certificate-data: $(base64 -w0 old.crt)|"'
    ' -e "s|client-key-data:.*|client-key-data: $(base64 -w0 old.key)|" {0}/credentials/client.config > old.config'
    " && mount --bind old.config {0}/credentials/client.config"
)
DATA = "/var/snap/microk8s/current"
BEGIN = "Note what begins here"

FAULTS = (
    *(Fault(f"controller killed, {step}", at, kill_controller, locked=True) for step, at in
      (("stage", STAGE), ("gate", GATE), ("restart", RESTART), ("after", AFTER))),
    *(Fault(f"SSH killed, {step}", at, kill_on_victim("sshd: "), may_succeed=True, locked=True) for step, at in
      (("stage", STAGE), ("restart", RESTART))),
    *(Fault(f"module killed, {step}", at, kill_on_victim("AnsiballZ_"), may_succeed=True) for step, at in
      (("stage", STAGE), ("restart", RESTART))),
    *(Fault(f"power cut of the node, {step}", at, power("power-off", "victim"), power("power-on", "victim"), locked=True) for step, at in
      (("stage", STAGE), ("restart", RESTART))),
    *(Fault(f"power cut of another server, {step}", at, power("power-off", "other"), power("power-on", "other"), locked=True) for step, at in
      (("gate", GATE), ("restart", RESTART))),
    Fault("disk full", BEGIN, on_victim(FILL.format(ARGS)), on_victim(UNFILL.format(ARGS)), 0.0),
    Fault("read-only", BEGIN, on_victim(READ_ONLY.format(ARGS)), on_victim(f"umount {ARGS}"), 0.0),
    Fault("hung status", GATE, on_other(HANG), on_other("umount /usr/bin/microk8s; pkill -f 'sleep 600'; true"), 0.0, may_succeed=True),
    Fault("API server answers 500", BEGIN, on_other("systemctl stop snap.microk8s.daemon-k8s-dqlite"),
          on_other("systemctl start snap.microk8s.daemon-k8s-dqlite"), 0.0),
    Fault("expired certificate", BEGIN, on_other(EXPIRED.format(DATA)),
          on_other(f"umount {DATA}/credentials/client.config"), 0.0),
)  # fmt: skip


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Three servers, all with the first set of values."""
    with standing("chaos") as found:
        assert found.play("remediate", options(**VALUES[0])).code == 0
        yield found


@pytest.fixture
def inventory(cluster: Cluster, tmp_path: pathlib.Path) -> pathlib.Path:
    """An inventory in which one server is to get the set of values that it does not have."""
    data = yaml.safe_load((cluster.inventory / "hosts.yml").read_text())
    victim = cluster.servers[1]
    has_first = "default-unreachable-toleration-seconds=60" in cluster.on(victim, "cat", FILES[0])
    data["all"]["vars"].update(VALUES[0], lock_duration=LOCK_SECONDS)
    data["all"]["children"]["servers"]["hosts"][victim].update(VALUES[has_first])
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump(data))
    return tmp_path / "hosts.yml"


@dataclass
class Watch:
    """Which API servers answer, asked again and again."""

    cluster: Cluster
    down: set[frozenset[str]] = field(default_factory=set)
    """Every set of servers that did not answer at the same time."""

    @contextlib.contextmanager
    def on(self) -> Iterator[None]:
        """Watch for as long as the block runs."""
        over = threading.Event()
        thread = threading.Thread(target=self._watch, args=(over,))
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _watch(self, over: threading.Event) -> None:
        while not over.wait(0.3):
            self.down.add(frozenset(node for node, host in self.cluster.hosts("servers").items() if not answers(host["ansible_host"])))


def answers(address: str) -> bool:
    """Tell whether an API server is ready."""
    context = ssl._create_unverified_context()  # noqa: S323
    with contextlib.suppress(OSError), urllib.request.urlopen(f"https://{address}:16443/readyz", timeout=1, context=context) as answer:
        return bool(answer.status == 200)
    return False


def files(cluster: Cluster, node: str) -> dict[str, str]:
    """Return the checksums of the files that differ, and of what temporary ones lie beside them."""
    found = cluster.on(node, "sh", "-c", f"sha256sum {' '.join(FILES)} $(find /etc {ARGS} -name '*.kubekeel') 2>/dev/null; true")
    return {path: checksum for checksum, path in (line.split() for line in found.splitlines())}


def remediate(inventory: pathlib.Path) -> subprocess.Popen[str]:
    """Begin a remediation as an operator does."""
    environment = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"}
    command = ["ansible-playbook", "-i", str(inventory), "kubekeel.ha.remediate"]
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True
    )


def strike(run: Run, fault: Fault) -> str:
    """Let the fault strike at its step of the remediation, and return what the run printed."""
    output, remediating, struck = [], False, False
    over = threading.Timer(ENDS_WITHIN, kill_controller, [run])
    over.start()
    for line in run.process.stdout or ():
        output.append(line)
        remediating = remediating or line.startswith("PLAY [Remediate the servers")
        if remediating and not struck and line.startswith("TASK [") and fault.at in line:
            struck = True
            time.sleep(fault.delay)
            fault.strike(run)
    run.process.wait()
    assert over.is_alive(), "the run did not end by itself"
    over.cancel()
    assert struck, "".join(output)
    return "".join(output)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_leaves_files_whole_and_the_next_run_finishes(cluster: Cluster, inventory: pathlib.Path, fault: Fault) -> None:
    other, victim, third = cluster.servers
    before, started = files(cluster, victim), cluster.started()
    watch = Watch(cluster)
    with watch.on():
        run = Run(cluster, victim, other, remediate(inventory))
        output = strike(run, fault)
    assert fault.may_succeed or run.process.returncode != 0, output
    fault.heal(run)
    wait_for("every node", lambda: settled(cluster, third), 180)
    broken_off, restarted = files(cluster, victim), cluster.started()
    assert [node for node in (other, third) if restarted[node] != started[node] and not fault.name.startswith("power cut of another")] == []
    # Of a power cut of another server while this one restarts nobody could know beforehand.
    lost = {victim, other} if fault.strike.__qualname__.startswith("power(") or "500" in fault.name else {victim}
    assert [down for down in watch.down if not down <= lost] == []
    if fault.locked:
        wait_for("the end of the lock", lambda: not holder(cluster, third), LOCK_SECONDS + 15)
    again = remediate(inventory)
    said = again.communicate(timeout=ENDS_WITHIN)[0]
    assert again.returncode == 0, said
    after = files(cluster, victim)
    assert {path: checksum for path, checksum in broken_off.items() if checksum not in (before[path], after[path])} == {}
    assert set(after) == set(FILES) == set(broken_off)
    assert all(after[path] != before[path] for path in FILES) or fault.may_succeed
    assert holder(cluster, third) == ""
    assert settled(cluster, third)


def settled(cluster: Cluster, server: str) -> bool:
    """Tell whether a server calls every node Ready and every API server is ready."""
    if not all(answers(host["ansible_host"]) for host in cluster.hosts("servers").values()):
        return False
    return cluster.not_ready(server) == []


def holder(cluster: Cluster, server: str) -> str:
    """Return who holds the cluster now."""
    shown = cluster.on(server, "microk8s", "kubectl", "-n", "kube-system", "get", "lease", "kubekeel", "--ignore-not-found", "-o", "json")
    spec = json.loads(shown)["spec"] if shown.strip() else {}
    if not spec.get("holderIdentity"):
        return ""
    age = float(cluster.on(server, "date", "+%s")) - float(cluster.on(server, "date", "-d", spec["renewTime"], "+%s"))
    return "" if age > spec["leaseDurationSeconds"] + 6 else str(spec["holderIdentity"])
