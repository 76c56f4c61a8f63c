"""The filter kubekeel.ha.failover_budget."""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.kubekeel.ha.plugins.plugin_utils import filters


def failover_budget(servers: Any) -> dict[str, Any]:
    """Return how long the death of a node lasts, before and after what the results change."""
    from ansible_collections.kubekeel.ha.plugins.plugin_utils import budget

    if not isinstance(servers, Mapping):
        raise AnsibleFilterError("failover_budget takes servers by name, not %r" % (servers,))
    return budget.of_servers({name: _server(name, server) for name, server in servers.items()})


def _server(name: str, server: Any) -> dict[str, Any]:
    """Return what is known of a server, as C(budget.of_servers) takes it."""
    from ansible_collections.kubekeel.ha.plugins.module_utils import go_duration

    try:
        results, distribution, timeout = server["results"], server["distribution"], server.get("election_timeout")
        if not all(isinstance(result, Mapping) for result in results):
            raise ValueError("results are no dictionaries")
        election = go_duration.seconds(timeout) if timeout else None
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise AnsibleFilterError("failover_budget: %s: %s" % (name, error)) from error
    release, leads = server.get("release", ""), server.get("leads", True)
    return {"results": results, "distribution": distribution, "release": release, "leads": leads, "election_timeout": election}


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return them by name."""
        return filters.refusing({"failover_budget": failover_budget})
