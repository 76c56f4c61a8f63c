"""The text of systemd units: assignments with their lines, and the words of a command (systemd.syntax, systemd.service)."""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import re
import shlex
import socket
from dataclasses import dataclass
from typing import Iterable, List, Mapping, Tuple

_VARIABLE = re.compile(r"\$\{(\w+)\}|\$(\w+)|\$\$")


@dataclass(frozen=True)
class Word:
    """A word of a command line, and where it stands."""

    text: str
    path: str
    line: int


Lines = List[Tuple[int, str]]
"""The physical lines of one logical line, with their numbers from 1."""


def logical_lines(text: str) -> list[Lines]:
    """Return the lines that say something; a backslash at the end goes on with the next line, comments between left out."""
    found: list[Lines] = []
    goes_on = False
    for number, line in enumerate(text.split("\n"), 1):
        if (not goes_on and not line.strip()) or line.lstrip()[:1] in ("#", ";"):
            continue
        ends = not line.endswith("\\")
        part = (number, line if ends else line[:-1])
        if goes_on:
            found[-1].append(part)
        else:
            found.append([part])
        goes_on = not ends
    return found


def command(files: Iterable[tuple[str, str]], name: str = "ExecStart") -> list[Word]:
    """Return the words of a unit's command, from its file and its drop-ins in their order.

    Args:
        files: path and text of each.
        name: the assignment. An empty one takes back those before it; of several the last counts.

    Raises:
        ValueError: a quote is not closed.
    """
    words: list[Word] = []
    for path, text in files:
        section = ""
        for (number, first), *more in logical_lines(text):
            if first.strip().startswith("["):
                section = first.strip()
            key, equals, value = first.partition("=")
            if section == "[Service]" and key.strip() == name and equals:
                words = [Word(word, path, at) for at, part in [(number, value), *more] for word in shlex.split(part)]
    return words


def expand(words: Iterable[Word], environment: Mapping[str, str]) -> list[Word]:
    """Return the words with variables: C($NAME) as a word of its own becomes several words, C(${NAME}) a part of one."""
    found: list[Word] = []
    for word in words:
        # The two specifiers that a command line of K3s may well hold (systemd.unit, Specifiers).
        text = word.text.replace("%H", socket.gethostname()).replace("%%", "%")
        alone = re.fullmatch(r"\$(\w+)", text)
        if alone:
            texts = environment.get(alone.group(1), "").split()
        else:
            texts = [_VARIABLE.sub(lambda one: "$" if one[0] == "$$" else environment.get(one[1] or one[2], ""), text)]
        found.extend(Word(text, word.path, word.line) for text in texts)
    return found


def split(text: str) -> list[str]:
    """Return the words of a list that systemd prints, such as C(A=1 "B=2 3"); all of it as one word where a quote is open."""
    try:
        return shlex.split(text)
    except ValueError:
        return [text]
