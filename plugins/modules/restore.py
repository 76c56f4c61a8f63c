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
  - Brings back, byte for byte, every file that a run changed on this node, removes files and folders that the run created,
    and sets sysctls to the value that they had at run time.
  - Takes earlier runs back with it that broke off before their units restarted, since it was this run that put them
    into force.
  - Changes nothing where a file or a sysctl is no longer as the run left it, since somebody else's edit would be lost.
  - Restarts nothing. The result says which units have to.
options:
  run_id:
    description: The run, as it was given to the modules that changed the node.
    type: str
    required: true
  force:
    description: Whether to take back what somebody else changed since, too.
    type: bool
    default: false
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
edited:
  description: Files and sysctls that are no longer as the run left them.
  returned: always
  type: list
  elements: str
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubekeel.ha.plugins.module_utils import node_change, node_files, node_module, running_kernel, systemd
from ansible_collections.kubekeel.ha.plugins.module_utils.node_files import NodeError
from ansible_collections.kubekeel.ha.plugins.module_utils.restoring import Restoring
from ansible_collections.kubekeel.ha.plugins.module_utils.run_record import RESTORED, RunRecord


def run(module: AnsibleModule) -> dict[str, Any]:
    """Do the module's work and return its result.

    Raises:
        NodeError: the operator has to know.
    """
    run_id = module.params["run_id"]
    record = RunRecord(run_id)
    if not record.known or record.state == RESTORED:
        if not record.known:
            module.warn("there is no record of run %s on this node: it changed nothing here" % run_id)
        # Where it broke off between the files and the restart, that is still to come.
        return {"changed": False, "paths": [], "diff": [], "restart": still_to_restart(module, record), "edited": []}
    adopted = [RunRecord(run) for run in reversed(record.adopted)]
    for one in adopted:
        if not one.known:
            module.warn("there is no record any more of run %s, which run %s put into force: what it changed stays" % (one.run_id, run_id))
    back = Restoring([record, *(one for one in adopted if one.known)], running_kernel.sysctl)
    if back.edited and not module.params["force"]:
        raise NodeError(
            "nothing was brought back: since run %s somebody else changed %s. Look at it, and where it may be lost, use force"
            % (run_id, ", ".join(back.edited)),
            edited=back.edited,
        )
    for warning in back.left:
        module.warn(warning)
    # A unit that never restarted since the change still runs with what is brought back.
    units = [unit for unit in record.units if not systemd.must_restart(module, unit)]
    if back.files and not module.check_mode:
        units = record.begin_restore(units)
        for unit in units:
            systemd.mark_changed(module, unit)
        node_change.write(back.files)
        for folder in back.folders:
            node_files.remove_empty_folder(folder)
        systemd.reload(module)
    if not back.files:
        units = still_to_restart(module, record)
    if not module.check_mode:
        for unit in record.units:
            # What somebody changed outside of a run is still to come into force.
            if unit not in [*units, *record.waiting]:
                systemd.forget_change(unit)
        for name, value in back.sysctls.items():
            running_kernel.set_sysctl(name, value)
        for source in back.sources:
            source.conclude(RESTORED)
    return {
        "changed": bool(back.files or back.sysctls),
        "paths": [change.path for change in back.files],
        "diff": [change.as_diff() for change in back.files],
        "restart": units,
        "edited": back.edited,
    }


def still_to_restart(module: AnsibleModule, record: RunRecord) -> list[str]:
    """Return the units that run with what a restore took away which broke off, and none where it had nothing to bring back."""
    return [unit for unit in record.restore if systemd.must_restart(module, unit)]


def main() -> None:
    """Run the module."""
    node_module.execute({"run_id": {"type": "str", "required": True}, "force": {"type": "bool", "default": False}}, run)


if __name__ == "__main__":
    main()
