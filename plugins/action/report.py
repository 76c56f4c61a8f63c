"""The action kubekeel.ha.report."""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    """Print a text as it is."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _VALID_ARGS = frozenset(("text",))

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Print it, and change nothing."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        _dummy, arguments = self.validate_argument_spec({"text": {"type": "str", "required": True}})
        self._display.display("\n" + arguments["text"].rstrip("\n"))
        return dict(result, changed=False, failed=False, msg=arguments["text"])
