"""How values are said to people: durations, counts, and texts of others that must not do anything to a terminal or a page."""

import re
from collections.abc import Sequence
from typing import Any

LONGEST_TEXT = 2000
"""Letters of one text that a report shows; the result document has all of it."""
LONGEST_DIFF = 300
"""Lines of one diff that a report shows."""

# Colours and cursor movements of terminals (ECMA-48), as commands print them.
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
# What XML 1.0 or a terminal cannot take, and what changes the direction of the text after it.
_UNPRINTABLE = re.compile("[^\t\n\u0020-\u007e\u00a0-\u2027\u202f-\u2065\u206a-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def span(seconds: float) -> str:
    """Return a duration in seconds as it is read: V(9.4 s), V(42 s), V(3 min 05 s), V(2 h 11 min)."""
    if round(seconds, 1) < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 180:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min"


def count(number: int, one: str, more: str = "") -> str:
    """Return a number with its noun, in the plural where it is not one."""
    return f"{number} {one if number == 1 else more or one + 's'}"


def clean(value: Any) -> Any:
    """Return a document, or a part of one, whose texts hold nothing that a terminal obeys or that XML cannot hold."""
    if isinstance(value, str):
        return _UNPRINTABLE.sub("\ufffd", _ESCAPES.sub("", value).replace("\r\n", "\n"))
    if isinstance(value, dict):
        return {clean(name): clean(each) for name, each in value.items()}
    if isinstance(value, list):
        return [clean(each) for each in value]
    return value


def shorten(text: str, longest: int = LONGEST_TEXT) -> str:
    """Return a text that is no longer than so many letters, and says how many were left off."""
    return text if len(text) <= longest else f"{text[:longest]} … ({len(text) - longest} more letters)"


def diff_lines(diff: str, longest: int = LONGEST_DIFF) -> list[tuple[str, str]]:
    """Return the lines of a unified diff with what each is: V(added), V(removed), V(place), V(file) or V(same)."""
    lines = diff.splitlines()
    kept = [(_kind(line, index), shorten(line)) for index, line in enumerate(lines[:longest])]
    return kept + ([("place", f"… {len(lines) - longest} more lines")] if len(lines) > longest else [])


def names(nodes: Sequence[str]) -> str:
    """Return names of nodes; the empty one is the cluster."""
    return ", ".join(node or "the cluster" for node in nodes)


def _kind(line: str, index: int) -> str:
    # Only the head of a diff names files: further below, --- is a removed line that began with --.
    if index < 2 and line.startswith(("--- ", "+++ ")):
        return "file"
    return {"+": "added", "-": "removed", "@": "place"}.get(line[:1], "same")
