"""What changed between two results of a cluster. Pure."""

from collections.abc import Iterable, Mapping
from typing import Any

from .facts import budget_now, cases, only_said, tenths
from .findings import Document, Finding, state, weight

Compared = dict[str, Any]


def compare(document: Document, against: Document) -> Compared:
    """Return what changed since an earlier result.

    Returns:
        C(findings), with lists of C(new) (count now, and did not), C(changed) (count in both, in another way), C(same), C(gone) (do not
        count any more) and C(unseen) (nobody looked this time), each finding with C(before) and C(now), its states, empty where it
        was not there; C(facts), C(settings), C(budget) and C(drill), each a list of what is different, with C(before) and C(now).
    """
    return {
        "findings": _findings(document, against),
        "facts": _facts(document, against),
        "settings": _settings(document, against),
        "budget": _budget(document, against),
        "drill": _drill(document, against),
    }


def _findings(document: Document, against: Document) -> dict[str, list[dict[str, Any]]]:
    made: dict[str, list[dict[str, Any]]] = {name: [] for name in ("new", "changed", "same", "gone", "unseen")}
    for now, before in _pairs(document["findings"], against["findings"]):
        weights = [weight(finding) if finding else "" for finding in (before, now)]
        shown = now or before
        if shown is None or not any(weights):
            continue
        if not weights[0]:
            kind = "new"
        elif weights[1]:
            kind = "same" if weights[0] == weights[1] and now and before and state(now) == state(before) else "changed"
        else:
            kind = "gone" if now or _looked(document, against, shown) else "unseen"
        states = {name: state(finding) if finding else "" for name, finding in (("before", before), ("now", now))}
        made[kind].append({**shown, **states})
    return made


def _pairs(now: Iterable[Finding], before: Iterable[Finding]) -> list[tuple[Finding | None, Finding | None]]:
    """Return findings of both sides that are about the same, those with the same title first."""
    left: dict[tuple[str, str], list[Finding]] = {}
    for finding in before:
        left.setdefault((finding["id"], finding["node"]), []).append(finding)
    made: list[tuple[Finding | None, Finding | None]] = []
    for finding in sorted(now, key=lambda one: not _same_title(left, one)):
        known = left.get((finding["id"], finding["node"]), [])
        other = next((one for one in known if one["title"] == finding["title"]), known[0] if known else None)
        if other is not None:
            known.remove(other)
        made.append((finding, other))
    return made + [(None, finding) for known in left.values() for finding in known]


def _same_title(left: Mapping[tuple[str, str], list[Finding]], finding: Finding) -> bool:
    return any(one["title"] == finding["title"] for one in left.get((finding["id"], finding["node"]), ()))


def _looked(document: Document, against: Document, finding: Finding) -> bool:
    """Tell whether what is not found any more was looked for at all."""
    run, node = document["run"], finding["node"]
    if any(finding["id"] == setting["name"] for change in document["changes"] if change["node"] == node for setting in change["settings"]):
        return True
    if not document["findings"] or (run["tags"] and run["tags"] != against["run"]["tags"]):
        return False
    # A verification looks for its own findings, and for no others.
    if (finding["kind"] == "verification") != (run["command"] == "verify"):
        return False
    if finding["kind"] in ("setting", "remedy") and not only_said(document):
        return False
    if not node:
        return run["status"] in ("ok", "findings")
    # A node that left the cluster takes what was wrong with it along.
    return all(one["read"] for one in document["cluster"]["nodes"] if one["name"] == node)


def _facts(document: Document, against: Document) -> list[dict[str, str]]:
    sides = [_facts_of(one) for one in (against, document)]
    return [{"name": name, "before": sides[0][name], "now": sides[1][name]} for name in sides[0] if sides[0][name] != sides[1][name]]


