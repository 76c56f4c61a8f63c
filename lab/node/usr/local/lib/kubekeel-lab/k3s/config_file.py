"""How K3s turns its configuration files into command-line arguments.

This is the lab's independent model of ``pkg/configfilearg`` on top of Go's ``yaml.v2``: the file itself comes first, then
``<file>.d/*.yaml`` and ``*.yml`` in the order of their names. A key replaces what an earlier one of that name said,
``key+`` appends to it; a key that stands twice in one file is read twice.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import yaml

SUFFIXES = (".yaml", ".yml")
# What a plain (unquoted) scalar means to yaml.v2.
NULLS = frozenset({"", "~", "null", "Null", "NULL"})
BOOLEANS = {
    **dict.fromkeys(("y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"), "true"),
    **dict.fromkeys(("n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"), "false"),
}
INTEGER = re.compile(r"[-+]?(0[bB][01]+|0[xX][0-9a-fA-F]+|0[oO]?[0-7]+|0|[1-9][0-9]*)")
FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
INFINITIES = {**dict.fromkeys((".inf", ".Inf", ".INF"), "+Inf"), **dict.fromkeys((".nan", ".NaN", ".NAN"), "NaN")}
INFINITIES |= {f"+{name}": "+Inf" for name in (".inf", ".Inf", ".INF")} | {f"-{name}": "-Inf" for name in (".inf", ".Inf", ".INF")}
LARGEST_INTEGER = 2**64 - 1
SMALLEST_INTEGER = -(2**63)

Value = str | list[str]


class ConfigError(ValueError):
    """A file that K3s would not start with."""


def arguments(path: Path) -> list[str]:
    """Return the arguments that a configuration file and its drop-ins stand for; none of them need be there.

    Raises:
        ConfigError: a file is no mapping or cannot be read
    """
    values: dict[str, Value] = {}
    for file in files(path):
        for name, value in pairs(file):
            key = name.removesuffix("+")
            if key in values and name != key:
                values[key] = [*as_list(values[key]), *as_list(value)]
            else:
                values[key] = value
    return [f"{'-' if len(key) == 1 else '--'}{key}={item}" for key, value in values.items() for item in items(value)]


def files(path: Path) -> list[Path]:
    """Return the files to read, in their order; a folder among the drop-ins is none, whatever its name."""
    found = [path] if path.exists() else []
    folder = Path(f"{path}.d")
    if folder.is_dir():
        # Go sorts names by their bytes, and what a link points to does not count.
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if not entry.is_dir(follow_symlinks=False)]
        found += [folder / name for name in sorted(names, key=os.fsencode) if name.lower().endswith(SUFFIXES)]
    return found


def pairs(path: Path) -> Iterator[tuple[str, Value]]:
    """Yield the keys and values of one file as they stand there, doubles included.

    Raises:
        ConfigError: the file cannot be read, or does not hold a mapping
    """
    try:
        loader = yaml.SafeLoader(path.read_bytes())
        # Only the first document counts.
        root = loader.get_node() if loader.check_node() else None
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: {' '.join(str(error).split())}") from error
    if root is None or (isinstance(root, yaml.ScalarNode) and scalar(root) == ""):
        return
    if not isinstance(root, yaml.MappingNode):
        raise ConfigError(f"{path}: yaml: unmarshal errors: cannot unmarshal into yaml.MapSlice")
    for key, value in root.value:
        if isinstance(value, yaml.SequenceNode):
            yield text(key), [text(item) for item in value.value]
        else:
            yield text(key), text(value)


def text(node: yaml.Node) -> str:
    """Return a value as Go prints it, without the blanks around it."""
    if isinstance(node, yaml.ScalarNode):
        return scalar(node).strip()
    if isinstance(node, yaml.SequenceNode):
        # Of a list in a place for one value the first item counts.
        return text(node.value[0]) if node.value else ""
    return "[" + " ".join(f"{{{text(key)} {text(value)}}}" for key, value in node.value) + "]"


def scalar(node: yaml.ScalarNode) -> str:
    """Return a scalar as Go prints it; one in quotes is text."""
    value: str = node.value
    if node.style is not None:
        return value
    if value in NULLS:
        return ""
    if value in BOOLEANS:
        return BOOLEANS[value]
    if value in INFINITIES:
        return INFINITIES[value]
    return number(value)


def number(value: str) -> str:
    """Return a number as Go prints it (``0644`` is 420, ``1.0`` is 1), any other text as it is."""
    digits = value.replace("_", "")
    if not value[0].isascii() or value[0] not in "+-.0123456789":
        return value
    if INTEGER.fullmatch(digits):
        sign, bare = (-1, digits[1:]) if digits[0] == "-" else (1, digits.removeprefix("+"))
        octal = len(bare) > 1 and bare[0] == "0" and bare[1].isdigit()
        whole = sign * (int(bare, 8) if octal else int(bare, 0))
        if SMALLEST_INTEGER <= whole <= LARGEST_INTEGER:
            return str(whole)
    return go_float(float(digits)) if FLOAT.fullmatch(digits) else value


def go_float(value: float) -> str:
    """Return a number as Go's ``%v`` prints it: the shortest digits, with an exponent below 1e-4 and from 1e6 on."""
    digits = next(f"{value:.{count}e}" for count in range(18) if float(f"{value:.{count}e}") == value)
    mantissa, _, exponent = digits.partition("e")
    if not -4 <= int(exponent) < 6:
        return digits
    fraction = max(0, len(mantissa.partition(".")[2]) - int(exponent))
    return f"{value:.{fraction}f}"


def as_list(value: Value) -> list[str]:
    """Return a value as the list that something can be appended to; nothing is an empty one."""
    if isinstance(value, list):
        return value
    return [value] if value else []


def items(value: Value) -> list[str]:
    """Return what each argument of a key says."""
    return value if isinstance(value, list) else [value]
