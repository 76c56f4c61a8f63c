"""How long the death of a node lasts: the model, what it is read from, and how it is shown."""

import dataclasses
import itertools
import json
import os
import pathlib
import shutil
import subprocess
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.kubekeel.ha.plugins.filter import failover_budget
from ansible_collections.kubekeel.ha.plugins.module_utils import failover, tcp_timers
from ansible_collections.kubekeel.ha.plugins.module_utils.failover import LEADER, OTHER, Settings
from ansible_collections.kubekeel.ha.plugins.plugin_utils import budget as glue
from hypothesis import example, given, settings
from hypothesis import strategies as st

ROOT = pathlib.Path(__file__).parents[2]
LOSSES = (LEADER, OTHER)
CASES = ("best", "typical", "worst")
NODE_STEPS = ["node_down", "endpoint_gone", "requests_end", "pods_evicted", "unacknowledged_dropped", "idle_dropped"]
MICROK8S = Settings(lease_duration=60, renew_deadline=30, retry_period=2, monitor_period=5, monitor_grace_period=40)
SHORT = Settings(lease_duration=15, renew_deadline=10, retry_period=2, monitor_period=5, monitor_grace_period=20)

COUNTS = {"tcp_retries2": st.integers(0, 255), "keepalive_probes": st.integers(1, 127)}
DURATIONS = [field.name for field in dataclasses.fields(Settings) if field.name not in (*COUNTS, "unread")]
# Without the health check of HTTP/2 another rule holds, see below.
LENGTHS = {name: st.floats(0.001 if name.startswith("http2") else 0, 20000) for name in DURATIONS}
ANY = st.builds(Settings, **LENGTHS, **COUNTS)


def seconds(known: Settings, loss: str, step: str) -> failover.Cases:
    return failover.budget(known).step(loss, step).seconds


def at_most(one: float, other: float) -> bool:
    """Sums in another order differ in the last digits."""
    return one <= other + 1e-6 * max(1.0, abs(other))


@settings(deadline=None)
@given(ANY)
def test_every_case_is_at_least_the_better_one_and_none_is_before_the_death(known: Settings) -> None:
    for steps in failover.budget(known).losses.values():
        for step in steps:
            best, typical, worst = step.seconds
            assert at_most(0, best), step
            assert at_most(best, typical), step
            assert at_most(typical, worst), step


@settings(deadline=None)
@given(ANY)
def test_steps_follow_each_other_and_come_of_their_contributions(known: Settings) -> None:
    shown = failover.budget(known).as_dict()
    assert list(shown[LEADER]) == ["new_leader", *NODE_STEPS]
    assert list(shown[OTHER]) == NODE_STEPS
    for loss in LOSSES:
        for case in CASES:
            for step in shown[loss].values():
                assert sum(part[case] for part in step["because"]) == pytest.approx(step[case])
            order = [shown[loss][name][case] for name in (["new_leader"] if loss == LEADER else []) + NODE_STEPS[:3]]
            assert all(at_most(one, other) for one, other in itertools.pairwise(order))
            assert at_most(shown[loss]["node_down"][case] + known.unreachable_toleration, shown[loss]["pods_evicted"][case])


# What may end earlier. Longer retries: in the best case the leader was due to renew for longer. A longer heartbeat: the last
# one may have been longer ago. A longer renew deadline: the leader outlives the datastore's election. With a longer monitor
# period 20 s may end earlier (looks every 10 s: after 20 s, every 7 s: after 21 s), so for it the next test but one stands in.
LONGER = [(name, 1) for name in [*DURATIONS, *COUNTS] if name not in ("monitor_period", "node_lease_duration", "renew_deadline")]


