"""The YAML of a K3s configuration file: keys with scalars or lists of scalars, each with its line.

A managed node has no parser for YAML, and what kubekeel says of a file has to name its line. So this reads the part of
YAML 1.1 that such a file can hold (comments, quotes, block and flow lists, block scalars, anchors) and refuses the rest
with the number of the line. No text of the file goes into an error: a line may hold the cluster's token.
"""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Iterable, Tuple, Union


@dataclass(frozen=True)
class Scalar:
    """A value as K3s turns it into text: C(yes) is C(true), nothing at all is an empty text."""

    text: str
    line: int
    """Number of the line, from 1."""


Value = Union[Scalar, Tuple[Scalar, ...]]


@dataclass(frozen=True)
class Entry:
    """A key of the file with its value. A key may come twice; K3s looks at both, in order."""

    key: str
    value: Value
    line: int


class YamlError(ValueError):
    """The text cannot be read."""

    def __init__(self, line: int, why: str) -> None:
        """Take the number of the line and what is wrong there."""
        super().__init__("line %d: %s" % (line, why))
        self.line = line
        self.why = why


# Control characters, halves of characters, and what YAML 1.1 takes for line breaks beside the line feed.
_ODD = re.compile("[^\t\n\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")
_BLANK = re.compile(r"(?:[ ]*(?:#[^\n]*)?(?:\n|$))+")
_COMMENT = re.compile(r"[ \t]*(?:(?<=[ \t])#[^\n]*)?(?=\n|$)")
_DOCUMENT = re.compile(r"(?:---|\.\.\.)(?=[ \t\n]|$)")
_ANCHOR = re.compile(r"&([0-9A-Za-z_-]+)(?=[ \t\n,\]]|$)[ \t]*")
_ALIAS = re.compile(r"\*([0-9A-Za-z_-]+)(?=[ \t\n,\]]|$)")
_SINGLE = re.compile(r"'((?:[^']|'')*)'")
_DOUBLE = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_PLAIN_KEY = re.compile(r"(?:[^\s#:,\[\]{}&*!|>'\"%@`?-]|-[^\s])(?:[^\n#]|(?<![ \t])#){0,1023}?(?=[ \t]*:(?:[ \t\n]|$))")
_COLON = re.compile(r"[ \t]*:(?=[ \t\n]|$)[ \t]*")
_BLOCK_HEADER = re.compile(r"([|>])([+-]?[1-9]?|[1-9][+-])[ \t]*(?:[ \t]#[^\n]*)?\n")
_PLAIN = r"(?:[^\s,\[\]{}#&*!|>'\"%@`:?-]|[:?-](?=[^\s]))"
_BLOCK_PLAIN = re.compile(_PLAIN + r"(?:[^\n#:]|(?<![ \t])#|:(?![ \t\n]|$))*")
_MORE_PLAIN = re.compile(r"(?:[^\n#:]|(?<![ \t\n])#|:(?![ \t\n]|$))+")
_FLOW_PLAIN = re.compile(r"(?:[^\s,\[\]{}#&*!|>'\"%@`:?-]|[:-](?=[^\s,\[\]{}]))(?:[^\n#:,\[\]{}]|(?<![ \t])#|:(?![ \t\n,\[\]{}]|$))*")
_ESCAPE = re.compile(r"\\(x[0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8}|.)", re.DOTALL)
_ESCAPES = {"0": "\0", "a": "\a", "b": "\b", "t": "\t", "\t": "\t", "n": "\n", "v": "\v", "f": "\f", "r": "\r", "e": "\x1b"}
_ESCAPES.update({" ": " ", '"': '"', "/": "/", "\\": "\\", "N": "\x85", "_": "\xa0", "L": "\u2028", "P": "\u2029"})
_FOLD = re.compile(r"[ \t]*\n(?:[ \t]*\n)*[ \t]*")

_LONGEST_KEY = 1024
"""Of what stands before a colon."""

_NULL = frozenset(("", "~", "null", "Null", "NULL"))
_TRUE = frozenset(("true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON", "y", "Y"))
_FALSE = frozenset(("false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF", "n", "N"))


def parse(text: str) -> list[Entry]:
    """Return the entries of a file in their order.

    Raises:
        YamlError: this is no YAML, or not what a K3s configuration can hold.
    """
    return _Reader(text).entries()


def render(entries: Iterable[tuple[str, str | list[str]]]) -> str:
    """Return the text of a file with these keys, every value quoted."""
    lines = []
    for key, value in entries:
        if isinstance(value, str):
            lines.append("%s: %s" % (key, _quote(value)))
        else:
            lines.append("%s:" % key)
            lines.extend("  - %s" % _quote(item) for item in value)
    return "\n".join(lines) + "\n"


def _quote(text: str) -> str:
    return '"%s"' % text.replace("\\", "\\\\").replace('"', '\\"')


def _resolve(plain: str) -> str:
    """Return the text that K3s makes of a plain scalar. Numbers stay as they are written."""
    if plain in _NULL:
        return ""
    if plain in _TRUE:
        return "true"
    return "false" if plain in _FALSE else plain


