"""A small API server for tests: the Lease that keeps runs apart, with the rules of a real one, and whatever else is put there."""

import contextlib
import copy
import http.server
import json
import pathlib
import socketserver
import ssl
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.kubekeel.ha.plugins.module_utils import lock_client

from lab import pki

TOKEN = "t"  # noqa: S105


class RefusalError(Exception):
    """The API server refuses a request."""

    def __init__(self, status: int) -> None:
        super().__init__(f"HTTP {status}")
        self.status = status


class Registry:
    """One Lease as an API server keeps it (k8s.io/apiserver, pkg/registry/generic/registry/store.go, Update).

    A write has to name the version that is there.
    """

    def __init__(self) -> None:
        self.lease: dict[str, Any] | None = None
        self._version = 1000

    def get(self) -> dict[str, Any]:
        if self.lease is None:
            raise RefusalError(404)
        return copy.deepcopy(self.lease)

    def create(self, body: dict[str, Any]) -> dict[str, Any]:
        if self.lease is not None:
            raise RefusalError(409)
        return self._store(body, f"uid-{self._version}")

    def replace(self, body: dict[str, Any]) -> dict[str, Any]:
        named = body["metadata"]
        if self.lease is None:
            # A Lease may be created by PUT; only a uid says that another one was meant.
            if named.get("uid"):
                raise RefusalError(409)
            return self._store(body, f"uid-{self._version}")
        there = self.lease["metadata"]
        if named.get("uid", there["uid"]) != there["uid"]:
            raise RefusalError(409)
        if not named.get("resourceVersion"):
            raise RefusalError(422)
        if named["resourceVersion"] != there["resourceVersion"]:
            raise RefusalError(409)
        return self._store(body, there["uid"])

    def _store(self, body: dict[str, Any], uid: str) -> dict[str, Any]:
        self._version += 1
        self.lease = copy.deepcopy(body)
        self.lease["metadata"] |= {"uid": uid, "resourceVersion": str(self._version)}
        return self.get()


@dataclass
class ApiServer:
    """Where it listens, and what it answers."""

    registry: Registry = field(default_factory=Registry)
    pages: dict[str, Any] = field(default_factory=dict)
    """What else can be read, by path."""
    asked: list[tuple[str, str]] = field(default_factory=list)
    """Method and address of each request for the Lease."""
    before_write: list[Callable[[], object]] = field(default_factory=list)
    """What happens before the next writes, one for each."""
    broken: dict[str, int] = field(default_factory=dict)
    """With which status a method is refused."""
    kubeconfig: str = ""

    def answer(self, method: str, host: str, path: str, body: Any) -> Any:
        """Return what a request gets.

        Raises:
            RefusalError: an error.
        """
        if path not in (lock_client.LEASE, lock_client.LEASES) or path in self.pages:
            if path not in self.pages:
                raise RefusalError(404)
            return self.pages[path]
        self.asked.append((method, host))
        if method in self.broken:
            raise RefusalError(self.broken[method])
        if method == "GET":
            return self.registry.get()
        if self.before_write:
            self.before_write.pop(0)()
        return self.registry.create(body) if method == "POST" else self.registry.replace(body)


def handler(server: ApiServer) -> type[http.server.BaseHTTPRequestHandler]:
    """Return what speaks HTTP for a server."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            text = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            try:
                if self.headers["Authorization"] != f"Bearer {TOKEN}":
                    raise RefusalError(401)
                host = self.connection.getsockname()[0]
                status, answer = 200, server.answer(self.command, host, self.path, json.loads(text or "null"))
            except RefusalError as refused:
                status, answer = refused.status, {"kind": "Status", "message": "refused by the test"}
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_PUT = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    return Handler


class Listener(socketserver.ThreadingMixIn, http.server.HTTPServer):
    """One address."""

    daemon_threads = True
    # Otherwise it waits for connections that clients keep.
    block_on_close = False


@contextlib.contextmanager
def serving(folder: pathlib.Path, hosts: tuple[str, ...] = ("127.0.0.1",), first: str = "") -> Iterator[ApiServer]:
    """Serve at these addresses, and write a kubeconfig whose server is the first one, or another that is down."""
    authority = pki.Authority("test")
    pair = authority.issue("kube-apiserver", names=["kubernetes"])
    paths = (folder / "apiserver.crt", folder / "apiserver.key")
    for path, text in zip(paths, (pair.certificate, pair.key), strict=True):
        path.write_bytes(text)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*paths)
    server, port = ApiServer(), 0
    with contextlib.ExitStack() as stack:
        for host in hosts:
            listener = stack.enter_context(Listener((host, port), handler(server)))
            listener.socket = context.wrap_socket(listener.socket, server_side=True)
            port = listener.server_address[1]
            threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
            stack.callback(listener.shutdown)
        kubeconfig = folder / "admin.config"
        data = b64encode(authority.pair.certificate).decode()
        kubeconfig.write_text(
            f"clusters:\n- cluster:\n    certificate-authority-data: {data}\n    server: https://{first or hosts[0]}:{port}\n"
            f"users:\n- user:\n    token: {TOKEN}\n"
        )
        server.kubeconfig = str(kubeconfig)
        yield server
