"""A result for a terminal."""

import io
from collections.abc import Iterable, Sequence

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from . import facts
from .compare import compare, rows
from .findings import Document, Issue, by_nodes, issues, listed, reasons
from .headline import headline, next_steps
from .words import clean, count, diff_lines, names, shorten, span

WIDTH = 120
"""Letters in a line where there is no terminal."""
NARROW = 100
"""In fewer letters what was seen stands below its finding."""

_STYLES = {"critical": "bold red", "warning": "yellow", "info": "cyan", "": "dim"}
_ENDS = {"ok": "bold green", "findings": "bold yellow"}
_DIFF = {"added": "green", "removed": "red", "place": "cyan", "file": "bold", "same": ""}
_QUIET = {"pass": "well", "skip": "do not apply"}


def render(document: Document, against: Document | None = None) -> str:
    """Return the report as plain text."""
    console = Console(file=io.StringIO(), width=WIDTH, color_system=None, force_terminal=False, legacy_windows=False)
    print_document(document, console, against)
    file = console.file
    text = file.getvalue() if isinstance(file, io.StringIO) else ""
    return "\n".join(line.rstrip() for line in text.splitlines()) + "\n"


def print_document(document: Document, console: Console, against: Document | None = None) -> None:
    """Print the report.

    Args:
        document: the result, as kubekeel/result.schema.json describes it.
        console: where to; it decides on width and colours.
        against: an earlier result to compare with.
    """
    shown = clean(document)
    _Report(console).print_document(shown, clean(against) if against else None)


