"""What happens for an alert of Prometheus: evidence always, and a change only where the operator's policy allows it."""

import contextlib
import datetime
import fcntl
import hashlib
import json
import os
import pathlib
import re
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TextIO

import yaml

from . import inventories, runs
from .errors import KubekeelError, UsageError
from .inventories import Inventory
from .result import Result

INTERRUPTED = "interrupted"
LOG = "alerts.jsonl"
"""The log, in the folder of runs."""
ACTIONS = ("audit", "recover", "remediate")
FRESH = datetime.timedelta(minutes=5)
"""For how long an audit is evidence for further alerts, so that a storm of them is one audit."""
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
LONGEST = 300
"""Characters of a text of an alert that are read. A node's name has at most 253."""

_DURATION = re.compile(r"([1-9][0-9]{0,5})([smhd])")
_PLAIN = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?")
"""A name that Ansible's --limit takes for one host: nothing that separates, excludes or matches."""

Entry = dict[str, Any]
"""A line of the log."""


@dataclass(frozen=True)
class Rule:
    """What the policy allows for an alert."""

    alert: str
    action: str = "audit"
    nodes: tuple[str, ...] | None = None
    """Hosts of the inventory; None for all of them."""
    times: int = 1
    within: datetime.timedelta = datetime.timedelta(hours=6)
    """At most so many changes within that time, on all nodes together."""


@dataclass(frozen=True)
class Policy:
    """What an operator allows."""

    cluster: str
    """Name of the cluster that may be changed, as in the result of an audit; empty where there is no policy."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Labels that an alert of this cluster has."""
    allow: tuple[Rule, ...] = ()


@dataclass(frozen=True)
class Alert:
    """An alert, as far as it is looked at."""

    name: str
    node: Any
    """The label C(node) as it came, whatever it is; None where there is none."""
    status: str
    fingerprint: str
    labels: Mapping[str, Any]


@dataclass(frozen=True)
class Decision:
    """What is done for an alert, and what came of it."""

    alert: Alert
    action: str
    """C(none), or one of C(ACTIONS). A change comes after an audit."""
    reason: str
    """Why that, and nothing more."""
    node: str = ""
    """The host that is changed, by its name in the inventory."""
    evidence: str = ""
    """Id of the audit."""
    run: str = ""
    """Id of the change."""
    status: str = ""
    """How the change ended; C(failed) also where it could not begin."""
    exit_code: int = 0
    """Of the change; 3 where the alert could not be dealt with; 0 after an audit, whatever it found."""

    @property
    def sentence(self) -> str:
        """What was done and why, for people."""
        node = f" on {_shown(self.alert.node)}" if self.alert.node is not None else ""
        audit = f"audit {self.evidence}; " if self.evidence else ""
        change = f"{self.action} of {self.node}: {f'{self.run} ended {self.status}' if self.run else 'did not run'}; " if self.node else ""
        return f"{_shown(self.alert.name)}{node}: {audit}{change}{self.reason}"


# -- The policy --------------------------------------------------------------------------------------------------------


