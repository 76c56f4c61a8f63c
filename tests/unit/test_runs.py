"""A run from what is asked for to what is kept of it."""

import json
import os
import pathlib
import stat
import threading
import time
from typing import Any

import jsonschema
import pytest

import kubekeel
from kubekeel import jobs, result, runs
from kubekeel.errors import KubekeelError, UsageError


@pytest.fixture
def inventory(tmp_path):
    path = tmp_path / "inventory.yml"
    path.write_text("all: {children: {servers: {hosts: {n1: {ansible_host: 127.0.0.1, ansible_port: 1}}}}}\n")
    return path


@pytest.fixture
def begin(tmp_path, inventory):
    def begin(command="audit", **more):
        more.setdefault("play", Playing())
        return kubekeel.run(command, str(inventory), folder=tmp_path / "runs", **more)

    return begin


class Playing:
    """A stand-in for ansible-runner."""

    def __init__(self, *raw, status="successful", facts=(), output="what Ansible printed"):
        self.raw, self.status, self.facts, self.output = raw, status, facts, output
        self.job: Any = None
        self.canceled = False

    def __call__(self, job, on_event, cancel):
        self.job = job
        for event in self.raw:
            on_event(event)
        if self.facts is not None:
            pathlib.Path(job.variables["kubekeel_result_file"]).write_text(json.dumps(dict(self.facts)))
        self.canceled = cancel.wait(5) if self.status == "waits" else cancel.is_set()
        return jobs.Ended("successful" if self.status == "waits" else self.status, 0, self.output)


def locks(play="Remediate the servers, one at a time"):
    return (
        {"event": "playbook_on_play_start", "event_data": {"play": play}},
        {"event": "runner_on_ok", "event_data": {"task_action": "kubekeel.ha.cluster_lock", "res": {"holder": "R-1", "mine": True}}},
    )


def test_a_node_that_nobody_can_reach_is_no_error_of_the_caller(begin):
    told: list[kubekeel.events.Event] = []
    found = begin(play=jobs.play, on_event=told.append)
    jsonschema.validate(found.document, result.schema())
    assert (found.status, found.exit_code) == ("incomplete", 3)
    assert found.document["failures"][0]["nodes"] == ["n1"]
    assert [event.kind for event in told if event.node == "n1"][-1] == "unreachable"
    assert {event.run for event in told} == {found.id}
    assert "UNREACHABLE" in (found.folder / "output.txt").read_text()


def test_nothing_but_result_and_output_is_kept_and_only_for_its_owner(begin, monkeypatch):
    monkeypatch.setenv("A_SECRET", "hush")
    play = Playing(output="printed")
    found = begin(play=play, variables={"password": "hush"})
    assert sorted(path.name for path in found.folder.iterdir()) == ["cluster", "output.txt", "result.json"]
    assert stat.S_IMODE(found.folder.stat().st_mode) == 0o700
    assert not any("hush" in path.read_text() for path in found.folder.iterdir())
    assert not play.job.folder.exists()


def test_the_job_is_what_was_asked_for(begin):
    play = Playing()
    begin("plan", play=play, limit="n1", tags=["eviction"], forks=3, variables={"x": 1}, ansible_options=["-v"])
    assert play.job.playbook == "kubekeel.ha.remediate"
    assert play.job.options == ("--check", "--diff", "-v", "--forks", "3", "--limit", "n1", "--tags", "eviction")
    assert play.job.variables["x"] == 1


@pytest.mark.parametrize("wrong", [{"command": "audti"}, {"fail_on": "bad"}, {"waivers": pathlib.Path("none")}])
def test_mistakes_are_told_before_anything_runs(begin, wrong):
    with pytest.raises(UsageError):
        begin(play=lambda *_: pytest.fail("it ran"), **wrong)


def test_a_run_that_changes_nodes_ends_between_two_of_them(begin):
    cancel = threading.Event()
    cancel.set()
    seen: dict[str, bool] = {}

    def play(job, on_event, gone):
        for event in locks():
            on_event(event)
        until = time.monotonic() + 5
        while not os.path.exists(job.variables["kubekeel_stop_file"]) and time.monotonic() < until:
            time.sleep(0.05)
        seen.update(stop=os.path.exists(job.variables["kubekeel_stop_file"]), gone=gone.wait(1))
        return jobs.Ended("successful", 0, "")

    # It is canceled from the beginning, so its lock has to come before the first look.
    assert begin("remediate", play=play, cancel=cancel).exit_code == 130
    assert seen == {"stop": True, "gone": False}


@pytest.mark.parametrize(
    ("command", "events", "wanted"), [("audit", locks(), "cancel"), ("remediate", (), "cancel"), ("remediate", locks(), "kill")]
)
def test_every_other_run_is_broken_off_at_once(begin, command, events, wanted):
    event = threading.Event()
    play = Playing(*events, status="waits")
    threading.Timer(0.5, event.set).start()
    assert begin(command, play=play, **{wanted: event}).exit_code == 130
    assert play.canceled


