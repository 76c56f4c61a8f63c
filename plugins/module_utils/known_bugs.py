"""Bugs of releases that take nodes out of a cluster: data, and which release has which."""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Mapping, Tuple

Line = Tuple[int, int]
"""A line of releases, such as 1.31."""

AGENT, ETCD_ONLY, CONTROL_PLANE_ONLY, SERVER = "agent", "etcd-only server", "control-plane-only server", "server"
ANY = (AGENT, ETCD_ONLY, CONTROL_PLANE_ONLY, SERVER)

_RELEASE = re.compile(r"v?([0-9]{1,9})\.([0-9]{1,9})\.([0-9]{1,9})(?![0-9])")


@dataclass(frozen=True)
class Bug:
    """A bug, the releases that have it and those that mended it."""

    source: str
    distribution: str
    kinds: tuple[str, ...]
    """The kinds of nodes on which it shows."""
    what: str
    cure: str
    """What helps where the release cannot be changed now."""
    mended: Mapping[Line, int] = field(default_factory=dict)
    """For a line of releases the first patch without the bug. Older lines never got it; later ones began with it."""
    lines: tuple[Line, Line] = ((0, 0), (99, 99))
    """The first and the last line that is known to have it, where it is not mended everywhere."""


# What is not here: canonical/microk8s#4596, mended by a revision of the snap of September 2024, which no release tells.
# Which patch mended a bug is read from the release notes of K3s. That of 1.29 and 1.32 in #11349, and of 1.29 to 1.31 in
# #11333, is taken from the dates of the backports.
BUGS = (
    Bug(
        "k3s-io/k3s#10506",
        "k3s",
        (AGENT, ETCD_ONLY),
        "the client load balancer hangs when servers are removed, and the node loses the API",
        "restart K3s on the node",
        {(1, 30): 3, (1, 29): 7, (1, 28): 12, (1, 27): 16},
    ),
    Bug(
        "k3s-io/k3s#11311",
        "k3s",
        (ETCD_ONLY,),
        "a server that runs etcd alone does not come back to an API server that was away",
        "restart K3s on the node",
        {(1, 31): 3, (1, 30): 7, (1, 29): 11},
    ),
    Bug(
        "k3s-io/k3s#11349",
        "k3s",
        (AGENT, ETCD_ONLY),
        "when API servers fail one after the other the node keeps to dead ones and stays NotReady, also over a restart",
        "the playbook kubekeel.ha.recover_k3s_lb brings such nodes back",
        {(1, 32): 0, (1, 31): 4, (1, 30): 8, (1, 29): 12},
    ),
    Bug(
        "k3s-io/k3s#11333",
        "k3s",
        (CONTROL_PLANE_ONLY,),
        "the node does not start while the server that it joins at is down",
        "let it join at a fixed registration address (role k3s_registration)",
        {(1, 32): 3, (1, 31): 7, (1, 30): 11, (1, 29): 15},
    ),
    Bug(
        "canonical/k8s-dqlite#364",
        "microk8s",
        ANY,
        "one time-out of a watch ends all watches of the datastore for good: nodes say Ready, and their Leases have run out",
        "where that shows, restart snap.microk8s.daemon-k8s-dqlite on the node; it is not mended in any release yet",
        lines=((1, 34), (1, 36)),
    ),
)


def has_bug(bug: Bug, release: str) -> bool:
    """Tell whether a release (C(v1.31.3+k3s1)) has a bug. A release candidate counts as older than its release.

    Raises:
        ValueError: this is no release.
    """
    found = _RELEASE.match(release)
    if not found:
        raise ValueError("'%s' is no release" % release)
    line, patch = (int(found.group(1)), int(found.group(2))), int(found.group(3))
    if not bug.lines[0] <= line <= bug.lines[1]:
        return False
    if line in bug.mended:
        first = bug.mended[line]
        return patch < first or (patch == first and "-" in release.split("+")[0])
    return not bug.mended or line < max(bug.mended)


def findings(distribution: str, release: str, kind: str) -> list[str]:
    """Return a sentence for each bug that shows on a node, none where the release is not known.

    Args:
        distribution: C(k3s) or C(microk8s).
        release: as the distribution names it; may be empty.
        kind: one of C(ANY).
    """
    if not _RELEASE.match(release):
        return []
    return [
        "%s has %s: %s. %s%s" % (release, bug.source, bug.what, _upgrade(bug), bug.cure)
        for bug in BUGS
        if bug.distribution == distribution and kind in bug.kinds and has_bug(bug, release)
    ]


def _upgrade(bug: Bug) -> str:
    if not bug.mended:
        return ""
    return "Mended in %s; until then: " % ", ".join("%d.%d.%d" % (*line, bug.mended[line]) for line in sorted(bug.mended, reverse=True))
