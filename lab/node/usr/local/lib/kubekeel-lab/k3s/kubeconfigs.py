"""The kubeconfig files that K3s writes at each start."""

import base64
import os
from pathlib import Path

import yaml

from .node import Node

ADMIN_FILE = "/etc/rancher/k3s/k3s.yaml"


def write(node: Node) -> None:
    """Write those of the node's own components, and the administrator's where there is an API server."""
    agent, tls = node.agent, node.tls
    for name, pair in (("kubelet", "client-kubelet"), ("kubeproxy", "client-kube-proxy"), ("k3scontroller", "client-k3s-controller")):
        put(agent / f"{name}.kubeconfig", by_files(node.local_api, agent / "server-ca.crt", agent / pair))
    if node.runs("apiserver"):
        for name, pair in (("admin", "client-admin"), ("controller", "client-controller"), ("scheduler", "client-scheduler")):
            put(node.server / f"cred/{name}.kubeconfig", by_files(node.local_api, tls / "server-ca.crt", tls / pair))
        place = Path(node.options.text("write-kubeconfig", ADMIN_FILE))
        put(place, by_value(node), int(node.options.text("write-kubeconfig-mode", "600"), 8))


def put(path: Path, text: str, mode: int = 0o600) -> None:
    """Write a file, and all of it at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.new")
    new.write_text(text)
    new.chmod(mode)
    new.replace(path)


def render(cluster: dict[str, str], user: dict[str, str]) -> str:
    """Return a kubeconfig in K3s's form."""
    document = {
        "apiVersion": "v1",
        "clusters": [{"cluster": cluster, "name": "default"}],
        "contexts": [{"context": {"cluster": "default", "user": "default"}, "name": "default"}],
        "current-context": "default",
        "kind": "Config",
        "preferences": {},
        "users": [{"name": "default", "user": user}],
    }
    return str(yaml.safe_dump(document, sort_keys=False))


def by_files(server: str, authority: Path, pair: Path) -> str:
    """Return a kubeconfig that names files; ``pair`` is a certificate's path without its suffix."""
    cluster = {"certificate-authority": str(authority), "server": server}
    return render(cluster, {"client-certificate": f"{pair}.crt", "client-key": f"{pair}.key"})


def by_value(node: Node) -> str:
    """Return the administrator's kubeconfig, which holds everything."""

    def encoded(name: str) -> str:
        return base64.b64encode((node.tls / name).read_bytes()).decode()

    cluster = {"certificate-authority-data": encoded("server-ca.crt"), "server": node.local_api}
    return render(cluster, {"client-certificate-data": encoded("client-admin.crt"), "client-key-data": encoded("client-admin.key")})


def combined(certificate: Path, target: Path) -> None:
    """Write certificate and key as the one file that haproxy takes."""
    data = certificate.read_bytes() + certificate.with_suffix(".key").read_bytes()
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as handle:
        handle.write(data)
