"""The filter kubekeel.ha.write_latency_refusal."""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.kubekeel.ha.plugins.plugin_utils import filters


def write_latency_refusal(p99: Any, renew_deadline: str, retry_period: str) -> str:
    """Return why writes of this length forbid a leader election, and what to choose; an empty text where they do not."""
    from ansible_collections.kubekeel.ha.plugins.module_utils import write_latency
    from ansible_collections.kubekeel.ha.plugins.plugin_utils import profiles

    known = {name: profiles.load(name)["values"] for name in profiles.BY_SPEED}
    try:
        length = float(p99) / 1000
        if not 0 <= length < math.inf:
            raise ValueError("%r is no length of a write" % (p99,))
        return write_latency.advice(length, str(renew_deadline), str(retry_period), known)
    except (ArithmeticError, TypeError, ValueError) as error:
        raise AnsibleFilterError("write_latency_refusal: %s" % error) from error


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return them by name."""
        return filters.refusing({"write_latency_refusal": write_latency_refusal})
