"""Which of K3s's known bugs a release has."""

import re
from dataclasses import dataclass

RELEASE = re.compile(r"v(\d+)\.(\d+)\.(\d+)(-rc\d+)?\+k3s\d+")
# Minor release of Kubernetes 1.x to the patch release that mends the bug; later minors never had it.
ADDRESSES_RELEARNED = {29: 12, 30: 8, 31: 4, 32: 0}
"""k3s#11349: when no remembered API server is left, ask the servers for the present ones."""
JOIN_SERVER_DISPENSABLE = {29: 15, 30: 11, 31: 7, 32: 3}
"""k3s#11333: a control plane starts although the server that it once joined does not answer."""
LONGER_GRACE = 32
"""From this minor release of Kubernetes on, a node is taken for dead after 50 seconds instead of 40."""
LISTENER_DROPPED = 30
"""From this minor release on, load balancers do not write their listener down."""


@dataclass(frozen=True)
class Release:
    """A release of K3s, for instance ``v1.32.3+k3s1``."""

    text: str
    major: int
    minor: int
    patch: int
    candidate: bool

    @classmethod
    def parse(cls, text: str) -> "Release":
        """Read a release.

        Raises:
            ValueError: it is none
        """
        match = RELEASE.fullmatch(text)
        if match is None:
            raise ValueError(f"'{text}' is no release of K3s; one looks like v1.32.3+k3s1")
        major, minor, patch, candidate = match.groups()
        return cls(text, int(major), int(minor), int(patch), candidate is not None)

    def has(self, mend: dict[int, int]) -> bool:
        """Tell whether a mend is in this release; a release candidate counts as the release before."""
        if self.minor not in mend:
            return self.minor > max(mend)
        return self.patch > mend[self.minor] or (self.patch == mend[self.minor] and not self.candidate)

    @property
    def relearns_addresses(self) -> bool:
        """Tell whether a load balancer without a live address asks for new ones."""
        return self.has(ADDRESSES_RELEARNED)

    @property
    def joins_once(self) -> bool:
        """Tell whether a control plane needs the join server only when it joins."""
        return self.has(JOIN_SERVER_DISPENSABLE)

    @property
    def node_monitor_grace_period(self) -> str:
        """Return the controller-manager's own default."""
        return "50s" if self.minor >= LONGER_GRACE else "40s"

    @property
    def writes_listener(self) -> bool:
        """Tell whether state files have the field ``Listener``."""
        return self.minor < LISTENER_DROPPED
