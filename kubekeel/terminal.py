"""The terminal, or whatever else somebody reads."""

import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from typing import NoReturn

from rich.console import Console


class Terminal(Console):
    """A console that says so where nobody reads any more; rich's own ends the program there, and with it what is under way."""

    def on_broken_pipe(self) -> NoReturn:
        """Leave it to the caller."""
        raise


@contextlib.contextmanager
def unread() -> Iterator[None]:
    """Let a report go that nobody reads, since the terminal is gone or a pipe closed: the run is kept, and its exit code counts."""
    try:
        yield
        sys.stdout.flush()
    except OSError as error:
        if error.errno not in (errno.EIO, errno.EPIPE):
            raise
        # What is left in the buffer must not fail at the end, either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
