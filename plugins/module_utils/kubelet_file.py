"""The kubelet's configuration file: the text of kubekeel's own, and what somebody else's says. Reads no file."""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import json
import re
from typing import Dict, Mapping, Union

NAME = "kubekeel-kubelet.yaml"
HEAD = "# Written by kubekeel. Change it through the inventory: the next run writes it again.\n"
FIELD = re.compile(r"[a-z][A-Za-z0-9]*")
"""A field's name in KubeletConfiguration."""

Value = Union[bool, int, float, str]
Fields = Dict[str, Value]

_KIND = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n"
_LINE = re.compile(r"^(?P<name>[a-z][A-Za-z0-9]*):(?P<value>[^\n]*)$", re.MULTILINE)
_QUOTED = re.compile(r"[ \t]*(?:\"([^\"]*)\"|'([^']*)')")
_COMMENT = re.compile(r"[ \t]#.*")

# What counts without a file and without the flag (kubernetes cmd/kubelet/app/options, applyLegacyDefaults). A file, also
# an empty one, begins with other values.
_AUTHENTICATION = {
    "anonymous-auth": "  anonymous:\n    enabled: true\n",
    "authentication-token-webhook": "  webhook:\n    enabled: false\n",
}
_AUTHORIZATION = {"authorization-mode": "  mode: AlwaysAllow\n"}
_PORT = {"read-only-port": "readOnlyPort: 10255\n"}
OWN_FIELDS = ("apiVersion", "kind", "authentication", "authorization", "readOnlyPort")
"""Fields that kubekeel's file states by itself."""


def legacy(flags: Mapping[str, str]) -> str:
    """Return what a file has to state so that it changes nothing else, for a kubelet with these flags.

    The flags win over the file, so those that are given need no line.
    """
    parts = [
        (head, "".join(text for flag, text in known.items() if flag not in flags))
        for head, known in (("authentication:\n", _AUTHENTICATION), ("authorization:\n", _AUTHORIZATION), ("", _PORT))
    ]
    return "".join(head + text for head, text in parts if text)


def render(fields: Mapping[str, Value], stated: str = "") -> str | None:
    """Return the text of kubekeel's file, None where there is nothing to say.

    Args:
        fields: what is set.
        stated: what the file states beside, see C(legacy).
    """
    if not fields:
        return None
    return HEAD + _KIND + "".join("%s: %s\n" % (name, json.dumps(fields[name], ensure_ascii=False)) for name in sorted(fields)) + stated


def parse(text: str) -> Fields:
    """Return the fields that C(render) wrote."""
    found: Fields = {}
    for line in _LINE.finditer(text):
        name, text = line.group("name"), line.group("value").strip()
        if name not in OWN_FIELDS:
            try:
                value, end = json.JSONDecoder().raw_decode(text)
            except (RecursionError, ValueError):
                continue
            if isinstance(value, (bool, int, float, str)) and not _COMMENT.sub("", text[end:]).strip():
                found[name] = value
    return found


def stated(text: str) -> dict[str, tuple[str, int]]:
    """Return the top-level fields with a plain value of anybody's file (YAML or JSON), each as text with its line.

    A line that stands at the margin is all it takes: a kubelet refuses a key that comes twice, and a text over several
    lines is indented.
    """
    try:
        whole = json.loads(text)
    except (RecursionError, ValueError):
        whole = None
    if isinstance(whole, dict):
        return {name: (as_text(value), 1) for name, value in whole.items() if isinstance(value, (bool, int, float, str))}
    found = {}
    for line in _LINE.finditer(text.replace("\r\n", "\n")):
        quoted = _QUOTED.match(line.group("value"))
        value = quoted.group(1) or quoted.group(2) if quoted else _COMMENT.sub("", line.group("value")).strip(" \t\"'")
        if value:
            found[line.group("name")] = (value, text.count("\n", 0, line.start()) + 1)
    return found


def as_text(value: Value) -> str:
    """Return a value as it stands in a file, without quotes."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
