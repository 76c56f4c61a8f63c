"""Changing a node: every module that writes does it through here, in the one safe order."""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

from dataclasses import dataclass
from typing import Mapping

from ansible_collections.kubekeel.ha.plugins.module_utils import node_files, settings, systemd
from ansible_collections.kubekeel.ha.plugins.module_utils.run_record import RunRecord


@dataclass(frozen=True)
class Change:
    """One setting that differs from what is wanted."""

    owner: str
    """Whose setting it is: a component, a unit, C(sysctl)."""
    name: str
    before: str | None
    after: str | None
    path: str
    note: str = ""

    def as_result(self) -> dict[str, str | None]:
        """Return the change for a module's result, with the reason and the source of its setting."""
        return dict(vars(self), **settings.explain(self.name))


@dataclass(frozen=True)
class FileChange:
    """A file that gets a new text; None stands for no file."""

    path: str
    before: str | None
    after: str | None

    def as_diff(self) -> dict[str, str]:
        """Return the change as Ansible shows it."""
        return {
            "before_header": self.path,
            "after_header": self.path,
            "before": self.before or "",
            "after": self.after or "",
        }


def apply(changes: list[FileChange], unit: str | None = None, run_id: str | None = None, sysctls: Mapping[str, str] | None = None) -> None:
    """Write files: keep what was there, mark the unit that reads them, then replace each.

    Args:
        changes: the files.
        unit: the unit that reads them, where one does.
        run_id: the run under which to keep what was there; None keeps nothing.
        sysctls: sysctls that are about to change, with the values that they have.

    Raises:
        NodeError: a file cannot be written. Those before it are written, the record knows them.
    """
    if run_id and (changes or sysctls):
        record = RunRecord(run_id)
        for change in changes:
            record.keep_file(change.path, change.before)
        for name, value in (sysctls or {}).items():
            record.keep_sysctl(name, value)
        if unit:
            record.add_unit(unit)
    for change in changes:
        if unit:
            systemd.mark_changed(unit)
        if change.after is None:
            node_files.remove(change.path)
        else:
            node_files.write(change.path, change.after)
    if unit and changes:
        # Again, for a process that started by itself between the first mark and the last file.
        systemd.mark_changed(unit)
