"""The answer of every distribution to the question which files a set of flags changes."""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, Optional

from ansible_collections.kubekeel.ha.plugins.module_utils.node_change import Change, FileChange

Flags = Dict[str, Optional[str]]
"""Values by flag; None for a flag that is to go."""


@dataclass
class ArgsPlan:
    """What has to change, and what speaks against it."""

    files: list[FileChange] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    effective: dict[str, dict[str, str]] = field(default_factory=dict)
    """The flags of each component afterwards."""
    problems: list[dict[str, Any]] = field(default_factory=list)
    """Lines with which a component will not start: path, line, text, why."""
    reasons: list[str] = field(default_factory=list)
    """Why a flag cannot have its wanted value."""
    findings: list[str] = field(default_factory=list)
    """What should be mended by hand, and keeps nothing from being done."""
    absent: list[str] = field(default_factory=list)
    """Components that this node does not run."""
    warnings: list[str] = field(default_factory=list)
