"""Lines in the form that K3s gives its own; components write theirs to the same journal."""

import sys
import time
from collections.abc import Callable
from typing import NoReturn


def line(level: str, text: str) -> None:
    """Write one line to the journal."""
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    quoted = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    print(f'time="{now}" level={level} msg="{quoted}"', file=sys.stderr, flush=True)


def info(text: str) -> None:
    """Tell what happens."""
    line("info", text)


def warning(text: str) -> None:
    """Tell what may be wrong."""
    line("warning", text)


def error(text: str) -> None:
    """Tell what went wrong."""
    line("error", text)


def fatal(text: str) -> NoReturn:
    """Tell why this is the end, and end."""
    line("fatal", text)
    raise SystemExit(1)


class Once:
    """A complaint that is repeated only after things were well in between."""

    def __init__(self, tell: Callable[[str], None] = error) -> None:
        """Complain by means of ``tell``."""
        self._tell = tell
        self._told = False

    def complain(self, text: str) -> None:
        """Tell the first complaint."""
        if not self._told:
            self._tell(text)
        self._told = True

    def well(self) -> None:
        """Note that there is nothing to complain about."""
        self._told = False
