"""The part of K3s's supervisor that nodes need: where are the API servers, and where is etcd?"""

import http.server
import json
import os
import socketserver
import threading
from pathlib import Path

from .client import RequestError
from .etcd import Etcd
from .node import PORT, SUPERVISOR_SOCKET, Node

TRUSTED_GROUPS = frozenset({"system:nodes", "system:masters"})


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers requests that haproxy passes on, with the names out of the client's certificate in the headers."""

    etcd: Etcd

    def do_GET(self) -> None:
        """Answer the paths that there are."""
        if self.headers.get("X-Remote-Group") not in TRUSTED_GROUPS:
            self._answer(401, {"message": "Unauthorized"})
            return
        try:
            body = self._body()
        except RequestError as error:
            self._answer(503, {"message": str(error)})
        else:
            self._answer(*((404, {"message": "not found"}) if body is None else (200, body)))

    def _body(self) -> object:
        """Return what a path stands for, or None."""
        if self.path == "/v1-k3s/readyz":
            return {"status": "ok"}
        if self.path == "/v1-k3s/apiservers":
            return [f"{address}:{PORT}" for address in self.etcd.api_servers()]
        if self.path == "/db/info":
            voters = [member for member in self.etcd.members() if not member.learner]
            return {"members": [{"name": member.name, "clientURLs": member.client_urls} for member in voters]}
        return None

    def _answer(self, status: int, body: object) -> None:
        data = json.dumps(body).encode() + b"\n"
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def address_string(self) -> str:
        """Return nothing: the other end of the socket has no name."""
        return ""

    def log_message(self, format: str, *args: object) -> None:
        """Keep silent; haproxy sees the same requests."""


class Server(socketserver.ThreadingUnixStreamServer):
    """The listener."""

    daemon_threads = True


def serve(node: Node) -> None:
    """Listen in a thread of its own."""
    place = Path(SUPERVISOR_SOCKET)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.unlink(missing_ok=True)
    handler = type("NodeHandler", (Handler,), {"etcd": Etcd(node)})
    server = Server(str(place), handler)
    os.chmod(place, 0o600)
    threading.Thread(target=server.serve_forever, daemon=True, name="supervisor").start()
