"""What a drill's observer has seen so far: has all begun, has the cluster got over the loss? Pure.

An observation is what M(kubekeel.ha.drill_observer) writes, see RETURN of M(kubekeel.ha.drill_observation).
"""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

from typing import Any, Dict, Mapping, Sequence

from ansible_collections.kubekeel.ha.plugins.module_utils import drill_workload
from ansible_collections.kubekeel.ha.plugins.module_utils.health import LEADERS

Observation = Dict[str, Any]

OBSERVATION, STOP, LOOKED = "observation.json", "stop", "looked"
"""Files in an observer's folder: what it has seen, the word to end, and when somebody looked."""
REPLACE = "Where it was broken off its workload goes by itself, soon after its node is back; drill_replace=true ends it now"
QUIET = 3.0
"""Seconds without a failed request after which the requests count as well again: some hang for a second until they fail."""


def ready_pods(endpoints: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Return node and address of each pod that gets requests, by its name."""
    found = {}
    for subset in endpoints.get("subsets") or []:
        for address in subset.get("addresses") or []:
            name = (address.get("targetRef") or {}).get("name", address["ip"])
            found[name] = {"node": address.get("nodeName", ""), "address": address["ip"]}
    return found


def missing_at_start(seen: Observation, pods: int) -> list[str]:
    """Return what has not begun yet of an observation that watches C(pods) pods (none: one that only asks the servers)."""
    lacking = ["an answer of %s" % node for node, found in {**seen["reach"], **seen["api"]}.items() if not found["asked"]]
    if pods:
        last: Mapping[str, Any] = seen["endpoints"][-1]["pods"] if seen["endpoints"] else {}
        if len(last) != pods:
            lacking.append("%d of %d pods ('kubectl -n %s get pods' tells why)" % (pods - len(last), pods, drill_workload.NAMESPACE))
        lacking += ["the holder of %s" % name for name in LEADERS if not seen["leaders"].get(name)]
        lacking += [] if _quiet(seen) else ["requests that are answered"]
        lacking += [] if len(seen["connections"]) >= 2 * pods else ["connections to the pods"]
    return lacking


def missing_before_loss(seen: Observation, lost: Sequence[str]) -> list[str]:
    """Return the nodes that are to be lost and still accept connections."""
    return ["%s to be lost" % node for node in lost if node in seen["reach"] and seen["reach"][node]["changes"][-1]["up"]]


def missing_after_loss(seen: Observation, lost: Sequence[str], connections: bool) -> list[str]:
    """Return what the cluster has not done yet to get over the loss of nodes.

    Args:
        seen: the observation.
        lost: Kubernetes names of the nodes.
        connections: whether to wait until each connection to a lost node was dropped, too.
    """
    leaders, nodes = seen["leaders"], seen["nodes"]
    lacking = ["a new leader of %s" % name for name in LEADERS if leaders.get(name) and leaders[name][-1]["holder"] in lost]
    lacking += ["%s to be seen as down" % node for node in lost if nodes.get(node) and nodes[node][-1]["ready"] == "True"]
    pods = seen["endpoints"][-1]["pods"] if seen["endpoints"] else {}
    lacking += ["the endpoint on %s to be removed" % pod["node"] for pod in pods.values() if pod["node"] in lost]
    lacking += [] if _quiet(seen) else ["requests that are answered"]
    if connections:
        lacking += [
            "the %s connection to %s to be dropped" % (one["kind"], one["node"])
            for one in seen["connections"]
            if one["node"] in lost and one["dropped"] is None
        ]
    return lacking


def _quiet(seen: Observation) -> bool:
    """Tell whether the last requests, for as long as one may hang, were all answered."""
    since = seen["ended"] - QUIET
    requests = seen["requests"]
    last = [request for request in requests if request[0] >= since]
    # Without one before that nothing was asked for as long.
    return len(last) < len(requests) and bool(last) and not any(request[3] for request in last)
