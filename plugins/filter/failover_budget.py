"""The filter kubekeel.ha.failover_budget."""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.kubekeel.ha.plugins.module_utils import go_duration
from ansible_collections.kubekeel.ha.plugins.plugin_utils import budget


def failover_budget(results: Any, distribution: str, release: str = "", election_timeout: str = "") -> dict[str, Any]:
    """Return how long the death of a node lasts, before and after what the results change."""
    if not isinstance(results, list) or not all(isinstance(result, Mapping) for result in results):
        raise AnsibleFilterError("failover_budget takes a list of results of modules, not %r" % (results,))
    try:
        election = go_duration.seconds(election_timeout) if election_timeout else None
    except ValueError as error:
        raise AnsibleFilterError("failover_budget: election_timeout: %s" % error) from error
    return budget.before_and_after(results, distribution, release, election)


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return them by name."""
        return {"failover_budget": failover_budget}
