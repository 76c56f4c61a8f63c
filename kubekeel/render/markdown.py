"""A result as Markdown, for a pull request or a ticket."""

import re
from collections.abc import Iterable, Sequence

from . import facts
from .compare import compare, rows
from .findings import Document, issues, listed, reasons
from .headline import headline, next_steps
from .words import count, diff_lines, names, shorten, span

LONGEST = 60_000
"""Letters of a report; GitHub takes 65536 in one comment. Where there are more, diffs are left out."""
LONGEST_CELL = 600

_SPECIAL = re.compile(r"([\\`*_{}\[\]|~#$!])")
_MARKS = {"critical": "🔴", "warning": "🟠", "info": "🔵"}


def render(document: Document, against: Document | None = None) -> str:
    """Return the report. Texts have to be clean, see C(words.clean)."""
    whole = _report(document, against, diffs=True)
    if len(whole) <= LONGEST:
        return whole
    short = _report(document, against, diffs=False)
    return short if len(short) <= LONGEST else short[:LONGEST].rpartition("\n")[0] + "\n\n… the rest is too long for one comment\n"


def escape(text: str, longest: int = LONGEST_CELL) -> str:
    """Return a text that Markdown shows as it is, in one line; nobody is mentioned by it."""
    plain = shorten(text.strip(), longest).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    # A space without width keeps @name from being a name, and http:// from being a link.
    plain = _SPECIAL.sub(r"\\\1", plain).replace("@", "@\u200b").replace("://", ":\u200b//").replace("www.", "www\u200b.")
    return "<br>".join(line.strip() for line in plain.splitlines())


def code(text: str, longest: int = LONGEST_CELL) -> str:
    """Return a text as code within a line or a cell of a table."""
    plain = " ".join(shorten(text, longest).split())
    if not plain:
        return ""
    fence = _fence(plain, 1)
    space = " " if plain.startswith("`") or plain.endswith("`") else ""
    # Tables are cut at | before code is seen; there \| stands for it.
    return f"{fence}{space}{plain.replace('|', chr(92) + '|')}{space}{fence}"


def _report(document: Document, against: Document | None, diffs: bool) -> str:
    parts = [
        [f"## {escape(headline(document))}"],
        [
            ", ".join(
                f"{name}: {escape(value)}" for name, value in facts.about(document) if name in ("Cluster", "Nodes", "Profile", "Health")
            )
        ],
        ["**Next:** " + "; ".join(f"{code(command)} ({what})" if command else what for command, what in next_steps(document))],
        _failures(document),
        _compared(document, against) if against else [],
        _drill(document),
        _findings(document),
        _budget(document),
        _changes(document, diffs),
        _gates(document),
        [f"<sub>run {escape(document['run']['id'])}, {escape(document['run']['began'])}, took {span(document['run']['seconds'])}</sub>"],
    ]
    return "\n\n".join("\n".join(part) for part in parts if part) + "\n"


def _table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *lines)]


def _failures(document: Document) -> list[str]:
    unread = facts.unexplained(document)
    lines = [
        (
            escape(names(failure["nodes"])),
            escape(failure["task"] or ("could not be reached" if failure["unreachable"] else "")),
            escape(failure["message"]),
        )
        for failure in document["failures"]
    ]
    lines += [(escape(node["name"]), "could not be read", escape(node["problem"])) for node in unread]
    return (
        ["### Why it ended" if document["failures"] else "### Could not be read", "", *_table(("nodes", "task", "what it said"), lines)]
        if lines
        else []
    )


def _compared(document: Document, against: Document) -> list[str]:
    compared = compare(document, against)
    made = [f"### Since {escape(against['run']['id'])}", ""]
    kinds = (("new", "new"), ("changed", "changed"), ("gone", "gone"), ("unseen", "not looked at this time"))
    lines = [
        (
            words,
            escape(issue.finding["title"]),
            escape(names(issue.nodes)),
            escape(issue.finding["before"] or "-"),
            escape(issue.finding["now"] or "-"),
        )
        for kind, words in kinds
        for issue in issues(compared["findings"][kind])
    ]
    if lines:
        made += [*_table(("finding", "what", "nodes", "before", "now"), lines), ""]
    made += [f"Still there: {count(len(issues(compared['findings']['same'])), 'finding')}."]
    different = rows(compared)
    return made + (
        ["", *_table(("different", "before", "now"), [[escape(cell) for cell in row] for row in different])] if different else []
    )


