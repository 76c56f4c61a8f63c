"""What speaks against a change although the cluster is up: the table, the finders, what preflight makes of it."""

import email.utils
import http.client
import http.server
import json
import os
import pathlib
import runpy
import shlex
import string
import subprocess
import sys
import threading
import time
import types
from typing import Any

import pytest
import yaml
from ansible_collections.kubekeel.ha.plugins.module_utils import (
    cluster_guards,
    failover,
    guards,
    health,
    known_bugs,
    kube_api,
    node_guards,
    node_state,
    release,
    settings,
    snapd,
)
from ansible_collections.kubekeel.ha.plugins.module_utils.kube_api import Stamp
from ansible_collections.kubekeel.ha.plugins.module_utils.node_guards import MIB, Place, Snaps, State
from ansible_collections.kubekeel.ha.plugins.modules import cluster_health
from ansible_collections.kubekeel.ha.plugins.plugin_utils import findings
from hypothesis import given
from hypothesis import strategies as st

ROOT = pathlib.Path(__file__).parents[2]
NOON = 1795260000.0


# -- The table ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("guard", guards.GUARDS.values(), ids=list(guards.GUARDS))
def test_every_guard_says_everything(guard: guards.Guard) -> None:
    for text in (guard.what, guard.why, guard.cure, guard.source):
        assert text
        assert text == text.strip().rstrip(".")


def test_a_sentence_says_what_why_and_how_to_go_on() -> None:
    found = guards.found("node_cordoned", node="n1")
    guard = guards.GUARDS["node_cordoned"]
    assert found["text"] == f"node n1 is cordoned. Why: {guard.why}. To do: ask who it is; 'kubectl uncordon n1' ends it ({guard.source})"
    assert found["accept"] == """-e '{"preflight_accept": ["node_cordoned"]}'"""
    assert (found["name"], found["refuses"]) == ("node_cordoned", True)
    assert guards.found("snap_hold")["accept"] == ""


@pytest.mark.parametrize("names", [["clock_skew"], list(guards.ACCEPTABLE)])
def test_a_shell_takes_the_option_as_it_is_said(names: list[str]) -> None:
    option, value = shlex.split(guards.accept(names))
    assert (option, json.loads(value)) == ("-e", {"preflight_accept": names})


# -- Clocks ------------------------------------------------------------------------------------------------------------


def stamp(date: float, asked: float = NOON, answered: float | None = None) -> Stamp:
    return Stamp(email.utils.formatdate(int(date), usegmt=True), asked, asked if answered is None else answered)


@pytest.mark.parametrize(
    ("seen", "seconds"),
    [
        (stamp(NOON), 0.0),
        (stamp(NOON + 3), 3.0),
        (stamp(NOON + 3, NOON, NOON + 1.5), 1.5),
        (stamp(NOON + 3, NOON, NOON + 4), 0.0),
        (stamp(NOON - 3), -2.0),
        (stamp(NOON - 3, NOON, NOON + 4), -2.0),
        (stamp(NOON - 1, NOON + 0.9), -0.9),
        (stamp(NOON - 1, NOON - 0.5), 0.0),
        (Stamp("soon", NOON, NOON), 0.0),
        (Stamp("", NOON, NOON), 0.0),
        (Stamp("Sat, 21 Nov 99999 03:00:00 GMT", NOON, NOON), 0.0),
    ],
)
def test_how_far_clocks_are_apart_for_certain(seen: Stamp, seconds: float) -> None:
    assert cluster_guards.apart(seen) == pytest.approx(seconds)


@given(skew=st.floats(-100, 100), length=st.floats(0, 4), share=st.floats(0, 1), start=st.floats(0, 2))
def test_no_clock_is_blamed_for_more_than_it_is_off_and_a_second_at_most_is_forgiven(
    skew: float, length: float, share: float, start: float
) -> None:
    asked = NOON + start
    written = asked + share * length + skew
    found = cluster_guards.apart(stamp(written, asked, asked + length))
    assert abs(found) <= abs(skew) + 1e-6
    assert found * skew >= 0
    assert abs(found) >= abs(skew) - 1 - length - 1e-6


class Clock(http.server.BaseHTTPRequestHandler):
    """Answers with the time of a clock that is ten seconds ahead."""

    def date_time_string(self, timestamp: float | None = None) -> str:
        return email.utils.formatdate((timestamp or time.time()) + 10, usegmt=True)

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/readyz" else 500)
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_: object) -> None:
        """Stay silent."""


