"""Clients that keep asking while a drill runs, each in threads of its own; what they see goes into one observation."""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import contextlib
import errno
import http.client
import os
import random
import select
import socket
import ssl
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, Mapping

from ansible_collections.kubekeel.ha.plugins.module_utils import drill_workload, running_kernel

TIMEOUT = 1.0
"""Seconds that a client waits; a request to a dead backend fails after it."""
KUBELET_PORT = 10250
API_INTERVAL = 0.5
REACH_INTERVAL = 0.1
SEND_INTERVAL = 0.5
CONNTRACK = "/proc/net/nf_conntrack"
TCP_SYSCTLS = ("tcp_retries2", "tcp_keepalive_time", "tcp_keepalive_intvl", "tcp_keepalive_probes")
UNACKNOWLEDGED, IDLE = "unacknowledged", "idle"


class Recorder:
    """The observation, and the lock that its writers share."""

    def __init__(self, observer: str, drill: str, interval: float) -> None:
        """Begin an empty one."""
        self.lock = threading.Lock()
        self.over = threading.Event()
        now = time.time()
        self.seen: dict[str, Any] = {
            "observer": observer,
            "drill": drill,
            "began": now,
            "ended": now,
            "interval": interval,
            "leaders": {},
            "nodes": {},
            "endpoints": [],
            "requests": [],
            "reach": {},
            "api": {},
            "connections": [],
            "error": "",
        }

    def change(self, series: list[dict[str, Any]], **values: Any) -> None:
        """Add to a series what is new in it, with the time."""
        with self.lock:
            last = series[-1] if series else {}
            if any(name not in last or last[name] != value for name, value in values.items()):
                series.append(dict(values, time=time.time()))


def problem_of(error: BaseException) -> str:
    """Return the name of a socket's error, such as ETIMEDOUT."""
    number = getattr(error, "errno", None) or 0
    # Python 3.8 and 3.9 have a socket.timeout that is no TimeoutError.
    return errno.errorcode.get(number, "") or ("timed out" if isinstance(error, socket.timeout) else type(error).__name__)


def accepts(address: str, port: int) -> str:
    """Return why a port accepts no connection, an empty text where it does."""
    try:
        socket.create_connection((address, port), TIMEOUT).close()
    except OSError as error:
        return problem_of(error)
    return ""


