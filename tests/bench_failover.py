"""What does the death of a node cost, with every set of values, and is what kubekeel computes true?

For each distribution a lab, then set after set: remediate, lose the node that leads, and shake the cluster for a while without
any loss. The drill measures; this only puts its results side by side and holds them against targets.
"""

import argparse
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

ROOT = Path(__file__).parents[1]
CACHE = Path(os.environ.get("KUBEKEEL_CACHE") or "~/.cache/kubekeel").expanduser()
NODES = {"microk8s": ("--servers", "3"), "k3s": ("--servers", "3", "--agents", "1")}
LOAD = ("--packet-loss", "1", "--cpu", "2")
HEARTBEAT_SECONDS = 60.0

Document = dict[str, Any]
"""What a drill writes, see roles/drill/files/drill.schema.json."""


@dataclass(frozen=True)
class Set:
    """Values to try; ``freeze_seconds`` is how long a node may stand still in the soak, which some sets do without."""

    remediated: bool
    freeze_seconds: int | None = None

    @property
    def connections(self) -> bool:
        """Whether to wait until connections are dropped: the kernel's own 15 minutes and 2 hours are beyond any drill."""
        return self.remediated


SETS = {"defaults": Set(remediated=False), "balanced": Set(True, 6), "fast": Set(True, 3)}


def remediation(name: str) -> Document:
    """Return the variables of a remediation."""
    return {"kubekeel_profile": name}


def loss(lab: str, name: str, folder: Path) -> Document:
    """Return the variables of the drill that loses the leader."""
    found = {"drill_scenario": "leader_loss", "drill_confirm": lab, "drill_folder": str(folder)}
    wanted = SETS[name]
    return found | {"drill_connections": wanted.connections} | ({"kubekeel_profile": name} if wanted.remediated else {})


def soak(lab: str, name: str, folder: Path, minutes: int) -> Document:
    """Return the variables of the drill that loses nothing."""
    found = {"drill_scenario": "soak", "drill_confirm": lab, "drill_folder": str(folder), "kubekeel_profile": name}
    return found | {"drill_soak_minutes": minutes, "drill_freeze_seconds": SETS[name].freeze_seconds}


@dataclass
class Outcome:
    """What was found about one set; a document is empty where there is none."""

    distribution: str
    name: str
    number: int
    loss: Document = field(default_factory=dict)
    soak: Document = field(default_factory=dict)
    soaked: bool = False
    errors: list[str] = field(default_factory=list)

    @property
    def title(self) -> str:
        """Return how messages call it."""
        return f"{self.distribution} {self.name}" + (f" #{self.number}" if self.number > 1 else "")

    def step(self, name: str, key: str = "measured") -> float | None:
        """Return a time of the loss: what was measured, or computed (``best``, ``typical``, ``worst``)."""
        steps = self.loss["losses"][0]["steps"] if self.loss.get("losses") else []
        return next((step[key] for step in steps if step["name"] == name), None)

    def connection(self, kind: str, key: str = "measured") -> float | None:
        """Return the longest time until a connection of a kind to the lost node was dropped; None if one never was."""
        times = [one[key] for one in self.loss.get("connections", []) if one["kind"] == kind and one["lost"]]
        return max(times) if times and None not in times else None

    def ratio(self) -> float | None:
        """Return how many times as long as measured the computed worst case of the endpoint is."""
        measured, worst = self.step("endpoint_gone"), self.step("endpoint_gone", "worst")
        return worst / measured if measured and worst is not None else None

    def late_failure(self) -> float | None:
        """Return how long after its endpoint was gone the last request failed, for the observer for which that was longest."""
        views = self.loss["losses"][0]["seen_by"] if self.loss.get("losses") else []
        late = [
            math.inf if view["endpoint_gone"] is None else view["last_failed"] - view["endpoint_gone"]
            for view in views
            if view["last_failed"] is not None
        ]
        return max(late) if late else (0.0 if views else None)


