"""The address at which nodes of K3s join: does it name a single node? Pure."""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import re
from typing import Collection, Iterable
from urllib.parse import urlsplit

from ansible_collections.kubekeel.ha.plugins.module_utils import addresses

PORT = 6443
_HOST = re.compile(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]+(?:%[A-Za-z0-9._-]+)?")
"""A name, or an address without brackets."""


def normalize(address: str, default_port: int = 443) -> str:
    """Return an address as K3s takes it: C(https://host:port); without a port it is that of https.

    Raises:
        ValueError: it names no host, or is not https.
    """
    text = address if "://" in address else "https://" + address
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError("'%s' is no address: %s" % (address, error)) from error
    more = parts.path.strip("/") or parts.query or parts.fragment or parts.username is not None or port == 0
    # What cannot be printed would be left out of the parts.
    if parts.scheme != "https" or not _HOST.fullmatch(host or "") or more or not text.isprintable():
        raise ValueError("'%s' is no address of servers such as https://k3s.example.org:6443" % address)
    return "https://" + addresses.join(host or "", port or default_port)


def host_of(url: str) -> str:
    """Return the host of a URL, IPv6 without brackets."""
    return (urlsplit(url).hostname or "").lower()


def single_node(url: str, nodes: Iterable[str], resolved: Collection[str]) -> str | None:
    """Return the entry of C(nodes) (names and addresses) that a server URL names, None where it names something else.

    Args:
        url: of the server.
        nodes: names and addresses of the nodes.
        resolved: the addresses that its host stands for; empty where it cannot be resolved.
    """
    host = host_of(url)
    known = {node.lower() for node in nodes}
    if host in known:
        return host
    if len(set(resolved)) == 1 and set(resolved) <= known:
        return next(iter(resolved))
    # A node is often written with its domain.
    short = host.split(".")[0]
    return short if not resolved and short in known and not short.isdigit() else None
