"""A systemd drop-in that holds nothing but environment variables: parse and render (systemd.exec(5), Environment=)."""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import re
from typing import Mapping

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ASSIGNMENT = re.compile(r'Environment="(?P<name>[A-Za-z_][A-Za-z0-9_]*)=(?P<value>(?:[^"\\]|\\.)*)"')


def check(name: str, value: str) -> None:
    """Raise ValueError where a variable cannot be written to a drop-in."""
    if not _NAME.fullmatch(name):
        raise ValueError("'%s' is not the name of an environment variable" % name)
    if not value.isprintable():
        raise ValueError("%s: the value holds a character that cannot be printed, such as a line feed" % name)


def parse(text: str) -> dict[str, str]:
    """Return the variables of a drop-in that C(render) wrote. Lines of another form are passed over."""
    found = {}
    for line in text.splitlines():
        assignment = _ASSIGNMENT.fullmatch(line.strip())
        if assignment:
            value = re.sub(r"\\(.)", r"\1", assignment.group("value"))
            found[assignment.group("name")] = value.replace("%%", "%")
    return found


def render(environment: Mapping[str, str]) -> str:
    """Return the text of the drop-in; empty where there is no variable."""
    if not environment:
        return ""
    lines = ["# Written by kubekeel. Change it through the inventory: the next run writes it again.", "[Service]"]
    for name in sorted(environment):
        # systemd unescapes within quotes and expands specifiers: both characters are doubled.
        value = environment[name].replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
        lines.append('Environment="%s=%s"' % (name, value))
    return "\n".join(lines) + "\n"
