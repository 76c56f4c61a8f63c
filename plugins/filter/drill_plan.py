"""The filter kubekeel.ha.drill_plan."""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.kubekeel.ha.plugins.plugin_utils import filters


def plan(cluster: Mapping[str, Any], scenario: str, method: str) -> dict[str, Any]:
    """Return which nodes a drill takes away, and from where it is watched."""
    from ansible_collections.kubekeel.ha.plugins.plugin_utils import drill_plan

    try:
        return drill_plan.plan(cluster, scenario, method)
    except ValueError as error:
        raise AnsibleFilterError("drill_scenario=%s: %s" % (scenario, error)) from error


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return them by name."""
        return filters.refusing({"drill_plan": plan})
