"""One run at a time: the Lease that keeps runs apart."""

import itertools
import json
import pathlib
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest
from ansible_collections.kubekeel.ha.plugins.lookup import operator as operator_lookup
from ansible_collections.kubekeel.ha.plugins.module_utils import cluster_lock, distribution, health, kube_api, lock_client, node_files
from ansible_collections.kubekeel.ha.plugins.module_utils.cluster_lock import Lock, Run
from ansible_collections.kubekeel.ha.plugins.modules import cluster_health
from ansible_collections.kubekeel.ha.plugins.modules import cluster_lock as module
from hypothesis import event, example, given, settings
from hypothesis import strategies as st

from .api_server import ApiServer, RefusalError, Registry, serving
from .conftest import Result, RunModule
from .test_health import a_lease, a_node

NOW = health.epoch("2026-11-21T03:00:00Z")
OWN = Run("r1", "restart", "alice@bastion", 600)
META = {"name": "kubekeel", "uid": "u", "resourceVersion": "7"}


def lease(holder="r2", renewed=NOW - 30, duration=600, **more):
    """A Lease of a run."""
    spec = {"holderIdentity": holder, "leaseDurationSeconds": duration, "renewTime": health.micro_time(renewed)}
    spec["acquireTime"] = health.micro_time(renewed - 60)
    notes = {cluster_lock.PURPOSE: "drill", cluster_lock.OPERATOR: "bob@desk"}
    return {"metadata": {**META, "annotations": notes}, "spec": {**spec, **more}}


@pytest.mark.parametrize(
    ("current", "held", "expires"),
    [
        (None, False, None),
        ({}, False, None),
        (lease(holder=""), False, None),
        (lease(holder=None), False, None),
        (lease(), True, NOW + 575),
        (lease(renewed=NOW - 604), True, NOW + 1),
        (lease(renewed=NOW - 605), False, NOW),
        (lease(renewed=NOW + 3600), True, NOW + 4205),
        (lease(renewTime=None), True, None),
        (lease(leaseDurationSeconds=None), True, None),
        (lease(leaseDurationSeconds=2**31), True, None),
        (lease(leaseDurationSeconds=10**400), True, None),
    ],
)
def test_who_is_kept_away_and_until_when(current, held, expires):
    lock = cluster_lock.read(current)
    assert (lock.held(NOW), lock.expires) == (held, expires)
    assert bool(cluster_lock.take(current, OWN, NOW).refusal) is held


def test_a_lease_that_is_not_there_is_created():
    step = cluster_lock.take(None, OWN, NOW)
    assert (step.method, step.lease) == (
        "POST",
        {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {
                "name": "kubekeel",
                "namespace": "kube-system",
                "annotations": {"kubekeel.io/purpose": "restart", "kubekeel.io/operator": "alice@bastion"},
            },
            "spec": {
                "holderIdentity": "r1",
                "leaseDurationSeconds": 600,
                "acquireTime": "2026-11-21T03:00:00.000000Z",
                "renewTime": "2026-11-21T03:00:00.000000Z",
            },
        },
    )


@pytest.mark.parametrize(
    ("step", "holder", "acquired"),
    [
        (cluster_lock.take(lease(holder=""), OWN, NOW), "r1", NOW),
        (cluster_lock.take(lease(renewed=NOW - 700), OWN, NOW), "r1", NOW),
        (cluster_lock.take(lease(holder="r1"), OWN, NOW), "r1", NOW - 90),
        (cluster_lock.take(lease(holder="r1", renewed=NOW - 700), OWN, NOW), "r1", NOW - 760),
        (cluster_lock.take(lease(holder="r1", renewTime="soon", acquireTime=None), OWN, NOW), "r1", NOW),
        (cluster_lock.renew(lease(holder="r1"), "r1", NOW), "r1", NOW - 90),
        (cluster_lock.renew(lease(holder="r1", renewed=NOW - 700), "r1", NOW), "r1", NOW - 760),
        (cluster_lock.renew(lease(holder="r1", renewed=NOW + 60), "r1", NOW), "r1", NOW),
        (cluster_lock.release(lease(holder="r1"), "r1", NOW), "", NOW - 90),
        (cluster_lock.end(lease(holder="r1"), "r1", NOW), "", NOW - 90),
        (cluster_lock.end(lease(holder="r1", renewed=NOW - 700), "r1", NOW), "", NOW - 760),
        (cluster_lock.end(lease(holder="r1", renewTime=5), "r1", NOW), "", NOW - 90),
    ],
)
def test_every_write_says_which_lease_was_read(step, holder, acquired):
    assert (step.method, step.refusal) == ("PUT", "")
    assert {name: step.lease["metadata"][name] for name in META} == META
    after = cluster_lock.read(step.lease)
    assert (after.holder, after.acquired, after.renewed) == (holder, acquired, NOW)