def _facts_of(document: Document) -> dict[str, str]:
    cluster, run = document["cluster"], document["run"]
    spare = cluster["servers_to_spare"]
    return {
        "Cluster": cluster["name"],
        "Command": run["command"],
        "Ended": run["status"],
        "Release": ", ".join(cluster["releases"]),
        "Profile": cluster["profile"],
        "Nodes": ", ".join(node["name"] for node in cluster["nodes"]),
        "Servers that may be lost": "not known" if spare is None else str(spare),
        "kubekeel": document["tool"]["kubekeel"],
    }


def _settings(document: Document, against: Document) -> list[dict[str, str]]:
    """Return settings of which both results know the value, and not the same."""
    values = _values(against), _values(document)
    # An audit has no values, only what it says of them.
    texts = _evidence(against), _evidence(document)
    made = []
    for node, setting in {**values[1], **texts[1]}:
        key = node, setting
        before, now = values if key in values[0] and key in values[1] else texts
        if key in before and key in now and before[key] != now[key]:
            made.append({"node": node, "setting": setting, "before": before[key], "now": now[key]})
    return made


def _values(document: Document) -> dict[tuple[str, str], str]:
    """Return the settings in force at the end of a run, by node and title, as far as it says them."""
    parts = [("plan", "before")] + ([] if only_said(document) else [("changes", "after")])
    return {
        (change["node"], f"{setting['name']} of {setting['owner']}"): setting[moment]
        for part, moment in parts
        for change in document[part]
        for setting in change["settings"]
    }


def _evidence(document: Document) -> dict[tuple[str, str], str]:
    return {(one["node"], one["title"]): one["evidence"] for one in document["findings"] if one["kind"] == "setting"}


def _budget(document: Document, against: Document) -> list[dict[str, Any]]:
    """Return the steps that the settings in force at the end of each run give, where they are not the same."""
    if not document["budget"] or not against["budget"]:
        return []
    before, now = ({step["name"]: step for step in one["budget"][budget_now(one)]["steps"]} for one in (against, document))
    return [
        {"name": name, "label": (now.get(name) or before[name])["label"], "before": _cases(before.get(name)), "now": _cases(now.get(name))}
        for name in dict.fromkeys([*before, *now])
        if _cases(before.get(name)) != _cases(now.get(name))
    ]


def _cases(step: Mapping[str, Any] | None) -> dict[str, float] | None:
    return {case: step[case] for case in ("typical", "worst")} if step else None


def _drill(document: Document, against: Document) -> list[dict[str, Any]]:
    """Return what two drills measured, where it is not the same."""
    if not document["drill"] or not against["drill"]:
        return []
    before, now = (_drill_figures(one["drill"]) for one in (against, document))
    return [{"name": name, "before": before[name], "now": now[name]} for name in now if before[name] != now[name]]


def _drill_figures(drill: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "scenario": drill["scenario"],
        "passed": drill["passed"],
        **{name: drill["slowest"][name] for name in ("new_leader", "node_down", "endpoint_gone", "requests_end")},
        "failed_requests": drill["requests"]["failed"],
        "longest_gap": drill["requests"]["longest_gap"],
    }


def rows(compared: Compared) -> list[tuple[str, str, str]]:
    """Return what is different beside the findings: what it is, before, and now, in words."""
    made = [(fact["name"], fact["before"] or "-", fact["now"] or "-") for fact in compared["facts"]]
    made += [(step["label"], cases(step["before"]), cases(step["now"])) for step in compared["budget"]]
    for one in compared["drill"]:
        before, now = (_drill_words(one["name"], one[side]) for side in ("before", "now"))
        made.append((f"drill: {one['name'].replace('_', ' ')}", before, now))
    settings: dict[tuple[str, str, str], list[str]] = {}
    for one in compared["settings"]:
        settings.setdefault((one["setting"], one["before"] or "-", one["now"] or "-"), []).append(one["node"])
    return made + [(f"{what} on {', '.join(nodes)}", before, now) for (what, before, now), nodes in settings.items()]


def _drill_words(name: str, value: Any) -> str:
    if name == "passed":
        return "PASSED" if value else "FAILED"
    return str(value).replace("_", " ") if name in ("scenario", "failed_requests") else tenths(value)