def test_the_clock_of_a_server_is_in_its_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def plain(host: str, port: int, timeout: float, context: object) -> http.client.HTTPConnection:
        assert context is None
        return http.client.HTTPConnection(host, port, timeout=timeout)

    nobody: Any = types.SimpleNamespace(context=None, token=None)
    monkeypatch.setattr(kube_api, "_Connection", plain)
    with http.server.HTTPServer(("127.0.0.1", 0), Clock) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with kube_api.Session(nobody, "127.0.0.1", 5, server.server_port) as session:
            assert session.stamp is None
            session.request("GET", "/readyz")
            assert session.stamp is not None
            assert 8 < cluster_guards.apart(session.stamp) <= 10
        server.shutdown()


# -- The cluster -------------------------------------------------------------------------------------------------------


def a_node(number: int, text: str = "v1.32.3+k3s1", role: str = "server", cordoned: bool = False) -> dict[str, Any]:
    return {"name": f"n{number}", "address": f"10.0.0.{number}", "role": role, "release": text, "cordoned": cordoned}


def a_lock(*, name: str = "kured", value: object = None, **annotations: str) -> dict[str, Any]:
    noted = {cluster_guards.KURED_LOCK: value if isinstance(value, str) else json.dumps(value)} if value is not None else {}
    return {"metadata": {"name": name, "namespace": "kube-system", "annotations": {**noted, **annotations}}}


def a_plan(applying: object) -> dict[str, Any]:
    return {"metadata": {"name": "server-plan", "namespace": "system-upgrade"}, "status": {"applying": applying}}


NODES = [a_node(1), a_node(2), a_node(3), a_node(4, role="agent")]
# As kured writes it (kubereboot/kured internal/daemonsetlock).
LOCK = {"nodeID": "n2", "metadata": {"unschedulable": False}, "created": "2026-11-21T02:58:11.4Z", "TTL": 0}


def found_in(nodes: list[dict[str, Any]] = NODES, ignore: tuple[str, ...] = (), **more: Any) -> list[tuple[str, str]]:
    seen = cluster_guards.Seen(**{"observer": "n1", "nodes": nodes, "stamps": {}, **more})
    return [(one["name"], one["text"].split(". Why: ")[0]) for one in cluster_guards.find(seen, ignore)]


def test_nothing_speaks_against_a_change_in_a_cluster_that_nobody_works_on() -> None:
    stamps = {"10.0.0.1": stamp(NOON), "10.0.0.2": stamp(NOON + 2), "10.0.0.3": stamp(NOON - 3)}
    assert found_in(stamps=stamps, daemon_sets=[{"metadata": {"name": "x"}}, a_lock()], plans=[a_plan(None), {"metadata": {}}]) == []


@pytest.mark.parametrize(
    ("seen", "name", "part"),
    [
        (
            {"stamps": {"10.0.0.2": stamp(NOON + 9), "10.0.0.1": stamp(NOON)}},
            "clock_skew",
            "the clock of n2 is at least 9.0 s ahead of that of n1",
        ),
        ({"stamps": {"10.9.9.9": stamp(NOON - 9)}}, "clock_skew", "the clock of 10.9.9.9 is at least 8.0 s behind that of n1"),
        ({"nodes": [a_node(1), a_node(2, "v1.31.3+k3s1")]}, "mixed_releases", "the nodes are of different minor releases"),
        ({"nodes": [*NODES, a_node(5, "v1.31.9", "agent")]}, "mixed_releases", "the nodes are of different minor releases"),
        ({"nodes": [a_node(1), a_node(2, "v1.32.4+k3s1")]}, "mixed_releases", "the servers are of different patch releases"),
        ({"nodes": [a_node(1), a_node(2, cordoned=True)]}, "node_cordoned", "node n2 is cordoned"),
        (
            {"daemon_sets": [a_lock(name="mine-kured", value=LOCK)]},
            "reboots_by_kured",
            "n2 holds the lock of kured (DaemonSet kube-system/mine-kured) since 2026-11-21T02",
        ),
        ({"plans": [a_plan(["n2", "n3"])]}, "upgrade_in_progress", "is applying its Plan system-upgrade/server-plan to n2, n3"),
    ],
)
def test_what_speaks_against_a_change_in_a_cluster(seen: dict[str, Any], name: str, part: str) -> None:
    ((found, what),) = found_in(**seen)
    assert found == name
    assert part in what


def test_releases_are_named_with_their_nodes() -> None:
    seen = cluster_guards.Seen("n1", [a_node(1), a_node(2, "v1.31.3"), a_node(3), a_node(4, "soon")], {})
    (found,) = cluster_guards.find(seen)
    assert "minor releases: 1.31 on n2; 1.32 on n1, n3. Why: " in found["text"]


