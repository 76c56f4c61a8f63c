"""Addresses with a port, as Kubernetes and K3s write them: IPv6 in brackets. Pure."""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import ipaddress
import re

_PORT = re.compile(r"[0-9]{1,5}")


def split(address: str) -> tuple[str, int]:
    """Return host and port of an address, IPv6 without brackets; the port is 0 where there is none."""
    host, colon, port = address.rpartition(":")
    if not colon or not _PORT.fullmatch(port) or (":" in host and not host.startswith("[")):
        return address.strip("[]"), 0
    return host.strip("[]"), int(port)


def join(host: str, port: int) -> str:
    """Return an address."""
    return ("[%s]:%d" if ":" in host else "%s:%d") % (host, port)


def canonical(address: str) -> str:
    """Return an address in the one form that it can be compared by."""
    host, port = split(address)
    try:
        host = str(ipaddress.ip_address(host))
    except ValueError:
        host = host.lower()
    return join(host, port)
