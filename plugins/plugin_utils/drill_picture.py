"""A drill as a picture: what happened when, on one line of time. Drawn from the result alone. Pure."""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from xml.etree import ElementTree

WIDTH = 1000
LEFT, RIGHT = 172, 18
LANE, GAP = 26, 7
FONT = 15

INK, FAINT, LINE = "#1f2933", "#66737f", "#d5dbe1"
GOOD, WAITING, BAD, OFF = "#8cc9a1", "#f0b95a", "#d43d2f", "#3d4852"
HOLDERS = ("#a9cdee", "#f4c7a1", "#cdbfe8", "#bfe0d4", "#f2bccb", "#dcd8a4")
"""Who leads: pale, since dark text stands on it."""
COMPUTED = "#6b46c1"
MARKS = {"new_leader": ("new leader", "#1f5fa8"), "node_down": ("node down", "#9a5b00"), "endpoint_gone": ("endpoint gone", "#15703c")}

SHOWN_BEFORE, SHOWN_AFTER = 10.0, 8.0
"""Seconds before the first loss, and after the last thing that happened."""
TICKS = 10
MOST_CONNECTIONS = 12
HALO: dict[str, Any] = {"stroke": "#ffffff", "stroke_width": "4", "paint_order": "stroke", "stroke_linejoin": "round"}
"""Around a text that lines may cross."""
LETTER = 0.56
"""How wide a letter is, in parts of the font's size."""

# What XML cannot hold, not even escaped.
_UNPRINTABLE = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def svg(result: Mapping[str, Any]) -> str:
    """Return the picture of a result as it stands in roles/drill/files/drill.schema.json; 1000 units wide, on white."""
    return _Picture(result).draw()


