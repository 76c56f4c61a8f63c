"""What this node is: its place in the cluster, its folders, and what the lab says about it."""

import json
import socket
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from .flags import Options
from .release import Release

FACTS = Path("/etc/kubekeel-lab/k3s.json")
CONFIG = "/etc/rancher/k3s/config.yaml"
RUNTIME = Path("/run/k3s")
CONTAINERD_SOCKET = RUNTIME / "containerd/containerd.sock"
SUPERVISOR_SOCKET = RUNTIME / "supervisor.sock"
PORT = 6443
BALANCER_PORT = 6444
ETCD_PORT = 2379
ETCD_PEER_PORT = 2380


@dataclass(frozen=True)
class Member:
    """A member of etcd: the node, the name that the member has, its address."""

    node: str
    name: str
    address: str


@dataclass(frozen=True)
class Facts:
    """What the lab has decided: K3s would find it out, or bring it along."""

    release: Release
    members: tuple[Member, ...]

    @classmethod
    def read(cls, path: Path = FACTS) -> "Facts":
        """Read the lab's file."""
        facts = json.loads(path.read_text())
        return cls(Release.parse(facts["release"]), tuple(Member(**member) for member in facts["members"]))


@dataclass(frozen=True)
class Node:
    """One node, as the command line describes it."""

    command: str
    options: Options
    facts: Facts

    @property
    def name(self) -> str:
        """The node's name in Kubernetes."""
        return self.options.text("node-name") or socket.gethostname().lower()

    @property
    def address(self) -> str:
        """The node's address on the cluster's network."""
        given = self.options.items("node-ip")
        return given[0].partition(",")[0] if given else socket.gethostbyname(socket.gethostname())

    @property
    def is_server(self) -> bool:
        """Tell whether this is ``k3s server``."""
        return self.command == "server"

    def runs(self, component: str) -> bool:
        """Tell whether a part of a server runs here: apiserver, controller-manager, scheduler or etcd."""
        return self.is_server and not self.options.switch(f"disable-{component}")

    @property
    def server_url(self) -> str:
        """The server that this node joins; a server that joins none has its own supervisor."""
        return self.options.text("server").rstrip("/") or f"https://127.0.0.1:{PORT}"

    @property
    def local_api(self) -> str:
        """Where the kubelet and everything else on this node reaches an API server."""
        return f"https://127.0.0.1:{PORT if self.runs('apiserver') else self.balancer_port}"

    @property
    def balancer_port(self) -> int:
        """The port of the node's load balancer."""
        return int(self.options.text("lb-server-port", str(BALANCER_PORT)))

    @property
    def data(self) -> Path:
        """The folder of all data."""
        return Path(self.options.text("data-dir", "/var/lib/rancher/k3s"))

    @property
    def agent(self) -> Path:
        """The folder of what every node has."""
        return self.data / "agent"

    @property
    def server(self) -> Path:
        """The folder of what servers have."""
        return self.data / "server"

    @property
    def tls(self) -> Path:
        """The folder of a server's certificates."""
        return self.server / "tls"


def host_and_port(url: str) -> str:
    """Return ``host:port`` of a server's URL; IPv6 keeps its brackets."""
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{host}:{parts.port or 443}"
