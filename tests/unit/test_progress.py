"""Progress of runs: what the events tell, the table on a terminal, and the lines elsewhere."""

import io
import re
import threading
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console, RenderableType

from kubekeel.events import STEPS, Event
from kubekeel.progress import Cluster, Progress, State, describe, draw, duration, shortened

BEGAN = 1000.0


def event(kind: str, node: str = "", step: str = "", text: str = "", at: float = 0.0, cluster: str = "lab", run: str = "r") -> Event:
    return Event(kind, cluster, run, BEGAN + at, node=node, step=step, text=text)


def after(*events: Event, clusters: Sequence[str] = ()) -> State:
    state = State(BEGAN, {name: Cluster() for name in clusters})
    for each in events:
        state = state.after(each)
    return state


def shown(renderable: RenderableType, width: int = 80) -> list[str]:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(renderable)
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


TEXTS = st.one_of(st.sampled_from(["", "server1", "[bold]x[/bold]", "[/nothing]", "a\nb", "\x1b[2J", "日本語" * 9, "x" * 999]), st.text())
EVENTS = st.builds(
    Event,
    kind=st.sampled_from(["play", "step", "waits", "text", "failed", "unreachable", "end", "", "later"]),
    cluster=st.sampled_from(["", "a", "b"]) | TEXTS,
    run=st.sampled_from(["r", "s"]),
    at=st.floats(BEGAN - 100, BEGAN + 1e6),
    node=st.sampled_from(["", "server1", "server2"]) | TEXTS,
    task=TEXTS,
    step=st.sampled_from(["", "unheard of", *STEPS]),
    text=TEXTS,
)


@settings(deadline=None, max_examples=60)
@given(st.lists(EVENTS, max_size=25), st.integers(20, 200), st.integers(1, 60))
def test_no_order_of_events_is_too_odd_to_be_shown(events: list[Event], width: int, rows: int) -> None:
    state = after(*events)
    lines = shown(draw(state, BEGAN + 50, width, rows), width)
    assert len(lines) <= max(rows, 4)
    assert all(cell_len(line) <= width for line in lines)
    assert not any(character < " " or character == "\x9b" for line in lines for character in line)
    output = io.StringIO()
    with Progress(console=Console(file=output, color_system=None), clock=lambda: BEGAN) as progress:
        for each in events:
            progress(each)
    assert all(re.match(r"[0-9]+\.[0-9] s  ", line) for line in output.getvalue().splitlines())


@given(st.lists(EVENTS, max_size=15), st.sampled_from(STEPS))
def test_a_node_that_failed_stays_so_until_it_is_safe(events: list[Event], step: str) -> None:
    state = after(*events, event("failed", "server9", text="no space"), event("step", "server9", step, at=5))
    node = state.clusters["lab"].nodes["server9"]
    assert node.failed is (step not in ("safe", "done"))
    assert describe(node).startswith("failed") is node.failed


def test_a_node_from_step_to_step() -> None:
    def words(*events: Event) -> str:
        return describe(after(*events).clusters["lab"].nodes["server1"])

    steps = [event("step", "server1", "restarting"), event("step", "server1", "settling", at=3)]
    assert words(steps[0]) == "restarting"
    assert (
        words(event("step", "server1", "waiting"), event("waits", "server1", text="server2 is NotReady"))
        == "waiting for server2 is NotReady"
    )
    assert words(*steps, event("waits", "server1", text="x", at=4)) == "settling, waiting for x"
    assert words(*steps, event("waits", "server1", text="x", at=4), event("step", "server1", "safe", at=5)) == "safe"
    assert words(event("unreachable", "server1", text="no route")) == "failed: unreachable: no route"
    assert words(event("failed", "server1", text="x"), event("step", "server1", "taking back", at=1)) == "failed, taking back"


def test_waiting_does_not_begin_anew_with_each_look() -> None:
    state = after(event("step", "server1", "waiting", at=1), *(event("waits", "server1", text=f"{n}", at=n) for n in range(2, 9)))
    assert state.clusters["lab"].nodes["server1"].since == BEGAN + 1
    assert "39 s" in shown(draw(state, BEGAN + 40, 80, 20))[1]


