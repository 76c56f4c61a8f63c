"""Which lines of a unit's log tell why it died. Reads nothing."""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import re
from typing import Sequence

# A component that refuses a flag prints hundreds of lines of usage after the one that matters (cobra), or a dump of
# every goroutine (klog.Fatal).
_TELLING = re.compile(r"\bError: |\bF[0-9]{4} |\bpanic: |\bfatal error: | exited\b|Failed with result")
_FIGURES = re.compile(r"[0-9]+")
MOST = 12


def telling_lines(lines: Sequence[str]) -> list[str]:
    """Return the lines that tell of an end, the first of them first; the last lines where none does.

    Of lines that differ in figures only, as a unit writes them that dies again and again, the first is enough.
    """
    telling: dict[str, str] = {}
    for line in lines:
        if _TELLING.search(line):
            telling.setdefault(_FIGURES.sub("", line), line)
    return list(telling.values())[:MOST] or list(lines[-MOST:])