@pytest.mark.parametrize(
    "nodes",
    [
        [a_node(1), a_node(2, "v1.32.3+k3s2")],
        [a_node(1), a_node(2, "v1.32.9", "agent")],
        [a_node(1), a_node(2, "")],
    ],
)
def test_releases_that_are_alike_enough(nodes: list[dict[str, Any]]) -> None:
    assert found_in(nodes) == []


@pytest.mark.parametrize("entry", ["n2", "10.0.0.2", "n2.example.org"])
def test_a_node_that_is_known_to_be_down_may_be_of_any_release_and_cordoned(entry: str) -> None:
    nodes = [a_node(1), a_node(2, "v1.30.1", cordoned=True)]
    assert len(found_in(nodes)) == 2
    assert found_in(nodes, (entry,)) == []


@pytest.mark.parametrize(
    ("value", "holders"),
    [
        (LOCK, [("n2", "2026-11-21T02:58:11.4Z")]),
        ({"maxOwners": 2, "locks": [LOCK, {**LOCK, "nodeID": "n3"}]}, [("n2", LOCK["created"]), ("n3", LOCK["created"])]),
        ({"maxOwners": 2, "locks": []}, []),
        ({"maxOwners": 2, "locks": None}, []),
        ({}, [("a node that it does not name", "")]),
        ([], [("a node that it does not name", "")]),
    ],
)
def test_who_holds_the_lock_of_kured(value: object, holders: list[tuple[str, str]]) -> None:
    assert cluster_guards.lock_holders(json.dumps(value)) == holders


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
)


def test_a_lock_without_an_end_is_held_by_somebody() -> None:
    assert cluster_guards.lock_holders("[" * 100_000) == [("a node that it does not name", "")]


@given(st.text() | JSON.map(json.dumps) | JSON.map(lambda locks: json.dumps({"locks": locks})))
def test_a_lock_that_cannot_be_read_is_held_by_somebody(text: str) -> None:
    held = cluster_guards.lock_holders(text)
    assert all(isinstance(part, str) for holder in held for part in holder)
    try:
        given_back = not json.loads(text)["locks"]
    except (KeyError, TypeError, ValueError, IndexError):
        given_back = False
    assert bool(held) is not given_back


# -- The survey of cluster_health --------------------------------------------------------------------------------------


class Module:
    """Stands in for AnsibleModule."""

    def __init__(self, **params: object) -> None:
        self.params = params


def looker(monkeypatch: pytest.MonkeyPatch, answers: dict[str, Any], survey: bool) -> tuple[Any, list[str]]:
    asked = []

    def get_json(_api: object, _host: str, path: str, _timeout: float) -> Any:
        asked.append(path)
        if isinstance(answers[path], Exception):
            raise answers[path]
        return answers[path]

    monkeypatch.setattr(kube_api, "get_json", get_json)
    found: Any = object.__new__(cluster_health.Looker)
    found.module, found.api, found.is_k3s, found._name = Module(survey=survey), object(), False, lambda: "n1"
    found._stamps = {"10.0.0.1": stamp(NOON + 9)}
    found._seen = health.Observation([], {})
    return found, asked


EMPTY: dict[str, Any] = {path: {"items": []} for path in (cluster_health.NODES, cluster_health.LEASES, cluster_health.LEADERS)}
API = {
    **EMPTY,
    cluster_health.IDENTITY: {"metadata": {"uid": "u"}},
    cluster_health.ENDPOINTS: {},
    cluster_health.DAEMON_SETS: {"items": [a_lock(value=LOCK)]},
    cluster_health.PLANS: {"items": [a_plan(["n2"])]},
}


def test_only_a_survey_reads_what_health_has_no_use_for(monkeypatch: pytest.MonkeyPatch) -> None:
    looking, asked = looker(monkeypatch, API, survey=False)
    assert looking._read_api(looking._seen, ["10.0.0.1"]) == "u"
    assert not {cluster_health.DAEMON_SETS, cluster_health.PLANS} & set(asked)


def test_a_survey_finds_clocks_locks_and_plans_in_one_look(monkeypatch: pytest.MonkeyPatch) -> None:
    looking, asked = looker(monkeypatch, API, survey=True)
    looking._read_api(looking._seen, ["10.0.0.1"])
    assert len(asked) == len(set(asked)) == len(API)
    assert [one["name"] for one in looking.guards([])] == ["clock_skew", "reboots_by_kured", "upgrade_in_progress"]


