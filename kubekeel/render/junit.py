"""A result as JUnit XML: a test case for each finding, gate and check."""

from collections import Counter
from xml.etree import ElementTree

from .findings import Document, Finding, state
from .headline import headline
from .words import names, span


def render(document: Document) -> str:
    """Return the XML. Texts have to be clean, see C(words.clean)."""
    suite = _Suite(document)
    suite.run()
    for finding in document["findings"]:
        suite.finding(finding)
    for gate in document["gates"]:
        problem = "" if gate["passed"] else f"not passed after {span(gate['seconds'])}"
        waited = "; ".join(gate["waited_for"])
        suite.case(
            "gate", f"{gate['gate']} on {gate['node']}", "failure", problem, f"waited for: {waited}" if waited else "", gate["seconds"]
        )
    for check in (document["drill"] or {"checks": []})["checks"]:
        suite.case("drill", check["name"], {False: "failure", None: "skipped"}.get(check["ok"], ""), check["text"])
    return suite.xml()


class _Suite:
    """A suite that grows case by case."""

    def __init__(self, document: Document) -> None:
        self.document = document
        run, cluster = document["run"], document["cluster"]
        self.suite = ElementTree.Element("testsuite", name=f"kubekeel {run['command']} of {cluster['name']}")
        self.suite.set("timestamp", run["began"])
        self.suite.set("time", f"{run['seconds']:.3f}")
        properties = ElementTree.SubElement(self.suite, "properties")
        pairs = (
            ("run", run["id"]),
            ("cluster", cluster["name"]),
            ("releases", ", ".join(cluster["releases"])),
            ("profile", cluster["profile"]),
            ("kubekeel", document["tool"]["kubekeel"]),
        )
        for name, value in pairs:
            ElementTree.SubElement(properties, "property", name=name, value=value)
        self.names: Counter[tuple[str, str]] = Counter()
        self.counts: Counter[str] = Counter()

    def case(self, kind: str, name: str, bad: str = "", message: str = "", more: str = "", seconds: float = 0.0) -> None:
        """Add a case, one that passed where there is no message or it is not bad; names are made different from each other."""
        self.names[kind, name] += 1
        number = self.names[kind, name]
        case = ElementTree.SubElement(
            self.suite, "testcase", classname=f"kubekeel.{kind}", name=name if number == 1 else f"{name} ({number})", time=f"{seconds:.3f}"
        )
        self.counts["tests"] += 1
        if bad and message:
            self.counts[bad] += 1
            part = ElementTree.SubElement(case, bad, message=message.splitlines()[0])
            if bad != "skipped":
                part.set("type", f"kubekeel.{kind}")
            part.text = "\n".join(filter(None, (message, more)))
        elif message or more:
            ElementTree.SubElement(case, "system-out").text = "\n".join(filter(None, (message, more)))

    def run(self) -> None:
        """Add the run itself, and why it did not end well: what it could not look at must not seem to be well."""
        status = self.document["run"]["status"]
        self.case("run", self.document["run"]["command"], "" if status in ("ok", "findings") else "error", headline(self.document))
        for failure in self.document["failures"]:
            name = ": ".join(filter(None, (failure["task"], ", ".join(failure["nodes"])))) or "failure"
            self.case("run", name, "error" if failure["unreachable"] else "failure", failure["message"] or "it failed")

    def finding(self, finding: Finding) -> None:
        """Add a finding."""
        bad, message = {"fail": "failure", "unknown": "error", "skip": "skipped", "waived": "skipped"}.get(state(finding), ""), ""
        if finding["waiver"]:
            message = f"waived until {finding['waiver']['expires']}: {finding['waiver']['reason']}"
        elif finding["status"] != "pass":
            message = ": ".join(filter(None, (finding["title"], finding["evidence"]))) or finding["id"]
        labels = (("why", "Why"), ("remedy", "To do"), ("source", "Source"))
        more = [f"{label}: {finding[key]}" for key, label in labels if finding[key]]
        severity = f"Severity: {finding['severity']}"
        name = f"{finding['id']} on {names([finding['node']])}"
        self.case(finding["kind"], name, bad, message, "\n".join([severity, *more]) if message else "")

    def xml(self) -> str:
        """Return everything."""
        root = ElementTree.Element("testsuites", name="kubekeel")
        root.append(self.suite)
        for element in (root, self.suite):
            for name, key in (("tests", "tests"), ("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
                element.set(name, str(self.counts[key]))
        ElementTree.indent(root)
        return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"
