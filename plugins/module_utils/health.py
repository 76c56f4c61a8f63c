"""Is the cluster well, and may a server be taken away now? Decided from what was read; reads nothing."""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import Any, Mapping, Sequence

from ansible_collections.kubekeel.ha.plugins.module_utils import addresses

LEASE_DURATION = 40
"""A kubelet's Lease in seconds, where it does not say (kubelet configuration, nodeLeaseDurationSeconds)."""

API_LABELS = ("node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master", "node.kubernetes.io/microk8s-controlplane")
HOST_LABEL = "kubernetes.io/hostname"
ETCD_LABEL = "node-role.kubernetes.io/etcd"
VOTER = "voter"
LEADERS = ("kube-controller-manager", "kube-scheduler")
"""Components with a leader election."""
CLOCK_SKEW = 5
"""Seconds by which a Lease may lie in the future before the clocks are to blame, and by which it may be too old."""

_MEMBER = re.compile(r"^[ \t]*-[ \t]*address:\s*(?P<address>\S+)\s+role:\s*(?P<role>\S+)", re.MULTILINE)
_TIME = "%Y-%m-%dT%H:%M:%S"


@dataclass(frozen=True)
class Member:
    """A member of the datastore."""

    host: str
    role: str
    """voter, standby or spare (Dqlite), voter or learner (etcd)."""


@dataclass
class Observation:
    """What was read of a cluster."""

    members: Sequence[Member]
    readyz: Mapping[str, str]
    """For the host of each API server: empty where it is ready, else why it is not."""
    nodes: Sequence[Mapping[str, Any]] = ()
    """Node objects of the API."""
    leases: Sequence[Mapping[str, Any]] = ()
    """Lease objects of kube-node-lease."""
    now: float = 0.0
    """When it was read, in seconds of the Unix epoch."""
    errors: list[str] = field(default_factory=list)
    """What could not be read."""
    down: Mapping[str, str] = field(default_factory=dict)
    """For the host of each member that was asked itself: empty where it is up, else why it is not."""
    external: bool = False
    """Whether the datastore is none that the servers run themselves, so that it lists no members."""
    endpoints: Sequence[str] | None = None
    """Addresses in the endpoints of the Service kubernetes, with ports; None where nobody asked."""
    leaders: Sequence[Mapping[str, Any]] = ()
    """Lease objects of kube-system."""
    daemon_sets: Sequence[Mapping[str, Any]] = ()
    """DaemonSet objects of every namespace; only a survey asks for them."""
    plans: Sequence[Mapping[str, Any]] = ()
    """Plan objects of system-upgrade-controller; only a survey asks for them."""


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
    losing: Sequence[str] = ()
    """Nodes that are to be taken down; none named means that any one server has to be dispensable."""


def members_of_status(text: str) -> list[Member]:
    """Return the members that C(microk8s status --format yaml) lists. An empty list: the datastore has no leader."""
    section = re.split(r"\n(?=[^\s#])", text.partition("high-availability:")[2])[0]
    return [Member(addresses.split(found["address"])[0], found["role"]) for found in _MEMBER.finditer(section)]


def epoch(text: str) -> float:
    """Return a time of the Kubernetes API (RFC 3339, UTC, fractions allowed) in seconds of the Unix epoch.

    Raises:
        ValueError: it is none.
    """
    whole, _dummy, fraction = text.rstrip("Z").partition(".")
    moment = datetime.strptime(whole, _TIME).replace(tzinfo=timezone.utc).timestamp()
    if not re.fullmatch("[0-9]*", fraction):
        raise ValueError("'%s' is no time of the API" % text)
    return moment + float("0." + (fraction or "0"))


def moment(value: Any) -> float | None:
    """Return a time of the API in seconds of the Unix epoch, None for whatever is none."""
    try:
        return epoch(value)
    except (AttributeError, TypeError, ValueError):
        return None


def micro_time(moment: float) -> str:
    """Return a time in seconds of the Unix epoch as the API has it in a Lease."""
    return datetime.fromtimestamp(moment, timezone.utc).strftime(_TIME + ".%fZ")