def test_a_cluster_without_plans_has_none_and_one_that_hides_them_is_not_well(monkeypatch: pytest.MonkeyPatch) -> None:
    looking, _asked = looker(monkeypatch, {**API, cluster_health.PLANS: kube_api.ApiError("HTTP 404", 404)}, survey=True)
    assert looking._read_api(looking._seen, ["10.0.0.1"]) == "u"
    assert looking._seen.plans == []
    looking, _asked = looker(monkeypatch, {**API, cluster_health.PLANS: kube_api.ApiError("HTTP 403", 403)}, survey=True)
    assert looking._read_api(looking._seen, ["10.0.0.1"]) == ""
    assert "HTTP 403" in looking._seen.errors[0]


def test_an_api_server_that_answers_with_something_else_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for path, answer in ((cluster_health.NODES, {"kind": "Status"}), (cluster_health.IDENTITY, None), (cluster_health.PLANS, {"items": 5})):
        looking, _asked = looker(monkeypatch, {**API, path: answer}, survey=True)
        assert looking._read_api(looking._seen, ["10.0.0.1"]) == ""
        assert f"{path} gives something else: it" in looking._seen.errors[0]


# -- A node ------------------------------------------------------------------------------------------------------------

ETC, VAR, RUN = Place("/etc/x", 1, free=MIB * 900, inodes=9000), Place("/var/x", 2, free=MIB * 900), Place("/run/x", 3, True, free=MIB * 4)


def on_node(**more: Any) -> list[tuple[str, str]]:
    state = State(**{"name": "n1", "release": "v1.32.3+k3s1", "places": (ETC, VAR, RUN), "forwarding": "1", **more})
    return [(one["name"], one["text"].split(". Why: ")[0]) for one in node_guards.find(state)]


def test_nothing_speaks_against_a_change_on_a_sound_node() -> None:
    assert on_node() == []
    assert on_node(forwarding=None, forwarding_at_boot=("1", "/etc/sysctl.d/9.conf")) == []


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        ([ETC._replace(free=3 * MIB)], [("disk_full", "the file system of /etc/x on n1 has 3.0 MiB left, less than 100.0 MiB")]),
        (
            [VAR._replace(free=0), VAR._replace(path="/var/y", free=1)],
            [("disk_full", "the file system of /var/x, /var/y on n1 has 0.0 MiB left, less than 100.0 MiB")],
        ),
        ([ETC._replace(inodes=7)], [("disk_full", "the file system of /etc/x on n1 has 7 inodes left, less than 1000")]),
        ([RUN._replace(free=MIB - 1)], [("disk_full", "the file system of /run/x on n1 has 1.0 MiB left, less than 1.0 MiB")]),
        (
            [Place("/etc/x", 1, problem="P"), Place("/etc/y", 1, problem="P"), Place("/var/x", 2, problem="P")],
            [("read_only", "/etc/x, /etc/y on n1 cannot be written: P"), ("read_only", "/var/x on n1 cannot be written: P")],
        ),
    ],
)
def test_file_systems(places: list[Place], expected: list[tuple[str, str]]) -> None:
    assert on_node(places=places) == expected


@pytest.mark.parametrize(
    ("now", "boot", "part"),
    [
        ("0", None, "net.ipv4.ip_forward is 0 on n1"),
        ("1", ("0", "/etc/sysctl.d/9.conf"), "net.ipv4.ip_forward is set to 0 by /etc/sysctl.d/9.conf at the next boot on n1"),
        ("0", ("0", "/x"), "net.ipv4.ip_forward is 0 and is set to 0 by /x at the next boot on n1"),
        ("0", ("1", "/x"), "net.ipv4.ip_forward is 0 on n1"),
    ],
)
def test_forwarding_now_and_at_the_next_boot(now: str, boot: tuple[str, str] | None, part: str) -> None:
    assert on_node(forwarding=now, forwarding_at_boot=boot) == [("ip_forward", part)]


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "in which there is no number of a release"),
        ("dev", "in which there is no number of a release"),
        ("v1.19.16+k3s1", "older than 1.20, the first line that kubekeel knows"),
        ("v1.37.0", "newer than 1.36, the last line that kubekeel knows"),
        ("v2.0.1", "newer than 1.36"),
        ("v1.20.2", ""),
        ("v1.36.9+k3s1", ""),
        ("1.32", ""),
    ],
)
def test_releases_that_kubekeel_does_not_know(text: str, part: str) -> None:
    found = on_node(release=text)
    assert bool(found) is bool(part)
    assert not found or part in found[0][1]


