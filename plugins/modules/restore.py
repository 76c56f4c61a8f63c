#!/usr/bin/python
"""The module kubekeel.ha.restore."""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

DOCUMENTATION = r"""
module: restore
short_description: Bring back what a run changed on a node
version_added: 0.1.0
description:
  - Brings back, byte for byte, every file that a run changed on this node, removes those that the run created, and sets
    sysctls to the value that they had at run time.
  - Restarts nothing. The result says which units have to.
options:
  run_id:
    description: The run, as it was given to the modules that changed the node.
    type: str
    required: true
extends_documentation_fragment: [kubekeel.ha.attributes, kubekeel.ha.attributes.writes]
"""

EXAMPLES = r"""
- name: Bring back what the run changed here
  kubekeel.ha.restore:
    run_id: 20261121T031500Z
"""

RETURN = r"""
paths:
  description: The files that were brought back or removed.
  returned: success
  type: list
  elements: str
restart:
  description: Units that have to restart, to read what was brought back.
  returned: success
  type: list
  elements: str
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubekeel.ha.plugins.module_utils import node_change, node_files, node_module, sysctl_files, systemd
from ansible_collections.kubekeel.ha.plugins.module_utils.run_record import RunRecord


def run(module: AnsibleModule) -> dict[str, Any]:
    """Do the module's work and return its result.

    Raises:
        NodeError: the operator has to know.
    """
    record = RunRecord(module.params["run_id"])
    files = []
    for entry in reversed(record.entries):
        if entry["kind"] == "file":
            before, after = node_files.read(entry["path"]), record.kept_text(entry)
            if before != after:
                files.append(node_change.FileChange(entry["path"], before, after))
        elif not module.check_mode:
            with open(sysctl_files.proc_path(entry["name"]), "w", encoding="ascii") as file:
                file.write(entry["value"] + "\n")
    # A unit that never restarted since the change still runs with what is brought back.
    units = [unit for unit in record.units if not systemd.must_restart(module, unit)]
    if files and not module.check_mode:
        units = record.begin_restore(units)
        node_change.apply(files)
        for unit in record.units:
            (systemd.mark_changed if unit in units else systemd.forget_change)(unit)
        module.run_command(["systemctl", "daemon-reload"], check_rc=True)
    return {
        "changed": bool(files),
        "paths": [change.path for change in files],
        "diff": [change.as_diff() for change in files],
        "restart": units if files else [unit for unit in record.units if systemd.must_restart(module, unit)],
    }


def main() -> None:
    """Run the module."""
    node_module.execute({"run_id": {"type": "str", "required": True}}, run)


if __name__ == "__main__":
    main()
