"""What happens for alerts: the policy, the decision, the log, and what the rulebook is given."""

import base64
import datetime
import json
import multiprocessing
import pathlib
import re
import runpy
import time
from typing import Any

import jinja2
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from kubekeel import alerts, inventories
from kubekeel.errors import KubekeelError, UsageError
from kubekeel.render import prometheus

from . import result_samples

ROOT = pathlib.Path(__file__).parents[2]
NOON = datetime.datetime(2026, 11, 22, 12, tzinfo=datetime.UTC)
HOUR = datetime.timedelta(hours=1)
POLICY = """
cluster: prod
allow:
  - alert: KubeNodeNotReady
    action: recover
    nodes: [node-d, node-e]
    at_most: {times: 1, within: 6h}
  - alert: KubekeelFindings
    action: remediate
"""
LISTED: dict[str, Any] = {
    "_meta": {"hostvars": {"node-a": {"kubekeel_node_name": "ip-10-0-0-1"}, "twin": {"kubekeel_node_name": "node-d2"}}},
    "all": {"children": ["servers", "agents", "group1"]},
    "servers": {"hosts": ["node-a"]},
    "agents": {"hosts": ["node-d", "node-d2", "twin", "node-e", "group1", "a:b", "*"]},
    "group1": {"hosts": ["node-d", "node-e"]},
}


class Runs:
    """Stands for kubekeel.run: keeps what it was asked for."""

    def __init__(self, cluster: str = "prod", status: str = "ok", code: int = 0) -> None:
        self.cluster, self.status, self.code = cluster, status, code
        self.asked: list[tuple[str, str]] = []
        self.fails: dict[str, KubekeelError] = {}

    def __call__(self, command: str, _inventory: object, *, folder: pathlib.Path, limit: str = "") -> Any:
        self.asked.append((command, limit))
        self.log_then = (folder / alerts.LOG).read_text(errors="replace")
        if command in self.fails:
            raise self.fails[command]
        return Ran(f"{command}-{len(self.asked)}", self.cluster, self.status, self.code)


class Ran:
    def __init__(self, name: str, cluster: str, status: str, code: int) -> None:
        self.id, self.cluster, self.status, self.exit_code = name, cluster, status, code