class _Picture:
    """A picture that grows downwards; ``y`` is where the next lane begins."""

    def __init__(self, result: Mapping[str, Any]) -> None:
        self.result, self.series = result, result["series"]
        self.root = ElementTree.Element(
            "svg", {"xmlns": "http://www.w3.org/2000/svg", "role": "img", "font-family": "system-ui, DejaVu Sans, sans-serif"}
        )
        self.start, self.end = _span(result)
        self.y = 0.0
        self.holders: dict[str, str] = {}

    def draw(self) -> str:
        """Return it."""
        self._title()
        behind = ElementTree.SubElement(self.root, "g")
        top = self._marks(behind)
        self._leaders()
        self._nodes()
        self._api()
        self._endpoints()
        self._requests()
        self._connections()
        self._axis(behind, top)
        self._legend()
        self.root.set("viewBox", "0 0 %d %d" % (WIDTH, math.ceil(self.y)))
        self.root.set("width", str(WIDTH))
        self.root.set("height", str(math.ceil(self.y)))
        return ElementTree.tostring(self.root, encoding="unicode")

    # ---- what everything is made of

    def x(self, time: float) -> float:
        """Return where a time is, at the edge where it is outside."""
        share = (time - self.start) / (self.end - self.start)
        return LEFT + min(1.0, max(0.0, share)) * (WIDTH - LEFT - RIGHT)

    def shape(self, tag: str, parent: ElementTree.Element | None = None, **attributes: Any) -> ElementTree.Element:
        """Add a shape; an underscore in an attribute's name stands for a hyphen."""
        plain = {name.replace("_", "-"): "%.1f" % value if isinstance(value, float) else str(value) for name, value in attributes.items()}
        return ElementTree.SubElement(self.root if parent is None else parent, tag, plain)

    def text(self, x: float, y: float, words: str, size: int = FONT, colour: str = INK, **more: Any) -> None:
        """Add a text."""
        self.shape("text", x=x, y=y, font_size=size, fill=colour, **more).text = _clean(words)

    def bar(
        self, start: float, end: float, colour: str, words: str = "", *, top: float = 0.0, height: float = LANE, hint: str = ""
    ) -> None:
        """Add a bar from a time to another one to this lane, with words where there is room."""
        left, right = self.x(start), self.x(end)
        if right <= left:
            return
        shape = self.shape("rect", x=left, y=self.y + top, width=right - left, height=height, fill=colour)
        if hint:
            self.shape("title", shape).text = _clean(hint)
        if words and right - left > _width(words) + 8:
            self.text((left + right) / 2, self.y + top + height / 2 + 5, words, text_anchor="middle")

    def label(self, words: str, height: float = LANE) -> None:
        """Say what this lane is, shortened to what fits."""
        room = int((LEFT - 16) / (FONT * LETTER))
        short = words if len(words) <= room else words[: room - 1] + "…"
        self.text(LEFT - 10, self.y + height / 2 + 5, short, text_anchor="end")

    def heading(self, words: str) -> None:
        """Begin a group of lanes."""
        self.y += 8
        self.text(12, self.y + 13, words, FONT, FAINT, font_weight="bold", **HALO)
        self.y += 20

    def next(self, height: float = LANE) -> None:
        """Go below this lane."""
        self.y += height + GAP

    def stretches(self, states: Sequence[Sequence[Any]]) -> Iterable[tuple[float, float, Any]]:
        """Return each state with its begin and end."""
        for index, (time, state) in enumerate(states):
            yield time, states[index + 1][0] if index + 1 < len(states) else self.series["end"], state

    # ---- the parts, from above to below

    def _title(self) -> None:
        result = self.result
        passed = bool(result["passed"])
        self.shape("title").text = _clean("Failover drill %s" % result["id"])
        self.shape("rect", x=0, y=0, width="100%", height="100%", fill="#ffffff")
        self.text(12, 32, "%s: %s" % (result["cluster"], result["scenario"].replace("_", " ")), 22, font_weight="bold")
        words = "PASSED" if passed else "FAILED"
        self.text(WIDTH - RIGHT, 32, words, 22, "#15703c" if passed else BAD, text_anchor="end", font_weight="bold")
        about = (result["distribution"], result["release"], result["profile"] and "profile %s" % result["profile"], result["started"])
        self.text(12, 56, " · ".join(str(each) for each in about if each), colour=FAINT)
        self.y = 70

    def _marks(self, behind: ElementTree.Element) -> float:
        """Draw when what was measured and computed, with labels above the lanes; return where the lines begin."""
        marks: list[tuple[float, str, str, bool]] = []
        for loss in self.result["losses"]:
            zero = loss["after_first"]
            marks.append((zero, "%s lost" % loss["node"], BAD, False))
            for step in loss["steps"]:
                if step["name"] in MARKS:
                    words, colour = MARKS[step["name"]]
                    if step["measured"] is not None:
                        marks.append((zero + step["measured"], "%s %.1f s" % (words, step["measured"]), colour, False))
                    if step["worst"] is not None and step["name"] == "endpoint_gone":
                        marks.append((zero + step["worst"], "computed worst %.1f s" % step["worst"], COMPUTED, True))
        rows: list[float] = []
        placed = []
        for time, words, colour, dashed in sorted(marks, key=lambda mark: mark[0]):
            x, width = self.x(time), _width(words)
            left = min(x + 4, WIDTH - RIGHT - width)
            row = next((index for index, right in enumerate(rows) if right < left), len(rows))
            rows[row : row + 1] = [left + width + 10]
            placed.append((x, left, row, words, colour, dashed))
        top = self.y
        for x, left, row, words, colour, dashed in placed:
            y = top + row * 20
            line = self.shape("line", behind, x1=x, x2=x, y1=y, y2=y, stroke=colour, stroke_width=2)
            line.set("class", "mark")
            if dashed:
                line.set("stroke-dasharray", "6 4")
            self.text(left, y + 14, words, FONT, colour, **HALO)
        self.y = top + len(rows) * 20 + 2
        return self.y

    def _leaders(self) -> None:
        if not self.series["leaders"]:
            return
        self.heading("Who leads")
        for component, states in sorted(self.series["leaders"].items()):
            self.label(component.removeprefix("kube-"))
            for start, end, holder in self.stretches(states):
                colour = self.holders.setdefault(holder, HOLDERS[len(self.holders) % len(HOLDERS)])
                # Between the loss of the holder and the next one nobody leads, although the Lease still names it.
                lost = next((time for time, back in self._lost(holder) if start <= time < end and (back is None or back > end)), None)
                self.bar(start, end if lost is None else lost, colour, holder, hint="%s leads" % holder)
                if lost is not None:
                    self.bar(lost, end, WAITING, "nobody", hint="%s is lost, nobody leads" % holder)
            self.next()

    def _lost(self, node: str) -> Iterable[tuple[float, float | None]]:
        """Return when a node was lost, and when it was back."""
        for loss in self.result["losses"]:
            if loss["node"] == node:
                yield loss["after_first"], None if loss["back"] is None else loss["after_first"] + loss["back"]

    def _nodes(self) -> None:
        if not self.series["nodes"]:
            return
        self.heading("Nodes, as the cluster sees them")
        for node, states in sorted(self.series["nodes"].items()):
            self.label(node)
            for start, end, ready in self.stretches(states):
                words = {"True": "Ready", "False": "NotReady"}.get(ready, ready)
                self.bar(start, end, GOOD if ready == "True" else WAITING, words, hint="%s is %s" % (node, words))
            for start, back in self._lost(node):
                self.bar(start, self.series["end"] if back is None else back, OFF, top=LANE - 4, height=4, hint="%s is off" % node)
            self.next()

    def _api(self) -> None:
        if not self.series["api"]:
            return
        self.heading("API servers")
        for node, states in sorted(self.series["api"].items()):
            self.label(node)
            for start, end, up in self.stretches(states):
                words = "answers" if up else "down"
                self.bar(start, end, GOOD if up else WAITING, words, hint="the API server of %s: %s" % (node, words))
            self.next()

    def _endpoints(self) -> None:
        if not self.series["endpoints"]:
            return
        self.heading("Endpoints of the Service")
        lost = {loss["node"] for loss in self.result["losses"]}
        self.label("ready pods")
        for start, end, nodes in self.stretches(self.series["endpoints"]):
            dead = [node for node in nodes if any(time < end and (back is None or back > start) for time, back in self._lost(node))]
            since = max([start, *(time for node in dead for time, _back in self._lost(node) if time < end)]) if dead else end
            hint = ", ".join("%d on %s" % (count, node) for node, count in nodes.items()) or "none"
            self.bar(start, since, GOOD if nodes else BAD, str(sum(nodes.values())), hint=hint)
            there = sum(nodes[node] for node in dead)
            self.bar(
                since,
                end,
                WAITING,
                "%d, %d on a lost node" % (sum(nodes.values()), there),
                hint="%s; lost: %s" % (hint, ", ".join(sorted(lost))),
            )
        self.next()

    def _requests(self) -> None:
        if not self.series["requests"]:
            return
        self.heading("Requests to the Service, each second")
        height, most = 54.0, max(good + failed for _second, good, failed in self.series["requests"])
        self.label("answered", height / 2)
        self.y += height / 2
        self.label("failed", height / 2)
        self.y -= height / 2
        for second, good, failed in self.series["requests"]:
            left, right = self.x(second), self.x(second + 1)
            if right - left > 0.05:
                for count, colour, top in ((good, GOOD, 0.0), (failed, "#f3b8b2", height / 2)):
                    tall = count / most * (height / 2 - 2)
                    if count:
                        place = self.y + top + height / 2 - tall
                        self.shape("rect", x=left, y=place, width=max(0.8, right - left - 0.4), height=tall, fill=colour)
        for began, _seconds, observer, backend, problem in self.series["failed"]:
            if self.start <= began <= self.end:
                x = self.x(began)
                tick = self.shape("line", x1=x, x2=x, y1=self.y + height / 2 + 2, y2=self.y + height, stroke=BAD, stroke_width=1)
                self.shape("title", tick).text = _clean("%.1f s, from %s to %s: %s" % (began, observer, backend or "?", problem))
        self.next(height)

    def _connections(self) -> None:
        # Only those to lost nodes: the others stay open.
        rows = [row for row in self.result["connections"] if row["lost"]][:MOST_CONNECTIONS]
        if not rows:
            return
        self.heading("Connections to pods of lost nodes, until the kernel drops them")
        for row in rows:
            self.label("%s (%s)" % ("idle" if row["kind"] == "idle" else "sending", row["observer"]), 16)
            dropped = row["dropped"]
            words = "never dropped" if dropped is None else "%.1f s %s" % (row["measured"] or 0.0, row["error"])
            end = self.series["end"] if dropped is None else dropped
            self.bar(row["opened"], end, "#c6d3df", height=16, hint="%s to %s: %s" % (row["kind"], row["node"], words))
            # Behind the bar where there is room, else on it.
            right = self.x(end)
            beside = right + 6 + _width(words, 13) < WIDTH - RIGHT
            anchor, halo = ("start", HALO) if beside else ("end", {})
            self.text(right + 6 if beside else right - 6, self.y + 13, words, 13, INK, text_anchor=anchor, **halo)
            self.next(16)

    def _axis(self, behind: ElementTree.Element, top: float) -> None:
        """Draw the scale below the lanes, and all vertical lines down to it."""
        self.y += 4
        step = _tick(self.end - self.start)
        for number in range(math.ceil(self.start / step), math.floor(self.end / step) + 1):
            x = self.x(number * step)
            grid = self.shape("line", behind, x1=x, x2=x, y1=top, y2=self.y, stroke=LINE, stroke_width=1)
            behind.remove(grid)
            behind.insert(0, grid)
            self.text(x, self.y + 18, "%g" % (number * step), 14, FAINT, text_anchor="middle")
        for line in behind.iter("line"):
            if line.get("class") == "mark":
                line.set("y2", "%.1f" % self.y)
        self.text(12, self.y + 18, "seconds", 14, FAINT)
        self.y += 34

    def _legend(self) -> None:
        """Say what the colours mean."""
        entries = [
            (GOOD, "well"),
            (WAITING, "not well, or nobody"),
            (OFF, "off"),
            (BAD, "failed request"),
            (COMPUTED, "computed worst case of endpoint gone"),
        ]
        if not any(loss["steps"] and step["worst"] is not None for loss in self.result["losses"] for step in loss["steps"]):
            entries.pop()
        x = 12.0
        for colour, words in entries:
            self.shape("rect", x=x, y=self.y, width=14, height=14, fill=colour)
            self.text(x + 20, self.y + 12, words, 14, FAINT)
            x += 20 + _width(words, 14) + 22
        self.y += 28


