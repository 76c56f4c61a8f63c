"""Certificates where K3s keeps them."""

import hashlib
from collections.abc import Iterator

from .. import certificates
from ..archive import READABLE, SECRET, Entry, File
from ..pki import Pair
from ..secrets import Secrets
from ..topology import Node, Topology
from . import layout

# File to user and group.
SERVER_CLIENTS = {
    "client-admin": ("system:admin", "system:masters"),
    "client-controller": ("system:kube-controller-manager", None),
    "client-kube-apiserver": ("system:apiserver", "system:masters"),
    "client-scheduler": ("system:kube-scheduler", None),
    "client-supervisor": ("system:k3s-supervisor", "system:masters"),
}
# One authority stands for all but that of the API server's front; K3s makes one each.
AUTHORITIES = ("server-ca", "client-ca", "etcd/server-ca", "etcd/peer-ca")


def pair_files(path: str, pair: Pair) -> Iterator[Entry]:
    """Return certificate and key with the modes that K3s gives them."""
    return certificates.pair_files(path, pair, READABLE, SECRET)


def authorities(secrets: Secrets) -> Iterator[Entry]:
    """Yield what K3s takes instead of authorities of its own making."""
    for name in AUTHORITIES:
        yield from pair_files(f"{layout.TLS}/{name}", secrets.cluster.pair)
    yield from pair_files(f"{layout.TLS}/request-header-ca", secrets.front_proxy.pair)
    yield File(f"{layout.TLS}/service.key", secrets.service_account_key, SECRET)


def agent_credentials(node: Node, secrets: Secrets) -> Iterator[Entry]:
    """Yield what every node has."""
    authority = secrets.cluster
    for name in ("client-ca", "server-ca"):
        yield File(f"{layout.AGENT}/{name}.crt", authority.pair.certificate)
    yield from pair_files(f"{layout.AGENT}/client-kubelet", authority.issue(f"system:node:{node.name}", "system:nodes"))
    yield from pair_files(f"{layout.AGENT}/serving-kubelet", authority.issue(node.name, names=(node.name, "127.0.0.1", node.address)))
    yield from pair_files(f"{layout.AGENT}/client-kube-proxy", authority.issue("system:kube-proxy"))
    yield from pair_files(f"{layout.AGENT}/client-k3s-controller", authority.issue("system:k3s-controller"))


def server_credentials(topology: Topology, node: Node, secrets: Secrets) -> Iterator[Entry]:
    """Yield what only servers have."""
    authority = secrets.cluster
    front = topology.registration
    names = (*certificates.API_NAMES, layout.API_SERVICE_ADDRESS, node.name, node.address, *((front.name, front.address) if front else ()))
    for name, (user, group) in SERVER_CLIENTS.items():
        yield from pair_files(f"{layout.TLS}/{name}", authority.issue(user, group))
    yield from pair_files(f"{layout.TLS}/client-auth-proxy", secrets.front_proxy.issue("system:auth-proxy"))
    yield from pair_files(f"{layout.TLS}/serving-kube-apiserver", authority.issue("kube-apiserver", names=names))
    etcd_names = ("localhost", "127.0.0.1", node.name, node.address)
    yield from pair_files(f"{layout.TLS}/etcd/client", authority.issue("etcd-client"))
    yield from pair_files(f"{layout.TLS}/etcd/server-client", authority.issue("etcd-server", names=etcd_names))
    yield from pair_files(f"{layout.TLS}/etcd/peer-server-client", authority.issue("etcd-peer", names=etcd_names))
    digest = hashlib.sha256(authority.pair.certificate).hexdigest()
    yield File(f"{layout.DATA}/server/token", f"K10{digest}::server:{secrets.token}\n".encode(), SECRET)
