"""Many clusters of one inventory: which is next, what came of each, and how to go on with what is left."""

import dataclasses
import datetime
import hashlib
import json
import os
import pathlib
import random
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent import futures
from typing import Any, Self

from . import inventories, runs
from .errors import UsageError
from .events import Event
from .inventories import Inventory
from .result import EXIT_CODES, Result, counts

SCHEMA = 1
"""Version of the format of a summary."""
WELL = (0, 1)
"""Exit codes of a cluster with which it is done: fine, and findings."""
BAD_TO_GOOD = (130, 4, 5, 3, 1, 0)
"""Exit codes, the one first that stands for a whole fleet: broken off, failed, refused, could not complete, findings, fine."""
INTERRUPTED, INCOMPLETE = EXIT_CODES["interrupted"], EXIT_CODES["incomplete"]
LOOKING = ("audit", "plan", "verify")
"""Commands that change nothing, so that a cluster that fails says nothing about what they would do to the next one."""
SAME_AGAIN = ("variables", "limit", "tags", "check", "ansible_options")
"""Options of a run that have to be the same where a fleet is resumed: with others, what is done would be something else."""
FOLDER, FILE = "fleets", "summary.json"
HEADLINE = 160
"""Characters of a headline."""

NOTHING, CANARY, FAILURES, CANCELLED = "", "canary", "failures", "interrupted"
WHY = {
    NOTHING: "",
    CANARY: "a canary failed",
    FAILURES: "too many clusters failed",
    CANCELLED: "it was interrupted",
}
"""Why the clusters of Summary.not_begun were not begun, by Summary.stopped."""

Runner = Callable[..., Result]


@dataclasses.dataclass(frozen=True)
class Options:
    """How to go through a fleet."""

    parallel: int = 5
    """How many clusters at a time, each with one Ansible of its own."""
    canary: tuple[str, ...] = ()
    """Clusters that come first. The others begin when all of these are done, and do not where one of them fails."""
    canary_count: int = 0
    """Instead of names: so many, from the top of the inventory."""
    stop_after: int | None = None
    """After how many failed clusters no further one begins; 0 for never. None is 1, and 0 for commands that change nothing."""
    resume: str = ""
    """The earlier fleet that this one completes: its id, or the path of its summary or folder."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came of one cluster."""

    cluster: str
    status: str
    """As in the run's result."""
    exit_code: int
    """As in the run's result; 3 where the run could not begin or was no run at all."""
    run: str
    """Id of the run; empty where there was none."""
    folder: str
    """Where the run's result lies; empty where there is none."""
    seconds: float
    headline: str
    """The first failure, or how many nodes, changes and findings there are."""
    began: str
    """ISO 8601, UTC."""
    ended: str

    @property
    def failed(self) -> bool:
        """Whether it counts as a failed cluster."""
        return self.exit_code not in WELL


@dataclasses.dataclass
class Summary:
    """What came of a fleet. While it runs, and where it was killed, ended is empty."""

    id: str
    command: str
    inventory: str
    """Absolute path."""
    clusters: list[str]
    """All of them, canaries first. Each is in one of outcomes and not_begun once the fleet has ended."""
    options: Options
    """As they were understood: with the canaries' names, and the number of stop_after."""
    asked: str
    """Checksum of what the runs were asked for, see SAME_AGAIN. Variables may be secret."""
    began: str
    """ISO 8601, UTC."""
    ended: str = ""
    outcomes: list[Outcome] = dataclasses.field(default_factory=list)
    """In the order in which they ended; those that an earlier fleet was done with come first."""
    not_begun: list[str] = dataclasses.field(default_factory=list)
    stopped: str = NOTHING
    """Why there are clusters that were not begun, a key of WHY."""

    @property
    def exit_code(self) -> int:
        """The worst one by BAD_TO_GOOD, where any other is one that could not complete. Of a fleet that was interrupted or killed 130."""
        codes = {outcome.exit_code if outcome.exit_code in BAD_TO_GOOD else INCOMPLETE for outcome in self.outcomes}
        if self.stopped == CANCELLED or not self.ended:
            codes.add(INTERRUPTED)
        return next((code for code in BAD_TO_GOOD if code in codes), 0)

    @property
    def done(self) -> list[str]:
        """Clusters that a fleet that resumes this one leaves out."""
        return [outcome.cluster for outcome in self.outcomes if not outcome.failed]

    @property
    def why(self) -> str:
        """Why clusters were not begun; empty where all were."""
        return WHY[self.stopped]

    def to_json(self) -> dict[str, Any]:
        """Return what summary.json holds."""
        return {"schema": SCHEMA, **dataclasses.asdict(self), "why": self.why, "exit_code": self.exit_code}

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """Return the summary that to_json gave.

        Raises:
            UsageError: it is none, or of another version.
        """
        if not isinstance(value, dict) or value.get("schema") != SCHEMA:
            raise UsageError(f"It is no summary of a fleet in version {SCHEMA} of the format")
        try:
            fields = {field.name: value[field.name] for field in dataclasses.fields(cls)}
            options = fields["options"]
            fields["options"] = Options(**{**options, "canary": tuple(options["canary"])})
            fields["outcomes"] = [Outcome(**outcome) for outcome in fields["outcomes"]]
        except (KeyError, TypeError) as error:
            raise UsageError(f"It is a damaged summary of a fleet: {error}") from error
        return cls(**fields)


