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
    def containerd_unit(self) -> str:
        """The unit whose containerd runs the pods."""

    @property
    def containerd_socket(self) -> str:
        """Absolute path of that containerd's socket."""

    def entries(self, topology: Topology, node: Node, secrets: Secrets, version: str) -> Iterable[Entry]:
        """Return the node's files of this distribution; ``version`` is that of Kubernetes."""

    def units(self, node: Node) -> tuple[str, ...]:
        """Return the units that must run on a node."""

    def voters(self, execute: Execute) -> int:
        """Return the number of voting members of the datastore; ``execute`` runs a command on a server."""
