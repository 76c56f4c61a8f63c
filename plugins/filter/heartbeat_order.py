"""The filter kubekeel.ha.heartbeat_order."""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.kubekeel.ha.plugins.plugin_utils import filters


def heartbeat_order(surveyed: Any, servers: Collection[str] = ()) -> dict[str, Any]:
    """Return which nodes must not get their new heartbeat or grace period yet."""
    from ansible_collections.kubekeel.ha.plugins.plugin_utils import heartbeats

    if not isinstance(surveyed, Mapping):
        raise AnsibleFilterError("heartbeat_order takes a dictionary of results by node, not %r" % (surveyed,))
    return heartbeats.order(surveyed, servers)


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return them by name."""
        return filters.refusing({"heartbeat_order": heartbeat_order})
