"""K3s: its files on a node, and how to ask it for its datastore."""

import hashlib
import json
from collections.abc import Iterator

from ..archive import EXECUTABLE, READABLE, SECRET, Directory, Entry, File, Link
from ..distribution import Execute
from ..image import POD_ARCHIVE, POD_IMAGE
from ..secrets import Secrets
from ..templates import NODE_FILES, content
from ..topology import Node, Role, Topology
from ..units import enable
from . import layout
from .credentials import agent_credentials, authorities, server_credentials
from .release import Choice


class K3s:
    """The distribution's answers to ``lab.distribution.Distribution``."""

    name = "k3s"
    api_port = layout.API_PORT
    web_address = layout.WEB_ADDRESS
    pod_network = layout.POD_NETWORK
    splits_servers = True

    def check(self) -> None:
        """Check the user's variables."""
        Choice.from_environment()

    def units(self, node: Node) -> tuple[str, ...]:
        """Return K3s's one unit, whose name tells servers and agents apart."""
        return (layout.SERVER_UNIT if node.is_server else layout.AGENT_UNIT,)

    def voters(self, execute: Execute) -> int:
        """Count the members that etcd itself calls started and no learners."""
        certificates = f"/{layout.TLS}/etcd"
        members = execute(
            "etcdctl",
            f"--endpoints=https://127.0.0.1:{layout.ETCD_CLIENT_PORT}",
            f"--cacert={certificates}/server-ca.crt",
            f"--cert={certificates}/client.crt",
            f"--key={certificates}/client.key",
            "member",
            "list",
        )
        fields = [line.split(", ") for line in members.splitlines()]
        return sum(len(member) > 5 and member[1] == "started" and member[5] == "false" for member in fields)

    def entries(self, topology: Topology, node: Node, secrets: Secrets, version: str) -> Iterator[Entry]:
        """Yield program, unit, configuration and data, or what the registration address needs."""
        del version
        if node.role is Role.REGISTRATION:
            yield File("etc/haproxy/haproxy.cfg", content("etc/haproxy/haproxy.cfg", topology=topology, port=layout.API_PORT))
            yield File(f"{layout.UNITS}/{layout.REGISTRATION_UNIT}", content(f"{layout.UNITS}/{layout.REGISTRATION_UNIT}"))
            yield enable(layout.REGISTRATION_UNIT)
            return
        choice = Choice.from_environment()
        yield from self._installed(topology, node, secrets)
        yield File(f"{layout.CONFIG}", content(layout.CONFIG, topology=topology, node=node, secrets=secrets, pod_image=POD_IMAGE), SECRET)
        yield File("etc/cni/net.d/10-lab.conflist", content("etc/cni/net.d/10-lab.conflist", node=node))
        yield Directory("opt/cni")
        yield Link("opt/cni/bin", "/usr/lib/cni")
        for folder in (layout.DATA, f"{layout.DATA}/server", layout.TLS, f"{layout.TLS}/etcd") if node.is_server else (layout.DATA,):
            yield Directory(folder, layout.PRIVATE_FOLDER)
        yield Link(f"{layout.AGENT}/images/kubekeel-lab.tar", POD_ARCHIVE)
        if node.is_server:
            yield from authorities(secrets)
        if choice.binary is not None:
            yield File(layout.PROGRAM, choice.binary.read_bytes(), EXECUTABLE)
        else:
            yield from self._stand_in(topology, node, secrets, choice.release)

    def _installed(self, topology: Topology, node: Node, secrets: Secrets) -> Iterator[Entry]:
        """Yield what the official installer writes, but for the program."""
        (unit,) = self.units(node)
        command = "server" if node.is_server else "agent"
        yield Link("usr/local/bin/kubectl", "k3s")
        yield Link("usr/local/bin/ctr", "k3s")
        template = f"{layout.UNITS}/{layout.SERVER_UNIT}"
        yield File(f"{layout.UNITS}/{unit}", content(template, unit=unit, command=command, type="notify" if node.is_server else "exec"))
        variables = "" if node.is_server else f"K3S_TOKEN='{secrets.token}'\nK3S_URL='https://{topology.servers[0].address}:6443'\n"
        yield File(f"{layout.UNITS}/{unit}.env", variables.encode(), SECRET)
        yield enable(unit)

    def _stand_in(self, topology: Topology, node: Node, secrets: Secrets, release: str) -> Iterator[Entry]:
        """Yield the program that stands in for K3s, what it has to be told, and what K3s would have made itself."""
        yield File(layout.PROGRAM, content(layout.PROGRAM), EXECUTABLE)
        for file in sorted((NODE_FILES / layout.STAND_IN).glob("*.py")):
            yield File(f"{layout.STAND_IN}/{file.name}", file.read_bytes(), READABLE)
        yield File("etc/kubekeel-lab/k3s.json", facts(topology, secrets, release))
        yield from agent_credentials(node, secrets)
        if node.is_server:
            yield from server_credentials(topology, node, secrets)


def facts(topology: Topology, secrets: Secrets, release: str) -> bytes:
    """Return what the stand-in is told: its release, and the members of etcd, which K3s would add one by one."""

    def member_name(node: Node) -> str:
        return f"{node.name}-{hashlib.sha256(f'{secrets.token} {node.name}'.encode()).hexdigest()[:8]}"

    members = [{"node": node.name, "name": member_name(node), "address": node.address} for node in topology.datastore]
    return json.dumps({"release": release, "members": members}, indent=1).encode() + b"\n"
