"""In which order heartbeats and grace periods may change, so that no healthy node is taken for dead in between. Pure.

A grace period that gets shorter waits until every kubelet renews its Lease often enough for it, and a heartbeat that gets
slower waits until every controller-manager has a grace period long enough. What goes the other way never waits. So what
waits in one pass over the nodes can be set in the next one; where it cannot, no pass helps.
"""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ansible_collections.kubekeel.ha.plugins.module_utils import failover, go_duration, timing
from ansible_collections.kubekeel.ha.plugins.module_utils.settings import CONTROLLER_MANAGER, KUBELET

LEASE, GRACE = "nodeLeaseDurationSeconds", "node-monitor-grace-period"

_UNTIL = {
    LEASE: "every controller-manager has a grace period long enough for it",
    GRACE: "every kubelet renews its Lease often enough for it",
}
# Of two defaults that depend on the release, the shorter one.
_DEFAULTS = {LEASE: float(timing.NODE_LEASE_DURATION), GRACE: failover.GRACE_PERIOD_BEFORE}
# What counts where nobody knows. A kubelet has its own heartbeat unless somebody set another one.
_UNKNOWN = {LEASE: float(timing.NODE_LEASE_DURATION), GRACE: 0.0}


@dataclass(frozen=True)
class Setting:
    """One of the two settings on one node, in seconds."""

    now: float
    """As the files say."""
    after: float
    """As it is wanted."""
    due: str = ""
    """The wanted value as text; empty where it is there already, or nobody sets it."""
    unknown: float | None = None
    """What has to be reckoned with beside C(now), where the unit still has to read its files."""

    @property
    def possible(self) -> set[float]:
        """What may be in force before, during and after a pass that sets it."""
        return {self.now, self.after} | (set() if self.unknown is None else {self.unknown})


@dataclass(frozen=True)
class Node:
    """What counts on one node."""

    lease: Setting | None
    """None where no kubelet runs."""
    grace: Setting | None
    """None where no controller-manager runs."""
    seen: bool = True


Nodes = Mapping[str, Node]
Waits = dict[str, dict[str, list[str]]]
"""The nodes on which a setting waits, by the setting, and for each of them those that it waits for."""


def order(surveyed: Mapping[str, Sequence[Mapping[str, Any]]], servers: Collection[str]) -> dict[str, Any]:
    """Return what has to wait in the coming pass over the nodes.

    Args:
        surveyed: for each node the results of the modules that set the kubelet's file, flags and the unit's environment,
            in check mode; nothing for a node that nobody looked at.
        servers: the nodes that run a controller-manager as far as one knows, of those that nobody looked at.

    Returns:
        C(now), what waits in the coming pass, and C(last), what still waits in the one after it and in any other, each
        with C(held), the settings that wait by node, and C(why), a sentence for each value; C(again), whether a second
        pass sets something that waits in the first.
    """
    nodes = {name: _node(results) if results else _unseen(name in servers) for name, results in surveyed.items()}
    now = waits(nodes)
    last = waits(after_pass(nodes, now))
    return {"now": _as_result(nodes, now), "last": _as_result(nodes, last), "again": _held(last) != _held(now)}


def waits(nodes: Nodes) -> Waits:
    """Return which settings must not be set in a pass over the nodes that sets all others, in any order of the nodes."""
    found: Waits = {LEASE: {}, GRACE: {}}
    for name, lease in _settings(nodes, LEASE):
        if lease.due and (lease.after > lease.now or lease.unknown is not None):
            found[LEASE][name] = [other for other, it in _settings(nodes, GRACE) if not all(holds(g, lease.after) for g in it.possible)]
    for name, grace in _settings(nodes, GRACE):
        if grace.due and (grace.after < grace.now or grace.unknown is not None):
            found[GRACE][name] = [other for other, it in _settings(nodes, LEASE) if not all(holds(grace.after, v) for v in it.possible)]
    return {setting: {name: blocking for name, blocking in by_node.items() if blocking} for setting, by_node in found.items()}


