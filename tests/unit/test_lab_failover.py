"""What the failover bench makes of the results of drills."""

import argparse
import json
import math
from typing import Any

import pytest

from tests.bench_failover import NODES, Outcome, as_json, loss, missed, soak, table, words


def step(name: str, measured: float | None, typical: float, worst: float) -> dict[str, Any]:
    return {"name": name, "measured": measured, "best": 1.0, "typical": typical, "worst": worst}


def view(gone: float | None, last: float | None) -> dict[str, Any]:
    return {"endpoint_gone": gone, "last_failed": last}


def lost(gone: float | None = 38.0, worst: float = 42.0, **changes: Any) -> dict[str, Any]:
    """A result of a drill that lost the leader; one observer, no request failed too late."""
    dropped = [
        {"kind": "unacknowledged", "measured": 103.0, "worst": 116.0, "lost": True},
        {"kind": "unacknowledged", "measured": 105.5, "worst": 116.0, "lost": True},
        {"kind": "unacknowledged", "measured": None, "worst": None, "lost": False},
        {"kind": "idle", "measured": None, "worst": 136.0, "lost": True},
    ]
    steps = [step("new_leader", 17.5, 17.3, 19.4), step("endpoint_gone", gone, 38.5, worst)]
    return {
        "id": "1",
        "losses": [{"steps": steps, "seen_by": [view(gone, None), view(gone, None if gone is None else gone + 0.5)]}],
        "connections": dropped,
        "healthy_not_ready": [],
        "leader_changes": [{"observer": "a"}],
        "requests": {"failed": 12},
        "failures": [],
    } | changes


def shaken(**changes: Any) -> dict[str, Any]:
    return {"id": "2", "healthy_not_ready": [], "leader_changes": [], "requests": {"failed": 0}, "failures": []} | changes


def outcome(name: str = "balanced", distribution: str = "microk8s", **changes: Any) -> Outcome:
    values: dict[str, Any] = {"loss": lost(), "soak": shaken(), "soaked": True}
    return Outcome(distribution, name, 1, **(values | changes))


def test_values_of_an_outcome() -> None:
    one = outcome()
    assert (one.step("new_leader"), one.step("endpoint_gone", "worst")) == (17.5, 42.0)
    assert one.ratio() == pytest.approx(42 / 38)
    assert one.late_failure() == pytest.approx(0.5)
    assert (one.connection("unacknowledged"), one.connection("unacknowledged", "worst")) == (105.5, 116.0)
    assert (one.connection("idle"), one.connection("idle", "worst")) == (None, 136.0)
    assert missed([one]) == []


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (outcome(loss=lost(43.0, 44.0)), ["endpoint gone, s: 43.00 instead of at most 42"]),
        (outcome(distribution="k3s", loss=lost(43.0, 44.0)), []),
        (outcome("fast", loss=lost(19.0, 20.0)), []),
        (outcome("fast", loss=lost(20.5, 21.0)), ["endpoint gone, s: 20.50 instead of at most 20"]),
        (outcome(loss=lost(38.0, 37.0)), ["endpoint gone, computed worst / measured: 0.97 instead of 1 to 1.25"]),
        (outcome(loss=lost(30.0, 42.0)), ["endpoint gone, computed worst / measured: 1.40 instead of 1 to 1.25"]),
        (outcome(loss=lost(healthy_not_ready=[{"node": "a"}, {"node": "a"}])), ["healthy nodes NotReady: 1.00 instead of at most 0"]),
        (
            outcome(soak=shaken(leader_changes=[{"observer": "a"}, {"observer": "b"}])),
            ["leader changes in the soak: 1.00 instead of at most 0"],
        ),
        (outcome(soak={}), ["leader changes in the soak: not measured", "nodes NotReady in the soak: not measured"]),
        (outcome("defaults", soak={}, soaked=False), []),
        (
            outcome(loss=lost(None)),
            ["endpoint gone, s: not measured", "endpoint gone, computed worst / measured: not measured"],
        ),
        (outcome(errors=["the remediation failed"]), ["the remediation failed"]),
    ],
)
def test_targets(one: Outcome, expected: list[str]) -> None:
    assert missed([one]) == [f"{one.title}: {line}" for line in expected]


def test_a_request_that_failed_although_no_endpoint_went() -> None:
    one = outcome(loss=lost(losses=[{"steps": [], "seen_by": [view(None, 3.0)]}]))
    assert one.late_failure() == math.inf
    json.dumps(as_json([one]), allow_nan=False)


def test_an_outcome_without_a_result_is_shown() -> None:
    nothing = Outcome("k3s", "fast", 2, errors=["the lab does not come up"])
    described = as_json([outcome(), nothing])
    assert described["rows"][0]["endpoint gone, s: computed worst"] == 42.0
    assert described["rows"][1]["new leader, s"] is None
    assert described["missed"][0] == "k3s fast #2: the lab does not come up"
    assert table([outcome(), nothing]).row_count == 16


def test_variables_of_the_drills(tmp_path: Any) -> None:
    assert "kubekeel_profile" not in loss("bench", "defaults", tmp_path)
    assert loss("bench", "fast", tmp_path)["kubekeel_profile"] == "fast"
    assert [soak("bench", name, tmp_path, 15)["drill_freeze_seconds"] for name in ("balanced", "fast")] == [6, 3]


def test_names_are_read_in_the_known_order() -> None:
    assert words(tuple(NODES))("k3s, microk8s") == ["microk8s", "k3s"]
    for text in ("", "k0s"):
        with pytest.raises(argparse.ArgumentTypeError):
            words(tuple(NODES))(text)