def _drill(document: Document) -> list[str]:
    drill = document["drill"]
    if not drill:
        return []
    marks = {True: "✅", False: "❌", None: "❔"}
    made = [f"### Drill {escape(facts.drill_title(drill))}: {'passed' if drill['passed'] else 'failed'}", ""]
    made += _table(("", "check"), [(marks[check["ok"]], escape(check["text"])) for check in facts.checks(drill)])
    for loss in drill["losses"]:
        lines = [
            (
                escape(step["name"].replace("_", " ")),
                facts.measured(step) + (" ❌ slower than computed" if step["within"] is False else ""),
                facts.tenths(step["typical"]),
                facts.tenths(step["worst"]),
            )
            for step in loss["steps"]
        ]
        made += ["", f"Loss of {escape(loss['node'])}", "", *_table(("", "measured", "typical", "worst"), lines)]
    requests = drill["requests"]
    gap = span(requests["longest_gap"])
    return [*made, "", f"{requests['failed']} of {count(requests['total'], 'request')} failed, longest time without a good answer {gap}."]


def _findings(document: Document) -> list[str]:
    found = issues(listed(document))
    counting = [issue for issue in found if issue.weight]
    made = []
    if counting:
        lines = [
            (
                f"{_MARKS[issue.weight]} {'unknown' if issue.state == 'unknown' else issue.weight}",
                escape(issue.finding["title"]),
                "<br>".join(
                    (f"{escape(names(nodes))}: " if len(issue.seen) > 1 else "") + escape(evidence) for evidence, nodes in issue.seen
                ),
                escape(names(issue.nodes)),
            )
            for issue in counting
        ]
        made += ["### Findings", "", *_table(("", "what", "seen", "where"), lines)]
        why = [
            (", ".join(map(code, ids)), escape(why), escape(remedy)) for remedy, parts in reasons(counting) for ids, why, _source in parts
        ]
        if why:
            made += ["", "<details><summary>Why, and what to do</summary>", "", *_table(("what", "why", "to do"), why), "", "</details>"]
    waived = [issue for issue in found if issue.state == "waived"]
    if waived:
        lines = [
            (
                escape(one.finding["title"]),
                escape(names(one.nodes)),
                escape(one.finding["waiver"]["expires"]),
                escape(one.finding["waiver"]["reason"]),
            )
            for one in waived
        ]
        made += ["", "### Waived", "", *_table(("what", "where", "until", "why"), lines)]
    return made


def _budget(document: Document) -> list[str]:
    steps = facts.budget_steps(document)
    if not steps:
        return []

    lines = [(escape(label), facts.cases(before), facts.cases(after)) for label, before, after in steps]
    return ["### If the worst node dies", "", *_table(("typically (at worst)", *facts.budget_moments(document)), lines)]


def _changes(document: Document, diffs: bool) -> list[str]:
    made: list[str] = []
    for heading, groups in facts.changes(document) if document["run"]["command"] != "audit" else []:
        made += ["", f"### {heading}"]
        for nodes, what in groups:
            made += [
                "",
                f"**{escape(names(nodes))}**"
                + (f", {facts.RESTARTS[heading].lower()}: {', '.join(map(code, what['restarts']))}" if what["restarts"] else ""),
            ]
            if what["settings"]:
                lines = [
                    (code(one["owner"]), code(one["name"]), code(one["before"]) or "-", (code(one["after"]) or "-") + _note(one["note"]))
                    for one in what["settings"]
                ]
                made += ["", *_table(("whose", "setting", "before", "after"), lines)]
            for file in what["files"]:
                made += ["", code(file["path"])]
                if file["diff"] and diffs:
                    diff = "\n".join(line for _kind, line in diff_lines(file["diff"]))
                    fence = _fence(diff, 3)
                    made += ["", "<details><summary>diff</summary>", "", f"{fence}diff", diff, fence, "", "</details>"]
    return made[1:] + ([] if diffs or not made else ["", "The diffs are left out, since the report would be too long."])


def _note(note: str) -> str:
    return f" ({escape(note)})" if note else ""


def _gates(document: Document) -> list[str]:
    if not document["gates"]:
        return []
    lines = [
        (
            "✅" if gate["passed"] else "❌",
            escape(gate["node"]),
            escape(gate["gate"]),
            span(gate["seconds"]),
            escape("; ".join(gate["waited_for"])),
        )
        for gate in document["gates"]
    ]
    table = _table(("", "node", "gate", "took", "waited for"), lines)
    return ["<details><summary>Gates</summary>", "", *table, "", "</details>"]


def _fence(text: str, least: int) -> str:
    """Return so many backticks that none in the text end what stands between them."""
    return "`" * max(least, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