@pytest.mark.parametrize(("name", "sign"), [*LONGER, ("node_lease_duration", -1), ("renew_deadline", -1)])
@settings(deadline=None)
@given(known=ANY, data=st.data())
def test_a_longer_duration_ends_nothing_earlier(name: str, sign: int, known: Settings, data: st.DataObject) -> None:
    values = sorted((getattr(known, name), data.draw({**LENGTHS, **COUNTS}[name])), reverse=sign < 0)
    short, long = (failover.budget(dataclasses.replace(known, **{name: value})) for value in values)
    for loss in LOSSES:
        for step in short.losses[loss]:
            for case in CASES[1:] if name == "retry_period" else CASES:
                assert at_most(getattr(step.seconds, case), getattr(long.step(loss, step.name).seconds, case)), (step.name, case)


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("lease_duration", "new_leader"),
        ("retry_period", "new_leader"),
        ("monitor_grace_period", "endpoint_gone"),
        ("monitor_period", "pods_evicted"),
        ("unreachable_toleration", "pods_evicted"),
        ("tcp_retries2", "unacknowledged_dropped"),
        ("keepalive_time", "idle_dropped"),
        ("keepalive_intvl", "idle_dropped"),
        ("keepalive_probes", "idle_dropped"),
    ],
)
def test_every_setting_counts(name: str, step: str) -> None:
    longer = dataclasses.replace(SHORT, **{name: 2 * getattr(SHORT, name)})
    assert seconds(longer, LEADER, step).worst > seconds(SHORT, LEADER, step).worst


@settings(deadline=None)
@example(Settings(monitor_grace_period=100, monitor_period=0.1))
@given(ANY)
def test_a_node_is_down_at_the_first_look_after_the_grace_period(known: Settings) -> None:
    grace, period = known.monitor_grace_period, known.monitor_period
    new, down = seconds(known, LEADER, "new_leader"), seconds(known, LEADER, "node_down")
    for case in CASES:
        looking = getattr(down, case) - getattr(new, case) - getattr(failover.CONTROLLER_START, case)
        assert at_most(grace, looking)
        assert at_most(looking, grace + period + failover.LOOP_DRIFT.worst)


@pytest.mark.parametrize(
    ("grace", "period", "expected"), [(40, 5, 40), (20, 5, 20), (18, 5, 20), (20, 7, 21), (2.1, 0.3, 2.1), (3, 5, 5), (20, 0, 20)]
)
def test_looks(grace: float, period: float, expected: float) -> None:
    known = Settings(lease_duration=0, retry_period=0, monitor_grace_period=grace, monitor_period=period)
    assert seconds(known, LEADER, "node_down").best == pytest.approx(expected + failover.CONTROLLER_START.best)


def test_the_defaults_of_microk8s_as_measured() -> None:
    found = seconds(MICROK8S, LEADER, "endpoint_gone")
    assert found.typical == pytest.approx(104, abs=1)
    assert 104 < found.worst <= 1.25 * 104


def test_a_short_lease_and_grace_period_as_measured() -> None:
    assert seconds(SHORT, LEADER, "endpoint_gone").typical == pytest.approx(39.5, rel=0.1)


def test_election() -> None:
    assert seconds(SHORT, LEADER, "new_leader") == pytest.approx((13, 17.35, 23.8))


def test_another_node_is_noticed_by_its_heartbeats() -> None:
    # The last of them was 0 to 10.4 s before the death, and was seen 0 to 5 s after it came; 8 looks follow.
    drift = failover.LOOP_DRIFT.times(8)
    assert seconds(MICROK8S, OTHER, "node_down") == pytest.approx(drift.plus(failover.Cases(29.6, 37.5, 45)))
    quick = dataclasses.replace(MICROK8S, node_lease_duration=20)
    assert seconds(quick, OTHER, "node_down") == pytest.approx(drift.plus(failover.Cases(34.8, 40, 45)))
    assert seconds(quick, LEADER, "node_down") == seconds(MICROK8S, LEADER, "node_down")


