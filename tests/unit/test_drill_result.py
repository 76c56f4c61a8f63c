"""The result of a failover drill: synthetic observations with known times, and what has to come of them."""

import html
import json
import os
import pathlib
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import jsonschema
import pytest
from ansible_collections.kubekeel.ha.plugins.plugin_utils import drill_picture, drill_result
from hypothesis import given, settings
from hypothesis import strategies as st

ROLE = pathlib.Path(__file__).parents[2] / "roles/drill"
SCHEMA = json.loads((ROLE / "files/drill.schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)

SERVERS = ["server1", "server2", "server3"]
NODES = [*SERVERS, "agent1"]
COMPONENTS = ["kube-controller-manager", "kube-scheduler"]
POD = {node: (f"web-{node}", f"10.1.{number}.5") for number, node in enumerate(NODES)}
BEGAN = 1_700_000_000.0

CONNECTIONS = {
    "unacknowledged_dropped": {"best": 13.0, "typical": 14.0, "worst": 30.0},
    "idle_dropped": {"best": 100.0, "typical": 120.0, "worst": 140.0},
}
BUDGET = {
    "leader": CONNECTIONS
    | {
        "new_leader": {"best": 10.0, "typical": 13.0, "worst": 17.0},
        "node_down": {"best": 25.0, "typical": 31.0, "worst": 40.0},
        "endpoint_gone": {"best": 25.0, "typical": 31.5, "worst": 41.0},
        "requests_end": {"best": 25.0, "typical": 31.5, "worst": 42.0},
        "pods_evicted": {"best": 55.0, "typical": 61.0, "worst": 80.0},
    },
    "other": CONNECTIONS
    | {
        "node_down": {"best": 15.0, "typical": 20.0, "worst": 25.0},
        "endpoint_gone": {"best": 15.0, "typical": 20.0, "worst": 26.0},
        "requests_end": {"best": 15.0, "typical": 20.0, "worst": 27.0},
    },
}


def meta(scenario="leader_loss", victims=("server1",), **more):
    return {
        "id": f"20261121T150000Z-{scenario}",
        "scenario": scenario,
        "cluster": "lab",
        "distribution": "microk8s",
        "release": "v1.32.3",
        "profile": "balanced",
        "method": "command",
        "nodes": NODES,
        "steps": [{"node": node, "did": did} for node in victims for did in ("lost", "returned")],
        "victims": list(victims),
        "budget_seconds": 42 if victims else None,
        "started": "2026-11-21T15:00:00Z",
        "failure": "",
    } | more


def states(key, *changes, clock=0.0):
    return [{"time": BEGAN + clock + time, key: value} for time, value in changes]


def probe(*changes, asked=1000, failed=0, clock=0.0):
    first = {"time": BEGAN + clock, "previous": None, "up": True, "problem": ""}
    return {"asked": asked, "failed": failed, "changes": [first, *looks(*changes, clock=clock)]}


def looks(*changes, clock=0.0):
    """Changes of a probe that asks each 0.1 s."""
    return [
        dict(one, previous=one["time"] - 0.1, problem="" if one["up"] else "EHOSTUNREACH") for one in states("up", *changes, clock=clock)
    ]


def healthy(observer="server2", length=100.0, clock=0.0, leader="server1"):
    """An observer that sees nothing happen; its clock is ahead by so many seconds."""
    everything = {POD[node][0]: {"node": node, "address": POD[node][1]} for node in NODES}
    return {
        "observer": observer,
        "began": BEGAN + clock,
        "ended": BEGAN + clock + length,
        "interval": 0.1,
        "leaders": {name: states("holder", (0.0, leader), clock=clock) for name in COMPONENTS},
        "nodes": {node: states("ready", (0.0, "True"), clock=clock) for node in NODES},
        "endpoints": states("pods", (0.0, everything), clock=clock),
        "requests": [
            [BEGAN + clock + beat / 10, 0.01, POD[NODES[beat % 4]][0], "", POD[NODES[beat % 4]][1]] for beat in range(int(length * 10))
        ],
        "reach": {node: probe(clock=clock) for node in NODES},
        "api": {node: probe(clock=clock) for node in SERVERS},
        "connections": [],
        "error": "",
    }


def controller(clock=0.0, length=100.0):
    seen = healthy("controller", length, clock)
    return seen | {"leaders": {}, "nodes": {}, "endpoints": [], "requests": []}


def lose(seen, node, at, clock=0.0, new_leader=13.2, down=30.1, gone=30.3, back=60.0, up=65.0, failing=30.0):
    """Let the observer see a loss: everything in seconds after it but C(at); None is what does not happen."""

    def later(series, key, *changes):
        series += [{"time": BEGAN + clock + at + time, key: value} for time, value in changes if time is not None]

    def port(kind, *changes):
        seen[kind][node]["changes"] += looks(*((at + time, up) for time, up in changes if time is not None), clock=clock)

    port("reach", (0.0, False), (back, True))
    if node in seen["api"]:
        port("api", (0.1, False), (None if back is None else back + 2, True))
    for changes in seen["leaders"].values():
        if changes[-1]["holder"] == node:
            later(changes, "holder", (new_leader, "server2" if node != "server2" else "server3"))
    if seen["nodes"]:
        later(seen["nodes"][node], "ready", (down, "Unknown"), (up, "True"))
    if seen["endpoints"]:
        before = seen["endpoints"][-1]["pods"]
        without = {pod: where for pod, where in before.items() if where["node"] != node}
        later(seen["endpoints"], "pods", (gone, without), (up, before))
    for request in seen["requests"]:
        since = request[0] - (BEGAN + clock + at)
        if request[4] == POD[node][1] and since >= 0 and (failing is None or since <= failing):
            request[1:4] = [1.0, "", "timed out"]
    return seen


def checked(*arguments):
    """Make a result that keeps to the schema, and survives being written."""
    made = drill_result.result(*arguments)
    VALIDATOR.validate(made)
    again = json.loads(json.dumps(made, allow_nan=False))
    assert again == made
    ElementTree.fromstring(drill_picture.svg(again))  # noqa: S314  # our own
    return made


def failed_checks(result):
    return {check["name"] for check in result["checks"] if check["ok"] is False}


def leader_loss(budget=BUDGET, **times):
    seen = lose(healthy(), "server1", 20.0, **times)
    seen["connections"] = [
        {
            "kind": kind,
            "node": node,
            "opened": BEGAN + 1,
            "dropped": dropped and BEGAN + 20 + dropped,
            "error": "ETIMEDOUT" if dropped else "",
            "settings": {"tcp_retries2": "8"},
        }
        for kind, node, dropped in [("unacknowledged", "server1", 25.0), ("idle", "server1", None), ("idle", "server3", None)]
    ]
    return checked(meta(), [seen, lose(controller(3600.0), "server1", 20.5, 3600.0)], budget)


def test_schema_is_one_and_describes_every_field():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)

    def undescribed(part, path):
        if isinstance(part, dict):
            if "type" in part and "description" not in part:
                yield path
            for name, value in part.items():
                yield from undescribed(value, f"{path}/{name}")
        elif isinstance(part, list):
            for number, value in enumerate(part):
                yield from undescribed(value, f"{path}/{number}")

    assert list(undescribed(SCHEMA, "")) == []
    assert [error.validator for error in VALIDATOR.iter_errors(leader_loss() | {"surprise": 1})] == ["additionalProperties"]


def test_a_leader_loss():
    result = leader_loss()
    (loss,) = result["losses"]
    assert loss["new_leader"] == {"kube-controller-manager": 13.2, "kube-scheduler": 13.2}
    assert loss["new_holder"] == {"kube-controller-manager": "server2", "kube-scheduler": "server2"}
    assert (loss["node_down"], loss["endpoint_gone"], loss["back"], loss["node_up"]) == (30.1, 30.3, 60.0, 65.0)
    # Every fourth request went to server1, the first one as it was lost; one in 0.4 s until 30 s later.
    assert (loss["failed"], loss["first_failed"], loss["last_failed"], loss["requests_end"]) == (76, 0.0, 30.0, 30.1)
    assert loss["uncertainty"] == 0.1
    assert result["requests"]["total"] == 1000
    assert result["requests"]["failed_by_backend"] == {"10.1.0.5": 76}
    assert result["requests"]["spread"] == {"web-server1": 174, "web-server2": 250, "web-server3": 250, "web-agent1": 250}
    assert result["requests"]["problems"] == {"timed out": 76}
    assert result["requests"]["longest_gap"] == 0.2
    assert result["slowest"] == {"new_leader": 13.2, "node_down": 30.1, "endpoint_gone": 30.3, "requests_end": 30.1}
    assert result["passed"]
    assert result["failures"] == []
    assert {check["name"] for check in result["checks"]} == {
        "done",
        "observers",
        "losses_seen",
        "leader_lost",
        "healthy_stayed_ready",
        "recovered",
        "requests_end_with_endpoint",
        "only_dead_backends",
        "budget",
        "within_computed",
    }
    assert [(change["to"], change["time"]) for change in result["leader_changes"]] == [("server2", 13.2)] * 2
    assert [(change["node"], change["ready"], change["time"]) for change in result["ready_changes"]] == [
        ("server1", "Unknown", 30.1),
        ("server1", "True", 65.0),
    ]


def test_clocks_need_not_agree():
    result = leader_loss()
    assert [(one["observer"], one["start"], one["end"]) for one in result["observers"]] == [
        ("server2", -20.0, 80.0),
        ("controller", -20.5, 79.5),
    ]
    down = {(one["observer"], one["node"]): one["longest_down"] for one in result["api"]}
    assert down["server2", "server1"] == down["controller", "server1"] == 61.9
    assert down["server2", "server2"] == 0


def test_measured_stands_beside_computed():
    result = leader_loss()
    steps = {step["name"]: step for step in result["losses"][0]["steps"]}
    assert list(steps) == ["new_leader", "node_down", "endpoint_gone", "requests_end", "pods_evicted"]
    assert steps["new_leader"] == {
        "name": "new_leader", "measured": 13.2, "best": 10.0, "typical": 13.0, "worst": 17.0, "within": True, "close": False,
    }  # fmt: skip
    assert (steps["pods_evicted"]["measured"], steps["pods_evicted"]["within"]) == (None, None)
    assert result["computed_close"] is False
    assert leader_loss(new_leader=15.0, down=33.0, gone=34.0, failing=34.0)["computed_close"] is True
    assert leader_loss(None)["computed_close"] is None


@pytest.mark.parametrize(("led", "worst"), [(True, 41.0), (None, 41.0), (False, 35.0)])
def test_who_did_not_lead_the_datastore_is_measured_without_its_election(led, worst):
    without = {"leader": BUDGET["leader"] | {"endpoint_gone": {"best": 25.0, "typical": 31.5, "worst": 35.0}}}
    known = {} if led is None else {"led_datastore": {"server1": led}}
    (loss,) = checked(meta(**known), [lose(healthy(), "server1", 20.0)], BUDGET | {"without_election": without})["losses"]
    assert loss["led_datastore"] is led
    assert {step["name"]: step for step in loss["steps"]}["endpoint_gone"]["worst"] == worst


def test_connections():
    sending, idle, elsewhere = leader_loss()["connections"]
    assert (sending["measured"], sending["error"], sending["worst"], sending["within"], sending["close"]) == (
        25.0,
        "ETIMEDOUT",
        30.0,
        True,
        True,
    )
    assert (idle["measured"], idle["worst"], idle["within"], idle["lost"]) == (None, 140.0, None, True)
    assert (elsewhere["lost"], elsewhere["worst"]) == (False, None)


def test_a_connection_that_outlives_what_was_computed():
    budget = BUDGET | {"leader": BUDGET["leader"] | {"idle_dropped": {"best": 10.0, "typical": 20.0, "worst": 40.0}}}
    result = leader_loss(budget)
    assert failed_checks(result) == {"within_computed"}
    assert result["failures"] == ["idle_dropped of server1: never instead of 40.0 s at worst"]


@pytest.mark.parametrize(
    ("times", "failing"),
    [
        ({"new_leader": 17.5}, {"within_computed"}),
        ({"down": 44.0, "gone": 44.1}, {"budget", "within_computed"}),
        ({"gone": None}, {"recovered", "budget", "requests_end_with_endpoint"}),
        ({"failing": 31.6}, {"requests_end_with_endpoint"}),
        ({"failing": None}, {"recovered", "requests_end_with_endpoint"}),
        ({"back": None, "up": None}, {"recovered"}),
        ({"up": None}, {"recovered"}),
        ({"new_leader": None}, {"recovered"}),
    ],
)
def test_what_fails_a_leader_loss(times, failing):
    assert failed_checks(leader_loss(**times)) == failing


def test_a_healthy_node_that_flaps():
    seen = lose(healthy(), "server1", 20.0)
    seen["nodes"]["agent1"] += states("ready", (30.0, "Unknown"), (32.0, "True"))
    result = checked(meta(), [seen])
    assert failed_checks(result) == {"healthy_stayed_ready"}
    assert result["failures"] == ["agent1 was Unknown at 10.0 s"]
    assert result["healthy_not_ready"] == [{"observer": "server2", "node": "agent1", "time": 10.0, "ready": "Unknown"}]


def test_a_victim_is_healthy_until_it_is_lost():
    seen = healthy(length=200.0)
    seen["nodes"]["server1"] += states("ready", (20.0, "Unknown"), (22.0, "True"))
    assert failed_checks(checked(meta(), [lose(seen, "server1", 100.0)])) == {"healthy_stayed_ready"}


def test_an_orderly_shutdown_speaks_before_its_port_closes():
    result = checked(meta(), [lose(healthy(), "server1", 20.0, down=-2.0, gone=-1.8, failing=-1.0)])
    (loss,) = result["losses"]
    assert (loss["node_down"], loss["endpoint_gone"], loss["had_endpoint"], loss["failed"]) == (0.0, 0.0, True, 0)
    assert loss["requests_end"] is None
    assert result["passed"]


def test_a_request_to_a_backend_that_is_alive():
    seen = lose(healthy(), "server1", 20.0)
    seen["requests"][301][2:4] = ["", "ECONNREFUSED"]
    result = checked(meta(), [seen])
    assert failed_checks(result) == {"only_dead_backends"}
    assert result["requests"]["failed_at_live_backends"] == 1
    assert result["requests"]["only_dead_backends"] is False


def test_requests_of_which_nobody_knows_the_backend():
    seen = lose(healthy(), "server1", 20.0)
    for request in seen["requests"]:
        request[4] = ""
    result = checked(meta(), [seen])
    assert result["requests"]["failed_unknown_backend"] == result["requests"]["failed"] == 76
    assert [check["ok"] for check in result["checks"] if check["name"] == "only_dead_backends"] == [None]
    assert result["passed"]


@pytest.mark.parametrize("address", ["10.1.0.5", "10.1.0.9"])
def test_a_returning_node_whose_pod_is_ready_too_early(address):
    seen = lose(healthy(), "server1", 20.0)
    seen["endpoints"][-1]["pods"] = seen["endpoints"][-1]["pods"] | {"web-new": {"node": "server1", "address": address}}
    for beat in (850, 854):
        seen["requests"][beat][1:5] = [1.0, "", "timed out", address]
    result = checked(meta(), [seen, lose(controller(3600.0), "server1", 20.5, 3600.0)], BUDGET)
    (loss,) = result["losses"]
    assert (loss["failed"], loss["failed_after_return"], loss["last_failed"], loss["requests_end"]) == (76, 2, 30.0, 30.1)
    assert result["requests"]["failed"] == 78
    assert result["passed"]


def test_requests_that_fail_after_the_return_at_a_backend_that_stayed():
    seen = lose(healthy(), "server1", 20.0)
    seen["requests"][851][2:4] = ["", "ECONNREFUSED"]
    result = checked(meta(), [seen])
    assert result["losses"][0]["failed_after_return"] == 1
    assert failed_checks(result) == {"only_dead_backends"}


def test_requests_that_fail_through_the_return_to_the_end():
    result = checked(meta(), [lose(healthy(), "server1", 20.0, failing=None)])
    (loss,) = result["losses"]
    # Until it answers again 60 s later, and from then on.
    assert (loss["failed"], loss["failed_after_return"], loss["requests_end"]) == (150, 50, None)
    assert "recovered" in failed_checks(result)


def test_a_request_that_failed_before_the_loss():
    seen = lose(healthy(), "server1", 20.0)
    seen["requests"][100][2:5] = ["", "timed out", ""]
    assert failed_checks(checked(meta(), [seen])) == {"requests_end_with_endpoint"}


def test_a_port_that_did_not_answer_once_is_no_loss():
    seen = lose(healthy(), "server1", 20.0)
    seen["reach"]["server1"]["changes"][1:1] = looks((5.0, False), (5.1, True))
    assert checked(meta(), [seen])["losses"][0]["node_down"] == 30.1


def test_an_observer_that_may_not_ask_kubelets():
    blind = lose(healthy("agent1", clock=-50.0), "server1", 20.0, clock=-50.0)
    blind["reach"] = {node: {"asked": 100, "failed": 100, "changes": looks((0.0, False), clock=-50.0)} for node in NODES}
    blind["api"] = {}
    result = checked(meta(), [blind, lose(healthy(), "server1", 20.0)])
    assert [(one["observer"], one["losses_seen"], one["start"]) for one in result["observers"]] == [
        ("agent1", 0, -20.0),
        ("server2", 1, -20.0),
    ]
    assert [view["observer"] for view in result["losses"][0]["seen_by"]] == ["server2"]
    assert result["requests"]["failed"] == 152
    assert result["passed"]


def test_a_frozen_api_server_whose_port_never_closes():
    seen = lose(healthy(), "server1", 20.0)
    seen["reach"]["server1"] = probe()
    (loss,) = checked(meta(), [seen])["losses"]
    assert (loss["node_down"], loss["back"]) == (30.0, 61.9)


def test_two_observers_the_slower_one_counts():
    slow = lose(healthy("server3", clock=7.0), "server1", 20.0, clock=7.0, gone=35.0, failing=34.0)
    result = checked(meta(), [lose(healthy(), "server1", 20.0), slow])
    assert (result["slowest"]["endpoint_gone"], result["losses"][0]["failed"]) == (35.0, 76 + 86)
    slow = lose(healthy("server3", clock=7.0), "server1", 20.0, clock=7.0, gone=None, failing=30.0)
    result = checked(meta(), [lose(healthy(), "server1", 20.0), slow])
    assert result["slowest"]["endpoint_gone"] is None
    assert "recovered" in failed_checks(result)


def alternation():
    seen, clock = [], 0.0
    for observer in ("agent1", "controller"):
        one = (healthy if observer == "agent1" else controller)(length=500.0, clock=clock)
        one["observer"] = observer
        for number, node in enumerate(SERVERS):
            lose(
                one,
                node,
                20.0 + 150 * number,
                clock=clock,
                down=20.0 + number,
                gone=20.2 + number,
                failing=20.0 + number,
                new_leader=12.0 + number,
            )
        seen.append(one)
        clock = 3.0
    return checked(meta("apiserver_alternation", SERVERS), seen, BUDGET)


def test_an_alternation_measures_each_loss():
    result = alternation()
    assert [(loss["node"], loss["after_first"], loss["endpoint_gone"], loss["back"]) for loss in result["losses"]] == [
        ("server1", 0.0, 20.2, 60.0),
        ("server2", 150.0, 21.2, 60.0),
        ("server3", 300.0, 22.2, 60.0),
    ]
    # server1 led, then server2; server3 took over from it.
    assert [loss["new_leader"].get("kube-scheduler") for loss in result["losses"]] == [12.0, 13.0, 14.0]
    assert result["slowest"]["endpoint_gone"] == 22.2
    assert result["passed"]
    assert result["no_api"] == []


def test_a_node_that_is_lost_twice():
    seen = healthy(length=400.0)
    lose(lose(seen, "server1", 20.0), "server1", 200.0, down=25.0)
    result = checked(meta(victims=["server1", "server1"]), [seen])
    assert [(loss["after_first"], loss["node_down"], loss["role"]) for loss in result["losses"]] == [
        (0.0, 30.1, "leader"),
        (180.0, 25.0, "other"),
    ]


def test_losses_that_overlap_share_what_follows():
    seen = lose(lose(healthy(), "server1", 20.0), "agent1", 20.2)
    result = checked(meta(victims=["server1", "agent1"]), [seen])
    assert [loss["node_down"] for loss in result["losses"]] == [30.1, 30.1]
    assert result["requests"]["only_dead_backends"]


def test_moments_in_which_no_api_server_answered():
    seen = healthy()
    for number, server in enumerate(SERVERS):
        seen["api"][server] = probe((10.0 + number, False), (20.0, True), failed=10)
    result = checked(meta("rolling_restart", []), [seen])
    assert result["no_api"] == [{"observer": "server2", "start": 12.0, "seconds": 8.0}]
    assert result["passed"]


def test_a_rolling_restart():
    seen = healthy()
    seen["nodes"]["server1"] += states("ready", (10.0, "False"), (12.0, "True"))
    steps = [{"node": node, "did": "restarted"} for node in NODES]
    result = checked(meta("rolling_restart", NODES, steps=steps), [seen], BUDGET)
    assert result["losses"] == []
    assert result["healthy_not_ready"] == []
    assert result["passed"]
    seen["nodes"]["server1"] += states("ready", (30.0, "Unknown"), (32.0, "True"))
    seen["requests"][7][2:4] = ["", "ECONNRESET"]
    result = checked(meta("rolling_restart", [], steps=steps), [seen])
    assert failed_checks(result) == {"healthy_stayed_ready", "no_request_failed", "only_dead_backends"}


def test_a_soak():
    seen = healthy()
    assert checked(meta("soak", []), [seen])["passed"]
    seen["leaders"]["kube-scheduler"] += states("holder", (50.0, "server3"))
    result = checked(meta("soak", []), [seen])
    assert result["failures"] == ["server3 took the Lease of kube-scheduler from server1"]
    seen["nodes"]["agent1"] += states("ready", (60.0, "False"))
    assert failed_checks(checked(meta("soak", []), [seen])) == {"leaders_stayed", "healthy_stayed_ready"}


def test_nothing_recovers():
    result = leader_loss(new_leader=None, down=None, gone=None, back=None, up=None, failing=None)
    (loss,) = result["losses"]
    assert set(loss["new_leader"].values()) == {None}
    assert result["slowest"] == {"new_leader": None, "node_down": None, "endpoint_gone": None, "requests_end": None}
    assert failed_checks(result) == {"recovered", "requests_end_with_endpoint", "budget"}


def test_an_observer_with_an_error():
    seen = lose(healthy(), "server1", 20.0) | {"error": "watch of endpoints: 403"}
    result = checked(meta(), [seen])
    assert result["failures"] == ["server2: watch of endpoints: 403"]
    assert result["losses"][0]["endpoint_gone"] == 30.3


@pytest.mark.parametrize("scenario", ["leader_loss", "soak"])
def test_nobody_looked(scenario):
    result = checked(meta(scenario), [])
    assert "observers" in failed_checks(result)
    empty = {"observer": "server2", "began": BEGAN, "ended": BEGAN, "interval": 0.1, "error": ""}
    empty |= {"leaders": {}, "nodes": {}, "endpoints": [], "requests": [], "reach": {}, "api": {}, "connections": []}
    result = checked(meta(scenario), [empty, controller()])
    assert "observers" in failed_checks(result)


def test_a_loss_that_nobody_saw():
    result = checked(meta(), [healthy()])
    assert failed_checks(result) == {"losses_seen", "recovered"}
    assert result["failures"][0] == "nobody saw the loss of server1"


def test_a_failed_request_of_which_the_pod_is_known():
    seen = lose(healthy(), "server1", 20.0)
    for request in seen["requests"]:
        if request[3]:
            request[2], request[4] = "web-server1", ""
    assert checked(meta(), [seen])["requests"]["failed_by_backend"] == {"10.1.0.5": 76}


def test_an_observer_that_knows_when_it_asked_before():
    seen = lose(healthy(), "server1", 20.0)
    seen["reach"]["server1"]["changes"][1]["previous"] = BEGAN + 19.75
    assert checked(meta(), [seen])["losses"][0]["uncertainty"] == 0.25


def test_a_connection_belongs_to_the_loss_that_it_met():
    seen = lose(lose(healthy(length=400.0), "server1", 20.0), "server1", 200.0)
    opened = {"kind": "idle", "node": "server1", "opened": BEGAN + 150, "dropped": BEGAN + 210, "error": "ETIMEDOUT", "settings": {}}
    early = opened | {"opened": BEGAN + 1, "dropped": BEGAN + 5}
    after = opened | {"opened": BEGAN + 300, "dropped": BEGAN + 310}
    rows = checked(meta(victims=["server1", "server1"]), [seen | {"connections": [opened, early, after]}])["connections"]
    assert [(row["lost"], row["measured"]) for row in rows] == [(True, 10.0), (False, 4.0), (False, 10.0)]


def test_an_observer_on_the_lost_node():
    """Where only Kubernetes stops, the machine goes on watching; one that is cut off does not see itself go."""
    seen = lose(healthy("server1"), "server1", 20.0)
    assert checked(meta(), [seen])["losses"][0]["seen_by"][0]["observer"] == "server1"
    seen["reach"]["server1"] = seen["api"]["server1"] = probe()
    assert "losses_seen" in failed_checks(checked(meta(), [seen]))


def test_a_drill_that_was_not_done_as_planned():
    result = checked(meta(failure="Give the node back: timed out"), [lose(healthy(), "server1", 20.0)])
    assert result["failures"] == ["Give the node back: timed out"]


@pytest.mark.parametrize(("asked", "kept"), [("42", 42.0), (30, 30.0), ("0", None), (0, None), ("", None), (None, None)])
def test_the_budget_as_the_command_line_gives_it(asked, kept):
    result = checked(meta(budget_seconds=asked), [lose(healthy(), "server1", 20.0)])
    assert result["budget_seconds"] == kept
    assert failed_checks(result) == ({"budget"} if kept == 30 else set())


def test_a_budget_that_was_not_tried():
    seen = healthy()
    for snapshot in seen["endpoints"]:
        del snapshot["pods"]["web-server1"]
    for request in seen["requests"]:
        request[2], request[4] = POD["server2"]
    result = checked(meta(), [lose(seen, "server1", 20.0)])
    assert [check["ok"] for check in result["checks"] if check["name"] == "budget"] == [None]
    assert result["losses"][0]["had_endpoint"] is False


def test_past_drills():
    now = leader_loss()
    past = [now | {"id": f"202611{day:02}T150000Z-leader_loss"} for day in range(1, 15)]
    others = [past[0] | {"cluster": "other"}, past[0] | {"scenario": "soak"}, past[0] | {"schema": 2}, {"broken": True}]
    rows = drill_result.compared(now, [*past, *others, now])
    assert [row["id"][6:8] for row in rows] == [f"{day:02}" for day in range(14, 4, -1)]
    assert rows[0] | {"id": ""} == {
        "id": "",
        "profile": "balanced",
        "new_leader": 13.2,
        "endpoint_gone": 30.3,
        "failed": 76,
        "longest_gap": 0.2,
        "passed": True,
    }


def test_failed_requests_are_listed_up_to_a_limit_and_counted_beyond(monkeypatch):
    monkeypatch.setattr(drill_result, "KEPT", 10)
    series = leader_loss()["series"]
    assert (len(series["failed"]), series["failed_left_off"]) == (10, 66)
    assert sum(failed for _second, _good, failed in series["requests"]) == 76


# ---------------------------------------------------------------- picture and texts


@pytest.mark.parametrize("make", [leader_loss, alternation])
def test_the_picture_marks_what_was_measured(make):
    result = make()
    root = ElementTree.fromstring(drill_picture.svg(result))  # noqa: S314  # our own
    words = ["".join(text.itertext()) for text in root.iter("{http://www.w3.org/2000/svg}text")]
    for loss in result["losses"]:
        assert f"{loss['node']} lost" in words
        assert f"endpoint gone {loss['endpoint_gone']:.1f} s" in words
    ticks = [
        line for line in root.iter("{http://www.w3.org/2000/svg}line") if line.get("stroke") == drill_picture.BAD and not line.get("class")
    ]
    assert len(ticks) == result["requests"]["failed"]
    dashed = [line for line in root.iter("{http://www.w3.org/2000/svg}line") if line.get("stroke-dasharray")]
    assert len(dashed) == len(result["losses"])


HOSTILE = "<script>alert('&\"')</script>"
UNPRINTABLE = "\x00\x1b]0;\ud800"


def hostile(name=HOSTILE):
    seen = json.loads(json.dumps(lose(healthy(), "server1", 20.0)).replace("web-server1", "web-server1" + json.dumps(name)[1:-1]))
    for request in seen["requests"]:
        if request[3]:
            request[3], request[4] = name, name
    return drill_result.result(meta(cluster=name, profile=name, id=name), [seen], BUDGET)


@pytest.mark.parametrize("name", [HOSTILE, HOSTILE + UNPRINTABLE])
def test_hostile_names_stay_text_in_the_picture(name):
    picture = drill_picture.svg(hostile(name))
    assert "<script" not in picture
    assert "&lt;script&gt;" in picture
    ElementTree.fromstring(picture)  # noqa: S314  # our own


def early_pod():
    seen = lose(healthy(), "server1", 20.0)
    seen["requests"][852][1:4] = [1.0, "", "timed out"]
    return checked(meta(), [seen], BUDGET)


CASES = {
    "passed": leader_loss,
    "early pod": early_pod,
    "alternation": alternation,
    "uncomputed": lambda: leader_loss(None),
    "failed": lambda: leader_loss(gone=None, back=None, up=None),
    "soak": lambda: drill_result.result(meta("soak", []), [healthy()]),
    "unwatched": lambda: drill_result.result(meta(), []),
    "hostile": hostile,
}
PLAY = """
- hosts: all
  gather_facts: false
  tasks:
    - ansible.builtin.set_fact:
        drill_document: "{{ lookup('ansible.builtin.file', playbook_dir ~ '/' ~ inventory_hostname ~ '.json') | from_json }}"
    - ansible.builtin.set_fact:
        drill_past: "{{ drill_document | kubekeel.ha.drill_compared([drill_document | combine({'id': drill_document.id ~ '-before'})]) }}"
    - ansible.builtin.copy:
        content: "{{ lookup('ansible.builtin.template', templates ~ '/drill.' ~ item ~ '.j2') }}"
        dest: "{{ playbook_dir }}/{{ inventory_hostname }}.{{ item }}"
        mode: "0644"
      loop: [txt, html]
      vars:
        drill_files: {result: drills/r.json}
"""


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """Each case as text and as page, as Ansible renders them."""
    folder = tmp_path_factory.mktemp("drill")
    results = {name: make() for name, make in CASES.items()}
    for name, result in results.items():
        (folder / f"{name}.json").write_text(json.dumps(result))
    (folder / "play.yml").write_text(PLAY)
    values = {"templates": str(ROLE / "templates"), "ansible_python_interpreter": sys.executable, "ansible_connection": "local"}
    command = ["ansible-playbook", "-i", ",".join(CASES) + ",", "-e", json.dumps(values), str(folder / "play.yml")]
    environment = os.environ | {"ANSIBLE_COLLECTIONS_PATH": str(ROLE.parents[1] / ".collections")}
    done = subprocess.run(command, env=environment, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return {(name, kind): (results[name], (folder / f"{name}.{kind}").read_text()) for name in CASES for kind in ("txt", "html")}


@pytest.mark.parametrize("kind", ["txt", "html"])
@pytest.mark.parametrize("name", CASES)
def test_texts_say_how_it_ended_and_what_was_measured(texts, name, kind):
    result, text = texts[name, kind]
    flat = " ".join(text.split())
    assert ("PASSED: " if result["passed"] else "FAILED: ") in re.sub("<[^>]*>", "", flat)
    assert "drills/r.json" in text
    for check in result["checks"]:
        assert (
            check["text"] if kind == "txt" else html.escape(check["text"]).replace("&#x27;", "&#39;").replace("&quot;", "&#34;")
        ) in flat
    for step in (step for loss in result["losses"] for step in loss["steps"]):
        for value in (step["measured"], step["worst"]):
            assert value is None or re.search(rf"\b{value:.1f}\b", text)


@pytest.mark.parametrize("kind", ["txt", "html"])
def test_texts_count_requests_that_failed_after_the_return_where_there_are_any(texts, kind):
    flat = " ".join(re.sub("<[^>]*>", " ", texts["early pod", kind][1]).split())
    assert "failed after its return 1 " in flat
    assert "after its return" not in texts["passed", kind][1]


def test_texts_name_past_drills(texts):
    for kind in ("txt", "html"):
        assert "20261121T150000Z-leader_loss-before" in texts["passed", kind][1]


def test_lines_of_the_text_have_no_spaces_at_their_end_and_no_gaps(texts):
    for name in CASES:
        text = texts[name, "txt"][1]
        assert [line for line in text.splitlines() if line != line.rstrip()] == []
        assert "\n\n\n" not in text


def test_hostile_names_stay_text_in_the_page(texts):
    page = texts["hostile", "html"][1]
    assert "<script" not in page
    assert page.count("&lt;script&gt;") > 10


# ---------------------------------------------------------------- whatever was observed

TIME = st.floats(-1e9, 1e10, allow_nan=False)
NODE = st.sampled_from([*NODES, "stranger", HOSTILE, UNPRINTABLE])
NAME = st.text(max_size=8) | NODE


def changes(key, values):
    return st.lists(st.fixed_dictionaries({"time": TIME, key: values}), max_size=5)


LOOK = st.fixed_dictionaries({"time": TIME, "previous": st.none() | TIME, "up": st.booleans()})
PROBES = st.dictionaries(
    NODE,
    st.fixed_dictionaries({"asked": st.integers(0, 99), "failed": st.integers(0, 99), "changes": st.lists(LOOK, max_size=5)}),
    max_size=3,
)
CONNECTION = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(["unacknowledged", "idle"]),
        "node": NODE,
        "opened": TIME,
        "dropped": st.none() | TIME,
        "error": NAME,
        "settings": st.just({"tcp_retries2": "8"}),
    }
)
OBSERVATION = st.fixed_dictionaries(
    {
        "observer": st.sampled_from([*NODES, "controller"]),
        "began": TIME,
        "ended": TIME,
        "interval": st.just(0.1),
        "leaders": st.dictionaries(st.sampled_from(COMPONENTS), changes("holder", NAME), max_size=2),
        "nodes": st.dictionaries(NODE, changes("ready", st.sampled_from(["True", "False", "Unknown"])), max_size=3),
        "endpoints": changes("pods", st.dictionaries(NAME, st.fixed_dictionaries({"node": NODE, "address": NAME}), max_size=3)),
        "requests": st.lists(st.tuples(TIME, st.floats(0, 100), NAME, st.just("") | NAME, NAME).map(list), max_size=8),
        "reach": PROBES,
        "api": PROBES,
        "connections": st.lists(CONNECTION, max_size=3),
        "error": st.just("") | NAME,
    }
)


@settings(max_examples=150, deadline=None)
@given(
    scenario=st.sampled_from(["leader_loss", "apiserver_alternation", "rolling_restart", "soak"]),
    victims=st.lists(st.sampled_from(NODES), max_size=4),
    observations=st.lists(OBSERVATION, max_size=3),
    budget=st.sampled_from([None, BUDGET, {}, {"leader": {}, "other": {}, "slowest": "leader", "largest": []}]),
)
def test_whatever_was_observed_has_a_result_and_a_picture(scenario, victims, observations, budget):
    result = checked(meta(scenario, victims), observations, budget)
    assert result["passed"] == (not failed_checks(result))
    assert "<script" not in drill_picture.svg(result)
    assert result["requests"]["failed"] + sum(result["requests"]["spread"].values()) == result["requests"]["total"]
    assert all(loss["failed"] <= result["requests"]["failed"] for loss in result["losses"])
