"""Findings put together: which of them count, and what is the same on several nodes. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

Document = Mapping[str, Any]
Finding = Mapping[str, Any]

SEVERITIES = ("critical", "warning", "info")
"""The worst first."""
STATES = {
    "fail": "found",
    "unknown": "could not be read",
    "warn": "to be known",
    "waived": "waived",
    "pass": "well",
    "skip": "does not apply",
}
"""What may come of a finding, in words, the worst first. V(waived) is one of any status that has a waiver."""

_WEIGHTS = (*SEVERITIES, "")
_SAME = ("id", "kind", "severity", "status", "title", "why", "remedy", "source")


def state(finding: Finding) -> str:
    """Return what came of a finding, one of C(STATES)."""
    return "waived" if finding["waiver"] else str(finding["status"])


def weight(finding: Finding) -> str:
    """Return the severity with which a finding counts, empty where it does not: what is only to be known counts as V(info)."""
    return {"fail": str(finding["severity"]), "unknown": str(finding["severity"]), "warn": "info"}.get(state(finding), "")


@dataclass(frozen=True)
class Issue:
    """Findings that say the same of several nodes."""

    finding: Finding
    """One of them: all but its node and evidence is the same in each."""
    seen: tuple[tuple[str, tuple[str, ...]], ...]
    """What was seen, and on which nodes."""

    @property
    def nodes(self) -> tuple[str, ...]:
        """All their nodes, in the order in which they were found; the empty name is the cluster."""
        return tuple(dict.fromkeys(node for _evidence, nodes in self.seen for node in nodes))

    @property
    def state(self) -> str:
        """What came of it, one of C(STATES)."""
        return state(self.finding)

    @property
    def weight(self) -> str:
        """The severity with which it counts; empty where it does not."""
        return weight(self.finding)


def issues(findings: Iterable[Finding]) -> list[Issue]:
    """Return findings put together over nodes, the worst first."""
    alike: dict[tuple[str, ...], tuple[Finding, dict[str, dict[str, None]]]] = {}
    for finding in findings:
        waiver = finding["waiver"] or {"reason": "", "expires": ""}
        key = (*(finding[name] for name in _SAME), waiver["reason"], waiver["expires"], state(finding))
        _first, seen = alike.setdefault(key, (finding, {}))
        seen.setdefault(finding["evidence"], {})[finding["node"]] = None
    made = [Issue(first, tuple((evidence, tuple(nodes)) for evidence, nodes in seen.items())) for first, seen in alike.values()]
    return sorted(made, key=_order)


def by_nodes(found: Iterable[Issue]) -> list[tuple[tuple[str, ...], list[Issue]]]:
    """Return issues by the nodes that have them: those of the cluster first, then those that most nodes have."""
    groups: dict[frozenset[str], list[Issue]] = {}
    for issue in found:
        groups.setdefault(frozenset(issue.nodes), []).append(issue)
    made = [(group[0].nodes, group) for group in groups.values()]
    return sorted(made, key=lambda group: (group[0] != ("",), -len(group[0]), group[0]))


def listed(document: Document) -> list[Finding]:
    """Return the findings without those that the same report shows as changes."""
    in_plan = document["run"]["command"] != "audit" and (document["plan"] or document["changes"])
    return [finding for finding in document["findings"] if not (in_plan and finding["kind"] == "setting" and weight(finding))]


def reasons(found: Iterable[Issue]) -> list[tuple[str, list[tuple[list[str], str, str]]]]:
    """Return what to do about issues, each with those it helps: their ids, why they matter, and where that can be read."""
    remedies: dict[str, dict[tuple[str, str], dict[str, None]]] = {}
    for issue in found:
        one = issue.finding
        if one["why"] or one["remedy"] or one["source"]:
            remedies.setdefault(one["remedy"], {}).setdefault((one["why"], one["source"]), {})[one["id"]] = None
    return [(remedy, [(list(ids), why, source) for (why, source), ids in parts.items()]) for remedy, parts in remedies.items()]


def _order(issue: Issue) -> tuple[int, int, int]:
    return _WEIGHTS.index(issue.weight), list(STATES).index(issue.state), _WEIGHTS.index(issue.finding["severity"])
