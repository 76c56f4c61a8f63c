"""Kubernetes releases, compared as numbers."""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import re
from typing import Tuple

Release = Tuple[int, int, int]

_RELEASE = re.compile(r"\bv?(\d+)\.(\d+)(?:\.(\d+))?")


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
