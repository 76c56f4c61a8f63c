"""Components as child processes: none outlives the stand-in, however that ends."""

import contextlib
import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence

PR_SET_PDEATHSIG = 1

_libc = ctypes.CDLL(None, use_errno=True)


def _die_with_parent() -> None:
    """Ask the kernel to kill this child when its parent is gone, even by SIGKILL."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Children:
    """Running components; all made by the main thread, which PR_SET_PDEATHSIG is bound to."""

    def __init__(self) -> None:
        """Start without any."""
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, command: Sequence[str], environ: Mapping[str, str] | None = None) -> None:
        """Start a component; what it prints goes to the unit's journal."""
        self._running[name] = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            # Notifying systemd is our own business.
            env={key: value for key, value in {**os.environ, **(environ or {})}.items() if key != "NOTIFY_SOCKET"},
            preexec_fn=_die_with_parent,
        )

    def dead(self) -> tuple[str, int] | None:
        """Return name and exit code of a component that has ended (negative: minus the signal), or None."""
        for name, child in self._running.items():
            if child.poll() is not None:
                del self._running[name]
                return name, child.returncode
        return None

    def ask(self, names: Iterable[str], seconds: float) -> None:
        """Ask some components to end, and wait for them until their time is over."""
        asked = [child for name in names if (child := self._running.get(name)) is not None]
        for child in asked:
            child.terminate()
        deadline = time.monotonic() + seconds
        for child in asked:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(max(0.0, deadline - time.monotonic()))

    def stop(self, names: Sequence[str], seconds: float) -> None:
        """End some components side by side: asked first, killed when their time is over."""
        self.ask(names, seconds)
        for name in names:
            child = self._running.pop(name, None)
            if child is not None:
                child.kill()
                child.wait()
