"""What the lab remembers of a standing cluster: one folder below the cache."""

import dataclasses
import json
import os
import shutil
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .api import Api, trust
from .cache import Cache
from .errors import LabError
from .kubeconfig import kubeconfig
from .secrets import ADMINISTRATOR, Secrets
from .ssh import end_masters, known_hosts
from .topology import SSH_PORT, Node, Role, Topology

PRIVATE = 0o600


@dataclass(frozen=True)
class State:
    """A lab on disk."""

    folder: Path
    topology: Topology
    distribution: str
    version: str
    inventory: Path
    api_port: int

    @property
    def key(self) -> Path:
        """The private key that opens every node."""
        return self.folder / "id_ed25519"

    @property
    def known_hosts(self) -> Path:
        """The nodes' host keys."""
        return self.folder / "known_hosts"

    @property
    def control_path(self) -> Path:
        """Folder for the sockets of shared SSH connections."""
        return self.folder / "cp"

    @property
    def authority(self) -> Path:
        """Certificate of the cluster's authority."""
        return self.folder / "ca.crt"

    def write(self, secrets: Secrets) -> None:
        """Write everything; only the owner may read it."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.control_path.mkdir(exist_ok=True, mode=0o700)
        hosts = {host_pattern(node): secrets.host_keys[node.name] for node in self.topology.machines}
        description = {
            "topology": dataclasses.asdict(self.topology),
            "distribution": self.distribution,
            "version": self.version,
            "inventory": str(self.inventory),
            "api_port": self.api_port,
        }
        authority = secrets.cluster.pair.certificate
        server = f"https://{self.topology.api_servers[0].address}:{self.api_port}"
        for path, data in (
            (self.key, secrets.operator.private),
            (self.known_hosts, known_hosts(hosts).encode()),
            (self.authority, authority),
            (self.folder / "admin.pem", secrets.administrator.certificate + secrets.administrator.key),
            (self.folder / "kubeconfig", kubeconfig(server, authority, ADMINISTRATOR, secrets.administrator)),
            (self.folder / "lab.json", json.dumps(description, indent=1).encode()),
        ):
            write_private(path, data)

    def administrator(self) -> ssl.SSLContext:
        """Return a TLS context with the administrator's certificate."""
        context = trust(self.authority)
        context.load_cert_chain(self.folder / "admin.pem")
        return context

    def apis(self, context: ssl.SSLContext, timeout: float = 5.0) -> dict[str, Api]:
        """Return a client for every API server, by node name."""
        return {node.name: Api(node.address, self.api_port, context, timeout) for node in self.topology.api_servers}


def host_pattern(node: Node) -> str:
    """Return a machine's name in a known_hosts file."""
    return node.ssh_address if node.ssh_port == SSH_PORT else f"[{node.ssh_address}]:{node.ssh_port}"


def write_private(path: Path, data: bytes) -> None:
    """Write a file that nobody else may read, not even for a moment."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, PRIVATE)
    with os.fdopen(descriptor, "wb") as handle:
        handle.write(data)


def read_node(description: dict[str, Any]) -> Node:
    """Return a node out of ``lab.json``."""
    return Node(**{**description, "role": Role(description["role"])})


def load(cache: Cache, lab: str) -> State:
    """Read a lab back.

    Raises:
        LabError: there is no such lab, or its ``up`` never got far enough
    """
    folder = cache.state(lab)
    try:
        description = json.loads((folder / "lab.json").read_text())
        topology = description["topology"]
        registration = topology["registration"]
        return State(
            folder,
            Topology(
                topology["lab"],
                topology["subnet"],
                tuple(read_node(node) for node in topology["nodes"]),
                read_node(registration) if registration else None,
            ),
            description["distribution"],
            description["version"],
            Path(description["inventory"]),
            description["api_port"],
        )
    except FileNotFoundError as error:
        raise LabError(f"No lab named '{lab}' stands; 'python -m lab up --name {lab}' makes one") from error
    except (ValueError, KeyError, TypeError) as error:
        raise LabError(f"{folder} is damaged; 'python -m lab down --name {lab}' removes it") from error


def remove(cache: Cache, lab: str) -> None:
    """Forget a lab; shared SSH connections end first."""
    folder = cache.state(lab)
    end_masters(folder / "cp")
    shutil.rmtree(folder, ignore_errors=True)
    if folder.parent.is_dir() and not any(folder.parent.iterdir()):
        folder.parent.rmdir()
