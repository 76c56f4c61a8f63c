"""The profiles: sets of values for the roles' variables that belong together, one file each."""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import functools
import pathlib
from typing import Any

import yaml

FOLDER = pathlib.Path(__file__).parents[2] / "profiles"
BY_SPEED = ("fast", "balanced", "conservative")
"""The profiles from the one that asks most of the cluster to the one that asks least."""


def load(name: object) -> dict[str, Any]:
    """Return a profile: C(summary), C(cost), C(needs) and C(values).

    Raises:
        ValueError: there is no such profile.
    """
    if name not in BY_SPEED:
        raise ValueError("kubekeel_profile: there is no profile %r; there are %s" % (name, ", ".join(sorted(BY_SPEED))))
    return _read(str(name))


@functools.cache
def _read(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((FOLDER / (name + ".yml")).read_text(encoding="utf-8"))
    return found


def value(name: object, variable: str) -> Any:
    """Return what a profile says for a variable of a role.

    Raises:
        ValueError: there is no such profile, or it says nothing of the variable.
    """
    values = load(name)["values"]
    if variable not in values:
        raise ValueError("no profile has a value for %s" % variable)
    return values[variable]
