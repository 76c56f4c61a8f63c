"""What the measurement found, as a table and as JSON."""

import datetime
from dataclasses import dataclass
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from .samples import Interval, NodeSummary, ServerSummary


@dataclass(frozen=True)
class Report:
    """Everything that was seen; times are seconds, ``started`` is a clock time."""

    command: list[str]
    command_exit_code: int
    interval: float
    started: float
    clock_offset: float
    seconds: float
    nodes: dict[str, NodeSummary]
    sessions: dict[str, int]
    servers: dict[str, ServerSummary]
    none_answered: list[Interval]

    @property
    def failed(self) -> int:
        """Requests to the Service that failed, from all nodes."""
        return sum(summary.failed for summary in self.nodes.values())

    @property
    def exit_code(self) -> int:
        """The command's own, or 1 where it succeeded but somebody was not served."""
        return self.command_exit_code or int(bool(self.failed or self.none_answered))

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain data; clock times are seconds since 1970."""
        return {
            "command": self.command,
            "command_exit_code": self.command_exit_code,
            "exit_code": self.exit_code,
            "started": round(self.started, 3),
            "seconds": round(self.seconds, 3),
            "interval_seconds": self.interval,
            "service": [
                {
                    "node": name,
                    "requests": summary.requests,
                    "failed": summary.failed,
                    "longest_gap_seconds": round(summary.longest_gap, 3),
                    "first_failure": summary.first_failure,
                    "last_failure": summary.last_failure,
                    "problems": summary.problems,
                    "clients": self.sessions[name],
                }
                for name, summary in self.nodes.items()
            ],
            "api_servers": [
                {
                    "node": name,
                    "asked": summary.asked,
                    "failed": summary.failed,
                    "longest_down_seconds": round(summary.longest_down, 3),
                }
                for name, summary in self.servers.items()
            ],
            "no_api_server": [
                {"start": round(interval.start + self.clock_offset, 3), "seconds": round(interval.seconds, 3)}
                for interval in self.none_answered
            ],
        }

    def to_table(self) -> RenderableType:
        """Return the report for a terminal."""
        table = Table(title=f"{' '.join(self.command)[:50]} ({self.seconds:.1f} s)", title_justify="left")
        table.add_column("", no_wrap=True)
        for column in ("asked", "failed", "gap s", "first failure", "last failure"):
            table.add_column(column, justify="right", no_wrap=True)
        for name, node in self.nodes.items():
            first, last = clock(node.first_failure), clock(node.last_failure)
            table.add_row(f"web from {name}", str(node.requests), count(node.failed), f"{node.longest_gap:.2f}", first, last)
        table.add_section()
        for name, server in self.servers.items():
            table.add_row(f"API at {name}", str(server.asked), str(server.failed), f"{server.longest_down:.2f}", "", "")
        return Group(table, *self._remarks())

    def _remarks(self) -> list[Text]:
        """Return what a table cannot say."""
        lost = [name for name, sessions in self.sessions.items() if sessions != 1]
        remarks = ["gap s: longest time without a good answer, in seconds"]
        remarks += [f"{name}: {self.sessions[name]} clients (the node was off or went off)" for name in lost]
        moments = len(self.none_answered)
        total = sum(interval.seconds for interval in self.none_answered)
        remarks.append(
            f"Moments in which no API server answered: {moments} ({total:.2f} s in all)"
            if moments
            else "Moments in which no API server answered: none"
        )
        return [Text(remark) for remark in remarks]


def clock(moment: float | None) -> str:
    """Return a clock time in local hours, minutes and seconds."""
    if moment is None:
        return "-"
    return datetime.datetime.fromtimestamp(moment).strftime("%H:%M:%S.%f")[:-3]


def count(failed: int) -> str:
    """Return a number that draws the eye unless it is 0."""
    return f"[bold red]{failed}[/bold red]" if failed else "0"
