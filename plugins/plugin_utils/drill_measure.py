"""What one loss of a drill led to, measured and beside what was computed. Pure.

Times are seconds after the loss, as the observer saw it; infinity stands for what never happened, and becomes None in a result.
"""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.kubekeel.ha.plugins.plugin_utils.drill_seen import Loss, Request, Seen, States

Budget = Mapping[str, Any]
"""What was computed from the settings, as C(failover.Budget.as_dict) returns it; empty where nothing was."""

CONTROLLER_MANAGER = "kube-controller-manager"
"""Whose loss delays everything else: nobody looks after nodes until another one leads."""
STEPS = ("new_leader", "node_down", "endpoint_gone", "requests_end", "pods_evicted")
BEFORE = 30.0
"""An orderly shutdown tells of itself so many seconds before its port closes, at most: what turns then belongs to the loss."""
QUIET = 5.0
"""Seconds without a failed request after which they have ended."""
CLOSE = 1.25
"""A computed worst case up to so many times the measured one says something; a longer one is only safe."""


def rounded(seconds: float | None) -> float | None:
    """Return seconds to the millisecond, None for what never happened."""
    # + 0.0 takes the sign from a zero.
    return None if seconds is None or math.isinf(seconds) else round(float(seconds), 3) + 0.0


def suffered(request: Request, loss: Loss) -> bool:
    """Tell whether a request may have suffered from a loss: it was on its way or asked afterwards."""
    return request.ended >= loss.time - loss.uncertainty and request.began < loss.until


def measured(everyone: Sequence[Seen], number: int, budget: Budget, led_datastore: bool | None = None) -> dict[str, Any]:
    """Return what one loss led to: as each observer saw it, and of each measure the slowest.

    Args:
        everyone: what the observers saw.
        number: of the loss.
        budget: what was computed.
        led_datastore: whether the lost node led the datastore, None where nobody knows: then it is reckoned with.
    """
    computed: Budget = budget.get("without_election", budget) if led_datastore is False else budget
    views = [_view(seen, seen.losses[number]) for seen in everyone if seen.losses[number].seen]
    components = sorted({component for view in views for component in view["new_leader"]})
    failing = [view for view in views if view["failed"]]
    role = "leader" if CONTROLLER_MANAGER in components else "other"
    found: dict[str, Any] = {
        "node": everyone[0].losses[number].node,
        "role": role,
        "led_datastore": led_datastore,
        "after_first": rounded(everyone[0].losses[number].time),
        "uncertainty": max(view["uncertainty"] for view in views),
        "new_leader": {name: latest(view["new_leader"][name] for view in views if name in view["new_leader"]) for name in components},
        "new_holder": {component: holder for view in views for component, holder in view["new_holder"].items()},
        "node_down": latest(view["node_down"] for view in views if view["watched_nodes"]),
        "had_endpoint": any(view["had_endpoint"] for view in views),
        "endpoint_gone": latest(view["endpoint_gone"] for view in views if view["had_endpoint"]),
        "failed": sum(view["failed"] for view in views),
        "failed_after_return": sum(view["failed_after_return"] for view in views),
        "first_failed": min((view["first_failed"] for view in failing), default=None),
        "last_failed": max((view["last_failed"] for view in failing), default=None),
        "requests_end": latest(view["requests_end"] for view in failing),
        "back": latest(view["back"] for view in views),
        "node_up": latest(view["node_up"] for view in views if view["node_down"] is not None),
        "seen_by": views,
    }
    times = found | {"new_leader": latest(found["new_leader"].values())}
    found["steps"] = [
        _beside(name, times.get(name), computed, "leader" if name == "new_leader" else role)
        for name in STEPS
        if name != "new_leader" or components
    ]
    return found


