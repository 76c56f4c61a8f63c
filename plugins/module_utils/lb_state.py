"""The state that K3s' client load balancer keeps in files: is it still true? Decided from what was read; reads nothing.

K3s reads such a file once, at its start, and believes it where its ServerURL is the configured one. Invalid JSON and
another ServerURL are ignored and written anew (k3s-io/k3s pkg/agent/loadbalancer/config.go).
"""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Collection, Mapping

from ansible_collections.kubekeel.ha.plugins.module_utils import addresses

ABSENT, FRESH, PARTLY_STALE, STALE, FOREIGN, UNREADABLE = "absent", "fresh", "partly_stale", "stale", "foreign", "unreadable"

API, ETCD = "apiserver", "etcd"


@dataclass(frozen=True)
class StateFile:
    """A file in which a load balancer remembers its servers."""

    path: str
    """Below the data folder."""
    to: str
    """What it balances to: C(API) or C(ETCD)."""


def files(product: str) -> tuple[StateFile, ...]:
    """Return the files of C(k3s) or C(rke2)."""
    return (
        # On agents and etcd-only servers.
        StateFile("agent/etc/%s-agent-load-balancer.json" % product, API),
        # Where the API server has another port than the supervisor, as in RKE2.
        StateFile("agent/etc/%s-api-server-agent-load-balancer.json" % product, API),
        # On control-plane-only servers.
        StateFile("server/etc/%s-etcd-server-load-balancer.json" % product, ETCD),
    )


@dataclass(frozen=True)
class State:
    """What a file says."""

    server_url: str
    addresses: tuple[str, ...]


@dataclass(frozen=True)
class Verdict:
    """What is to be thought of a file."""

    verdict: str
    why: str


def parse(text: str) -> State | None:
    """Return what a file says, None where K3s would not read it."""
    try:
        found = json.loads(text)
        url, addresses = found["ServerURL"], found["ServerAddresses"]
    except (KeyError, RecursionError, TypeError, ValueError):
        return None
    if not isinstance(url, str) or not isinstance(addresses, list) or not all(isinstance(one, str) for one in addresses):
        return None
    return State(url, tuple(addresses))


def judge(state: State | None, server_urls: Collection[str], current: Collection[str], answers: Mapping[str, bool]) -> Verdict:
    """Return what is to be thought of a file that is there.

    Args:
        state: what it says, None for what K3s would not read.
        server_urls: those that K3s can be configured with here, without a slash at their end.
        current: the API servers (or members of etcd) that the cluster has now, in their canonical form.
        answers: for each of these addresses, and each of the file, whether it accepts a TCP connection.
    """
    if state is None:
        return Verdict(UNREADABLE, "K3s ignores it and writes it anew")
    if state.server_url.rstrip("/") not in server_urls:
        return Verdict(FOREIGN, "it was written for the server %s; K3s ignores it and writes it anew" % state.server_url)
    if not state.addresses:
        return Verdict(FRESH, "it remembers none, so K3s begins with its join server")
    # K3s itself writes the join server there before it knows any other, and turns to it last in any case.
    join = {addresses.canonical(url.partition("://")[2]) for url in server_urls}
    gone = [address for address in state.addresses if addresses.canonical(address) not in join.union(current)]
    silent = [address for address in state.addresses if not answers.get(address)]
    alive = [address for address in current if answers.get(address)]
    if len(gone) == len(state.addresses):
        return Verdict(STALE, "none of its addresses is one of the cluster's any more")
    if alive and len(silent) == len(state.addresses):
        return Verdict(STALE, "none of its addresses answers, while %s does" % ", ".join(sorted(alive)))
    if gone:
        return Verdict(PARTLY_STALE, "%s is not one of the cluster's any more; K3s passes on to the others" % ", ".join(gone))
    if silent and alive:
        return Verdict(PARTLY_STALE, "%s does not answer; K3s passes on to the others" % ", ".join(silent))
    return Verdict(FRESH, "nothing answers at all, so it is not to blame" if silent else "")


def why_not_cleared(file: StateFile, verdict: Verdict, force: bool) -> str | None:
    """Return why a file is left where it is, None where it may go.

    Sources: k3s-io/k3s#11349 (stale addresses), #11333 (a remembered address lets a node start without its join server).
    """
    if verdict.verdict == ABSENT:
        return ""
    if file.to == ETCD:
        return "K3s needs the etcd addresses of a control-plane-only server, to start when its join server is down (k3s-io/k3s#11333)"
    if verdict.verdict != STALE and not force:
        return "it is %s" % verdict.verdict
    return None
