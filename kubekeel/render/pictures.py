"""Pictures of a result as SVG that is as wide as its page: the budget as bars, gates on a line of time. Colours are classes of the page.

What is across is in percent of the width, what is down is in pixels, so that texts keep their size on a narrow screen.
"""

import datetime
import math
from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree import ElementTree

from .facts import budget_moments, budget_steps, cases
from .findings import Document
from .words import count, span

BARS = 52.0
"""Percent of the width for bars; beside them stand their values."""
LEAST = 0.4
"""Percent that a bar is wide at least."""
STRETCH = 20
"""From this ratio of the largest to the smallest value on a linear scale would hide the small ones."""
LOGARITHMIC = {1: "1 s", 10: "10 s", 60: "1 min", 600: "10 min", 3600: "1 h", 36000: "10 h", 864000: "10 d"}
BAR, TEXT, GAP = 13, 18, 10
MINUTES = (1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400)
"""Distances between ticks, in seconds."""

Figures = Mapping[str, Any]


def budget(document: Document) -> str:
    """Return what the death of the worst node costs as bars, before and after; empty where nobody looked."""
    steps = budget_steps(document)
    if not steps:
        return ""
    figures = [one for _label, *moments in steps for one in moments if one]
    scale = _Scale([one[case] for one in figures for case in ("typical", "worst")])
    changes = any(before != after for _label, before, after in steps)
    moments = budget_moments(document) if changes else ("", "")
    picture = _Picture(
        "What the death of the worst node costs",
        "; ".join(f"{label}: {_said(before, after, moments)}" for label, before, after in steps),
    )
    ticks = picture.part("g")
    for label, before, after in steps:
        picture.text(0, label, "label")
        picture.y += TEXT
        shown = [("before", before, moments[0])] + ([("after", after, moments[1])] if changes else [])
        for kind, one, moment in shown:
            words = cases(one)
            if one:
                group = picture.part("g")
                picture.part("title", group).text = f"{label} {moment}: {words}".strip()
                for case in ("worst", "typical"):
                    picture.bar(0, scale.share(one[case]) * BARS, f"{kind} {case}", group)
            picture.text(BARS + 2, words, "value", drop=BAR - 2)
            picture.y += BAR + 2
        picture.y += GAP
    picture.scale(ticks, scale.ticks(), BARS)
    if scale.logarithmic:
        picture.text(0, "logarithmic scale: the same distance is the same factor", "tick", drop=10)
        picture.y += TEXT
    return picture.draw()


def gates(document: Document) -> str:
    """Return gates on a line of time, node by node; empty where there are none, or where their times cannot be read."""
    found = document["gates"]
    try:
        begins = [datetime.datetime.fromisoformat(gate["began"]).timestamp() for gate in found]
    except ValueError:
        return ""
    if not found:
        return ""
    first = min(begins)
    end = max(begin - first + gate["seconds"] for begin, gate in zip(begins, found, strict=True)) or 1.0
    rows: dict[str, list[tuple[float, Figures]]] = {}
    for begin, gate in zip(begins, found, strict=True):
        rows.setdefault(gate["node"], []).append((begin - first, gate))
    picture = _Picture("Gates and restarts, node by node", f"{count(len(found), 'gate')} of {count(len(rows), 'node')} in {span(end)}")
    ticks = picture.part("g")
    for node, row in rows.items():
        failed = "" if all(gate["passed"] for _at, gate in row) else ", FAILED"
        took = sum(gate["seconds"] for _at, gate in row)
        picture.text(0, f"{node or 'the cluster'}: {count(len(row), 'gate')}, {span(took)}{failed}", "label")
        picture.y += TEXT
        for number, (at, gate) in enumerate(row):
            group = picture.part("g")
            waited = f", waited for {'; '.join(gate['waited_for'])}" if gate["waited_for"] else ""
            picture.part("title", group).text = f"{gate['gate']}: {span(gate['seconds'])}{waited}"
            tone = "bad" if not gate["passed"] else "even" if number % 2 else "odd"
            picture.bar(min(at / end * 100, 100 - LEAST), gate["seconds"] / end * 100, tone, group)
        picture.y += BAR + GAP
    step = next((step for step in MINUTES if step * 5 >= end), MINUTES[-1])
    # A label at the right end would be cut off.
    picture.scale(ticks, [(at / end, span(at) if at else "0") for at in range(0, math.ceil(end), step) if at / end < 0.93], 100)
    return picture.draw()


