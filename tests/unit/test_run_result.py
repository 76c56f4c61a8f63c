"""From events and what a playbook kept to the one result."""

import dataclasses
import json
import pathlib

import jsonschema
import pytest

from kubekeel import events, result, waivers
from kubekeel.errors import UsageError
from kubekeel.events import Seen, Watcher
from kubekeel.result import About

ABOUT = About("RUN", "audit", "inventories/mine", "mine", "2026-11-22T01:00:00Z", "2026-11-22T01:00:09Z", 9.04)
SURVEY, CHANGING = "Survey the cluster", "Remediate the servers, one at a time"
LEASE = {
    "owner": "kube-scheduler",
    "name": "leader-elect-lease-duration",
    "before": "60s",
    "after": "15s",
    "why": "because",
    "source": "x#1",
}


def node(**facts):
    return {
        "role": "server",
        "info": {"distribution": "microk8s", "release": "v1.30.1", "kind": "server"},
        "health": {"reasons": [], "as_asked": True, "servers_to_spare": 1, "members": [{"role": "voter"}] * 3},
        "guards": [],
        "compared": True,
        "results": [{"changes": [], "restart": []}],
        "remedies": ["leader_election_staged"],
        "problems": [],
        "reasons": [],
        "findings": [],
        **facts,
    }


def kept(**nodes):
    return {"cluster": "prod", "profile": "balanced", "asked": list(nodes), "accepted": [], "nodes": nodes, "budget": {}, "drill": None}


def built(facts=None, seen=None, ended="successful", about=ABOUT, **more):
    document = result.build(about, ended, seen or Seen(told=True), facts, **more)
    jsonschema.validate(document, result.schema())
    return document


def only(document, **wanted):
    (found,) = [each for each in document["findings"] if all(each[name] == value for name, value in wanted.items())]
    return found


def failing(message, action="ansible.builtin.assert", play=SURVEY, unreachable=False, **facts):
    failure = {"task": "A task", "message": message, "unreachable": unreachable, "action": action, "play": play}
    return Seen(failed={"n1": failure}, failing={"n1"}, told=True, **facts)


def test_a_cluster_that_is_as_wanted_passes():
    document = built(kept(n1=node()))
    assert document["run"]["exit_code"] == 0
    assert {each["status"] for each in document["findings"]} == {"pass"}
    assert document["cluster"]["summary"] == "all nodes Ready, 3 voters up, 1 server may be lost"


def test_a_setting_that_differs_counts_from_warning_on():
    facts = kept(n1=node(results=[{"changes": [LEASE], "restart": ["kubelite"]}]))
    found = only(built(facts), kind="setting")
    assert (found["id"], found["status"], found["evidence"]) == ("leader-elect-lease-duration", "fail", "is 60s, wanted is 15s")
    codes = {
        least: built(facts, about=dataclasses.replace(ABOUT, fail_on=least))["run"]["exit_code"] for least in (*result.SEVERITIES, "never")
    }
    assert codes == {"info": 1, "warning": 1, "critical": 0, "never": 0}


def test_a_restart_that_did_not_come_is_a_finding():
    document = built(kept(n1=node(results=[{"changes": [], "restart": ["kubelite"]}])))
    assert only(document, kind="remedy")["evidence"].startswith("kubelite has not restarted")


@pytest.mark.parametrize("facts", [{"info": {}, "results": None}, {"results": None}])
def test_what_was_not_read_is_unknown_and_never_passes(facts):
    seen = Seen(
        failed={"n2": {"task": "", "message": "no route", "unreachable": True, "action": "", "play": SURVEY}}, failing={"n2"}, told=True
    )
    document = built(kept(n1=node(), n2=node(health={}, **facts)), seen, "failed")
    assert document["run"]["exit_code"] == 3
    assert [(each["id"], each["status"], each["evidence"]) for each in document["findings"] if each["node"] == "n2"] == [
        ("node_unread", "unknown", "no route")
    ]


def test_a_node_that_was_left_out_is_no_finding():
    document = built({**kept(n1=node(), n2=node(info={}, results=None, health={})), "asked": ["n1"]})
    assert not [each for each in document["findings"] if each["node"] == "n2"]
    assert document["cluster"]["nodes"][1]["problem"] == "left out by --limit"


def test_a_cluster_that_cannot_lose_a_server_is_critical():
    health = {"reasons": ["node n2 is NotReady"], "as_asked": False, "servers_to_spare": 0}
    document = built(kept(n1=node(health=health)))
    assert only(document, id="cluster_health")["status"] == "fail"
    assert (document["run"]["exit_code"], document["cluster"]["summary"]) == (1, "node n2 is NotReady")


def test_a_cluster_of_which_nobody_could_tell_is_unknown():
    document = built(kept(n1=node(health={"msg": "no API server answered"})))
    assert only(document, id="cluster_health")["status"] == "unknown"
    assert document["run"]["exit_code"] == 1


def test_what_speaks_against_a_change_says_why_and_what_to_do():
    from ansible_collections.kubekeel.ha.plugins.module_utils import guards

    guard = guards.found("disk_full", paths="/etc", node="n1", free="1 MB", least="64 MB")
    refused = only(built(kept(n1=node(guards=[guard]))), id="disk_full")
    assert (refused["severity"], refused["status"]) == ("critical", "fail")
    assert refused["evidence"] == "the file system of /etc on n1 has 1 MB left, less than 64 MB"
    assert refused["remedy"].startswith("make room there")
    assert refused["why"] == guards.GUARDS["disk_full"].why
    accepted = only(built({**kept(n1=node(guards=[guard])), "accepted": ["disk_full"]}), id="disk_full")
    assert (accepted["severity"], accepted["status"]) == ("info", "warn")


