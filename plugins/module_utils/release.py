"""Kubernetes releases, compared as numbers."""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import re
from typing import Tuple

Release = Tuple[int, int, int]

KNOWN: tuple[tuple[int, int], tuple[int, int]] = ((1, 20), (1, 36))
"""The first and the last line of releases of which kubekeel knows defaults and bugs.

Before 1.20 no HTTP/2 health check ended a dead connection to the API (kubernetes#95981), so that the grace periods of kubekeel
were too short. 1.36 is the last line that known_bugs and failover were looked up for: a later one may have other defaults, and
bugs that nobody would be told of.
"""

_RELEASE = re.compile(r"\bv?([0-9]{1,9})\.([0-9]{1,9})(?:\.([0-9]{1,9}))?(?![0-9])")


def parse_release(text: str) -> Release | None:
    """Return the first release named in C(text) (C(v1.32.3+k3s1) gives C((1, 32, 3))), or None."""
    found = _RELEASE.search(text)
    if not found:
        return None
    major, minor, patch = found.groups()
    return int(major), int(minor), int(patch or 0)


def show_release(release: Release) -> str:
    """Return the release as Kubernetes writes it, C(1.32) where the patch is 0."""
    major, minor, patch = release
    return "%d.%d.%d" % release if patch else "%d.%d" % (major, minor)


def unknown(text: str) -> str:
    """Return why kubekeel does not know what a release does, an empty text where it does."""
    release = parse_release(text)
    if not release:
        return "in which there is no number of a release"
    first, last = KNOWN
    if first <= release[:2] <= last:
        return ""
    if release[:2] < first:
        return "older than %d.%d, the first line that kubekeel knows" % first
    return "newer than %d.%d, the last line that kubekeel knows" % last
