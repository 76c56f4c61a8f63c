"""How kubelite reads its argument files, statement for statement as Go does it.

This is the lab's independent model of the grammar: MicroK8s's patch to Kubernetes (``ReadArgsFromFile``) on top of
Go's ``bufio.Scanner``, ``strings.TrimSpace``, ``strings.Split`` and ``os.ExpandEnv``. Texts are decoded with
``surrogateescape``, so that a byte that is not UTF-8 passes through unharmed.
"""

from collections.abc import Iterator, Mapping

# bufio.MaxScanTokenSize: the buffer must hold the line and its newline.
MAX_LINE_BYTES = 64 * 1024 - 1
# unicode.IsSpace; Python's own str.strip() would also take \x1c to \x1f.
GO_SPACE = "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
SHELL_SPECIAL = frozenset("*#$@!?-0123456789")
NAME_CHARACTERS = frozenset("_0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")


class LineTooLongError(ValueError):
    """bufio.Scanner's ErrTooLong, on which kubelite exits."""


def scan_lines(text: str) -> Iterator[str]:
    """Yield lines as bufio.ScanLines does: split at newlines only, one trailing carriage return dropped.

    Raises:
        LineTooLongError: a line does not fit the scanner's buffer
    """
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    for line in lines:
        if len(line.encode("utf-8", "surrogateescape")) > MAX_LINE_BYTES:
            raise LineTooLongError("token too long")
        yield line.removesuffix("\r")


def shell_name(rest: str) -> tuple[str, int]:
    """Return the variable name after a dollar sign and the number of characters it takes, braces included."""
    if rest[0] == "{":
        if len(rest) > 2 and rest[1] in SHELL_SPECIAL and rest[2] == "}":
            return rest[1], 3
        end = rest.find("}", 1)
        if end == 1:
            return "", 2
        if end == -1:
            return "", 1
        return rest[1:end], end + 1
    if rest[0] in SHELL_SPECIAL:
        return rest[0], 1
    length = 0
    while length < len(rest) and rest[length] in NAME_CHARACTERS:
        length += 1
    return rest[:length], length


def expand_env(part: str, environ: Mapping[str, str]) -> str:
    """Expand ``$name`` and ``${name}`` as os.ExpandEnv does: unset is empty, broken syntax is eaten."""
    result: list[str] = []
    position = 0
    while position < len(part):
        character = part[position]
        position += 1
        if character != "$" or position == len(part):
            result.append(character)
            continue
        name, width = shell_name(part[position:])
        if name:
            result.append(environ.get(name, ""))
        elif width == 0:
            result.append("$")
        position += width
    return "".join(result)


def read_args(text: str, environ: Mapping[str, str]) -> list[str]:
    """Return the arguments that a component gets from the text of its file.

    The environment is kubelite's own; SNAP_DATA and SNAP_COMMON are what the files use.

    Raises:
        LineTooLongError: kubelite would exit
    """
    arguments: list[str] = []
    for raw in scan_lines(text):
        line = raw.strip(GO_SPACE)
        if not line or line.startswith("#"):
            continue
        line = line.replace('"', "").replace("'", "")
        arguments += [expand_env(part, environ) for part in line.split(" ")]
    return arguments
