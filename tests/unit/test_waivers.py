"""Waivers: what counts as one, what it is said of them, and what can never be waived."""

import datetime
import pathlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubekeel import waivers
from kubekeel.errors import UsageError
from kubekeel.result import counts, finding
from kubekeel.waivers import Waiver

TODAY = datetime.date(2026, 11, 22)
VALID = """\
# Why these may be.
waivers:
  - id: net.ipv4.tcp_retries2
    nodes: [server1]
    reason: The database on this node wants its own value (OPS-123)
    expires: 2027-03-01

  - id: leader-elect-*
    reason: "Slow disks"
    expires: "2026-11-22"
"""


def load(tmp_path: pathlib.Path, text: str) -> list[Waiver]:
    path = tmp_path / "waivers.yml"
    path.write_text(text)
    return waivers.load(path, TODAY)


def refused(tmp_path: pathlib.Path, text: str) -> list[str]:
    with pytest.raises(UsageError) as caught:
        load(tmp_path, text)
    return [line.removeprefix(f"{tmp_path}/") for line in str(caught.value).splitlines()]


def one(**changed: str | None) -> str:
    """Return a file with one waiver, of which keys differ or, with None, are missing."""
    keys = {"id": "clock_skew", "reason": "for a while", "expires": "2026-12-01", **changed}
    return "waivers:\n  - " + "\n    ".join(f"{name}: {value}" for name, value in keys.items() if value is not None) + "\n"


def waiver(identifier: str = "a", nodes: tuple[str, ...] = (), expires: datetime.date = TODAY, reason: str = "r") -> Waiver:
    return Waiver(identifier, nodes, reason, expires, "waivers.yml:2")


def test_a_file_is_read(tmp_path: pathlib.Path) -> None:
    first, second = load(tmp_path, VALID)
    assert (first.id, first.nodes, first.expires) == ("net.ipv4.tcp_retries2", ("server1",), datetime.date(2027, 3, 1))
    assert first.reason == "The database on this node wants its own value (OPS-123)"
    assert first.where.endswith("waivers.yml:3")
    assert (second.nodes, second.expires) == ((), TODAY)
    assert second.where.endswith("waivers.yml:8")
    assert load(tmp_path, "waivers: []") == []


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("", 1, "it is empty"),
        ("- id: a", 1, "this is no mapping"),
        ("waivers: []\nwaiver: []", 2, "unknown key 'waiver'"),
        ("waivers:\n", 1, "'waivers' is a list"),
        ("waivers:\n  - clock_skew\n", 2, "this is no mapping"),
        (one(node="[server1]"), 5, "unknown key 'node'"),
        (one() + "    reason: another\n", 5, "'reason' stands here twice"),
        (one(reason=None), 2, "'reason' is missing"),
        (one(reason="' '"), 3, "'reason' says nothing"),
        (one(reason="~"), 3, "'reason' says nothing"),
        (one(reason="[a]"), 3, "'reason' says nothing"),
        (one(expires=None), 2, "'expires' is missing"),
        (one(expires="never"), 4, "'expires' is no date: write it as 2027-11-23"),
        (one(expires="2027-02-30"), 4, "'expires' is no date"),
        (one(expires="20270301"), 4, "'expires' is no date"),
        (one(expires="2027-03-01 10:00:00"), 4, "'expires' is no date"),
        (one(expires="2027-11-24"), 4, "'expires' is more than 366 days ahead: give 2027-11-23 at the latest"),
        (one(id=None), 2, "'id' is missing"),
        (one(id="'*'"), 2, "'*' would waive everything"),
        (one(id="*"), 2, "put what begins with '*' in quotes"),
        (one(id="'[a'\n  - ]"), 3, "this is not YAML"),
        (one(nodes="server1"), 5, "'nodes' is a list"),
        (one(nodes="[]"), 5, "'nodes' is a list"),
        (one(nodes="[server1, ~]"), 5, "'nodes' says nothing"),
        (one() + "---\n" + one(), 5, "this is not YAML"),
    ],
)
def test_what_is_not_as_it_has_to_be_is_refused_with_its_line(tmp_path: pathlib.Path, text: str, line: int, said: str) -> None:
    problems = refused(tmp_path, text)
    assert len(problems) == 1
    assert problems[0].startswith(f"waivers.yml:{line}: ")
    assert said in problems[0]


def test_every_mistake_is_named_at_once(tmp_path: pathlib.Path) -> None:
    problems = refused(tmp_path, one(reason=None, expires="soon") + "  - id: b\n    why: c\n")
    assert [problem.split(":")[1] for problem in problems] == ["2", "3", "5", "4", "4"]


@pytest.mark.parametrize("content", [b"waivers: \xff", b"a: \x00", b"[" * 1500])
def test_what_is_no_text_is_refused(tmp_path: pathlib.Path, content: bytes) -> None:
    path = tmp_path / "waivers.yml"
    path.write_bytes(content)
    with pytest.raises(UsageError, match="YAML"):
        waivers.load(path)