def _view(seen: Seen, loss: Loss) -> dict[str, Any]:
    """Return what one observer saw of one loss."""

    def after(time: float) -> float | None:
        return rounded(time - loss.time)

    taken = {
        component: next(((time, who) for time, who in states if loss.time < time <= loss.until and who != loss.node), (math.inf, ""))
        for component, states in seen.leaders.items()
        if _at(states, loss.time) == loss.node
    }
    ready = seen.nodes.get(loss.node, [])
    down = _turned(ready, loss, lambda state: state != "True")
    present = seen.present(loss.node)
    gone = _turned(present, loss, lambda there: not there)
    failed = [request.began for request in seen.failed if suffered(request, loss)]
    # What fails later is due to the node that returned: its pod was Ready before it could be reached.
    away = [began for began in failed if began < loss.back]
    return {
        "observer": seen.name,
        "uncertainty": rounded(loss.uncertainty),
        "new_leader": {component: after(time) for component, (time, _who) in taken.items()},
        "new_holder": {component: who for component, (_time, who) in taken.items() if who},
        "watched_nodes": bool(ready),
        "node_down": after(down),
        "had_endpoint": bool(_at(present, loss.time)) or gone < math.inf,
        "endpoint_gone": after(gone),
        "failed": len(away),
        "failed_after_return": len(failed) - len(away),
        "first_failed": after(min(away, default=math.inf)),
        "last_failed": after(max(away, default=math.inf)),
        "requests_end": after(_end(seen.requests, away[-1], loss.until) if away else math.inf),
        "back": after(loss.back),
        "node_up": after(next((time for time, state in ready if down < time <= loss.until and state == "True"), math.inf)),
    }


def _at(states: States, time: float) -> Any:
    """Return the state at a time, None before the first look."""
    return next((state for since, state in reversed(states) if since <= time), None)


def _turned(states: States, loss: Loss, wanted: Callable[[Any], bool]) -> float:
    """Return when the state turned to a wanted one by the loss; where it did so shortly before, the loss itself."""
    turns = [time for (_since, before), (time, state) in itertools.pairwise(states) if wanted(state) and not wanted(before)]
    if wanted(_at(states, loss.time)):
        return loss.time if any(loss.time - BEFORE <= time <= loss.time for time in turns) else math.inf
    return next((time for time in turns if loss.time < time <= loss.until), math.inf)


def _end(requests: Sequence[Request], last: float, until: float) -> float:
    """Return when the first good request after the last failed one was asked; never where they go on failing."""
    later = [request for request in requests if last < request.began <= until]
    quiet_since = last
    for request in later:
        if request.began - quiet_since >= QUIET:
            return next((each.began for each in later if not each.problem), math.inf)
        if request.problem:
            quiet_since = request.began
    return math.inf


def latest(values: Iterable[float | None]) -> float | None:
    """Return the slowest; None where one of them never happened, or there is none."""
    return rounded(max((math.inf if value is None else value for value in values), default=math.inf))


def slowest(losses: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Return each measure of the loss that took longest; None where it did not happen although it had to."""
    return {
        "new_leader": latest(seconds for loss in losses for seconds in loss["new_leader"].values()),
        "node_down": latest(loss["node_down"] for loss in losses),
        "endpoint_gone": latest(loss["endpoint_gone"] for loss in losses if loss["had_endpoint"]),
        "requests_end": latest(loss["requests_end"] for loss in losses if loss["failed"]),
    }


def _beside(name: str, measured: float | None, budget: Budget, role: str) -> dict[str, Any]:
    """Return a measure beside what was computed for it, for the role of the lost node."""
    computed = budget.get(role, {}).get(name, {})
    worst = rounded(computed.get("worst"))
    return {
        "name": name,
        "measured": measured,
        "best": rounded(computed.get("best")),
        "typical": rounded(computed.get("typical")),
        "worst": worst,
        "within": None if measured is None or worst is None else measured <= worst,
        "close": None if measured is None or worst is None else worst <= CLOSE * measured,
    }


def connection(seen: Seen, one: Mapping[str, Any], losses: Sequence[Mapping[str, Any]], budget: Budget) -> dict[str, Any]:
    """Return a connection with how long after the loss of its node it was dropped, beside what was computed.

    Where the node was not lost while it was open, it is measured from its beginning, and nothing was computed.
    """
    node, opened, dropped = one["node"], one["opened"], one["dropped"]
    number = next(
        (
            number
            for number, loss in enumerate(seen.losses)
            if loss.node == node and opened <= min(loss.back, loss.until) and dropped >= loss.time - loss.uncertainty
        ),
        None,
    )
    loss = None if number is None else seen.losses[number]
    since = max(loss.time, opened) if loss else opened
    row = _beside(one["kind"] + "_dropped", rounded(max(0.0, dropped - since)), budget, "" if number is None else losses[number]["role"])
    # Still open after the worst case, and the node was away all the time: that was computed wrongly, too.
    if loss and row["measured"] is None and row["worst"] is not None and min(seen.end, loss.back) - since > row["worst"]:
        row["within"] = False
    return row | {
        "observer": seen.name,
        "kind": one["kind"],
        "node": node,
        "lost": loss is not None,
        "opened": rounded(opened),
        "dropped": rounded(dropped),
        "error": one["error"],
        "settings": dict(one["settings"]),
    }