class _Loader(yaml.SafeLoader):
    """Refuses a key that stands twice, of which YAML would take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = next((key for key in keys if keys.count(key) > 1), None)
        if twice is not None:
            raise yaml.constructor.ConstructorError(None, None, f"the key {twice!r} stands twice", node.start_mark)
        return super().construct_mapping(node, deep)


def read_policy(path: pathlib.Path) -> Policy:
    """Read a policy.

    Raises:
        UsageError: it cannot be read, others could have written it, or something in it is not known
    """
    try:
        with path.open(encoding="utf-8") as handle:
            about = os.fstat(handle.fileno())
            text = handle.read()
        data = yaml.load(text, Loader=_Loader)  # noqa: S506
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise UsageError(f"The policy {path} cannot be read: {' '.join(str(error).split())}") from None
    if about.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise UsageError(f"Others may write the policy {path}, and it says what may be changed: chmod go-w {path}")
    if about.st_uid not in (0, os.geteuid()):
        raise UsageError(f"The policy {path} belongs to another user; it has to be yours or root's")
    try:
        return _policy(data)
    except ValueError as error:
        raise UsageError(f"The policy {path}: {error}") from None


def _policy(data: Any) -> Policy:
    found = _mapping(data, "it", ("cluster", "labels", "allow"), ("cluster",))
    labels = found.get("labels") or {}
    if not isinstance(labels, dict) or not all(isinstance(part, str) for pair in labels.items() for part in pair):
        raise ValueError("'labels' has to be names with texts, such as {cluster: prod-eu}")
    allow = found.get("allow") or []
    if not isinstance(allow, list):
        raise ValueError("'allow' has to be a list")
    rules = tuple(_rule(one, f"item {number} of 'allow'") for number, one in enumerate(allow, 1))
    names = [rule.alert for rule in rules]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"'allow' has {name} twice; one item for an alert")
    return Policy(_text(found["cluster"], "'cluster'"), labels, rules)


def _rule(data: Any, where: str) -> Rule:
    found = _mapping(data, where, ("alert", "action", "nodes", "at_most"), ("alert",))
    action = found.get("action", "audit")
    if action not in ACTIONS:
        raise ValueError(f"'action' in {where} has to be one of {', '.join(ACTIONS)}")
    nodes = found.get("nodes")
    if "nodes" in found and (not isinstance(nodes, list) or not nodes):
        raise ValueError(f"'nodes' in {where} has to be a list of hosts; without it all hosts of the inventory are meant")
    rule = Rule(
        _text(found["alert"], f"'alert' in {where}"),
        action,
        None if nodes is None else tuple(_text(node, f"each of 'nodes' in {where}") for node in nodes),
    )
    if "at_most" not in found:
        return rule
    most = _mapping(found["at_most"], f"'at_most' in {where}", ("times", "within"), ("times", "within"))
    times, within = most["times"], most["within"]
    if isinstance(times, bool) or not isinstance(times, int) or times < 1:
        raise ValueError(f"'times' in {where} has to be a number from 1 on")
    matched = _DURATION.fullmatch(within) if isinstance(within, str) else None
    if matched is None:
        raise ValueError(f"'within' in {where} has to be a duration such as 90s, 30m, 6h or 2d")
    return replace(rule, times=times, within=datetime.timedelta(**{UNITS[matched[2]]: int(matched[1])}))


def _mapping(data: Any, where: str, known: Sequence[str], needed: Sequence[str]) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise ValueError(f"{where} has to be a mapping with {', '.join(known)}")
    unknown = [str(key) for key in data if key not in known]
    if unknown:
        raise ValueError(f"{where} has the unknown key '{unknown[0]}'; known are {', '.join(known)}")
    missing = [key for key in needed if key not in data]
    if missing:
        raise ValueError(f"{where} needs '{missing[0]}'")
    return data


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{where} has to be a text")
    return value


# -- Alerts and decisions ----------------------------------------------------------------------------------------------


def alerts(body: Any) -> list[Alert]:
    """Return the alerts of a webhook's body of Alertmanager (version 4), or the one that a body is.

    Raises:
        UsageError: it is neither
    """
    found = body.get("alerts", [body]) if isinstance(body, Mapping) else None
    if not isinstance(found, list):
        raise UsageError("This is neither an alert nor the body of Alertmanager's webhook")
    return [_alert(one) for one in found]


def _alert(data: Any) -> Alert:
    labels = data.get("labels") if isinstance(data, Mapping) else None
    if not isinstance(labels, Mapping):
        raise UsageError("This is no alert: it has no labels")
    fingerprint = data.get("fingerprint")
    if not isinstance(fingerprint, str) or not fingerprint:
        fingerprint = hashlib.sha256(json.dumps(labels, sort_keys=True).encode()).hexdigest()[:16]
    name, status = labels.get("alertname"), data.get("status")
    return Alert(
        name[:LONGEST] if isinstance(name, str) else "",
        labels.get("node"),
        status[:LONGEST] if isinstance(status, str) else "",
        fingerprint[:64],
        labels,
    )


def nodes(listed: Mapping[str, Any], cluster: str = "") -> dict[str, str]:
    """Return the hosts of a cluster by their names in the inventory, each with its Kubernetes name where the inventory has it.

    Args:
        listed: what C(inventories.listing) returned.
        cluster: a cluster of a fleet; empty where the inventory is of one.
    """
    inside = set(inventories.members(listed, cluster)) if cluster else None
    hosts = [host for role in inventories.ROLES for host in inventories.members(listed, role) if inside is None or host in inside]
    variables = listed.get("_meta", {}).get("hostvars", {})
    return {host: str(variables.get(host, {}).get("kubekeel_node_name") or "") for host in hosts}


def decide(alert: Alert, policy: Policy, listed: Mapping[str, Any], cluster: str, log: Sequence[Entry], now: datetime.datetime) -> Decision:
    """Decide what is to be done for an alert; looks at nothing but its arguments.

    Args:
        alert: the alert.
        policy: what is allowed.
        listed: the inventory, see C(nodes).
        cluster: which cluster of it.
        log: what was done before; an entry that is empty stands for a line that could not be read.
        now: the time.
    """
    ours = {**({"cluster": policy.cluster} if policy.cluster and "cluster" in alert.labels else {}), **policy.labels}
    other = next((name for name, value in ours.items() if alert.labels.get(name) != value), None)
    if other is not None:
        return Decision(alert, "none", f"it is about something else: its label {other} is not {_shown(ours[other])}")
    if alert.status != "firing":
        return Decision(
            alert, "none", "it is resolved" if alert.status == "resolved" else f"its status is {_shown(alert.status)}, not firing"
        )
    rule = next((rule for rule in policy.allow if rule.alert == alert.name), None)
    if rule is None or rule.action == "audit":
        return Decision(alert, "audit", f"the policy allows nothing more for {_shown(alert.name)}")
    node, refusal = _node(alert.node, listed, cluster)
    refusal = refusal or _not_allowed(rule, node) or _too_often(rule, policy.cluster, log, now)
    if refusal:
        return Decision(alert, "audit", f"no {rule.action}: {refusal}")
    return Decision(alert, rule.action, f"the policy allows it for {alert.name}", node)


def _node(label: Any, listed: Mapping[str, Any], cluster: str) -> tuple[str, str]:
    """Return the one host that a label names, and why there is none."""
    if not isinstance(label, str) or not label or len(label) > LONGEST:
        return "", "the alert has no label 'node' that could be a name"
    found = [host for host, name in nodes(listed, cluster).items() if label in (host, name)]
    if len(found) != 1:
        return "", f"{_shown(label)} is {'no host' if not found else 'more than one host'} of the inventory"
    # What --limit is given has to be this one host, whatever the inventory's names look like.
    if not _PLAIN.fullmatch(found[0]) or found[0] in ("all", "ungrouped") or found[0] in listed:
        return "", f"{_shown(found[0])} would not only mean this host in a --limit; give it another name in the inventory"
    return found[0], ""


def _not_allowed(rule: Rule, node: str) -> str:
    return "" if rule.nodes is None or node in rule.nodes else f"the policy does not name {node}"


def _too_often(rule: Rule, cluster: str, log: Sequence[Entry], now: datetime.datetime) -> str:
    unread = [number for number, entry in enumerate(log, 1) if not entry]
    if unread:
        return f"line {unread[0]} of {LOG} cannot be read, so nobody knows what was done before; correct or remove it"
    # What seems to come from the future counts: the clock was set back.
    before = [
        entry
        for entry in log
        if entry["event"] == "begins"
        and (entry["cluster"], entry["alert"]) == (cluster, rule.alert)
        and now - _time(entry["at"]) < rule.within
    ]
    if len(before) < rule.times:
        return ""
    last = before[-1]
    return (
        f"{len(before)} within {rule.within} is all that the policy allows, the last was {last['action']} of {last['host']} at {last['at']}"
    )


def _shown(value: object) -> str:
    """Return foreign text for a sentence: quoted, short, and without control characters."""
    text = json.dumps(value, default=str)
    return text if len(text) <= 80 else f"{text[:80]}..."


# -- The log -----------------------------------------------------------------------------------------------------------


class Log:
    """The log of alerts. Whoever has it open is the only one who acts."""

    def __init__(self, handle: TextIO, folder: pathlib.Path) -> None:
        text = handle.read()
        self._handle, self._folder = handle, folder
        self.entries = [_entry(line) for line in text.splitlines()]
        if text and not text.endswith("\n"):
            # A line that was cut off stays one that cannot be read.
            handle.write("\n")

    def add(self, event: str, at: datetime.datetime, **about: object) -> None:
        """Write a line, and have it on the disk."""
        line = json.dumps({"event": event, "at": at.isoformat(timespec="seconds"), **about})
        with writing(self._folder):
            self._handle.write(f"{line}\n")
            self._handle.flush()
            os.fsync(self._handle.fileno())
        self.entries.append(_entry(line))


@contextlib.contextmanager
def opened(folder: pathlib.Path) -> Iterator[Log]:
    """Open the log in a folder; waits for others who have it open.

    Raises:
        KubekeelError: it cannot be read or written
    """
    with writing(folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(folder / LOG, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "r+", encoding="utf-8", errors="replace") as handle:
        with writing(folder):
            fcntl.flock(handle, fcntl.LOCK_EX)
            log = Log(handle, folder)
        yield log


@contextlib.contextmanager
def writing(folder: pathlib.Path) -> Iterator[None]:
    """Say of what goes wrong that it is the log's.

    Raises:
        KubekeelError: it cannot be read or written
    """
    try:
        yield
    except OSError as error:
        raise KubekeelError(f"The log {folder / LOG} cannot be written: {error.strerror}") from None


def _entry(line: str) -> Entry:
    """Return a line of the log; empty where it cannot be read."""
    needed = {"begins": ("cluster", "alert", "action", "host"), "audited": ("cluster", "inventory", "found", "run")}
    try:
        entry = json.loads(line)
        _time(entry["at"])
        known = all(isinstance(entry[key], str) for key in ("event", *needed.get(entry["event"], ())))
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}
    return entry if known else {}


def _time(text: str) -> datetime.datetime:
    at = datetime.datetime.fromisoformat(text)
    return at if at.tzinfo else at.replace(tzinfo=datetime.UTC)


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


# -- Doing it ----------------------------------------------------------------------------------------------------------


def handle(
    body: Any,
    *,
    inventory: Inventory,
    policy: pathlib.Path | None,
    folder: pathlib.Path,
    run: Callable[..., Result] = runs.run,
    now: Callable[[], datetime.datetime] = _now,
) -> list[Decision]:
    """Do what is to be done for alerts, one after the other, and log it in C(alerts.jsonl).

    Alerts that fire get an audit as evidence, one for all that come within five minutes. A change follows where the policy allows it, for
    the one host that the alert names. A change is logged before it begins, so that one that broke off counts.

    Args:
        body: an alert, or the body of Alertmanager's webhook.
        inventory: the inventory; of a fleet one cluster.
        policy: the operator's policy; None for audits alone.
        folder: where runs and log are kept.
        run: C(kubekeel.run).
        now: the clock, UTC.

    Raises:
        UsageError: the body is none, or policy or inventory cannot be read
        KubekeelError: the log cannot be written
    """
    given = alerts(body)
    decisions: list[Decision] = []
    with opened(folder) as log:
        # Only now: whoever had the log before may have taken its time.
        allowed = read_policy(policy) if policy else Policy("")
        changing = {rule.alert for rule in allowed.allow if rule.action != "audit"}
        listed = inventories.listing(inventory.path) if any(alert.name in changing for alert in given) else {}
        for alert in given:
            decisions.append(_handle(alert, inventory, allowed, folder, listed, log, run, now))
            if decisions[-1].status == INTERRUPTED:
                break
    return decisions


def _handle(
    alert: Alert,
    inventory: Inventory,
    policy: Policy,
    folder: pathlib.Path,
    listed: Mapping[str, Any],
    log: Log,
    run: Callable[..., Result],
    now: Callable[[], datetime.datetime],
) -> Decision:
    decision = decide(alert, policy, listed, inventory.cluster, log.entries, now())
    if decision.action != "none":
        try:
            decision = _with_evidence(decision, inventory, policy, folder, log, run, now)
        except KubekeelError as error:
            decision = replace(decision, action="none", node="", reason=f"the audit could not begin: {error}", exit_code=3)
    if decision.node:
        log.add(
            "begins",
            now(),
            cluster=policy.cluster,
            alert=alert.name,
            fingerprint=alert.fingerprint,
            action=decision.action,
            host=decision.node,
        )
        try:
            done = run(decision.action, inventory, limit=decision.node, folder=folder)
            decision = replace(decision, run=done.id, status=done.status, exit_code=done.exit_code)
        except KubekeelError as error:
            decision = replace(decision, status="failed", reason=f"it could not begin: {error}", exit_code=error.exit_code)
    log.add(
        "alert",
        now(),
        cluster=policy.cluster,
        fingerprint=alert.fingerprint,
        alert=alert.name,
        node=alert.node[:LONGEST] if isinstance(alert.node, str) else "",
        status=alert.status,
        decision=decision.action,
        reason=decision.reason,
        host=decision.node,
        evidence=str(folder / decision.evidence) if decision.evidence else "",
        run=decision.run,
        ended=decision.status,
    )
    return decision


def _with_evidence(
    decision: Decision,
    inventory: Inventory,
    policy: Policy,
    folder: pathlib.Path,
    log: Log,
    run: Callable[..., Result],
    now: Callable[[], datetime.datetime],
) -> Decision:
    """Return a decision with an audit, which may show that the inventory is not the policy's."""
    began = now()
    about = {"cluster": policy.cluster, "inventory": str(inventory)}
    earlier = [entry for entry in log.entries if entry and entry["event"] == "audited" and about.items() <= entry.items()]
    if not earlier or not datetime.timedelta(0) <= began - _time(earlier[-1]["at"]) < FRESH:
        audit = run("audit", inventory, folder=folder)
        if audit.status == INTERRUPTED:
            reason = "the audit was interrupted"
            return replace(decision, action="none", node="", reason=reason, status=audit.status, exit_code=audit.exit_code)
        log.add("audited", began, **about, found=audit.cluster, run=audit.id, status=audit.status)
        found, evidence = audit.cluster, audit.id
    else:
        found, evidence = earlier[-1]["found"], earlier[-1]["run"]
    decision = replace(decision, evidence=evidence)
    if decision.node and found != policy.cluster:
        reason = f"no {decision.action}: the inventory is of the cluster {_shown(found)}, the policy is for {_shown(policy.cluster)}"
        return replace(decision, action="audit", node="", reason=reason)
    return decision