class _Report:
    """Prints a document part by part. Nothing of a document is ever read as markup: it all becomes Text."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def print_document(self, document: Document, against: Document | None) -> None:
        self.line(headline(document), _ENDS.get(document["run"]["status"], "bold red"))
        self._about(document)
        self._failures(document)
        if against:
            self._compared(document, against)
        self._drill(document)
        self._findings(document)
        self._budget(document)
        self._changes(document)
        self._gates(document)
        if not any(document[part] for part in ("findings", "plan", "changes", "drill")):
            for text in document["texts"]:
                self.line("")
                self.line(text.strip("\n"))
        self.line("")
        steps = [f"{command} ({what})" if command else what for command, what in next_steps(document)]
        self.line(f"Next: {'; '.join(steps)}", "bold")

    # ---- what everything is made of

    def line(self, words: str, style: str = "", indent: int = 0) -> None:
        self.show(Text(words, style=style), indent)

    def show(self, what: RenderableType, indent: int = 2) -> None:
        self.console.print(Padding(what, (0, 0, 0, indent)) if indent else what, overflow="fold", soft_wrap=False, highlight=False)

    def heading(self, words: str) -> None:
        self.line("")
        self.line(words.upper(), "bold")

    def table(
        self,
        lines: Iterable[Sequence[str | Text]],
        head: Sequence[str] = (),
        right: Sequence[int] = (),
        fixed: Sequence[int] = (),
        indent: int = 2,
    ) -> None:
        made = Table(box=None, padding=(0, 2, 0, 0), show_header=bool(head), header_style="dim", pad_edge=False)
        for index, title in enumerate(head):
            made.add_column(Text(title), justify="right" if index in right else "left", overflow="fold")
        # A least width would be none: where there is no room, rich cuts off what is beyond.
        for width in fixed:
            made.add_column(width=width, overflow="fold")
        for line in lines:
            made.add_row(*(cell if isinstance(cell, Text) else Text(cell) for cell in line))
        self.show(made, indent)

    # ---- the parts, from above to below

    def _about(self, document: Document) -> None:
        said = dict(facts.about(document))
        profile = f"profile {said['Profile']}" if "Profile" in said else ""
        self.line(", ".join(filter(None, (said.get("Cluster"), said.get("Nodes"), profile))), "dim", indent=2)
        if "Health" in said:
            self.line(said["Health"], indent=2)
        self.line(f"run {said['Run']}, {said['Began']}, took {said['Took']}", "dim", indent=2)

    def _failures(self, document: Document) -> None:
        unread = facts.unexplained(document)
        if document["failures"]:
            self.heading("Why it ended")
        for failure in document["failures"]:
            where = f"{names(failure['nodes'])}{' could not be reached' if failure['unreachable'] else ''}" if failure["nodes"] else ""
            head = ": ".join(filter(None, (where, failure["task"])))
            if head:
                self.line(head, "red", indent=2)
            self.line(shorten(failure["message"]), indent=4)
        if unread:
            self.heading("Could not be read")
            self.table([(Text(node["name"], "red"), shorten(node["problem"])) for node in unread])

    def _compared(self, document: Document, against: Document) -> None:
        compared = compare(document, against)
        self.heading(f"Since {against['run']['id']}")
        for kind, style, words in (
            ("new", "red", "new"),
            ("changed", "yellow", "changed"),
            ("gone", "green", "gone"),
            ("unseen", "dim", "not looked at this time"),
        ):
            for issue in issues(compared["findings"][kind]):
                # Of several nodes the first one's states stand for all of them.
                one = issue.finding
                was = f" ({one['before'] or 'not there'} before, now {one['now'] or 'not there'})" if kind == "changed" else ""
                self.line(f"{words}: {one['title']} on {names(issue.nodes)}{was}", style, indent=2)
        same = len(issues(compared["findings"]["same"]))
        self.line(f"still there: {count(same, 'finding')}", "dim", indent=2)
        different = rows(compared)
        if different:
            self.table(different, ("", "BEFORE", "NOW"))

    def _drill(self, document: Document) -> None:
        drill = document["drill"]
        if not drill:
            return
        self.heading(f"Drill {facts.drill_title(drill)}: {'passed' if drill['passed'] else 'failed'}")
        marks = {True: Text("ok", "green"), False: Text("FAIL", "bold red"), None: Text("?", "yellow")}
        self.table([(marks[check["ok"]], shorten(check["text"])) for check in facts.checks(drill)])
        for loss in drill["losses"]:
            led = f", which led {', '.join(loss['new_leader'])}" if loss["new_leader"] else ""
            self.heading(f"Loss of {loss['node']}")
            self.line(f"{loss['node']}{led}; seconds after it, seen to {loss['uncertainty']:.1f} s", "dim", indent=2)
            lines = [
                (
                    step["name"].replace("_", " "),
                    facts.measured(step),
                    facts.tenths(step["typical"]),
                    facts.tenths(step["worst"]),
                    Text("slower than computed", "red") if step["within"] is False else "",
                )
                for step in loss["steps"]
            ]
            lines += [(name, facts.tenths(loss[key]), "", "", "") for name, key in (("answers again", "back"), ("Ready again", "node_up"))]
            self.table(lines, ("", "MEASURED", "TYPICAL", "WORST", ""), right=(1, 2, 3))
        requests = drill["requests"]
        self.line("")
        self.line(
            f"{requests['failed']} of {count(requests['total'], 'request')} failed, longest time without a good answer "
            f"{span(requests['longest_gap'])}",
            indent=2,
        )

    def _findings(self, document: Document) -> None:
        found = issues(listed(document))
        counting = [issue for issue in found if issue.weight]
        if counting:
            self.heading("Findings")
        for nodes, group in by_nodes(counting):
            self.line("")
            self.line(names(nodes), "bold", indent=2)
            self._group(group)
        self._reasons(counting)
        waived = [issue for issue in found if issue.state == "waived"]
        if waived:
            self.heading("Waived")
        for issue in waived:
            waiver = issue.finding["waiver"]
            self.line(f"{issue.finding['title']} on {names(issue.nodes)}, until {waiver['expires']}: {shorten(waiver['reason'])}", indent=2)
        quiet = [(sum(issue.state == state for issue in found), words) for state, words in _QUIET.items()]
        if any(number for number, _words in quiet):
            self.line("")
            self.line("Also looked at: " + ", ".join(f"{number} {words}" for number, words in quiet if number), "dim", indent=2)

    def _group(self, group: Sequence[Issue]) -> None:
        cells = [self._finding(issue) for issue in group]
        if self.console.width >= NARROW:
            widest = max(len(title) for _grave, title, _seen in cells)
            self.table(cells, fixed=(8, min(widest, self.console.width // 2)), indent=4)
            return
        for grave, title, seen in cells:
            self.show(Text(": ").join([grave, title]), 4)
            self.show(seen, 6)

    def _reasons(self, found: Sequence[Issue]) -> None:
        groups = reasons(found)
        if groups:
            self.heading("Why, and what to do")
        for number, (remedy, parts) in enumerate(groups):
            if number:
                self.line("")
            for ids, why, source in parts:
                self.line(shorten(", ".join(ids)), "bold", indent=2)
                if why:
                    self.line(shorten(why), indent=4)
                if source:
                    self.line(f"({shorten(source)})", "dim", indent=4)
            if remedy:
                self.line(f"To do: {shorten(remedy)}", "green", indent=2)

    def _finding(self, issue: Issue) -> tuple[Text, Text, Text]:
        grave = "unknown" if issue.state == "unknown" else issue.weight
        several = len(issue.seen) > 1
        seen = "\n".join(f"{names(nodes)}: {shorten(evidence)}" if several else shorten(evidence) for evidence, nodes in issue.seen)
        return Text(grave, _STYLES[issue.weight]), Text(shorten(issue.finding["title"], 300)), Text(seen)

    def _budget(self, document: Document) -> None:
        steps = facts.budget_steps(document)
        if not steps:
            return
        budgets = document["budget"]
        lines = [[label, *(facts.cases(step) for step in moments)] for label, *moments in steps]
        moments = facts.budget_moments(document)
        if all(line[1] == line[2] for line in lines):
            lines, moments = [line[:2] for line in lines], (moments[0], "")
        now = budgets[facts.budget_now(document)]
        self.heading("If the worst node dies")
        self.table(lines, ("typically (at worst)", *(moment.upper() for moment in moments if moment)))
        leads = ", the one that leads the controller manager" if now["case"] == "leader" else ""
        self.line(f"as {now['server']} is set, whose loss costs most{leads}", "dim", indent=2)
        if now["largest"]:
            parts = ", ".join(f"{one['setting']} {span(one['seconds'])}" for one in now["largest"])
            self.line(f"most of the time until the endpoint is gone: {parts}", "dim", indent=2)

    def _changes(self, document: Document) -> None:
        # The findings of an audit say the same.
        for heading, groups in facts.changes(document) if document["run"]["command"] != "audit" else []:
            self.heading(heading)
            for nodes, what in groups:
                self.line(names(nodes), "bold", indent=2)
                for setting in what["settings"]:
                    note = f"  ({setting['note']})" if setting["note"] else ""
                    self._setting("-", "red", setting, setting["before"])
                    self._setting("+", "green", setting, setting["after"], note)
                for file in what["files"]:
                    self.line(f"file {file['path']}", "bold", indent=4)
                    # Afterwards the settings tell; the page has the diffs, too.
                    for kind, line in diff_lines(file["diff"]) if document["run"]["check"] or not what["settings"] else ():
                        self.line(line, _DIFF[kind], indent=6)
                if what["restarts"]:
                    self.line(f"{facts.RESTARTS[heading]}: {', '.join(what['restarts'])}", indent=4)

    def _setting(self, sign: str, style: str, setting: facts.Figures, value: str, note: str = "") -> None:
        if value:
            self.line(f"{sign} {setting['owner']} {setting['name']}={shorten(value)}{note}", style, indent=4)

    def _gates(self, document: Document) -> None:
        if not document["gates"]:
            return
        self.heading("Gates")
        marks = {True: Text("passed", "green"), False: Text("FAILED", "bold red")}
        lines = [
            (
                marks[gate["passed"]],
                gate["node"],
                shorten(gate["gate"], 300),
                span(gate["seconds"]),
                shorten("; ".join(gate["waited_for"]), 300),
            )
            for gate in document["gates"]
        ]
        self.table(lines, ("", "NODE", "GATE", "TOOK", "WAITED FOR"), right=(3,))
