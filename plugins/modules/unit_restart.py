#!/usr/bin/python
"""The module kubekeel.ha.unit_restart."""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

DOCUMENTATION = r"""
module: unit_restart
short_description: Restart systemd units and see whether they stay up
version_added: 0.1.0
description:
  - Restarts each unit, then watches it for a while. A unit of type C(simple) counts as started at once, and one that
    dies of a bad flag a second later is restarted by systemd again and again, so that C(systemctl restart) says nothing.
  - Where a unit does not stay up the module fails, with the last lines that the unit logged.
  - Whether the cluster is well afterwards is the question of M(kubekeel.ha.cluster_health).
options:
  units:
    description: The units, in the order in which they restart. An empty list changes nothing.
    type: list
    elements: str
    required: true
  watch:
    description: For how many seconds a unit's main process must not die.
    type: int
    default: 8
attributes:
  check_mode:
    description: Says what would restart.
    support: full
  diff_mode:
    description: A restart has no diff.
    support: none
  platform:
    description: Where the module runs.
    support: full
    platforms: posix
requirements:
  - Python 3.8 or later on the node, nothing else
author: the kubekeel authors (@kubekeel)
"""

EXAMPLES = r"""
- name: Read the changed arguments
  kubekeel.ha.unit_restart:
    units: "{{ staged.restart }}"
"""

RETURN = r"""
units:
  description: Each unit that was restarted.
  returned: success
  type: list
  elements: dict
  contains:
    name: {description: The unit., type: str, sample: snap.microk8s.daemon-kubelite}
    before: {description: When its main process had started., type: str, sample: "Sat 2026-11-21 03:12:45 UTC"}
    started: {description: When its main process started; the same as before in check mode., type: str, sample: "Sat 2026-11-21 03:15:02 UTC"}
restarted_at:
  description: When the first restart was asked for, in seconds of the Unix epoch by the clock of the node.
  returned: success
  type: float
log:
  description: The last lines that the unit logged after the restart.
  returned: when a unit did not stay up
  type: list
  elements: str
"""

import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubekeel.ha.plugins.module_utils import systemd
from ansible_collections.kubekeel.ha.plugins.module_utils.node_files import NodeError

STATE = ("ActiveState", "MainPID", "NRestarts")
LOG_LINES = 15


def watch(module, unit, length):
    """Watch a unit for C(length) seconds and return why it is not up, None where it is.

    Raises:
        NodeError: there is no such unit.
    """
    first = systemd.show(module, unit, *STATE)
    until = time.monotonic() + length
    while True:
        state = systemd.show(module, unit, *STATE)
        if state["ActiveState"] != "active":
            return "it is %s" % state["ActiveState"]
        if state["NRestarts"] != "0" or state["MainPID"] != first["MainPID"]:
            return "its main process died"
        if time.monotonic() > until:
            return None
        time.sleep(0.5)


def log_since(module, unit, start):
    """Return the last lines that a unit logged since C(start), in seconds of the Unix epoch."""
    command = ["journalctl", "--unit", unit, "--since", "@%d" % start, "--lines", str(LOG_LINES), "--output", "cat", "--no-pager"]
    return module.run_command(command)[1].splitlines()


def restart(module, unit):
    """Restart one unit and return its entry of the result. Ends the module where the unit does not stay up.

    Raises:
        NodeError: there is no such unit.
    """
    before = after = systemd.show(module, unit, "ExecMainStartTimestamp")["ExecMainStartTimestamp"]
    if not module.check_mode:
        start = time.time()
        code, dummy, err = module.run_command(["systemctl", "restart", unit])
        why = err.strip() if code else watch(module, unit, module.params["watch"])
        if why:
            log = log_since(module, unit, start)
            module.fail_json(msg="%s did not stay up: %s. Its last lines:\n%s" % (unit, why, "\n".join(log)), log=log)
        after = systemd.show(module, unit, "ExecMainStartTimestamp")["ExecMainStartTimestamp"]
    return {"name": unit, "before": before, "started": after}


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "units": {"type": "list", "elements": "str", "required": True},
            "watch": {"type": "int", "default": 8},
        },
        supports_check_mode=True,
    )
    asked = time.time()
    try:
        units = [restart(module, unit) for unit in module.params["units"]]
    except NodeError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=bool(units), units=units, restarted_at=asked)


if __name__ == "__main__":
    main()