class Scene:
    """An inventory, a policy, a folder of runs and a clock."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder, self.runs, self.now = folder / "runs", Runs(), NOON
        self.inventory = inventories.Inventory(folder)
        self.policy = folder / "policy.yml"
        self.write(POLICY)

    def write(self, text: str) -> pathlib.Path:
        self.policy.write_text(text)
        self.policy.chmod(0o600)
        return self.policy

    def handle(self, body: object) -> list[alerts.Decision]:
        return alerts.handle(body, inventory=self.inventory, policy=self.policy, folder=self.folder, run=self.runs, now=lambda: self.now)

    def log(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / alerts.LOG).read_text().splitlines()]


@pytest.fixture
def scene(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    monkeypatch.setattr(inventories, "listing", lambda _: LISTED)
    return Scene(tmp_path)


def alert(name: str = "KubeNodeNotReady", status: str = "firing", **labels: object) -> dict[str, Any]:
    return {"status": status, "labels": {"alertname": name, **labels}, "fingerprint": "5ca1ab1e"}


# -- The policy


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "it has to be a mapping"),
        ("allow: []", "it needs 'cluster'"),
        ("cluster: ''", "'cluster' has to be a text"),
        ("cluster: 7", "'cluster' has to be a text"),
        ("{cluster: prod, alow: []}", "unknown key 'alow'"),
        ("{cluster: prod, cluster: test}", "stands twice"),
        ("{cluster: prod, allow: {alert: A}}", "'allow' has to be a list"),
        ("{cluster: prod, allow: [A]}", "item 1 of 'allow' has to be a mapping"),
        ("{cluster: prod, allow: [{action: audit}]}", "needs 'alert'"),
        ("{cluster: prod, allow: [{alert: A, action: restart}]}", "'action' in item 1 of 'allow' has to be one of"),
        ("{cluster: prod, allow: [{alert: A, action: [audit]}]}", "'action' in item 1"),
        ("{cluster: prod, allow: [{alert: A, node: b}]}", "unknown key 'node'"),
        ("{cluster: prod, allow: [{alert: A, nodes: b}]}", "'nodes' in item 1"),
        ("{cluster: prod, allow: [{alert: A, nodes: []}]}", "'nodes' in item 1"),
        ("{cluster: prod, allow: [{alert: A, nodes: }]}", "'nodes' in item 1"),
        ("{cluster: prod, allow: [{alert: A, nodes: [1]}]}", "each of 'nodes'"),
        ("{cluster: prod, allow: [{alert: A}, {alert: A}]}", "A twice"),
        ("{cluster: prod, allow: [{alert: A, at_most: 3}]}", "'at_most' in item 1"),
        ("{cluster: prod, allow: [{alert: A, at_most: {times: 1}}]}", "needs 'within'"),
        ("{cluster: prod, allow: [{alert: A, at_most: {times: 0, within: 1h}}]}", "'times' in item 1"),
        ("{cluster: prod, allow: [{alert: A, at_most: {times: yes, within: 1h}}]}", "'times' in item 1"),
        ("{cluster: prod, allow: [{alert: A, at_most: {times: 1, within: 6}}]}", "'within' in item 1"),
        ("{cluster: prod, allow: [{alert: A, at_most: {times: 1, within: 0h}}]}", "'within' in item 1"),
        ("{cluster: prod, allow: [{alert: A, at_most: {times: 1, within: 1h, per: node}}]}", "unknown key 'per'"),
        ("{cluster: prod, labels: {cluster: 1}}", "'labels' has to be"),
        ("cluster: !!python/object/apply:os.system [true]", "cannot be read"),
        ("{", "cannot be read"),
    ],
)
def test_policy_says_what_is_wrong(scene: Scene, text: str, says: str) -> None:
    with pytest.raises(UsageError, match=str(scene.policy)) as error:
        alerts.read_policy(scene.write(text))
    assert says in str(error.value)


def test_policy_is_read(scene: Scene) -> None:
    policy = alerts.read_policy(scene.policy)
    assert policy.allow == (
        alerts.Rule("KubeNodeNotReady", "recover", ("node-d", "node-e"), 1, 6 * HOUR),
        alerts.Rule("KubekeelFindings", "remediate", None, 1, 6 * HOUR),
    )


@pytest.mark.parametrize("mode", [0o620, 0o602])
def test_policy_that_others_may_write_is_refused(scene: Scene, mode: int) -> None:
    scene.policy.chmod(mode)
    with pytest.raises(UsageError, match="chmod go-w"):
        scene.handle(alert(node="node-d"))
    assert scene.runs.asked == []


# -- The decision


def test_allowed_change_follows_an_audit_and_is_logged_before_it_begins(scene: Scene) -> None:
    (decision,) = scene.handle({"version": "4", "alerts": [alert(node="node-d")]})
    assert scene.runs.asked == [("audit", ""), ("recover", "node-d")]
    assert json.loads(scene.runs.log_then.splitlines()[-1])["event"] == "begins"
    assert (decision.action, decision.node, decision.evidence, decision.run) == ("recover", "node-d", "audit-1", "recover-2")
    line = scene.log()[-1]
    assert line == {
        "event": "alert",
        "at": "2026-11-22T12:00:00+00:00",
        "cluster": "prod",
        "fingerprint": "5ca1ab1e",
        "alert": "KubeNodeNotReady",
        "node": "node-d",
        "status": "firing",
        "decision": "recover",
        "reason": "the policy allows it for KubeNodeNotReady",
        "host": "node-d",
        "evidence": str(scene.folder / "audit-1"),
        "run": "recover-2",
        "ended": "ok",
    }
    assert (scene.folder / alerts.LOG).stat().st_mode & 0o777 == 0o600


def test_kubernetes_name_becomes_the_inventorys_own(scene: Scene) -> None:
    scene.handle(alert("KubekeelFindings", node="ip-10-0-0-1"))
    assert scene.runs.asked[1:] == [("remediate", "node-a")]


@pytest.mark.parametrize(
    "label",
    [
        "all", "*", "a:b", "node-d:node-e", "node-d,node-e", "!node-d", "~.*", "&agents", "@/etc/passwd", "node-?", "node-d ", " node-d",
        "NODE-D", "node-d\n", "node-[a:e]", "agents", "group1", "localhost", "", "x" * 100_000, 7, True, None, ["node-d"],
        {"node": "node-d"}, "node-d2", "{{ 'node-d' }}",
    ],
    ids=lambda label: repr(label)[:20],
)  # fmt: skip
def test_label_that_is_not_exactly_one_host_changes_nothing(scene: Scene, label: object) -> None:
    """Also where the policy allows every node. node-d2 is one host's name and another's Kubernetes name."""
    (decision,) = scene.handle(alert("KubekeelFindings", node=label))
    assert scene.runs.asked == [("audit", "")]
    assert (decision.action, decision.node) == ("audit", "")
    assert decision.reason.startswith("no remediate: ")
    assert len(decision.sentence) < 400
    assert decision.sentence.isprintable()


@given(st.text(max_size=20))
def test_limit_is_nothing_but_a_hosts_name(label: str) -> None:
    policy = alerts.Policy("prod", allow=(alerts.Rule("A", "remediate"),))
    (one,) = alerts.alerts(alert("A", node=label))
    decision = alerts.decide(one, policy, LISTED, "", [], NOON)
    assert decision.node in ("", {**{host: host for host in ("node-d", "twin", "node-e", "node-a")}, "ip-10-0-0-1": "node-a"}.get(label))


@pytest.mark.parametrize(
    ("given", "action", "says"),
    [
        (alert(node="node-d", status="resolved"), "none", "it is resolved"),
        (alert(node="node-d", status="FIRING"), "none", "its status is"),
        ({"labels": {"alertname": "KubeNodeNotReady", "node": "node-d"}}, "none", "its status is"),
        (alert(node="node-d", cluster="other"), "none", "its label cluster is not"),
        (alert(node="node-d", cluster=["prod"]), "none", "its label cluster is not"),
        (alert("Watchdog", node="node-d"), "audit", "allows nothing more"),
        (alert("kubenodenotready", node="node-d"), "audit", "allows nothing more"),
        (alert(node="twin"), "audit", "the policy does not name twin"),
        (alert(), "audit", "no label 'node'"),
    ],
)
def test_what_is_not_allowed_is_not_done(scene: Scene, given: dict[str, Any], action: str, says: str) -> None:
    (decision,) = scene.handle(given)
    assert says in decision.reason
    assert decision.action == scene.log()[-1]["decision"] == action
    assert scene.runs.asked == ([("audit", "")] if action == "audit" else [])


def test_labels_of_the_policy_have_to_be_there(scene: Scene) -> None:
    scene.write("{cluster: prod, labels: {cluster: eu-1, job: kube}, allow: [{alert: KubeNodeNotReady, action: recover}]}")
    outcomes = [
        scene.handle(alert(node="node-d", **labels))[0].action
        for labels in ({}, {"cluster": "prod", "job": "kube"}, {"cluster": "eu-1"}, {"cluster": "eu-1", "job": "kube"})
    ]
    assert outcomes == ["none", "none", "none", "recover"]


def test_inventory_of_another_cluster_is_never_changed(scene: Scene) -> None:
    scene.runs.cluster = "lab"
    (decision,) = scene.handle(alert(node="node-d"))
    assert scene.runs.asked == [("audit", "")]
    assert decision.reason == 'no recover: the inventory is of the cluster "lab", the policy is for "prod"'
    # Nor by the audit that is still fresh.
    scene.handle(alert(node="node-e"))
    assert scene.runs.asked == [("audit", "")]


def test_without_a_policy_there_are_audits_alone(scene: Scene) -> None:
    alerts.handle(alert(node="node-d", cluster="x"), inventory=scene.inventory, policy=None, folder=scene.folder, run=scene.runs)
    assert scene.runs.asked == [("audit", "")]


def test_host_of_another_cluster_of_the_fleet_is_unknown() -> None:
    listed = {
        "_meta": {"hostvars": {}},
        "servers": {"hosts": ["a1", "b1"]},
        "clusters": {"children": ["a", "b"]},
        "a": {"hosts": ["a1"]},
        "b": {"hosts": ["b1"]},
    }
    policy = alerts.Policy("a", allow=(alerts.Rule("A", "remediate"),))
    found = [alerts.decide(alerts.alerts(alert("A", node=node))[0], policy, listed, "a", [], NOON).node for node in ("a1", "b1")]
    assert found == ["a1", ""]


@pytest.mark.parametrize("body", [[], "x", {}, {"alerts": {}}, {"alerts": ["x"]}, {"labels": "x"}, None])
def test_body_that_is_none(scene: Scene, body: object) -> None:
    with pytest.raises(UsageError):
        scene.handle(body)
    assert scene.runs.asked == []


# -- How often


def test_changes_are_limited_on_all_nodes_together(scene: Scene) -> None:
    scene.handle(alert(node="node-d"))
    scene.now += HOUR
    (second,) = scene.handle(alert(node="node-e"))
    assert (second.action, second.reason) == (
        "audit",
        "no recover: 1 within 6:00:00 is all that the policy allows, the last was recover of node-d at 2026-11-22T12:00:00+00:00",
    )
    scene.now += 5 * HOUR
    assert scene.handle(alert(node="node-e"))[0].action == "recover"
    assert scene.runs.asked.count(("recover", "node-d")) == scene.runs.asked.count(("recover", "node-e")) == 1


def test_limits_are_of_an_alert_and_a_cluster(scene: Scene) -> None:
    scene.handle(alert(node="node-d"))
    assert scene.handle(alert("KubekeelFindings", node="node-d"))[0].action == "remediate"
    scene.write(POLICY.replace("prod", "prod2"))
    scene.runs.cluster = "prod2"
    assert scene.handle(alert(node="node-d"))[0].action == "recover"


def test_clock_that_was_set_back_allows_nothing(scene: Scene) -> None:
    scene.handle(alert(node="node-d"))
    scene.now -= 48 * HOUR
    assert scene.handle(alert(node="node-d"))[0].action == "audit"


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        '{"event": "begins", "at": "2026-11-22T11:00:00+00:00"}',
        '{"event": "alert", "at": "noon"}',
        '{"event": "alert"}',
        "\udcff",
    ],
)
def test_log_that_cannot_be_read_allows_audits_alone(scene: Scene, line: str) -> None:
    scene.handle(alert(status="resolved"))
    with (scene.folder / alerts.LOG).open("a", errors="surrogateescape") as handle:
        handle.write(line)  # without an end, as a power cut leaves it
    (decision,) = scene.handle(alert(node="node-d"))
    assert "line 2 of alerts.jsonl cannot be read" in decision.reason
    assert scene.runs.asked == [("audit", "")]
    (scene.folder / alerts.LOG).write_text("".join(json.dumps(entry) + "\n" for entry in entries(scene)))
    assert scene.handle(alert(node="node-d"))[0].action == "recover"


def entries(scene: Scene) -> list[dict[str, Any]]:
    lines = (scene.folder / alerts.LOG).read_text(errors="replace").splitlines()
    return [json.loads(line) for number, line in enumerate(lines) if number != 1]


def test_audit_serves_the_alerts_of_five_minutes(scene: Scene) -> None:
    given = [alert("Watchdog", node=f"n{number}") for number in range(20)]
    assert {decision.evidence for decision in scene.handle({"alerts": given})} == {"audit-1"}
    scene.now += datetime.timedelta(minutes=4, seconds=59)
    assert scene.handle(given[0])[0].evidence == "audit-1"
    scene.now += datetime.timedelta(seconds=1)
    assert scene.handle(given[0])[0].evidence == "audit-2"
    scene.inventory = inventories.Inventory(scene.inventory.path, "other")
    assert scene.handle(given[0])[0].evidence == "audit-3"


# -- What goes wrong


def test_change_that_failed_is_said_and_counts(scene: Scene) -> None:
    scene.runs.status, scene.runs.code = "failed", 4
    (decision,) = scene.handle(alert(node="node-d"))
    assert (decision.status, decision.exit_code) == ("failed", 4)
    assert scene.handle(alert(node="node-e"))[0].action == "audit"


def test_audit_that_found_something_is_no_failure(scene: Scene) -> None:
    scene.runs.status, scene.runs.code = "incomplete", 3
    (decision,) = scene.handle(alert("Watchdog"))
    assert decision.exit_code == 0
    assert scene.log()[0]["status"] == "incomplete"


@pytest.mark.parametrize(("command", "asked", "code"), [("audit", ["audit"], 3), ("recover", ["audit", "recover"], 2)])
def test_run_that_cannot_begin(scene: Scene, command: str, asked: list[str], code: int) -> None:
    scene.runs.fails[command] = UsageError("No such thing")
    (decision,) = scene.handle(alert(node="node-d"))
    assert [name for name, _ in scene.runs.asked] == asked
    assert "No such thing" in scene.log()[-1]["reason"]
    assert decision.exit_code == code


def test_interrupted_audit_is_no_evidence_and_nothing_follows(scene: Scene) -> None:
    scene.runs.status, scene.runs.code = "interrupted", 130
    (decision,) = scene.handle({"version": "4", "alerts": [alert(node="node-d"), alert(node="node-e")]})
    assert (decision.action, decision.exit_code) == ("none", 130)
    assert scene.runs.asked == [("audit", "")]
    scene.runs.status, scene.runs.code = "ok", 0
    assert scene.handle(alert(node="node-d"))[0].action == "recover"


def test_change_that_broke_off_counts(scene: Scene) -> None:
    class PowerCut(BaseException):
        pass

    scene.runs.fails["recover"] = PowerCut()  # type: ignore[assignment]
    with pytest.raises(PowerCut):
        scene.handle(alert(node="node-d"))
    scene.runs.fails.clear()
    assert scene.handle(alert(node="node-d"))[0].action == "audit"


def test_without_a_log_nothing_is_done(scene: Scene) -> None:
    scene.folder.mkdir()
    (scene.folder / alerts.LOG).symlink_to(scene.policy)
    with pytest.raises(KubekeelError, match="cannot be written"):
        scene.handle(alert(node="node-d"))
    assert scene.runs.asked == []


def at_once(folder: pathlib.Path, start: Any, out: Any) -> None:
    inventories.listing = lambda _: LISTED  # type: ignore[assignment]
    scene = Scene(folder)

    class Slow(Runs):
        def __call__(self, *arguments: Any, **named: Any) -> Any:
            time.sleep(0.3)
            return super().__call__(*arguments, **named)

    scene.runs = Slow()
    start.wait()
    out.put([scene.handle(alert(node="node-d"))[0].action, [name for name, _ in scene.runs.asked]])


def test_two_at_once_make_one_change(tmp_path: pathlib.Path) -> None:
    context = multiprocessing.get_context("fork")
    start, out = context.Barrier(2), context.Queue()
    both = [context.Process(target=at_once, args=(tmp_path, start, out)) for _ in range(2)]
    for one in both:
        one.start()
    found = sorted((out.get(timeout=20) for _ in both), key=str)
    for one in both:
        one.join(20)
    assert found == [["audit", []], ["recover", ["audit", "recover"]]]


# -- What the rulebook is given

FILTER = runpy.run_path(str(ROOT / "extensions/eda/plugins/event_filter/alerts.py"))["main"]


def test_nothing_of_an_alert_is_a_template_or_a_limit() -> None:
    evil = "{{ lookup('pipe', 'touch /pwned') }}{% raw %}{# #}"
    given = {**alert(evil, node=evil, **{evil: evil}), "meta": {"hosts": "all"}, "annotations": {"text": evil}}
    (event,) = FILTER({"payload": {"version": "4", "alerts": [given]}, "meta": {"headers": {"X": evil}}})
    assert event.keys() == {"alert"}
    text = json.dumps(event)
    assert jinja2.Environment().from_string(text).render() == text
    assert json.loads(base64.b64decode(event["alert"]["body"])) == {
        "status": "firing",
        "labels": {"alertname": evil, "node": evil, evil: evil},
        "fingerprint": "5ca1ab1e",
    }


def test_key_is_of_name_node_cluster_and_status() -> None:
    given = [
        alert(node="a", pod="1"),
        alert(node="a", pod="2"),
        alert(node="b"),
        alert(node=["a"]),
        alert("Other", node="a"),
        alert(node="a", cluster="c"),
        alert(node="a", status="resolved"),
    ]
    keys = [event["alert"]["key"] for event in FILTER({"payload": {"alerts": given}})]
    assert keys[0] == keys[1]
    assert len(set(keys[1:])) == 6


@pytest.mark.parametrize("payload", [None, [], [1], "x", {}, {"alerts": None}, {"alerts": "abc"}, {"alerts": 5}, {"alerts": ["x", 1]}])
def test_body_that_is_not_alertmanagers_is_no_event(payload: object) -> None:
    assert FILTER({"payload": payload}) == []


def test_odd_alerts_are_events_that_the_command_refuses() -> None:
    (event,) = FILTER({"payload": {"alerts": [{"labels": 1}]}})
    with pytest.raises(UsageError):
        alerts.alerts(json.loads(base64.b64decode(event["alert"]["body"])))


def test_rulebook_listens_on_this_machine_alone_and_wants_a_token() -> None:
    (rules,) = yaml.safe_load((ROOT / "extensions/eda/rulebooks/alertmanager.yml").read_text())
    (source,) = rules["sources"]
    assert source["eda.builtin.webhook"]["host"] == "127.0.0.1"
    assert source["eda.builtin.webhook"]["token"]


# -- Rules for Prometheus


def test_rules_ask_for_metrics_and_labels_that_an_audit_writes() -> None:
    (group,) = yaml.safe_load((ROOT / "extensions/prometheus/kubekeel.rules.yml").read_text())["groups"]
    samples = [
        (name, dict(re.findall(r'(\w+)="([^"]*)"', labels)))
        for name, labels in re.findall(r"^(\w+)\{(.*)\} ", prometheus.render(result_samples.audit()), re.MULTILINE)
    ]
    assert [rule["alert"] for rule in group["rules"]] == [
        "KubekeelFindings",
        "KubekeelIncomplete",
        "KubekeelOutdated",
        "KubekeelSlowFailover",
    ]
    for rule in group["rules"]:
        ((name, wanted),) = re.findall(r"(kubekeel_\w+)\{(.*)\}", rule["expr"])
        by = set(", ".join(re.findall(r"by \(([\w, ]+)\)", rule["expr"])).split(", "))
        labels = dict(re.findall(r'(\w+)="([^"]*)"', wanted))
        assert [one for one in samples if one[0] == name and labels.items() <= one[1].items() and by <= one[1].keys()]