def test_who_takes_it_is_told_from_then_on():
    after = cluster_lock.read(cluster_lock.take(lease(holder=""), OWN, NOW).lease)
    assert (after.purpose, after.operator, after.duration) == ("restart", "alice@bastion", 600)
    renewed = cluster_lock.read(cluster_lock.renew(lease(holder="r1", duration=900), "r1", NOW).lease)
    assert (renewed.purpose, renewed.operator, renewed.duration) == ("drill", "bob@desk", 900)


def test_what_was_renewed_a_moment_ago_is_not_renewed_again():
    for age in (-4, 0, 9.9):
        assert cluster_lock.renew(lease(holder="r1", renewed=NOW - age), "r1", NOW) == cluster_lock.Step()
    assert cluster_lock.renew(lease(holder="r1", renewed=NOW - 10), "r1", NOW).method == "PUT"


@pytest.mark.parametrize(
    ("step", "says"),
    [
        (
            cluster_lock.take(lease(), OWN, NOW),
            "run r2 (drill, bob@desk) holds this cluster since 2026-11-21 02:58:30 UTC. It renewed its Lease 30 s ago; where it does "
            "not do so again, it holds it until 2026-11-21 03:09:35 UTC. Wait, or, where that run is certainly dead: "
            "ansible-playbook -i INVENTORY kubekeel.ha.lock -e lock_break=r2",
        ),
        (cluster_lock.take(lease(renewed=NOW + 100, acquireTime=None), OWN, NOW), "holds this cluster. It renewed its Lease by a clock"),
        (cluster_lock.take(lease(renewed=NOW + 100), OWN, NOW), "by a clock that is 100 s ahead of this one"),
        (cluster_lock.take(lease(renewTime="yesterday"), OWN, NOW), "is damaged: it says that run r2 (drill, bob@desk) holds"),
        (
            cluster_lock.take(lease(renewTime=None), OWN, NOW),
            "certainly dead: ansible-playbook -i INVENTORY kubekeel.ha.lock -e lock_break=r2",
        ),
        (cluster_lock.renew(lease(), "r1", NOW), "run r1 does not hold this cluster any more: run r2 (drill, bob@desk) holds this cluster"),
        (
            cluster_lock.renew(lease(renewed=NOW - 700), "r1", NOW),
            "r1 does not hold this cluster any more: nobody holds this cluster: run r2",
        ),
        (cluster_lock.renew(lease(holder=""), "r1", NOW), "r1 does not hold this cluster any more: its Lease was released or broken"),
        (cluster_lock.renew(None, "r1", NOW), "r1 does not hold this cluster any more: its Lease was released or broken"),
        (cluster_lock.release(lease(), "r1", NOW), "run r1 has nothing to release: run r2 (drill, bob@desk) holds this cluster"),
        (cluster_lock.end(lease(), "r1", NOW), "run r1 has no Lease to break: run r2 (drill, bob@desk) holds this cluster"),
        (
            cluster_lock.end(lease(renewed=NOW - 700), "r1", NOW),
            "r1 has no Lease to break: nobody holds this cluster: run r2 (drill, bob@desk)",
        ),
    ],
)
def test_a_refusal_says_who_holds_it_and_what_to_do(step, says):
    assert says in step.refusal
    assert step.method == ""


