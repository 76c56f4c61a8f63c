"""How every module begins and ends."""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

from typing import Any, Callable, Mapping

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubekeel.ha.plugins.module_utils.node_files import NodeError


def execute(argument_spec: Mapping[str, Any], run: Callable[[AnsibleModule], Mapping[str, Any]]) -> None:
    """Run a module: C(run) returns its result, or raises what the operator has to be told.

    Args:
        argument_spec: of the module.
        run: does its work; supports check mode.
    """
    module = AnsibleModule(argument_spec=dict(argument_spec), supports_check_mode=True)
    try:
        result = run(module)
    except NodeError as error:
        module.fail_json(msg=str(error), **error.result)
    module.exit_json(**result)