def test_the_taint_comes_one_look_after_the_condition() -> None:
    down, evicted = seconds(SHORT, OTHER, "node_down"), seconds(SHORT, OTHER, "pods_evicted")
    assert evicted == pytest.approx(down.plus(failover.TAINT_QUEUE).plus(failover.Cases.always(5 + 300)))


def test_a_proxy_that_lost_its_api_server_hears_of_nothing_before_its_connection_is_found_dead() -> None:
    slow = dataclasses.replace(SHORT, http2_read_idle_timeout=60, http2_ping_timeout=15)
    assert seconds(slow, LEADER, "requests_end").worst == pytest.approx(75 + failover.PROXIES_FOLLOW.worst)
    assert seconds(slow, LEADER, "requests_end").typical == seconds(SHORT, LEADER, "requests_end").typical
    unchecked = dataclasses.replace(SHORT, http2_read_idle_timeout=0)
    assert seconds(unchecked, LEADER, "requests_end").worst == pytest.approx(924.6 + failover.PROXIES_FOLLOW.worst)


def late(expected: float) -> failover.Cases:
    """What a wait of the kernel takes in its best, typical and worst case."""
    _, typical, worst = failover.TIMER_LATENESS
    return failover.Cases(expected, (1 + typical) * expected, (1 + worst) * expected + failover.TIMER_SLACK)


@pytest.mark.parametrize(
    ("retries", "expected"),
    [(0, 0.2), (1, 0.6), (5, 12.6), (6, 25.4), (7, 51.0), (8, 102.2), (9, 204.6), (10, 324.6), (15, 924.6), (255, 29724.6)],
)
def test_retries2(retries: int, expected: float) -> None:
    assert tcp_timers.given_up_after(retries) == pytest.approx(expected)
    found = seconds(dataclasses.replace(SHORT, tcp_retries2=retries), OTHER, "unacknowledged_dropped")
    assert found == pytest.approx(late(expected))


def test_idle_connections() -> None:
    # A connection that is idle for longer already gets its probes at once.
    assert seconds(SHORT, LEADER, "idle_dropped") == pytest.approx(late(7875)._replace(best=675))


def test_the_largest_contributions_come_first_and_are_most_of_it() -> None:
    found = failover.budget(MICROK8S)
    assert found.slowest == LEADER
    assert [(part.setting, part.seconds.worst) for part in found.largest] == [
        ("leader-elect-lease-duration", 60),
        ("node-monitor-grace-period", 40),
    ]


@settings(deadline=None)
@given(ANY)
def test_as_few_as_explain_most_of_it(known: Settings) -> None:
    found = failover.budget(known)
    parts = [part.seconds.worst for part in found.largest]
    whole = max(seconds(known, loss, "endpoint_gone").worst for loss in LOSSES)
    assert found.step(found.slowest, "endpoint_gone").seconds.worst == whole
    assert parts == sorted(parts, reverse=True)
    assert sum(parts) >= failover.MOST * whole > sum(parts[:-1])


FLAGS: dict[str, dict[str, object]] = {
    "kube-controller-manager": {
        "leader-elect-lease-duration": "1m",
        "leader-elect-renew-deadline": "30s",
        "leader-elect-retry-period": "1500ms",
        "node-monitor-period": "5s",
        "node-monitor-grace-period": "0h1m30s",
        "leader-elect": "true",
    },
    "kube-apiserver": {"default-not-ready-toleration-seconds": "61", "default-unreachable-toleration-seconds": 62},
    "etcd": {"election-timeout": "1000"},
    "environment": {"HTTP2_READ_IDLE_TIMEOUT_SECONDS": "8", "HTTP2_PING_TIMEOUT_SECONDS": 4},
    "sysctl": {
        "net.ipv4.tcp_retries2": "8",
        "net.ipv4.tcp_keepalive_time": "60",
        "net.ipv4.tcp_keepalive_intvl": "10",
        "net.ipv4.tcp_keepalive_probes": "6",
    },
    "kubelet": {"nodeLeaseDurationSeconds": 20},
}