def test_nothing_is_to_be_done_where_nobody_holds_it():
    for current in (None, lease(holder="")):
        assert cluster_lock.release(current, "r1", NOW) == cluster_lock.end(current, "r1", NOW) == cluster_lock.Step()
        assert cluster_lock.sentence(cluster_lock.read(current), NOW) == "nobody holds this cluster"
    assert cluster_lock.sentence(cluster_lock.read(lease(renewed=NOW - 700)), NOW) == (
        "nobody holds this cluster: run r2 (drill, bob@desk) held it, and its Lease ran out at 2026-11-21 02:58:25 UTC"
    )


def test_whoever_holds_it_needs_no_advice():
    for current in (lease(), lease(renewTime="")):
        assert "lock_break" in cluster_lock.sentence(cluster_lock.read(current), NOW)
        assert "lock_break" not in cluster_lock.sentence(cluster_lock.read(current), NOW, advice=False)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=3,
)
TIMES = JSON | st.sampled_from(
    [
        "2026-11-21T03:00:00.123456Z",
        "9999-12-31T23:59:59.999999Z",
        "0001-01-01T00:00:00Z",
        "2026-11-21T03:00:00+02:00",
        "2026-11-21T03:00:00.9e999Z",
    ]
)
DAMAGED = st.fixed_dictionaries(
    {"metadata": JSON | st.fixed_dictionaries({"annotations": JSON | st.dictionaries(st.sampled_from(list(META)), JSON)})},
    optional={
        "spec": JSON
        | st.fixed_dictionaries(
            {}, optional={"holderIdentity": JSON, "leaseDurationSeconds": JSON, "acquireTime": TIMES, "renewTime": TIMES, "strategy": JSON}
        )
    },
)


@settings(deadline=None)
@given(JSON | DAMAGED, st.floats(0, 4e9))
def test_whatever_stands_in_the_lease_is_no_traceback_and_nobody_takes_what_cannot_be_read(found, now):
    lock = cluster_lock.read(found)
    taken = cluster_lock.take(found, OWN, now) if found is None or isinstance(found, dict) else None
    if taken and lock.damaged and lock.holder != OWN.run_id:
        assert "is damaged" in taken.refusal
    assert cluster_lock.sentence(lock, now)
    if isinstance(found, dict):
        for act, holder in itertools.product((cluster_lock.renew, cluster_lock.release, cluster_lock.end), ("r1", lock.holder)):
            act(found, holder, now)
        assert cluster_lock.read(cluster_lock.end(found, lock.holder, now).lease).holder == ""


def written(step: cluster_lock.Step) -> dict[str, Any]:
    """What a step writes."""
    assert step.lease is not None
    return dict(step.lease)


DURATION = 20


