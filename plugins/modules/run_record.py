#!/usr/bin/python
"""The module kubekeel.ha.run_record."""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

DOCUMENTATION = r"""
module: run_record
short_description: Note on a node what a run is, and that it is done
version_added: 0.1.0
description:
  - Every run keeps on each node, below C(/var/lib/kubekeel/runs) and readable by root only, what was there before its
    changes. This module adds when it began, by whom and with which values, and whether it was carried through here.
  - Forgets the oldest records, but for those of runs that broke off.
options:
  run_id:
    description: The run, as it is given to the modules that change the node.
    type: str
    required: true
  state:
    description: V(begun) before the first change, V(done) once the node was seen to be well with it.
    type: str
    choices: [begun, done]
    default: begun
  about:
    description: What is worth knowing of the run, for instance C(operator), C(release) and C(profile).
    type: dict
    default: {}
  keep:
    description: How many records a node keeps.
    type: int
    default: 10
extends_documentation_fragment: [kubekeel.ha.attributes]
attributes:
  check_mode:
    description: Writes nothing then.
    support: full
  diff_mode:
    description: Records are no settings.
    support: none
"""

EXAMPLES = r"""
- name: Note what begins here
  kubekeel.ha.run_record:
    run_id: 20261121T031500Z
    about:
      operator: alice@bastion
      profile: balanced
"""

RETURN = r"""
run_id:
  description: The run.
  returned: success
  type: str
forgotten:
  description: Runs whose records were removed.
  returned: success
  type: list
  elements: str
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubekeel.ha.plugins.module_utils import node_module
from ansible_collections.kubekeel.ha.plugins.module_utils.node_files import NodeError
from ansible_collections.kubekeel.ha.plugins.module_utils.run_record import BEGUN, DONE, RunRecord, rotate


def run(module: AnsibleModule) -> dict[str, Any]:
    """Do the module's work and return its result.

    Raises:
        NodeError: the operator has to know.
    """
    params = module.params
    if params["keep"] < 1:
        raise NodeError("keep: %d; the record of the run itself has to stay" % params["keep"])
    record = RunRecord(params["run_id"])
    forgotten: list[str] = []
    if not module.check_mode:
        if params["state"] == BEGUN:
            record.describe({name: str(value) for name, value in params["about"].items()})
            forgotten = rotate(params["keep"])
        elif record.known:
            for each in [record, *(RunRecord(run) for run in record.adopted)]:
                each.conclude(DONE)
    return {"changed": False, "run_id": params["run_id"], "forgotten": forgotten}


def main() -> None:
    """Run the module."""
    node_module.execute(
        {
            "run_id": {"type": "str", "required": True},
            "state": {"type": "str", "choices": [BEGUN, DONE], "default": BEGUN},
            "about": {"type": "dict", "default": {}},
            "keep": {"type": "int", "default": 10},
        },
        run,
    )


if __name__ == "__main__":
    main()
