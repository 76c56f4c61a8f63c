"""Explanations: every id that a result may hold is known, and nothing in its texts is left open."""

import io
import re
from collections.abc import Collection

import pytest
from ansible_collections.kubekeel.ha.plugins.module_utils import guards, known_bugs, settings, timing
from rich.console import Console, RenderableType

from kubekeel import explain, result
from kubekeel.errors import UsageError


def shown(renderable: RenderableType, width: int = 100) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(renderable)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_every_source_is_explained() -> None:
    known = explain.known()
    assert len(set(known)) == len(known)
    bugs = [bug.source for bug in known_bugs.BUGS]
    sources: list[Collection[str]] = [settings.SETTINGS, settings.DEAD_FLAGS, guards.GUARDS, bugs, explain.remedies(), result.RULES]
    assert {name for source in sources for name in source} <= set(known)
    assert len(known) >= sum(len(source) for source in sources) + len(timing.RULES), "no id hides another one"


@pytest.mark.parametrize("identifier", explain.known())
def test_no_text_is_left_open(identifier: str) -> None:
    found = explain.explain(identifier)
    assert found.kind in explain.KINDS
    assert found.title
    assert found.why
    assert found.remedy
    for text in (found.title, found.why, found.remedy, found.source):
        assert "%(" not in text
        assert not re.search(r"\b[VCOMPI]\(", text), "markup of ansible-doc"
        assert not re.search(r"[a-z][A-Z]{3,}\b", text), "a placeholder is glued to a word"


@pytest.mark.parametrize(
    ("identifier", "kind", "variables"),
    [
        ("net.ipv4.tcp_retries2", explain.SETTING, ["tcp_timeouts_retries2"]),
        ("--leader-elect-lease-duration", explain.SETTING, ["leader_election_lease_duration"]),
        ("node-monitor-grace-period", explain.SETTING, ["node_lifecycle_monitor_grace_period"]),
        ("nodeLeaseDurationSeconds", explain.SETTING, ["node_lifecycle_node_lease_duration"]),
        ("HTTP2_PING_TIMEOUT_SECONDS", explain.SETTING, ["node_lifecycle_http2_ping_timeout"]),
        ("election-timeout", explain.SETTING, ["leader_election_etcd_election_timeout"]),
        ("proxy-mode", explain.SETTING, ["kube_proxy_mode"]),
        ("server", explain.SETTING, ["k3s_registration_address"]),
        ("timing:lease_duration,renew_deadline", explain.RULE, ["leader_election_lease_duration", "leader_election_renew_deadline"]),
        ("clock_skew", explain.GUARD, ["preflight_accept"]),
        ("snap_hold", explain.GUARD, []),
        ("k3s-io/k3s#11349", explain.BUG, []),
        ("pod-eviction-timeout", explain.DEAD_FLAG, []),
        ("eviction", explain.REMEDY, ["eviction_not_ready_toleration_seconds", "eviction_unreachable_toleration_seconds"]),
        ("cluster_health", explain.FINDING, []),
    ],
)
def test_kinds_and_variables(identifier: str, kind: str, variables: list[str]) -> None:
    found = explain.explain(identifier)
    assert found.kind == kind
    assert [text.partition(" ")[0] for text in found.settable_by] == variables


def test_every_setting_but_one_has_its_variable() -> None:
    without = [name for name in settings.SETTINGS if not explain.explain(name).settable_by]
    assert without == ["config"], "kubekeel's own file of the kubelet"
    options = {option for role in explain.remedies() for option in explain.explain(role).settable_by}
    assert {text.partition(" ")[0] for name in settings.SETTINGS for text in explain.explain(name).settable_by} <= options


def test_variables_come_with_what_the_profiles_have_for_them() -> None:
    assert explain.explain("default-unreachable-toleration-seconds").settable_by == (
        "eviction_unreachable_toleration_seconds (fast 15, balanced 60, conservative 300)",
    )


def test_what_differs_from_case_to_case_stands_in_capitals() -> None:
    assert explain.explain("node_cordoned").title == "node NODE is cordoned"
    assert explain.explain("clock_skew").title.startswith("the clock of SERVER is at least SECONDS s")
    assert explain.explain("snap_held").title == "refreshes of MicroK8s are held", "what may be empty is left out"
    assert explain.explain("snap_refresh").title == "snapd is at work on NODE: CHANGE"
    assert "annotate daemonset DAEMON_SET" in explain.explain("reboots_by_kured").remedy
    assert "preflight_accept" in explain.explain("reboots_by_kured").remedy
    assert "preflight_accept" not in explain.explain("snap_hold").remedy


def test_a_bug_names_the_releases_without_it() -> None:
    assert explain.explain("k3s-io/k3s#11349").remedy.startswith("mended in 1.32.0, 1.31.4, 1.30.8, 1.29.12; until then: ")
    assert "mended in 1" not in explain.explain("canonical/k8s-dqlite#364").remedy


@pytest.mark.parametrize(
    ("identifier", "likely"),
    [
        ("clok_skew", "clock_skew"),
        ("tcp_retries", "net.ipv4.tcp_retries2"),
        ("11349", "k3s-io/k3s#11349"),
        ("--LEADER-ELECT-retry-period", "leader-elect-retry-period"),
    ],
)
def test_a_slip_of_the_pen_is_understood(identifier: str, likely: str) -> None:
    assert explain.suggest(identifier)[0] == likely
    with pytest.raises(UsageError, match="Did you mean " + re.escape(likely)):
        explain.explain(identifier)


@pytest.mark.parametrize("identifier", ["", "-", "zzzzzzzz", "[bold]"])
def test_what_is_like_nothing(identifier: str) -> None:
    assert explain.suggest(identifier) == []
    with pytest.raises(UsageError, match="lists every id"):
        explain.explain(identifier)


@pytest.mark.parametrize("width", [60, 100])
def test_the_overview_breaks_no_id(width: int) -> None:
    text = shown(explain.overview(), width)
    lines = [line.split() for line in text.splitlines()]
    first = {words[0] for words in lines if words}
    long = {name for name in explain.known() if len(name) > width - 4}
    assert set(explain.known()) - first == long
    assert all(headline in text for kind, headline in explain.KINDS.items() if kind != explain.CHECK)


def test_an_explanation_on_the_screen() -> None:
    lines = shown(explain.draw(explain.explain("node_cordoned")), 200).splitlines()
    assert lines[:2] == ["node_cordoned  guard", "node NODE is cordoned"]
    assert [line.split("  ")[0] for line in lines[3:]] == ["why", "to do", "set by", "source"]