def test_the_datastore_s_own_election_delays_the_worst_case() -> None:
    found = failover.budget(Settings(retry_period=2, election_timeout=3))
    assert found.step(LEADER, "new_leader").seconds.worst == pytest.approx(15 + 4 * 2.2 + 6)
    assert found.without_election == failover.budget(Settings(retry_period=2)).losses
    assert found.losses[OTHER] == found.without_election[OTHER]
    assert found.as_dict()["without_election"]["leader"]["new_leader"]["worst"] == pytest.approx(15 + 4 * 2.2)


@pytest.mark.parametrize(("election", "loses"), [(4, False), (4.001, True)])
def test_a_leader_that_cannot_renew_during_the_election_is_lost_with_the_datastore_s(election: float, loses: bool) -> None:
    found = failover.budget(Settings(renew_deadline=10, retry_period=2, election_timeout=election))
    other, leader = (found.step(loss, "endpoint_gone").seconds.worst for loss in (OTHER, LEADER))
    assert (other == pytest.approx(leader)) == loses
    assert other <= leader


def test_flags_are_read_in_their_units() -> None:
    assert failover.from_flags(FLAGS, "k3s", "v1.32.3+k3s1") == Settings(60, 30, 1.5, 5, 90, 20, 8, 4, 62, 61, 8, 60, 10, 6, 1)


@pytest.mark.parametrize(
    ("release", "grace"), [("v1.31.9", 40), ("v1.32.0+k3s1", 50), ("MicroK8s v1.30.1 revision 7000", 40), ("v1.36.1", 50), ("", 50)]
)
def test_flags_that_are_not_there_have_the_default_of_the_release(release: str, grace: float) -> None:
    nothing: dict[str, dict[str, object]] = {owner: {} for owner in FLAGS}
    nothing["kube-controller-manager"] = {"leader-elect-lease-duration": None}
    for distribution, election in (("k3s", 5), ("microk8s", 3)):
        expected = Settings(15, 10, 2, 5, grace, 40, 30, 15, 300, 300, 15, 7200, 75, 9, election)
        assert failover.from_flags(nothing, distribution, release) == expected
        assert failover.from_flags(nothing, distribution, release, 1.5).election_timeout == 1.5


def test_where_nobody_looked_the_distribution_s_own_flags_stand_in() -> None:
    found = failover.from_flags({}, "microk8s", "v1.30.1")
    assert (found.lease_duration, found.renew_deadline, found.monitor_grace_period) == (60, 30, 40)
    known = ("leader-elect", "election-timeout")
    assert sorted(found.unread) == sorted(name for values in FLAGS.values() for name in values if name not in known)
    assert failover.from_flags({}, "k3s", "v1.30.1").lease_duration == 15


@pytest.mark.parametrize(
    ("owner", "name", "value"),
    [
        ("kube-controller-manager", "node-monitor-grace-period", "40"),
        ("kube-controller-manager", "leader-elect-lease-duration", "${LEASE}"),
        ("kube-controller-manager", "node-monitor-period", "-5s"),
        ("kube-apiserver", "default-unreachable-toleration-seconds", "60s"),
        ("kube-apiserver", "default-unreachable-toleration-seconds", True),
        ("environment", "HTTP2_PING_TIMEOUT_SECONDS", "4.5"),
        ("environment", "HTTP2_READ_IDLE_TIMEOUT_SECONDS", "٣"),
        ("sysctl", "net.ipv4.tcp_retries2", "9" * 400),
        ("kubelet", "nodeLeaseDurationSeconds", {}),
        ("etcd", "election-timeout", "1s"),
    ],
)
def test_a_value_that_makes_no_sense_is_named_and_its_default_taken(owner: str, name: str, value: object) -> None:
    found = failover.from_flags({**FLAGS, owner: {**FLAGS[owner], name: value}}, "k3s", "v1.32.3+k3s1")
    without = failover.from_flags({**FLAGS, owner: {**FLAGS[owner], name: None}}, "k3s", "v1.32.3+k3s1")
    assert found == dataclasses.replace(without, unread=(name,))
    assert failover.budget(found).as_dict()["unread"] == [name]


