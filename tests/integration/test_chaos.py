"""Faults at the steps of a remediation: what is broken off stays whole, and the next run finishes it.

One server differs from what is wanted, in three files of as many kinds. A fault strikes at a step of its remediation. Then each
of the files has to be the old one or the new one, no other server may have restarted or gone away, and once the fault is over
the next run has to finish the work, with the cluster well and nobody holding it. Of faults that are much alike one strikes, at its
first step; with KUBEKEEL_TESTS=all (``make chaos``) all of them do, at all their steps.
"""

import contextlib
import json
import pathlib
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
import yaml

from .conftest import ALL, ENVIRONMENT, ROOT, Cluster, options, standing, wait_for
from .faults import AFTER, ARGS, FAULTS, GATE, INTERPRETER_AHEAD, RESTART, STEPS, Fault, Struck, kill_controller

FILES = (
    f"{ARGS}/kube-controller-manager",
    "/etc/systemd/system/snap.microk8s.daemon-kubelite.service.d/zz-kubekeel.conf",
    "/etc/sysctl.d/99-zz-kubekeel.conf",
)
VALUES = tuple(
    {
        "node_lifecycle_monitor_grace_period": f"{20 + number}s",
        "node_lifecycle_http2_read_idle_timeout": 8 + number,
        "tcp_timeouts_retries2": 8 + number,
    }
    for number in (0, 1)
)
"""Two sets of values, each of which changes all of C(FILES) of a server that has the other one."""
TAGS = "node_lifecycle,tcp_timeouts"
ALIVE = "/livez?exclude=etcd"
"""Where a server with the leader of the datastore is lost, none is ready until the next one is elected, and none is down."""
LOCK_SECONDS = 60
HEARTBEAT = 20
"""Seconds within which a kubelet that is up has renewed its Lease: it does so every 10 s."""
SLACK = 15
"""Seconds by which clocks may differ, and a look may be late."""
ENDS_WITHIN = 420
CASES = [(fault, step) for fault in FAULTS if ALL or not fault.much_like for step in (fault.steps if ALL else fault.steps[:1])]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Three servers, all with the first set of values."""
    with standing("test-chaos", "--servers", "3") as found:
        found.on(found.servers[1], "sh", "-c", INTERPRETER_AHEAD)
        assert found.play("remediate", "--tags", TAGS, options(**VALUES[0])).code == 0
        yield found


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
            self.down.add(frozenset(node for node in self.cluster.servers if not self.cluster.answers(node, ALIVE)))


def files(cluster: Cluster, node: str) -> dict[str, str]:
    """Return the checksums of the files that differ, and of what temporary ones lie beside them."""
    found = cluster.on(node, "sh", "-c", f"sha256sum {' '.join(FILES)} $(find /etc {ARGS} -name '*.kubekeel') 2>/dev/null; true")
    return {path: checksum for checksum, path in (line.split() for line in found.splitlines())}


def write_inventory(cluster: Cluster, path: pathlib.Path, interpreter: str = "", stable: int = 5) -> None:
    """Write an inventory in which one server is to get the set of values that it does not have."""
    data = yaml.safe_load((cluster.inventory / "hosts.yml").read_text())
    victim = cluster.servers[1]
    has_first = f"tcp_retries2 = {VALUES[0]['tcp_timeouts_retries2']}" in cluster.on(victim, "cat", FILES[2])
    data["all"]["vars"].update(VALUES[0], lock_duration=LOCK_SECONDS, rolling_restart_stable=stable, rolling_restart_timeout=60)
    data["all"]["children"]["servers"]["hosts"][victim].update(VALUES[has_first])
    if interpreter:
        data["all"]["children"]["servers"]["hosts"][victim]["ansible_python_interpreter"] = interpreter
    path.write_text(yaml.safe_dump(data))


def remediate(inventory: pathlib.Path) -> subprocess.Popen[str]:
    """Begin a remediation as an operator does."""
    command = ["ansible-playbook", "-i", str(inventory), "kubekeel.ha.remediate", "--tags", TAGS]
    # Where skipped hosts are hidden a task is shown when it is over.
    environment = {**ENVIRONMENT, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_DISPLAY_SKIPPED_HOSTS": "1"}
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True
    )


def strike(struck: Struck, fault: Fault, step: str) -> str:
    """Let the fault strike at its step of the remediation, and return what the run printed."""
    output, remediating, hit = [], fault.refused, False
    over = threading.Timer(ENDS_WITHIN, kill_controller, [struck, step])
    over.start()
    for line in struck.process.stdout or ():
        output.append(f"{time.monotonic():.1f} {line}")
        remediating = remediating or line.startswith("PLAY [Remediate")
        if remediating and not hit and line.startswith("TASK [") and step in line:
            hit = True
            fault.strike(struck, step)
            output.append(f"{time.monotonic():.1f} {fault.name}\n")
    struck.process.wait()
    assert over.is_alive(), "the run did not end by itself\n" + "".join(output)
    over.cancel()
    assert hit, "".join(output)
    return "".join(output)


@pytest.mark.parametrize(("fault", "step"), CASES, ids=[f"{fault.name}, {STEPS[step]}" for fault, step in CASES])
def test_a_fault_leaves_files_whole_and_the_next_run_finishes(
    cluster: Cluster, tmp_path: pathlib.Path, fault: Fault, step: str, capsys: pytest.CaptureFixture[str]
) -> None:
    other, victim, third = cluster.servers
    inventory = tmp_path / "hosts.yml"
    # A power cut takes seconds, and the gate has to be open still.
    write_inventory(cluster, inventory, fault.interpreter, 20 if step == AFTER else 5)
    before, started = files(cluster, victim), cluster.started()
    watch = Watch(cluster)
    with watch.on():
        struck = Struck(cluster, victim, other, remediate(inventory))
        cluster.outputs.append(strike(struck, fault, step))
    print(cluster.outputs[-1])
    ended = time.monotonic()
    fault.heal(struck, step)
    wait_for("every node", lambda: settled(cluster, third), 180)
    broken_off, restarted = files(cluster, victim), cluster.started()
    assert [node for node in (other, third) if restarted[node] != started[node] and node != getattr(struck, fault.lost or "victim")] == []
    lost = {getattr(struck, fault.lost)} if fault.lost else set()
    # Of what goes away between the last look and the restart nobody could know.
    at_once = len({victim} | lost) if step in (GATE, RESTART) else 1
    assert [down for down in watch.down if not down <= {victim} | lost or len(down) > at_once] == []
    if fault.refused or fault.mended or fault.lost:
        assert struck.process.returncode != 0, cluster.outputs[-1]
    if fault.refused or fault.mended:
        assert broken_off == before
        assert restarted[victim] == started[victim]
    wait_for("the end of the lock", lambda: not holder(cluster, third), max(ended + LOCK_SECONDS + SLACK - time.monotonic(), 1))
    if fault.interpreter:
        write_inventory(cluster, inventory)
    began = time.monotonic()
    again = remediate(inventory)
    cluster.outputs.append(again.communicate(timeout=ENDS_WITHIN)[0])
    assert again.returncode == 0, cluster.outputs[-1]
    after = files(cluster, victim)
    assert {path: checksum for path, checksum in broken_off.items() if checksum not in (before[path], after[path])} == {}
    assert set(after) == set(FILES) == set(broken_off)
    assert all(after[path] != before[path] for path in FILES)
    assert holder(cluster, third) == ""
    assert settled(cluster, third)
    new = sum(broken_off[path] == after[path] for path in FILES)
    with capsys.disabled():
        print(
            f"\n{fault.name + ', ' + STEPS[step]:42} run {'ended with ' + str(struck.process.returncode):15}"
            f" {new} of {len(FILES)} files new, none torn; API servers down at a time: {max(map(len, watch.down), default=0)};"
            f" next run {time.monotonic() - began:3.0f} s",
            end=" ",
        )


def settled(cluster: Cluster, server: str) -> bool:
    """Tell whether a server calls every node Ready, as each of them said lately, and every API server is ready."""
    if not all(map(cluster.answers, cluster.servers)) or cluster.not_ready(server):
        return False
    leases = cluster.kubectl(server, "get", "leases", "--namespace", "kube-node-lease")["items"]
    return all(age(cluster, server, lease["spec"]["renewTime"]) < HEARTBEAT for lease in leases)


def age(cluster: Cluster, server: str, moment: str) -> float:
    """Return how many seconds ago a moment was, by a server's clock."""
    return float(cluster.on(server, "sh", "-c", f"echo $(($(date +%s) - $(date -d {moment} +%s)))"))


def holder(cluster: Cluster, server: str) -> str:
    """Return who holds the cluster now."""
    shown = cluster.on(server, "microk8s", "kubectl", "-n", "kube-system", "get", "lease", "kubekeel", "--ignore-not-found", "-o", "json")
    spec = json.loads(shown)["spec"] if shown.strip() else {}
    if not spec.get("holderIdentity"):
        return ""
    expired = age(cluster, server, spec["renewTime"]) > spec["leaseDurationSeconds"] + 6
    return "" if expired else str(spec["holderIdentity"])
