"""Grace periods and heartbeats never cross while a cluster goes from one set of values to another, and two passes do."""

from collections.abc import Iterator
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.kubekeel.ha.plugins.filter.heartbeat_order import heartbeat_order
from ansible_collections.kubekeel.ha.plugins.plugin_utils import profiles
from ansible_collections.kubekeel.ha.plugins.plugin_utils.heartbeats import GRACE, LEASE
from hypothesis import given
from hypothesis import strategies as st

Values = tuple[int | None, str | None]
"""nodeLeaseDurationSeconds and node-monitor-grace-period; None for the component's own."""

OWN: Values = (None, None)
FAST: Values = (4, "8s")
BALANCED: Values = (None, "20s")
WAITS_FOR = "or healthy nodes would be taken for dead. Still to come: "


def result(changes: list[dict[str, Any]], effective: dict[str, Any], restart: bool, **more: Any) -> dict[str, Any]:
    return {
        "changes": changes,
        "effective": effective,
        "diff": [{}] if changes else [],
        "restart": ["k3s"] if changes or restart else [],
        **more,
    }


def change(name: str, before: object, after: object) -> list[dict[str, Any]]:
    shown = [None if value is None else str(value) for value in (before, after)]
    return [] if before == after else [{"name": name, "owner": "?", "before": shown[0], "after": shown[1]}]


