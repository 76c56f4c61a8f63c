"""A drill before its result: who is lost, what is waited for, what the clients see."""

import contextlib
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading

import pytest
from ansible_collections.kubekeel.ha.plugins.module_utils import drill_events, drill_probes, drill_workload, health
from ansible_collections.kubekeel.ha.plugins.modules import drill_loss
from ansible_collections.kubekeel.ha.plugins.plugin_utils import drill_plan

from .conftest import RunModule

LEADERS = {"kube-controller-manager": "n2", "kube-scheduler": "n1"}


def cluster(**changes):
    known = {
        "names": {"a": "n1", "b": "n2", "c": "n3", "d": "n4"},
        "servers": ["a", "b", "c"],
        "agents": ["d"],
        "api_servers": ["a", "b", "c"],
        "etcd_only": [],
        "leaders": LEADERS,
    }
    return {**known, **changes}


@pytest.mark.parametrize(
    ("scenario", "changes", "victims", "observer"),
    [
        ("leader_loss", {}, ["b"], "a"),
        ("leader_loss", {"leaders": {**LEADERS, "kube-controller-manager": "n1"}}, ["a"], "b"),
        ("server_loss", {}, ["c"], "a"),
        ("server_loss", {"servers": ["a", "b"], "api_servers": ["a", "b"]}, ["a"], "b"),
        ("agent_loss", {}, ["d"], "a"),
        ("first_etcd_loss", {"servers": ["a", "b", "c"], "etcd_only": ["c"], "api_servers": ["a", "b"]}, ["c"], "a"),
        ("apiserver_alternation", {}, ["b", "c"], "a"),
        ("rolling_restart", {}, ["a", "b", "c", "d"], "a"),
        ("soak", {}, ["a", "b", "c"], "a"),
    ],
)
def test_who_is_lost_and_who_watches(scenario, changes, victims, observer):
    found = drill_plan.plan(cluster(**changes), scenario, "command")
    assert (found["victims"], found["observer"]) == (victims, observer)


@pytest.mark.parametrize(
    ("scenario", "changes", "method", "says"),
    [
        ("leader_loss", {"leaders": {}}, "command", "nobody holds the lease"),
        ("leader_loss", {"leaders": {"kube-controller-manager": "n9"}}, "command", "not a node of this inventory"),
        ("leader_loss", {"servers": ["b"], "api_servers": ["b"]}, "isolation", "no API server would be left"),
        ("server_loss", {"servers": ["b"], "api_servers": ["b"]}, "command", "no other server"),
        ("agent_loss", {"agents": []}, "command", "no agents"),
        ("first_etcd_loss", {}, "command", "runs etcd alone"),
        ("apiserver_alternation", {"api_servers": ["a"]}, "command", "one API server only"),
        ("apiserver_alternation", {"api_servers": ["a", "b"]}, "command", "drill_method=services"),
        ("sevrer_loss", {}, "command", "there are leader_loss, server_loss"),
    ],
)
def test_a_drill_that_cannot_be_is_refused(scenario, changes, method, says):
    with pytest.raises(ValueError, match=says):
        drill_plan.plan(cluster(**changes), scenario, method)


def test_two_api_servers_take_turns_where_their_machines_stay_up():
    found = drill_plan.plan(cluster(api_servers=["a", "b"]), "apiserver_alternation", "services")
    assert (found["victims"], found["observer"]) == (["a", "b"], "a")


@pytest.mark.parametrize(("identity", "host"), [("Node-A_5b1c-22", "node-a"), ("a_b_5b1c", "a_b"), ("plain", "plain"), (None, "")])
def test_who_holds_a_lease(identity, host):
    assert health.holder({"spec": {"holderIdentity": identity}}) == host