def test_another_run_of_the_same_cluster_begins_anew() -> None:
    state = after(event("failed", "server1"), event("end", text="failed", at=1), event("play", text="Survey", at=9, run="later"))
    assert state.clusters["lab"] == Cluster("later", title="Survey", began=BEGAN + 9)


@pytest.mark.parametrize(("seconds", "text"), [(-3, "0 s"), (59.9, "59 s"), (60, "1:00"), (3599, "59:59"), (3725, "1:02:05")])
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_thirty_nodes_on_a_small_terminal() -> None:
    nodes = [f"server{number:02}" for number in range(1, 31)]
    state = after(
        event("play", text="Remediate"),
        *(event("step", node, "reading") for node in nodes),
        *(event("step", node, "safe", at=10) for node in nodes[:9]),
        event("step", "server10", "restarting", at=20),
        event("step", "server30", "waiting", at=20),
        event("waits", "server30", text="[red]the API of server02[/red] does not answer, and so does not that of server03", at=21),
        event("failed", "server29", text="disk\x1b[31m full", at=21),
    )
    lines = shown(draw(state, BEGAN + 80, 60, 16), 60)
    assert lines[0] == "1:20  lab: Remediate"
    assert len(lines) == 15
    assert all(len(line) <= 60 for line in lines)
    assert re.fullmatch(r"server10 +restarting +1:00", next(line for line in lines if line.startswith("server10")))
    assert re.fullmatch(r"server30 +waiting for \[red\]the API of server.*… +1:00", lines[-2])
    assert re.fullmatch(r"server29 +failed: disk\?\[31m full +59 s", lines[-3])
    assert re.fullmatch(r"and 17 more: 9 safe, 8 reading", lines[-1]), "those where nothing happens are left out first"
    assert len(shown(draw(state, BEGAN + 80, 60, 50), 60)) == 31


def test_nodes_that_differ_at_the_end_of_their_names_can_be_told_apart() -> None:
    names = [f"kubernetes-production-server{number}.example.org" for number in range(3)]
    state = after(*(event("step", name, "reading") for name in names))
    lines = shown(draw(state, BEGAN, 60, 20), 60)
    assert [line.split()[0] for line in lines[1:]] == [f"…-production-server{number}" for number in range(3)]


@given(st.lists(st.text("ab.", min_size=1), unique=True, min_size=1), st.integers(2, 20))
def test_shortened_names_fit(names: list[str], room: int) -> None:
    short = shortened(names, room)
    assert list(short) == names
    assert all(0 < len(text) <= room for text in short.values())


def test_a_fleet_has_a_row_for_each_cluster() -> None:
    state = after(
        event("step", "server1", "reading", cluster="berlin"),
        event("step", "server2", "restarting", at=5, cluster="berlin"),
        event("step", "server1", "safe", at=6, cluster="berlin"),
        event("failed", "server3", text="disk full", cluster="essen", at=7),
        event("end", text="failed", cluster="essen", at=30),
        event("end", text="ok", cluster="ulm", at=9),
        clusters=["berlin", "ulm", "essen", "bonn"],
    )
    lines = [re.sub(" {2,}", " | ", line) for line in shown(draw(state, BEGAN + 65, 72, 20), 72)]
    assert lines == [
        "1:05 | 4 clusters: 1 ok, 1 failed, 1 at work, 1 waiting",
        "berlin server2: restarting | 1:00",
        "ulm | ok | 0 s",
        "essen | failed: server3 failed: disk full | 23 s",
        "bonn | waits for its turn",
    ]


def lines_of(*events: Event, clusters: Sequence[str] = (), **environment: str) -> list[str]:
    output = io.StringIO()
    console = Console(file=output, force_terminal=bool(environment), _environ=environment, color_system=None)
    with Progress(clusters, console=console, clock=lambda: BEGAN) as progress:
        for each in events:
            progress(each)
    return output.getvalue().splitlines()


