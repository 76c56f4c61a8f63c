"""Which cluster of a fleet is next, what is kept of it, and the stand-in that its tests ask."""

import copy
import dataclasses
import json
import pathlib
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kubekeel import fleet, inventories
from kubekeel.errors import KubekeelError, UsageError
from kubekeel.events import Event
from kubekeel.fleet import Options, Outcome, Schedule, Summary
from kubekeel.inventories import Inventory
from kubekeel.result import Result
from tests.fleet import rules

from .api_server import RefusalError, Registry

FACTS = rules.Facts("server1", "10.0.0.11", "uid", "v1.32.3+k3s1")
# What a busy machine takes says nothing about the rules.
UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases"
LEASE = f"{LEASES}/kubekeel"
DOCUMENT: dict[str, Any] = {"run": {"status": "ok"}, "failures": [], "findings": [], "changes": [], "cluster": {"nodes": [{}]}}
Run = Callable[..., Result]


@pytest.fixture
def inventory(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Inventory:
    """An inventory of six clusters. Asking Ansible for them would take longer than the tests; those of tests/integration do."""
    monkeypatch.setattr(
        inventories, "clusters", lambda path: list(yaml.safe_load(path.read_text())["all"]["children"]["clusters"]["children"])
    )
    path = tmp_path / "fleet.yml"
    groups = "".join(f"        c{number}: {{hosts: {{n{number}: }}}}\n" for number in range(1, 7))
    path.write_text(f"all:\n  children:\n    clusters:\n      children:\n{groups}")
    return Inventory(path)


def result(one: Inventory, folder: pathlib.Path, code: int = 0, **document: object) -> Result:
    about = {"id": f"run-{one.cluster}", "status": "ok", "exit_code": code, "seconds": 1.0, "began": "then", "ended": "now"}
    return Result({**DOCUMENT, "run": about, **document}, folder / one.cluster)


def runs(codes: dict[str, int] | None = None, called: list[str] | None = None) -> Run:
    """Return a run that ends at once, with these exit codes."""

    def run(_command: str, one: Inventory, *, folder: pathlib.Path, **_options: Any) -> Result:
        if called is not None:
            called.append(one.cluster)
        return result(one, folder, (codes or {}).get(one.cluster, 0))

    return run


def go(inventory: Inventory, options: Options | None = None, command: str = "remediate", **keywords: Any) -> Summary:
    return fleet.run_fleet(command, inventory, options, **{"folder": inventory.folder / "runs", "run": runs(), **keywords})


def on_disk(inventory: Inventory) -> list[Summary]:
    found = sorted((inventory.folder / "runs" / "fleets").glob("*/summary.json"))
    return [Summary.from_json(json.loads(path.read_text())) for path in found]


# What is next.


@UNHURRIED
@given(st.data())
def test_whatever_happens_the_schedule_keeps_its_promises(data: st.DataObject) -> None:
    clusters = [f"c{number}" for number in range(data.draw(st.integers(1, 12)))]
    canaries = clusters[: data.draw(st.integers(0, len(clusters)))]
    parallel, stop_after = data.draw(st.integers(1, 5)), data.draw(st.integers(0, 4))
    schedule = Schedule(clusters, canaries, parallel, stop_after)
    running: list[str] = []
    ended: dict[str, bool] = {}
    cancelled = False
    while True:
        due = schedule.due(running, ended, cancelled)
        failed = sum(ended.values())
        if due:
            assert not cancelled
            assert not any(ended.get(canary) for canary in canaries)
            assert not stop_after or failed < stop_after
            assert set(due) <= set(canaries) or all(canary in ended for canary in canaries)
        assert not set(due) & {*running, *ended}
        running += due
        assert len(running) <= parallel
        # Nobody idles: whoever may begin does.
        stopped = schedule.stopped(ended, cancelled)
        waiting = schedule.waiting(running, ended)
        may = [cluster for cluster in waiting if cluster in canaries or all(canary in ended for canary in canaries)]
        assert stopped or not may or len(running) == parallel
        if not running:
            break
        over = data.draw(st.sampled_from(running))
        running.remove(over)
        ended[over] = data.draw(st.booleans())
        cancelled = cancelled or data.draw(st.integers(0, 9)) == 0
    left = schedule.waiting((), ended)
    assert sorted([*ended, *left]) == sorted(clusters)
    assert not left or schedule.stopped(ended, cancelled)


@pytest.mark.parametrize(
    ("codes", "worst"),
    [((), 0), ((0, 0), 0), ((0, 1), 1), ((1, 3), 3), ((3, 5), 5), ((5, 4, 3), 4), ((4, 130), 130), ((0, 2), 3)],
)
def test_the_worst_cluster_stands_for_the_fleet(codes: tuple[int, ...], worst: int) -> None:
    outcomes = [Outcome(f"c{number}", "", code, "", "", 0, "", "", "") for number, code in enumerate(codes)]
    summary = Summary("id", "audit", "/i", [], Options(), "", "then", "now", outcomes)
    assert summary.exit_code == worst
    assert dataclasses.replace(summary, ended="").exit_code == 130
    assert dataclasses.replace(summary, stopped=fleet.CANCELLED).exit_code == 130


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (Options(parallel=0), "--parallel"),
        (Options(stop_after=-1), "--stop-after"),
        (Options(canary=("c9",)), "no cluster c9"),
        (Options(canary_count=7), "there are 6"),
        (Options(canary=("c1",), canary_count=1), "not both"),
        (Options(resume="nothing"), "There is no fleet nothing"),
    ],
)
def test_options_that_cannot_be_meant_are_refused_before_anything_runs(inventory: Inventory, options: Options, says: str) -> None:
    called: list[str] = []
    with pytest.raises(UsageError, match=says):
        go(inventory, options, run=runs(called=called))
    assert (called, on_disk(inventory)) == ([], [])