def test_a_file_that_is_not_there_is_refused(tmp_path: pathlib.Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        waivers.load(tmp_path / "none.yml")
    with pytest.raises(UsageError, match="cannot be read"):
        waivers.load(tmp_path)


@pytest.mark.parametrize(
    ("identifier", "nodes", "waived"),
    [
        ("net.ipv4.tcp_retries2", (), True),
        ("net.ipv4.tcp_retries2", ("server1",), True),
        ("net.ipv4.tcp_retries2", ("server2", "server1"), True),
        ("net.ipv4.tcp_retries2", ("server",), False),
        ("net.ipv4.*", (), True),
        ("net.ipv4", (), False),
        ("NET.IPV4.TCP_RETRIES2", (), False),
        ("net.ipv4.tcp_retries[13]", (), False),
        ("net.ipv4.tcp_retries?", ("server1",), True),
    ],
)
def test_which_finding_a_waiver_names(identifier: str, nodes: tuple[str, ...], waived: bool) -> None:
    found = finding("net.ipv4.tcp_retries2", "setting", "warning", "fail", node="server1")
    (after,), told = waivers.apply([found], [waiver(identifier, nodes)], TODAY)
    assert after["waiver"] == ({"reason": "r", "expires": "2026-11-22"} if waived else None)
    assert counts(after, "info") is not waived
    assert bool(told) is not waived
    assert found["waiver"] is None, "what was given stays as it is"


def test_a_waiver_counts_until_the_end_of_its_day() -> None:
    found = finding("a", "setting", "warning", "fail", node="server1")
    (after,), told = waivers.apply([found], [waiver()], TODAY + datetime.timedelta(days=1))
    assert after["waiver"] is None
    assert told == [
        "waivers.yml:2: the waiver for a expired on 2026-11-22 and does not count: look at it again, then give it a new date or remove it"
    ]
    assert "nothing needs it any more" in waivers.apply([], [waiver()], TODAY + datetime.timedelta(days=1))[1][0]


def test_a_later_waiver_takes_the_place_of_one_that_expired() -> None:
    found = finding("a", "setting", "warning", "fail", node="server1")
    old = waiver(expires=TODAY - datetime.timedelta(days=1))
    (after,), told = waivers.apply([found], [old, waiver(reason="new"), waiver(reason="never")], TODAY)
    assert after["waiver"]["reason"] == "new"
    assert len(told) == 1


def test_what_is_fine_needs_no_waiver() -> None:
    found = [finding("a", "remedy", "info", status, node="server1") for status in ("pass", "skip")]
    after, told = waivers.apply(found, [waiver(nodes=("server1",))], TODAY)
    assert [each["waiver"] for each in after] == [None, None]
    assert told == [
        "waivers.yml:2: the waiver for a on server1 waives nothing, no finding of this run has that id there: correct or remove it"
    ]


@pytest.mark.parametrize("node", ["", "server1"])
def test_a_cluster_that_could_not_be_read_cannot_be_waived(node: str) -> None:
    found = finding("cluster_health", "cluster", "critical", "unknown", node=node)
    (after,), told = waivers.apply([found], [waiver("cluster_*")], TODAY)
    assert after["waiver"] is None
    assert counts(after, "critical")
    assert len(told) == 1
    assert told[0].startswith("waivers.yml:2: the waiver for cluster_* does not count for cluster_health: it could not be read")


def test_a_node_that_could_not_be_read_can_be_waived() -> None:
    found = finding("node_unread", "node", "critical", "unknown", node="server1")
    (after,), told = waivers.apply([found], [waiver("node_unread", ("server1",))], TODAY)
    assert not counts(after, "critical")
    assert told == []


WORDS = st.sampled_from(["a", "ab", "b*", "[", "*a", ""])


@given(
    st.lists(
        st.builds(
            lambda identifier, severity, status, node: finding(identifier, "cluster", severity, status, node=node),
            WORDS,
            st.sampled_from(["info", "warning", "critical"]),
            st.sampled_from(["pass", "fail", "warn", "skip", "unknown"]),
            st.sampled_from(["", "n"]),
        )
    ),
    st.lists(
        st.builds(waiver, WORDS, st.sampled_from([(), ("n",), ("",)]), st.dates(datetime.date(2026, 11, 20), datetime.date(2026, 11, 24)))
    ),
)
def test_applying_changes_nothing_but_the_waiver(findings: list[dict[str, object]], given_waivers: list[Waiver]) -> None:
    after, _told = waivers.apply(findings, given_waivers, TODAY)
    assert [{**each, "waiver": None} for each in after] == findings
    for each in after:
        if each["status"] == "unknown" and each["severity"] == "critical":
            assert each["waiver"] is None
        if each["waiver"]:
            assert each["status"] in ("fail", "warn", "unknown")
            assert str(each["waiver"]["expires"]) >= TODAY.isoformat()