def test_everything_that_is_known_of_releases_lies_within_the_known_ones() -> None:
    first, last = release.KNOWN
    lines = [line for bug in known_bugs.BUGS for line in (*bug.mended, *bug.lines) if line not in ((0, 0), (99, 99))]
    gone = [flag.gone[:2] for flag in settings.DEAD_FLAGS.values() if flag.gone]
    assert max(lines) == last
    assert all(first <= line <= last for line in (*lines, *gone, failover.GRACE_PERIOD_CHANGED[:2]))


def test_a_place_is_the_nearest_folder_that_there_is(tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").write_text("")
    here = node_state.place(str(tmp_path))
    assert (here.device, here.problem) == (tmp_path.stat().st_dev, "")
    assert here.free > 0
    for path in (tmp_path / "a/b/c", tmp_path / "file/d"):
        assert (node_state.place(str(path)).path, node_state.place(str(path)).device) == (str(path), here.device)


def test_a_folder_that_cannot_be_written(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.statvfs(tmp_path)
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert node_state.place(str(tmp_path)).problem == f"the user with the id {os.geteuid()} may not"
    monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result((*real[:8], os.ST_RDONLY, *real[9:10])))
    assert node_state.place(str(tmp_path)).problem == "its file system is mounted read-only"

    def broken(_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "statvfs", broken)
    assert node_state.place(str(tmp_path)).problem == f"{tmp_path}: Input/output error"


def test_a_file_system_that_counts_no_inodes(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = list(os.statvfs(tmp_path))
    real[5:8] = [0, 0, 0]
    monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result(tuple(real)))
    assert node_state.place(str(tmp_path)).inodes is None


# -- Snaps -------------------------------------------------------------------------------------------------------------

# As snapd prints them (snapcraft.io, Managing updates; canonical/snapd cmd/snap).
CHANGES = """ID    Status  Spawn                   Ready                   Summary
2052  Done    today at 09:34 BST      today at 09:35 BST      Auto-refresh 7 snaps
2053  Done    yesterday at 15:16 BST  yesterday at 15:17 BST  Refresh snaps "microk8s", "flock-chat"
2054  Error   2026-11-20T02:58:11Z    2026-11-20T03:01:40Z    Auto-refresh snap "microk8s"
%s
"""
LIST = """Name      Version  Rev   Tracking       Publisher   Notes
microk8s  v1.32.3  7731  1.32/stable    canonical✓  %s
"""


@pytest.mark.parametrize(
    ("line", "number"),
    [
        ('2060  Doing   today at 16:40 CST      -                       Auto-refresh snap "microk8s"', "2060"),
        ('2060  Do      today at 16:40 CST      -                       Refresh "microk8s" snap from "1.33/stable" channel', "2060"),
        ('2060  Undoing  today at 16:40 CST     -                       Auto-refresh snaps "core20", "microk8s"', "2060"),
        ('2060  Wait    6 days ago, at 16:03 CST  -                     Auto-refresh snap "snapd"', "2060"),
        ("2060  Doing   2026-11-21T02:58:11Z    -                       Auto-refresh 7 snaps", "2060"),
        ('2060  Doing   today at 16:40 CST      -                       自动刷新 snap "microk8s"', "2060"),
        ('2060  Doing   today at 16:40 CST      -                       Install "xmind" snap from "latest/stable" channel', None),
        ('2060  Doing   today at 16:40 CST      -                       Auto-refresh snap "microk8s-tools"', None),
        ('2060  Done    today at 16:40 CST      today at 16:41 CST      Running service command for snap "microk8s"', None),
        ("", None),
    ],
)
def test_changes_that_are_under_way(line: str, number: str | None) -> None:
    assert [change.number for change in snapd.under_way(CHANGES % line)] == ([number] if number else [])


@given(st.text(alphabet=string.printable))
def test_whatever_snap_prints_is_read(text: str) -> None:
    snapd.under_way(text)
    snapd.installed(text, "microk8s")
    snapd.hold_of_all(text, NOON)


@pytest.mark.parametrize(
    ("notes", "held"), [("classic", False), ("classic,held", True), ("held", True), ("-", False), ("disabled,classic", False)]
)
def test_a_snap_that_is_held(notes: str, held: bool) -> None:
    found = snapd.installed(LIST % notes, "microk8s")
    assert found is not None
    assert (found.is_held, found.is_local, found.revision) == (held, False, "7731")
    local = snapd.installed((LIST % notes).replace("7731", "x1  "), "microk8s")
    assert local is not None
    assert local.is_local
    assert snapd.installed(LIST % notes, "kubectl") is None
    assert snapd.installed("", "microk8s") is None


@pytest.mark.parametrize(
    ("text", "now", "until"),
    [
        ("forever\n", NOON, "forever"),
        ("2019-04-24T17:22:54+01:00\n", 1556122973.0, "2019-04-24T17:22:54+01:00"),
        ("2019-04-24T17:22:54+01:00\n", 1556122974.0, ""),
        ("2019-04-24T17:22:54Z\n", 1556126573.0, "2019-04-24T17:22:54Z"),
        ("2019-04-24T12:22:54.123456789-04:00\n", 1556122973.0, "2019-04-24T12:22:54.123456789-04:00"),
        ("", 0.0, ""),
        ("soon\n", 0.0, ""),
        ("2031-13-24T17:22:54Z\n", 0.0, ""),
        ("2031-04-24T17:22:54+99:00\n", 0.0, ""),
    ],
)
def test_until_when_all_snaps_are_held(text: str, now: float, until: str) -> None:
    assert snapd.hold_of_all(text, now) == until


FREE, HELD, LOCAL = snapd.Installed("7731", ("classic",)), snapd.Installed("7731", ("classic", "held")), snapd.Installed("x1", ("-",))


@pytest.mark.parametrize(
    ("snaps", "names", "part"),
    [
        (None, [], ""),
        (Snaps(installed=LOCAL), [], ""),
        (Snaps(installed=FREE), ["snap_hold"], "nothing keeps snapd from refreshing MicroK8s"),
        (Snaps(installed=HELD), ["snap_held"], "refreshes of MicroK8s are held. Why: "),
        (Snaps(installed=FREE, hold="forever"), ["snap_held"], "are held, with those of all snaps, for ever. Why: "),
        (Snaps(installed=FREE, hold="2026-11-22T00:00:00Z"), ["snap_held"], "until 2026-11-22T00:00:00Z. Why: "),
        (Snaps(changes=[snapd.Change("7", "Doing", "X")]), ["snap_refresh"], "snapd is at work on n1: change 7, Doing: X"),
        (Snaps("'snap changes' says: E"), ["snap_refresh"], "nobody can tell whether snapd is at work on n1: 'snap changes' says: E"),
    ],
)
def test_what_snapd_may_do_to_a_run(snaps: Snaps | None, names: list[str], part: str) -> None:
    found = node_guards.find(State("n1", "v1.32.3", forwarding="1", snaps=snaps))
    assert [one["name"] for one in found] == names
    assert not part or part in found[0]["text"]
    assert all(one["refuses"] is (one["name"] == "snap_refresh") for one in found)


class Finder:
    """An AnsibleModule that finds one command."""

    def __init__(self, tool: pathlib.Path) -> None:
        self.tool = tool

    def get_bin_path(self, name: str) -> str | None:
        assert name == "snap"
        return str(self.tool) if self.tool.exists() else None


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        (None, Snaps("there is no command snap")),
        ("echo 'error: no changes found' >&2; exit 1", Snaps()),
        (
            "echo 'error: cannot communicate with server: connection refused' >&2; exit 1",
            Snaps("'snap changes' says: error: cannot communicate with server: connection refused"),
        ),
        ("exit 1", Snaps("'snap changes' says: nothing")),
        ("exec sleep 60", Snaps("'snap changes' says: Command '['{tool}', 'changes']' timed out after 0.2 seconds")),
        ('[ "$LC_ALL" = C.UTF-8 ] && [ "$*" = "list microk8s" ] && cat {list}; exit 0', Snaps(installed=HELD)),
        ('[ "$*" = "get system refresh.hold" ] && echo forever; exit 0', Snaps(hold="forever")),
        ('[ "$*" = changes ] && cat {changes}; exit 0', Snaps(changes=[snapd.Change("7", "Doing", 'Auto-refresh snap "microk8s"')])),
    ],
)
def test_what_the_command_snap_is_asked(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, script: str | None, expected: Snaps
) -> None:
    tool, changes, listed = tmp_path / "snap", tmp_path / "changes", tmp_path / "list"
    changes.write_text(CHANGES % '7     Doing   today at 16:40 CST      -                       Auto-refresh snap "microk8s"')
    listed.write_text(LIST % "classic,held")
    if script is not None:
        tool.write_text("#!/bin/sh\n" + script.replace("{list}", str(listed)).replace("{changes}", str(changes)) + "\n")
        tool.chmod(0o755)
    monkeypatch.setattr(node_state, "SNAP_TIMEOUT", 0.2 if script and "sleep" in script else 30)
    found = node_state.snaps(Finder(tool))
    assert (found.problem, list(found.changes)) == (expected.problem.replace("{tool}", str(tool)), list(expected.changes))
    assert (found.installed, found.hold) == (expected.installed, expected.hold)