def after_pass(nodes: Nodes, waiting: Waits) -> dict[str, Node]:
    """Return the nodes after a pass that set everything but what waits, and restarted what had to."""

    def after(name: str, setting: str, one: Setting | None, seen: bool) -> Setting | None:
        if one is None or not seen:
            return one
        held = name in waiting[setting]
        return replace(one, now=one.now if held else one.after, due=one.due if held else "", unknown=None)

    return {
        name: replace(node, lease=after(name, LEASE, node.lease, node.seen), grace=after(name, GRACE, node.grace, node.seen))
        for name, node in nodes.items()
    }


def holds(grace: float, lease: float) -> bool:
    """Tell whether a grace period is long enough for the heartbeats of a kubelet."""
    return not timing.violations({"monitor_grace_period": "%.9fs" % grace, "node_lease_duration": "%.9fs" % lease})


def _settings(nodes: Nodes, setting: str) -> Iterator[tuple[str, Setting]]:
    for name, node in nodes.items():
        one = node.lease if setting == LEASE else node.grace
        if one is not None:
            yield name, one


def _unseen(server: bool) -> Node:
    lease, grace = (Setting(_UNKNOWN[setting], _UNKNOWN[setting]) for setting in (LEASE, GRACE))
    return Node(lease, grace if server else None, seen=False)


def _node(results: Sequence[Mapping[str, Any]]) -> Node:
    absent = {component for result in results for component in result.get("absent") or ()}
    effective = {key: value for result in results for key, value in (result.get("effective") or {}).items()}
    changes = {change["name"]: change for result in results for change in result.get("changes") or ()}
    # A unit that has to restart although no file changes did not read the files yet.
    pending = any(result.get("restart") and not result.get("diff") for result in results)
    flags = effective.get(CONTROLLER_MANAGER)
    return Node(
        None if KUBELET in absent else _setting(LEASE, changes, effective, pending),
        None if flags is None or CONTROLLER_MANAGER in absent else _setting(GRACE, changes, flags, pending),
    )


def _setting(name: str, changes: Mapping[str, Mapping[str, Any]], effective: Mapping[str, Any], pending: bool) -> Setting:
    unknown = _UNKNOWN[name] if pending else None
    if name not in changes:
        return Setting(_seconds(name, effective.get(name)), _seconds(name, effective.get(name)), unknown=unknown)
    change = changes[name]
    due = "%s=%s" % (name, change["after"] or "%d" % _DEFAULTS[name])
    return Setting(_seconds(name, change["before"]), _seconds(name, change["after"]), due, unknown)


def _seconds(name: str, text: Any) -> float:
    if text in (None, ""):
        return _DEFAULTS[name]
    try:
        return go_duration.seconds("%ss" % text if name == LEASE else str(text))
    except ValueError:
        return _UNKNOWN[name]


def _held(waiting: Waits) -> dict[str, list[str]]:
    held: dict[str, list[str]] = {}
    for setting, by_node in waiting.items():
        for name in by_node:
            held.setdefault(name, []).append(setting)
    return held


def _as_result(nodes: Nodes, waiting: Waits) -> dict[str, Any]:
    blocking: dict[tuple[str, str], dict[str, None]] = {}
    for setting, by_node in waiting.items():
        due = {name: one.due for name, one in _settings(nodes, setting)}
        for name, others in by_node.items():
            shown = [other if nodes[other].seen else other + " (nobody looked at it)" for other in others]
            blocking.setdefault((setting, due[name]), {}).update(dict.fromkeys(shown))
    return {"held": _held(waiting), "why": [_sentence(setting, due, list(others)) for (setting, due), others in blocking.items()]}


def _sentence(setting: str, due: str, others: Sequence[str]) -> str:
    why = "or healthy nodes would be taken for dead. Still to come: " + ", ".join(others)
    return "%s waits until %s, %s" % (due, _UNTIL[setting], why)
