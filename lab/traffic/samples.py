"""What clients saw, and what follows from it: pure arithmetic on answers and their times.

Times are seconds of CLOCK_MONOTONIC, which the host and its nodes share, unless they are called clock times.
"""

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Sample:
    """One request; ``problem`` is empty for a good answer, ``clock`` is seconds since 1970."""

    clock: float
    began: float
    ended: float
    problem: str

    @property
    def good(self) -> bool:
        """Tell whether the answer was the hoped-for one."""
        return not self.problem


# What one client saw from its start to its end; a node that loses its power ends its client without a failure.
Session = Sequence[Sample]


@dataclass(frozen=True)
class Interval:
    """A stretch of time."""

    start: float
    end: float

    @property
    def seconds(self) -> float:
        """Its length."""
        return self.end - self.start


@dataclass(frozen=True)
class NodeSummary:
    """The Service as seen from one node; failures are clock times, None where there was none."""

    requests: int
    failed: int
    longest_gap: float
    first_failure: float | None
    last_failure: float | None
    problems: dict[str, int]


@dataclass(frozen=True)
class ServerSummary:
    """One API server as seen from the host; ``longest_down`` is in seconds."""

    asked: int
    failed: int
    longest_down: float


def longest_gap(session: Session) -> float:
    """Return the longest time between two good answers in a row, ends of the session included."""
    if not session:
        return 0.0
    moments = [session[0].began, *(sample.ended for sample in session if sample.good), session[-1].ended]
    return max(after - before for before, after in itertools.pairwise(moments))


def summarize_node(sessions: Sequence[Session]) -> NodeSummary:
    """Return what all clients of one node saw."""
    samples = [sample for session in sessions for sample in session]
    failures = [sample for sample in samples if not sample.good]
    return NodeSummary(
        requests=len(samples),
        failed=len(failures),
        longest_gap=max(map(longest_gap, sessions), default=0.0),
        first_failure=failures[0].clock if failures else None,
        last_failure=failures[-1].clock if failures else None,
        problems=dict(Counter(sample.problem for sample in failures)),
    )


def down_intervals(samples: Session) -> list[Interval]:
    """Return the stretches from when a question was put that failed to the next good answer, or to the last answer."""
    intervals: list[Interval] = []
    down_since: float | None = None
    for sample in samples:
        if sample.good and down_since is not None:
            intervals.append(Interval(down_since, sample.ended))
            down_since = None
        elif not sample.good and down_since is None:
            down_since = sample.began
    if down_since is not None:
        intervals.append(Interval(down_since, samples[-1].ended))
    return intervals


def summarize_server(samples: Session) -> ServerSummary:
    """Return what the host saw of one API server."""
    return ServerSummary(
        asked=len(samples),
        failed=sum(not sample.good for sample in samples),
        longest_down=max((interval.seconds for interval in down_intervals(samples)), default=0.0),
    )


def none_answered(servers: Mapping[str, Session]) -> list[Interval]:
    """Return the stretches during which the last answer of every server was a failure."""
    common: list[Interval] | None = None
    for samples in servers.values():
        down = down_intervals(samples)
        common = down if common is None else intersect(common, down)
    return common or []


def intersect(left: Sequence[Interval], right: Sequence[Interval]) -> list[Interval]:
    """Return the stretches that both lists have in common."""
    pairs = ((max(one.start, two.start), min(one.end, two.end)) for one in left for two in right)
    return sorted((Interval(start, end) for start, end in pairs if start <= end), key=lambda each: each.start)
