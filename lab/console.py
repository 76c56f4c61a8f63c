"""Progress of long steps: a spinner on a terminal, plain lines elsewhere."""

import contextlib
import threading
import time
from collections.abc import Iterator

from rich.console import Console

HEARTBEAT_SECONDS = 15.0

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


class Steps:
    """Announce steps with the seconds they took."""

    def __init__(self, console: Console = err) -> None:
        """Write to ``console``, by default standard error: standard output belongs to results."""
        self.console = console
        self.started = time.monotonic()

    def elapsed(self) -> float:
        """Seconds since this object was made."""
        return time.monotonic() - self.started

    @contextlib.contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Show ``title`` while the block runs, and how long it took when it ends well."""
        began = time.monotonic()
        if self.console.is_terminal:
            with self.console.status(title):
                yield
        else:
            with self._heartbeat(title, began):
                yield
        self.console.print(f"  {title} [dim]({time.monotonic() - began:.1f} s)[/dim]", soft_wrap=True)

    @contextlib.contextmanager
    def _heartbeat(self, title: str, began: float) -> Iterator[None]:
        """Print a line every few seconds: a log that stands still looks like a hang."""
        over = threading.Event()

        def beat() -> None:
            while not over.wait(HEARTBEAT_SECONDS):
                self.console.print(f"  {title} ... {time.monotonic() - began:.0f} s", soft_wrap=True)

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