def test_without_a_terminal_there_is_a_line_for_each_change() -> None:
    events = [
        event("play", text="Survey"),
        event("step", "server1", "reading", at=0.5),
        event("text", text="REPORT", at=1),
        event("step", "server1", "restarting", at=12.34),
        event("step", "server1", "restarting", at=13),
        event("step", "server1", "failed", at=14),
        event("failed", "server1", text="[red]no\nspace[/red] " + "x" * 999, at=14),
        event("end", text="failed", at=15),
    ]
    lines = lines_of(*events)
    assert [line[:45].rstrip("x") for line in lines] == [
        "0.5 s  server1: reading",
        "12.3 s  server1: restarting",
        "14.0 s  server1: failed: [red]no space[/red] ",
        "15.0 s  lab: failed",
    ]
    assert max(len(line) for line in lines) < 350
    assert lines_of(*events, TERM="dumb") == lines


def test_the_same_wait_is_said_every_ten_seconds() -> None:
    waits = [event("waits", "server1", text=f"server2 is NotReady for {second} s", at=second) for second in range(1, 26)]
    other = event("waits", "server1", text="etcd has no leader", at=12.5)
    lines = lines_of(event("step", "server1", "settling"), *waits[:12], other, *waits[12:])
    assert [line.split(" s  ")[0] for line in lines] == ["0.0", "1.0", "11.0", "12.5", "21.0"]
    again = lines_of(*waits[:3], event("step", "server1", "safe", at=4), event("step", "server1", "waiting", at=5), waits[5])
    assert [line.partition(": ")[2] for line in again][-1] == "waiting for server2 is NotReady for 6 s", "another wait of the same kind"


def test_lines_of_a_fleet_name_the_cluster() -> None:
    assert lines_of(
        event("step", "server1", "reading", cluster="ulm"), event("end", text="ok", cluster="ulm", at=1), clusters=["ulm", "bonn"]
    ) == [
        "0.0 s  ulm server1: reading",
        "1.0 s  ulm: ok",
    ]


def test_quiet_shows_nothing() -> None:
    for console in (Console(file=io.StringIO()), Console(file=io.StringIO(), force_terminal=True, _environ={"TERM": "xterm"})):
        with Progress(quiet=True, console=console) as progress:
            progress(event("step", "server1", "reading"))
        assert progress.state.clusters["lab"].nodes["server1"].step == "reading"
        assert isinstance(console.file, io.StringIO)
        assert console.file.getvalue() == ""


def test_a_reader_that_went_away_does_not_end_the_run() -> None:
    output = io.StringIO()
    with Progress(console=Console(file=output)) as progress:
        output.close()
        progress(event("step", "server1", "reading"))


@pytest.mark.parametrize(("environment", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_the_table_on_a_terminal(environment: dict[str, str], coloured: bool) -> None:
    output = io.StringIO()
    terminal = {"TERM": "xterm", **environment}
    console = Console(file=output, force_terminal=True, width=60, height=20, color_system="standard", _environ=terminal)
    drawn = threading.Event()
    write = output.write

    def note(text: str) -> int:
        if "restarting" in text:
            drawn.set()
        return write(text)

    output.write = note  # type: ignore[method-assign]
    with Progress(console=console) as progress:
        progress(event("step", "server1", "restarting"))
        assert drawn.wait(20), "rich's own thread draws what is known, without a further event"
        progress(event("step", "server1", "safe", at=2))
    text = output.getvalue()
    assert ("\x1b[36m" in text) is coloured
    assert re.search(r"server1 .*safe", text[text.rindex("restarting") :]), "the end stays on the screen"
    assert text.rstrip("\n").endswith("\x1b[?25h"), "the cursor is back"


def test_many_runs_may_tell_at_once() -> None:
    progress = Progress(console=Console(file=io.StringIO()))

    def tell(cluster: str) -> None:
        for number in range(50):
            progress(event("step", f"server{number}", "reading", cluster=cluster))

    threads = [threading.Thread(target=tell, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {name: len(cluster.nodes) for name, cluster in progress.state.clusters.items()} == dict.fromkeys("abcd", 50)