@dataclasses.dataclass(frozen=True)
class Schedule:
    """In which order clusters begin. Pure: says what follows from what runs and what has ended."""

    clusters: Sequence[str]
    """Those to run, canaries first."""
    canaries: Collection[str]
    parallel: int
    stop_after: int
    """0 for never."""

    def stopped(self, ended: Mapping[str, bool], cancelled: bool) -> str:
        """Return why no further cluster may begin, a key of WHY.

        Args:
            ended: clusters that have ended, and whether they failed.
            cancelled: whether somebody wants it to end.
        """
        failed = [cluster for cluster, bad in ended.items() if bad]
        if cancelled:
            return CANCELLED
        if any(cluster in self.canaries for cluster in failed):
            return CANARY
        return FAILURES if self.stop_after and len(failed) >= self.stop_after else NOTHING

    def due(self, running: Collection[str], ended: Mapping[str, bool], cancelled: bool = False) -> list[str]:
        """Return the clusters that begin now.

        Args:
            running: clusters that have begun and not ended.
            ended: clusters that have ended, and whether they failed.
            cancelled: whether somebody wants it to end.
        """
        if self.stopped(ended, cancelled):
            return []
        waiting = self.waiting(running, ended)
        if any(cluster in self.canaries and cluster not in ended for cluster in self.clusters):
            waiting = [cluster for cluster in waiting if cluster in self.canaries]
        return waiting[: max(self.parallel - len(running), 0)]

    def waiting(self, running: Collection[str], ended: Mapping[str, bool]) -> list[str]:
        """Return the clusters that have not begun."""
        return [cluster for cluster in self.clusters if cluster not in running and cluster not in ended]


def understood(options: Options, command: str, clusters: Sequence[str], earlier: Summary | None = None) -> Options:
    """Return the options with names of canaries and a number of failures.

    Args:
        options: as they were given. Without canaries those of the earlier fleet count again.
        command: of kubekeel.
        clusters: of the inventory, in its order.
        earlier: the fleet that is resumed.

    Raises:
        UsageError: they cannot be meant.
    """
    if options.parallel < 1:
        raise UsageError("At least one cluster at a time has to be worked on (--parallel)")
    if options.stop_after is not None and options.stop_after < 0:
        raise UsageError("The number of failed clusters to stop after cannot be negative (--stop-after); 0 never stops")
    if options.canary and options.canary_count:
        raise UsageError("Canaries are given by name or by number, not both (--canary)")
    if not 0 <= options.canary_count <= len(clusters):
        raise UsageError(f"{options.canary_count} clusters cannot come first: there are {len(clusters)} (--canary)")
    strangers = [name for name in options.canary if name not in clusters]
    if strangers:
        raise UsageError(f"The inventory has no cluster {', '.join(strangers)} to begin with; it has {', '.join(clusters)}")
    canaries = options.canary or tuple(clusters[: options.canary_count]) or (earlier.options.canary if earlier else ())
    stop_after = options.stop_after if options.stop_after is not None else int(command not in LOOKING)
    return dataclasses.replace(options, canary=tuple(dict.fromkeys(canaries)), canary_count=0, stop_after=stop_after)


