"""A small client of the Kubernetes API for nodes that have nothing but Python: one GET, one server, one time-out.

Each API server of a cluster is asked by its own address. kubectl would take the one of its kubeconfig, which is the
server that may just be restarting.
"""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import base64
import http.client
import json
import re
import socket
import ssl
import tempfile
from contextlib import ExitStack
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.kubekeel.ha.plugins.module_utils import node_files, tls
from ansible_collections.kubekeel.ha.plugins.module_utils.node_files import NodeError

# In the certificate of every API server of MicroK8s and K3s, whatever the node's addresses are.
CERTIFICATE_NAME = "kubernetes"


class ApiError(Exception):
    """A server did not answer, or not with what was asked for."""


class Credentials:
    """Who asks: an administrator's kubeconfig."""

    def __init__(self, kubeconfig: str) -> None:
        """Read a kubeconfig with one cluster and one user, as MicroK8s and K3s write theirs.

        Raises:
            NodeError: it is missing, or holds no certificate authority and credentials.
        """
        # K3s makes a link of it where write-kubeconfig says so.
        text = node_files.read(kubeconfig, follow=True)
        if text is None:
            raise NodeError("%s is missing: is this node a server, and does the module run as root?" % kubeconfig)
        authority = _data(text, "certificate-authority")
        if authority is None:
            raise NodeError("%s names no certificate authority" % kubeconfig)
        try:
            self._read(text, authority)
        except (ssl.SSLError, ValueError) as error:
            raise NodeError("%s holds certificates or keys that cannot be read: %s" % (kubeconfig, error)) from error
        if not self.has_certificate and not self.token:
            raise NodeError("%s holds neither a client certificate nor a token" % kubeconfig)

    def _read(self, text: str, authority: str) -> None:
        self.context = tls.context(cadata=authority)
        server = urlsplit(_field(text, "server") or "")
        self.host, self.port = server.hostname or "127.0.0.1", server.port or 443
        certificate, key = _data(text, "client-certificate"), _data(text, "client-key")
        self.token = _field(text, "token")
        self.has_certificate = bool(certificate and key)
        if certificate and key:
            with ExitStack() as stack:
                # ssl reads the pair from files only.
                paths = []
                for part in (certificate, key):
                    file = stack.enter_context(tempfile.NamedTemporaryFile("w", encoding="ascii"))
                    file.write(part)
                    file.flush()
                    paths.append(file.name)
                self.context.load_cert_chain(*paths)


def _field(text: str, name: str) -> str | None:
    """Return a field of a kubeconfig, whose keys stand on lines of their own; a node has no parser for YAML."""
    found = re.search(r"^[\s\"'-]*%s[\"']?:\s*[\"']?([^\s\"',]+)" % name, text, re.MULTILINE)
    return found.group(1) if found else None


def _data(text: str, name: str) -> str | None:
    """Return a field of a kubeconfig that is there as NAME-data (base64) or NAME (a path), as PEM."""
    inline, path = _field(text, name + "-data"), _field(text, name)
    if inline:
        return base64.b64decode(inline).decode("ascii")
    return node_files.read(path, follow=True) if path else None


class _Connection(http.client.HTTPSConnection):
    """HTTPS to an address, with the certificate checked for the name that every API server has."""

    def __init__(self, host: str, port: int, timeout: float, context: ssl.SSLContext) -> None:
        super().__init__(host, port, timeout=timeout, context=context)
        self._tls = context

    def connect(self) -> None:
        plain = socket.create_connection((self.host, self.port), self.timeout)
        self.sock = self._tls.wrap_socket(plain, server_hostname=CERTIFICATE_NAME)


def get(credentials: Credentials, host: str, path: str, timeout: float, port: int | None = None) -> str:
    """Return the body of a successful GET.

    Args:
        credentials: who asks, and the port that every server listens at.
        host: address of the server, IPv6 without brackets.
        path: with a leading slash.
        timeout: for each step of the exchange, in seconds.
        port: another one than the kubeconfig's.

    Raises:
        ApiError: no answer, or another one than 200.
    """
    connection = _Connection(host, port or credentials.port, timeout, credentials.context)
    headers = {"Authorization": "Bearer " + credentials.token} if credentials.token else {}
    try:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        body = answer.read().decode("utf-8", "replace")
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise ApiError(getattr(error, "strerror", None) or str(error) or type(error).__name__) from error
    finally:
        connection.close()
    if answer.status != 200:
        # The body of /readyz names the check that failed.
        failed = [line for line in body.splitlines() if line.startswith("[-]")]
        raise ApiError("HTTP %d%s" % (answer.status, ": " + ", ".join(failed) if failed else ""))
    return body


def get_json(credentials: Credentials, host: str, path: str, timeout: float, port: int | None = None) -> Any:
    """Return the decoded body of a successful GET.

    Raises:
        ApiError: no answer, another one than 200, or no JSON.
    """
    try:
        return json.loads(get(credentials, host, path, timeout, port))
    except ValueError as error:
        raise ApiError("%s gives no JSON" % path) from error
