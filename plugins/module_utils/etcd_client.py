"""Ask etcd for its members, and each member whether it is well."""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass
from urllib.parse import urlsplit

from ansible_collections.kubekeel.ha.plugins.module_utils import addresses, etcd_messages, tls
from ansible_collections.kubekeel.ha.plugins.module_utils.etcd_messages import EtcdMember, Frame

PORT = 2379


class EtcdError(Exception):
    """A member did not answer, or not with what was asked for."""


@dataclass(frozen=True)
class Credentials:
    """Files of a client: certificate authority, certificate, key."""

    authority: str
    certificate: str
    key: str

    def context(self) -> ssl.SSLContext:
        """Return a TLS context for gRPC.

        Raises:
            EtcdError: a file is missing or no certificate.
        """
        try:
            # A member is asked by the address that it advertises, which its certificate need not hold; the authority is etcd's own.
            context = tls.context(cafile=self.authority, check_hostname=False)
            context.load_cert_chain(self.certificate, self.key)
        except OSError as error:
            raise EtcdError("the client certificate of etcd (%s) cannot be read: %s" % (self.certificate, error)) from error
        context.set_alpn_protocols(["h2"])
        return context


def members(credentials: Credentials, url: str, timeout: float) -> list[EtcdMember]:
    """Return the members that the etcd at C(url) lists.

    Raises:
        EtcdError: it does not answer.
    """
    try:
        return etcd_messages.members(_call(credentials, url, etcd_messages.MEMBER_LIST, timeout))
    except ValueError as error:
        raise EtcdError("%s: %s" % (url, error)) from error


@dataclass(frozen=True)
class Status:
    """How a member is."""

    problem: str
    """Why it is not up, an empty text where it is and knows a leader."""
    leads: bool = False


def status(credentials: Credentials, url: str, timeout: float) -> Status:
    """Ask a member how it is."""
    try:
        member, leader = etcd_messages.leader(_call(credentials, url, etcd_messages.STATUS, timeout))
    except (EtcdError, ValueError) as error:
        return Status(str(error))
    return Status("", leads=member == leader) if leader else Status("it knows no leader")


def _call(credentials: Credentials, url: str, path: str, timeout: float) -> bytes:
    """Return the message that answers a call with an empty one.

    Raises:
        EtcdError: no answer.
        ValueError: the answer holds no message.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or PORT
        with socket.create_connection((host, port), timeout) as plain, credentials.context().wrap_socket(plain) as connection:
            connection.sendall(etcd_messages.request(path, addresses.join(host, port)))
            return etcd_messages.message(_answer(connection))
    except OSError as error:
        raise EtcdError(error.strerror or str(error)) from error


def _answer(connection: ssl.SSLSocket) -> bytes:
    """Return the data of the one stream, at its end."""
    buffer, data = b"", b""
    while True:
        received = connection.recv(65536)
        if not received:
            return data
        found, buffer = etcd_messages.frames(buffer + received)
        for frame in found:
            if frame.kind in (etcd_messages.SETTINGS, etcd_messages.PING) and not frame.flags & etcd_messages.ACK:
                payload = frame.payload if frame.kind == etcd_messages.PING else b""
                connection.sendall(Frame(frame.kind, etcd_messages.ACK, 0, payload).encode())
            if frame.kind == etcd_messages.DATA:
                data += frame.payload
            if frame.kind in (etcd_messages.RST_STREAM, etcd_messages.GOAWAY):
                return data
            if frame.stream == 1 and frame.flags & etcd_messages.END_STREAM and frame.kind in (etcd_messages.DATA, etcd_messages.HEADERS):
                return data
