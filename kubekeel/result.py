"""The one result of a run: built of what its playbook kept and what its events told. Pure but for C(load)."""

import datetime
import functools
import importlib.resources
import json
import pathlib
import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from . import waivers
from .errors import UsageError
from .events import HEALTH, LOCK, Seen, setting

SCHEMA = 1
SEVERITIES = ("info", "warning", "critical")
NEVER = "never"
LEFT_OUT = "left out by --limit"
"""Why a node was not read, where that is as it was asked for."""
EXIT_CODES = {"ok": 0, "findings": 1, "usage": 2, "incomplete": 3, "failed": 4, "refused": 5, "interrupted": 130}
"""By the status of a run."""

Document = dict[str, Any]
"""As kubekeel/result.schema.json says."""
Finding = dict[str, Any]
Facts = Mapping[str, Any]
"""What a playbook kept, see kubekeel_result in playbooks/vars/nodes.yml."""

STEPS = {
    "new_leader": "new leader",
    "node_down": "node seen down",
    "endpoint_gone": "endpoint gone",
    "requests_end": "requests fail until",
    "pods_evicted": "pods replaced",
    "unacknowledged_dropped": "dead connection with unanswered data",
    "idle_dropped": "idle dead connection",
}


class Rule(NamedTuple):
    """What is the same wherever a finding is made."""

    kind: str
    title: str
    why: str
    remedy: str
    source: str = ""


RULES: Mapping[str, Rule] = {
    "cluster_health": Rule(
        "cluster",
        "Whether the cluster can lose a server",
        "where a server is away already, the next one costs the quorum",
        "bring back what is away; kubekeel recover is for nodes of K3s that stay NotReady",
        "docs/architecture.md, What a healthy cluster is",
    ),
    "node_unread": Rule(
        "node",
        "The node could not be read",
        "nobody knows what is set there, nor whether it is well",
        "kubekeel doctor tells what keeps it from being read",
    ),
    "damaged_line": Rule(
        "file",
        "A line with which a component will not start again",
        "it runs on with what it read at its start; the next restart, whoever causes it, takes the node down",
        "mend that line; the finding names file and line",
    ),
    "not_remediable": Rule(
        "file",
        "Cannot be remediated as wanted",
        "a value that the node cannot take is refused for all nodes, before anything changes",
        "set the variable that the finding names to something that the node can take",
    ),
    "to_mend_by_hand": Rule(
        "node",
        "To be mended by hand",
        "it stands in a file of yours, and kubekeel changes none of these",
        "change what the finding names, with file and line",
    ),
    "tcp_connections": Rule(
        "node",
        "Time-outs of connections",
        "a connection to a node that died hangs until its own time-outs end, and the host's do not reach pods",
        "choose with tcp_timeouts_pods what reaches pods; with safe-sysctls and init-container manifests have to say it",
        "docs/tcp.md",
    ),
}
"""Findings that are about no single setting, guard or bug, by id."""


@dataclass(frozen=True)
class About:
    """What was asked for."""

    run: str
    command: str
    inventory: str
    cluster: str
    began: str
    ended: str
    seconds: float
    check: bool = False
    limit: str = ""
    tags: tuple[str, ...] = ()
    fail_on: str = "critical"


@dataclass(frozen=True)
class Result:
    """A run that has ended."""

    document: Document
    folder: pathlib.Path
    """Where result.json and output.txt lie."""
    notes: tuple[str, ...] = ()
    """What is to be said of the waivers, such as that one has expired."""

    @property
    def id(self) -> str:
        """The run's name."""
        return str(self.document["run"]["id"])

    @property
    def status(self) -> str:
        """How it ended, one of C(EXIT_CODES)."""
        return str(self.document["run"]["status"])

    @property
    def exit_code(self) -> int:
        """The same as a number."""
        return int(self.document["run"]["exit_code"])

    @property
    def cluster(self) -> str:
        """The cluster's name."""
        return str(self.document["cluster"]["name"])

    @property
    def findings(self) -> list[Finding]:
        """What was looked at."""
        return list(self.document["findings"])


