"""What of a cluster speaks against changing anything now: clocks, releases, somebody else at work. Decided from what was read."""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import json
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Callable, Mapping, NamedTuple, Sequence

from ansible_collections.kubekeel.ha.plugins.module_utils import guards, health
from ansible_collections.kubekeel.ha.plugins.module_utils.release import Release, parse_release, show_release

if TYPE_CHECKING:
    from ansible_collections.kubekeel.ha.plugins.module_utils.kube_api import Stamp

CLOCK_SKEW = 2.0
"""Seconds by which two servers' clocks may differ. Health refuses 5 s on any node all the same: it sees them by the Leases alone."""

KURED_LOCK = "weave.works/kured-node-lock"
"""The annotation of kured's DaemonSet that says whose turn it is. The name of the DaemonSet is the operator's choice."""

Named = Sequence[Mapping[str, Any]]


class Seen(NamedTuple):
    """What was read for it."""

    observer: str
    """Name of the node that looks."""
    nodes: Named
    """As C(health.read_nodes) gives them, without those that are known to be down."""
    stamps: Mapping[str, Stamp]
    """By host of an API server."""
    daemon_sets: Named = ()
    plans: Named = ()


def apart(stamp: Stamp) -> float:
    """Return by how many seconds a server's clock is ahead for certain, behind where it is negative; 0 where nothing is certain.

    The header was written between request and answer, and its second had begun up to a second before. So it is ahead by more than
    date - answered, and by less than date + 1 - asked.
    """
    try:
        date = parsedate_to_datetime(stamp.date).timestamp()
    except (TypeError, ValueError, OverflowError):
        return 0.0
    least, most = date - stamp.answered, date + 1 - stamp.asked
    return max(least, 0.0) + min(most, 0.0)


def _clocks(seen: Seen) -> list[dict[str, Any]]:
    names = {node["address"]: node["name"] for node in seen.nodes}
    skews = {names.get(host, host): apart(stamp) for host, stamp in seen.stamps.items()}
    return [
        guards.found("clock_skew", server=server, node=seen.observer, seconds=abs(skew), way="ahead of" if skew > 0 else "behind")
        for server, skew in sorted(skews.items())
        if abs(skew) > CLOCK_SKEW
    ]


def _by_release(nodes: Named, patches: bool) -> dict[Release, list[str]]:
    """Return names of nodes by release, with its patch or without; a node that does not tell is left out."""
    found: dict[Release, list[str]] = {}
    for node in nodes:
        release = parse_release(node["release"])
        if release:
            major, minor, patch = release
            found.setdefault((major, minor, patch if patches else 0), []).append(node["name"])
    return found


def _releases(seen: Seen) -> list[dict[str, Any]]:
    servers = [node for node in seen.nodes if node["role"] == "server"]
    for who, nodes, patches in (
        ("the nodes are of different minor releases", seen.nodes, False),
        ("the servers are of different patch releases", servers, True),
    ):
        found = _by_release(nodes, patches)
        if len(found) > 1:
            shown = ["%s on %s" % (show_release(release), ", ".join(names)) for release, names in sorted(found.items())]
            return [guards.found("mixed_releases", who=who, releases="; ".join(shown))]
    return []


def lock_holders(text: str) -> list[tuple[str, str]]:
    """Return node and moment of each lock in the annotation of kured; a text that is no lock of kured counts as one.

    With --concurrency of more than 1 there are several, and after the last was given back none.
    """
    try:
        value = json.loads(text)
    except (RecursionError, ValueError):
        value = None
    locks = value["locks"] or [] if isinstance(value, dict) and "locks" in value else [value]
    named = [lock if isinstance(lock, dict) else {} for lock in (locks if isinstance(locks, list) else [locks])]
    return [(str(lock.get("nodeID") or "a node that it does not name"), str(lock.get("created") or "")) for lock in named]


def _kured(seen: Seen) -> list[dict[str, Any]]:
    found = []
    for daemon_set in seen.daemon_sets:
        metadata = daemon_set["metadata"]
        lock = (metadata.get("annotations") or {}).get(KURED_LOCK)
        for node, since in lock_holders(lock) if lock else ():
            facts = {"node": node, "since": since and " since " + since, "namespace": metadata.get("namespace", "")}
            found.append(guards.found("reboots_by_kured", daemon_set=metadata["name"], **facts))
    return found


def _plans(seen: Seen) -> list[dict[str, Any]]:
    found = []
    for plan in seen.plans:
        nodes = (plan.get("status") or {}).get("applying") or ()
        if nodes:
            name = "%s/%s" % (plan["metadata"].get("namespace", ""), plan["metadata"]["name"])
            found.append(guards.found("upgrade_in_progress", plan=name, nodes=", ".join(nodes)))
    return found


def _cordoned(seen: Seen) -> list[dict[str, Any]]:
    return [guards.found("node_cordoned", node=node["name"]) for node in seen.nodes if node["cordoned"]]


FINDERS: Sequence[Callable[[Seen], Sequence[Mapping[str, Any]]]] = (_clocks, _releases, _kured, _plans, _cordoned)


def find(seen: Seen, ignore: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Return everything that speaks against a change.

    Args:
        seen: what was read.
        ignore: nodes that are known to be down, as the operator names them. What they run or who works on them does not matter.
    """
    known_down = [node["name"] for node in (health.resolve(entry, seen.nodes) for entry in ignore) if node]
    seen = seen._replace(nodes=[node for node in seen.nodes if node["name"] not in known_down])
    return [dict(one) for finder in FINDERS for one in finder(seen)]
