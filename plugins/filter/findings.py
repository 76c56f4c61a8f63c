"""The filters findings_alike, findings_by_nodes, findings_guards and findings_reasons of kubekeel.ha."""

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
                "findings_alike": filters.later("findings", "alike"),
                "findings_by_nodes": filters.later("findings", "by_nodes"),
                "findings_guards": filters.later("findings", "guards"),
                "findings_reasons": filters.later("findings", "reasons"),
            }
        )
