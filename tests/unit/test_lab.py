"""What the lab computes: which requests were lost, and how kubelite reads a file. Tables worked out by hand."""

import pathlib
import runpy

import pytest

from lab.traffic.samples import Interval, Sample, down_intervals, none_answered, summarize_node

ROOT = pathlib.Path(__file__).parents[2]
READER = runpy.run_path(str(ROOT / "lab/node/snap/microk8s/current/kubelite_args.py"))


def session(answers: str) -> list[Sample]:
    """One request a second that takes half a second; '.' is a good answer, 'x' none."""
    return [Sample(1000.0 + at, at, at + 0.5, "" if answer == "." else "refused") for at, answer in enumerate(answers)]


def test_a_node_s_requests_are_counted_over_all_its_clients() -> None:
    found = summarize_node([session(".xx.."), session("..x")])
    assert (found.requests, found.failed, found.problems) == (8, 3, {"refused": 3})
    assert (found.first_failure, found.last_failure) == (1001.0, 1002.0)
    assert found.longest_gap == 3.0


def test_a_session_that_never_had_an_answer_is_one_gap() -> None:
    assert summarize_node([session("xxx")]).longest_gap == 2.5
    assert summarize_node([[]]).requests == 0


@pytest.mark.parametrize(
    ("answers", "expected"),
    [("...", []), (".x.", [Interval(1.0, 2.5)]), (".xx", [Interval(1.0, 2.5)]), ("x.x.", [Interval(0.0, 1.5), Interval(2.0, 3.5)])],
)
def test_a_server_is_down_from_the_question_that_failed_to_its_next_answer(answers: str, expected: list[Interval]) -> None:
    assert down_intervals(session(answers)) == expected


@pytest.mark.parametrize(
    ("servers", "expected"),
    [
        ((".x...", "...x.", "....."), []),
        ((".xx..", "..xx.", "....."), []),
        ((".xxx.", "..xx.", ".xx.."), [Interval(2.0, 3.5)]),
        (("x", "x", "x"), [Interval(0.0, 0.5)]),
    ],
)
def test_moments_in_which_no_server_answered(servers: tuple[str, ...], expected: list[Interval]) -> None:
    assert none_answered({str(number): session(answers) for number, answers in enumerate(servers)}) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("--a=1\n--b 2\n", ["--a=1", "--b", "2"]),
        ('--a="x y"\n', ["--a=x", "y"]),
        ("--a=1 # note\n", ["--a=1", "#", "note"]),
        ("  # note\n\n--a  b\r\n", ["--a", "", "b"]),
        ("--a=$X/${X}/$NONE/$", ["--a=1/1//$"]),
        ("--a=$$-${}-${X", ["--a=--X"]),
        ("\x1f--a\n", ["\x1f--a"]),
    ],
)
def test_kubelite_s_reader(text: str, expected: list[str]) -> None:
    assert READER["read_args"](text, {"X": "1"}) == expected


def test_kubelite_s_reader_gives_up_on_a_line_that_bufio_cannot_hold() -> None:
    assert READER["read_args"]("x" * 65535, {}) == ["x" * 65535]
    with pytest.raises(ValueError, match="token too long"):
        READER["read_args"]("x" * 65536, {})