def _anybody() -> ssl.SSLContext:
    """Return a context for clients that ask whether somebody answers, not who: they send nothing that could be secret."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


# One for all: to make it takes longer than to ask.
_ANYBODY = _anybody()


def answers(address: str, port: int) -> str:
    """Return why an API server is not ready, an empty text where it is, or where it answers and does not know who asks."""
    connection = http.client.HTTPSConnection(address, port, timeout=TIMEOUT, context=_ANYBODY)
    try:
        connection.request("GET", "/readyz")
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        return problem_of(error)
    finally:
        connection.close()
    return "" if status in (200, 401, 403) else "HTTP %d" % status


def keep_asking(recorder: Recorder, kind: str, name: str, ask: Callable[[], str], interval: float) -> threading.Thread:
    """Ask on a beat whether something is up, and record when that changes. The time of a change is that of the question."""
    found: dict[str, Any] = {"asked": 0, "failed": 0, "changes": []}
    recorder.seen[kind][name] = found

    def run() -> None:
        previous = None
        while not recorder.over.is_set():
            began = time.time()
            problem = ask()
            with recorder.lock:
                found["asked"] += 1
                found["failed"] += bool(problem)
                if not found["changes"] or found["changes"][-1]["up"] == bool(problem):
                    found["changes"].append({"time": began, "previous": previous, "up": not problem, "problem": problem})
            previous = began
            recorder.over.wait(max(0.0, began + interval - time.time()))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


class Ports:
    """Source ports, none of which comes twice before all others were used.

    The kernel remembers for two minutes where it sent a connection that nobody answered, and sends the next one from the
    same port there, too. Which requests failed would hang on which ports the earlier ones had.
    """

    FIRST, LAST = 32768, 60999

    def __init__(self) -> None:
        """Begin anywhere."""
        self._lock = threading.Lock()
        self._next = random.randint(self.FIRST, self.LAST)  # noqa: S311 -- no secret

    def bind(self, made: socket.socket) -> int:
        """Bind a socket to the next port that is free, and return it.

        Raises:
            OSError: none of a hundred is.
        """
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        for _attempt in range(100):
            with self._lock:
                port = self._next
                self._next = self.FIRST if port == self.LAST else port + 1
            with contextlib.suppress(OSError):
                made.bind(("", port))
                return port
        raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


def ask(address: str, ports: Ports) -> tuple[str, str, int]:
    """Ask a Service by a new connection. Return the pod that answered, what was wrong, and the port that it was asked from."""
    pod, problem, port = "", "", 0
    connection = http.client.HTTPConnection(address, drill_workload.PORT, timeout=TIMEOUT)
    try:
        made = connection.sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        made.settimeout(TIMEOUT)
        port = ports.bind(made)
        made.connect((address, drill_workload.PORT))
        connection.request("GET", "/", headers={"Connection": "close"})
        answer = connection.getresponse()
        pod = answer.read(256).decode("ascii", "replace").strip()
        problem = "" if answer.status == 200 else "HTTP %d" % answer.status
    except (OSError, http.client.HTTPException) as error:
        problem = problem_of(error)
    finally:
        connection.close()
    return pod, problem, port


def serves(address: str) -> bool:
    """Tell whether a Service answers several times in a row."""
    ports = Ports()
    return not any(ask(address, ports)[1] for _time in range(10))


class ServiceClient(threading.Thread):
    """Asks the Service at a fixed beat, each time by a new connection; requests that hang do not keep the next ones waiting."""

    def __init__(self, recorder: Recorder, address: str) -> None:
        """Prepare."""
        super().__init__(daemon=True)
        self._recorder, self._address, self._ports = recorder, address, Ports()

    def run(self) -> None:
        """Ask until the end."""
        interval = self._recorder.seen["interval"]
        beat = time.monotonic()
        with ThreadPoolExecutor(int(TIMEOUT / interval) * 2 + 4) as pool:
            while not self._recorder.over.is_set():
                pool.submit(self._ask)
                beat = max(beat + interval, time.monotonic() - interval)
                self._recorder.over.wait(max(0.0, beat - time.monotonic()))

    def _ask(self) -> None:
        began = time.time()
        pod, problem, port = ask(self._address, self._ports)
        seconds = time.time() - began
        backend = backend_of(self._address, port) if problem else ""
        with self._recorder.lock:
            self._recorder.seen["requests"].append([round(began, 3), round(seconds, 3), pod, problem, backend])


def backend_of(service: str, port: int) -> str:
    """Return where the kernel sent a connection to a Service, an empty text where it does not tell."""
    try:
        with open(CONNTRACK, "rb") as file:
            return backend_in(file.read(), service, port)
    except OSError:
        return ""


def backend_in(table: bytes, service: str, port: int) -> str:
    """Return the backend of a connection to a Service out of the kernel's table of connections, which may be long."""
    found = table.find(b"dst=%s sport=%d dport=%d " % (service.encode("ascii"), port, drill_workload.PORT))
    if found < 0:
        return ""
    # What follows are the addresses of the answer.
    answer = table[found : table.find(b"\n", found)].partition(b" src=")[2]
    backend = answer.partition(b" ")[0].decode("ascii", "replace")
    return backend if b"sport=%d " % drill_workload.WEB_PORT in answer else ""


class Connections(threading.Thread):
    """Holds two connections to each pod: one that keeps sending, and an idle one with keepalive. When is each dropped?"""

    def __init__(self, recorder: Recorder, pods: Mapping[str, Mapping[str, str]]) -> None:
        """Open them.

        Raises:
            OSError: a pod does not accept one.
        """
        super().__init__(daemon=True)
        self._recorder = recorder
        self._open: list[tuple[socket.socket, dict[str, Any]]] = []
        settings = {name: running_kernel.sysctl("net.ipv4." + name) for name in TCP_SYSCTLS}
        for pod in pods.values():
            for kind in (UNACKNOWLEDGED, IDLE):
                made = socket.create_connection((pod["address"], drill_workload.ECHO_PORT), TIMEOUT)
                made.setblocking(False)
                made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, int(kind == IDLE))
                entry = {"kind": kind, "node": pod["node"], "opened": time.time(), "dropped": None, "error": "", "settings": settings}
                self._open.append((made, entry))
        with recorder.lock:
            recorder.seen["connections"] += [entry for _made, entry in self._open]

    def run(self) -> None:
        """Watch them until the end, or until none is left."""
        next_send = time.monotonic()
        while self._open and not self._recorder.over.is_set():
            sending = time.monotonic() >= next_send
            next_send += SEND_INTERVAL * sending
            poll = select.poll()
            for made, _entry in self._open:
                poll.register(made, select.POLLIN)
            news = dict(poll.poll(100))
            for made, entry in list(self._open):
                error = self._look(made, made.fileno() in news, sending and entry["kind"] == UNACKNOWLEDGED)
                if error:
                    with self._recorder.lock:
                        entry.update(dropped=time.time(), error=error)
                    made.close()
                    self._open.remove((made, entry))
            if news:
                # What keeps sending comes back all the time.
                self._recorder.over.wait(0.05)

    @staticmethod
    def _look(made: socket.socket, news: bool, send: bool) -> str:
        try:
            with contextlib.suppress(BlockingIOError):
                if news and not made.recv(4096):
                    return "closed"
            with contextlib.suppress(BlockingIOError):
                if send:
                    made.send(b".")
        except OSError as error:
            return problem_of(error)
        return ""
