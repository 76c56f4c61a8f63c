"""Units of systemd: what they are doing, and which of them still run with settings from before a change.

A change leaves a mark in C(/run/kubekeel): the monotonic time of the change, and its run. As long as the unit's main process is
older than its mark, the unit has to restart. So a run that broke off between change and restart is completed by the
next one, and a reboot, which does away with both, asks for nothing.
"""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from ansible_collections.kubekeel.ha.plugins.module_utils import node_files, unit_file

if TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule

MARKS = "/run/kubekeel"
STARTED = "ExecMainStartTimestampMonotonic"


def show(module: AnsibleModule, unit: str, *properties: str) -> dict[str, str]:
    """Return properties of a unit as C(systemctl show) prints them, those with several lines as several lines.

    Raises:
        NodeError: systemd does not know the unit.
    """
    names = ("LoadState", *properties)
    code, out, err = module.run_command(["systemctl", "show", unit, "--property=" + ",".join(names)])
    found: dict[str, str] = {}
    for name, equals, value in (line.partition("=") for line in out.splitlines()):
        if equals:
            found[name] = found[name] + "\n" + value if name in found else value
    if code or found.get("LoadState") != "loaded":
        state = found.get("LoadState") or err.strip()
        raise node_files.NodeError("systemd has no unit %s on this node (%s)" % (unit, state))
    return found


def environment_files(shown: dict[str, str]) -> list[str]:
    """Return the files of the property EnvironmentFiles, in the order in which a unit reads them."""
    return [line.split(" (", 1)[0] for line in shown.get("EnvironmentFiles", "").splitlines() if line]


def environment(shown: dict[str, str]) -> dict[str, str]:
    """Return the variables of the property Environment."""
    words = (word.partition("=") for word in unit_file.split(shown.get("Environment", "")))
    return {name: value for name, equals, value in words if equals}


def mark_changed(module: AnsibleModule, unit: str, run_id: str | None = None) -> None:
    """Note that the unit's settings are changing now, by the run C(run_id)."""
    runs = pending_runs(module, unit) or []
    if run_id and run_id not in runs:
        runs.append(run_id)
    node_files.make_folder(MARKS, 0o755)
    node_files.write(os.path.join(MARKS, unit), " ".join(["%d" % (time.monotonic_ns() // 1000), *runs]) + "\n")


def forget_change(unit: str) -> None:
    """Remove the unit's mark: what it runs with is what its settings say."""
    node_files.remove(os.path.join(MARKS, unit))


def pending_runs(module: AnsibleModule, unit: str) -> list[str] | None:
    """Return the runs that changed the unit's settings after its main process started.

    None where there is no such change; an empty list where one was made outside a run.
    """
    text = node_files.read(os.path.join(MARKS, unit))
    if text is None:
        return None
    moment, *runs = text.split()
    return runs if int(show(module, unit, STARTED)[STARTED] or 0) <= int(moment) else None


def must_restart(module: AnsibleModule, unit: str) -> bool:
    """Tell whether the unit's settings were changed by kubekeel after its main process started."""
    return pending_runs(module, unit) is not None


def reload(module: AnsibleModule) -> None:
    """Let systemd read every unit's files again. NeedDaemonReload would not tell of a drop-in in a new folder."""
    module.run_command(["systemctl", "daemon-reload"], check_rc=True)
