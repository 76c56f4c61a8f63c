"""The filter kubekeel.ha.write_latency_refusal."""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.kubekeel.ha.plugins.module_utils import write_latency
from ansible_collections.kubekeel.ha.plugins.plugin_utils import profiles


def write_latency_refusal(p99: Any, renew_deadline: str, retry_period: str) -> str:
    """Return why writes of this length forbid a leader election, and what to choose; an empty text where they do not."""
    known = {name: profiles.load(name)["values"] for name in profiles.BY_SPEED}
    try:
        return write_latency.advice(float(p99) / 1000, str(renew_deadline), str(retry_period), known)
    except (TypeError, ValueError) as error:
        raise AnsibleFilterError("write_latency_refusal: %s" % error) from error


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return them by name."""
        return {"write_latency_refusal": write_latency_refusal}
