"""Certificates and kubeconfigs where MicroK8s keeps them."""

from collections.abc import Iterator

from .. import certificates
from ..archive import Entry, File
from ..kubeconfig import kubeconfig
from ..pki import Pair
from ..secrets import ADMINISTRATOR, Secrets
from ..topology import Node
from . import layout

# On servers and workers alike: there the API server, here the proxy to all API servers.
LOCAL_API = f"https://127.0.0.1:{layout.API_PORT}"
# File to user.
SERVER_USERS = {"controller": "system:kube-controller-manager", "scheduler": "system:kube-scheduler"}
MODE = 0o660


def pair_files(path: str, pair: Pair) -> Iterator[Entry]:
    """Return certificate and key with the mode that MicroK8s gives them."""
    return certificates.pair_files(path, pair, MODE, MODE)


def config_file(name: str, user: str, pair: Pair, secrets: Secrets) -> Entry:
    """Return a kubeconfig for the node's own API address."""
    return File(
        f"{layout.CREDENTIALS}/{name}.config",
        kubeconfig(LOCAL_API, secrets.cluster.pair.certificate, user, pair),
        MODE,
    )


def credentials(node: Node, secrets: Secrets) -> Iterator[Entry]:
    """Yield the files of ``certs/`` and ``credentials/``, and the datastore's certificate."""
    authority = secrets.cluster
    kubelet_user = f"system:node:{node.name}"
    yield File(f"{layout.CERTS}/ca.crt", authority.pair.certificate, MODE)
    yield from pair_files(f"{layout.CERTS}/kubelet", authority.issue(kubelet_user, "system:nodes", (node.name, node.address)))
    yield config_file("kubelet", kubelet_user, authority.issue(kubelet_user, "system:nodes"), secrets)
    yield config_file("proxy", "system:kube-proxy", authority.issue("system:kube-proxy"), secrets)
    if node.is_server:
        yield from server_credentials(node, secrets)


def server_credentials(node: Node, secrets: Secrets) -> Iterator[Entry]:
    """Yield what only a control plane may hold."""
    authority = secrets.cluster
    names = (*certificates.API_NAMES, layout.API_SERVICE_ADDRESS, node.name, node.address)
    yield File(f"{layout.CERTS}/ca.key", authority.pair.key, MODE)
    yield from pair_files(f"{layout.CERTS}/server", authority.issue("kube-apiserver", names=names))
    yield from pair_files(f"{layout.CERTS}/apiserver-kubelet-client", authority.issue("kube-apiserver-kubelet-client", "system:masters"))
    yield File(f"{layout.CERTS}/front-proxy-ca.crt", secrets.front_proxy.pair.certificate, MODE)
    yield from pair_files(f"{layout.CERTS}/front-proxy-client", secrets.front_proxy.issue("front-proxy-client"))
    yield File(f"{layout.CERTS}/serviceaccount.key", secrets.service_account_key, MODE)
    yield from pair_files(f"{layout.BACKEND}/cluster", authority.issue("k8s-dqlite", names=(node.name, node.address, "127.0.0.1")))
    yield config_file("client", ADMINISTRATOR, secrets.administrator, secrets)
    for name, user in SERVER_USERS.items():
        yield config_file(name, user, authority.issue(user), secrets)