def test_a_run_that_looked_at_nobody_is_not_well(begin, inventory):
    inventory.write_text(inventory.read_text().replace("children: {", "children: {balancers: {hosts: {b1: }}, "))
    found = begin(play=jobs.play, limit="b1")
    assert (found.exit_code, found.document["failures"][0]["message"]) == (3, runs.NOBODY)


def test_what_cannot_be_meant_is_refused_before_anything_runs(begin):
    for word in ("-K", "--ask-vault-pass", "site.yml"):
        with pytest.raises(UsageError, match=word):
            begin(ansible_options=[word])
    assert begin(ansible_options=["-C"]).document["run"]["check"]


def test_a_node_that_fails_after_an_interruption_failed(begin):
    cancel = threading.Event()
    cancel.set()
    events = (*locks(), {"event": "runner_on_start", "event_data": {"play": "Remediate", "host": "n1", "task_action": "x"}})
    failed = {"event": "runner_on_failed", "event_data": {"play": "Remediate", "host": "n1", "res": {"msg": "it may be down"}}}
    stats = {"event": "playbook_on_stats", "event_data": {"failures": {"n1": 1}}}
    assert begin("remediate", play=Playing(*events, failed, stats, status="failed"), cancel=cancel).exit_code == 4


def test_an_event_that_nobody_understands_does_not_break_the_run(begin, tmp_path):
    odd = {"event": "runner_on_ok", "event_data": {"task_action": "kubekeel.ha.unit_restart", "host": "n1", "res": {"units": [7]}}}
    with pytest.raises(TypeError):
        begin("remediate", play=Playing(*locks(), odd, *locks()))
    assert result.load(runs.named("latest", tmp_path / "runs"))["run"]["status"] == "ok"


def test_runs_that_cannot_be_kept_do_not_begin(begin, tmp_path):
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(KubekeelError, match="cannot be kept"):
        begin(play=lambda *_: pytest.fail("it ran"))


def test_whoever_listens_and_fails_does_not_break_the_run(begin, tmp_path):
    calls = []

    def listens(event):
        calls.append(event)
        raise RuntimeError("no terminal")

    with pytest.raises(RuntimeError, match="no terminal"):
        begin("remediate", play=Playing(*locks(), *locks()), on_event=listens)
    assert len(calls) == 1
    assert result.load(runs.named("latest", tmp_path / "runs"))["run"]["status"] == "ok"


def test_the_oldest_runs_of_a_cluster_are_removed(begin, monkeypatch, tmp_path):
    monkeypatch.setattr(runs, "KEPT", 2)
    ids = []
    for _number in range(3):
        ids.append(begin().id)
        time.sleep(1.01)
    assert {path.name for path in runs.kept(tmp_path / "runs")} == set(ids[1:])


def test_runs_are_found_by_name(begin, tmp_path):
    folder = tmp_path / "runs"
    with pytest.raises(UsageError, match="No run is kept"):
        runs.named("latest", folder)
    found = begin()
    for name in (found.id, found.id[:14], "latest", str(found.folder), str(found.folder / "result.json")):
        assert runs.named(name, folder) == found.folder / "result.json"
    with pytest.raises(UsageError, match="There is no run 'x'"):
        runs.named("x", folder)


def test_the_environment_of_a_runner_above_is_not_inherited(monkeypatch):
    monkeypatch.setenv("AWX_ISOLATED_DATA_DIR", "/runner/artifacts/1")
    monkeypatch.setenv("ANSIBLE_STDOUT_CALLBACK", "awx_display")
    assert not {"AWX_ISOLATED_DATA_DIR", "ANSIBLE_STDOUT_CALLBACK"} & set(jobs.environment())
    monkeypatch.delenv("AWX_ISOLATED_DATA_DIR")
    monkeypatch.setenv("ANSIBLE_STDOUT_CALLBACK", "minimal")
    assert jobs.environment()["ANSIBLE_STDOUT_CALLBACK"] == "minimal"


def test_host_keys_are_checked_unless_the_operator_says_otherwise(begin, monkeypatch):
    seen: dict[str, str] = {}

    def note(runner):
        seen.update(runner.config.env)
        runner.status, runner.rc = "failed", 1

    monkeypatch.setattr("ansible_runner.runner.Runner.run", note)
    monkeypatch.delenv("ANSIBLE_HOST_KEY_CHECKING", raising=False)
    begin(play=jobs.play)
    assert "ANSIBLE_HOST_KEY_CHECKING" not in seen
    monkeypatch.setenv("ANSIBLE_HOST_KEY_CHECKING", "False")
    begin(play=jobs.play)
    assert seen["ANSIBLE_HOST_KEY_CHECKING"] == "False"