def _span(result: Mapping[str, Any]) -> tuple[float, float]:
    """Return from when until when something is to be shown, in seconds; never an empty stretch."""
    series = result["series"]
    start, end = series["start"], series["end"]
    if result["losses"]:
        happened = [0.0]
        for loss in result["losses"]:
            times = [loss[name] for name in ("node_down", "endpoint_gone", "requests_end", "last_failed", "back", "node_up")]
            times += [step["worst"] for step in loss["steps"] if step["name"] == "endpoint_gone"]
            times += loss["new_leader"].values()
            happened += [loss["after_first"] + time for time in times if time is not None]
            if loss["back"] is None:
                happened.append(end)
        start = max(start, -SHOWN_BEFORE)
        last = max(happened)
        # Beyond what was seen only for what was computed.
        end = last + SHOWN_AFTER if last > end else min(last + SHOWN_AFTER, end)
    return start, max(end, start + 1.0)


def _tick(seconds: float) -> float:
    """Return a round distance between ticks."""
    power = 10.0 ** math.floor(math.log10(seconds / TICKS))
    return next(power * factor for factor in (1, 2, 5, 10, 20) if power * factor * TICKS >= seconds)


def _width(words: str, size: int = FONT) -> float:
    """Return about how wide a text becomes."""
    return len(words) * size * LETTER


def _clean(words: str) -> str:
    """Return a text without what XML cannot hold; the rest is escaped where it is written."""
    return _UNPRINTABLE.sub("\ufffd", words)