def build(
    about: About,
    ended: str,
    seen: Seen,
    facts: Facts | None,
    waived: Sequence["waivers.Waiver"] = (),
    verification: Sequence[Finding] = (),
    errors: Sequence[str] = (),
) -> Document:
    """Return the result of a run.

    Args:
        about: what was asked for.
        ended: successful, failed, canceled or lost, see C(jobs.Ended).
        seen: what the events told.
        facts: what the playbook kept; None where it did not come that far.
        waived: findings that do not count.
        verification: what the verification found, where that was the run.
        errors: why it failed, where no event said so.
    """
    facts = facts or {}
    if about.command == "recover" and seen.changes and ended == "successful":
        # What the cluster was like before is no finding any more; the playbook saw each node become Ready.
        facts = {**facts, "nodes": {name: {**node, "health": {}} for name, node in facts["nodes"].items()}}
    nodes = _nodes(facts, seen)
    findings = [*_findings(about, facts, nodes), *verification]
    findings, _told = waivers.apply(findings, waived, datetime.date.fromisoformat(about.began[:10]))
    changes = list(seen.changes.values())
    failures = _failures(seen, errors, lost=ended == "lost")
    status = _status(about, ended, seen, findings)
    infos = [node for node in nodes if node["read"]]
    return {
        "schema": SCHEMA,
        "run": {
            "id": about.run,
            "command": about.command,
            "inventory": about.inventory,
            "check": about.check,
            "limit": about.limit,
            "tags": list(about.tags),
            "began": about.began,
            "ended": about.ended,
            "seconds": round(about.seconds, 1),
            "status": status,
            "exit_code": EXIT_CODES[status],
            "fail_on": about.fail_on,
            "taken_back_by": _taken_back_by(about, seen),
        },
        "tool": _tool(),
        "cluster": {
            "name": facts.get("cluster") or about.cluster,
            "distribution": next((info.get("distribution", "") for info in _infos(facts, seen).values() if info), ""),
            "releases": sorted({node["release"] for node in infos} - {""}),
            "profile": facts.get("profile") or "",
            "summary": _summary(facts),
            "servers_to_spare": min(
                (health["servers_to_spare"] for health in _healths(facts) if health.get("servers_to_spare") is not None), default=None
            ),
            "nodes": nodes,
        },
        "findings": findings,
        "plan": changes if about.check else [],
        "changes": [] if about.check else changes,
        "gates": [] if about.check else seen.gates,
        "failures": failures,
        "budget": _budget(facts.get("budget") or {}),
        "drill": facts.get("drill"),
        "texts": seen.texts,
    }


def counts(finding: Mapping[str, Any], least: str) -> bool:
    """Tell whether a finding counts at a severity: it is so or could not be read, and nobody waived it."""
    if least == NEVER or finding["waiver"]:
        return False
    bad = finding["status"] in ("fail", "unknown") or (finding["status"] == "warn" and least == SEVERITIES[0])
    return bad and SEVERITIES.index(finding["severity"]) >= SEVERITIES.index(least)


def finding(identifier: str, kind: str, severity: str, status: str, **texts: str) -> Finding:
    """Return a finding; texts that are left out are empty."""
    made = {"id": identifier, "kind": kind, "severity": severity, "status": status}
    return {**made, **{name: texts.get(name, "") for name in ("node", "title", "evidence", "why", "remedy", "source")}, "waiver": None}


def _nodes(facts: Facts, seen: Seen) -> list[dict[str, Any]]:
    """Return every node of the inventory, and those that only the events know."""
    known = facts.get("nodes") or {}
    infos = _infos(facts, seen)
    names = list(known) or list(dict.fromkeys([*infos, *(name for name in seen.failed if name != "localhost")]))
    asked = facts.get("asked") or names
    found = []
    for name in names:
        info, failure = infos.get(name) or {}, seen.failed.get(name)
        # A node that failed after it had been read was read all the same, unless nothing of what was compared is there.
        read = bool(info) and (not known or known[name].get("results") is not None or not known[name].get("compared"))
        problem = "" if read else failure["message"] if failure else LEFT_OUT if name not in asked else "was not read"
        found.append(
            {
                "name": name,
                "role": known.get(name, {}).get("role") or ("agent" if info.get("kind") == "agent" else "server"),
                "release": str(info.get("release") or ""),
                "read": read,
                "problem": problem,
            }
        )
    return found


def _infos(facts: Facts, seen: Seen) -> dict[str, Mapping[str, Any]]:
    known = facts.get("nodes") or {}
    return {**seen.infos, **{name: node["info"] for name, node in known.items() if node.get("info", {}).get("distribution")}}


def _healths(facts: Facts) -> list[Mapping[str, Any]]:
    """Return what API servers said of the cluster, without those that could not be asked."""
    healths = (node.get("health") or {} for node in (facts.get("nodes") or {}).values())
    return [health for health in healths if health.get("reasons") is not None]


def _summary(facts: Facts) -> str:
    healths = _healths(facts)
    if not healths:
        return ""
    reasons = dict.fromkeys(reason for health in healths for reason in health["reasons"])
    if reasons:
        return "; ".join(reasons)
    voters = sum(member["role"] == "voter" for member in healths[0].get("members") or ())
    return f"all nodes Ready, {voters} voters up, {healths[0]['servers_to_spare']} server may be lost"


