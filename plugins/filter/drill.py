"""The filters kubekeel.ha.drill_result, kubekeel.ha.drill_svg and kubekeel.ha.drill_compared."""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.kubekeel.ha.plugins.plugin_utils import filters


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return them by name."""
        return filters.refusing(
            {
                "drill_compared": filters.later("drill_result", "compared"),
                "drill_result": filters.later("drill_result", "result"),
                "drill_svg": filters.later("drill_picture", "svg"),
            }
        )