def test_a_waiver_takes_a_finding_out_of_the_count(tmp_path):
    path = tmp_path / "waivers.yml"
    path.write_text("waivers:\n  - {id: leader-elect-lease-duration, reason: OPS-1, expires: 2027-01-31}\n")
    facts = kept(n1=node(results=[{"changes": [LEASE], "restart": []}]))
    document = built(facts, about=dataclasses.replace(ABOUT, fail_on="warning"), waived=waivers.load(path))
    assert document["run"]["exit_code"] == 0
    assert only(document, kind="setting")["waiver"] == {"reason": "OPS-1", "expires": "2027-01-31"}


@pytest.mark.parametrize(
    ("seen", "command", "code"),
    [
        (failing("Nothing was changed. A server is away"), "remediate", 5),
        (failing("another run holds it", action=events.LOCK), "drill", 5),
        (failing("Nothing was changed. A server is away"), "plan", 5),
        (failing("n1: 'x' failed, the node has its previous files back", play=CHANGING, touched=True), "remediate", 4),
        (failing("n1 went away", unreachable=True, play=CHANGING, touched=True), "remediate", 4),
        (failing("no route", unreachable=True), "remediate", 3),
        (failing("a module crashed", action="kubekeel.ha.component_args"), "remediate", 3),
        (failing("no group", play="Look at the inventory"), "remediate", 2),
        (failing("bad type", action="ansible.builtin.validate_argument_spec"), "audit", 2),
        (Seen(told=False), "remediate", 3),
    ],
)
def test_how_a_run_failed(seen, command, code):
    about = dataclasses.replace(ABOUT, command=command, check=command == "plan")
    document = built(None, seen, "failed", about, errors=["ansible-playbook said so"])
    assert document["run"]["exit_code"] == code
    assert document["failures"]


def test_interrupted_comes_first():
    assert built(None, failing("x", touched=True), "canceled")["run"]["exit_code"] == 130


def test_a_failure_on_several_nodes_is_told_once():
    seen = failing("the same")
    seen.failed["n2"] = dict(seen.failed["n1"])
    seen.failing.add("n2")
    assert [each["nodes"] for each in built(None, seen, "failed")["failures"]] == [["n1", "n2"]]


def raw(kind, play=None, action=None, host=None, **data):
    return {"event": kind, "event_data": {"play": play, "task_action": action, "host": host, **data}}


def test_events_become_steps_gates_and_changes():
    told: list[events.Event] = []
    watcher = Watcher("mine", "RUN", told.append)
    stage, health, restart = "kubekeel.ha.component_args", events.HEALTH, events.RESTART
    stream = [
        raw("playbook_on_play_start", play=SURVEY),
        raw("runner_on_start", action=stage, host="n1"),
        raw("runner_on_ok", action=stage, host="n1", res={"changes": [LEASE], "diff": []}),
        raw("runner_on_ok", action=events.LOCK, host="n1", res={"holder": "20261122T010000Z-12345", "mine": True}),
        raw("playbook_on_play_start", play=CHANGING),
        raw("runner_on_start", action=stage, host="n1"),
        raw(
            "runner_on_ok",
            action=stage,
            host="n1",
            res={"changes": [LEASE], "diff": [{"after_header": "/f", "before": "a\n", "after": "b\n"}]},
        ),
        raw("runner_on_start", action=health, host="n1", task="May it go?"),
        raw("runner_retry", action=health, host="n1", res={"reasons": ["n2 is NotReady"]}),
        raw("runner_on_ok", action=health, host="n1", task="May it go?", duration=3.0, start="s", res={}),
        raw("runner_on_start", action=restart, host="n1"),
        raw("runner_on_ok", action=restart, host="n1", res={"units": [{"name": "kubelite"}]}),
        raw("runner_on_start", action=health, host="n1"),
        raw("runner_on_ok", action=health, host="n1", res={}),
    ]
    for number, event in enumerate(stream):
        watcher(event, float(number))
    assert [event.step for event in told if event.kind == "step"] == ["comparing", "staging", "waiting", "restarting", "settling", "safe"]
    assert [event.text for event in told if event.kind == "waits"] == ["n2 is NotReady"]
    assert watcher.at_work.is_set()
    changed = watcher.seen.changes["n1"]
    assert [each["after"] for each in changed["settings"]] == ["15s"]
    assert (changed["restarts"], changed["files"][0]["diff"].splitlines()[-2:]) == (["kubelite"], ["-a", "+b"])
    assert watcher.seen.gates[0]["waited_for"] == ["n2 is NotReady"]
    about = dataclasses.replace(ABOUT, command="remediate")
    assert built(None, dataclasses.replace(watcher.seen, told=True), about=about)["run"]["taken_back_by"] == "20261122T010000Z"


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"schema": 2}', '{"schema": 1}', "no json"])
def test_what_is_no_result_is_a_mistake_of_the_user(tmp_path: pathlib.Path, text: str):
    (tmp_path / "result.json").write_text(text)
    with pytest.raises(UsageError, match=r"result\.json"):
        result.load(tmp_path / "result.json")


def test_a_result_is_read_back(tmp_path: pathlib.Path):
    document = built(kept(n1=node()))
    (tmp_path / "result.json").write_text(json.dumps(document))
    assert result.load(tmp_path / "result.json") == document
