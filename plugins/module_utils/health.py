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

SERVER_LABEL = "node.kubernetes.io/microk8s-controlplane"
CLOCK_SKEW = 5
"""Seconds by which a Lease may lie in the future before the clocks are to blame."""

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


def _is_server(node: Mapping[str, Any], hosts: Sequence[str]) -> bool:
    """MicroK8s labels its servers; a cluster of one lists 127.0.0.1 for its member, and addresses may differ."""
    return SERVER_LABEL in node["metadata"].get("labels", {}) or _internal_ip(node) in hosts


def _named(entry: str, node: Mapping[str, Any]) -> bool:
    """Tell whether an inventory means this node: by its name, the first part of it, or its address."""
    return entry in (node["name"], node["address"]) or entry.split(".")[0] == node["name"].split(".")[0]


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
                "role": "server" if _is_server(node, hosts) else "agent",
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
    if age < -CLOCK_SKEW:
        return ["the clock of node %s is %d s ahead of this one: set the time on both" % (name, -age)]
    restarted = expected.renewed_after.get(name)
    if restarted is not None and seen.now - age < restarted:
        return ["the kubelet of node %s has not renewed its Lease since its restart" % name]
    return []


def _inventory_reasons(nodes: Sequence[Mapping[str, Any]], expected: Expectation) -> list[str]:
    if not nodes:
        return []
    servers = [node for node in nodes if node["role"] == "server"]
    agents = [node for node in nodes if node["role"] != "server"]
    known = expected.servers
    unknown = [entry for entry in known or () if not any(_named(entry, node) for node in servers)]
    missing = [node["name"] for node in servers if known is not None and not any(_named(entry, node) for entry in known)]
    strangers = [entry for entry in expected.agents if not any(_named(entry, node) for node in agents)]
    reasons = []
    if unknown:
        names = ", ".join(node["name"] for node in servers)
        reasons.append("the inventory's servers %s are no servers of this cluster, which are %s" % (", ".join(unknown), names))
    if missing:
        reasons.append("the cluster's servers %s are missing in the inventory" % ", ".join(missing))
    if strangers:
        reasons.append("the inventory's agents %s are no agents of this cluster" % ", ".join(strangers))
    unheard = sorted(set(expected.renewed_after) - {node["name"] for node in nodes})
    if unheard:
        reasons.append("there is no node %s: set kubekeel_node_name where it differs from the host name" % ", ".join(unheard))
    return reasons


def _quorum_reasons(seen: Observation, spare: int) -> list[str]:
    voters = [member for member in seen.members if member.role == "voter"]
    if not seen.members:
        return ["the datastore lists no members: it has no leader"]
    if spare < 1:
        down = [member.host for member in voters if seen.readyz.get(member.host)]
        state = "%s down" % ", ".join(down) if down else "all up; join servers until there are three"
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
    ignored = {node["address"] for node in nodes if node["name"] in expected.ignore}
    problems += [
        "the API server of %s is not ready: %s" % (host, why) for host, why in sorted(seen.readyz.items()) if why and host not in ignored
    ]
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
