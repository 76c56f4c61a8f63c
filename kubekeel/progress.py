"""Live progress of runs: a table on a terminal, plain lines elsewhere. Writes to standard error; standard output belongs to the report."""

import contextlib
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from .events import Event
from .terminal import Terminal

REFRESHES = 4
"""Times a second that the table is drawn."""
SAME_WAIT = 10.0
"""Seconds between two plain lines about the same wait."""
LONGEST = 300
"""Characters of a text."""

QUIET = frozenset(("safe", "done"))
"""Steps of a node that nothing happens on any more."""
STYLES = {"safe": "green", "done": "green", "failed": "bold red", "taking back": "yellow", "restarting": "cyan", "losing": "magenta"}
ENDS = {"ok": "green", "findings": "yellow"}
"""Styles of a status at the end. Every other one is a failure."""
AT_WORK, QUEUED = "at work", "waiting"
"""What clusters that have not ended are counted as."""

_NUMBER = re.compile(r"[0-9]+(?:[.][0-9]+)?")


@dataclass(frozen=True)
class Node:
    """What is known of a node."""

    step: str = ""
    text: str = ""
    """What it waits for, or why it failed."""
    since: float = 0.0
    """When the step began, in seconds of the Unix epoch."""
    changed: float = 0.0
    """When something of it changed."""
    failed: bool = False
    """Whether it failed, and has not become safe since."""


@dataclass(frozen=True)
class Cluster:
    """What is known of one run."""

    run: str = ""
    """Its id."""
    nodes: Mapping[str, Node] = field(default_factory=dict)
    title: str = ""
    """Of the play that runs."""
    began: float | None = None
    end: str = ""
    """The status at the end; empty until then."""
    ended: float | None = None

    @property
    def current(self) -> str:
        """Name of the node where something happened last, of those that are at work where there are any."""
        busy = [name for name, node in self.nodes.items() if node.failed or node.step not in QUIET]
        return max(busy or self.nodes, key=lambda name: self.nodes[name].changed, default="")


@dataclass(frozen=True)
class State:
    """What the events so far tell. Pure: every event gives another one."""

    began: float
    """When it began, in seconds of the Unix epoch."""
    clusters: Mapping[str, Cluster] = field(default_factory=dict)

    def after(self, event: Event) -> Self:
        """Return what is known after an event. Whatever is unknown in it changes nothing."""
        cluster = self.clusters.get(event.cluster, Cluster())
        if cluster.began is None or cluster.run != event.run:
            cluster = Cluster(event.run, began=event.at)
        if event.kind == "play":
            cluster = replace(cluster, title=_clean(event.text))
        elif event.kind == "end":
            cluster = replace(cluster, end=_clean(event.text) or "ended", ended=event.at)
        elif event.kind in _NODE_EVENTS and event.node:
            name = _clean(event.node)
            node = _NODE_EVENTS[event.kind](cluster.nodes.get(name, Node(since=event.at)), event)
            cluster = replace(cluster, nodes={**cluster.nodes, name: node})
        return replace(self, clusters={**self.clusters, event.cluster: cluster})


def _steps(node: Node, event: Event) -> Node:
    if event.step == node.step:
        return replace(node, text=_clean(event.text) or node.text, changed=event.at)
    failed = event.step == "failed" or (node.failed and event.step not in QUIET)
    return Node(_clean(event.step), _clean(event.text), event.at, event.at, failed)


def _waits(node: Node, event: Event) -> Node:
    return replace(node, step=node.step or "waiting", text=_clean(event.text), changed=event.at)


def _fails(node: Node, event: Event) -> Node:
    since = node.since if node.step == "failed" else event.at
    why = _clean(event.text)
    return Node("failed", f"unreachable: {why}" if event.kind == "unreachable" else why, since, event.at, failed=True)


_NODE_EVENTS: Mapping[str, Callable[[Node, Event], Node]] = {
    "step": _steps,
    "waits": _waits,
    "failed": _fails,
    "unreachable": _fails,
}


def _clean(text: str) -> str:
    """Return a text, which may come from a node, on one line that is not too long, without characters that a terminal would obey."""
    line = "".join(character if character.isprintable() else "?" for character in " ".join(text[: 2 * LONGEST].split()))
    return line if len(line) <= LONGEST else line[: LONGEST - 1] + "…"


def describe(node: Node) -> str:
    """Return what a node does, in words."""
    if node.step == "failed" or not node.text:
        words = f"{node.step}: {node.text}" if node.text else node.step
    else:
        words = f"waiting for {node.text}" if node.step in ("", "waiting") else f"{node.step}, waiting for {node.text}"
    return f"failed, {words}" if node.failed and node.step != "failed" else words


