"""The argument files that MicroK8s' kubelite reads: parse, look up, change.

The grammar is kubelite's own (canonical/microk8s, ReadArgsFromFile in the kubelite patch): a line is trimmed; an empty
one and one that begins with C(#) is skipped; every quote character is deleted; what is left is split at each single
space and every part is one argument. There are no inline comments, and quotes do not protect a space. The arguments
then go to the component's pflag parser, where the last occurrence of a flag counts.

Nothing here reads or writes a file.
"""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Mapping

from ansible_collections.kubekeel.ha.plugins.module_utils import settings
from ansible_collections.kubekeel.ha.plugins.module_utils.go_duration import same_value

# What Go's strings.TrimSpace trims. Python's str.strip() also takes \x1c-\x1f, which kubelite keeps.
GO_SPACE = "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"

# Variables that snapd sets for a service, so that an argument may name them on purpose.
SNAP_VARIABLES = ("SNAP", "SNAP_COMMON", "SNAP_DATA", "SNAP_INSTANCE_NAME", "SNAP_NAME", "SNAP_REVISION")

_INTENDED_VARIABLE = re.compile(r"\$(?:\{(?:%(names)s)\}|(?:%(names)s)(?![A-Za-z0-9_]))" % {"names": "|".join(SNAP_VARIABLES)})
_NEGATIVE_NUMBER = re.compile(r"-[0-9]")


@dataclass(frozen=True)
class Argument:
    """One argument as kubelite passes it on, before variables are expanded."""

    line: int
    """Index of its line in the file."""
    start: int
    """Where its raw text (quotes included) begins in the line, in characters."""
    end: int
    text: str
    """The argument without the quote characters."""


@dataclass(frozen=True)
class Flag:
    """One occurrence of a flag."""

    name: str
    """Without dashes, with C(-) for C(_) as the components' own normalization has it."""
    value: str | None
    """None where the flag stands alone (a boolean that is true)."""
    arguments: tuple[Argument, ...]
    """The one or two arguments it consists of."""


@dataclass(frozen=True)
class Problem:
    """Something in a file with which its component will not start."""

    line: int
    """Counted from 1, as an editor shows it."""
    text: str
    why: str


@dataclass(frozen=True)
class ArgsFile:
    """A parsed file."""

    lines: tuple[str, ...]
    """The file's text, split at line feeds."""
    flags: tuple[Flag, ...]
    """Every occurrence, in order."""
    stray: tuple[Argument, ...]
    """Arguments that are neither a flag nor a flag's value."""

    def occurrences(self, name: str) -> list[str]:
        """Return every occurrence as it is written, in order."""
        return [" ".join(argument.text for argument in flag.arguments) for flag in self.flags if flag.name == name]

    def last(self, name: str) -> Flag | None:
        """Return the occurrence that counts, or None."""
        return next((flag for flag in reversed(self.flags) if flag.name == name), None)

    def effective(self) -> dict[str, str]:
        """Return each flag's value as its component sees it (variables not expanded; C(true) for a lone flag)."""
        return {flag.name: "true" if flag.value is None else flag.value for flag in self.flags}


def _arguments(number: int, line: str) -> list[Argument]:
    """Split one line as kubelite does, and remember where each argument stands."""
    end = len(line.rstrip(GO_SPACE))
    start = len(line) - len(line.lstrip(GO_SPACE))
    if start >= end or line[start] == "#":
        return []
    found = []
    for raw in line[start:end].split(" "):
        text = raw.replace('"', "").replace("'", "")
        found.append(Argument(number, start, start + len(raw), text))
        start += len(raw) + 1
    return found


def _takes(argument: Argument) -> bool:
    """Tell whether this argument is the value of a flag that stands before it without C(=).

    pflag knows each flag's type, a file does not show it. What does not look like a flag is a value: nothing else
    could stand there in a file that works. A negative number is one as well (C(--oom-score-adj -999)). An empty
    argument is none: it comes of two spaces, and every component but the kubelet overlooks it.
    """
    return bool(argument.text) and (not argument.text.startswith("-") or bool(_NEGATIVE_NUMBER.match(argument.text)))


def parse(text: str) -> ArgsFile:
    """Parse the text of an argument file. Every text is accepted; see C(problems) for what will not work."""
    lines = text.split("\n")
    arguments = [argument for number, line in enumerate(lines) for argument in _arguments(number, line)]
    flags: list[Flag] = []
    stray: list[Argument] = []
    position = 0
    while position < len(arguments):
        argument = arguments[position]
        position += 1
        if argument.text == "--":
            # pflag: nothing after it is a flag.
            stray.extend(arguments[position - 1 :])
            break
        if argument.text.startswith("--"):
            name, equals, value = argument.text[2:].partition("=")
        elif argument.text.startswith("-v"):
            # klog's verbosity, the only shorthand that takes a value.
            name, equals, value = "v", argument.text[2:], argument.text[2:].lstrip("=")
        else:
            stray.append(argument)
            continue
        name = name.replace("_", "-")
        if equals:
            flags.append(Flag(name, value, (argument,)))
        elif position < len(arguments) and _takes(arguments[position]):
            flags.append(Flag(name, arguments[position].text, (argument, arguments[position])))
            position += 1
        else:
            flags.append(Flag(name, None, (argument,)))
    return ArgsFile(tuple(lines), tuple(flags), tuple(stray))