def _findings(about: About, facts: Facts, nodes: Sequence[Mapping[str, Any]]) -> Iterator[Finding]:
    """Return what was found, the cluster's own first."""
    if not facts.get("nodes"):
        return
    yield from _of_cluster(facts)
    asked = facts.get("asked") or ()
    for node in nodes:
        name, found = node["name"], facts["nodes"][node["name"]]
        if name not in asked:
            continue
        if not node["read"]:
            yield _ruled("node_unread", "critical", "unknown", node=name, evidence=node["problem"])
            continue
        yield from _of_guards(name, found.get("guards") or (), facts.get("accepted") or ())
        if about.check or about.command == "audit":
            yield from _of_settings(name, found)
            yield from _of_connections(name, found.get("connections") or ())
        yield from _by_hand(name, found)


def _of_cluster(facts: Facts) -> Iterator[Finding]:
    for name, node in facts["nodes"].items():
        health = node.get("health") or {}
        if health.get("msg") and health.get("reasons") is None:
            yield _ruled("cluster_health", "critical", "unknown", node=name, evidence=health["msg"])
    healths = _healths(facts)
    if healths:
        well = all(health.get("as_asked", True) for health in healths)
        yield _ruled("cluster_health", "critical", "pass" if well else "fail", evidence=_summary(facts))


def _ruled(identifier: str, severity: str, status: str, **texts: str) -> Finding:
    """Return a finding of a rule; what is well needs no remedy."""
    rule = RULES[identifier]
    known = {"title": rule.title, "why": rule.why, "remedy": "" if status == "pass" else rule.remedy, "source": rule.source}
    return finding(identifier, rule.kind, severity, status, **{**known, **texts})


def _of_guards(node: str, guards: Iterable[Mapping[str, Any]], accepted: Sequence[str]) -> Iterator[Finding]:
    """Return what speaks against a change now, or is to be known before one."""
    from ansible_collections.kubekeel.ha.plugins.module_utils.guards import GUARDS

    for one in guards:
        guard, text = GUARDS.get(one["name"]), one["text"]
        what, cure = text, ""
        if guard:
            what, _, rest = text.partition(f". Why: {guard.why}. To do: ")
            cure = rest.removesuffix(f" ({guard.source})")
        refuses = one["refuses"] and one["name"] not in accepted
        yield finding(
            one["name"],
            "guard",
            "critical" if refuses else "info",
            "fail" if refuses else "warn",
            node=node,
            title=one["name"].replace("_", " "),
            evidence=what,
            why=guard.why if guard else "",
            remedy=cure + (f"; to go on all the same: {one['accept']}" if refuses else ""),
            source=guard.source if guard else "",
        )


def _of_settings(node: str, found: Mapping[str, Any]) -> Iterator[Finding]:
    """Return each setting that differs, and each remedy that has nothing to do."""
    for remedy, result in zip(found.get("remedies") or (), found.get("results") or (), strict=False):
        role = remedy.removesuffix("_staged")
        for change in result.get("changes") or ():
            shown = setting(change)
            yield finding(
                shown["name"],
                "setting",
                "warning",
                "fail",
                node=node,
                title=f"{shown['name']} of {shown['owner']}",
                evidence=f"is {shown['before'] or 'not set'}, wanted is {shown['after'] or 'not to be set'}"
                + (f" ({shown['note']})" if shown["note"] else ""),
                why=str(change.get("why") or ""),
                remedy="kubekeel remediate sets it",
                source=str(change.get("source") or ""),
            )
        if result.get("restart") and not result.get("changes"):
            units = ", ".join(result["restart"])
            yield finding(
                role,
                "remedy",
                "warning",
                "fail",
                node=node,
                title=role.replace("_", " "),
                evidence=f"{units} has not restarted since its settings changed",
                why="what was set is not in force",
                remedy="kubekeel remediate restarts it",
            )
        elif not result.get("changes"):
            yield finding(role, "remedy", "info", "pass", node=node, title=role.replace("_", " "), evidence="is as wanted")


def _of_connections(node: str, lines: Sequence[str]) -> Iterator[Finding]:
    """Return what is worth knowing of live connections."""
    if lines:
        yield _ruled("tcp_connections", "info", "warn", node=node, evidence="; ".join(lines))


