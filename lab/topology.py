"""Nodes of a lab and their addresses: pure arithmetic on a name, some counts and a subnet."""

import ipaddress
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from .errors import UsageError

MAX_SERVERS = 9
MAX_AGENTS = 40
NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?")


class Role(StrEnum):
    """What a machine does; the value is what its name begins with."""

    SERVER = "server"
    """Control plane and datastore."""
    ETCD = "etcd"
    """A server with the datastore only."""
    CONTROL_PLANE = "control"
    """A server with the control plane only."""
    AGENT = "agent"
    """Pods only."""
    GUEST = "node"
    """A worker in a virtual machine, with a kernel of its own and without pods."""
    REGISTRATION = "registration"
    """No node of the cluster: the address in front of all servers."""


# The first machine's address within the subnet. There is room behind each, so that an agent's address does not depend
# on the number of servers.
FIRST_HOST = {Role.REGISTRATION: 5, Role.SERVER: 11, Role.ETCD: 11, Role.CONTROL_PLANE: 31, Role.AGENT: 51}
NO_PODS = frozenset({Role.REGISTRATION, Role.GUEST})
# A guest is not on the lab's network, but behind QEMU's own, which is the same for all.
GUEST_ADDRESS = "10.0.2.15"
LOOPBACK = "127.0.0.1"
SSH_PORT = 22


@dataclass(frozen=True)
class Node:
    """One machine of the lab; ``pod_subnet`` is empty where no pods run, ``ssh_port`` another one for virtual machines only."""

    lab: str
    role: Role
    number: int
    address: str
    pod_subnet: str
    ssh_port: int = SSH_PORT

    @property
    def ssh_address(self) -> str:
        """Where this host reaches the machine's sshd, at ``ssh_port``."""
        return LOOPBACK if self.role is Role.GUEST else self.address

    @property
    def name(self) -> str:
        """Host name, Kubernetes node name and inventory name."""
        return self.role.value if self.role is Role.REGISTRATION else f"{self.role}{self.number}"

    @property
    def container(self) -> str:
        """Podman's name of the node."""
        return f"kubekeel-{self.lab}-{self.name}"

    @property
    def is_server(self) -> bool:
        """Tell whether the node runs any part of the control plane or of the datastore."""
        return self.runs_api or self.runs_datastore

    @property
    def runs_api(self) -> bool:
        """Tell whether the node runs an API server."""
        return self.role in (Role.SERVER, Role.CONTROL_PLANE)

    @property
    def runs_datastore(self) -> bool:
        """Tell whether the node is a member of the datastore."""
        return self.role in (Role.SERVER, Role.ETCD)


@dataclass(frozen=True)
class Topology:
    """All nodes of a lab, datastore first, and the machine in front of its servers where there is one."""

    lab: str
    subnet: str
    nodes: tuple[Node, ...]
    registration: Node | None = None

    @property
    def servers(self) -> tuple[Node, ...]:
        """The nodes with a control plane, a datastore or both."""
        return tuple(node for node in self.nodes if node.is_server)

    @property
    def api_servers(self) -> tuple[Node, ...]:
        """The nodes with an API server."""
        return tuple(node for node in self.nodes if node.runs_api)

    @property
    def datastore(self) -> tuple[Node, ...]:
        """The nodes that hold the datastore."""
        return tuple(node for node in self.nodes if node.runs_datastore)

    @property
    def agents(self) -> tuple[Node, ...]:
        """The nodes for pods only."""
        return tuple(node for node in self.nodes if not node.is_server)

    @property
    def machines(self) -> tuple[Node, ...]:
        """Everything that has power to cut: the nodes, and what stands in front of them."""
        return (*self.nodes, *([self.registration] if self.registration else []))

    @property
    def containers(self) -> "Topology":
        """The same without virtual machines."""
        return replace(self, nodes=tuple(node for node in self.nodes if node.role is not Role.GUEST))

    @property
    def guests(self) -> tuple[Node, ...]:
        """The virtual machines."""
        return tuple(node for node in self.nodes if node.role is Role.GUEST)

    @property
    def gateway(self) -> str:
        """The host's address on the lab's network."""
        return gateway(self.subnet)

    def find(self, name: str) -> Node:
        """Return a machine by its name.

        Raises:
            UsageError: there is none
        """
        for node in self.machines:
            if node.name == name:
                return node
        names = ", ".join(node.name for node in self.machines)
        raise UsageError(f"Lab '{self.lab}' has no node '{name}'; it has {names}")


def gateway(subnet: str) -> str:
    """Return the first address of a subnet."""
    return str(ipaddress.ip_network(subnet)[1])


def network_name(lab: str) -> str:
    """Podman's name of a lab's network."""
    return f"kubekeel-{lab}"


def check_name(lab: str) -> None:
    """Check a lab's name.

    Raises:
        UsageError: the name does not fit a host name
    """
    if not NAME.fullmatch(lab):
        raise UsageError(f"'{lab}' is no name for a lab: use up to 32 of a-z, 0-9 and -, not at either end")


def counts(topology: str, servers: int | None, agents: int | None) -> dict[Role, int]:
    """Return how many nodes of each role the user asks for; None stands for the default.

    ``plain`` has servers that do everything. ``split`` has three members of the datastore and two control planes.

    Raises:
        UsageError: a count is out of range, or is not for the user to choose
    """
    if topology == "split":
        if servers is not None:
            raise UsageError("The topology 'split' has 3 etcd servers and 2 control planes; --servers does not go with it")
        wanted = {Role.ETCD: 3, Role.CONTROL_PLANE: 2, Role.AGENT: 1 if agents is None else agents}
    elif topology == "plain":
        wanted = {Role.SERVER: 3 if servers is None else servers, Role.AGENT: agents or 0}
    else:
        raise UsageError(f"No topology is called '{topology}'; there are plain and split")
    if not 1 <= wanted.get(Role.SERVER, 1) <= MAX_SERVERS or not 0 <= wanted[Role.AGENT] <= MAX_AGENTS:
        raise UsageError(f"A lab has 1 to {MAX_SERVERS} servers and 0 to {MAX_AGENTS} agents")
    return wanted


def plan(lab: str, subnet: str, pod_network: str, wanted: Mapping[Role, int], *, registration: bool = False) -> Topology:
    """Give every node its address, and its own part of the pods' network."""
    network = ipaddress.ip_network(subnet)
    # The first one stays free: 10.1.1.0/24 belongs to the first node.
    pod_subnets = ipaddress.ip_network(pod_network).subnets(new_prefix=24)
    next(pod_subnets)

    def machines(role: Role, count: int) -> Iterator[Node]:
        for number in range(1, count + 1):
            pods = "" if role in NO_PODS else str(next(pod_subnets))
            address = GUEST_ADDRESS if role is Role.GUEST else str(network[FIRST_HOST[role] + number - 1])
            yield Node(lab, role, number, address, pods)

    nodes = tuple(node for role, count in wanted.items() for node in machines(role, count))
    return Topology(lab, subnet, nodes, next(machines(Role.REGISTRATION, 1)) if registration else None)