def not_ready(document: Document) -> float | None:
    """Return how many nodes were not Ready that had not been lost."""
    return len({one["node"] for one in document["healthy_not_ready"]}) if document else None


def leader_changes(document: Document) -> float | None:
    """Return how often a Lease changed hands; every observer sees the same changes."""
    return max(Counter(one["observer"] for one in document["leader_changes"]).values(), default=0) if document else None


def failed(document: Document) -> float | None:
    """Return how many requests failed."""
    count: int | None = document["requests"]["failed"] if document else None
    return count


Value = Callable[[Outcome], float | None]


@dataclass(frozen=True)
class Row:
    """Something to show of every outcome."""

    title: str
    value: Value
    digits: int = 0


ROWS = (
    Row("new leader, s", lambda one: one.step("new_leader"), 1),
    Row("  computed worst", lambda one: one.step("new_leader", "worst"), 1),
    Row("endpoint gone, s", lambda one: one.step("endpoint_gone"), 1),
    Row("  computed typical", lambda one: one.step("endpoint_gone", "typical"), 1),
    Row("  computed worst", lambda one: one.step("endpoint_gone", "worst"), 1),
    Row("  worst / measured", Outcome.ratio, 2),
    Row("failed requests", lambda one: failed(one.loss)),
    Row("  last after endpoint gone, s", Outcome.late_failure, 1),
    Row("healthy nodes NotReady", lambda one: not_ready(one.loss)),
    Row("unacknowledged data dropped, s", lambda one: one.connection("unacknowledged"), 1),
    Row("  computed worst", lambda one: one.connection("unacknowledged", "worst"), 1),
    Row("idle connection dropped, s", lambda one: one.connection("idle"), 1),
    Row("  computed worst", lambda one: one.connection("idle", "worst"), 1),
    Row("soak: leader changes", lambda one: leader_changes(one.soak)),
    Row("soak: nodes NotReady", lambda one: not_ready(one.soak)),
    Row("soak: failed requests", lambda one: failed(one.soak)),
)


@dataclass(frozen=True)
class Target:
    """Bounds of a value; of some distributions or sets only, where that is said."""

    title: str
    value: Value
    most: float
    least: float = -math.inf
    distribution: str = ""
    name: str = ""
    soak: bool = False

    def concerns(self, one: Outcome) -> bool:
        """Tell whether it holds for an outcome."""
        return self.distribution in ("", one.distribution) and self.name in ("", one.name) and (one.soaked or not self.soak)


TARGETS = (
    Target("endpoint gone, s", lambda one: one.step("endpoint_gone"), 42, distribution="microk8s", name="balanced"),
    Target("endpoint gone, s", lambda one: one.step("endpoint_gone"), 20, distribution="microk8s", name="fast"),
    Target("endpoint gone, computed worst / measured", Outcome.ratio, 1.25, least=1),
    Target("last failed request after endpoint gone, s", Outcome.late_failure, 1),
    Target("healthy nodes NotReady", lambda one: not_ready(one.loss), 0),
    Target("leader changes in the soak", lambda one: leader_changes(one.soak), 0, soak=True),
    Target("nodes NotReady in the soak", lambda one: not_ready(one.soak), 0, soak=True),
)


def missed(outcomes: Sequence[Outcome]) -> list[str]:
    """Return a line for each error and each target that was missed; what was not measured counts as missed."""
    lines = [f"{one.title}: {error}" for one in outcomes for error in one.errors]
    for one in outcomes:
        for target in TARGETS:
            value = target.value(one) if target.concerns(one) else target.most
            if value is None:
                lines.append(f"{one.title}: {target.title}: not measured")
            elif not target.least <= value <= target.most:
                bounds = f"at most {target.most:g}" if target.least == -math.inf else f"{target.least:g} to {target.most:g}"
                lines.append(f"{one.title}: {target.title}: {value:.2f} instead of {bounds}")
    return lines


