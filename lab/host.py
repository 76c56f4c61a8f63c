"""What the lab has to change on the host itself."""

import contextlib
from pathlib import Path

INSTANCES = Path("/proc/sys/fs/inotify/max_user_instances")
# The usual 128 are for all of root's processes, those in the nodes included; a node takes about a dozen.
ENOUGH = 1024


def allow_many_watchers() -> None:
    """Raise the number of inotify instances until the next boot, where it is low and the host lets us."""
    with contextlib.suppress(OSError, ValueError):
        if int(INSTANCES.read_text()) < ENOUGH:
            INSTANCES.write_text(f"{ENOUGH}\n")
