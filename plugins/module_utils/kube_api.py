"""A small client of the Kubernetes API for nodes that have nothing but Python: one request, one server, one time-out.

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
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Iterator
from urllib.parse import urlsplit

from ansible_collections.kubekeel.ha.plugins.module_utils import node_files, tls
from ansible_collections.kubekeel.ha.plugins.module_utils.node_files import NodeError

# In the certificate of every API server of MicroK8s and K3s, whatever the node's addresses are.
CERTIFICATE_NAME = "kubernetes"


class ApiError(Exception):
    """A server did not answer, or not with what was asked for."""

    def __init__(self, message: str, status: int | None = None) -> None:
        """Say what happened, with the status of the answer where there was one."""
        super().__init__(message)
        self.status = status


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
        try:
            authority = _data(text, "certificate-authority")
            if authority is None:
                raise NodeError("%s names no certificate authority" % kubeconfig)
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
    found = re.search(r"^[ \t\"'-]*%s[\"']?:[ \t]*[\"']?([^\s\"',]+)" % name, text, re.MULTILINE)
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
        # A body follows its headers in a packet of its own, which otherwise waits for an acknowledgement: 40 ms.
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = self._tls.wrap_socket(plain, server_hostname=CERTIFICATE_NAME)


@dataclass(frozen=True)
class Stamp:
    """What an answer tells of the server's clock."""

    date: str
    """Its header Date: whole seconds, rounded down (RFC 9110, 6.6.1)."""
    asked: float
    """When the request began, by this node's clock, in seconds of the Unix epoch."""
    answered: float
    """When the header was there."""


class Session:
    """One connection to one server, for several requests."""

    def __init__(self, credentials: Credentials, host: str, timeout: float, port: int | None = None) -> None:
        """Connect with the first request; the arguments are those of C(request)."""
        self.stamp: Stamp | None = None
        """Of the last answer; None before there was one, or where the server does not tell."""
        self._connection = _Connection(host, port or credentials.port, timeout, credentials.context)
        self._headers = _headers(credentials)

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def request(self, method: str, path: str, body: str | None = None) -> str:
        """Return the body of a successful answer.

        Raises:
            ApiError: no answer, or one that is no success.
        """
        headers = self._headers if body is None else dict(self._headers, **{"Content-Type": "application/json"})
        asked = time.time()
        try:
            self._connection.request(method, path, body=None if body is None else body.encode("utf-8"), headers=headers)
            answer = self._connection.getresponse()
            date = answer.getheader("Date")
            self.stamp = Stamp(date, asked, time.time()) if date else None
            text = answer.read().decode("utf-8", "replace")
        except (OSError, ValueError, http.client.HTTPException) as error:
            self._connection.close()
            raise ApiError(getattr(error, "strerror", None) or str(error) or type(error).__name__) from error
        if not 200 <= answer.status < 300:
            raise ApiError("HTTP %d%s" % (answer.status, _reason(method, text)), answer.status)
        return text

    def send_json(self, method: str, path: str, body: Any = None) -> Any:
        """Send an object as JSON (none for None) and return the decoded answer.

        Raises:
            ApiError: no answer, one that is no success, or no JSON.
        """
        return _decode(path, self.request(method, path, None if body is None else json.dumps(body)))


def request(
    credentials: Credentials, host: str, method: str, path: str, timeout: float, body: str | None = None, port: int | None = None
) -> str:
    """Return the body of a successful answer.

    Args:
        credentials: who asks, and the port that every server listens at.
        host: address of the server, IPv6 without brackets.
        method: of HTTP.
        path: with a leading slash.
        timeout: for each step of the exchange, in seconds.
        body: JSON to send.
        port: another one than the kubeconfig's.

    Raises:
        ApiError: no answer, or one that is no success.
    """
    with Session(credentials, host, timeout, port) as session:
        return session.request(method, path, body)


def watch(credentials: Credentials, host: str, path: str, timeout: float) -> Iterator[Any]:
    """Yield the events of a watch as they come, until the server ends it.

    Args:
        credentials: who asks.
        host: address of the server, IPv6 without brackets.
        path: with C(watch=1) and the resourceVersion to begin at.
        timeout: for how many seconds the server may be silent.

    Raises:
        ApiError: the server did not answer, refused, fell silent or broke off.
    """
    connection = _Connection(host, credentials.port, timeout, credentials.context)
    try:
        connection.request("GET", path, headers=_headers(credentials))
        answer = connection.getresponse()
        if answer.status != 200:
            raise ApiError("HTTP %d" % answer.status, answer.status)
        while True:
            line = answer.readline()
            if not line:
                return
            yield json.loads(line)
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise ApiError(str(error) or type(error).__name__) from error
    finally:
        connection.close()


def _headers(credentials: Credentials) -> dict[str, str]:
    return {"Authorization": "Bearer " + credentials.token} if credentials.token else {}


def _reason(method: str, text: str) -> str:
    """Return what a refusal says of itself: /readyz names the check that failed, a write gets an object Status."""
    failed = [line for line in text.splitlines() if line.startswith("[-]")]
    if not failed and method != "GET":
        try:
            failed = [str(json.loads(text)["message"])]
        except (KeyError, RecursionError, TypeError, ValueError):
            failed = []
    return ": " + ", ".join(failed) if failed else ""


def get(credentials: Credentials, host: str, path: str, timeout: float, port: int | None = None) -> str:
    """Return the body of a successful GET.

    Args:
        credentials: who asks, and the port that every server listens at.
        host: address of the server, IPv6 without brackets.
        path: with a leading slash.
        timeout: for each step of the exchange, in seconds.
        port: another one than the kubeconfig's.

    Raises:
        ApiError: no answer, or one that is no success.
    """
    return request(credentials, host, "GET", path, timeout, port=port)


def get_json(credentials: Credentials, host: str, path: str, timeout: float, port: int | None = None) -> Any:
    """Return the decoded body of a successful GET.

    Raises:
        ApiError: no answer, one that is no success, or no JSON.
    """
    return _decode(path, get(credentials, host, path, timeout, port))


def send_json(credentials: Credentials, host: str, method: str, path: str, body: Any, timeout: float, port: int | None = None) -> Any:
    """Send an object as JSON (none for None) and return the decoded answer.

    Raises:
        ApiError: no answer, one that is no success, or no JSON.
    """
    with Session(credentials, host, timeout, port) as session:
        return session.send_json(method, path, body)


def _decode(path: str, text: str) -> Any:
    try:
        return json.loads(text)
    except (RecursionError, ValueError) as error:
        raise ApiError("%s gives no JSON" % path) from error
