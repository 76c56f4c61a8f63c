"""Child processes that live and die together."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

PR_SET_PDEATHSIG = 1
GRACE_SECONDS = 5.0

_libc = ctypes.CDLL(None, use_errno=True)


def _die_with_parent() -> None:
    """Ask the kernel to kill this child when its parent is gone, even by SIGKILL."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Children:
    """Components of one kubelite; made and waited for by the main thread, which PR_SET_PDEATHSIG is bound to."""

    def __init__(self) -> None:
        """Start without children."""
        self._running: dict[int, tuple[str, subprocess.Popen[bytes]]] = {}
        self._readers: list[threading.Thread] = []

    def start(self, name: str, program: str, arguments: Sequence[str]) -> None:
        """Start a component whose output goes to our standard error, each line with the component's name."""
        child = subprocess.Popen(
            [program, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            preexec_fn=_die_with_parent,
        )
        self._running[child.pid] = (name, child)
        reader = threading.Thread(target=_forward, args=(name, child), daemon=True)
        reader.start()
        self._readers.append(reader)

    def dead(self) -> tuple[str, int] | None:
        """Return name and exit code of a component that has ended (negative: minus the signal), or None."""
        for pid, (name, child) in self._running.items():
            if child.poll() is not None:
                del self._running[pid]
                return name, child.returncode
        return None

    def stop(self) -> None:
        """End and reap all children: asked first, killed after the grace period."""
        for _, child in self._running.values():
            child.terminate()
        deadline = time.monotonic() + GRACE_SECONDS
        for _, child in self._running.values():
            try:
                child.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        self._running.clear()
        for reader in self._readers:
            reader.join(1.0)


def _forward(name: str, child: "subprocess.Popen[bytes]") -> None:
    """Copy a child's output to the journal line by line."""
    prefix = f"{name}: ".encode()
    for line in child.stdout or ():
        with contextlib.suppress(OSError):
            os.write(sys.stderr.fileno(), prefix + line)
