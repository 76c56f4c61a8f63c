#!/usr/bin/python
"""The module kubekeel.ha.service_environment."""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

DOCUMENTATION = r"""
module: service_environment
short_description: Set environment variables of the unit that runs Kubernetes
version_added: 0.1.0
description:
  - MicroK8s, and any unit that is named. Keeps the variables in a drop-in of kubekeel's own, so that neither the unit nor
    anyone else's drop-in is edited.
  - K3s. Keeps them in C(/etc/default/k3s) or C(/etc/default/k3s-agent), which the installer's units read and which the
    installer does not write. Other lines of that file stay as they are.
  - Restarts nothing. The result says whether the unit has to.
options:
  unit:
    description: The unit, with or without C(.service). By default the one that runs Kubernetes on this node.
    type: str
  environment:
    description: Variable to value. V(null) removes a variable; the last one takes the file with it.
    type: dict
    required: true
  dropin:
    description: File name of the drop-in. The later it sorts, the less can override it; C(systemctl edit) writes C(override.conf).
    type: str
    default: zz-kubekeel.conf
extends_documentation_fragment: [kubekeel.ha.attributes, kubekeel.ha.attributes.writes, kubekeel.ha.distribution, kubekeel.ha.run]
seealso:
  - module: kubekeel.ha.unit_restart
"""

EXAMPLES = r"""
- name: Notice a dead connection to the API server within 12 seconds
  kubekeel.ha.service_environment:
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
from typing import Any, Dict, Mapping, Optional

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubekeel.ha.plugins.module_utils import (
    distribution,
    environment_file,
    k3s,
    node_change,
    node_files,
    node_module,
    systemd,
    unit_environment,
)
from ansible_collections.kubekeel.ha.plugins.module_utils.node_change import FileChange
from ansible_collections.kubekeel.ha.plugins.module_utils.node_files import NodeError

DROP_INS = "/etc/systemd/system"
DEFAULTS = "/etc/default"

Wanted = Dict[str, Optional[str]]


class DropIn:
    """A drop-in of kubekeel's own."""

    def __init__(self, module: AnsibleModule, unit: str) -> None:
        """Read it, and what the unit gets now.

        Raises:
            NodeError: there is no such unit.
        """
        self.module, self.unit = module, unit
        self.path = os.path.join(DROP_INS, unit + ".service.d", module.params["dropin"])
        self.text = node_files.read(self.path)
        self.ours = unit_environment.parse(self.text or "")

    def effective(self, _text: str | None) -> dict[str, str]:
        """Return what systemd gives to the unit; it has read the new text by now."""
        shown = systemd.show(self.module, self.unit + ".service", "Environment")
        return systemd.environment(shown)

    def render(self, wanted: Wanted) -> str | None:
        """Return the new text, None for no file."""
        variables = {**self.ours, **wanted}
        return unit_environment.render({name: value for name, value in variables.items() if value is not None}) or None


class EnvironmentFile:
    """The file that K3s' units read for variables of the operator (docs.k3s.io, configuration; install.sh)."""

    def __init__(self, module: AnsibleModule, unit: str) -> None:
        """Read it, and those that the unit reads beside it.

        Raises:
            NodeError: the unit does not read it.
        """
        self.path = os.path.join(DEFAULTS, unit)
        shown = systemd.show(module, unit, "EnvironmentFiles")
        self.paths = systemd.environment_files(shown)
        if self.path not in self.paths:
            cure = "add EnvironmentFile=-%s to it, as the K3s installer does" % self.path
            raise NodeError("unit %s does not read %s; %s" % (unit, self.path, cure))
        self.text = node_files.read(self.path)
        self.ours = environment_file.variables(self.text or "")

    def effective(self, text: str | None) -> dict[str, str]:
        """Return what the unit gets once C(text) is in the file; of two files the later one counts."""
        found: dict[str, str] = {}
        for path in self.paths:
            found.update(environment_file.variables((text if path == self.path else node_files.read(path, follow=True)) or ""))
        return found

    def render(self, wanted: Wanted) -> str | None:
        """Return the new text, None for no file.

        Raises:
            NodeError: the file is none that a line can be added to.
        """
        try:
            return environment_file.set_variables(self.text or "", wanted) or None
        except ValueError as error:
            raise NodeError("%s: %s. Nothing was changed" % (self.path, error)) from error


def wanted_variables(environment: Mapping[str, Any]) -> Wanted:
    """Return the option O(environment) with every value as text.

    Raises:
        NodeError: a name or a value cannot be written.
    """
    wanted = {name: None if value is None else str(value) for name, value in environment.items()}
    for name, value in wanted.items():
        if isinstance(environment[name], (dict, list)):
            raise NodeError("environment.%s: one value is needed, not %r" % (name, environment[name]))
        try:
            unit_environment.check(name, value or "")
        except ValueError as error:
            raise NodeError("environment: %s" % error) from error
    return wanted


def run(module: AnsibleModule) -> dict[str, Any]:
    """Do the module's work and return its result.

    Raises:
        NodeError: the operator has to know. Where another file overrides ours, ours is written.
    """
    unit = module.params["unit"] or distribution.find(module).unit
    unit = unit[: -len(".service")] if unit.endswith(".service") else unit
    wanted = wanted_variables(module.params["environment"])
    target = EnvironmentFile(module, unit) if unit in k3s.UNITS else DropIn(module, unit)
    before = effective = target.effective(target.text)
    after = target.render(wanted)
    changes = [
        node_change.Change(unit, name, before.get(name), value, target.path)
        for name, value in wanted.items()
        if before.get(name) != value and (value is not None or name in target.ours)
    ]
    files = [FileChange(target.path, target.text, after, 0o600, only_changes=True)] if after != target.text else []
    if not module.check_mode:
        node_change.apply(module, files, unit)
        if files or changes:
            systemd.reload(module)
            effective = target.effective(after)
        overridden = [name for name, value in wanted.items() if value is not None and effective.get(name) != value]
        if overridden:
            raise NodeError(
                "%s: %s is set by another file that comes after %s. See 'systemctl cat %s', and remove it there"
                % (unit, " and ".join(overridden), target.path, unit)
            )
    return {
        "changed": bool(files),
        "changes": [change.as_result() for change in changes],
        "diff": [change.as_diff() for change in files],
        "effective": {name: effective.get(name) if not module.check_mode else value for name, value in wanted.items()},
        "restart": [unit] if files or systemd.must_restart(module, unit) else [],
    }


def main() -> None:
    """Run the module."""
    node_module.execute(
        {
            "distribution": distribution.OPTION,
            "unit": {"type": "str"},
            "environment": {"type": "dict", "required": True},
            "dropin": {"type": "str", "default": "zz-kubekeel.conf"},
            "run_id": {"type": "str"},
        },
        run,
    )


if __name__ == "__main__":
    main()
