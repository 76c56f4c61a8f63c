#!/usr/bin/python
"""The module kubekeel.ha.service_environment."""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

DOCUMENTATION = r"""
module: service_environment
short_description: Set environment variables of a systemd unit by a drop-in
version_added: 0.1.0
description:
  - Keeps the variables in a drop-in of kubekeel's own, so that neither the unit nor anyone else's drop-in is edited.
  - Restarts nothing. The result says whether the unit has to.
options:
  unit:
    description: The unit, with or without C(.service).
    type: str
    default: snap.microk8s.daemon-kubelite
  environment:
    description: Variable to value. V(null) removes a variable from the drop-in; the last one takes the drop-in with it.
    type: dict
    required: true
  dropin:
    description: File name of the drop-in. The later it sorts, the less can override it; C(systemctl edit) writes C(override.conf).
    type: str
    default: zz-kubekeel.conf
extends_documentation_fragment: [kubekeel.ha.attributes, kubekeel.ha.attributes.writes, kubekeel.ha.run]
seealso:
  - module: kubekeel.ha.unit_restart
"""

EXAMPLES = r"""
- name: Notice a dead connection to the API server within 12 seconds
  kubekeel.ha.service_environment:
    unit: snap.microk8s.daemon-kubelite
    environment:
      HTTP2_READ_IDLE_TIMEOUT_SECONDS: 8
      HTTP2_PING_TIMEOUT_SECONDS: 4
"""

RETURN = r"""
changes:
  description:
    - Each variable that was changed, or would be, with C(owner) (the unit), C(name), C(before), C(after), C(path),
      C(why), C(source).
  returned: success
  type: list
  elements: dict
effective:
  description: The variables that were named, as systemd gives them to the unit after the run.
  returned: success
  type: dict
  sample: {HTTP2_READ_IDLE_TIMEOUT_SECONDS: "8"}
restart:
  description: The unit, where it has to restart because of this run or of an earlier one that broke off.
  returned: success
  type: list
  elements: str
"""

import os
import shlex
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubekeel.ha.plugins.module_utils import node_change, node_files, node_module, systemd, unit_environment
from ansible_collections.kubekeel.ha.plugins.module_utils.node_files import NodeError

FOLDER = "/etc/systemd/system"


def wanted_variables(environment: dict[str, Any]) -> dict[str, str | None]:
    """Return the option O(environment) with every value as text.

    Raises:
        NodeError: a name or a value cannot be written to a drop-in.
    """
    wanted = {name: None if value is None else str(value) for name, value in environment.items()}
    for name, value in wanted.items():
        try:
            unit_environment.check(name, value or "")
        except ValueError as error:
            raise NodeError("environment: %s" % error) from error
    return wanted


def unit_variables(module: AnsibleModule, unit: str) -> dict[str, str]:
    """Return the variables that systemd gives to the unit.

    Raises:
        NodeError: there is no such unit.
    """
    words = shlex.split(systemd.show(module, unit, "Environment").get("Environment", ""))
    return dict(word.split("=", 1) for word in words if "=" in word)


def run(module: AnsibleModule) -> dict[str, Any]:
    """Do the module's work and return its result.

    Raises:
        NodeError: the operator has to know. Where another drop-in overrides ours, ours is written.
    """
    unit = module.params["unit"]
    unit = unit if unit.endswith(".service") else unit + ".service"
    name = unit[: -len(".service")]
    wanted = wanted_variables(module.params["environment"])
    effective = unit_variables(module, unit)
    path = os.path.join(FOLDER, unit + ".d", module.params["dropin"])
    text = node_files.read(path)
    ours = unit_environment.parse(text or "")
    variables: dict[str, str | None] = {**ours, **wanted}
    after = unit_environment.render({key: value for key, value in variables.items() if value is not None}) or None
    changes = [
        node_change.Change(name, key, effective.get(key), value, path)
        for key, value in wanted.items()
        if effective.get(key) != value and (value is not None or key in ours)
    ]
    files = [node_change.FileChange(path, text, after)] if after != text else []
    if module.check_mode:
        overridden = []
    else:
        if files:
            node_files.make_folder(os.path.dirname(path), 0o755)
        node_change.apply(module, files, name)
        if files or changes:
            systemd.reload(module)
            effective = unit_variables(module, unit)
        overridden = [key for key, value in wanted.items() if value is not None and effective.get(key) != value]
    if overridden:
        raise NodeError(
            "%s: %s is set by another drop-in that sorts after %s. See 'systemctl cat %s', and remove it there"
            % (name, " and ".join(overridden), path, name)
        )
    return {
        "changed": bool(files),
        "changes": [change.as_result() for change in changes],
        "diff": [change.as_diff() for change in files],
        "effective": {key: effective.get(key) if not module.check_mode else value for key, value in wanted.items()},
        "restart": [name] if files or systemd.must_restart(module, name) else [],
    }


def main() -> None:
    """Run the module."""
    node_module.execute(
        {
            "unit": {"type": "str", "default": "snap.microk8s.daemon-kubelite"},
            "environment": {"type": "dict", "required": True},
            "dropin": {"type": "str", "default": "zz-kubekeel.conf"},
            "run_id": {"type": "str"},
        },
        run,
    )


if __name__ == "__main__":
    main()
