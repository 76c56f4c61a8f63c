"""From the node objects of a cluster to the hosts and groups of an inventory. Pure.

What a node object holds was written by the node itself, so nothing of it is taken for more than data: a name that is no
name, or an address that ssh could take for an option, ends it.
"""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import ipaddress
import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

from ansible_collections.kubekeel.ha.plugins.module_utils import health

ADDRESS_TYPES = ("InternalIP", "ExternalIP", "Hostname")
"""The addresses of a node that Ansible may use, best first."""
DISTRIBUTIONS = ("k3s", "microk8s", "rke2")
GROUPS = ("servers", "agents", "etcd", "control_plane", *DISTRIBUTIONS)
"""The groups that are there in every cluster, with or without members."""

INSTANCE_TYPE = "node.kubernetes.io/instance-type"
MICROK8S_LABELS = ("microk8s.io/cluster", "node.kubernetes.io/microk8s-controlplane", "node.kubernetes.io/microk8s-worker")
SERVER_LABELS = (health.ETCD_LABEL, *health.API_LABELS)

# A DNS-1123 subdomain, which is what Kubernetes takes for the name of a node.
_LABEL = r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?"
_NAME = re.compile(r"%s(?:\.%s)*" % (_LABEL, _LABEL))
_NAME_LENGTH = 253


class ClusterError(Exception):
    """No inventory can be made; the message says why, and what to do."""


class UnfitError(ClusterError):
    """An expression is right, and this node has nothing that it could work on."""


@dataclass(frozen=True)
class Host:
    """A node, as the inventory has it."""

    name: str
    groups: tuple[str, ...]
    variables: Mapping[str, Any]
    node: Mapping[str, Any]
    """The object that it was made of."""


def read_nodes(text: str, source: str) -> list[Any]:
    """Return the node objects out of what C(kubectl get nodes -o json) prints.

    Args:
        text: the output.
        source: where it comes from, for messages.

    Raises:
        ClusterError: it is something else, or there are no nodes.
    """
    try:
        document = json.loads(text)
    except (RecursionError, ValueError) as error:
        raise ClusterError(
            "%s gives no JSON (%s), it begins with %r: the output of 'kubectl get nodes -o json' is needed" % (source, error, text[:60])
        ) from error
    items = document.get("items") if isinstance(document, Mapping) and document.get("kind") in ("List", "NodeList") else None
    # In a NodeList of the API itself the items do not say what they are.
    if not isinstance(items, list) or not all(isinstance(item, Mapping) and item.get("kind", "Node") == "Node" for item in items):
        raise ClusterError("%s gives JSON, but no list of nodes: the output of 'kubectl get nodes -o json' is needed" % source)
    if not items:
        raise ClusterError("%s lists no nodes: is it the right cluster, and did a node join it yet?" % source)
    return items


def search(expression: Any, data: Any, option: str) -> Any:
    """Return what a JMESPath expression makes of the data.

    Args:
        expression: as the operator wrote it.
        data: one node object, or a list of them.
        option: the option that it was written in, for messages.

    Raises:
        UnfitError: a function in it does not take what the data holds.
        ClusterError: it cannot be read, or jmespath is missing.
    """
    if not isinstance(expression, str):
        raise ClusterError("%s: %r is no JMESPath expression; put a text in quotes" % (option, expression))
    try:
        # Not everybody has expressions, and a collection that was installed by ansible-galaxy brings no packages.
        import jmespath
    except ImportError as error:
        raise ClusterError("%s needs the Python package jmespath: run '%s -m pip install jmespath'" % (option, sys.executable)) from error
    try:
        return jmespath.search(expression, data)
    except jmespath.exceptions.JMESPathError as error:
        kind = UnfitError if isinstance(error, jmespath.exceptions.JMESPathTypeError) else ClusterError
        raise kind("%s: the JMESPath expression %s fails: %s" % (option, expression, error)) from error


def select(nodes: list[Any], query: Any) -> list[Any]:
    """Return the nodes that the operator wants.

    Raises:
        ClusterError: the query fails, or gives something else than nodes.
    """
    chosen = search(query, nodes, "query")
    if not isinstance(chosen, list) or not all(isinstance(node, Mapping) for node in chosen):
        raise ClusterError("query: %s gives no list of node objects; a filter looks like [?metadata.labels.zone=='a']" % query)
    if not chosen:
        raise ClusterError("query: %s leaves none of the %d nodes" % (query, len(nodes)))
    return chosen


