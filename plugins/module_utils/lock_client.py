"""Reads and writes the Lease that keeps runs apart. What to write is decided in cluster_lock."""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Callable, Sequence

from ansible_collections.kubekeel.ha.plugins.module_utils import cluster_lock, kube_api

LEASES = "/apis/coordination.k8s.io/v1/namespaces/%s/leases" % cluster_lock.NAMESPACE
LEASE = LEASES + "/" + cluster_lock.NAME
REQUEST_TIMEOUT = 4
NOT_FOUND = 404
LOST_RACE = (NOT_FOUND, 409)
SERVER_ERROR = 500


@dataclass(frozen=True)
class Outcome:
    """What came of it."""

    step: cluster_lock.Step
    """The last decision: what was written, or would have been, or why nothing was."""
    lock: cluster_lock.Lock
    """The Lease as it is now."""


def settle(api: kube_api.Credentials, hosts: Sequence[str], decide: Callable[[Any], cluster_lock.Step], write: bool = True) -> Outcome:
    """Read the Lease and write what follows from it, at the first API server that answers.

    An answer that was lost may stand for a write that was done; so each attempt begins with a look.

    Args:
        api: who asks.
        hosts: addresses of the API servers, in their order.
        decide: from the Lease, None where there is none, to what to write.
        write: whether to write at all.

    Raises:
        kube_api.ApiError: none answers, or the first one that does refuses.
    """
    problems = []
    for host in hosts:
        try:
            with kube_api.Session(api, host, REQUEST_TIMEOUT) as session:
                return _settle_at(session, decide, write)
        except kube_api.ApiError as error:
            # One that answers with an error of its own has no datastore just now; others may.
            if error.status is not None and error.status < SERVER_ERROR:
                raise
            problems.append("%s: %s" % (host, error))
    raise kube_api.ApiError("no API server answers (%s)" % "; ".join(problems))


def _settle_at(session: kube_api.Session, decide: Callable[[Any], cluster_lock.Step], write: bool) -> Outcome:
    for _again in (False, True):
        lease = _read(session)
        step = decide(lease)
        if not step.method or not write:
            return Outcome(step, cluster_lock.read(lease))
        try:
            written = session.send_json(step.method, LEASES if step.method == "POST" else LEASE, step.lease)
            return Outcome(step, cluster_lock.read(written))
        except kube_api.ApiError as error:
            if error.status not in LOST_RACE:
                raise
    lease = _read(session)
    step = decide(lease)
    if step.method:
        step = cluster_lock.Step(refusal="others write to the Lease %s at the same moment. Start again" % cluster_lock.NAME)
    return Outcome(step, cluster_lock.read(lease))


def _read(session: kube_api.Session) -> Any:
    try:
        found = session.send_json("GET", LEASE)
    except kube_api.ApiError as error:
        if error.status == NOT_FOUND:
            return None
        raise
    if not isinstance(found, dict):
        raise kube_api.ApiError("%s gives no object" % LEASE)
    return found


class Holding:
    """A run that holds the cluster, and renews its Lease while somebody looks."""

    def __init__(self, api: kube_api.Credentials, run_id: str) -> None:
        """Renew with the first look."""
        self._api = api
        self._run_id = run_id
        self._due = time.monotonic()

    def lost(self, host: str) -> str:
        """Renew the Lease where that is due, and return why the run must not go on; an empty text where it may.

        Args:
            host: address of an API server that answers.
        """
        if time.monotonic() < self._due:
            return ""
        try:
            refusal = settle(self._api, [host], lambda lease: cluster_lock.renew(lease, self._run_id, time.time())).step.refusal
        except kube_api.ApiError as error:
            return "the Lease of run %s cannot be renewed: %s" % (self._run_id, error)
        if not refusal:
            self._due = time.monotonic() + cluster_lock.RENEW_AFTER
        return refusal
