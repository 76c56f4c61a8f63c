"""The distributions that the lab can lay out."""

from .distribution import Distribution
from .errors import UsageError
from .k3s import K3s
from .microk8s import MicroK8s

KNOWN: dict[str, Distribution] = {each.name: each for each in (MicroK8s(), K3s())}


def find(name: str) -> Distribution:
    """Return a distribution by its name.

    Raises:
        UsageError: there is none
    """
    if name not in KNOWN:
        raise UsageError(f"The lab cannot lay out '{name}'; it knows {', '.join(KNOWN)}")
    return KNOWN[name]
