"""What a result document says beside its findings, as every report says it. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..result import LEFT_OUT
from .findings import Document
from .words import count, names, span

Change = Mapping[str, Any]
Figures = Mapping[str, Any]

RESTARTS = {"Would change": "Would restart", "Changed": "Restarted", "Planned, not done": "Not restarted"}
"""What is said of restarts below each heading of C(changes)."""
PREVIEWS = ("audit", "plan")
"""Commands that change nothing."""


def only_said(document: Document) -> bool:
    """Tell whether the run was only to say what it would do."""
    return bool(document["run"]["check"]) or document["run"]["command"] in PREVIEWS


def about(document: Document) -> list[tuple[str, str]]:
    """Return the facts of a run and its cluster, each with its name; what is not known is left out."""
    run, cluster, tool = document["run"], document["cluster"], document["tool"]
    roles = [node["role"] for node in cluster["nodes"]]
    spare = cluster["servers_to_spare"]
    pairs = [
        ("Cluster", " ".join(filter(None, (cluster["name"], cluster["distribution"], ", ".join(cluster["releases"]))))),
        ("Nodes", ", ".join(count(roles.count(role), role) for role in ("server", "agent") if role in roles)),
        ("Profile", cluster["profile"]),
        ("Health", cluster["summary"]),
        ("Servers that may be lost", "" if spare is None else str(spare)),
        ("Run", run["id"]),
        ("Began", run["began"]),
        ("Took", span(run["seconds"])),
        ("Inventory", run["inventory"]),
        ("Limited to", " ".join(filter(None, (run["limit"], ", ".join(run["tags"]))))),
        ("Made by", f"kubekeel {tool['kubekeel']}, ansible-core {tool['ansible_core']}, Python {tool['python']}"),
    ]
    return [(name, value) for name, value in pairs if value]


def unread(document: Document) -> list[Mapping[str, Any]]:
    """Return the nodes that could not be read although they were asked."""
    return [node for node in document["cluster"]["nodes"] if node["problem"] and node["problem"] != LEFT_OUT]


def unexplained(document: Document) -> list[Mapping[str, Any]]:
    """Return the nodes that could not be read, of which neither a failure nor a finding says so."""
    said = {node for failure in document["failures"] for node in failure["nodes"]}
    said |= {finding["node"] for finding in document["findings"] if finding["status"] == "unknown"}
    return [node for node in unread(document) if node["name"] not in said]


def something(changes: Sequence[Change]) -> list[Change]:
    """Return the changes without nodes on which nothing changes."""
    return [change for change in changes if change["settings"] or change["files"] or change["restarts"]]


def alike(changes: Sequence[Change]) -> list[tuple[tuple[str, ...], Change]]:
    """Return what changes with the nodes on which it is the same, in the order in which they come.

    Where the lines around a change in a file differ, those of the first node are there.
    """
    groups: list[tuple[list[str], Change, object]] = []
    for change in something(changes):
        key = (change["settings"], [(file["path"], _changed_lines(file["diff"])) for file in change["files"]], change["restarts"])
        nodes = next((nodes for nodes, _first, known in groups if known == key), None)
        if nodes is None:
            groups.append(([change["node"]], change, key))
        else:
            nodes.append(change["node"])
    return [(tuple(nodes), first) for nodes, first, _key in groups]


def changes(document: Document) -> list[tuple[str, list[tuple[tuple[str, ...], Change]]]]:
    """Return what changed and what was not done, each with its heading, by nodes that have it in common."""
    if only_said(document):
        parts = [("Would change", document["plan"])]
    else:
        done = {change["node"] for change in document["changes"]}
        parts = [("Changed", document["changes"]), ("Planned, not done", [one for one in document["plan"] if one["node"] not in done])]
    return [(heading, alike(part)) for heading, part in parts if something(part)]


def _changed_lines(diff: str) -> list[str]:
    return [line for index, line in enumerate(diff.splitlines()) if line.startswith(("+", "-")) and index > 1]


def budget_steps(document: Document) -> list[tuple[str, Figures | None, Figures | None]]:
    """Return each step of the budget: its words, and its figures before and after; None where a moment has none."""
    if not document["budget"]:
        return []
    before, after = ({step["name"]: step for step in document["budget"][moment]["steps"]} for moment in ("before", "after"))
    # The server whose loss costs most may be another one afterwards, and what it leads decides which steps there are.
    return [((before.get(name) or after[name])["label"], before.get(name), after.get(name)) for name in dict.fromkeys([*before, *after])]


def budget_moments(document: Document) -> tuple[str, str]:
    """Return what before and after mean in this run."""
    return ("now", "remediated") if only_said(document) else ("before", "after")


def budget_now(document: Document) -> str:
    """Return which of the two budgets is in force at the end of the run."""
    return "after" if document["changes"] and not only_said(document) else "before"


def drill_title(drill: Mapping[str, Any]) -> str:
    """Return what was drilled, such as V(leader loss of server1)."""
    lost = f" of {names(list(dict.fromkeys(drill['victims'])))}" if drill["victims"] else ""
    return str(drill["scenario"]).replace("_", " ") + lost


def measured(step: Figures) -> str:
    """Return what was measured of a step of a loss, in words."""
    return "not watched" if step["name"] == "pods_evicted" else tenths(step["measured"])


def checks(drill: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the checks of a drill: those that failed first, then those that cannot be told."""
    return sorted(drill["checks"], key=lambda check: (check["ok"] is not False, check["ok"] is True))


def cases(step: Figures | None) -> str:
    """Return what a step takes typically, and at worst."""
    return f"{span(step['typical'])} ({span(step['worst'])})" if step else "-"


def tenths(seconds: float | None) -> str:
    """Return a measured duration, or one to compare with it, as exactly as it is known; a dash where there is none."""
    return "-" if seconds is None else f"{seconds:.1f} s"