def test_an_inventory_of_one_cluster_is_no_fleet(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "hosts.yml"
    path.write_text("all: {children: {servers: {hosts: {n1: }}}}\n")
    with pytest.raises(UsageError, match="no inventory of a fleet"):
        go(Inventory(path))


# What runs.


def test_each_cluster_runs_once_with_the_options_and_is_on_disk(inventory: Inventory) -> None:
    seen: dict[str, Any] = {}

    def run(command: str, one: Inventory, *, folder: pathlib.Path, **options: Any) -> Result:
        assert one.cluster not in seen
        seen[one.cluster] = (command, one.path, options["variables"], options["limit"])
        return result(one, folder)

    summary = go(inventory, run=run, variables={"a": 1}, limit="n*")
    assert seen == {f"c{number}": ("remediate", inventory.path, {"a": 1}, "n*") for number in range(1, 7)}
    assert on_disk(inventory) == [summary]
    assert (summary.exit_code, summary.not_begun, summary.why) == (0, [], "")
    assert summary.done == [outcome.cluster for outcome in summary.outcomes]
    assert "run-c1" in {outcome.run for outcome in summary.outcomes}


def test_never_more_than_the_number_at_a_time_and_all_of_that_number(inventory: Inventory) -> None:
    at_once, together = [0], threading.Barrier(3)
    lock = threading.Lock()
    most = 0

    def run(_command: str, one: Inventory, *, folder: pathlib.Path, **_options: Any) -> Result:
        nonlocal most
        with lock:
            at_once[0] += 1
            most = max(most, at_once[0])
        # Breaks, and so fails the cluster, unless three are here together.
        together.wait(timeout=10)
        time.sleep(0.01)
        with lock:
            at_once[0] -= 1
        return result(one, folder)

    assert go(inventory, Options(parallel=3), run=run).exit_code == 0
    assert most == 3


def test_an_exception_of_one_cluster_is_its_outcome_and_no_matter_of_the_others(inventory: Inventory) -> None:
    def run(_command: str, one: Inventory, *, folder: pathlib.Path, **_options: Any) -> Result:
        if one.cluster == "c2":
            raise KubekeelError("no such\nprogram")
        if one.cluster == "c3":
            raise ZeroDivisionError
        return result(one, folder)

    summary = go(inventory, Options(stop_after=0), run=run)
    found = {outcome.cluster: (outcome.exit_code, outcome.headline) for outcome in summary.outcomes}
    assert found["c2"] == (3, "no such program")
    assert found["c3"] == (3, "ZeroDivisionError")
    assert len(found) == 6
    assert len(summary.done) == 4
    assert summary.exit_code == 3


def test_canaries_come_first_and_one_that_fails_is_the_end(inventory: Inventory) -> None:
    called: list[str] = []
    assert go(inventory, Options(canary=("c5", "c3"), parallel=2), run=runs({}, called)).exit_code == 0
    assert set(called[:2]) == {"c3", "c5"}
    assert len(called) == 6
    called.clear()
    summary = go(inventory, Options(canary_count=2, stop_after=5), run=runs({"c2": 5}, called))
    assert sorted(called) == ["c1", "c2"]
    assert summary.not_begun == ["c3", "c4", "c5", "c6"]
    assert summary.why == "a canary failed"
    assert summary.exit_code == 5


def test_findings_are_no_failure(inventory: Inventory) -> None:
    summary = go(inventory, Options(canary_count=1), run=runs({"c1": 1}))
    assert (summary.exit_code, len(summary.done)) == (1, 6)


@pytest.mark.parametrize(
    ("command", "stop_after", "begun"),
    [("remediate", None, 1), ("remediate", 2, 2), ("remediate", 0, 6), ("audit", None, 6), ("audit", 3, 3)],
)
def test_it_stops_after_failures_by_default_where_it_changes_something(
    inventory: Inventory, command: str, stop_after: int | None, begun: int
) -> None:
    codes = {f"c{number}": 4 for number in range(1, 7)}
    summary = go(inventory, Options(parallel=1, stop_after=stop_after), command, run=runs(codes))
    assert len(summary.outcomes) == begun
    assert len(summary.not_begun) == 6 - begun
    assert summary.why == ("too many clusters failed" if begun < 6 else "")


def test_those_that_run_go_on_to_their_end_after_another_one_failed(inventory: Inventory) -> None:
    failed = threading.Event()

    def run(_command: str, one: Inventory, *, folder: pathlib.Path, cancel: threading.Event, **_options: Any) -> Result:
        if one.cluster == "c1":
            return result(one, folder, 4)
        assert failed.wait(10)
        assert not cancel.is_set()
        return result(one, folder)

    def note(outcome: Outcome) -> None:
        failed.set() if outcome.failed else None

    summary = go(inventory, Options(parallel=3), run=run, on_outcome=note)
    assert {outcome.cluster: outcome.exit_code for outcome in summary.outcomes} == {"c1": 4, "c2": 0, "c3": 0}
    assert summary.not_begun == ["c4", "c5", "c6"]


def test_cancel_reaches_each_run_and_what_did_not_begin_is_listed(inventory: Inventory) -> None:
    cancel, both = threading.Event(), threading.Barrier(2)

    def run(_command: str, one: Inventory, *, folder: pathlib.Path, cancel: threading.Event, **_options: Any) -> Result:
        both.wait(10)
        cancel.set()
        return result(one, folder, 130)

    summary = go(inventory, Options(parallel=2), run=run, cancel=cancel)
    assert [outcome.exit_code for outcome in summary.outcomes] == [130, 130]
    assert summary.not_begun == ["c3", "c4", "c5", "c6"]
    assert (summary.exit_code, summary.why) == (130, "it was interrupted")


def test_callbacks_need_not_be_thread_safe_and_one_that_fails_does_no_harm(inventory: Inventory) -> None:
    inside, clashes, heard = [0], [0], []

    def run(_command: str, one: Inventory, *, folder: pathlib.Path, on_event: Callable[[Event], None], **_options: Any) -> Result:
        for _ in range(20):
            on_event(Event("play", one.cluster, "run", 0.0))
        return result(one, folder)

    def on_event(event: Event) -> None:
        inside[0] += 1
        clashes[0] += inside[0] > 1
        time.sleep(0.0005)
        inside[0] -= 1
        heard.append(event.cluster)

    go(inventory, run=run, on_event=on_event)
    assert (clashes[0], len(heard)) == (0, 120)

    def fails(_event: Event) -> None:
        raise BrokenPipeError("nobody reads")

    with pytest.raises(BrokenPipeError):
        go(inventory, run=run, on_event=fails)
    assert on_disk(inventory)[-1].exit_code == 0
    assert len(on_disk(inventory)[-1].outcomes) == 6


# What is kept, and how to go on.


def test_the_summary_is_on_disk_before_the_first_run_and_after_each_outcome(inventory: Inventory) -> None:
    known: list[int] = []

    def run(_command: str, one: Inventory, *, folder: pathlib.Path, **_options: Any) -> Result:
        (summary,) = on_disk(inventory)
        assert (summary.ended, summary.exit_code, len(summary.clusters)) == ("", 130, 6)
        known.append(len(summary.outcomes))
        return result(one, folder)

    go(inventory, Options(parallel=1), run=run)
    assert known == [0, 1, 2, 3, 4, 5]


def test_a_fleet_is_resumed_with_what_is_left_and_that_again(inventory: Inventory) -> None:
    first = go(inventory, Options(parallel=1, stop_after=2, canary=("c4",)), run=runs({"c2": 4, "c3": 5}))
    assert (first.done, first.not_begun) == (["c4", "c1"], ["c5", "c6"])
    called: list[str] = []
    path = inventory.folder / "runs" / "fleets" / first.id
    second = go(inventory, Options(parallel=1, resume=str(path)), run=runs({"c5": 3}, called))
    assert called == ["c2", "c3", "c5"]
    assert (second.done, second.not_begun, second.exit_code) == (["c4", "c1", "c2", "c3"], ["c6"], 3)
    called.clear()
    third = go(inventory, Options(resume=second.id), run=runs({}, called))
    assert called == ["c5", "c6"] or called == ["c6", "c5"]
    assert sorted(third.done) == sorted(third.clusters)
    assert third.exit_code == 0
    called.clear()
    assert go(inventory, Options(resume=third.id), run=runs({}, called)).exit_code == 0
    assert called == []


def test_a_canary_that_failed_is_a_canary_again(inventory: Inventory) -> None:
    first = go(inventory, Options(canary=("c6",)), run=runs({"c6": 4}))
    called: list[str] = []
    second = go(inventory, Options(resume=first.id), run=runs({"c6": 4}, called))
    assert called == ["c6"]
    assert second.not_begun == ["c1", "c2", "c3", "c4", "c5"]


def test_a_fleet_that_was_killed_is_resumed(inventory: Inventory) -> None:
    def run(_command: str, one: Inventory, *, folder: pathlib.Path, **_options: Any) -> Result:
        if one.cluster == "c3":
            raise SystemExit
        return result(one, folder)

    with pytest.raises(SystemExit):
        go(inventory, Options(parallel=1), run=run)
    (killed,) = on_disk(inventory)
    assert (killed.done, killed.ended) == (["c1", "c2"], "")
    called: list[str] = []
    assert go(inventory, Options(resume=killed.id, parallel=1), run=runs({}, called)).exit_code == 0
    assert called == ["c3", "c4", "c5", "c6"]


def test_something_else_is_not_taken_for_the_rest_of_a_fleet(inventory: Inventory, tmp_path: pathlib.Path) -> None:
    first = go(inventory, Options(), "audit", run=runs({"c1": 3}), check=False)
    options = Options(resume=first.id)
    with pytest.raises(UsageError, match="it was 'audit', not 'remediate'"):
        go(inventory, options)
    for asked in ({"variables": {"a": 1}}, {"limit": "n1"}, {"tags": ("eviction",)}, {"check": True}):
        with pytest.raises(UsageError, match="other variables"):
            go(inventory, options, "audit", **asked)
    other = tmp_path / "other.yml"
    other.write_text(inventory.path.read_text())
    with pytest.raises(UsageError, match="its inventory was"):
        go(Inventory(other), options, "audit")
    inventory.path.write_text(inventory.path.read_text().replace("c6", "c7"))
    with pytest.raises(UsageError, match="no cluster c6 any more"):
        go(inventory, options, "audit")


@pytest.mark.parametrize("text", ["", "[]", '{"schema": 2}', '{"schema": 1}', '{"schema": 1, "options": 3}'])
def test_a_damaged_summary_is_told(tmp_path: pathlib.Path, text: str) -> None:
    path = tmp_path / "summary.json"
    path.write_text(text)
    with pytest.raises(UsageError, match="summary"):
        fleet.find(str(path), tmp_path)


def test_a_summary_names_no_variables(inventory: Inventory) -> None:
    go(inventory, variables={"password": "do-not-tell"})
    (path,) = (inventory.folder / "runs" / "fleets").glob("*/summary.json")
    assert "do-not-tell" not in path.read_text()


FINDING = {"status": "fail", "severity": "warning", "waiver": None}


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ({}, "1 node, nothing found"),
        ({"cluster": {"nodes": [{}, {}, {}]}, "findings": [FINDING] * 13}, "3 nodes, 13 warnings"),
        ({"findings": [FINDING, {**FINDING, "severity": "critical", "status": "unknown"}]}, "1 node, 1 critical, 1 warning"),
        (
            {"findings": [{**FINDING, "waiver": {"reason": "known"}}, {**FINDING, "status": "pass"}, {**FINDING, "status": "warn"}]},
            "1 node, nothing found",
        ),
        ({"changes": [{}]}, "1 node, 1 changed"),
        ({"run": {"status": "interrupted"}, "cluster": {"nodes": []}}, "interrupted"),
        ({"run": {"status": "interrupted"}, "changes": [{}]}, "interrupted, 1 changed"),
        ({"failures": [{"nodes": ["a", "b"], "message": "no way\nout"}], "changes": [{}]}, "a, b: no way out"),
        ({"failures": [{"nodes": ["a"], "message": "a: 'Restart' failed"}]}, "a: 'Restart' failed"),
        ({"failures": [{"nodes": [], "message": "x" * 500}]}, "x" * 157 + "..."),
    ],
)
def test_a_headline_says_what_a_result_holds(document: dict[str, Any], says: str) -> None:
    assert fleet.headline({**DOCUMENT, **document}) == says


