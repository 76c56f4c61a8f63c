"""What a load balancer remembers and where it turns to: decisions without any doing.

Addresses are ``host:port`` texts.
"""

import json
from collections.abc import Iterable, Sequence


def read(text: str, server_url: str) -> list[str]:
    """Return the addresses of a state file; none where K3s would ignore it and write it anew."""
    try:
        state = json.loads(text)
    except ValueError:
        return []
    if not isinstance(state, dict) or state.get("ServerURL") != server_url:
        return []
    addresses = state.get("ServerAddresses")
    if not isinstance(addresses, list) or not all(isinstance(address, str) for address in addresses):
        return []
    return normal(addresses)


def render(server_url: str, addresses: Sequence[str], *, listener: bool) -> str:
    """Return a state file; older releases also write the field ``Listener``."""
    state: dict[str, object] = {"ServerURL": server_url, "ServerAddresses": list(addresses)}
    if listener:
        state["Listener"] = None
    return json.dumps(state, indent=2)


def normal(addresses: Iterable[str]) -> list[str]:
    """Return addresses in K3s's order, each once."""
    return sorted(set(addresses))


def changed(addresses: Sequence[str], found: Iterable[str]) -> list[str] | None:
    """Return the addresses to go on with after a look at the cluster, or None where nothing changes."""
    new = normal(found)
    return new if new and new != list(addresses) else None


def candidates(addresses: Sequence[str], last: str, fallback: str) -> list[str]:
    """Return what to try in which order: from the one that worked last, and at the very end the configured server."""
    start = addresses.index(last) if last in addresses else 0
    return [*addresses[start:], *addresses[:start], *([] if fallback in addresses else [fallback])]


def to_ask(server: str, addresses: Sequence[str], seen: Iterable[str]) -> list[str]:
    """Return whom to ask for the present API servers when no remembered one is left: the configured server first."""
    return list(dict.fromkeys([server, *addresses, *sorted(seen)]))