def table(outcomes: Sequence[Outcome]) -> Table:
    """Return everything, a column for each set."""
    found = Table(title="The death of the node that leads", title_justify="left")
    found.add_column("", no_wrap=True)
    for one in outcomes:
        found.add_column("\n".join(one.title.split()), justify="right", no_wrap=True)
    for row in ROWS:
        found.add_row(row.title, *(shown(row.value(one), row.digits) for one in outcomes))
    return found


def shown(value: float | None, digits: int) -> str:
    """Return a value for a cell."""
    return "-" if value is None else f"{value:.{digits}f}"


def as_json(outcomes: Sequence[Outcome]) -> Document:
    """Return the table as plain data."""

    def described(one: Outcome) -> Document:
        found: Document = {"distribution": one.distribution, "set": one.name, "number": one.number}
        group = ""
        for row in ROWS:
            # An indented title belongs to the one above.
            group = group if row.title.startswith(" ") else row.title
            value = row.value(one)
            found[group if group == row.title else f"{group}: {row.title.strip()}"] = None if value == math.inf else value
        documents = [document for document in (one.loss, one.soak) if document]
        found["drills"] = [document["id"] for document in documents]
        found["failures"] = [text for document in documents for text in document["failures"]]
        found["errors"] = one.errors
        return found

    return {"rows": [described(one) for one in outcomes], "missed": missed(outcomes)}


def latest(folder: Path) -> Document:
    """Return the latest result of a drill in a folder, an empty one where there is none."""
    results = sorted(folder.glob("*.json"))
    found: Document = json.loads(results[-1].read_text()) if results else {}
    return found


class Bench:
    """Runs everything, step by step, with a log for each."""

    def __init__(self, console: Console, lab: str, folder: Path) -> None:
        """Write to the folder."""
        self.console = console
        self.lab = lab
        self.folder = folder
        self.outcomes: list[Outcome] = []
        self._began = time.monotonic()

    def say(self, text: str) -> None:
        """Print a line with the time since the beginning."""
        minutes, seconds = divmod(int(time.monotonic() - self._began), 60)
        self.console.print(f"[{minutes:3d}:{seconds:02d}] {text}", markup=False, soft_wrap=True)

    def run(self, title: str, command: Sequence[str]) -> bool:
        """Run a command with its output in a log; tell whether it succeeded."""
        self.say(title)
        log = self.folder / f"{'-'.join(re.findall('[a-z0-9]+', title))}.log"
        with log.open("wb") as sink, subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink) as process:
            while True:
                try:
                    code = process.wait(HEARTBEAT_SECONDS)
                    break
                except subprocess.TimeoutExpired:
                    self.say(f"{title} ...")
                except SystemExit:
                    # Ctrl-C reaches the command as well, SIGTERM only this process.
                    process.terminate()
                    raise
        if code:
            self.say(f"{title}: ended with code {code}, see {log}")
        return code == 0

    def do_lab(self, title: str, verb: str, *options: str) -> bool:
        """Run a command of the lab."""
        return self.run(title, [sys.executable, "-m", "lab", verb, "--name", self.lab, *options])

    def playbook(self, name: str, variables: Document) -> list[str]:
        """Return the command that runs a playbook."""
        return ["ansible-playbook", "-i", f"inventories/{self.lab}", f"kubekeel.ha.{name}", "-e", json.dumps(variables)]

    def drill(self, one: Outcome, what: str, variables: Document, around: Sequence[str] = ()) -> Document:
        """Run a drill and return its result; one that does not pass has a result, too."""
        folder = Path(variables["drill_folder"])
        folder.mkdir(parents=True, exist_ok=True)
        self.run(f"{one.title}: {what}", [*around, *self.playbook("drill", variables)])
        document = latest(folder)
        if not document:
            one.errors.append(f"{what}: the drill has no result")
        return document

    def read(self) -> None:
        """Take the results of an earlier run from the folder."""
        known = [(distribution, name) for distribution in NODES for name in SETS]
        for path in self.folder.glob("*-*-*/"):
            distribution, name, number = path.name.split("-")
            loss_result, soak_result = latest(path / "loss"), latest(path / "soak")
            self.outcomes.append(Outcome(distribution, name, int(number), loss_result, soak_result, (path / "soak").is_dir()))
        self.outcomes.sort(key=lambda one: (one.number, known.index((one.distribution, one.name))))

    def distribution(self, distribution: str, sets: Sequence[str], number: int, minutes: int) -> None:
        """Try the sets on a fresh lab; ``minutes`` is 0 for no soak."""
        try:
            if not self.do_lab(f"{distribution} #{number}: lab up", "up", "--distribution", distribution, *NODES[distribution]):
                self.outcomes.append(Outcome(distribution, sets[0], number, errors=["the lab does not come up"]))
                return
            for name in sets:
                one = Outcome(distribution, name, number)
                self.outcomes.append(one)
                if not self.try_set(one, minutes):
                    return
        finally:
            self.do_lab(f"{distribution} #{number}: lab down", "down")

    def try_set(self, one: Outcome, minutes: int) -> bool:
        """Try a set; tell whether the lab can take the next one."""
        wanted = SETS[one.name]
        if wanted.remediated and not self.run(f"{one.title}: remediate", self.playbook("remediate", remediation(one.name))):
            one.errors.append("the remediation failed")
            return False
        folder = self.folder / "-".join([one.distribution, one.name, str(one.number)])
        one.loss = self.drill(one, "leader loss", loss(self.lab, one.name, folder / "loss"))
        self.say(f"{one.title}: endpoint gone after {shown(one.step('endpoint_gone'), 1)} s")
        if minutes and wanted.freeze_seconds is not None:
            one.soaked = True
            around = [sys.executable, "-m", "lab", "shake", "--name", self.lab, *LOAD, "--"]
            one.soak = self.drill(one, "soak", soak(self.lab, one.name, folder / "soak", minutes), around)
        return True

    def report(self) -> int:
        """Print and write everything; return the exit code."""
        file = self.folder / "summary.json"
        file.write_text(json.dumps(as_json(self.outcomes), indent=1) + "\n")
        lines = missed(self.outcomes)
        # A file or a pipe has 80 columns for rich.
        self.console.width = max(self.console.width, 36 + 13 * len(self.outcomes))
        self.console.print(table(self.outcomes))
        self.console.print(f"Results: {file}", soft_wrap=True)
        for line in lines:
            self.console.print(Text.assemble(("Missed: ", "bold red"), line), soft_wrap=True)
        return 1 if lines or not self.outcomes else 0


