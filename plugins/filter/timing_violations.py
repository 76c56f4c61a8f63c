"""The filter kubekeel.ha.timing_violations."""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.kubekeel.ha.plugins.plugin_utils import filters


def timing_violations(durations: Any) -> list[str]:
    """Return a sentence for each rule of timing that the durations break."""
    from ansible_collections.kubekeel.ha.plugins.module_utils import timing

    if not isinstance(durations, Mapping):
        raise AnsibleFilterError("timing_violations takes a dictionary of durations, not %r" % (durations,))
    return timing.violations(durations)


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return them by name."""
        return filters.refusing({"timing_violations": timing_violations})