class Cluster:
    """Runs that take, renew and release one Lease, from places with clocks of their own. Their writes come late, if at all.

    A run that has the Lease goes on until its lease duration is over, by its own clock. That no other one goes on then is what
    all this is for.
    """

    def __init__(self, ahead: dict[str, float]) -> None:
        self.registry = Registry()
        self.time = NOW
        self.ahead = ahead
        self.names = {place: place for place in ahead}
        """The run at each place. After one that died there is another one."""
        self.until: dict[str, float] = {}
        """Until when the run at a place goes on, by its own clock."""
        self.sent: list[tuple[str, str, cluster_lock.Step, float]] = []
        """Each write that is on its way, with the place, the run, and the time of its decision."""
        self.dead: list[str] = []
        self.refused = 0

    def clock(self, place: str) -> float:
        return self.time + self.ahead[place]

    def going_on(self) -> list[str]:
        return [place for place in self.names if self.clock(place) < self.until.get(place, 0)]

    def look(self) -> Any:
        try:
            return self.registry.get()
        except RefusalError:
            return None

    def act(self, what: str, place: str) -> None:
        name, now = self.names[place], self.clock(place)
        if what == "take":
            step = cluster_lock.take(self.look(), Run(name, duration=DURATION), now)
            assert bool(step.method) is not bool(step.refusal)
        else:
            step = (cluster_lock.renew if what == "renew" else cluster_lock.release)(self.look(), name, now)
        # It ends, or sees that another one has it.
        if what == "release" or step.refusal:
            self.until.pop(place, None)
        if step.method:
            self.sent.append((place, name, step, now))

    def arrive(self, which: float) -> None:
        """Let a write arrive, of all that are on their way."""
        if not self.sent:
            return
        place, name, step, decided = self.sent.pop(int(which * len(self.sent)))
        try:
            lock = cluster_lock.read((self.registry.create if step.method == "POST" else self.registry.replace)(written(step)))
        except RefusalError:
            self.refused += 1
            return
        if lock.holder and self.names[place] == name:
            self.until[place] = decided + DURATION

    def die(self, place: str) -> None:
        """Let the run at a place die. What it has sent may still arrive."""
        self.dead.append(self.names[place])
        self.names[place] += "'"
        self.until.pop(place, None)

    def repair(self, which: float) -> None:
        """Break the Lease of a dead run, or delete it where nobody goes on."""
        if self.dead:
            name = self.dead[int(which * len(self.dead))]
            step = cluster_lock.end(self.look(), name, self.time)
            assert bool(step.method) is (cluster_lock.read(self.look()).holder == name)
            if step.method:
                self.registry.replace(written(step))
        elif not self.going_on():
            self.registry.lease = None


PLACES = st.sampled_from(["a", "b", "c"])
PART = st.floats(0, 1, exclude_max=True)
ACTS = st.one_of(
    st.tuples(st.just("take"), PLACES),
    st.tuples(st.just("take"), PLACES),
    st.tuples(st.sampled_from(["renew", "release"]), PLACES),
    st.tuples(st.just("arrive"), PART),
    st.tuples(st.just("arrive"), PART),
    st.tuples(st.just("wait"), st.sampled_from([1, 5, 10, 16, 20, 25])),
    st.tuples(st.sampled_from(["die", "repair"]), PLACES | PART),
)
AHEAD = st.sampled_from([0.0, 0.5, 1.0]).map(lambda part: part * health.CLOCK_SKEW)


@settings(max_examples=600, deadline=None)
@given(st.lists(ACTS, min_size=10, max_size=60), AHEAD, AHEAD)
@example([("take", "a"), ("arrive", 0.0), ("wait", 16), ("take", "b"), ("arrive", 0.0)], health.CLOCK_SKEW, 0.0)
@example([("take", "a"), ("take", "b"), ("arrive", 0.0), ("arrive", 0.0)], 0.0, 0.0)
def test_no_two_runs_go_on_at_the_same_time_and_the_lease_names_the_one_that_does(acts, second, third):
    cluster = Cluster({"a": 0.0, "b": second, "c": third})
    for what, on in acts:
        if what == "wait":
            cluster.time += on
        elif what == "arrive":
            cluster.arrive(on)
        elif isinstance(on, float):
            cluster.repair(on)
        elif what in ("die", "repair"):
            cluster.die(on)
        else:
            cluster.act(what, on)
        going_on = cluster.going_on()
        assert len(going_on) < 2
        assert [cluster.names[place] for place in going_on] in ([], [cluster_lock.read(cluster.look()).holder])
    event(f"refused: {min(cluster.refused, 3)}")


@pytest.fixture
def server(tmp_path: pathlib.Path) -> Iterator[ApiServer]:
    with serving(tmp_path) as found:
        yield found


def do(run_module: RunModule, server: ApiServer, state: str = "taken", **more: Any) -> Result:
    return run_module(
        module, state=state, kubeconfig=server.kubeconfig, **{"run_id": "r1", "purpose": "restart", "operator": "alice@bastion", **more}
    )