def test_the_lab_s_snap_speaks_as_kubekeel_reads_it(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    commands: dict[str, Any] = runpy.run_path(str(ROOT / "lab/node/usr/bin/snap"))["COMMANDS"]
    snap, state = tmp_path / "2074", tmp_path / "snapd/state.json"
    (snap / "meta").mkdir(parents=True)
    (snap / "meta/snap.yaml").write_text("name: microk8s\nversion: v1.20.2\n")
    for name, value in {"SNAP": snap, "STATE": state}.items():
        monkeypatch.setitem(commands["list"].__globals__, name, value)
    monkeypatch.setattr(os, "geteuid", lambda: 0)

    def says(command: str, *words: str) -> str:
        commands[command](list(words))
        return capsys.readouterr().out

    def hold() -> str:
        try:
            return says("get", "system", "refresh.hold")
        except SystemExit:
            assert capsys.readouterr().err == 'error: snap "core" has no "refresh.hold" configuration option\n'
            return ""

    assert snapd.installed(says("list", "microk8s"), "microk8s") == snapd.Installed("2074", ("classic",))
    assert (snapd.under_way(says("changes")), hold()) == ([], "")
    assert says("refresh", "--hold", "microk8s") == 'General refreshes of "microk8s" held indefinitely\n'
    held = snapd.installed(says("list", "microk8s"), "microk8s")
    assert held is not None
    assert held.is_held
    says("refresh", "--unhold", "microk8s")
    assert says("refresh", "--hold=2h").startswith("Auto-refresh of all snaps held until ")
    assert snapd.hold_of_all(hold(), time.time() + 7100)
    assert not snapd.hold_of_all(hold(), time.time() + 7300)
    assert snapd.installed(says("list"), "microk8s") == snapd.Installed("2074", ("classic",))
    change = ["2", "Doing", "today at 00:00 UTC", "-", 'Auto-refresh snap "microk8s"']
    state.write_text(json.dumps({"changes": [change]}))
    assert [str(one) for one in snapd.under_way(says("changes"))] == ['change 2, Doing: Auto-refresh snap "microk8s"']


# -- What preflight and the reports make of it -------------------------------------------------------------------------

SKEW, CORDONED = guards.found("clock_skew", server="n2", node="n1", seconds=9, way="ahead of"), guards.found("node_cordoned", node="n3")
NOTED = guards.found("snap_hold")


def test_what_was_found_is_sorted_out() -> None:
    found = findings.guards({"n1": [SKEW, CORDONED, NOTED], "n2": [CORDONED, NOTED], "n3": []}, ["clock_skew"])
    assert [(one["name"], one["nodes"]) for one in found["refused"]] == [("node_cordoned", ["n1", "n2"])]
    assert [(one["name"], one["nodes"]) for one in found["accepted"]] == [("clock_skew", ["n1"])]
    assert [(one["name"], one["nodes"]) for one in found["noted"]] == [("snap_hold", ["n1", "n2"])]
    assert found["refused"][0]["sentence"].endswith(""" To go on all the same: -e '{"preflight_accept": ["node_cordoned"]}'""")
    assert found["noted"][0]["sentence"] == NOTED["text"]
    assert found["together"] == guards.accept(["clock_skew", "node_cordoned"])


@pytest.mark.parametrize(
    ("entries", "accepted"), [([SKEW], []), ([SKEW], ["clock_skew"]), ([NOTED], ["clock_skew", "disk_full"]), ([], [])]
)
def test_one_sentence_needs_nothing_that_stands_for_all(entries: list[dict[str, Any]], accepted: list[str]) -> None:
    assert findings.guards({"n1": entries}, accepted)["together"] == ""


def task(name: str) -> dict[str, Any]:
    tasks = yaml.safe_load((ROOT / "roles/preflight/tasks/main.yml").read_text())
    (found,) = [one for one in tasks if one["name"].startswith(name)]
    return dict(found)


def played(folder: pathlib.Path, tasks: list[dict[str, Any]], hosts: dict[str, dict[str, Any]], **given: object) -> tuple[int, str]:
    """Run tasks on hosts with these variables, with the variables of the role; return the exit code and what was printed."""
    local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    inventory = {"all": {"children": {"servers": {"hosts": {name: {**local, **values} for name, values in hosts.items()}}}}}
    files = [str(ROOT / f"roles/preflight/{part}/main.yml") for part in ("defaults", "vars")]
    play = [{"hosts": "servers", "gather_facts": False, "vars_files": files, "tasks": tasks}]
    (folder / "inventory.json").write_text(json.dumps(inventory))
    (folder / "play.yml").write_text(json.dumps(play))
    environment = {**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".collections")}
    command = ["ansible-playbook", "-i", str(folder / "inventory.json"), "-e", json.dumps(given), str(folder / "play.yml")]
    done = subprocess.run(command, cwd=folder, env=environment, text=True, capture_output=True, check=False)
    return done.returncode, " ".join((done.stdout + done.stderr).replace("\\n", " ").replace('\\"', '"').split())