@settings(deadline=None)
@given(st.sampled_from(sorted(failover.SOURCES.values())), st.text() | st.integers() | st.none() | st.floats() | st.lists(st.text()))
def test_whatever_a_file_holds_there_is_a_budget(source: failover.Source, value: object) -> None:
    found = failover.from_flags({source.owner: {source.name: value}}, "microk8s", "")
    json.dumps(failover.budget(found).as_dict(), allow_nan=False)


def change(owner: str, name: str, before: object, after: object) -> dict[str, object]:
    return {"owner": owner, "name": name, "before": before, "after": after, "path": "/x", "note": "", "why": "", "source": ""}


CONTROLLER_MANAGER, SCHEDULER, UNIT = "kube-controller-manager", "kube-scheduler", "snap.microk8s.daemon-kubelite"
AS_FOUND = {"leader-elect-lease-duration": "60s", "leader-elect-renew-deadline": "30s"}
# In check mode every module starts with what is there: the second one does not see what the first one would change.
RESULTS: list[dict[str, Any]] = [
    {
        "changes": [
            change(CONTROLLER_MANAGER, "leader-elect-lease-duration", "60s", "15s"),
            change(SCHEDULER, "leader-elect-lease-duration", "50s", "16s"),
        ],
        "effective": {
            CONTROLLER_MANAGER: {**AS_FOUND, "leader-elect-lease-duration": "15s"},
            SCHEDULER: {"leader-elect-lease-duration": "16s"},
        },
    },
    {
        "changes": [
            change(CONTROLLER_MANAGER, "node-monitor-grace-period", None, "20s"),
            change("kubelet", "node-status-update-frequency", None, "5s"),
        ],
        "effective": {
            CONTROLLER_MANAGER: {**AS_FOUND, "node-monitor-grace-period": "20s"},
            "kubelet": {"node-status-update-frequency": "5s"},
        },
    },
    {
        "changes": [change(UNIT, "HTTP2_READ_IDLE_TIMEOUT_SECONDS", None, "8"), change(UNIT, "HTTP2_PING_TIMEOUT_SECONDS", "15", "4")],
        "effective": {"HTTP2_READ_IDLE_TIMEOUT_SECONDS": "8", "HTTP2_PING_TIMEOUT_SECONDS": "4"},
    },
    {"changes": [], "effective": {"kube-apiserver": {"default-unreachable-toleration-seconds": "70"}}},
    {
        "changes": [change("sysctl", "net.ipv4.tcp_retries2", "15", "8")],
        "effective": {
            "net.ipv4.tcp_retries2": {"runtime": "8", "boot": None},
            "net.ipv4.tcp_keepalive_time": {"runtime": "61", "boot": "60"},
        },
    },
    {
        "changes": [change("kubelet", "nodeLeaseDurationSeconds", None, 20)],
        "effective": {"nodeLeaseDurationSeconds": 20},
    },
    {"changes": [], "packages": ["ipset"], "restart": []},
]
AFTER = Settings(15, 30, 2, 5, 20, 20, 8, 4, 70, 300, 8, 61, 75, 9, 3)
BEFORE = Settings(60, 30, 2, 5, 40, 40, 30, 15, 70, 300, 15, 61, 75, 9, 3)


def budget_of(results: list[dict[str, Any]], distribution: str, release: str) -> dict[str, Any]:
    """Compute the budget of a cluster of one server."""
    known = {"results": results, "distribution": distribution, "release": release, "leads": True, "election_timeout": None}
    return {moment: found["servers"]["one"] for moment, found in glue.of_servers({"one": known}).items()}


def shown(known: Settings) -> dict[str, Any]:
    return failover.budget(known).as_dict()


