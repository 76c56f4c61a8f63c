"""Which nodes does a drill take away, and from where can it be watched? Pure."""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

LEADER = "kube-controller-manager"


@dataclass(frozen=True)
class Cluster:
    """What the plan has to know; all nodes by their names in the inventory."""

    names: Mapping[str, str]
    """Kubernetes names."""
    servers: Sequence[str]
    agents: Sequence[str]
    api_servers: Sequence[str]
    etcd_only: Sequence[str]
    leaders: Mapping[str, str]
    """Kubernetes name of the node that leads, by component."""

    def host(self, node: str) -> str | None:
        """Return the inventory's name of a node."""
        return next((host for host, name in self.names.items() if name == node), None)


def _leader(cluster: Cluster) -> list[str]:
    host = cluster.host(cluster.leaders.get(LEADER, ""))
    if host is None:
        raise ValueError("nobody holds the lease of %s, or not a node of this inventory" % LEADER)
    return [host]


def _other_server(cluster: Cluster) -> list[str]:
    leading = {cluster.host(node) for node in cluster.leaders.values()}
    others = [host for host in cluster.servers if host not in leading] or [h for h in cluster.servers if h not in _leader(cluster)]
    if not others:
        raise ValueError("there is no other server than the one that leads")
    return others[:1]


def _agent(cluster: Cluster) -> list[str]:
    if not cluster.agents:
        raise ValueError("this cluster has no agents")
    return [cluster.agents[0]]


def _first_etcd(cluster: Cluster) -> list[str]:
    if not cluster.etcd_only:
        raise ValueError("this cluster has no server that runs etcd alone (K3s with split roles)")
    return [cluster.etcd_only[0]]


def _every_api_server(cluster: Cluster) -> list[str]:
    if len(cluster.api_servers) < 2:
        raise ValueError("there is one API server only")
    # Where there are enough of them one stays up all the time, from which the others are watched.
    return list(cluster.api_servers if len(cluster.api_servers) == 2 else cluster.api_servers[1:])


def _everybody(cluster: Cluster) -> list[str]:
    return [*cluster.servers, *cluster.agents]


# In the order of the documentation.
SCENARIOS: dict[str, Callable[[Cluster], list[str]]] = {
    "leader_loss": _leader,
    "server_loss": _other_server,
    "agent_loss": _agent,
    "first_etcd_loss": _first_etcd,
    "apiserver_alternation": _every_api_server,
    "rolling_restart": _everybody,
    "soak": lambda cluster: list(cluster.servers),
}
TASKS = {"rolling_restart": "restart", "soak": "soak"}
"""Entry points of the role for scenarios in which no machine is taken away; for all others it is C(lose)."""


def plan(cluster: Mapping[str, Any], scenario: str, method: str) -> dict[str, Any]:
    """Return C(victims), in the order of their loss, and C(observer), by their names in the inventory, and C(tasks), what is done.

    Args:
        cluster: the fields of C(Cluster).
        scenario: one of C(SCENARIOS).
        method: how nodes are taken away: services, isolation or command.

    Raises:
        ValueError: the cluster has no such node, or nobody could watch.
    """
    if scenario not in SCENARIOS:
        raise ValueError("there is no scenario '%s'; there are %s" % (scenario, ", ".join(SCENARIOS)))
    known = Cluster(**cluster)
    victims = SCENARIOS[scenario](known)
    survivors = [host for host in known.api_servers if host not in victims]
    if not survivors and scenario not in TASKS and method != "services":
        raise ValueError("no API server would be left to watch from; with drill_method=services its machine stays up")
    return {"victims": victims, "observer": (survivors or list(known.api_servers))[0], "tasks": TASKS.get(scenario, "lose")}