def run_fleet(
    command: str,
    inventory: Inventory,
    options: Options | None = None,
    *,
    run: Runner = runs.run,
    on_event: Callable[[Event], None] | None = None,
    on_outcome: Callable[[Outcome], None] | None = None,
    cancel: threading.Event | None = None,
    folder: pathlib.Path | None = None,
    **run_options: Any,
) -> Summary:
    """Run a command on each cluster below the inventory's group ``clusters``, several at a time.

    What one cluster does never ends another one's run: where no further cluster may begin, those that run go on to their end.
    The summary is on disk before the first cluster begins and after each outcome, so that a fleet that was killed can be resumed.

    Args:
        command: as kubekeel.run takes it.
        inventory: one with a group ``clusters``.
        options: how to go through the clusters.
        run: what runs one cluster, for tests.
        on_event: called with each event of each run, never twice at the same time.
        on_outcome: called with each outcome, never at the same time as on_event.
        cancel: ends the runs, as kubekeel.run says, and lets no further one begin. Ctrl-C in the main thread sets it.
        folder: where runs and fleets are kept, as kubekeel.run takes it.
        run_options: further arguments of kubekeel.run, the same for each cluster.

    Raises:
        UsageError: no such clusters, or options that cannot be meant; nothing was run.
        Exception: what a callback raised first. Raised at the end, for the sake of the clusters.
    """
    kept = folder or runs.default_folder()
    clusters = [inventory.cluster] if inventory.cluster else inventories.clusters(inventory.path)
    if not clusters:
        raise UsageError(f"{inventory.path} is no inventory of a fleet: it has no groups below a group 'clusters'")
    summary = begun(command, inventory, options or Options(), clusters, run_options, kept)
    place = kept / FOLDER / summary.id
    cancel = cancel or threading.Event()
    callbacks = _Callbacks(on_event, on_outcome)
    schedule = Schedule(
        [cluster for cluster in summary.clusters if cluster not in summary.done],
        summary.options.canary,
        summary.options.parallel,
        summary.options.stop_after or 0,
    )

    def work_on(cluster: str) -> Outcome:
        one = dataclasses.replace(inventory, cluster=cluster)
        moment, clock = _now(), time.monotonic()
        try:
            result = run(command, one, on_event=callbacks.event, cancel=cancel, folder=kept, **run_options)
            return of_result(cluster, result)
        except Exception as error:
            # Whatever it is, the other clusters are not disturbed.
            said = shorten(str(error) or type(error).__name__)
            return Outcome(cluster, "incomplete", INCOMPLETE, "", "", round(time.monotonic() - clock, 1), said, moment, _now())

    write(place, summary)
    ended: dict[str, bool] = {}
    working: dict[futures.Future[Outcome], str] = {}
    with futures.ThreadPoolExecutor(summary.options.parallel, thread_name_prefix="kubekeel") as pool:
        while True:
            for cluster in schedule.due(working.values(), ended, cancel.is_set()):
                working[pool.submit(work_on, cluster)] = cluster
            if not working:
                break
            for future in _wait(working, cancel):
                cluster, outcome = working.pop(future), future.result()
                ended[cluster] = outcome.failed
                summary.outcomes.append(outcome)
                write(place, summary)
                callbacks.outcome(outcome)
    summary.not_begun = schedule.waiting((), ended)
    summary.stopped = schedule.stopped(ended, cancel.is_set()) if summary.not_begun else NOTHING
    summary.ended = _now()
    write(place, summary)
    if callbacks.error:
        raise callbacks.error
    return summary


def begun(
    command: str,
    inventory: Inventory,
    options: Options,
    clusters: Sequence[str],
    run_options: Mapping[str, Any],
    kept: pathlib.Path,
) -> Summary:
    """Return the summary of a fleet that is about to begin, with what an earlier one was done with.

    Raises:
        UsageError: options that cannot be meant, or an earlier fleet that did something else.
    """
    path, asked = str(inventory.path.resolve()), checksum(run_options)
    earlier = find(options.resume, kept) if options.resume else None
    if earlier:
        refuse_another(earlier, command, path, clusters, asked)
    options = understood(options, command, clusters, earlier)
    ordered = [*options.canary, *(cluster for cluster in clusters if cluster not in options.canary)]
    outcomes = [outcome for outcome in earlier.outcomes if not outcome.failed] if earlier else []
    moment = datetime.datetime.now(datetime.UTC)
    # Two may begin in the same second.
    name = f"{moment:%Y%m%dT%H%M%SZ}-{command}-{random.randint(10000, 99999)}"  # noqa: S311
    return Summary(name, command, path, ordered, options, asked, _now(), outcomes=outcomes)


def refuse_another(earlier: Summary, command: str, inventory: str, clusters: Collection[str], asked: str) -> None:
    """Refuse to resume a fleet with something else.

    Raises:
        UsageError: the sentence says what differs.
    """
    gone = sorted(set(earlier.clusters) - set(clusters))
    new = sorted(set(clusters) - set(earlier.clusters))
    for differs, what in (
        (earlier.command != command, f"it was '{earlier.command}', not '{command}'"),
        (earlier.inventory != inventory, f"its inventory was {earlier.inventory}, not {inventory}"),
        (gone, f"the inventory has no cluster {', '.join(gone)} any more"),
        (new, f"the inventory did not have {', '.join(new)} then"),
        (earlier.asked != asked, "it was asked for other variables, nodes (--limit) or remedies (--tags), or with or without --check"),
    ):
        if differs:
            raise UsageError(f"Fleet {earlier.id} cannot be resumed: {what}. Begin a new one")