def duration(seconds: float) -> str:
    """Return a duration for people, such as C(8 s), C(2:05) or C(1:02:05). One that is below zero, by a clock that was set, is 0."""
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes, hours = whole // 60 % 60, whole // 3600
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def draw(state: State, now: float, width: int, rows: int) -> RenderableType:
    """Return the table: nodes of the one cluster, or of a fleet a row for each cluster and a line of totals.

    Args:
        state: what is known.
        now: the time, in seconds of the Unix epoch.
        width: columns of the terminal.
        rows: lines that there are for the table and what stands around it.
    """
    fleet = len(state.clusters) > 1
    lines = list(_cluster_rows(state, now) if fleet else _node_rows(state, now))
    shown, hidden = _fitting(lines, max(1, rows - 3))
    room = max(8, width // 3)
    names = shortened([line.name for line in lines], room)
    table = Table(box=None, show_header=False, expand=True, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column(no_wrap=True, overflow="ellipsis", max_width=room)
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    table.add_column(no_wrap=True, justify="right", min_width=4)
    for line in shown:
        table.add_row(Text(names[line.name]), Text(line.words, style=line.style), Text(line.seconds, style="dim"))
    parts: list[RenderableType] = [table] if shown else []
    if hidden:
        parts.append(_line(f"and {len(hidden)} more: {_counted(line.step for line in hidden)}", "dim"))
    head = _totals(state) if fleet else _title(state)
    return Group(_line(f"{duration(now - state.began)}  {head}", "bold"), *parts)


def shortened(names: Sequence[str], room: int) -> dict[str, str]:
    """Return names as they are shown: where one is too long, all without the domain that they share, and then the ends of what is too long.

    Names of nodes mostly differ at the end of their first part.

    Args:
        names: in full.
        room: columns.
    """
    if all(len(name) <= room for name in names):
        return dict(zip(names, names, strict=True))
    ends = (names[0][index:] for index, character in enumerate(names[0]) if character == "." and len(names) > 1)
    domain = next((end for end in ends if all(name.endswith(end) for name in names)), "")
    short = {name: name.removesuffix(domain) or name for name in names}
    return {name: text if len(text) <= room else "…" + text[-(room - 1) :] for name, text in short.items()}


def _line(text: str, style: str) -> Text:
    return Text(text, style=style, no_wrap=True, overflow="ellipsis")


@dataclass(frozen=True)
class _Row:
    name: str
    words: str
    seconds: str
    style: str
    step: str
    """What rows that are not shown are counted by."""
    urgent: int
    """The rows with the lowest number are shown where there is no room for all."""


def _node_rows(state: State, now: float) -> Iterable[_Row]:
    for cluster in state.clusters.values():
        for name, node in cluster.nodes.items():
            quiet = node.step in QUIET and not node.failed
            seconds = "" if quiet else duration((now if cluster.ended is None else cluster.ended) - node.since)
            style = STYLES["failed"] if node.failed else STYLES.get(node.step, "")
            urgent = 0 if node.failed else 3 if quiet else 2 if node.step in ("reading", "comparing") and not node.text else 1
            yield _Row(name, describe(node), seconds, style, "failed" if node.failed else node.step or "waiting", urgent)


def _cluster_rows(state: State, now: float) -> Iterable[_Row]:
    for name, cluster in state.clusters.items():
        node = cluster.nodes.get(cluster.current)
        if cluster.end:
            words, style = cluster.end, ENDS.get(cluster.end, STYLES["failed"])
            if node and node.failed:
                words = f"{words}: {cluster.current} {describe(node)}"
            took = (cluster.ended or 0) - (cluster.began or 0)
            yield _Row(_clean(name), words, duration(took), style, cluster.end, 3 if cluster.end in ENDS else 0)
        elif node:
            style = STYLES["failed"] if node.failed else STYLES.get(node.step, "")
            yield _Row(_clean(name), f"{cluster.current}: {describe(node)}", duration(now - node.since), style, AT_WORK, 1)
        elif cluster.began is not None:
            yield _Row(_clean(name), cluster.title or "begins", duration(now - cluster.began), "", AT_WORK, 1)
        else:
            yield _Row(_clean(name), "waits for its turn", "", "dim", QUEUED, 2)


def _fitting(lines: Sequence[_Row], room: int) -> tuple[list[_Row], list[_Row]]:
    """Return the rows that are shown and those that are not, both in their order."""
    kept = set(sorted(range(len(lines)), key=lambda index: lines[index].urgent)[: room if len(lines) > room else len(lines)])
    return [line for index, line in enumerate(lines) if index in kept], [line for index, line in enumerate(lines) if index not in kept]


def _counted(words: Iterable[str]) -> str:
    return ", ".join(f"{count} {word}" for word, count in Counter(words).items())


def _title(state: State) -> str:
    for name, cluster in state.clusters.items():
        return ": ".join(part for part in (_clean(name), cluster.end or cluster.title) if part) or "begins"
    return "begins"


def _totals(state: State) -> str:
    kinds = [cluster.end or (QUEUED if cluster.began is None else AT_WORK) for cluster in state.clusters.values()]
    return f"{len(kinds)} clusters: {_counted(sorted(kinds, key=lambda kind: (kind in (AT_WORK, QUEUED), kind not in ENDS, kind)))}"


class Progress:
    """Shows the events of one run, or of several at once. Use it as a context, and give it as C(on_event).

    Where standard error is no terminal, or one that cannot move its cursor (TERM=dumb), it prints a line for each change.
    """

    def __init__(
        self, clusters: Sequence[str] = (), *, quiet: bool = False, console: Console | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        """Make it.

        Args:
            clusters: names of those that are known beforehand, so that they are seen before their turn.
            quiet: whether to show nothing.
            console: where to show it; by default standard error.
            clock: the time, in seconds of the Unix epoch.
        """
        self.console = console or Terminal(stderr=True, highlight=False, force_interactive=None if sys.stderr.isatty() else False)
        self.state = State(clock(), {name: Cluster() for name in clusters})
        self._clock = clock
        self._lock = threading.Lock()
        self._lines = Lines(self.state.began)
        self._live: Live | None = None
        self._quiet = quiet
        if self.console.is_interactive and not quiet:
            # Reports that are printed meanwhile go their own way, to standard output.
            self._live = Live(console=self.console, get_renderable=self._draw, refresh_per_second=REFRESHES, redirect_stdout=False)

    def __enter__(self) -> Self:
        """Begin to show."""
        if self._live:
            self._live.start(refresh=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Show the end, which stays on the screen."""
        if self._live:
            with contextlib.suppress(OSError):
                self._live.stop()

    def __call__(self, event: Event) -> None:
        """Take an event, from whichever thread."""
        with self._lock:
            self.state = self.state.after(event)
            if self._live or self._quiet:
                return
            # Whether anybody reads this must not decide on the run.
            with contextlib.suppress(OSError, ValueError):
                for line in self._lines.after(self.state, event):
                    self.console.print(Text(line), soft_wrap=True)

    def _draw(self) -> RenderableType:
        return draw(self.state, self._clock(), self.console.width, self.console.height)


class Lines:
    """What is printed where there is no terminal: a line for each change of step, and now and then one for a wait that lasts."""

    def __init__(self, began: float) -> None:
        """Begin at a time, in seconds of the Unix epoch."""
        self._began = began
        self._said: dict[tuple[str, str], str] = {}
        self._waits: dict[tuple[str, str], dict[str, float]] = {}

    def after(self, state: State, event: Event) -> list[str]:
        """Return what an event gives to print.

        Args:
            state: what is known after it.
            event: the event.
        """
        cluster, name = state.clusters[event.cluster], _clean(event.node)
        if event.kind == "end":
            what, words = _clean(event.cluster), cluster.end
        elif event.kind in _NODE_EVENTS and name in cluster.nodes:
            what, words = name, describe(cluster.nodes[name])
        else:
            return []
        if not self._news(event, words):
            return []
        among = f"{_clean(event.cluster)} " if len(state.clusters) > 1 and event.kind != "end" else ""
        return [f"{max(0.0, event.at - self._began):.1f} s  {among}{what}: {words}"]

    def _news(self, event: Event, words: str) -> bool:
        """Tell whether it was not said yet, or long ago."""
        if event.kind == "step" and event.step == "failed":
            # The event that says why comes next.
            return False
        what = (event.cluster, event.node)
        if event.kind == "waits":
            # Seconds that are counted in it make no other wait of it.
            wait = _NUMBER.sub("#", words)
            times = self._waits.setdefault(what, {})
            if event.at - times.get(wait, float("-inf")) < SAME_WAIT:
                return False
            times[wait] = event.at
            return True
        if self._said.get(what) == words:
            return False
        self._said[what] = words
        self._waits.pop(what, None)
        return True
