"""Several small clusters at once: real nodes, units, restarts and Leases, and a stand-in for K3s, see tests/fleet."""

import contextlib
import pathlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

import kubekeel
from kubekeel import fleet, inventories, result
from kubekeel.events import Event
from kubekeel.fleet import Options, Summary
from kubekeel.inventories import Inventory
from tests.fleet import clusters, standin_api
from tests.fleet.clusters import SmallClusters

NAMES = ["small1", "small2", "small3"]


@pytest.fixture(scope="module")
def small() -> Iterator[SmallClusters]:
    with clusters.standing("fleet-test", len(NAMES)) as made:
        yield made


@pytest.fixture(scope="module")
def inventory(small: SmallClusters, tmp_path_factory: pytest.TempPathFactory) -> Inventory:
    return inventories.find(str(small.write_inventory(tmp_path_factory.mktemp("fleet") / "fleet.yml")))


@contextlib.contextmanager
def spoiled(small: SmallClusters, name: str, flaw: str) -> Iterator[None]:
    small.spoil(name, flaw)
    try:
        yield
    finally:
        small.spoil(name, "")


@contextlib.contextmanager
def stopped(small: SmallClusters, name: str) -> Iterator[None]:
    small.stop(name)
    try:
        yield
    finally:
        small.start(name)


def codes(summary: Summary) -> dict[str, int]:
    return {outcome.cluster: outcome.exit_code for outcome in summary.outcomes}


def documents(summary: Summary) -> dict[str, result.Document]:
    return {outcome.cluster: result.load(pathlib.Path(outcome.folder) / "result.json") for outcome in summary.outcomes}


def assert_is_of(name: str, small: SmallClusters, document: result.Document, folder: pathlib.Path, events: list[Event]) -> None:
    """See that a run knows of no other cluster than its own."""
    node = small.nodes[name]
    others = [other for other in small.nodes.values() if other is not node]
    assert document["cluster"]["name"] == name
    assert [one["name"] for one in document["cluster"]["nodes"]] == [node.name]
    assert {finding["node"] for finding in document["findings"]} <= {node.name, ""}
    output = (folder / "output.txt").read_text()
    assert f"[{node.name}]" in output
    assert not any(f"[{other.name}]" in output or other.address in output for other in others)
    mine = [event for event in events if event.run == document["run"]["id"]]
    assert {event.cluster for event in mine} == {name}
    assert {event.node for event in mine} <= {node.name, "localhost", ""}
    assert (mine[-1].kind, mine[-1].text) == ("end", document["run"]["status"])


def test_a_cluster_without_power_does_not_disturb_the_audit_of_others(
    small: SmallClusters, inventory: Inventory, tmp_path: pathlib.Path
) -> None:
    events: list[Event] = []
    with stopped(small, "small3"):
        summary = fleet.run_fleet("audit", inventory, Options(parallel=3), folder=tmp_path, on_event=events.append)
    assert codes(summary) == {"small1": 0, "small2": 0, "small3": 3}
    assert (summary.exit_code, summary.done) == (3, [name for name in codes(summary) if name != "small3"])
    found = documents(summary)
    for outcome in summary.outcomes:
        assert_is_of(outcome.cluster, small, found[outcome.cluster], pathlib.Path(outcome.folder), events)
    said = {outcome.cluster: outcome.headline for outcome in summary.outcomes}
    assert said["small1"].startswith("1 node, ")
    assert said["small1"].endswith(" warnings")
    assert said["small3"].startswith("server3: ")


def test_two_runs_of_one_process_do_not_mix(small: SmallClusters, inventory: Inventory, tmp_path: pathlib.Path) -> None:
    events: list[Event] = []
    began = threading.Barrier(2)

    def audit(name: str) -> kubekeel.Result:
        began.wait()
        return kubekeel.run("audit", f"{inventory.path}#{name}", folder=tmp_path, on_event=events.append)

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(audit, NAMES[:2])
    spans = [[event.at for event in events if event.cluster == name] for name in NAMES[:2]]
    assert max(map(min, spans)) < min(map(max, spans)), "one ended before the other one began"
    assert first.folder != second.folder
    assert_is_of("small1", small, first.document, first.folder, events)
    assert_is_of("small2", small, second.document, second.folder, events)


def test_a_canary_that_fails_is_the_end(small: SmallClusters, inventory: Inventory, tmp_path: pathlib.Path) -> None:
    with spoiled(small, "small2", standin_api.NOT_READY):
        summary = fleet.run_fleet("remediate", inventory, Options(canary=("small2",)), folder=tmp_path)
    assert codes(summary) == {"small2": 5}
    assert "node server2 is NotReady" in summary.outcomes[0].headline
    assert (summary.exit_code, summary.not_begun, summary.why) == (5, ["small1", "small3"], "a canary failed")


def test_a_fleet_that_was_interrupted_is_resumed(inventory: Inventory, tmp_path: pathlib.Path) -> None:
    cancel = threading.Event()

    def at_the_first_step(event: Event) -> None:
        cancel.set() if event.kind == "step" else None

    summary = fleet.run_fleet("audit", inventory, Options(parallel=2), folder=tmp_path, cancel=cancel, on_event=at_the_first_step)
    assert codes(summary) == {"small1": 130, "small2": 130}
    assert (summary.exit_code, summary.not_begun, summary.done) == (130, ["small3"], [])
    again = fleet.run_fleet("audit", inventory, Options(parallel=3, resume=summary.id), folder=tmp_path)
    assert codes(again) == dict.fromkeys(codes(again), 0)
    assert sorted(again.done) == NAMES


def test_remediated_beside_two_that_fail_and_resumed_with_those(small: SmallClusters, inventory: Inventory, tmp_path: pathlib.Path) -> None:
    options = Options(parallel=3, stop_after=0)
    before = {name: started(small, name) for name in NAMES}
    with spoiled(small, "small2", standin_api.DIES), stopped(small, "small3"):
        first = fleet.run_fleet("remediate", inventory, options, folder=tmp_path)
        assert codes(first) == {"small1": 0, "small2": 4, "small3": 3}
        assert (first.exit_code, first.done) == (4, ["small1"])
        assert "server2" in next(outcome.headline for outcome in first.outcomes if outcome.cluster == "small2")
        small.on("small1", "test", "-e", str(standin_api.DROP_IN))
        # The one that failed has its files back, and runs.
        small.on("small2", "test", "!", "-e", str(standin_api.DROP_IN))
        small.on("small2", "systemctl", "is-active", "k3s")
    remediated = started(small, "small1")
    assert remediated != before["small1"]
    second = fleet.run_fleet("remediate", inventory, Options(parallel=3, stop_after=0, resume=first.id), folder=tmp_path)
    assert codes(second) == dict.fromkeys(NAMES, 0)
    assert second.outcomes[0] == next(outcome for outcome in first.outcomes if outcome.cluster == "small1")
    assert started(small, "small1") == remediated
    for name in NAMES:
        small.on(name, "test", "-e", str(standin_api.DROP_IN))


def started(small: SmallClusters, name: str) -> str:
    return small.on(name, "systemctl", "show", "--value", "--property=ExecMainStartTimestampMonotonic", "k3s")
