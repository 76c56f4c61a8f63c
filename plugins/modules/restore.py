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
  - Takes earlier runs back with it that broke off before their units restarted, since it was this run that put them
    into force.
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
from ansible_collections.kubekeel.ha.plugins.module_utils import node_change, node_files, node_module, running_kernel, systemd
from ansible_collections.kubekeel.ha.plugins.module_utils.run_record import RunRecord


def run(module: AnsibleModule) -> dict[str, Any]:
    """Do the module's work and return its result.

    Raises:
        NodeError: the operator has to know.
    """
    record = RunRecord(module.params["run_id"])
    if not record.known:
        module.warn("there is no record of run %s on this node: it changed nothing here" % module.params["run_id"])
    files: dict[str, node_change.FileChange] = {}
    sysctls = {}
    for source in [record, *(RunRecord(run) for run in reversed(record.adopted))]:
        for entry in reversed(source.entries):
            if entry["kind"] == "file":
                files[entry["path"]] = node_change.FileChange(
                    entry["path"], node_files.read(entry["path"]), source.kept_text(entry), only_changes=True
                )
            else:
                sysctls[entry["name"]] = entry["value"]
    changed_files = [change for change in files.values() if change.before != change.after]
    changed_sysctls = {name: value for name, value in sysctls.items() if running_kernel.sysctl(name) != value}
    # A unit that never restarted since the change still runs with what is brought back.
    units = [unit for unit in record.units if not systemd.must_restart(module, unit)]
    if changed_files and not module.check_mode:
        units = record.begin_restore(units)
        for unit in units:
            systemd.mark_changed(module, unit)
        node_change.write(changed_files)
        systemd.reload(module)
        for unit in record.units:
            if unit not in units:
                systemd.forget_change(unit)
    if not changed_files:
        units = [unit for unit in record.units if systemd.must_restart(module, unit)]
    if not module.check_mode:
        for name, value in changed_sysctls.items():
            running_kernel.set_sysctl(name, value)
    return {
        "changed": bool(changed_files or changed_sysctls),
        "paths": [change.path for change in changed_files],
        "diff": [change.as_diff() for change in changed_files],
        "restart": units,
    }


def main() -> None:
    """Run the module."""
    node_module.execute({"run_id": {"type": "str", "required": True}}, run)


if __name__ == "__main__":
    main()