def problems(parsed: ArgsFile, component: str) -> list[Problem]:
    """Return what keeps C(component) from starting with this file, in the order of the lines."""
    found = []
    for argument in parsed.stray:
        if argument.text:
            why = "there are no inline comments" if "#" in argument.text else "'%s' belongs to no flag" % argument.text
            found.append((argument, why + "; kubelite hands it to %s, which refuses it" % component))
        elif component == "kubelet":
            found.append((argument, "two spaces in a row make an empty argument, which the kubelet refuses"))
    for flag in parsed.flags:
        if not settings.FLAG_NAME.fullmatch(flag.name) and "$" not in flag.name:
            found.append((flag.arguments[0], "%r is not the name of a flag" % flag.arguments[0].text))
        if len(flag.arguments) == 1:
            continue
        if flag.value in ("true", "false"):
            found.append((flag.arguments[1], "a boolean flag takes its value with '=' only: --%s=%s" % (flag.name, flag.value)))
        elif flag.value and flag.value.startswith("#"):
            found.append((flag.arguments[1], "--%s takes '%s' for its value" % (flag.name, flag.value)))
    unique = {argument.line: Problem(argument.line + 1, parsed.lines[argument.line].strip(), why) for argument, why in reversed(found)}
    return [unique[line] for line in sorted(unique)]


def check_value(name: str, value: str) -> None:
    """Raise ValueError where kubelite's grammar cannot carry C(value)."""
    for character, why in (
        (" ", "a space would split it in two"),
        ("\n", "a line feed would split it in two"),
        ('"', "kubelite deletes quotes"),
        ("'", "kubelite deletes quotes"),
        ("#", "it may be taken for a comment"),
    ):
        if character in value:
            raise ValueError("--%s: the value %r cannot be written to an argument file: %s" % (name, value, why))
    if any(character in GO_SPACE or not character.isprintable() for character in value):
        raise ValueError("--%s: the value %r holds a character that cannot be printed, or white space" % (name, value))
    if "$" in _INTENDED_VARIABLE.sub("", value):
        raise ValueError(
            "--%s: kubelite would expand the '$' in %r; only %s may be named"
            % (name, value, ", ".join("${%s}" % known for known in SNAP_VARIABLES))
        )


def _carries(flag: Flag, value: str) -> bool:
    """Tell whether this occurrence already gives its component C(value), in a form that works."""
    if flag.value is None:
        return value == "true"
    if len(flag.arguments) == 2 and flag.value in ("true", "false"):
        return False
    return same_value(flag.value, value)


def merge(text: str, wanted: Mapping[str, str | None]) -> str:
    """Return C(text) with exactly one occurrence of each wanted flag, and none of those wanted as None.

    What is not named in C(wanted) stays byte for byte. The occurrence that counts (the last) keeps its place; a flag
    that was not there gets a line of its own at the end.

    Raises:
        ValueError: a name or a value cannot be written in this grammar.
    """
    parsed = parse(text)
    replacements: dict[Argument, str | None] = {}
    added: list[str] = []
    for name, value in wanted.items():
        settings.check_name(name)
        keep = None
        if value is not None:
            check_value(name, value)
            keep = parsed.last(name)
            if keep is None:
                added.append("--%s=%s" % (name, value))
        for flag in parsed.flags:
            if flag.name == name and flag is not keep:
                replacements.update(dict.fromkeys(flag.arguments))
        if keep is not None and value is not None and not _carries(keep, value):
            replacements.update(dict.fromkeys(keep.arguments))
            replacements[keep.arguments[0]] = "--%s=%s" % (name, value)
    lines = _render(parsed, replacements)
    if any(argument.text == "--" for argument in parsed.stray):
        # After a '--' nothing is read as a flag.
        return _append([], added) + "\n".join(lines)
    return _append(lines, added)


def _render(parsed: ArgsFile, replacements: Mapping[Argument, str | None]) -> list[str]:
    """Return the lines with the arguments replaced; None deletes an argument, and its line where nothing is left."""
    by_line: dict[int, list[Argument]] = {}
    for argument in replacements:
        by_line.setdefault(argument.line, []).append(argument)
    result = []
    for number, line in enumerate(parsed.lines):
        for argument in sorted(by_line.get(number, ()), key=lambda one: one.start, reverse=True):
            text = replacements[argument]
            before, after = line[: argument.start], line[argument.end :]
            if text is None:
                text = ""
                if after.startswith(" "):
                    after = after[1:]
                elif before.endswith(" "):
                    before = before[:-1]
            line = before + text + after
        if number not in by_line or line.strip(GO_SPACE):
            result.append(line)
    return result


def _append(lines: list[str], added: list[str]) -> str:
    """Join the lines and put new ones at the end, each with the file's own line ending."""
    text = "\n".join(lines)
    if not added:
        return text
    ending = "\r\n" if "\r\n" in text else "\n"
    if text and not text.endswith("\n"):
        text += ending
    return text + "".join(line + ending for line in added)
