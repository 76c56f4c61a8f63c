#!/usr/bin/python
"""The module kubekeel.ha.unit_log."""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

DOCUMENTATION = r"""
module: unit_log
short_description: Tell how often systemd units died, and what they logged
version_added: 0.1.0
description:
  - Picks from the log of each unit the lines that tell why it died, or the last ones where none does.
options:
  units:
    description: The units.
    type: list
    elements: str
    required: true
  since:
    description: From when on, in seconds of the Unix epoch by the clock of the node.
    type: float
    required: true
extends_documentation_fragment: [kubekeel.ha.attributes, kubekeel.ha.attributes.reads]
"""

EXAMPLES = r"""
- name: Why is the node not Ready again?
  kubekeel.ha.unit_log:
    units: "{{ restarted.units | map(attribute='name') }}"
    since: "{{ restarted.restarted_at }}"
"""

RETURN = r"""
units:
  description: Each unit.
  returned: success
  type: list
  elements: dict
  contains:
    name: {description: The unit., type: str, sample: k3s}
    died: {description: How often systemd has started it again by itself., type: int, sample: 2}
    log: {description: The lines., type: list, elements: str}
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubekeel.ha.plugins.module_utils import node_module, systemd, unit_watch


def run(module: AnsibleModule) -> dict[str, Any]:
    """Do the module's work and return its result.

    Raises:
        NodeError: systemd does not know a unit.
    """
    since = module.params["since"]
    units = [
        {
            "name": name,
            "died": int(systemd.show(module, name, "NRestarts")["NRestarts"]),
            "log": unit_watch.log_since(module, name, since),
        }
        for name in module.params["units"]
    ]
    return {"changed": False, "units": units}


def main() -> None:
    """Run the module."""
    node_module.execute({"units": {"type": "list", "elements": "str", "required": True}, "since": {"type": "float", "required": True}}, run)


if __name__ == "__main__":
    main()
