"""Durations as Go writes them (C(15s), C(1m30s), C(500ms)), the form of every Kubernetes flag that takes a time."""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import re
from decimal import Decimal

# Go's time.ParseDuration: a sequence of decimal numbers, each with a unit.
_UNITS = {
    "ns": Decimal("1e-9"),
    "us": Decimal("1e-6"),
    "µs": Decimal("1e-6"),
    "μs": Decimal("1e-6"),
    "ms": Decimal("1e-3"),
    "s": Decimal(1),
    "m": Decimal(60),
    "h": Decimal(3600),
}
# Go counts nanoseconds in 63 bits.
_LONGEST = Decimal(2**63 - 1) * _UNITS["ns"]
_NUMBER = r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)"
_PART = re.compile(rf"({_NUMBER})(ns|us|µs|μs|ms|s|m|h)")
_WHOLE = re.compile(rf"(?:{_NUMBER}(?:ns|us|µs|μs|ms|s|m|h))+")


def seconds(text: str) -> float:
    """Return the length of a non-negative Go duration in seconds.

    Raises:
        ValueError: C(text) is not such a duration; a bare number other than 0 is none (Go refuses it, too).
    """
    if text == "0":
        return 0.0
    if not _WHOLE.fullmatch(text):
        raise ValueError("'%s' is not a duration such as 15s, 1m30s or 500ms" % text)
    length = sum(Decimal(number) * _UNITS[unit] for number, unit in _PART.findall(text))
    if length > _LONGEST:
        raise ValueError("'%s' is longer than a duration can be (292 years)" % text)
    return float(length)


def same_value(one: str, other: str) -> bool:
    """Tell whether two flag values mean the same: equal text, or equal durations (C(60s) and C(1m0s))."""
    if one == other:
        return True
    try:
        return seconds(one) == seconds(other)
    except ValueError:
        return False
