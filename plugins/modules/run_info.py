#!/usr/bin/python
"""The module kubekeel.ha.run_info."""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

DOCUMENTATION = r"""
module: run_info
short_description: Tell which runs changed a node, and what became of their changes
version_added: 0.1.0
description:
  - Reads the records that runs left on a node. Changes nothing.
options:
  run_id:
    description: Only this run. By default all of which there is a record.
    type: str
extends_documentation_fragment: [kubekeel.ha.attributes, kubekeel.ha.attributes.reads]
"""

EXAMPLES = r"""
- name: Which runs changed this node?
  kubekeel.ha.run_info:
  register: known
"""

RETURN = r"""
runs:
  description: The runs, newest first.
  returned: success
  type: list
  elements: dict
  contains:
    run_id: {description: The run., type: str}
    began: {description: "When it began on this node, as a time of RFC 3339.", type: str}
    state: {description: "V(begun) where it broke off, V(done), or V(restored) where it was taken back.", type: str}
    about: {description: "What was noted of it, for instance C(operator), C(release) and C(profile).", type: dict}
    files: {description: "Each file that it changed, with C(name), and the checksums C(before) and C(after).", type: list}
    sysctls: {description: "Each sysctl that it changed, with C(name), C(before) and C(after).", type: list}
    edited: {description: Files and sysctls that are no longer as the run left them., type: list}
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubekeel.ha.plugins.module_utils import node_module, running_kernel
from ansible_collections.kubekeel.ha.plugins.module_utils.restoring import Restoring
from ansible_collections.kubekeel.ha.plugins.module_utils.run_record import RESTORED, RunRecord, all_runs


def described(record: RunRecord) -> dict[str, Any]:
    """Return what is to be said of a run.

    Raises:
        NodeError: a copy is gone, or a file cannot be read.
    """

    def entries(kind: str) -> list[dict[str, Any]]:
        found = [entry for entry in record.entries if entry["kind"] == kind]
        return [{"name": entry["name"], "before": entry["before"], "after": entry["after"][-1]} for entry in found]

    about = record.about
    return {
        "run_id": record.run_id,
        "began": about.pop("began", ""),
        "state": record.state,
        "about": about,
        "files": entries("file"),
        "sysctls": entries("sysctl"),
        "edited": [] if record.state == RESTORED else Restoring([record], running_kernel.sysctl).edited,
    }


def run(module: AnsibleModule) -> dict[str, Any]:
    """Do the module's work and return its result.

    Raises:
        NodeError: the operator has to know.
    """
    wanted = module.params["run_id"]
    records = [RunRecord(wanted)] if wanted else all_runs()
    return {"changed": False, "runs": [described(record) for record in records if record.known]}


def main() -> None:
    """Run the module."""
    node_module.execute({"run_id": {"type": "str"}}, run)


if __name__ == "__main__":
    main()
