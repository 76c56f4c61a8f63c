"""What the lab has to know about a Kubernetes distribution."""

from collections.abc import Callable, Iterable
from typing import Protocol

from .archive import Entry
from .secrets import Secrets
from .topology import Node, Topology

Execute = Callable[..., str]


class Distribution(Protocol):
    """A layout of real components; see ``lab.microk8s`` for one."""

    @property
    def name(self) -> str:
        """The word of ``--distribution`` and of the inventory."""

    @property
    def api_port(self) -> int:
        """Port of every API server."""

    @property
    def web_address(self) -> str:
        """ClusterIP of the web workload's Service."""

    @property
    def pod_network(self) -> str:
        """Network whose parts are the nodes' own subnets for pods."""

    @property
    def splits_servers(self) -> bool:
        """Tell whether control plane and datastore may be on different servers, with an address in front of them all."""

    def entries(self, topology: Topology, node: Node, secrets: Secrets, version: str) -> Iterable[Entry]:
        """Return a machine's files of this distribution; ``version`` is that of Kubernetes."""

    def check(self) -> None:
        """Check what the user's environment asks for, before anything is made.

        Raises:
            UsageError: it cannot be meant
        """

    def units(self, node: Node) -> tuple[str, ...]:
        """Return the units that must run on a node."""

    def voters(self, execute: Execute) -> int:
        """Return the number of voting members of the datastore; ``execute`` runs a command on one of them."""