# The stand-in.


def lease(version: str, uid: str) -> dict[str, Any]:
    named = {"name": "kubekeel", **({"resourceVersion": version} if version else {}), **({"uid": uid} if uid else {})}
    return {"metadata": named, "spec": {"holderIdentity": "run"}}


@UNHURRIED
@given(
    st.lists(st.tuples(st.sampled_from(["GET", "POST", "PUT"]), st.sampled_from(["", "there", "1"]), st.sampled_from(["", "there", "x"])))
)
def test_the_stand_in_treats_leases_as_the_model_of_the_api_server_does(steps: list[tuple[str, str, str]]) -> None:
    store, registry = rules.Store(), Registry()
    for method, version, uid in steps:
        there = (registry.lease or {}).get("metadata", {})
        body = lease(there.get("resourceVersion", "") if version == "there" else version, there.get("uid", "") if uid == "there" else uid)
        before = copy.deepcopy(dataclasses.asdict(store))
        found = rules.answer(FACTS, store, method, LEASES if method == "POST" else LEASE, None if method == "GET" else body)
        assert dataclasses.asdict(store) == before
        store = found.store
        expected, refused = None, 0
        try:
            expected = {"GET": lambda _: registry.get(), "POST": registry.create, "PUT": registry.replace}[method](body)
        except RefusalError as error:
            refused = error.status
        if refused:
            assert found.status == refused
        else:
            assert found.status in (200, 201)
            assert found.body == expected


def test_the_stand_in_renews_its_own_leases_and_keeps_those_of_others() -> None:
    store = rules.answer(FACTS, rules.Store(), "POST", LEASES, lease("", "")).store
    first, second = rules.renewed(FACTS, store, 1000.0), rules.renewed(FACTS, rules.renewed(FACTS, store, 1000.0), 1010.0)
    node = "kube-node-lease/server1"
    assert first.leases[node]["spec"]["renewTime"] == "1970-01-01T00:16:40.000000Z"
    assert second.leases[node]["spec"]["renewTime"] == "1970-01-01T00:16:50.000000Z"
    assert second.leases["kube-system/kubekeel"] == store.leases["kube-system/kubekeel"]
    assert len(rules.answer(FACTS, second, "GET", LEASES, None).body["items"]) == 3
    gone = rules.answer(FACTS, second, "DELETE", LEASE, None).store
    assert rules.answer(FACTS, gone, "GET", LEASE, None).status == 404
    assert rules.answer(FACTS, gone, "GET", "/apis/upgrade.cattle.io/v1/plans", None).status == 404
