"""Clients in the nodes and at the API servers, each in a thread of its own."""

import contextlib
import json
import subprocess
import threading
import time

from .. import podman
from ..api import Api, ApiError
from ..common import CLIENT
from ..topology import Node
from .samples import Sample

API_INTERVAL_SECONDS = 0.2
RETRY_SECONDS = 1.0
OBJECT = "/api/v1/namespaces/kube-system"
END_SECONDS = 5.0


def parse(line: bytes) -> Sample:
    """Return what one line of a client says.

    Raises:
        ValueError: it is not a whole line
    """
    seen = json.loads(line)
    return Sample(seen["time"], seen["began"], seen["ended"], seen["problem"])


class ServiceClient(threading.Thread):
    """Asks the web Service from one node, again when the node comes back after a power cut."""

    def __init__(self, node: Node, address: str, interval: float) -> None:
        """Prepare; ``interval`` is in seconds."""
        super().__init__(daemon=True, name=node.name)
        self.node = node
        self.sessions: list[list[Sample]] = []
        self._command = [
            "podman",
            *podman.RUNTIME,
            "exec",
            "--interactive",
            node.container,
            f"/{CLIENT}",
            f"--host={address}",
            f"--interval={interval}",
        ]
        self._over = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None

    def run(self) -> None:
        """Keep a client in the node until the end is asked for."""
        while not self._over.is_set():
            self._session()
            self._over.wait(RETRY_SECONDS)

    def _session(self) -> None:
        # A session of its own: Ctrl-C is for the command that is being measured, not for the measurement.
        with subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
        ) as process:
            self._process = process
            if self._over.is_set() and process.stdin is not None:
                process.stdin.close()
            samples: list[Sample] = []
            for line in process.stdout or ():
                # The last line of a node without power may be half a line.
                with contextlib.suppress(ValueError):
                    samples.append(parse(line))
                    if len(samples) == 1:
                        self.sessions.append(samples)

    def asking(self) -> bool:
        """Tell whether an answer has come."""
        return bool(self.sessions)

    def stop(self) -> None:
        """Ask for the end; ``join`` waits for it."""
        self._over.set()
        process = self._process
        if process is not None and process.stdin is not None and not process.stdin.closed:
            # Where the node is gone, its client is too.
            with contextlib.suppress(OSError):
                process.stdin.close()

    def kill(self) -> None:
        """End a client that did not end when asked."""
        if self._process is not None:
            self._process.kill()


class ApiClient(threading.Thread):
    """Reads an object from the datastore through one API server, from the host.

    Whether the server is ready would be the wrong question: ``/readyz`` gives the datastore two seconds, and calls a server that
    serves, but slowly, not ready.
    """

    def __init__(self, name: str, api: Api) -> None:
        """Prepare; the client's time-out is the API client's."""
        super().__init__(daemon=True, name=name)
        self.samples: list[Sample] = []
        self._api = api
        self._over = threading.Event()

    def run(self) -> None:
        """Ask on a fixed beat until the end is asked for."""
        while not self._over.is_set():
            clock, began = time.time(), time.monotonic()
            # What meets a change of the datastore's leader is refused at once ("leader changed"), and served when asked again.
            problem = self._read() and self._read()
            ended = time.monotonic()
            self.samples.append(Sample(clock, began, ended, problem))
            self._over.wait(max(0.0, began + API_INTERVAL_SECONDS - ended))

    def _read(self) -> str:
        try:
            status, _ = self._api.request("GET", OBJECT)
        except ApiError as error:
            return str(error)
        return "" if status == 200 else f"status {status}"

    def asking(self) -> bool:
        """Tell whether an answer has come."""
        return bool(self.samples)

    def stop(self) -> None:
        """Ask for the end; ``join`` waits for it."""
        self._over.set()
