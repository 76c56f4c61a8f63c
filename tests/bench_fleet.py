"""How long does a fleet of small clusters take, beside what the cores allow, and how much memory does the controller need?

Makes the clusters (see tests/fleet), audits and remediates first as many as there are cores, which gives the CPU seconds of one cluster,
then all the others as a fleet. As many as there are cores, since a core that is a thread of a processor does less in a second while its
neighbour is busy, too. Clusters and controller share the cores here, so both count. One cluster of the fleet is broken: its K3s does not
start with what a remediation sets. Ends with code 1 where a fleet took more than 1.3 times as long as it has to, which is what the cores
need for all clusters or the slowest cluster, whichever is longer; or where another cluster than the broken one failed.
"""

import argparse
import contextlib
import os
import pathlib
import sys
import tempfile
import threading
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from kubekeel import fleet, inventories
from kubekeel.fleet import Options, Summary
from tests.fleet import clusters, standin_api
from tests.fleet.clusters import SmallClusters

MOST = 1.3
COMMANDS = ("audit", "remediate")
TICKS = os.sysconf("SC_CLK_TCK")
PROC = pathlib.Path("/proc")
SAMPLE_SECONDS = 1.0
ROWS = (
    "one for each core, s",
    "CPU of one cluster, s",
    "cores need for all, s",
    "slowest of the fleet, s",
    "fleet, s",
    "its CPU, s",
    "controller's peak memory, MiB",
    "failed, one is broken",
    f"times as long as it has to, at most {MOST}",
)
EXPECTED = {"audit": 0, "remediate": 4}
"""Exit code of the broken cluster, by command."""


@dataclass
class Measured:
    """What a fleet took."""

    summary: Summary
    wall: float
    cpu: float
    """Seconds, of the controller's processes and of the nodes'."""
    memory: float
    """The controller's processes' at their peak, in MiB: their own, and their shares of what they share (PSS)."""


def main() -> int:
    """Measure, print one table, and tell whether it was fast enough."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clusters", type=int, default=30)
    parser.add_argument("--parallel", type=int, default=10)
    given = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    rows: list[list[str]] = []
    fast = True
    with tempfile.TemporaryDirectory() as folder, clusters.standing("fleet-bench", given.clusters + cores) as small:
        few, many = small.names[:cores], small.names[cores:]
        small.spoil(many[-1], standin_api.DIES)
        for command in COMMANDS:
            reference = measure(small, command, few, cores, pathlib.Path(folder))
            all_of_them = measure(small, command, many, given.parallel, pathlib.Path(folder))
            needed = reference.cpu / len(few) * len(many) / cores
            slowest = max(outcome.seconds for outcome in all_of_them.summary.outcomes)
            ratio = all_of_them.wall / max(needed, slowest)
            failed = {outcome.cluster: outcome.exit_code for outcome in all_of_them.summary.outcomes if outcome.failed}
            expected = {many[-1]: EXPECTED[command]} if EXPECTED[command] else {}
            fast &= ratio <= MOST and failed == expected and reference.summary.exit_code == 0
            shown = ", ".join(f"{name} ({code})" for name, code in failed.items()) or "none"
            seconds = (reference.wall, reference.cpu / len(few), needed, slowest, all_of_them.wall, all_of_them.cpu)
            rows.append([*(f"{each:.1f}" for each in seconds), f"{all_of_them.memory:.0f}", shown, f"{ratio:.2f}"])
    Console().print(show(f"{given.clusters} clusters, {given.parallel} at a time, on {cores} cores", rows))
    return 0 if fast else 1


def show(title: str, rows: list[list[str]]) -> Table:
    """Return the table: a column for each command."""
    table = Table(title=title, title_justify="left")
    table.add_column("", no_wrap=True)
    for command in COMMANDS:
        table.add_column(command, justify="right")
    for line in zip(ROWS, *rows, strict=True):
        table.add_row(*line)
    return table


def measure(small: SmallClusters, command: str, names: list[str], parallel: int, folder: pathlib.Path) -> Measured:
    """Run a command on some clusters and return what that took."""
    path = small.write_inventory(folder / f"{command}-{len(names)}.yml", names)
    inventory, options = inventories.find(str(path)), Options(parallel=parallel, stop_after=0)
    sockets, nodes = str(small.state.control_path), small.processes()
    before = cpu_seconds(everybody(sockets, nodes))
    began = time.monotonic()
    with peak_memory(sockets) as peak:
        summary = fleet.run_fleet(command, inventory, options, folder=folder / "runs")
    wall = time.monotonic() - began
    return Measured(summary, wall, cpu_seconds(everybody(sockets, nodes)) - before, peak[0] / 1024)


@contextlib.contextmanager
def peak_memory(sockets: str) -> Iterator[list[float]]:
    """Give a list whose only item is the most that the controller's processes had at once, in KiB."""
    peak, over = [0.0], threading.Event()

    def sample() -> None:
        while not over.wait(SAMPLE_SECONDS):
            peak[0] = max(peak[0], sum(map(proportional_size, controller(sockets))))

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        over.set()
        thread.join()


def everybody(sockets: str, nodes: Collection[int]) -> set[int]:
    """Return the controller's processes and those of the nodes."""
    return controller(sockets) | descendants(nodes)


def controller(sockets: str) -> set[int]:
    """Return this process, all below it, and the shared connections of SSH, which leave it: they show the folder of their sockets."""
    masters = [process for process in processes() if sockets in read(process, "cmdline")]
    return descendants([os.getpid(), *masters])


def descendants(roots: Collection[int]) -> set[int]:
    """Return processes with all that are below them."""
    children: dict[int, list[int]] = {}
    for process in processes():
        fields = stat(process)
        if fields:
            children.setdefault(int(fields[1]), []).append(process)
    found: set[int] = set()
    left = list(roots)
    while left:
        process = left.pop()
        if process not in found:
            found.add(process)
            left += children.get(process, [])
    return found


def cpu_seconds(chosen: Collection[int]) -> float:
    """Return what processes have used, with their children that have ended."""
    return sum(sum(int(field) for field in stat(process)[11:15]) for process in chosen) / TICKS


def proportional_size(process: int) -> float:
    """Return a process's PSS in KiB, 0 where it has ended."""
    lines = (line.split() for line in read(process, "smaps_rollup").splitlines())
    return next((float(words[1]) for words in lines if words and words[0] == "Pss:"), 0.0)


def processes() -> list[int]:
    """Return all processes."""
    return [int(path.name) for path in PROC.iterdir() if path.name.isdigit()]


def stat(process: int) -> list[str]:
    """Return the fields of /proc/PID/stat behind the name, from the state on; none where the process has ended (proc_pid_stat(5))."""
    return read(process, "stat").rpartition(")")[2].split()


def read(process: int, name: str) -> str:
    """Return a file of a process, an empty text where it has ended."""
    try:
        return (PROC / str(process) / name).read_text(errors="replace")
    except OSError:
        return ""


if __name__ == "__main__":
    sys.exit(main())
