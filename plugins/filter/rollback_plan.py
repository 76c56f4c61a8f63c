"""The filter kubekeel.ha.rollback_plan."""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.kubekeel.ha.plugins.plugin_utils import filters


def rollback_plan(known: Any, run_id: str = "", others: Collection[str] = (), force: bool = False) -> dict[str, Any]:
    """Return which run is taken back, on which nodes, and what speaks against it."""
    from ansible_collections.kubekeel.ha.plugins.plugin_utils import rollback_plan as planning

    if not isinstance(known, Mapping):
        raise AnsibleFilterError("rollback_plan takes a dictionary of runs by node, not %r" % (known,))
    return planning.plan(known, run_id, others, force)


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return them by name."""
        return filters.refusing({"rollback_plan": rollback_plan})
