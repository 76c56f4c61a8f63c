"""What the command snap says: is a change under way, may a refresh begin by itself? Reads texts alone."""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

UNDER_WAY = ("Abort", "Do", "Doing", "Undo", "Undoing", "Wait")
"""States of a change that is not over (canonical/snapd overlord/state/change.go). Wait is one that waits for a reboot."""
NO_CHANGES = "no changes found"
SNAPS = ("microk8s", "snapd")
"""Whose changes matter: a refresh of snapd restarts snapd, and what it was doing begins again."""

_COLUMNS = re.compile(r" {2,}")
"""Columns are two spaces apart at least; what stands in them, such as 'today at 10:17 UTC', holds single ones."""
_QUOTED = re.compile(r'"([^"]*)"')
_TIME = re.compile(r"(?P<whole>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.\d+)?(?P<zone>Z|[+-]\d\d:\d\d)$")


@dataclass(frozen=True)
class Change:
    """A line of C(snap changes)."""

    number: str
    status: str
    summary: str

    def __str__(self) -> str:
        return "change %s, %s: %s" % (self.number, self.status, self.summary)


def under_way(text: str) -> list[Change]:
    """Return the changes that are not over and that touch MicroK8s or snapd, or may: 'Auto-refresh 7 snaps' names none.

    Args:
        text: what C(snap changes) prints.
    """
    found = []
    for line in text.splitlines():
        cells = _COLUMNS.split(line.strip(), 4)
        if len(cells) < 5 or cells[1] not in UNDER_WAY:
            continue
        named = _QUOTED.findall(cells[4])
        if not named or set(named) & set(SNAPS):
            found.append(Change(cells[0], cells[1], cells[4]))
    return found


@dataclass(frozen=True)
class Installed:
    """A line of C(snap list)."""

    revision: str
    notes: tuple[str, ...]

    @property
    def is_local(self) -> bool:
        """Whether it was installed from a file; the store has no refresh for it."""
        return self.revision.startswith("x")

    @property
    def is_held(self) -> bool:
        """Whether the refreshes of this very snap are held."""
        return "held" in self.notes


def installed(text: str, name: str) -> Installed | None:
    """Return what C(snap list) says of a snap, None where it does not list it."""
    for line in text.splitlines():
        cells = line.split()
        if cells[:1] == [name] and len(cells) >= 6:
            return Installed(cells[2], tuple(cells[-1].split(",")))
    return None


def hold_of_all(text: str, now: float) -> str:
    """Return until when the refreshes of all snaps are held: a time, V(forever), or an empty text where they are not.

    Args:
        text: what C(snap get system refresh.hold) prints; nothing where it fails for want of the option.
        now: in seconds of the Unix epoch. A hold that is over stays in the option.
    """
    text = text.strip()
    found = _TIME.match(text)
    if not found:
        return text if text == "forever" else ""
    zone = "+0000" if found["zone"] == "Z" else found["zone"].replace(":", "")
    try:
        until = datetime.strptime(found["whole"] + zone, "%Y-%m-%dT%H:%M:%S%z").timestamp()
    except (OverflowError, ValueError):
        return ""
    return text if until > now else ""
