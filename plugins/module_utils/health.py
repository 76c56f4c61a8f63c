"""Is the cluster well, and may a server be taken away now? Decided from what was read; reads nothing."""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, Mapping, Sequence

LEASE_DURATION = 40
"""A kubelet's Lease in seconds, where it does not say (kubelet configuration, nodeLeaseDurationSeconds)."""

_MEMBER = re.compile(r"-\s*address:\s*(?P<address>\S+)\s+role:\s*(?P<role>\w+)")
_TIME = "%Y-%m-%dT%H:%M:%S"


@dataclass(frozen=True)
class Member:
    """A member of the datastore."""

    host: str
    role: str
    """voter, standby or spare (Dqlite)."""


@dataclass
class Observation:
    """What was read of a cluster."""

    members: Sequence[Member]
    readyz: Mapping[str, str]
    """For the host of each member: empty where its API server is ready, else why it is not."""
    nodes: Sequence[Mapping[str, Any]] = ()
    """Node objects of the API."""
    leases: Sequence[Mapping[str, Any]] = ()
    """Lease objects of kube-node-lease."""
    now: float = 0.0
    """When it was read, in seconds of the Unix epoch."""
    errors: list[str] = field(default_factory=list)
    """What could not be read."""


@dataclass
class Expectation:
    """What the operator knows about the cluster."""

    servers: Sequence[str] | None = None
    """Names of the nodes that are servers, None where it is not known."""
    agents: Sequence[str] = ()
    renewed_after: Mapping[str, float] = field(default_factory=dict)
    """Nodes whose Lease must be younger than a time (seconds of the Unix epoch): those just restarted."""
    ignore: Sequence[str] = ()
    """Nodes that may be down."""


def host_of(address: str) -> str:
    """Return the host of an address with a port; IPv6 without brackets."""
    return address.rpartition(":")[0].strip("[]")


def members_of_status(text: str) -> list[Member]:
    """Return the members that C(microk8s status --format yaml) lists. An empty list: the datastore has no leader."""
    section = text.partition("high-availability:")[2].partition("\naddons:")[0]
    return [Member(host_of(found["address"]), found["role"]) for found in _MEMBER.finditer(section)]


def epoch(text: str) -> float:
    """Return a time of the Kubernetes API (RFC 3339, UTC, fractions allowed) in seconds of the Unix epoch."""
    whole, _dummy, fraction = text.rstrip("Z").partition(".")
    moment = datetime.strptime(whole, _TIME).replace(tzinfo=timezone.utc).timestamp()
    return moment + float("0." + (fraction or "0"))


def _internal_ip(node: Mapping[str, Any]) -> str:
    addresses = node.get("status", {}).get("addresses", ())
    return next((str(one["address"]) for one in addresses if one["type"] == "InternalIP"), "")


def _ready(node: Mapping[str, Any]) -> str:
    conditions = node.get("status", {}).get("conditions", ())
    return next((str(one["status"]) for one in conditions if one["type"] == "Ready"), "Unknown")


def read_nodes(seen: Observation) -> list[dict[str, Any]]:
    """Return name, address, role, readiness and age of the Lease (seconds, None without one) of every node."""
    leases = {lease["metadata"]["name"]: lease["spec"] for lease in seen.leases}
    hosts = [member.host for member in seen.members]
    found = []
    for node in seen.nodes:
        name = node["metadata"]["name"]
        lease = leases.get(name, {})
        renewed = epoch(lease["renewTime"]) if lease.get("renewTime") else None
        found.append(
            {
                "name": name,
                "address": _internal_ip(node),
                "role": "server" if _internal_ip(node) in hosts else "agent",
                "ready": _ready(node) == "True",
                "lease_age": None if renewed is None else round(seen.now - renewed, 1),
                "lease_expired": renewed is None or seen.now - renewed > lease.get("leaseDurationSeconds", LEASE_DURATION),
            }
        )
    return found


def _node_reasons(node: Mapping[str, Any], seen: Observation, expected: Expectation) -> list[str]:
    name, age = node["name"], node["lease_age"]
    if not node["ready"]:
        return ["node %s is NotReady" % name]
    if node["lease_expired"]:
        since = "it has no Lease" if age is None else "its Lease was last renewed %d s ago" % age
        return ["node %s says Ready, but %s: its kubelet does not reach the API (canonical/k8s-dqlite#364)" % (name, since)]
    restarted = expected.renewed_after.get(name)
    if restarted is not None and seen.now - age < restarted:
        return ["the kubelet of node %s has not renewed its Lease since its restart" % name]
    return []


def _inventory_reasons(nodes: Sequence[Mapping[str, Any]], expected: Expectation) -> list[str]:
    if not nodes or expected.servers is None:
        return []
    servers = sorted(node["name"] for node in nodes if node["role"] == "server")
    others = {node["name"] for node in nodes} - set(servers)
    unknown = sorted(set(expected.servers) - set(servers))
    missing = sorted(set(servers) - set(expected.servers))
    reasons = []
    if unknown:
        reasons.append("the inventory's servers %s are no servers of this cluster, which are %s" % (", ".join(unknown), ", ".join(servers)))
    if missing:
        reasons.append("the cluster's servers %s are missing in the inventory" % ", ".join(missing))
    strangers = sorted(set(expected.agents) - others)
    if strangers:
        reasons.append("the inventory's agents %s are no agents of this cluster" % ", ".join(strangers))
    return reasons


def _quorum_reasons(seen: Observation, spare: int) -> list[str]:
    voters = [member for member in seen.members if member.role == "voter"]
    if not seen.members:
        return ["the datastore lists no members: it has no leader"]
    if spare < 1:
        down = [member.host for member in voters if seen.readyz.get(member.host)]
        state = "%s down" % ", ".join(down) if down else "all up"
        return ["no server may be lost: %d voters (%s), %d needed" % (len(voters), state, len(voters) // 2 + 1)]
    return []


def evaluate(seen: Observation, expected: Expectation) -> dict[str, Any]:
    """Return the answer as the module cluster_health gives it.

    A server may be taken away where everything is up and the voters that remain still are a majority.
    """
    voters = [member.host for member in seen.members if member.role == "voter"]
    up = [host for host in voters if not seen.readyz.get(host)]
    spare = len(up) - (len(voters) // 2 + 1)
    nodes = read_nodes(seen)
    problems = list(seen.errors)
    problems += ["the API server of %s is not ready: %s" % (host, why) for host, why in sorted(seen.readyz.items()) if why]
    for node in nodes:
        if node["name"] not in expected.ignore:
            problems += _node_reasons(node, seen, expected)
    problems += _inventory_reasons(nodes, expected)
    quorum = _quorum_reasons(seen, spare)
    if not seen.members:
        problems, quorum = quorum + problems, []
    return {
        "healthy": not problems,
        "safe_to_disrupt": not problems and not quorum,
        "reasons": problems + quorum,
        "servers_to_spare": max(spare, 0),
        "nodes": nodes,
        "members": [dict(vars(member), ready=not seen.readyz.get(member.host)) for member in seen.members],
    }
