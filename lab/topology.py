"""Nodes of a lab and their addresses: pure arithmetic on a name, two counts and a subnet."""

import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from .errors import UsageError

MAX_SERVERS = 9
MAX_AGENTS = 40
# Room for servers below it, so that an agent's address does not depend on their number.
FIRST_SERVER_HOST = 11
FIRST_AGENT_HOST = 51
NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?")


class Role(StrEnum):
    """What a node does; also the groups of the inventory, in the singular."""

    SERVER = "server"
    AGENT = "agent"


@dataclass(frozen=True)
class Node:
    """One machine of the cluster."""

    lab: str
    role: Role
    number: int
    address: str
    pod_subnet: str

    @property
    def name(self) -> str:
        """Host name, Kubernetes node name and inventory name."""
        return f"{self.role}{self.number}"

    @property
    def container(self) -> str:
        """Podman's name of the node."""
        return f"kubekeel-{self.lab}-{self.name}"

    @property
    def is_server(self) -> bool:
        """Tell whether the node runs the control plane."""
        return self.role is Role.SERVER


@dataclass(frozen=True)
class Topology:
    """All nodes of a lab."""

    lab: str
    subnet: str
    nodes: tuple[Node, ...]

    @property
    def servers(self) -> tuple[Node, ...]:
        """The nodes with a control plane."""
        return tuple(node for node in self.nodes if node.is_server)

    @property
    def agents(self) -> tuple[Node, ...]:
        """The nodes without one."""
        return tuple(node for node in self.nodes if not node.is_server)

    @property
    def gateway(self) -> str:
        """The host's address on the lab's network."""
        return gateway(self.subnet)

    def find(self, name: str) -> Node:
        """Return a node by its name.

        Raises:
            UsageError: there is none
        """
        for node in self.nodes:
            if node.name == name:
                return node
        names = ", ".join(node.name for node in self.nodes)
        raise UsageError(f"Lab '{self.lab}' has no node '{name}'; it has {names}")


def gateway(subnet: str) -> str:
    """Return the first address of a subnet."""
    return str(ipaddress.ip_network(subnet)[1])


def network_name(lab: str) -> str:
    """Podman's name of a lab's network."""
    return f"kubekeel-{lab}"


def check_request(lab: str, servers: int, agents: int) -> None:
    """Check what the user asks for, before anything is made.

    Raises:
        UsageError: the name does not fit a host name, or a count is out of range
    """
    if not NAME.fullmatch(lab):
        raise UsageError(f"'{lab}' is no name for a lab: use up to 32 of a-z, 0-9 and -, not at either end")
    if not 1 <= servers <= MAX_SERVERS or not 0 <= agents <= MAX_AGENTS:
        raise UsageError(f"A lab has 1 to {MAX_SERVERS} servers and 0 to {MAX_AGENTS} agents")


def plan(lab: str, subnet: str, servers: int, agents: int) -> Topology:
    """Give every node its address and its own subnet for pods."""
    network = ipaddress.ip_network(subnet)

    def nodes() -> Iterator[Node]:
        ordinal = 0
        for role, count, first in ((Role.SERVER, servers, FIRST_SERVER_HOST), (Role.AGENT, agents, FIRST_AGENT_HOST)):
            for number in range(1, count + 1):
                ordinal += 1
                yield Node(lab, role, number, str(network[first + number - 1]), f"10.1.{ordinal}.0/24")

    return Topology(lab, subnet, tuple(nodes()))