def observation(**changes):
    pods = {f"p{number}": {"node": f"n{number}", "address": f"10.1.{number}.2"} for number in (1, 2, 3)}
    up = {"asked": 9, "failed": 0, "changes": [{"time": 0.0, "up": True, "problem": ""}]}
    seen = {
        "began": 0.0,
        "ended": 100.0,
        "leaders": {name: [{"time": 0.0, "holder": node}] for name, node in LEADERS.items()},
        "nodes": {f"n{number}": [{"time": 0.0, "ready": "True"}] for number in (1, 2, 3)},
        "endpoints": [{"time": 0.0, "pods": pods}],
        "requests": [[moment / 10, 0.01, "p1", "", ""] for moment in range(900, 1000)],
        "reach": {f"n{number}": up for number in (1, 2, 3)},
        "api": {"n1": up},
        "connections": [
            {"kind": kind, "node": f"n{number}", "dropped": None} for number in (1, 2, 3) for kind in ("idle", "unacknowledged")
        ],
    }
    return {**seen, **changes}


def recovered():
    seen = observation()
    seen["leaders"]["kube-controller-manager"].append({"time": 50.0, "holder": "n1"})
    seen["nodes"]["n2"].append({"time": 60.0, "ready": "Unknown"})
    seen["endpoints"].append({"time": 60.1, "pods": {name: pod for name, pod in seen["endpoints"][0]["pods"].items() if name != "p2"}})
    return seen


def test_what_has_to_happen_before_and_after_a_loss():
    assert drill_events.missing_at_start(observation(), 3) == []
    assert drill_events.missing_at_start(observation(connections=[]), 4) == [
        "1 of 4 pods ('kubectl -n kubekeel-drill get pods' tells why)",
        "connections to the pods",
    ]
    assert drill_events.missing_before_loss(observation(), ["n2"]) == ["n2 to be lost"]
    assert drill_events.missing_after_loss(observation(), ["n2"], False) == [
        "a new leader of kube-controller-manager",
        "n2 to be seen as down",
        "the endpoint on n2 to be removed",
    ]
    assert drill_events.missing_after_loss(recovered(), ["n2"], False) == []
    assert len(drill_events.missing_after_loss(recovered(), ["n2"], True)) == 2


@pytest.mark.parametrize(
    "requests",
    [
        [],
        [[99.0, 0.01, "p1", "", ""]],
        [*observation()["requests"][:-20], [98.5, 1.0, "", "timed out", ""], *observation()["requests"][-10:]],
    ],
)
def test_requests_count_as_well_only_after_a_while_without_a_failure(requests):
    seen = recovered()
    seen["requests"] = requests
    assert drill_events.missing_after_loss(seen, ["n2"], False) == ["requests that are answered"]


def test_objects_of_the_api_are_read():
    endpoints = {
        "subsets": [
            {"addresses": [{"ip": "10.1.0.5", "nodeName": "n1", "targetRef": {"name": "p"}}], "notReadyAddresses": [{"ip": "10.1.1.5"}]}
        ]
    }
    assert drill_events.ready_pods(endpoints) == {"p": {"node": "n1", "address": "10.1.0.5"}}
    assert drill_events.ready_pods({}) == {}
    assert health.ready({"status": {"conditions": [{"type": "Ready", "status": "False"}]}}) == "False"
    assert health.ready({}) == "Unknown"


TABLE = b"""\
ipv4     2 tcp      6 110 SYN_SENT src=10.0.0.2 dst=10.152.183.9 sport=40001 dport=80 [UNREPLIED] \
src=10.1.1.4 dst=10.0.0.2 sport=8080 dport=40001 mark=0 zone=0 use=2
ipv4     2 tcp      6 86392 ESTABLISHED src=10.0.0.2 dst=10.152.183.9 sport=40002 dport=80 \
src=10.1.2.6 dst=10.0.0.2 sport=8080 dport=40002 [ASSURED] mark=0 zone=0 use=2
"""


@pytest.mark.parametrize(("port", "backend"), [(40001, "10.1.1.4"), (40002, "10.1.2.6"), (4000, ""), (50000, "")])
def test_where_the_kernel_sent_a_request(port, backend):
    assert drill_probes.backend_in(TABLE, "10.152.183.9", port) == backend


def test_a_port_is_not_taken_twice_in_a_row():
    ports = drill_probes.Ports()
    taken = []
    for _time in range(50):
        with socket.socket() as made:
            taken.append(ports.bind(made))
    assert len(set(taken)) == 50


