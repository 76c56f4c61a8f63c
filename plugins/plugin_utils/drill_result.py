"""From what observers saw of a failover drill to its result. Pure.

What the result holds, and in which units, stands in roles/drill/files/drill.schema.json.
"""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ansible_collections.kubekeel.ha.plugins.plugin_utils import drill_seen
from ansible_collections.kubekeel.ha.plugins.plugin_utils.drill_checks import checks
from ansible_collections.kubekeel.ha.plugins.plugin_utils.drill_measure import BEFORE, connection, measured, rounded, slowest, suffered
from ansible_collections.kubekeel.ha.plugins.plugin_utils.drill_seen import Request, Seen, States

SCHEMA = 1
WITHOUT_LOSS = frozenset(("rolling_restart", "soak"))
KEPT = 2000
"""Failed requests that a result lists one by one; the counts have all of them."""
COMPARED = 10
META = ("id", "scenario", "cluster", "distribution", "release", "profile", "method", "nodes", "steps", "victims", "started", "failure")

NOBODY = Seen("", "", 0.0, 0.0, {}, {}, [], [], {}, [], [])


def result(meta: Mapping[str, Any], observations: Sequence[Mapping[str, Any]], budget: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the result of a drill, see roles/drill/files/drill.schema.json.

    Args:
        meta: what was done, by the names of C(META), C(budget_seconds), and C(led_datastore), whether a node led the datastore
            when it was lost, for each of which that is known.
        observations: what each observer returned.
        budget: what was computed from the settings, where something was.
    """
    victims = [] if meta["scenario"] in WITHOUT_LOSS else list(meta["victims"])
    computed = budget or {}
    everyone = drill_seen.read(observations, victims)
    led = meta.get("led_datastore", {})
    lost = [loss.node for loss in everyone[0].losses] if everyone else []
    losses = [measured(everyone, number, computed, led.get(node)) for number, node in enumerate(lost)]
    # The picture is drawn with the eyes of one observer: one that saw the nodes, and most of the losses.
    main = max(everyone, key=lambda seen: (bool(seen.nodes), sum(loss.seen for loss in seen.losses)), default=NOBODY)
    # Single steps vary by as much as a candidate's look at the lease; what they add up to is the promise.
    close = [step["close"] for loss in losses for step in loss["steps"] if step["name"] == "endpoint_gone" and step["close"] is not None]
    document: dict[str, Any] = {"schema": SCHEMA} | {name: meta[name] for name in META}
    document |= {
        # From the command line it comes as a text, and 0 is no limit.
        "budget_seconds": float(meta["budget_seconds"] or 0) or None,
        "observers": [_observer(seen) for seen in everyone],
        "losses": losses,
        "slowest": slowest(losses),
        "requests": _requests(everyone),
        "api": _api(everyone),
        "no_api": [
            {"observer": seen.name, "start": rounded(start), "seconds": rounded(end - start)}
            for seen in everyone
            for start, end in _none_answered(seen)
        ],
        "leader_changes": [
            {"observer": seen.name, "component": component, "time": time, "from": before, "to": holder}
            for seen in everyone
            for component, time, before, holder in _changes(seen.leaders)
        ],
        "ready_changes": [
            {"observer": seen.name, "node": node, "time": time, "ready": ready}
            for seen in everyone
            for node, time, _before, ready in _changes(seen.nodes)
        ],
        "healthy_not_ready": _healthy_not_ready(everyone, restarting=meta["scenario"] == "rolling_restart"),
        "connections": [connection(seen, one, losses, computed) for seen in everyone for one in seen.connections],
        "computed": dict(computed) or None,
        "computed_close": all(close) if close else None,
        "series": _series(everyone, main),
    }
    document["checks"] = checks(document, victims)
    document["failures"] = [check["text"] for check in document["checks"] if check["ok"] is False]
    document["passed"] = not document["failures"]
    return document


def compared(current: Mapping[str, Any], earlier: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return a row for each past drill of the same cluster and scenario, newest first, at most 10.

    Results of another schema are left out, since nobody knows what they hold.
    """
    same = ("schema", "cluster", "scenario")
    results = [one for one in earlier if isinstance(one, Mapping)]
    past = [one for one in results if all(one.get(key) == current[key] for key in same) and one["id"] != current["id"]]
    return [
        {
            "id": one["id"],
            "profile": one["profile"],
            "new_leader": one["slowest"]["new_leader"],
            "endpoint_gone": one["slowest"]["endpoint_gone"],
            "failed": one["requests"]["failed"],
            "longest_gap": one["requests"]["longest_gap"],
            "passed": one["passed"],
        }
        for one in sorted(past, key=lambda one: str(one["id"]), reverse=True)[:COMPARED]
    ]


def _observer(seen: Seen) -> dict[str, Any]:
    """Return who looked, and how long."""
    return {
        "observer": seen.name,
        "start": rounded(seen.start),
        "end": rounded(seen.end),
        "error": seen.error,
        "losses_seen": sum(loss.seen for loss in seen.losses),
    }


def _requests(everyone: Sequence[Seen]) -> dict[str, Any]:
    """Return what became of all requests to the Service, of all observers together."""
    failed = [request for seen in everyone for request in seen.failed]
    live, early = 0, 0
    for seen in everyone:
        dead = [(loss, seen.addresses(loss.node)) for loss in seen.losses]
        for request in seen.failed:
            addresses = [those for loss, those in dead if suffered(request, loss)]
            early += bool(dead) and not addresses
            live += bool(request.backend) and not any(request.backend in those for those in addresses)
    return {
        "total": sum(len(seen.requests) for seen in everyone),
        "failed": len(failed),
        "failed_before_loss": early,
        "longest_gap": rounded(max((_gap(seen.requests) for seen in everyone if seen.requests), default=0.0)),
        "spread": _counted(request.pod for seen in everyone for request in seen.requests if not request.problem),
        "failed_by_backend": _counted(request.backend for request in failed if request.backend),
        "failed_unknown_backend": sum(not request.backend for request in failed),
        "failed_at_live_backends": live,
        "only_dead_backends": live == 0,
        "problems": _counted(request.problem for request in failed),
    }


def _counted(names: Iterable[str]) -> dict[str, int]:
    """Return how often each name came, by name."""
    return dict(sorted(Counter(names).items()))


def _gap(requests: Sequence[Request]) -> float:
    """Return the longest time between two good answers in a row, begin and end included."""
    good = sorted(request.ended for request in requests if not request.problem)
    moments = [requests[0].began, *good, max(request.ended for request in requests)]
    return max(after - before for before, after in itertools.pairwise(moments))


def _down(states: States, end: float) -> list[tuple[float, float]]:
    """Return the stretches without an answer."""
    return [(since, max(since, until)) for (since, up), (until, _up) in itertools.pairwise([*states, (end, True)]) if not up]


def _api(everyone: Sequence[Seen]) -> list[dict[str, Any]]:
    """Return how available each API server was for each observer."""
    return [
        {
            "observer": seen.name,
            "node": node,
            "asked": probe.asked,
            "failed": probe.failed,
            "longest_down": rounded(max((end - start for start, end in _down(probe.states, seen.end)), default=0.0)),
        }
        for seen in everyone
        for node, probe in seen.api.items()
    ]


def _none_answered(seen: Seen) -> list[tuple[float, float]]:
    """Return the stretches in which no API server answered an observer."""
    common = [(seen.start, seen.end)] if seen.api else []
    for probe in seen.api.values():
        down = _down(probe.states, seen.end)
        both = [(max(one[0], two[0]), min(one[1], two[1])) for one in common for two in down]
        common = [(start, end) for start, end in both if start < end]
    return common


def _changes(series: Mapping[str, States]) -> Iterator[tuple[str, float | None, str, str]]:
    """Return each change after the first look: whose, when, from what, to what."""
    for name, states in series.items():
        for (_since, before), (time, after) in itertools.pairwise(states):
            yield name, rounded(time), before, after


def _healthy_not_ready(everyone: Sequence[Seen], *, restarting: bool) -> list[dict[str, Any]]:
    """Return when a node was not Ready that had not been lost by then.

    A kubelet that starts calls itself not ready for a moment (False); that it was not heard of (Unknown) is never right.
    """
    found = []
    for seen in everyone:
        for node, states in seen.nodes.items():
            lost = min((loss.time for loss in seen.losses if loss.node == node), default=math.inf)
            found += [
                {"observer": seen.name, "node": node, "time": rounded(time), "ready": ready}
                for time, ready in states
                if ready != "True" and time < lost - BEFORE and not (restarting and ready == "False")
            ]
    return found


def _series(everyone: Sequence[Seen], main: Seen) -> dict[str, Any]:
    """Return what a picture is drawn of: changes as one observer saw them, and the requests of all."""
    seconds: dict[int, list[int]] = {}
    failed: list[list[Any]] = []
    for seen in everyone:
        for request in seen.requests:
            seconds.setdefault(math.floor(request.began), [0, 0])[bool(request.problem)] += 1
        failed += [[rounded(each.began), rounded(each.seconds), seen.name, each.backend, each.problem] for each in seen.failed]
    failed.sort(key=lambda each: each[0])
    return {
        "observer": main.name,
        "start": rounded(min((seen.start for seen in everyone), default=0.0)),
        "end": rounded(max((seen.end for seen in everyone), default=0.0)),
        "leaders": _listed(main.leaders),
        "nodes": _listed(main.nodes),
        "api": _listed({node: probe.states for node, probe in main.api.items()}),
        "endpoints": [[rounded(time), _counted(node for node, _address in pods.values())] for time, pods in main.endpoints],
        "requests": [[second, *counts] for second, counts in sorted(seconds.items())],
        "failed": failed[:KEPT],
        "failed_left_off": max(0, len(failed) - KEPT),
    }


def _listed(states: Mapping[str, States]) -> dict[str, list[list[Any]]]:
    """Return states as plain lists."""
    return {name: [[rounded(time), state] for time, state in each] for name, each in states.items()}