def words(known: Sequence[str]) -> Callable[[str], list[str]]:
    """Return a reader of a list of names; the result is in the known order."""

    def read(text: str) -> list[str]:
        asked = text.replace(",", " ").split()
        unknown = [name for name in asked if name not in known]
        if unknown or not asked:
            raise argparse.ArgumentTypeError(f"choose from {', '.join(known)}")
        return [name for name in known if name in asked]

    return read


def main() -> int:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--name", default="bench", help="of the lab; a standing one is replaced")
    parser.add_argument("--distributions", type=words(tuple(NODES)), default=list(NODES))
    parser.add_argument("--sets", type=words(tuple(SETS)), default=list(SETS))
    parser.add_argument("--soak-minutes", type=int, default=15)
    parser.add_argument("--skip-soak", action="store_true")
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=CACHE / "bench" / time.strftime("%Y%m%d-%H%M%S"), help="for results and logs")
    parser.add_argument("--show", action="store_true", help="print the table of an earlier run, from its folder")
    options = parser.parse_args()
    folder: Path = options.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    bench = Bench(Console(highlight=False), options.name, folder)
    if options.show:
        bench.read()
        return bench.report()
    minutes = 0 if options.skip_soak else options.soak_minutes
    # The lab goes down then, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        for number in range(1, options.repeat + 1):
            for distribution in options.distributions:
                bench.distribution(distribution, options.sets, number, minutes)
    except KeyboardInterrupt:
        bench.say("interrupted")
        bench.report()
        return 130
    return bench.report()


if __name__ == "__main__":
    sys.exit(main())
