"""Stand-in for a K3s server in the only node of a small cluster, with nothing of Kubernetes in it.

It listens where K3s does, with a certificate of the cluster's authority, asks clients for theirs, renews its Leases in real time, and
keeps what it is given on disk. What it answers stands in rules.py. Runs as the unit ``k3s``, by ``/usr/local/bin/k3s server``.
"""

import dataclasses
import http.server
import json
import os
import pathlib
import ssl
import sys
import threading
import time
from typing import Any

from tests.fleet import rules

SETTINGS = pathlib.Path("/etc/kubekeel-fleet")
FACTS, FLAW = SETTINGS / "facts.json", SETTINGS / "flaw"
NOT_READY, DIES = "not-ready", "dies"
"""Flaws that a test gives to a node, in the file FLAW: its kubelet has a problem, or a K3s that ends at once with kubekeel's drop-in."""
DROP_IN = pathlib.Path("/etc/rancher/k3s/config.yaml.d/zz-kubekeel.yaml")
SERVER = pathlib.Path("/var/lib/rancher/k3s/server")
CERTIFICATE, KEY, AUTHORITY = (SERVER / "tls" / name for name in ("server.crt", "server.key", "client-ca.crt"))
STORE = SERVER / "standin.json"


class Cluster:
    """The cluster, as this process has it."""

    def __init__(self) -> None:
        self.facts = rules.Facts(**json.loads(FACTS.read_text()))
        self._store = rules.Store(**json.loads(STORE.read_text())) if STORE.exists() else rules.Store()
        self._lock = threading.Lock()

    def answer(self, method: str, path: str, body: Any) -> rules.Answer:
        with self._lock:
            found = rules.answer(self.facts, self._store, method, path, body, ready=flaw() != NOT_READY)
            self._keep(found.store)
        return found

    def renew(self) -> None:
        """What kubelet and leaders do, in real time."""
        while True:
            with self._lock:
                self._keep(rules.renewed(self.facts, self._store, time.time()))
            time.sleep(rules.LEASE_DURATION / 4)

    def _keep(self, store: rules.Store) -> None:
        if store is not self._store:
            partial = STORE.with_suffix(".partial")
            partial.write_text(json.dumps(dataclasses.asdict(store)))
            partial.replace(STORE)
            self._store = store


class Handler(http.server.BaseHTTPRequestHandler):
    """Speaks HTTP."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    cluster: Cluster

    def do_GET(self) -> None:
        text = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        found = self.cluster.answer(self.command, self.path.partition("?")[0], json.loads(text or "null"))
        body = found.body.encode() if isinstance(found.body, str) else json.dumps(found.body).encode()
        self.send_response(found.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


def flaw() -> str:
    return FLAW.read_text().strip() if FLAW.exists() else ""


def main() -> None:
    if flaw() == DIES and DROP_IN.exists():
        sys.exit(f'level=fatal msg="the stand-in was told not to start with {DROP_IN}"')
    Handler.cluster = Cluster()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(AUTHORITY))
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(CERTIFICATE, KEY)
    threading.Thread(target=Handler.cluster.renew, daemon=True).start()
    listener = http.server.ThreadingHTTPServer(("", Handler.cluster.facts.port), Handler)
    # The handshake is the handler's, in a thread of its own: a client that never makes one keeps nobody waiting.
    listener.socket = context.wrap_socket(listener.socket, server_side=True, do_handshake_on_connect=False)
    print(f"stand-in for K3s {Handler.cluster.facts.release} listens, process {os.getpid()}", file=sys.stderr, flush=True)
    listener.serve_forever()


if __name__ == "__main__":
    main()