def find(given: str, kept: pathlib.Path) -> Summary:
    """Return an earlier summary.

    Args:
        given: id of a fleet, or the path of its summary or folder.
        kept: where runs and fleets are kept.

    Raises:
        UsageError: there is none, or it cannot be read.
    """
    places = (kept / FOLDER / given / FILE, pathlib.Path(given), pathlib.Path(given) / FILE)
    path = next((place for place in places if place.is_file()), None)
    if not path:
        raise UsageError(f"There is no fleet {given}: neither {places[0]} nor a file of that name")
    try:
        return Summary.from_json(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from error
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error


def write(folder: pathlib.Path, summary: Summary) -> None:
    """Write a summary into its folder: whoever reads it, whenever, finds the old one or the new one.

    Raises:
        OSError: it cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    text = json.dumps(summary.to_json(), indent=1, ensure_ascii=False) + "\n"
    partial = folder / f"{FILE}.partial"
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(folder / FILE)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def of_result(cluster: str, result: Result) -> Outcome:
    """Return the outcome that a run's result makes."""
    about = result.document["run"]
    return Outcome(
        cluster=cluster,
        status=result.status,
        exit_code=result.exit_code,
        run=result.id,
        folder=str(result.folder),
        seconds=about["seconds"],
        headline=headline(result.document),
        began=about["began"],
        ended=about["ended"],
    )


def headline(document: Mapping[str, Any]) -> str:
    """Say in a few words what a result holds: its first failure, or how many nodes, changes and findings."""
    failure = next(iter(document["failures"]), None)
    if failure:
        nodes = ", ".join(failure["nodes"])
        return shorten(f"{nodes}: {failure['message']}" if nodes and not failure["message"].startswith(nodes) else failure["message"])
    counting = [one["severity"] for one in document["findings"] if counts(one, "warning")]
    critical, warnings = counting.count("critical"), counting.count("warning")
    changed, status = len(document["changes"]), document["run"]["status"]
    parts = [
        status if status == "interrupted" else _count(len(document["cluster"]["nodes"]), "node"),
        f"{changed} changed" if changed else "",
        f"{critical} critical" if critical else "",
        _count(warnings, "warning") if warnings else "",
        "nothing found" if status == "ok" and not (changed or critical or warnings) else "",
    ]
    return ", ".join(filter(None, parts))


def shorten(text: str) -> str:
    """Return a text as one line that is not longer than a headline."""
    line = " ".join(text.split())
    return line if len(line) <= HEADLINE else line[: HEADLINE - 3] + "..."


def checksum(run_options: Mapping[str, Any]) -> str:
    """Return a checksum of what runs are asked for; options that are not given count as their defaults, which are all empty."""
    asked = {name: run_options[name] for name in SAME_AGAIN if run_options.get(name)}
    return hashlib.sha256(json.dumps(asked, sort_keys=True, default=str).encode()).hexdigest()


class _Callbacks:
    """Calls what the caller gave, one call at a time; what fails there does no harm to the clusters."""

    def __init__(self, on_event: Callable[[Event], None] | None, on_outcome: Callable[[Outcome], None] | None) -> None:
        self.error: Exception | None = None
        """What was raised first; nothing is called after it."""
        self._on_event, self._on_outcome = on_event, on_outcome
        self._lock = threading.Lock()

    def event(self, event: Event) -> None:
        """Pass an event on."""
        self._call(self._on_event, event)

    def outcome(self, outcome: Outcome) -> None:
        """Pass an outcome on."""
        self._call(self._on_outcome, outcome)

    def _call(self, callback: Callable[[Any], None] | None, value: object) -> None:
        with self._lock:
            if not callback or self.error:
                return
            try:
                callback(value)
            except Exception as error:
                self.error = error


def _wait(working: Collection[futures.Future[Outcome]], cancel: threading.Event) -> Collection[futures.Future[Outcome]]:
    """Return the futures that have ended, at least one but for Ctrl-C."""
    try:
        return futures.wait(working, return_when=futures.FIRST_COMPLETED).done
    except KeyboardInterrupt:
        cancel.set()
        return ()


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
