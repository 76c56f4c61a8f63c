"""Units of systemd: what they are doing, and which of them still run with settings from before a change.

A change leaves a mark in C(/run/kubekeel): the monotonic time of the change. As long as the unit's main process is
older than its mark, the unit has to restart. So a run that broke off between change and restart is completed by the
next one, and a reboot, which does away with both, asks for nothing.
"""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from ansible_collections.kubekeel.ha.plugins.module_utils import node_files

if TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule

MARKS = "/run/kubekeel"
STARTED = "ExecMainStartTimestampMonotonic"


def show(module: AnsibleModule, unit: str, *properties: str) -> dict[str, str]:
    """Return properties of a unit as C(systemctl show) prints them.

    Raises:
        NodeError: systemd does not know the unit.
    """
    names = ("LoadState", *properties)
    code, out, err = module.run_command(["systemctl", "show", unit, "--property=" + ",".join(names)])
    found = dict(line.split("=", 1) for line in out.splitlines() if "=" in line)
    if code or found.get("LoadState") != "loaded":
        state = found.get("LoadState") or err.strip()
        raise node_files.NodeError("systemd has no unit %s on this node (%s)" % (unit, state))
    return found


def mark_changed(unit: str) -> None:
    """Note that the unit's settings are changing now."""
    node_files.make_folder(MARKS, 0o755)
    node_files.write(os.path.join(MARKS, unit), "%d\n" % (time.monotonic_ns() // 1000))


def forget_change(unit: str) -> None:
    """Remove the unit's mark: what it runs with is what its settings say."""
    node_files.remove(os.path.join(MARKS, unit))


def must_restart(module: AnsibleModule, unit: str) -> bool:
    """Tell whether the unit's settings were changed by kubekeel after its main process started."""
    text: str | None = node_files.read(os.path.join(MARKS, unit))
    return text is not None and int(show(module, unit, STARTED)[STARTED] or 0) <= int(text)
