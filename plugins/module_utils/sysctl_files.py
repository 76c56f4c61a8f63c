"""What the files of sysctl.d say, and which of them counts at the next boot (sysctl.d(5))."""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import fnmatch
import os
from typing import Iterable, Mapping, Optional, Tuple

# In the order of precedence: of two files with the same name the one in the earlier folder is read alone.
FOLDERS = ("/etc/sysctl.d", "/run/sysctl.d", "/usr/local/lib/sysctl.d", "/usr/lib/sysctl.d", "/lib/sysctl.d")

_SWAPPED = str.maketrans("./", "/.")
# A longer pattern matches no path, and fnmatch takes minutes to find that out.
_PATH_MAX = 4096

Entry = Tuple[str, Optional[str]]
"""A sysctl's name with dots (it may be a glob) and its value; None where a line keeps the name from globs and sets nothing."""


def dotted(name: str) -> str:
    """Return a sysctl's name with dots; where a slash comes first, slashes and dots have changed places."""
    first = next((character for character in name if character in "./"), ".")
    return name.translate(_SWAPPED) if first == "/" else name


def proc_path(name: str) -> str:
    """Return the file below /proc/sys of a dotted name."""
    return "/proc/sys/" + name.translate(_SWAPPED)


def is_name(name: str) -> bool:
    """Tell whether a dotted name is one of a sysctl, and leads to no file beside /proc/sys."""
    return name.isprintable() and not {"", ".", ".."}.intersection(name.translate(_SWAPPED).split("/"))


def normalize(value: str) -> str:
    """Return a value with single spaces: the kernel prints tabs between several numbers."""
    return " ".join(value.split())


def parse(text: str) -> list[Entry]:
    """Return the settings of one file, in order."""
    entries = []
    for line in text.splitlines():
        line = line.strip()
        if not line or line[0] in "#;":
            continue
        name, equals, value = line.partition("=")
        # '-name = value' does not complain where the kernel refuses it; '-name' alone keeps the name from globs.
        if equals or name.startswith("-"):
            entries.append((dotted(name.strip().lstrip("-").strip()), normalize(value) if equals else None))
    return entries


def reading_order(paths: Iterable[str]) -> list[str]:
    """Return the files that are read at boot, in that order: by name, a masked one left out."""
    chosen: dict[str, str] = {}
    for folder in FOLDERS:
        for path in sorted(paths):
            if os.path.dirname(path) == folder and path.endswith(".conf"):
                chosen.setdefault(os.path.basename(path), path)
    return [chosen[name] for name in sorted(chosen)]


def at_boot(name: str, files: Mapping[str, list[Entry]]) -> tuple[str, str] | None:
    """Return value and path of the setting that counts for C(name) at the next boot, None where there is none.

    Args:
        name: dotted.
        files: the entries of every file by path.
    """
    value, path = deciding(name, files) or (None, "")
    return None if value is None else (value, path)


def deciding(name: str, files: Mapping[str, list[Entry]]) -> tuple[str | None, str] | None:
    """Return value and path of the line that decides over C(name), None where there is none.

    A line that names the sysctl itself counts before one that matches it by a glob, in whatever order they are read; the value is
    None where such a line sets nothing, and takes back what those before it set (systemd src/sysctl/sysctl.c, parse_file).

    Args:
        name: dotted.
        files: the entries of every file by path.
    """
    exact: tuple[str | None, str] | None = None
    matched: tuple[str | None, str] | None = None
    for path in reading_order(files):
        for pattern, value in files[path]:
            if pattern == name:
                exact = (value, path)
            elif value is not None and _matches(pattern, name):
                matched = (value, path)
    return exact or matched


def _matches(pattern: str, name: str) -> bool:
    """Tell whether a glob matches a dotted name: below /proc/sys, so that a '*' stands for a part of a path."""
    if len(pattern) >= _PATH_MAX:
        return False
    globs, parts = (text.translate(_SWAPPED).split("/") for text in (pattern, name))
    return len(globs) == len(parts) and all(map(fnmatch.fnmatchcase, parts, globs))


def render(settings: Mapping[str, str]) -> str:
    """Return the text of a file that holds these settings."""
    lines = ["# Written by kubekeel. Change it through the inventory: the next run writes it again."]
    lines.extend("%s = %s" % (name, settings[name]) for name in sorted(settings))
    return "\n".join(lines) + "\n"