def fresh(holder: str = "r2", age: float = 30, **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = lease(holder, time.time() - age, **more)
    return found


def take_for(server: ApiServer, name: str) -> None:
    """Let a run take the Lease in between."""
    step = cluster_lock.take(server.registry.lease, Run(name, "drill", "bob@desk"), time.time())
    (server.registry.create if step.method == "POST" else server.registry.replace)(written(step))


def test_taken_renewed_and_released(run_module: RunModule, server: ApiServer) -> None:
    taken = do(run_module, server, duration=700)
    assert {name: taken[name] for name in ("changed", "holder", "purpose", "operator", "held", "mine")} == {
        "changed": True,
        "holder": "r1",
        "purpose": "restart",
        "operator": "alice@bastion",
        "held": True,
        "mine": True,
    }
    assert taken["expires"] == pytest.approx(time.time() + 705, abs=60)
    assert "lock_break" not in taken["msg"]
    again = do(run_module, server)
    assert (again["mine"], again["renewed"] > taken["renewed"]) == (True, True)
    released = do(run_module, server, "released")
    assert (released["changed"], released["held"], released["msg"]) == (True, False, "nobody holds this cluster")
    assert (released["purpose"], released["operator"]) == ("", "")
    assert do(run_module, server, "released")["changed"] is False
    assert do(run_module, server, run_id="r2")["mine"] is True


def test_what_another_run_holds_is_not_taken_but_told(run_module: RunModule, server: ApiServer, warned: list[str]) -> None:
    do(run_module, server, run_id="r2", purpose="drill", operator="bob@desk")
    before = server.registry.get()
    refused = do(run_module, server)
    assert (refused["failed"], refused["holder"], refused["mine"]) == (True, "r2", False)
    assert refused["msg"].startswith("run r2 (drill, bob@desk) holds this cluster since")
    assert do(run_module, server, "released")["changed"] is False
    assert warned[0].startswith("run r1 has nothing to release: run r2")
    assert server.registry.get() == before
    assert do(run_module, server, "seen")["msg"].startswith("run r2 (drill, bob@desk) holds")


def test_check_mode_says_whether_it_could_be_taken_and_writes_nothing(run_module: RunModule, server: ApiServer) -> None:
    could = do(run_module, server, check=True)
    assert (could["changed"], could["held"], server.registry.lease) == (True, False, None)
    do(run_module, server, run_id="r2")
    before = server.registry.get()
    assert do(run_module, server, check=True)["failed"] is True
    assert do(run_module, server, "broken", check=True, holder="r2")["changed"] is True
    assert server.registry.get() == before
    assert {method for method, _ in server.asked} == {"GET", "POST"}


@pytest.mark.parametrize("before", [None, lease(holder=""), lease(renewed=NOW - 9000)], ids=["none", "released", "run out"])
def test_a_race_that_is_lost_is_looked_at_again_and_refused(
    run_module: RunModule, server: ApiServer, before: dict[str, Any] | None
) -> None:
    if before:
        server.registry.create(before)
    server.before_write = [lambda: take_for(server, "r2")]
    refused = do(run_module, server)
    assert refused["failed"] is True
    assert refused["msg"].startswith("run r2 (drill, bob@desk) holds this cluster")
    assert [method for method, _ in server.asked] == ["GET", "PUT" if before else "POST", "GET"]
    assert cluster_lock.read(server.registry.lease).holder == "r2"


def test_a_lease_that_is_deleted_meanwhile_is_taken_by_a_new_one(run_module: RunModule, server: ApiServer) -> None:
    server.registry.create(lease(holder=""))
    server.before_write = [lambda: setattr(server.registry, "lease", None)]
    assert do(run_module, server)["mine"] is True
    assert [method for method, _ in server.asked] == ["GET", "PUT", "GET", "POST"]


def test_a_race_that_is_lost_twice_is_given_up(run_module: RunModule, server: ApiServer) -> None:
    server.registry.create(lease(holder=""))
    server.before_write = [lambda: server.registry.replace(server.registry.get())] * 2
    assert do(run_module, server)["msg"] == "others write to the Lease kubekeel at the same moment. Start again"


def test_the_other_servers_are_asked_where_this_one_is_down(run_module: RunModule, tmp_path: pathlib.Path, warned: list[str]) -> None:
    with serving(tmp_path, ("127.0.0.2",), first="127.0.0.1") as server:
        assert do(run_module, server, api_servers=["127.0.0.1", "127.0.0.3", "127.0.0.2"])["mine"] is True
        assert {host for _, host in server.asked} == {"127.0.0.2"}
        nobody = do(run_module, server, api_servers=["127.0.0.3"])
        assert re.match(r"who holds this cluster cannot be told: no API server answers \(127.0.0.1: .*; 127.0.0.3: ", nobody["msg"])
        assert do(run_module, server, "seen")["failed"] is True
        assert "failed" not in do(run_module, server, "released")
        assert "run r1 could not release its Lease, which runs out by itself: no API server answers" in warned[0]


@pytest.mark.parametrize(("status", "asked"), [(503, ["127.0.0.1", "127.0.0.2"]), (403, ["127.0.0.1"])])
def test_a_server_without_a_datastore_is_no_answer_and_a_refusal_is(
    run_module: RunModule, tmp_path: pathlib.Path, status: int, asked: list[str]
) -> None:
    with serving(tmp_path, ("127.0.0.1", "127.0.0.2")) as server:
        server.broken = {"POST": status}
        assert f"HTTP {status}" in do(run_module, server, api_servers=["127.0.0.2"])["msg"]
        assert [host for method, host in server.asked if method == "POST"] == asked


def test_a_dead_run_s_lease_is_broken_and_no_other(run_module: RunModule, server: ApiServer) -> None:
    server.registry.create(fresh())
    refused = do(run_module, server, "broken", holder="r3")
    assert (refused["failed"], server.registry.get()["spec"]["holderIdentity"]) == (True, "r2")
    assert refused["msg"].startswith("run r3 has no Lease to break: run r2")
    broken = do(run_module, server, "broken", holder="r2")
    assert (broken["changed"], broken["msg"]) == (True, "nobody holds this cluster")
    assert do(run_module, server, "broken", holder="r2")["changed"] is False


def test_a_damaged_lease_is_refused_and_can_be_broken(run_module: RunModule, server: ApiServer) -> None:
    server.registry.create(fresh(renewTime="yesterday"))
    refused = do(run_module, server)
    assert (refused["failed"], refused["held"], refused["expires"]) == (True, True, None)
    assert "is damaged" in refused["msg"]
    assert do(run_module, server, "broken", holder="r2")["held"] is False
    assert do(run_module, server)["mine"] is True


@pytest.mark.parametrize(("state", "name"), [("taken", "run_id"), ("released", "run_id"), ("broken", "holder")])
def test_nobody_is_no_run(run_module: RunModule, server: ApiServer, state: str, name: str) -> None:
    for nobody in ({}, {name: ""}):
        refused = run_module(module, state=state, kubeconfig=server.kubeconfig, **nobody)
        assert refused["msg"].startswith(f"{name} is missing")
    assert server.asked == []


def test_a_lease_duration_that_no_run_can_keep_is_refused(run_module: RunModule, server: ApiServer) -> None:
    assert "less than 60 s is too short" in do(run_module, server, duration=59)["msg"]
    assert "a Lease holds 2147483647 s at most" in do(run_module, server, duration=2**31)["msg"]
    assert do(run_module, server, duration=60)["mine"] is True


@pytest.mark.parametrize("found", [[], "x", 5, None])
def test_what_is_no_lease_is_nobody_s(run_module: RunModule, server: ApiServer, found: object) -> None:
    server.pages[lock_client.LEASE] = found
    assert "gives no object" in do(run_module, server)["msg"]
    assert server.registry.lease is None


@pytest.mark.parametrize("message", [["x"], None, {"x": 1}])
def test_a_refusal_says_whatever_the_server_says(message: object) -> None:
    assert kube_api._reason("PUT", json.dumps({"message": message})) == f": {message}"
    assert kube_api._reason("PUT", "[" * 100_000) == ""


def test_an_answer_without_an_end_is_no_json() -> None:
    with pytest.raises(kube_api.ApiError, match="/x gives no JSON"):
        kube_api._decode("/x", "[" * 100_000)


def test_a_long_kubeconfig_is_looked_through_at_once(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "admin.config"
    path.write_text("\n" * 100_000 + "server:\nusers: x\n")
    with pytest.raises(node_files.NodeError, match="names no certificate authority"):
        kube_api.Credentials(str(path))


@pytest.mark.parametrize("data", ["K10secret", "K10secret=", "w6Q="])
def test_a_kubeconfig_that_holds_no_certificate_is_told(tmp_path: pathlib.Path, data: str) -> None:
    path = tmp_path / "admin.config"
    path.write_text(f"certificate-authority-data: {data}\nserver: https://127.0.0.1:6443\ntoken: K10secret\n")
    with pytest.raises(node_files.NodeError, match="holds certificates or keys that cannot be read") as refused:
        kube_api.Credentials(str(path))
    assert "K10secret" not in str(refused.value)


def test_a_run_renews_its_lease_every_ten_seconds_and_no_more(server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server.registry.create(fresh("r1"))
    clock = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    holding = lock_client.Holding(kube_api.Credentials(server.kubeconfig), "r1")
    seen = []
    for moment in (0, 1, 9, 10, 11, 20):
        clock[0] = 1000.0 + moment
        assert holding.lost("127.0.0.1") == ""
        seen.append(len(server.asked))
    # A look and a write, then looks alone: by the clock of the Lease no time has passed.
    assert seen == [2, 2, 2, 3, 3, 4]


def test_a_batch_renews_one_lease_at_the_same_moment(server: ApiServer) -> None:
    server.registry.create(fresh("r1"))
    api = kube_api.Credentials(server.kubeconfig)
    first, second = lock_client.Holding(api, "r1"), lock_client.Holding(api, "r1")
    server.before_write = [lambda: first.lost("127.0.0.1") == "" or pytest.fail("it is held")]
    assert second.lost("127.0.0.1") == ""


def test_a_renewal_that_fails_is_tried_again_with_the_next_look(server: ApiServer) -> None:
    server.registry.create(fresh("r1"))
    server.broken = {"PUT": 500}
    holding = lock_client.Holding(kube_api.Credentials(server.kubeconfig), "r1")
    assert holding.lost("127.0.0.1").startswith("the Lease of run r1 cannot be renewed: no API server answers (127.0.0.1: HTTP 500")
    server.broken = {}
    assert holding.lost("127.0.0.1") == ""


@pytest.fixture
def cluster(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ApiServer]:
    """Three servers of MicroK8s that are well."""
    hosts = ("127.0.0.1", "127.0.0.2", "127.0.0.3")
    with serving(tmp_path, hosts) as server:
        now = health.micro_time(time.time())
        server.pages = {
            "/readyz": "ok",
            cluster_health.NODES: {"items": [a_node(number, host=host) for number, host in enumerate(hosts, 1)]},
            cluster_health.LEASES: {"items": [a_lease(number, now) for number in (1, 2, 3)]},
            cluster_health.LEADERS: {"items": []},
            cluster_health.IDENTITY: {"metadata": {"uid": "c"}},
            cluster_health.ENDPOINTS: {},
        }
        members = [health.Member(host, "voter") for host in hosts]
        monkeypatch.setattr(distribution, "find", lambda _: distribution.Distribution("microk8s", "unit", server.kubeconfig))
        monkeypatch.setattr(cluster_health, "microk8s_members", lambda _: members)
        yield server


def test_a_look_renews_the_lease_of_the_run_that_holds_it(run_module: RunModule, cluster: ApiServer) -> None:
    cluster.registry.create(fresh("r1"))
    answer = run_module(cluster_health, holding="r1")
    assert (answer["safe_to_disrupt"], answer["as_asked"], answer["held"], answer["reasons"]) == (True, True, True, [])
    assert time.time() - (cluster_lock.read(cluster.registry.lease).renewed or 0) < 20


@pytest.mark.parametrize(
    ("holder", "says"),
    [("r2", "run r2 (drill, bob@desk) holds this cluster"), ("", "was released or broken"), (None, "was released or broken")],
    ids=["another run", "broken", "deleted"],
)
@pytest.mark.parametrize("spare", [True, False])
def test_a_run_that_lost_the_cluster_must_not_go_on(
    run_module: RunModule, cluster: ApiServer, warned: list[str], holder: str | None, says: str, spare: bool
) -> None:
    if holder is not None:
        cluster.registry.create(fresh(holder))
    answer = run_module(cluster_health, holding="r1", spare=spare)
    assert (answer["as_asked"], answer["safe_to_disrupt"], answer["held"], answer["healthy"]) == (False, False, False, True)
    assert answer["msg"].startswith("run r1 does not hold this cluster any more")
    assert says in answer["msg"]
    assert [method for method, _ in cluster.asked] == ["GET"]
    after = run_module(cluster_health, holding="r1", spare=spare, lost_lock="warning")
    assert (after["as_asked"], after["held"], after["reasons"]) == (True, False, [])
    assert says in warned[0]


def test_nobody_asks_for_the_lease_without_a_run_or_in_check_mode(run_module: RunModule, cluster: ApiServer) -> None:
    cluster.registry.create(fresh())
    for more in ({}, {"holding": ""}, {"holding": "r1", "check": True}):
        answer = run_module(cluster_health, **more)
        assert (answer["safe_to_disrupt"], answer["held"]) == (True, True)
    assert cluster.asked == []


def test_a_wait_ends_with_the_reason_where_the_lease_is_lost_meanwhile(
    run_module: RunModule, cluster: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.registry.create(fresh("r1"))
    monkeypatch.setattr(cluster_lock, "RENEW_AFTER", 0.1)
    monkeypatch.setattr(cluster_health, "POLL", 0.2)
    observe, looks = cluster_health.Looker.observe, itertools.count()

    def look(looker: cluster_health.Looker) -> tuple[health.Observation, str]:
        if next(looks) == 1:
            cluster.registry.lease = {**fresh(), "metadata": cluster.registry.get()["metadata"]}
        return observe(looker)

    monkeypatch.setattr(cluster_health.Looker, "observe", look)
    answer = run_module(cluster_health, holding="r1", timeout=4, stable=4)
    assert next(looks) > 1
    assert (answer["as_asked"], answer["held"]) == (False, False)
    assert "run r2" in answer["msg"]


@pytest.mark.parametrize(
    ("variables", "who"),
    [({"USER": "bob", "LOGNAME": "bob"}, "bob"), ({"USER": "root", "LOGNAME": "root", "SUDO_USER": "alice"}, "alice"), ({}, "unknown")],
)
def test_who_runs_ansible(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], who: str) -> None:
    def nameless(_: int) -> object:
        raise KeyError("uid not found")

    for name in ("LOGNAME", "USER", "LNAME", "USERNAME", "SUDO_USER"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("pwd.getpwuid", nameless)
    monkeypatch.setattr("socket.gethostname", lambda: "bastion")
    assert operator_lookup.LookupModule().run([]) == [f"{who}@bastion"]
    monkeypatch.setattr("socket.gethostname", lambda: "")
    assert operator_lookup.operator() == f"{who}@unknown"


def test_the_times_of_a_lease_are_read_as_they_are_written() -> None:
    assert health.epoch(health.micro_time(NOW + 0.25)) == NOW + 0.25
    assert cluster_lock.read(lease()) == Lock("r2", "drill", "bob@desk", NOW - 90, NOW - 30, 600)