WELL = {"as_asked": True, "reasons": []}
UNWELL = {"as_asked": False, "reasons": ["node n9 is NotReady"]}
HOSTS: dict[str, dict[str, Any]] = {
    "n1": {"preflight_info": {"guards": [NOTED]}, "preflight_health": {**WELL, "guards": [SKEW]}},
    "n2": {"preflight_info": {"guards": []}, "preflight_health": {**UNWELL, "guards": [SKEW, CORDONED]}},
    "n3": {"preflight_info": {"guards": [NOTED]}, "preflight_health": {"skipped": True}},
    "n4": {"preflight_info": {"guards": []}, "preflight_health": {"failed": True, "msg": "no"}},
}
KNOW, REFUSE, SAY = task("Know a server to ask"), task("Refuse to go on"), task("Say what was accepted")
GIVEN: dict[str, Any] = {"preflight_api_servers": ["n1", "n2", "n4"]}


def test_preflight_refuses_everything_at_once_and_says_how_to_go_on(tmp_path: pathlib.Path) -> None:
    code, output = played(tmp_path, [KNOW, REFUSE], HOSTS, **GIVEN)
    assert code != 0
    assert f"Nothing was changed. {SKEW['text']}. To go on all the same: {SKEW['accept']}" in output
    assert "Nothing was changed. node n9 is NotReady; the clock of n2" in output
    assert f"All of it together: {guards.accept(['clock_skew', 'node_cordoned'])}" in output
    assert output.count("failed=1") == 2
    assert "n3 : ok=2" in output


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"preflight_accept": ["clock_skew", "node_cordoned"]}, True),
        ({"preflight_accept": ["clock_skew", "node_cordoned"], "kubekeel_earlier": {}}, False),
        ({"preflight_enforce": False}, False),
    ],
)
def test_what_was_accepted_is_said_once_a_run(tmp_path: pathlib.Path, given: dict[str, Any], said: bool) -> None:
    hosts = {**HOSTS, "n2": {**HOSTS["n2"], "preflight_health": {**WELL, "guards": [SKEW, CORDONED]}}}
    code, output = played(tmp_path, [KNOW, REFUSE, SAY], hosts, **GIVEN, **given)
    assert (code, "Nothing was changed" in output) == (0, False)
    assert output.count("Accepted, seen on n1, n2: the clock of n2") == said
    assert output.count("Accepted, seen on n2: node n3 is cordoned") == said
    assert output.count("To know, seen on n1, n3: nothing keeps snapd") == said