def _internal_ip(node: Mapping[str, Any]) -> str:
    listed = node.get("status", {}).get("addresses", ())
    return next((str(one["address"]) for one in listed if one["type"] == "InternalIP"), "")


def _all_addresses(node: Mapping[str, Any]) -> set[str]:
    """Return every address of a node; an API server may advertise any of them (K3s: node-external-ip, advertise-address)."""
    notes = node["metadata"].get("annotations", {})
    noted = [notes.get(name, "") for name in ("k3s.io/internal-ip", "k3s.io/external-ip")]
    return {one["address"] for one in node.get("status", {}).get("addresses", ())} | set(",".join(noted).split(","))


def _condition(node: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    conditions = node.get("status", {}).get("conditions", ())
    return next((one for one in conditions if one["type"] == name), {})


def ready(node: Mapping[str, Any]) -> str:
    """Return the status of a node's condition Ready: True, False or Unknown."""
    return str(_condition(node, "Ready").get("status", "Unknown"))


def is_ready(node: Mapping[str, Any]) -> bool:
    """Tell whether a node has the condition Ready."""
    return ready(node) == "True"


def holder(lease: Mapping[str, Any]) -> str:
    """Return the host that holds a lease of leader election; its identity is C(host_uuid) (client-go, leaderelection)."""
    identity: str = (lease.get("spec") or {}).get("holderIdentity") or ""
    return identity.rpartition("_")[0].lower() or identity.lower()


def host_name(node: Mapping[str, Any]) -> str:
    """Return the name of a node's host, which need not be its own."""
    labels = node["metadata"].get("labels") or {}
    return str(labels.get(HOST_LABEL, node["metadata"]["name"])).lower()


def has_label(node: Mapping[str, Any], *labels: str) -> bool:
    """Tell whether a node has one of these labels, with whatever value."""
    return any(label in node["metadata"].get("labels", {}) for label in labels)


def api_hosts(nodes: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the addresses of the nodes that are labelled as control plane."""
    return [_internal_ip(node) for node in nodes if has_label(node, *API_LABELS)]


def endpoint_addresses(endpoints: Mapping[str, Any]) -> list[str]:
    """Return the addresses of an Endpoints object, each with its port."""
    return [
        addresses.join(one["ip"], port["port"])
        for subset in endpoints.get("subsets") or ()
        for one in subset.get("addresses") or ()
        for port in subset.get("ports") or ()
    ]


def _is_server(node: Mapping[str, Any], hosts: Sequence[str]) -> bool:
    """Servers are labelled. A cluster of one MicroK8s lists 127.0.0.1 for its member, and addresses may differ."""
    return has_label(node, ETCD_LABEL, *API_LABELS) or _internal_ip(node) in hosts


def _named(entry: str, node: Mapping[str, Any]) -> bool:
    """Tell whether an inventory means this node: by its name, the first part of it, or its address."""
    return entry in (node["name"], node["address"]) or entry.split(".")[0] == node["name"].split(".")[0]


def resolve(entry: str, nodes: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """Return the node that an entry means, the one of that very name first."""
    named = [node for node in nodes if _named(entry, node)]
    return next((node for node in named if node["name"] == entry), named[0] if named else None)


def read_nodes(seen: Observation) -> list[dict[str, Any]]:
    """Return name, address, role, readiness and age of the Lease (seconds, None without one) of every node."""
    leases = {lease["metadata"]["name"]: lease["spec"] for lease in seen.leases}
    hosts = [member.host for member in seen.members]
    found = []
    for node in seen.nodes:
        name = node["metadata"]["name"]
        lease = leases.get(name, {})
        renewed = moment(lease.get("renewTime"))
        found.append(
            {
                "name": name,
                "address": _internal_ip(node),
                "role": "server" if _is_server(node, hosts) else "agent",
                "etcd": has_label(node, ETCD_LABEL),
                "release": node.get("status", {}).get("nodeInfo", {}).get("kubeletVersion", ""),
                "ready": is_ready(node),
                "cordoned": bool(node.get("spec", {}).get("unschedulable")),
                "voter": _condition(node, "EtcdIsVoter").get("status"),
                "lease_age": None if renewed is None else round(seen.now - renewed, 1),
                "lease_expired": renewed is None or seen.now - renewed > lease.get("leaseDurationSeconds", LEASE_DURATION) + CLOCK_SKEW,
            }
        )
    return found


def read_leaders(seen: Observation) -> dict[str, str]:
    """Return the node that leads, by component; a lease knows its host only."""
    names = {host_name(node): node["metadata"]["name"] for node in seen.nodes}
    holders = {lease["metadata"]["name"]: holder(lease) for lease in seen.leaders}
    return {name: names.get(holders[name], holders[name]) for name in LEADERS if holders.get(name)}


def _node_reasons(node: Mapping[str, Any], seen: Observation, expected: Expectation) -> list[str]:
    name, age = node["name"], node["lease_age"]
    if not node["ready"]:
        return ["node %s is NotReady" % name]
    if node["lease_expired"]:
        since = "it has no Lease" if age is None else "its Lease was last renewed %d s ago" % age
        return ["node %s says Ready, but %s: its kubelet does not reach the API (canonical/k8s-dqlite#364)" % (name, since)]
    if age < -CLOCK_SKEW:
        return ["the clock of node %s is %d s ahead of this one: set the time on both" % (name, -age)]
    restarted = next((moment for entry, moment in expected.renewed_after.items() if _named(entry, node)), None)
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
        reasons.append(
            "the inventory's servers %s are no servers of this cluster, which are %s (kubekeel_node_name says where a node has "
            "another name in Kubernetes)" % (", ".join(unknown), names)
        )
    if missing:
        reasons.append("the cluster's servers %s are missing in the inventory" % ", ".join(missing))
    if strangers:
        reasons.append("the inventory's agents %s are no agents of this cluster" % ", ".join(strangers))
    unheard = sorted({entry for entry in (*expected.renewed_after, *expected.losing) if not resolve(entry, nodes)})
    if unheard:
        reasons.append("there is no node %s: set kubekeel_node_name where it differs from the host name" % ", ".join(unheard))
    return reasons


def _api_reasons(seen: Observation, ignored: Sequence[str]) -> list[str]:
    reasons = []
    for host, why in sorted(seen.readyz.items()):
        if host in ignored:
            continue
        if why:
            reasons.append("the API server of %s is not ready: %s" % (host, why))
        elif seen.endpoints is not None and not _is_endpoint(host, seen):
            reasons.append("the API server of %s is not among the endpoints of the Service kubernetes" % host)
    return reasons


def _is_endpoint(host: str, seen: Observation) -> bool:
    listed = {addresses.split(one)[0] for one in seen.endpoints or ()}
    own = next((_all_addresses(node) for node in seen.nodes if _internal_ip(node) == host), {host})
    ready = [one for one, why in seen.readyz.items() if not why]
    # An address that no node shows (advertise-address): then each API server that is ready has to have one.
    return bool(own & listed) or (len(listed) >= len(ready) and not any(listed & _all_addresses(node) for node in seen.nodes))


def _etcd_reasons(nodes: Sequence[Mapping[str, Any]], seen: Observation, expected: Expectation, ignored: Sequence[str]) -> list[str]:
    reasons = ["etcd of %s is not up: %s" % (host, why) for host, why in sorted(seen.down.items()) if why and host not in ignored]
    hosts = [member.host for member in seen.members]
    for node in nodes:
        if not node["etcd"] or node["name"] in expected.ignore:
            continue
        learner = [member for member in seen.members if member.host == node["address"] and member.role != VOTER]
        if learner:
            reasons.append("node %s is a %s of etcd yet, and has no vote" % (node["name"], learner[0].role))
        elif seen.members and node["address"] not in hosts:
            reasons.append("node %s is labelled as etcd, but etcd has no member at %s" % (node["name"], node["address"]))
        elif node["voter"] not in (None, "True"):
            reasons.append("node %s is no voting member of etcd (EtcdIsVoter=%s)" % (node["name"], node["voter"]))
    return reasons


def _quorum_reasons(seen: Observation, losing: Sequence[str] | None) -> list[str]:
    """Say why servers cannot go: those at the addresses C(losing), or for None any one of them."""
    voters = [member.host for member in seen.members if member.role == VOTER]
    mute = ["%s, a %s" % (_shown(member.host, seen), member.role) for member in seen.members if member.role != VOTER]
    if not seen.members and not seen.external:
        return ["the datastore lists no members: it has no leader"]
    needed = len(voters) // 2 + 1
    down = [host for host in voters if _is_down(host, seen)]
    left = len(voters) - len(down) - (1 if losing is None else len([host for host in losing if host in voters and host not in down]))
    if not seen.external and left < needed and (losing is None or set(losing) & set(voters)):
        state = "%s down" % ", ".join(_shown(host, seen) for host in down) if down else "all up"
        if mute:
            state += "; without a vote: %s" % "; ".join(mute)
        elif not down:
            state += "; join servers until there are three"
        return ["no server may be lost: %d voters (%s), %d needed" % (len(voters), state, needed)]
    ready = [host for host, why in seen.readyz.items() if not why and host not in (losing or ())]
    if len(ready) < (2 if losing is None else 1):
        return ["no server may be lost: no API server would be left"]
    return []


def _shown(host: str, seen: Observation) -> str:
    """Return a member's address with the name of its node, where one has it."""
    name = next((node["metadata"]["name"] for node in seen.nodes if _internal_ip(node) == host), "")
    return "%s (%s)" % (name, host) if name else host


def _is_down(host: str, seen: Observation) -> bool:
    """Where the members were not asked themselves, the API server beside one stands for it."""
    return bool(seen.down.get(host) if seen.down else seen.readyz.get(host))


def servers_to_spare(seen: Observation) -> int:
    """Return how many servers may be lost at once: the datastore keeps its majority, and one API server is left."""
    voters = [member.host for member in seen.members if member.role == VOTER]
    ready = len([host for host, why in seen.readyz.items() if not why])
    up = len([host for host in voters if not _is_down(host, seen)])
    return ready - 1 if seen.external else min(up - (len(voters) // 2 + 1), ready - 1)


def evaluate(seen: Observation, expected: Expectation) -> dict[str, Any]:
    """Return the answer as the module cluster_health gives it.

    A node may be taken down where everything is up, the voters that remain still are a majority, and an API server is
    left.
    """
    spare = servers_to_spare(seen)
    nodes = read_nodes(seen)
    known_down = [node for node in (resolve(entry, nodes) for entry in expected.ignore) if node]
    expected = replace(expected, ignore=[node["name"] for node in known_down])
    ignored = [node["address"] for node in known_down]
    problems = [*seen.errors, *_api_reasons(seen, ignored), *_etcd_reasons(nodes, seen, expected, ignored)]
    for node in nodes:
        if node["name"] not in expected.ignore:
            problems += _node_reasons(node, seen, expected)
    if not nodes and not seen.errors:
        problems.append("the API server lists no nodes")
    problems += _inventory_reasons(nodes, expected)
    # A name that means no node is a reason by itself.
    lost = [node for node in (resolve(entry, nodes) for entry in expected.losing) if node]
    losing = [node["address"] for node in lost] if len(lost) == len(expected.losing) and lost else None
    quorum = _quorum_reasons(seen, losing)
    return {
        "healthy": not problems,
        "safe_to_disrupt": not problems and not quorum,
        "keeps_quorum": not quorum,
        "reasons": quorum + problems if not seen.members else problems + quorum,
        "servers_to_spare": max(spare, 0),
        "nodes": nodes,
        "members": [dict(vars(member), ready=not _is_down(member.host, seen)) for member in seen.members],
        "leaders": read_leaders(seen),
        "endpoints": list(seen.endpoints or ()),
    }
