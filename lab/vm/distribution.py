"""The lab's distribution ``vm``: MicroK8s, whose one worker is a virtual machine."""

from ..errors import UsageError
from ..microk8s import MicroK8s
from ..topology import Node, Role
from . import accelerator, image, layout


class VirtualMachine(MicroK8s):
    """Answers as MicroK8s does, but for the machine."""

    name = "vm"

    def check(self) -> None:
        """Check that the host can run it.

        Raises:
            LabError: a package is missing, or the host's processor is another one than the kernel's
            UsageError: the environment asks for an accelerator that there is not
        """
        image.check()
        accelerator.forced()

    def units(self, node: Node) -> tuple[str, ...]:
        """Return the snap's units of a node; the machine's are fewer."""
        return tuple(daemon.unit for daemon in layout.DAEMONS) if node.role is Role.GUEST else super().units(node)


def check_counts(topology: str, servers: int | None, agents: int | None) -> dict[Role, int]:
    """Return how many nodes of each role this lab has: nobody can choose.

    Raises:
        UsageError: the user tries to
    """
    if topology != "plain" or servers is not None or agents is not None:
        raise UsageError("The lab 'vm' has one server and one virtual machine; --topology, --servers and --agents do not go with it")
    return {Role.SERVER: 1, Role.GUEST: 1}
