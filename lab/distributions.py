"""The distributions that the lab can lay out."""

from .distribution import Distribution
from .errors import UsageError
from .k3s import K3s
from .microk8s import MicroK8s
from .vm import VirtualMachine

KNOWN: dict[str, Distribution] = {each.name: each for each in (MicroK8s(), K3s(), VirtualMachine())}
# What kubekeel calls the nodes' distribution, where the lab has another word for it.
LAYOUTS = {VirtualMachine.name: MicroK8s.name}


def find(name: str) -> Distribution:
    """Return a distribution by its name.

    Raises:
        UsageError: there is none
    """
    if name not in KNOWN:
        raise UsageError(f"The lab cannot lay out '{name}'; it knows {', '.join(KNOWN)}")
    return KNOWN[name]


def layout(name: str) -> str:
    """Return what the nodes of a distribution of the lab are laid out as, in kubekeel's own word."""
    return LAYOUTS.get(name, name)