@contextlib.contextmanager
def pod(monkeypatch: pytest.MonkeyPatch):
    """Something that accepts connections and sends back what comes, as the workload does."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr(drill_workload, "ECHO_PORT", server.getsockname()[1])
        accepted: list[socket.socket] = []

        def serve():
            accepted.extend(server.accept()[0] for _time in range(2))

        thread = threading.Thread(target=serve)
        thread.start()
        yield accepted, thread


def test_a_connection_that_its_peer_resets_is_dropped_and_the_other_one_is_not(monkeypatch):
    recorder = drill_probes.Recorder("here", "x", 0.1)
    with pod(monkeypatch) as (accepted, thread):
        watcher = drill_probes.Connections(recorder, {"p1": {"node": "n1", "address": "127.0.0.1"}})
        thread.join()
        watcher.start()
        # Unread data makes the kernel answer a close with a reset.
        while not accepted[0].recv(1, socket.MSG_PEEK):
            pass
        accepted[0].close()
        for _time in range(100):
            if recorder.seen["connections"][0]["dropped"]:
                break
            threading.Event().wait(0.05)
        recorder.over.set()
        watcher.join()
        accepted[1].close()
    first, second = recorder.seen["connections"]
    assert (first["kind"], first["error"], second["dropped"]) == ("unacknowledged", "ECONNRESET", None)
    assert first["dropped"] > first["opened"]


def test_a_port_nobody_listens_at_is_down():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert drill_probes.accepts("127.0.0.1", port) == ""
    assert drill_probes.accepts("127.0.0.1", port) == "ECONNREFUSED"
    assert drill_probes.answers("127.0.0.1", port) == "ECONNREFUSED"


@pytest.mark.parametrize("session", [drill_loss.Session("192.0.2.7", 22), drill_loss.Session("2001:db8::7", 2222)])
def test_the_table_of_an_isolated_node_is_one_that_nft_takes(session, tmp_path: pathlib.Path):
    table = drill_loss.isolation(session, ["eth0", "wg0"])
    assert table.count('{ "eth0", "wg0" } drop') == 4
    nft = shutil.which("nft") or shutil.which("nft", path="/usr/sbin")
    if not nft:
        pytest.skip("nft is not installed")
    (tmp_path / "table").write_text(table)
    done = subprocess.run([nft, "--check", "--file", tmp_path / "table"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_node_is_owed_until_the_command_that_gives_it_back_succeeds(tmp_path: pathlib.Path):
    owed, tries = tmp_path / "owed", tmp_path / "tries"
    owed.touch()
    busy = f"echo >> {tries}; [ $(wc -l < {tries}) -ge 3 ]"
    words = [str(owed), "0.2", "0.1", str(tmp_path), "sh", "-c", busy]
    subprocess.run([sys.executable, "-c", drill_loss.WATCHMAN, *words], check=True, timeout=30)
    assert tries.read_text().count("\n") == 3
    assert not owed.exists()


def test_a_node_is_owed_by_one_drill_at_a_time_and_by_none_whose_process_is_gone(
    run_module: RunModule, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    drill = {"method": "command", "node": "node1", "loss_command": "true", "return_command": "true", "chdir": str(tmp_path)}

    def watchman() -> int:
        return int(subprocess.run(["pgrep", "-f", f"{tmp_path}/kubekeel-drill"], capture_output=True, text=True, check=True).stdout)

    try:
        assert "failed" not in run_module(drill_loss, state="lost", **drill)
        first = watchman()
        assert "another drill of this node" in run_module(drill_loss, state="lost", **drill)["msg"]
        os.kill(first, signal.SIGKILL)
        os.waitpid(first, 0)
        assert "failed" not in run_module(drill_loss, state="lost", **drill)
        assert watchman() != first
    finally:
        assert "failed" not in run_module(drill_loss, state="returned", **drill)
    assert list(tmp_path.glob("kubekeel-drill*")) == []


def test_a_node_that_is_back_is_not_given_back_again(tmp_path: pathlib.Path):
    words = [str(tmp_path / "owed"), "0", "0", str(tmp_path), "touch", str(tmp_path / "done")]
    subprocess.run([sys.executable, "-c", drill_loss.WATCHMAN, *words], check=True, timeout=30)
    assert not (tmp_path / "done").exists()
