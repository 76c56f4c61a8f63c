"""How long writes to the datastore take, and which leader election they allow. Pure."""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import math
from typing import Any, Mapping, Sequence

from ansible_collections.kubekeel.ha.plugins.module_utils.go_duration import seconds

WRITES = 10
"""Writes that have to fit into the renew deadline. client-go gives one request half of it; the rest is for load and luck."""

RETRIES = 2
"""Retry periods that a write may last at most, or a leader mostly waits for the renewal before."""


def percentile(lengths: Sequence[float], share: float) -> float:
    """Return the length that a share (C(0.99)) of all lengths does not exceed; there is at least one."""
    return sorted(lengths)[max(math.ceil(share * len(lengths)) - 1, 0)]


def refusal(p99: float, renew_deadline: str, retry_period: str) -> str:
    """Return which margin is broken, an empty text where none is.

    Args:
        p99: seconds that 99 of 100 writes stay below.
        renew_deadline: of the leader election, a Go duration.
        retry_period: the same.

    Raises:
        ValueError: that is no duration.
    """
    if p99 * WRITES > seconds(renew_deadline):
        return "%d writes have to fit into the renew deadline of %s, so %s is the most" % (
            WRITES,
            renew_deadline,
            _show(seconds(renew_deadline) / WRITES),
        )
    if p99 >= RETRIES * seconds(retry_period):
        return "a write has to take less than %d retry periods of %s" % (RETRIES, retry_period)
    return ""


def fitting(p99: float, profiles: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Return the first profile that such writes allow, None where there is none.

    Args:
        p99: seconds that 99 of 100 writes stay below.
        profiles: values by profile, in the order in which they are to be tried.
    """
    for name, values in profiles.items():
        if not refusal(p99, values["leader_election_renew_deadline"], values["leader_election_retry_period"]):
            return name
    return None


def advice(p99: float, renew_deadline: str, retry_period: str, profiles: Mapping[str, Mapping[str, Any]]) -> str:
    """Return a sentence for the operator where a margin is broken: what was measured, which margin, what to choose.

    An empty text where none is. The arguments are those of C(refusal) and C(fitting).
    """
    broken = refusal(p99, renew_deadline, retry_period)
    if not broken:
        return ""
    slower = fitting(p99, profiles)
    cure = "choose kubekeel_profile=%s, or a longer leader_election_renew_deadline and leader_election_retry_period" % slower
    if not slower:
        cure = "no profile fits; look for what slows the datastore down (disk, network, load) first"
    return "99 of 100 writes to the datastore take up to %s, but %s: %s" % (_show(p99), broken, cure)


def _show(length: float) -> str:
    return "%.0f ms" % (length * 1000) if length < 1 else "%.1f s" % length