def to_hosts(nodes: list[Any], address_type: str) -> list[Host]:
    """Return a host for each node: servers with etcd first, then other servers, then agents, each by their names.

    Raises:
        ClusterError: a node cannot be a host.
    """
    hosts = [_to_host(node, address_type) for node in nodes]
    names = [host.name for host in hosts]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ClusterError("there is more than one node %s: is it the output for one cluster?" % ", ".join(twice))
    return sorted(hosts, key=_order)


def _order(host: Host) -> tuple[int, list[str | int]]:
    rank = 0 if "etcd" in host.groups else 1 if "servers" in host.groups else 2
    # Text and numbers take turns, so that like is compared with like: server2 comes before server10.
    return rank, [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", host.name)]


def _to_host(node: Mapping[str, Any], address_type: str) -> Host:
    metadata, status = _mapping(node.get("metadata")), _mapping(node.get("status"))
    name, labels = metadata.get("name"), _mapping(metadata.get("labels"))
    if not _is_name(name):
        raise ClusterError("a node has the name %r, which no Kubernetes node can have (RFC 1123): no host is made of it" % (name,))
    version = _mapping(status.get("nodeInfo")).get("kubeletVersion")
    release = version if isinstance(version, str) else ""
    distribution = _distribution(release, labels, _mapping(metadata.get("annotations")))
    addresses = _addresses(name, status)
    variables: dict[str, Any] = {
        "kubekeel_node_name": name,
        "kubekeel_release": release,
        "kubekeel_ready": any(one.get("type") == "Ready" and one.get("status") == "True" for one in _mappings(status.get("conditions"))),
        "kubekeel_labels": dict(labels),
        "kubekeel_internal_ip": addresses.get("InternalIP", ""),
    }
    # Both are absent rather than empty: Ansible then takes the host's name, and roles their default.
    if addresses:
        variables["ansible_host"] = next(addresses[kind] for kind in (address_type, *ADDRESS_TYPES) if kind in addresses)
    if distribution:
        variables["kubekeel_distribution"] = distribution
    return Host(name, tuple(_groups(labels, distribution, release)), variables, node)


def _groups(labels: Mapping[str, Any], distribution: str | None, release: str) -> list[str]:
    groups = ["servers" if any(label in labels for label in SERVER_LABELS) else "agents"]
    # The datastore of MicroK8s is Dqlite, whatever somebody wrote on a node.
    groups += ["etcd"] if health.ETCD_LABEL in labels and distribution != "microk8s" else []
    groups += ["control_plane"] if any(label in labels for label in health.API_LABELS) else []
    groups += [distribution] if distribution else []
    groups += ["release_" + re.sub(r"\W", "_", release, flags=re.ASCII)] if release else []
    return groups


def _distribution(release: str, labels: Mapping[str, Any], annotations: Mapping[str, Any]) -> str | None:
    for name in ("k3s", "rke2"):
        if "+" + name in release:
            return name
    for name in ("k3s", "rke2"):
        # Their own cloud controller calls their machines so.
        if any(key.startswith(name + ".io/") for key in annotations) or labels.get(INSTANCE_TYPE) == name:
            return name
    # MicroK8s ships the kubelet of upstream, whose release does not tell.
    return "microk8s" if any(label in labels for label in MICROK8S_LABELS) else None


def _addresses(name: str, status: Mapping[str, Any]) -> dict[str, str]:
    """Return the first address of each type: in a dual-stack cluster that is the one that the node itself prefers."""
    found: dict[str, str] = {}
    for one in _mappings(status.get("addresses")):
        kind, address = one.get("type"), one.get("address")
        if kind not in ADDRESS_TYPES or kind in found:
            continue
        if not _is_address(address):
            raise ClusterError("node %s has %r for its %s, which is neither an IP address nor a host name" % (name, address, kind))
        found[kind] = address
    return found


def _is_name(value: Any) -> TypeGuard[str]:
    return isinstance(value, str) and len(value) <= _NAME_LENGTH and _NAME.fullmatch(value) is not None


def _is_address(value: Any) -> TypeGuard[str]:
    if not isinstance(value, str):
        return False
    try:
        # What follows a '%' in an IPv6 address may be anything.
        return "%" not in value and bool(ipaddress.ip_address(value))
    except ValueError:
        return _is_name(value.lower())


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _mappings(value: Any) -> list[Mapping[str, Any]]:
    return [one for one in value if isinstance(one, Mapping)] if isinstance(value, list) else []