def test_before_and_after_a_run_in_check_mode() -> None:
    assert budget_of(RESULTS, "microk8s", "v1.31.2") == {"before": shown(BEFORE), "after": shown(AFTER)}


def test_before_and_after_a_run_that_changed_it() -> None:
    # The second module sees what the first one did, and changes it again.
    changes = [
        change(CONTROLLER_MANAGER, "leader-elect-lease-duration", before, after) for before, after in (("60s", "15s"), ("15s", "20s"))
    ]
    results = [{"changes": [one], "effective": {CONTROLLER_MANAGER: {"leader-elect-lease-duration": one["after"]}}} for one in changes]
    found = budget_of(results, "k3s", "v1.32.3+k3s1")
    for state, lease in (("before", 60), ("after", 20)):
        (part,) = (part for part in found[state][LEADER]["new_leader"]["because"] if part["setting"] == "leader-elect-lease-duration")
        assert part["worst"] == lease
        assert "node-monitor-grace-period" not in found[state]["unread"]
        assert "default-unreachable-toleration-seconds" in found[state]["unread"]


def test_a_flag_that_a_run_removes_has_its_default_afterwards() -> None:
    results = [{"changes": [change(CONTROLLER_MANAGER, "node-monitor-grace-period", "90s", None)], "effective": {CONTROLLER_MANAGER: {}}}]
    found = budget_of(results, "k3s", "v1.32.3+k3s1")
    assert found["before"][LEADER]["node_down"]["best"] - found["after"][LEADER]["node_down"]["best"] == pytest.approx(90 - 50)


def test_results_that_say_nothing_of_it_give_no_budget() -> None:
    results: list[dict[str, Any]] = [
        {"changes": [change(SCHEDULER, "leader-elect-lease-duration", "60s", "15s")], "effective": {SCHEDULER: {}}},
        {"changes": [change("k3s", "server", "a", "b")], "effective": {"server": "b"}},
        {"changes": [], "restart": []},
    ]
    assert budget_of(results, "k3s", "v1.32.3+k3s1") == {}


def test_the_filter_gives_the_same() -> None:
    run = failover_budget.FilterModule().filters()["failover_budget"]
    server = {"results": RESULTS, "distribution": "microk8s", "release": "v1.31.2"}
    assert run({"one": server})["after"] == {"servers": {"one": shown(AFTER)}, "slowest": "one"}
    assert run({"one": {**server, "leads": False}}) == run({}) == {}


@pytest.mark.parametrize("part", [{"results": ["text"]}, {"results": 1}, {"election_timeout": "5"}, {"election_timeout": 5}])
def test_the_filter_names_the_server_of_which_it_makes_no_sense(part: dict[str, Any]) -> None:
    with pytest.raises(AnsibleFilterError, match="failover_budget: one: "):
        failover_budget.failover_budget({"one": {"results": [], "distribution": "k3s", **part}})


@pytest.mark.parametrize("wrong", [[], {"one": {}}, {"one": 1}])
def test_the_filter_takes_servers_by_name(wrong: object) -> None:
    with pytest.raises(AnsibleFilterError, match="failover_budget"):
        failover_budget.failover_budget(wrong)


def test_a_server_without_a_member_of_etcd_waits_for_the_others_election() -> None:
    def server(effective: dict[str, Any], *, leads: bool) -> dict[str, Any]:
        results = [{"changes": [], "effective": {"etcd": {}, **effective}, "absent": [] if "etcd" in effective else ["etcd"]}]
        return {"results": results, "distribution": "k3s", "release": "v1.32.3+k3s1", "leads": leads, "election_timeout": None}

    members = {f"etcd{number}": server({"etcd": {"election-timeout": str(1000 * number)}}, leads=False) for number in (1, 2)}
    found = glue.of_servers({**members, "control1": server({CONTROLLER_MANAGER: {}}, leads=True)})["before"]
    assert list(found["servers"]) == ["control1"]
    (part,) = (part for part in found["servers"]["control1"][LEADER]["new_leader"]["because"] if part["setting"] == "election-timeout")
    assert part["worst"] == 2 * 2


