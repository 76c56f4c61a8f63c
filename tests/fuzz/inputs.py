"""Inputs that are nearly right: texts and values, broken at random in a few places."""

import contextlib
import functools
import json
import os
import re
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

SCALE = float(os.environ.get("KUBEKEEL_FUZZ", "1"))
"""How many times as many inputs as the tests say."""
CPU_SECONDS = 20.0
"""What one input may take."""
GENERATED: Counter[str] = Counter()
"""How many there were, by test."""

# What stands in no file that works, or means something else than it looks like.
# fmt: off
ODD = (
    "'", '"', " ", "  ", "\t", "\n", "\n\n", "\r", "\r\n", "\\", "\\\n", "#", " # ", "\n# ", ";", "=", ":", ": ", "- ", "-", "--", "\n--",
    ",", "\0", "\x1b", "\x1f", "\x0c", "\x85", "\xa0", "\u2028", "\ufeff", "\udcff", "\udcc3", "ä", "😀", "²", "٣", "$", "${SNAP_DATA}",
    "$$", "%", "%H", "---\n", "\n---\n", "\n...\n", "%YAML 1.1\n", "&a ", "*a", "*a\n", "!!binary ", "!x ", "{", "}", "{a: b}", "[", "]",
    "[]", "[[", "|", ">", "|\n  ", ">-\n    ", "? ", "@", "`", "<<: *a\n", "+", "null", "~", "yes", "n", "true", "false", "NaN", "-1",
    "0644", "1e999", "0x1f", "1_0", "[::1]:6443", "fd00::1", "fe80::1%eth0", ":99999", "{{ x }}", "../", "/", "*", "_", "\n[Service]\n",
    "export ", "'\n'", "A=", "-v", "1.2.3", "9" * 25, "9" * 5000,
)
LONG = ("x", "9", " ", "a-", "'", '"', "[", "{", "\t", "- ", "\n", "a=", "\\", "1.", "é", "#", "=", '{"a":', "x y ", ": ", "\xa0")
# fmt: on


@contextlib.contextmanager
def in_time() -> Iterator[None]:
    """End what never ends. It is the processor's time that counts, so that a busy machine breaks nothing."""

    def too_late(*_: object) -> None:
        raise AssertionError(f"not done after {CPU_SECONDS} s")

    before = signal.signal(signal.SIGPROF, too_late)
    signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def fuzz(count: int, **inputs: st.SearchStrategy[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Run a test with so many inputs. A failure prints how to make it again."""

    def decorate(test: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(test)
        def counted(*args: Any, **kwargs: Any) -> None:
            GENERATED[test.__name__] += 1
            with in_time():
                test(*args, **kwargs)

        examples = max(1, round(count * SCALE))
        many = settings(max_examples=examples, deadline=None, print_blob=True, database=None, suppress_health_check=list(HealthCheck))
        return many(given(**inputs)(counted))

    return decorate


# -- Texts -------------------------------------------------------------------------------------------------------------


def _put_in(draw: Any, text: str) -> str:
    places = [0, len(text), *(place.end() for place in re.finditer(r"[\n=:]\s*", text))]
    at = draw(st.sampled_from(places) | st.integers(0, len(text)))
    odd: str = draw(st.sampled_from(ODD))
    return text[:at] + odd + text[at:]


def _put_in_much(draw: Any, text: str) -> str:
    at, length = draw(st.integers(0, len(text))), draw(st.sampled_from((100, 3000, 70000)))
    much: str = draw(st.sampled_from(LONG)) * length
    return text[:at] + much[:length] + text[at:]


def _cut_out(draw: Any, text: str) -> str:
    at = draw(st.integers(0, len(text)))
    return text[:at] + text[at + draw(st.integers(1, 20)) :]


def _cut_off(draw: Any, text: str) -> str:
    return text[: draw(st.integers(0, len(text)))]


def _move_a_line(draw: Any, text: str) -> str:
    lines = text.split("\n")
    one, other = draw(st.integers(0, len(lines) - 1)), draw(st.integers(0, len(lines) - 1))
    line = lines.pop(one) if draw(st.booleans()) else lines[one]
    lines.insert(other, line)
    return "\n".join(lines)


def _change_a_line(draw: Any, text: str) -> str:
    lines = text.split("\n")
    one = draw(st.integers(0, len(lines) - 1))
    line = lines[one]
    changed: tuple[list[str], ...] = ([], ["  " + line], ["# " + line], [f"'{line}'"], [line.replace("=", " ")], [line + " # x"])
    lines[one : one + 1] = draw(st.sampled_from(changed))
    return "\n".join(lines)


def _join_lines(draw: Any, text: str) -> str:
    lines = text.split("\n")
    one = draw(st.integers(0, len(lines) - 1))
    return "\n".join([*lines[:one], draw(st.sampled_from((" ", "  ", ", ", "\t", "\r"))).join(lines[one : one + 2]), *lines[one + 2 :]])


def _other_digit(draw: Any, text: str) -> str:
    places = [place.start() for place in re.finditer("[0-9]", text)]
    if not places:
        return text
    at = draw(st.sampled_from(places))
    digit: str = draw(st.sampled_from("0123456789"))
    return text[:at] + digit + text[at + 1 :]


def _end_lines_otherwise(_draw: Any, text: str) -> str:
    return text.replace("\n", "\r\n")


_RARE = (_put_in_much, _cut_off, _join_lines, _other_digit, _end_lines_otherwise)
CHANGES = (*(_put_in, _cut_out, _move_a_line, _change_a_line) * 3, *_RARE)


@st.composite
def broken(draw: Any, *texts: str) -> str:
    """One of these texts, changed in a few places or in none."""
    text: str = draw(st.sampled_from(texts))
    for _ in range(draw(st.integers(0, 4))):
        text = draw(st.sampled_from(CHANGES))(draw, text)
    return text


# -- Values ------------------------------------------------------------------------------------------------------------

LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(
        (*(odd for odd in ODD if odd.isascii()), "15s", "4", 4, -1, 10**30, 10**400, float("nan"), float("inf"), 1e300, "", "ä")
    )
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
)
ANYTHING = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3), max_leaves=5
)


def is_countable(value: Any) -> bool:
    """Where a whole number is needed, Ansible itself ends with a traceback for infinity, and for thousands of digits."""
    return not re.search(r"inf|\d{4000}", str(value), re.IGNORECASE)


@st.composite
def wrecked(draw: Any, *values: Any) -> Any:
    """One of these values, with some of what is in it taken away or replaced by something else."""
    value = json.loads(json.dumps(draw(st.sampled_from(values))))
    for _ in range(draw(st.integers(0, 3))):
        value = _wreck(draw, value)
    return value


def _wreck(draw: Any, value: Any) -> Any:
    keys = list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
    if not keys or draw(st.integers(0, 6)) == 0:
        return draw(ANYTHING)
    key = draw(st.sampled_from(keys))
    if draw(st.integers(0, 6)) == 0:
        del value[key]
    else:
        value[key] = _wreck(draw, value[key])
    return value
