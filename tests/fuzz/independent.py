"""How programs read what kubekeel writes, by the lab's readers and by systemd's own source; nothing of kubekeel's is in here."""

import contextlib
import pathlib
import re
import runpy
import shlex

from ..unit.test_kubelite_args import ENVIRONMENT, READER, component_sees

STAND_IN = pathlib.Path(__file__).parents[2] / "lab/node/usr/local/lib/kubekeel-lab/k3s"
CONFIG = runpy.run_path(str(STAND_IN / "config_file.py"))
BALANCER = runpy.run_path(str(STAND_IN / "balancer_state.py"))


def kubelite(text: str) -> dict[str, list[str]] | None:
    """The flags that a component takes of its file, None where it would not start, or takes a flag for the value of another.

    None, too, where a variable stands in the name of a flag: to kubekeel that is no flag, and it says so.
    """
    words = text.replace("'", "").replace('"', "").split()
    if any("$" in word.partition("=")[0] and READER["expand_env"](word, ENVIRONMENT).startswith("-") for word in words):
        return None
    try:
        flags, positional = component_sees(text)
    except (IndexError, ValueError):
        return None
    values = [value for each in flags.values() for value in each]
    fine = all(re.fullmatch("[a-z][a-z0-9-]+|v", name) for name in flags) and not any(re.match("-[^0-9]|$", value) for value in values)
    return flags if fine and not any(positional) else None


def k3s(path: pathlib.Path) -> list[str] | None:
    """The arguments that the lab's K3s makes of its files, None where it would not start."""
    try:
        found: list[str] = CONFIG["arguments"](path)
    except (CONFIG["ConfigError"], RecursionError):
        return None
    return found


def balancer(text: str, server_url: str) -> list[str]:
    """The addresses that the lab's K3s takes of a state file."""
    try:
        found: list[str] = BALANCER["read"](text, server_url)
    except RecursionError:
        return []
    return found


def is_finicky(*texts: str) -> bool:
    """Whether PyYAML may refuse what Go's reader takes: a tab between two tokens, an anchor twice."""
    return any("\t" in text or text.count("&") > 1 for text in texts)


def flag(item: str) -> tuple[str, str]:
    """A component's flag, as an item of a list names it."""
    name, equals, value = item.lstrip("-").partition("=")
    return name.replace("_", "-"), value if equals else "true"


def drop_in(text: str) -> dict[str, str]:
    """The variables of a drop-in (systemd.exec, systemd.syntax), as far as they are written without line breaks."""
    found = {}
    for line in text.split("\n"):
        if line.startswith("Environment="):
            with contextlib.suppress(ValueError):
                for word in shlex.split(line.partition("=")[2]):
                    name, equals, value = word.partition("=")
                    found.update({name: value.replace("%%", "%")} if equals else {})
    return found


def environment_file(text: str) -> dict[str, str] | None:
    """The variables of an environment file, None for one that systemd refuses (src/basic/env-file.c, state by state)."""
    found: list[tuple[str, str]] = []
    key = value = blank = ""
    state = "before"
    # A byte 0 ends the text.
    for character in text.partition("\0")[0]:
        newline, white = character in "\n\r", character in " \t\n\r"
        if state == "before":
            if character in "#;":
                state = "comment"
            elif not white:
                key, value, blank, state = character, "", "", "key"
        elif state == "key":
            if character == "=":
                state = "start"
            else:
                key, state = key + character, "before" if newline else state
        elif state in ("start", "value") and newline:
            found.append((key.rstrip(" \t"), value))
            state = "before"
        elif state == "start":
            quote = {"'": "single", '"': "double", "\\": "escape"}.get(character)
            blank = ""
            if quote:
                state = quote
            elif not white:
                value, state = value + character, "value"
        elif state == "value":
            if character == "\\":
                value, blank, state = value + blank, "", "escape"
            elif white:
                blank += character
            else:
                value, blank = value + blank + character, ""
        elif state == "escape":
            value, state = value + ("" if newline else character), "value"
        elif state == "single":
            value, state = (value, "start") if character == "'" else (value + character, state)
        elif state == "double":
            value, state = {'"': (value, "start"), "\\": (value, "double escape")}.get(character, (value + character, state))
        elif state == "double escape":
            value += character if character in '"\\`$' else "" if character == "\n" else "\\" + character
            state = "double"
        elif state == "comment":
            state = "before" if newline else "comment escape" if character == "\\" else state
        elif state == "comment escape":
            state = "before" if newline else "comment"
    if state not in ("before", "key", "comment", "comment escape"):
        found.append((key.rstrip(" \t"), value))
    if any("\udc80" <= character <= "\udcff" for pair in found for character in "".join(pair)):
        return None
    fit = re.compile("[A-Za-z_][A-Za-z0-9_]*=[^\0-\x08\x0b-\x1f\x7f]*")
    return {name: value for name, value in dict(found).items() if fit.fullmatch(f"{name}={value}")}
