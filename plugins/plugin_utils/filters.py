"""What every filter has in common.

Each worker of ansible-core that meets one filter of a collection loads all of the collection's filter files. They are light for
that reason, and import what they work with when they are called.
"""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError


def later(module: str, function: str) -> Callable[..., Any]:
    """Return a function of a module of plugin_utils, which is imported when it is called."""

    def call(*args: Any, **kwargs: Any) -> Any:
        found = importlib.import_module("ansible_collections.kubekeel.ha.plugins.plugin_utils." + module)
        return getattr(found, function)(*args, **kwargs)

    return call


def refusing(filters: Mapping[str, Callable[..., Any]]) -> dict[str, Callable[..., Any]]:
    """Return the filters by name; for arguments of a wrong type or value they raise AnsibleFilterError, and nothing else."""
    return {name: _refusing(name, work) for name, work in filters.items()}


def _refusing(name: str, work: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(work)
    def checked(*args: Any, **kwargs: Any) -> Any:
        try:
            return work(*args, **kwargs)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise AnsibleFilterError("%s cannot work on that: %s: %s" % (name, type(error).__name__, error)) from error

    return checked