def test_the_audit_shows_what_would_be_refused(tmp_path: pathlib.Path) -> None:
    report = tmp_path / "report.txt.j2"
    report.write_text("{% set nodes = ansible_play_hosts_all %}\n{% include 'guards.txt.j2' %}\n")
    (tmp_path / "guards.txt.j2").write_text((ROOT / "playbooks/templates/guards.txt.j2").read_text())
    show = {"ansible.builtin.copy": {"content": "{{ lookup('template', '%s') }}" % report, "dest": str(tmp_path / "text"), "mode": "0600"}}
    read = {"ansible.builtin.include_vars": {"file": str(ROOT / "playbooks/vars/nodes.yml")}}
    # What audit_fail_on_findings asks for.
    counted = {"ansible.builtin.assert": {"that": "(kubekeel_refused | length > 0) == (inventory_hostname == 'n2')"}}
    code, output = played(tmp_path, [KNOW, {**show, "run_once": True}, read, counted], HOSTS, **GIVEN, preflight_accept=["clock_skew"])
    assert code == 0, output
    text = (tmp_path / "text").read_text()
    assert text.startswith("REFUSED BY A REMEDIATION\n  node n3 is cordoned. Why: somebody")
    assert f"\n    to go on all the same: {CORDONED['accept']}\n\nACCEPTED (preflight_accept)\n  the clock of n2" in text
    assert "\n\nTO KNOW, on n1, n3\n  nothing keeps snapd" in text
    assert max(len(line) for line in text.splitlines()) <= 102
