"""Kubeconfig files."""

import base64

import yaml

from .pki import Pair


def kubeconfig(server: str, authority: bytes, user: str, pair: Pair) -> bytes:
    """Return a kubeconfig with everything inside, in the form in which MicroK8s and K3s write theirs.

    ``server`` is the API server's URL, ``authority`` the certificate of its authority in PEM.
    """

    def encode(data: bytes) -> str:
        return base64.b64encode(data).decode()

    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "lab", "cluster": {"server": server, "certificate-authority-data": encode(authority)}}],
        "users": [{"name": user, "user": {"client-certificate-data": encode(pair.certificate), "client-key-data": encode(pair.key)}}],
        "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": user}}],
        "current-context": "lab",
    }
    return yaml.safe_dump(document, sort_keys=False).encode()
