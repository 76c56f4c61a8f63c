"""Changing a node: every module that writes does it through here, in the one safe order."""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Mapping

from ansible_collections.kubekeel.ha.plugins.module_utils import node_files, settings, systemd
from ansible_collections.kubekeel.ha.plugins.module_utils.node_files import NodeError
from ansible_collections.kubekeel.ha.plugins.module_utils.run_record import RunRecord

if TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule
    from ansible_collections.kubekeel.ha.plugins.module_utils.args_plan import ArgsPlan

_HIDDEN = r"(?:token|secret|password|passwd|(?:access|secret)[-_]key)[\"']?"
# A value follows its setting, and a flag on a line of its own stands before it.
_BEFORE = _HIDDEN + r"(?:\s*[:=]\s*|[^\S\n]+)|(?<=-)" + _HIDDEN + r"\s+"
_SECRET = re.compile(r"(?P<setting>" + _BEFORE + r")(?=\S)[^\n]*\S(?:[\r\n]+[ \t][^\n]*)*", re.IGNORECASE)


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
        before, after = self._shown(self.before), self._shown(self.after)
        return dict(vars(self), before=before, after=after, **settings.explain(self.name))

    def _shown(self, value: str | None) -> str | None:
        return None if value is None else hide_secrets("%s=%s" % (self.name, value))[len(self.name) + 1 :]


@dataclass(frozen=True)
class FileChange:
    """A file that gets a new text; None stands for no file."""

    path: str
    before: str | None
    after: str | None
    mode: int = 0o644
    """Of a file that was not there before; one that was keeps its own."""
    only_changes: bool = False
    """Whether a diff leaves out the lines that stay: they are somebody else's, and may be secret."""

    def as_diff(self) -> dict[str, str]:
        """Return the change as Ansible shows it, without the values of secrets."""
        before, after = self.before or "", self.after or ""
        if self.only_changes:
            before, after = _without(before, after), _without(after, before)
        return {
            "before_header": self.path,
            "after_header": self.path,
            "before": hide_secrets(before),
            "after": hide_secrets(after),
        }


def _without(text: str, other: str) -> str:
    # A last line that only gets its end stays, too.
    lines = set(other.splitlines())
    return "".join(line for line in text.splitlines(keepends=True) if line.splitlines()[0] not in lines)


def hide_secrets(text: str) -> str:
    """Return the text of a file without the values of settings that are secret by their name."""
    return _SECRET.sub(r"\g<setting>********", text)


def keep(
    run_id: str | None, changes: list[FileChange], unit: str | None = None, sysctls: Mapping[str, tuple[str, str]] | None = None
) -> None:
    """Keep what is there under a run, before it changes; without a run keep nothing.

    Args:
        run_id: the run.
        changes: the files.
        unit: the unit that reads them, where one does.
        sysctls: sysctls that are about to change, with the values that they have and get.

    Raises:
        NodeError: the record cannot be written.
    """
    if not run_id or not (changes or sysctls):
        return
    record = RunRecord(run_id)
    for change in changes:
        for folder in node_files.missing_folders(change.path):
            record.keep_folder(folder)
        record.keep_file(change.path, change.before, change.after)
    for name, (before, after) in (sysctls or {}).items():
        record.keep_sysctl(name, before, after)
    if unit:
        record.add_unit(unit)


def write(changes: list[FileChange]) -> None:
    """Replace or remove files.

    Raises:
        NodeError: a file cannot be written. Those before it are.
    """
    for change in changes:
        if change.after is None:
            node_files.remove(change.path)
        else:
            node_files.write(change.path, change.after, change.mode)


def apply(module: AnsibleModule, changes: list[FileChange], unit: str) -> None:
    """Change files that a unit reads: keep what was there, mark the unit, replace them.

    Raises:
        NodeError: a file cannot be written. Those before it are, and the record knows them.
    """
    run_id = module.params["run_id"]
    adopt(module, unit)
    keep(run_id, changes, unit)
    if changes:
        for change in changes:
            node_files.make_folder(os.path.dirname(change.path), 0o755)
        systemd.mark_changed(module, unit, run_id)
        write(changes)
        # Again, for a process that started by itself between the first mark and the last file.
        systemd.mark_changed(module, unit, run_id)


def carry_out(module: AnsibleModule, plan: ArgsPlan, unit: str) -> dict[str, Any]:
    """Do what a plan says, or in check mode only say it, and return the module's result.

    Raises:
        NodeError: something speaks against it, and nothing was changed; or a file cannot be written.
    """
    for warning in plan.warnings:
        module.warn(warning)
    if not module.check_mode:
        if plan.reasons:
            raise NodeError("; ".join(plan.reasons), reasons=plan.reasons)
        apply(module, plan.files, unit)
    return {
        "changed": bool(plan.files),
        "changes": [change.as_result() for change in plan.changes],
        "diff": [change.as_diff() for change in plan.files],
        "effective": plan.effective,
        "problems": plan.problems,
        "reasons": plan.reasons,
        "findings": plan.findings,
        "absent": plan.absent,
        "restart": [unit] if plan.files or systemd.must_restart(module, unit) else [],
    }


def adopt(module: AnsibleModule, unit: str) -> None:
    """Where an earlier run broke off before the unit restarted, this run is the one that takes it back if need be."""
    run_id = module.params["run_id"]
    pending = systemd.pending_runs(module, unit)
    if not run_id or pending is None:
        return
    if pending:
        RunRecord(run_id).adopt([run for run in pending if run != run_id], unit)
    else:
        RunRecord(run_id).note_waiting(unit)
