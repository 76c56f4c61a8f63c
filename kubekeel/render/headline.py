"""How a run ended, in one line, and what to do next. Pure."""

from . import facts
from .findings import SEVERITIES, Document, issues, listed, weight
from .words import count

Step = tuple[str, str]
"""A command and what it is for; without a command the words are all."""

_TITLES = {
    "audit": "AUDIT of",
    "plan": "PLAN for",
    "remediate": "REMEDIATION of",
    "verify": "VERIFICATION of",
    "drill": "DRILL of",
    "rollback": "ROLLBACK of",
    "recover": "RECOVERY of",
    "restart": "RESTART of",
}
_ENDS = {
    "usage": "REFUSED for what it was asked, nothing was changed",
    "incomplete": "could not be completed",
    "failed": "FAILED",
    "refused": "REFUSED, nothing was changed",
    "interrupted": "INTERRUPTED",
}
_QUIET = {
    "audit": "nothing to mend",
    "plan": "nothing to change",
    "remediate": "nothing had to be changed",
    "verify": "all is as it should be",
}
_NOUNS = {"critical": ("critical", "critical"), "warning": ("warning", ""), "info": ("to be known", "to be known")}


def headline(document: Document) -> str:
    """Return how it ended, in one line, such as V(AUDIT of lab: 1 critical, 13 warnings on 3 nodes)."""
    run = document["run"]
    parts = [
        # A drill that failed says so with its name.
        "" if document["drill"] and run["status"] == "failed" else _ENDS.get(run["status"], ""),
        _drill(document),
        _unread(document),
        _changes(document),
        _findings(document),
    ]
    check = " (check mode: nothing was changed)" if run["check"] and run["command"] not in facts.PREVIEWS else ""
    said = ", ".join(part for part in parts if part) or _QUIET.get(run["command"], "done")
    return f"{_TITLES[run['command']]} {document['cluster']['name']}: {said}{check}"


def next_steps(document: Document) -> list[Step]:
    """Return what to do next."""
    run = document["run"]
    command, status = run["command"], run["status"]
    again = (f"kubekeel {command}", "begins again")
    look = ("kubekeel audit", "says how things stand")
    back = [(f"kubekeel rollback --run {run['taken_back_by']}", "takes back what was changed")] if run["taken_back_by"] else []
    if status in ("refused", "usage"):
        return [("", "mend what is said above"), again]
    if status == "incomplete":
        return [("kubekeel doctor", "looks for what is in the way"), again]
    if status in ("failed", "interrupted"):
        return [look, *back]
    if command == "audit" and _mendable(document):
        return [("kubekeel plan", "shows what a remediation would change")]
    if command in ("audit", "verify"):
        if any(weight(finding) in ("critical", "warning") for finding in document["findings"]):
            return [("", "mend what is said above"), again]
        return [("kubekeel drill", "measures what a dead node really costs")]
    if facts.only_said(document):
        doing = "remediate" if command == "plan" else command
        return [(f"kubekeel {doing}", "does it, node by node")] if document["plan"] else [("", "nothing to do")]
    if command == "remediate":
        return [("kubekeel verify", "looks whether it holds"), *back]
    return {"rollback": [look], "recover": [look], "restart": [("kubekeel verify", "looks whether all is well")]}.get(
        command, [("", "nothing to do")]
    )


def _mendable(document: Document) -> bool:
    """Tell whether a remediation would mend something of it."""
    return bool(document["plan"]) or any(weight(finding) and finding["kind"] in ("setting", "file") for finding in document["findings"])


def _drill(document: Document) -> str:
    drill = document["drill"]
    return f"{'PASSED' if drill['passed'] else 'FAILED'}, {facts.drill_title(drill)}" if drill else ""


def _unread(document: Document) -> str:
    nodes = document["cluster"]["nodes"]
    unread = facts.unread(document)
    return f"{len(unread)} of {count(len(nodes), 'node')} could not be read" if unread else ""


def _changes(document: Document) -> str:
    planned = facts.only_said(document)
    changed = facts.something(document["plan" if planned else "changes"])
    if document["run"]["command"] == "audit" or not changed:
        return ""
    settings = {(setting["owner"], setting["name"]) for change in changed for setting in change["settings"]}
    files = {file["path"] for change in changed for file in change["files"]}
    restarts = sum(len(change["restarts"]) for change in changed)
    where = f"on {count(len(changed), 'node')}"
    what = count(len(settings), "setting") if settings else count(len(files), "file") if files else ""
    if not what:
        return f"{count(restarts, 'restart')} {where}"
    return f"{what} {'to change' if planned else 'changed'} {where}" + (f", {count(restarts, 'restart')}" if restarts else "")


def _findings(document: Document) -> str:
    found = [issue for issue in issues(listed(document)) if issue.weight]
    numbers = {grave: sum(issue.weight == grave for issue in found) for grave in SEVERITIES}
    said = ", ".join(count(number, *_NOUNS[grave]) for grave, number in numbers.items() if number)
    nodes = {node for issue in found for node in issue.nodes if node}
    return f"{said} on {count(len(nodes), 'node')}" if nodes else said