def _fold(text: str) -> str:
    """Join the lines of a scalar that goes over several: a line break is a space, an empty line a line break."""
    return _FOLD.sub(lambda found: "\n" * (found.group().count("\n") - 1) or " ", text) if "\n" in text else text


class _Reader:
    """Reads from the left to the right; C(self.at) is where."""

    def __init__(self, text: str) -> None:
        self.text = text[1:] if text.startswith("\ufeff") else text
        self.text = self.text.replace("\r\n", "\n")
        self.at = 0
        self.anchors: dict[str, Value] = {}
        odd = _ODD.search(self.text)
        if odd:
            self.at = odd.start()
            raise self.error("a character stands here that is no text, or a line break of another kind")

    # -- Where are we? --------------------------------------------------------------------------------------------

    def line(self) -> int:
        return self.text.count("\n", 0, self.at) + 1

    def column(self) -> int:
        return self.at - (self.text.rfind("\n", 0, self.at) + 1)

    def ends(self) -> bool:
        return self.at >= len(self.text)

    def error(self, why: str) -> YamlError:
        return YamlError(self.line(), why)

    def take(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        found = pattern.match(self.text, self.at)
        if found:
            self.at = found.end()
        return found

    def next_line(self) -> None:
        """Go to the first character of the next line that says something."""
        if self.column() == 0 or self.take(_COMMENT):
            self.take(_BLANK)
        if self.ends():
            return
        if self.column():
            raise self.error("something follows the end of a value")
        indent = re.compile(r"[ \t]*").match(self.text, self.at)
        if indent and "\t" in indent.group():
            raise self.error("a tab stands where YAML wants spaces")
        if indent:
            self.at = indent.end()

    # -- What is there? -------------------------------------------------------------------------------------------

    def entries(self) -> list[Entry]:
        found: list[Entry] = []
        self.next_line()
        while not self.ends() and self.text[self.at] == "%" and self.column() == 0:
            self.at = self.text.find("\n", self.at) if "\n" in self.text[self.at :] else len(self.text)
            self.next_line()
        begun = self.column() == 0 and self.text.startswith("---", self.at) and self.take(_DOCUMENT)
        if begun:
            self.next_line()
        indent = self.column()
        while not self.ends():
            if self.column() == 0 and _DOCUMENT.match(self.text, self.at):
                # K3s reads the first document alone.
                if not found and not begun:
                    raise self.error("a document ends here that did not begin")
                break
            if self.column() != indent:
                raise self.error("the indentation does not fit the lines above")
            found.append(self.entry(indent))
        return found

    def entry(self, indent: int) -> Entry:
        line, start = self.line(), self.at
        key = self.key()
        colon = self.take(_COLON)
        if not colon or "\n" in self.text[start : self.at] or colon.start() - start > _LONGEST_KEY:
            raise self.error("a key and a colon are needed here")
        return Entry(key, self.value(indent), line)

    def key(self) -> str:
        quoted = self.quoted()
        if quoted is not None:
            return quoted
        found = self.take(_PLAIN_KEY)
        if not found:
            raise self.error("a key and a colon are needed here")
        return _resolve(found.group().strip())

    def value(self, indent: int) -> Value:
        """Read the value of a key, and go to the line after it."""
        name, line = self.anchor(), self.line()
        value: Value
        if self.take(_COMMENT):
            self.next_line()
            value = Scalar("", line)
            dash = re.compile(r"-(?=[ \n]|$)").match(self.text, self.at)
            if not self.ends() and dash and self.column() >= indent:
                value = self.block_list(self.column())
            elif not self.ends() and self.column() > indent:
                value = self.scalar_or_list(indent)
        else:
            value = self.scalar_or_list(indent)
        if name:
            self.anchors[name] = value
        return value

    def scalar_or_list(self, indent: int) -> Value:
        alias = _ALIAS.match(self.text, self.at)
        value: Value
        if alias and isinstance(self.anchors.get(alias.group(1)), tuple):
            self.at = alias.end()
            value = self.anchors[alias.group(1)]
        elif self.text.startswith("[", self.at):
            value = self.flow_list()
        else:
            value = self.scalar(indent)
        self.next_line()
        return value

    def block_list(self, column: int) -> tuple[Scalar, ...]:
        items: list[Scalar] = []
        dash = re.compile(r"-(?=[ \t\n]|$)[ \t]*")
        while not self.ends() and self.column() == column and self.take(dash):
            name, line = self.anchor(), self.line()
            if self.take(_COMMENT):
                item = Scalar("", line)
                self.next_line()
                if not self.ends() and self.column() > column:
                    item = self.scalar(column)
                    self.next_line()
            else:
                item = self.scalar(column)
                self.next_line()
            if name:
                self.anchors[name] = item
            items.append(item)
        if not self.ends() and self.column() > column:
            raise self.error("the indentation does not fit the lines above")
        return tuple(items)

    def flow_list(self) -> tuple[Scalar, ...]:
        items: list[Scalar] = []
        self.at += 1
        while True:
            self.flow_space()
            if self.text.startswith("]", self.at):
                self.at += 1
                return tuple(items)
            name, line = self.anchor(), self.line()
            text = self.quoted()
            alias = self.take(_ALIAS) if text is None else None
            plain = self.plain(_FLOW_PLAIN) if text is None and not alias else None
            if alias:
                items.append(self.aliased(alias.group(1)))
            elif text is not None:
                items.append(Scalar(text.strip(), line))
            elif plain is not None:
                items.append(Scalar(_resolve(plain), line))
            else:
                raise self.error("a list of plain values is needed here")
            if name:
                self.anchors[name] = items[-1]
            self.flow_space()
            if self.text.startswith(",", self.at):
                self.at += 1
            elif not self.text.startswith("]", self.at):
                raise self.error("a list is not closed by ']'")

    def flow_space(self) -> None:
        self.take(re.compile(r"(?:[ \t\n]|(?<=\s)#[^\n]*)*"))

    def anchor(self) -> str | None:
        found = self.take(_ANCHOR)
        return found.group(1) if found else None

    def aliased(self, name: str) -> Scalar:
        value = self.anchors.get(name)
        if isinstance(value, Scalar):
            return value
        raise self.error("an alias stands for something that is not one value, or that does not come before it")

    def plain(self, pattern: re.Pattern[str]) -> str | None:
        """Read a plain value and go to its end, before the spaces that a comment needs."""
        found = self.take(pattern)
        if not found:
            return None
        text = found.group().rstrip()
        self.at = found.start() + len(text)
        return text

    def quoted(self) -> str | None:
        single = self.take(_SINGLE)
        if single:
            return _fold(single.group(1).replace("''", "'"))
        double = self.take(_DOUBLE)
        if double:
            return self.unescape(double.group(1))
        if self.text[self.at : self.at + 1] in ("'", '"') and not self.ends():
            raise self.error("a quote is not closed")
        return None

    def unescape(self, text: str) -> str:
        # A break that is escaped joins two lines with nothing between them.
        parts = re.split(r"\\\n[ \t]*", text)

        def character(found: re.Match[str]) -> str:
            code = found.group(1)
            point = int(code[1:], 16) if code[0] in "xuU" and len(code) > 1 else -1
            if 0 <= point <= 0x10FFFF and not 0xD800 <= point <= 0xDFFF:
                return chr(point)
            if point >= 0 or code not in _ESCAPES:
                raise self.error("a text in double quotes holds an escape that YAML does not know")
            return _ESCAPES[code]

        return "".join(_ESCAPE.sub(character, _fold(part)) for part in parts)

    def scalar(self, indent: int) -> Scalar:
        """Read one value that belongs to something indented by C(indent)."""
        line = self.line()
        text = self.quoted()
        if text is not None:
            return Scalar(text.strip(), line)
        alias = self.take(_ALIAS)
        if alias:
            return self.aliased(alias.group(1))
        header = self.take(_BLOCK_HEADER)
        if header:
            return Scalar(self.block_scalar(header.group(1), header.group(2), indent).strip(), line)
        plain = self.plain(_BLOCK_PLAIN)
        if plain is None:
            raise self.error("one value, or a list of values, is needed here")
        parts = [plain]
        while self.continues(indent):
            parts.append(self.plain(_MORE_PLAIN) or "")
        if self.take(_COLON):
            raise self.error("a key stands within a value; K3s takes single values and lists of them")
        return Scalar(_resolve(parts[0]) if len(parts) == 1 else " ".join(parts), line)

    def continues(self, indent: int) -> bool:
        """Tell whether a plain value goes on in the next line, and if so go there."""
        found = re.compile(r"[ \t]*\n([ \t]*\n)*([ ]*)(?=[^\s#])").match(self.text, self.at)
        if not found or len(found.group(2)) <= indent:
            return False
        if found.group(1):
            raise self.error("a plain value with an empty line in it is more than kubekeel reads; put it in quotes")
        self.at = found.end()
        return True

    def block_scalar(self, style: str, header: str, indent: int) -> str:
        lines: list[str] = []
        width = indent + int(header.strip("+-")) if header.strip("+-") else 0
        while not self.ends():
            end = self.text.find("\n", self.at)
            end = len(self.text) if end < 0 else end
            line = self.text[self.at : end]
            content = line.lstrip(" ")
            if content.strip():
                width = width or len(line) - len(content)
                if len(line) - len(content) < width or width <= indent:
                    break
                if style == ">" and line[width : width + 1] in (" ", "\t"):
                    raise self.error("a folded text with lines of its own indentation is more than kubekeel reads; put it in quotes")
            lines.append(line[width:])
            self.at = min(end + 1, len(self.text))
        if not self.ends() or self.text.endswith("\n"):
            # The caller expects to stand at the end of the value's last line.
            self.at -= 1
        text = "\n".join(lines)
        return text if style == "|" else _fold(text.strip("\n"))
