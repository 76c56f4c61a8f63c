"""The files of EnvironmentFile= (systemd.exec): what they say, and other values in them; read as systemd's src/basic/env-file.c does."""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Iterable, Mapping

# A byte 0 ends the file.
_BETWEEN = re.compile(r"(?:[ \t\n\r]|[#;][^\n\r\0]*)*")
_KEY = re.compile(r"[^\0][^=\n\r\0]*")
_SINGLE = re.compile(r"[ \t]*'([^'\0]*)'?")
_DOUBLE = re.compile(r"[ \t]*\"((?:[^\"\\\0]|\\[^\0])*)\"?")
_PLAIN = re.compile(r"[ \t]*((?:[^ \t\n\r\\\0]|\\[^\0]|[ \t]+(?=[^ \t\n\r\0]))*)[ \t]*")
_LINE_END = re.compile(r"\r?\n?")
# Of other assignments systemd says in its log that it passes them over.
_TAKEN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=[^\0-\x08\x0b-\x1f\x7f]*")


@dataclass(frozen=True)
class Assignment:
    """A variable, and the part of the text that sets it."""

    name: str
    value: str
    start: int
    end: int


def assignments(text: str) -> list[Assignment]:
    """Return the assignments of a file, in order."""
    found: list[Assignment] = []
    at = 0
    while True:
        between = _BETWEEN.match(text, at)
        key = between and _KEY.match(text, between.end())
        if not key:
            return found
        at = key.end()
        if text.startswith("=", at):
            value, at = _value(text, at + 1)
            found.append(Assignment(key.group().rstrip(" \t"), value, key.start(), at))


def _value(text: str, at: int) -> tuple[str, int]:
    """Return the value that begins at C(at), and where it ends: quoted parts, then one without quotes."""
    value = ""
    while True:
        single = _SINGLE.match(text, at)
        double = None if single else _DOUBLE.match(text, at)
        if single:
            value, at = value + single.group(1), single.end()
        elif double:
            value, at = value + re.sub(r"\\(?:([\"\\`$])|\n)", lambda one: one.group(1) or "", double.group(1)), double.end()
        else:
            plain = _PLAIN.match(text, at)
            rest = plain.group(1) if plain else ""
            return value + re.sub(r"\\(?:[\n\r]|(.))", lambda one: one.group(1) or "", rest), plain.end() if plain else at


def variables(text: str) -> dict[str, str]:
    """Return the variables that a unit gets of a file; none where systemd refuses the file, as not UTF-8."""
    found = assignments(text)
    return {} if _is_refused(found) else _taken(found)


def _is_refused(found: Iterable[Assignment]) -> bool:
    return any("\udc80" <= character <= "\udcff" for one in found for character in one.name + one.value)


def _taken(found: Iterable[Assignment]) -> dict[str, str]:
    values = {one.name: one.value for one in found}
    return {name: value for name, value in values.items() if _TAKEN.fullmatch("%s=%s" % (name, value))}


def set_variables(text: str, wanted: Mapping[str, str | None]) -> str:
    """Return the text with each variable once, or not at all for None; the rest stays as it is.

    Raises:
        ValueError: a value goes over several lines, or the file is none that a line can be added to.
    """
    found = assignments(text)
    before = _taken(found)
    if _is_refused(found):
        raise ValueError("it holds bytes that are not UTF-8, so systemd reads nothing of it")
    for one in found:
        if "\n" in one.value:
            raise ValueError("line %d: a quote is not closed, or a value goes over several lines" % (text.count("\n", 0, one.start) + 1))
    last = {one.name: one for one in found}
    parts, at = [], 0
    for one in found:
        value = wanted.get(one.name)
        is_last = one is last[one.name]
        if one.name not in wanted or (is_last and value == before.get(one.name)):
            continue
        # The whole line goes, or where it stood the new one comes, so that a reader finds it there.
        parts.append(text[at : one.start].rstrip(" \t"))
        parts.append("" if value is None or not is_last else _line(one.name, value))
        end = _LINE_END.match(text, one.end)
        at = end.end() if end else one.end
    made = "".join(parts) + text[at:]
    for name, value in wanted.items():
        if value is not None and name not in last:
            made += ("" if not made or made.endswith("\n") else "\n") + _line(name, value)
    expected = {name: value for name, value in {**before, **wanted}.items() if value is not None}
    if variables(made) != expected:
        raise ValueError("it is no text that a line can be added to: its last line goes on, or a quote is open")
    return made


def _line(name: str, value: str) -> str:
    if not re.fullmatch(r"[\w./:@%+,=-]*", value):
        value = '"%s"' % value.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$").replace("`", "\\`")
    return "%s=%s\n" % (name, value)
