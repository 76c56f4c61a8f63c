"""Power cuts, freezes and load: what the lab computes, and its dead man's switch without a lab."""

import dataclasses
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest
import yaml

from lab import inventory, podman, power, shake, watchdog
from lab.cache import Cache
from lab.distributions import find
from lab.errors import LabError
from lab.state import State
from lab.topology import Topology, counts, plan
from lab.watchdog import Duty, Post, Process

SUBNET = "10.89.0.0/24"


def topology(distribution: str = "microk8s") -> Topology:
    return plan("x", SUBNET, find(distribution).pod_network, counts("plain", 3, 0))


@pytest.fixture
def post(tmp_path: pathlib.Path) -> Post:
    found = Post(Cache(tmp_path), topology().find("server2"), Duty.RETURN)
    found.record.parent.mkdir(parents=True)
    return found


class Machine:
    """Podman's view of one container."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, status: str) -> None:
        self.status = status
        for name, before, after in (
            ("kill", ("running", "paused"), "exited"),
            ("start", ("exited", "running"), "running"),
            ("pause", ("running",), "paused"),
            ("unpause", ("paused",), "running"),
        ):
            monkeypatch.setattr(podman, name, self.change(before, after))
        monkeypatch.setattr(podman, "status", lambda _name: self.status)

    def change(self, before, after):
        def act(_name):
            if self.status not in before:
                raise LabError(self.status)
            self.status = after

        return act


@pytest.mark.parametrize("status", ["running", "paused", "exited"])
def test_power_goes_off_and_on_whatever_there_was(post: Post, monkeypatch: pytest.MonkeyPatch, status: str) -> None:
    machine = Machine(monkeypatch, status)
    power.switch_off(post.node)
    assert machine.status == "exited"
    machine.status = status
    assert power.switch_on(post.cache, post.node) == (status != "running")
    assert machine.status == "running"


@pytest.mark.parametrize("signum", [None, signal.SIGTERM, signal.SIGINT])
def test_a_frozen_machine_goes_on_whatever_comes(post: Post, monkeypatch: pytest.MonkeyPatch, signum: signal.Signals | None) -> None:
    machine = Machine(monkeypatch, "running")
    if signum is not None:

        def pause(_name: str) -> None:
            machine.status = "paused"
            # Before anybody waits for a signal.
            os.kill(os.getpid(), signum)

        monkeypatch.setattr(podman, "pause", pause)
    assert power.freeze(post.node, 60 if signum else 0) == signum
    assert machine.status == "running"
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, []) & set(power.ENDING)


@pytest.mark.parametrize("status", ["exited", "paused"])
def test_only_a_machine_that_runs_can_be_frozen(post: Post, monkeypatch: pytest.MonkeyPatch, status: str) -> None:
    machine = Machine(monkeypatch, status)
    with pytest.raises(LabError, match=f"server2 does not run: podman calls it {status}"):
        power.require_running(post.node)
    with pytest.raises(LabError):
        power.freeze(post.node, 0)
    assert machine.status == status


@pytest.mark.parametrize(("before", "after"), [("exited", "running"), ("running", "running"), ("paused", "running")])
def test_the_watchdog_acts_at_its_deadline_where_it_is_needed(post: Post, monkeypatch: pytest.MonkeyPatch, before: str, after: str) -> None:
    machine = Machine(monkeypatch, before)
    watchdog.keep(post, time.monotonic())
    assert machine.status == after
    assert post.holder() is None


def test_a_watchdog_that_was_relieved_does_nothing(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, "exited")
    monkeypatch.setattr(time, "sleep", lambda _seconds: post.take(Process(1, 1)))
    watchdog.keep(post, time.monotonic())
    assert machine.status == "exited"
    assert post.holder() == Process(1, 1)


def test_a_watchdog_tries_again(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, "exited")
    starts = []

    def start(_name):
        starts.append(1)
        if len(starts) < 3:
            raise LabError("busy")
        machine.status = "running"

    monkeypatch.setattr(podman, "start", start)
    monkeypatch.setattr(watchdog, "RETRY_SECONDS", 0)
    watchdog.keep(post, time.monotonic())
    assert (machine.status, len(starts)) == ("running", 3)


def test_only_the_very_process_is_ended(post: Post) -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        found = Process.find(process.pid)
        post.take(dataclasses.replace(found, start=found.start - 1))
        watchdog.relieve(post)
        assert (process.poll(), post.holder()) == (None, None)
        post.take(found)
        watchdog.relieve_all(post.cache, "x")
        assert process.wait(10) == -signal.SIGKILL
        assert post.holder() is None
    found.end()
    with pytest.raises(ProcessLookupError):
        Process.find(process.pid)


def test_a_watchdog_that_does_not_start_is_an_error(post: Post) -> None:
    with pytest.raises(LabError, match="No lab named 'x' stands"):
        watchdog.start(post, 60)
    assert post.holder() is None


def test_loss_spares_the_host() -> None:
    text = shake.rules(SUBNET, 1.5)
    assert "ip saddr != 10.89.0.1 numgen random mod 10000 < 150 counter drop" in text
    assert text.splitlines()[:2] == ["table inet kubekeel_lab_loss", "delete table inet kubekeel_lab_loss"]


def test_what_is_held_ends_with_its_input() -> None:
    held = shake.Held("x", ["sh", "-c", "echo on; cat"])
    held.wait_ready()
    assert not held.over()
    held.release()
    held.wait(time.monotonic() + 10)
    assert held.over()
    with pytest.raises(LabError, match="x does not work: broken"):
        shake.Held("x", ["sh", "-c", "echo broken >&2"]).wait_ready()


@pytest.mark.parametrize("distribution", ["microk8s", "k3s"])
def test_the_inventory_says_how_to_drill(tmp_path: pathlib.Path, distribution: str) -> None:
    folder = tmp_path / "labs" / "x"
    text = inventory.render(State(folder, topology(distribution), distribution, "v1.20.2", folder, 1))
    found = yaml.safe_load(text)["all"]["vars"]
    assert found["kubekeel_cluster"] == "x"
    words = found["drill_loss_command"].format(node="server1").split()
    assert words[:2] == ["env", f"KUBEKEEL_CACHE={tmp_path}"]
    assert words[2:] == [sys.executable, "-m", "lab", "power-off", "--name", "x", "server1"]
    assert (pathlib.Path(found["drill_command_folder"]) / "lab/__main__.py").exists()
    assert ("leader_election_election_timeout: 1s  # the stand-in for Dqlite" in text) == (distribution == "microk8s")
    assert "kube_proxy_mode: iptables  # the nodes share" in text