PLAY = """
- hosts: all
  gather_facts: false
  vars_files: ["%s"]
  tasks:
    - ansible.builtin.template:
        src: "%s"
        dest: "%s"
        mode: "0644"
      run_once: true
      delegate_to: localhost
"""


def rendered(folder: pathlib.Path, hosts: dict[str, dict[str, Any]]) -> str:
    local = {"ansible_connection": "local"}
    inventory = {"all": {"children": {"servers": {"hosts": {name: {**local, **values} for name, values in hosts.items()}}}}}
    (folder / "inventory.json").write_text(json.dumps(inventory))
    (folder / "play.yml").write_text(PLAY % (ROOT / "playbooks/vars/nodes.yml", folder / "report.txt.j2", folder / "text"))
    # As the reports do it.
    (folder / "report.txt.j2").write_text("{% set was, now, current = 'IS', 'WANTED', 'before' %}\n{% include 'budget.txt.j2' %}\n")
    shutil.copy(ROOT / "playbooks/templates/budget.txt.j2", folder)
    environment = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".collections")}
    command = ["ansible-playbook", "-i", str(folder / "inventory.json"), str(folder / "play.yml")]
    done = subprocess.run(command, cwd=folder, env=environment, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return (folder / "text").read_text()


def server(results: list[dict[str, Any]], *, has_api: bool = True, absent: tuple[str, ...] = ()) -> dict[str, Any]:
    info = {"distribution": "microk8s", "release": "v1.31.2", "has_api": has_api, "absent": list(absent)}
    return {"report_results": results, "preflight_info": info}


def without_changes(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**result, "changes": []} for result in results]


def test_the_report_shows_the_slowest_server(tmp_path: pathlib.Path) -> None:
    hosts = {
        "unread": {},
        "etcd": server(RESULTS, has_api=False),
        "split": server(RESULTS, absent=(CONTROLLER_MANAGER,)),
        "quick": server(without_changes(RESULTS[1:2])),
        "slow": server(RESULTS),
    }
    text = rendered(tmp_path, hosts)
    lines = [line.split("  ") for line in text.splitlines()]
    cells = {words[0]: [word.strip() for word in words[1:]] for words in ([word for word in line if word] for line in lines) if words}
    assert cells["typically (at worst)"] == ["IS", "WANTED"]
    assert cells["new leader"] == ["62 s (75 s)", "17 s (30 s)"]
    gone = [seconds(known, LEADER, "endpoint_gone") for known in (BEFORE, AFTER)]
    assert cells["endpoint gone"] == [f"{one.typical:.0f} s ({one.worst:.0f} s)" for one in gone]
    minutes, rest = divmod(round(late(924.6).worst), 60)
    assert cells["dead connection with unanswered data"][0].endswith(f"({minutes} min {rest:02} s)")
    assert "60 s, node-monitor-grace-period 40 s (kube-controller-manager)" in text
    assert "as slow is set" in text
    assert "not known" not in text


def test_the_report_has_one_column_where_nothing_differs(tmp_path: pathlib.Path) -> None:
    text = rendered(tmp_path, {"server1": server(without_changes(RESULTS[:1]))})
    assert "WANTED" not in text
    assert "is set" not in text
    assert "  idle dead connection                  2 h " in text
    assert text.count("(") == text.count(")") == len(NODE_STEPS) + 3
    assert "not known, so their defaults are taken: HTTP2_READ_IDLE_TIMEOUT_SECONDS, default-unreachable-toleration-seconds" in text


def test_the_report_is_silent_where_no_server_could_be_read(tmp_path: pathlib.Path) -> None:
    assert rendered(tmp_path, {"server1": {}}).strip() == ""