def survey(now: Values, wanted: Values, server: bool = True, pending: bool = False, absent: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    """What the modules say of a node in check mode."""
    lease = change(LEASE, now[0], wanted[0]) if "kubelet" not in absent else []
    grace = change(GRACE, now[1], wanted[1]) if server and "kube-controller-manager" not in absent else []
    flags: dict[str, Any] = {"kubelet": {}} | ({"kube-controller-manager": {GRACE: wanted[1]} if wanted[1] else {}} if server else {})
    return [
        result(lease, {LEASE: None if wanted[0] is None else str(wanted[0])}, pending, absent=list(absent)),
        result(grace, flags, pending, absent=list(absent)),
        result([], {"HTTP2_PING_TIMEOUT_SECONDS": "4"}, pending),
    ]


SERVERS = ["s1", "s2", "s3"]
NODES = [*SERVERS, "a1"]


def order(now: dict[str, Values], wanted: Values, **more: Any) -> dict[str, Any]:
    """The order for three servers and an agent. Nodes that are not named in C(now) are not looked at."""
    return heartbeat_order(
        {name: survey(now[name], wanted, name in SERVERS, **more) if name in now else [] for name in NODES},
        SERVERS,
    )


def held(setting: str, *names: str) -> dict[str, list[str]]:
    return {name: [setting] for name in names}


def everywhere(values: Values) -> dict[str, Values]:
    return dict.fromkeys(NODES, values)


@pytest.mark.parametrize(
    ("now", "wanted", "first", "last"),
    [
        (everywhere(OWN), FAST, held(GRACE, *SERVERS), {}),
        (everywhere(BALANCED), FAST, held(GRACE, *SERVERS), {}),
        (everywhere(FAST), BALANCED, held(LEASE, *NODES), {}),
        (everywhere(OWN), BALANCED, {}, {}),
        (everywhere(BALANCED), (None, "40s"), {}, {}),
        (everywhere(FAST), FAST, {}, {}),
        # Both directions at once, and nothing crosses.
        (everywhere((4, "50s")), (60, "40s"), {}, {}),
        # A run that broke off between the passes, and one within the second of them.
        (everywhere((4, "20s")), FAST, {}, {}),
        ({**everywhere((4, "20s")), "s1": FAST}, FAST, {}, {}),
        ({**everywhere(FAST), "s1": (4, "20s")}, BALANCED, held(LEASE, *NODES), {}),
        # One that broke off within the first.
        ({**everywhere(BALANCED), "s1": (4, "20s"), "s2": (4, "20s")}, FAST, held(GRACE, *SERVERS), {}),
        # Somebody's hand: what gets better never waits.
        ({**everywhere(BALANCED), "s1": (None, "8s")}, BALANCED, {}, {}),
        ({**everywhere(OWN), "s1": (None, "1s")}, FAST, held(GRACE, "s2", "s3"), {}),
        # Longer than what counts where no flag is.
        (everywhere(OWN), (100, "50s"), held(LEASE, *NODES), {}),
        # --limit: other nodes may have any grace period, and the kubelet's own heartbeat.
        ({"s1": OWN}, FAST, held(GRACE, "s1"), held(GRACE, "s1")),
        (dict.fromkeys(SERVERS, OWN), FAST, held(GRACE, *SERVERS), held(GRACE, *SERVERS)),
        ({"s1": FAST}, BALANCED, held(LEASE, "s1"), held(LEASE, "s1")),
        (dict.fromkeys(SERVERS, FAST), BALANCED, held(LEASE, *SERVERS), {}),
        ({"a1": FAST}, BALANCED, held(LEASE, "a1"), held(LEASE, "a1")),
        ({"a1": OWN}, FAST, {}, {}),
        ({"s1": OWN}, BALANCED, {}, {}),
        ({"s1": FAST}, FAST, {}, {}),
    ],
)
def test_what_waits(now: dict[str, Values], wanted: Values, first: object, last: object) -> None:
    found = order(now, wanted)
    assert (found["now"]["held"], found["last"]["held"]) == (first, last)
    assert found["again"] is (first != last)
    assert bool(found["now"]["why"]) is bool(first)
    assert bool(found["last"]["why"]) is bool(last)


def test_the_sentence_names_the_setting_its_value_and_the_nodes_that_it_waits_for() -> None:
    (text,) = order({**everywhere(BALANCED), "s1": (4, "20s")}, FAST)["now"]["why"]
    assert text == f"{GRACE}=8s waits until every kubelet renews its Lease often enough for it, {WAITS_FOR}s2, s3, a1"
    (text,) = order({**everywhere(FAST), "s1": BALANCED}, BALANCED)["now"]["why"]
    assert text == f"{LEASE}=40 waits until every controller-manager has a grace period long enough for it, {WAITS_FOR}s2, s3"
    (text,) = order({"s1": OWN, "s2": OWN}, FAST)["last"]["why"]
    assert text.endswith(f"{WAITS_FOR}s3 (nobody looked at it), a1 (nobody looked at it)")


def test_a_unit_that_did_not_read_its_files_counts_as_unknown() -> None:
    assert order(everywhere(FAST), FAST, pending=True)["now"]["held"] == {}
    nodes = {name: survey((4, "20s"), FAST) for name in SERVERS}
    nodes["s2"] = survey((4, "20s"), (4, "20s"), pending=True)
    found = heartbeat_order(nodes, SERVERS)
    assert found["now"]["held"] == held(GRACE, "s1", "s3")
    assert found["again"], "the pass restarts it"
    nodes = {name: survey((4, "20s"), BALANCED) for name in SERVERS}
    nodes["s2"] = survey((4, "20s"), (4, "20s"), pending=True)
    found = heartbeat_order(nodes, SERVERS)
    assert found["now"]["held"] == held(LEASE, "s1", "s3")
    assert found["again"]


def test_what_a_node_does_not_run_does_not_count() -> None:
    nodes = {name: survey((4, "20s"), FAST) for name in SERVERS}
    nodes["s1"] = survey(OWN, OWN, absent=("kubelet",))
    assert heartbeat_order(nodes, SERVERS)["now"]["held"] == {}
    nodes = {name: survey((4, "20s"), BALANCED) for name in SERVERS}
    nodes["s1"] = survey((4, "8s"), (4, "8s"), absent=("kube-controller-manager",))
    assert heartbeat_order(nodes, SERVERS)["now"]["held"] == {}


def test_a_kubelet_that_keeps_its_own_file_holds_the_grace_period_back_for_good() -> None:
    nodes = {name: survey((80, "40s"), (80, "20s")) for name in SERVERS}
    found = heartbeat_order(nodes, SERVERS)
    assert found["now"]["held"] == found["last"]["held"] == held(GRACE, *SERVERS)
    assert not found["again"]


def test_wanted_values_of_different_nodes_that_do_not_fit_each_other_wait_for_good() -> None:
    nodes = {"s1": survey((4, "20s"), FAST), "a1": survey((4, None), OWN, server=False)}
    found = heartbeat_order(nodes, ["s1"])
    assert found["now"]["held"] == found["last"]["held"] == {"s1": [GRACE], "a1": [LEASE]}
    assert len(found["now"]["why"]) == 2


@pytest.mark.parametrize("text", ["soon", "", "-1s"])
def test_a_value_that_nobody_can_read_is_no_reason_to_go_ahead(text: str) -> None:
    nodes = {"s1": survey((4, "20s"), BALANCED), "s2": survey((4, text), (4, text))}
    assert heartbeat_order(nodes, ["s1", "s2"])["now"]["held"] == ({} if text == "" else held(LEASE, "s1"))


def test_an_input_that_is_none() -> None:
    assert heartbeat_order({}) == {"now": {"held": {}, "why": []}, "last": {"held": {}, "why": []}, "again": False}
    with pytest.raises(AnsibleFilterError, match="not 'x'"):
        heartbeat_order("x")


# -- Whole passes --------------------------------------------------------------------------------------------------------


def seconds(values: Values) -> tuple[float, float]:
    return float(values[0] or 40), float((values[1] or "40s").removesuffix("s"))


def sound(cluster: dict[str, Values], servers: list[str]) -> bool:
    """Tell whether every grace period that is in force holds two heartbeats of every kubelet."""
    return min(seconds(cluster[name])[1] for name in servers) >= 2 * max(seconds(values)[0] for values in cluster.values()) / 4


def passes(cluster: dict[str, Values], wanted: Values, servers: list[str]) -> Iterator[dict[str, Values]]:
    """Remediate until nothing waits, node by node, and return every state of the cluster in between."""
    while True:
        found = heartbeat_order({name: survey(cluster[name], wanted, name in servers) for name in cluster}, servers)
        for name in cluster:
            waits = found["now"]["held"].get(name, [])
            lease = cluster[name][0] if LEASE in waits else wanted[0]
            grace = None if name not in servers else cluster[name][1] if GRACE in waits else wanted[1]
            cluster = {**cluster, name: (lease, grace)}
            yield cluster
        if not found["again"]:
            return


def of_profile(name: str) -> Values:
    values = profiles.load(name)["values"]
    lease = values["node_lifecycle_node_lease_duration"]
    return None if lease == 40 else lease, values["node_lifecycle_monitor_grace_period"]


PROFILES = [OWN, *map(of_profile, profiles.BY_SPEED)]
ANY = st.tuples(st.one_of(st.none(), st.integers(1, 120)), st.integers(1, 120).map("{}s".format)).filter(
    lambda values: seconds(values)[1] >= seconds(values)[0] / 2
)


def walk(cluster: dict[str, Values], wanted: Values, servers: list[str]) -> None:
    states = list(passes(cluster, wanted, servers))
    assert len(states) <= 2 * len(cluster), "two passes have to do"
    assert states[-1] == {name: (wanted[0], wanted[1] if name in servers else None) for name in cluster}
    if sound(cluster, servers):
        assert all(sound(state, servers) for state in states)


def mixed(values: list[Values], servers: int) -> dict[str, Values]:
    return {f"n{number}": one if number < servers else (one[0], None) for number, one in enumerate(values)}


@given(st.integers(1, 6), st.integers(1, 6), st.sampled_from(PROFILES), st.sampled_from(PROFILES[1:]))
def test_from_any_profile_to_any_other(count: int, servers: int, before: Values, wanted: Values) -> None:
    cluster = mixed([before] * count, servers)
    assert sound(cluster, list(cluster)[:servers])
    walk(cluster, wanted, list(cluster)[:servers])


@given(st.lists(ANY, min_size=1, max_size=6), st.integers(1, 6), ANY)
def test_from_any_mixture_to_any_values(before: list[Values], servers: int, wanted: Values) -> None:
    cluster = mixed(before, servers)
    walk(cluster, wanted, list(cluster)[:servers])


@given(st.integers(1, 6), st.integers(0, 12), st.sampled_from(PROFILES), st.sampled_from(PROFILES[1:]), st.sampled_from(PROFILES[1:]))
def test_a_run_that_ends_anywhere_and_then_another_one(count: int, end: int, before: Values, wanted: Values, then: Values) -> None:
    cluster = mixed([before] * count, count)
    states = [cluster, *passes(cluster, wanted, list(cluster))]
    walk(states[min(end, len(states) - 1)], then, list(cluster))


@given(st.lists(st.tuples(ANY, ANY), min_size=1, max_size=6))
def test_a_third_pass_never_sets_more(pairs: list[tuple[Values, Values]]) -> None:
    """Also where the nodes' wanted values do not fit each other."""
    nodes = {f"n{number}": survey(*pair) for number, pair in enumerate(pairs)}
    last = heartbeat_order(nodes, list(nodes))["last"]["held"]
    for waiting, results in ((last.get(name, []), results) for name, results in nodes.items()):
        for one in results:
            if not {entry["name"] for entry in one["changes"]} & set(waiting):
                one["changes"], one["diff"], one["restart"] = [], [], []
    again = heartbeat_order(nodes, list(nodes))
    assert (again["now"]["held"], again["again"]) == (last, False)