def _by_hand(node: str, found: Mapping[str, Any]) -> Iterator[Finding]:
    """Return what a remediation cannot mend."""
    from ansible_collections.kubekeel.ha.plugins.module_utils.known_bugs import BUGS

    for problem in found.get("problems") or ():
        line = f"{problem['path']}:{problem['line']}: {problem['text']}"
        yield _ruled("damaged_line", "critical", "fail", node=node, evidence=line, why=str(problem["why"]))
    for reason in found.get("reasons") or ():
        yield _ruled("not_remediable", "warning", "fail", node=node, evidence=reason)
    for text in found.get("findings") or ():
        bug = next((bug for bug in BUGS if bug.source in text), None)
        if bug:
            title = "A bug that the release has"
            yield finding(bug.source, "node", "warning", "fail", node=node, title=title, evidence=text, source=bug.source)
        else:
            yield _ruled("to_mend_by_hand", "warning", "fail", node=node, evidence=text)


def _failures(seen: Seen, errors: Sequence[str], *, lost: bool) -> list[dict[str, Any]]:
    """Return why it failed: each message once. What is said of a run that was lost is said in any case."""
    grouped: dict[tuple[str, str, bool], list[str]] = {}
    for node, failure in seen.failed.items():
        if node in seen.failing or not seen.told:
            grouped.setdefault((failure["task"], failure["message"], failure["unreachable"]), []).append(node)
    found = [{"nodes": nodes, "task": task, "message": text, "unreachable": gone} for (task, text, gone), nodes in grouped.items()]
    others = [{"nodes": [], "task": "", "message": text, "unreachable": False} for text in errors]
    return found + others if lost else found or others


def _status(about: About, ended: str, seen: Seen, findings: Sequence[Finding]) -> str:
    """Return how a run ended, see C(EXIT_CODES)."""
    if ended == "canceled":
        return "interrupted"
    if any(each["kind"] == "verification" and counts(each, about.fail_on) for each in findings):
        return "failed" if any(each["status"] == "fail" for each in findings if each["kind"] == "verification") else "incomplete"
    if ended != "successful":
        return _failed(about, ended, seen)
    if any(counts(each, about.fail_on) for each in findings):
        return "findings"
    return "ok"


def _failed(about: About, ended: str, seen: Seen) -> str:
    last = [failure for node, failure in seen.failed.items() if node in seen.failing]
    if ended == "lost" or not last:
        return "incomplete"
    if all(failure["action"].endswith("validate_argument_spec") or failure["play"] == "Look at the inventory" for failure in last):
        return "usage"
    if seen.touched and not about.check:
        return "failed"
    if any(failure["unreachable"] for failure in last):
        return "incomplete"
    refused = all(failure["message"].startswith("Nothing was changed") or failure["action"] in (HEALTH, LOCK) for failure in last)
    return "refused" if refused and about.command != "audit" else "incomplete"


def _taken_back_by(about: About, seen: Seen) -> str:
    """Return the name under which nodes remember what a remediation changed: its lock's, without the number behind it."""
    remembered = about.command == "remediate" and not about.check and seen.changes
    return seen.lock.rpartition("-")[0] if remembered else ""


def _budget(budget: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what the death of the worst node costs."""
    if not budget:
        return None
    return {moment: _of_moment(budget[moment]) for moment in ("before", "after")}


def _of_moment(budget: Mapping[str, Any]) -> dict[str, Any]:
    server = budget["servers"][budget["slowest"]]
    steps = server[server["slowest"]]
    return {
        "server": budget["slowest"],
        "case": server["slowest"],
        "steps": [
            {"name": name, "label": label, "typical": steps[name]["typical"], "worst": steps[name]["worst"]}
            for name, label in STEPS.items()
            if steps.get(name)
        ],
        "largest": [{"setting": part["setting"], "owner": part["owner"] or "", "seconds": part["worst"]} for part in server["largest"]],
    }


@functools.cache
def _tool() -> dict[str, str]:
    from ansible.release import __version__ as core

    from . import __version__

    return {"kubekeel": __version__, "ansible_core": str(core), "python": platform.python_version()}


def schema() -> dict[str, Any]:
    """Return the schema of a result."""
    found: dict[str, Any] = json.loads(importlib.resources.files(__package__).joinpath("result.schema.json").read_text())
    return found


def load(path: pathlib.Path) -> Document:
    """Read a result back.

    Raises:
        UsageError: it is none, or one of another version
    """
    try:
        document: Document = json.loads(path.read_text())
        version = document["schema"]
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path} is no result of kubekeel") from error
    if version != SCHEMA:
        raise UsageError(f"{path} is of version {version} of the format, and this kubekeel reads {SCHEMA}")
    missing = sorted(set(schema()["required"]) - set(document))
    if missing:
        raise UsageError(f"{path} is no result of kubekeel: it lacks {', '.join(missing)}")
    return document
