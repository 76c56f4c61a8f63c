"""The action kubekeel.ha.result."""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import json
import os
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    """Write what a run found to a file of the controller, without a process of its own as ansible.builtin.copy would start."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _VALID_ARGS = frozenset(("content", "path"))

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Write it, in check mode, too: it is no change of a node."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        spec = {"content": {"type": "dict", "required": True}, "path": {"type": "path", "required": True}}
        _dummy, arguments = self.validate_argument_spec(spec)
        path = arguments["path"]
        try:
            # Whoever waits for the file must not find half of it.
            descriptor = os.open(path + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(arguments["content"], file)
            os.rename(path + ".new", path)
        except OSError as error:
            raise AnsibleActionFail(f"{path} cannot be written: {error.strerror}") from error
        return dict(result, changed=False, failed=False)