class _Scale:
    """Where durations are, from 0 to 1; logarithmic where they are too different for a line."""

    def __init__(self, values: Sequence[float]) -> None:
        self.most = max([*values, 1.0])
        positive = [value for value in values if value > 0]
        self.logarithmic = bool(positive) and self.most / max(min(positive), 1.0) > STRETCH
        # A logarithmic scale has no 0: it begins at the last tick before the shortest.
        self.least = max((tick for tick in LOGARITHMIC if tick <= min(positive)), default=1) if self.logarithmic else 0

    def share(self, value: float) -> float:
        """Return where a duration is."""
        if not self.logarithmic:
            return value / self.most
        return math.log(max(value, self.least) / self.least) / math.log(self.most / self.least)

    def ticks(self) -> list[tuple[float, str]]:
        """Return where marks are, and what they say."""
        if self.logarithmic:
            return [(self.share(tick), words) for tick, words in LOGARITHMIC.items() if self.least <= tick <= self.most]
        step = next((step for step in MINUTES if step * 4 >= self.most), MINUTES[-1])
        return [(at / self.most, span(at) if at else "0") for at in range(0, math.floor(self.most) + 1, step)]


class _Picture:
    """A picture that grows downwards; ``y`` is where the next thing is drawn."""

    def __init__(self, title: str, about: str) -> None:
        self.root = ElementTree.Element("svg", {"role": "img", "width": "100%", "class": "bars", "aria-label": title})
        self.part("title").text = title
        self.part("desc").text = about
        self.y = 0.0

    def part(self, tag: str, parent: ElementTree.Element | None = None, **attributes: object) -> ElementTree.Element:
        """Add an element."""
        return ElementTree.SubElement(
            self.root if parent is None else parent, tag, {name: str(value) for name, value in attributes.items()}
        )

    def text(self, x: float, words: str, kind: str, drop: float = 13.0, anchor: str = "start") -> None:
        """Add a text."""
        made = self.part("text", x=f"{x:.2f}%", y=f"{self.y + drop:.1f}")
        made.set("class", kind)
        made.set("text-anchor", anchor)
        made.text = words

    def bar(self, x: float, width: float, kind: str, parent: ElementTree.Element) -> None:
        """Add a bar from here to so many percent of the width."""
        made = self.part("rect", parent, x=f"{x:.2f}%", y=f"{self.y:.1f}", width=f"{max(width, LEAST):.2f}%", height=BAR, rx=2)
        made.set("class", kind)

    def scale(self, behind: ElementTree.Element, ticks: Sequence[tuple[float, str]], width: float) -> None:
        """Draw lines down to here, and what they stand for."""
        for share, words in ticks:
            line = self.part("line", behind, x1=f"{share * width:.2f}%", x2=f"{share * width:.2f}%", y1=0, y2=f"{self.y:.1f}")
            line.set("class", "grid")
            self.text(share * width, words, "tick", anchor="middle" if share else "start")
        self.y += TEXT + 2

    def draw(self) -> str:
        """Return it."""
        self.root.set("height", f"{math.ceil(self.y)}")
        return ElementTree.tostring(self.root, encoding="unicode")


def _said(before: Figures | None, after: Figures | None, moments: tuple[str, str]) -> str:
    said = [
        f"{moment} typically {span(one['typical'])}, at worst {span(one['worst'])}".strip()
        for one, moment in ((before, moments[0]), (after, moments[1]))
        if one
    ]
    return ", ".join(dict.fromkeys(said))
