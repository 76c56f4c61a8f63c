"""Options of the suite, and its outcome as JSON lines: for pytest's option -p, which alone may bring options along."""

import json
import pathlib
from typing import Any

import pytest

NODE, CHECK, STATUS, EVIDENCE = "kubekeel_node", "kubekeel_check", "kubekeel_status", "kubekeel_evidence"
"""Properties of a test, which stand in its JUnit report, too."""
NAME = "kubekeel-report"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add what command() needs."""
    group = parser.getgroup("kubekeel")
    group.addoption("--kubekeel-report", default="", help="write the outcome of each check to this file, as JSON lines")
    group.addoption("--kubekeel-limit", default="", help="which nodes of the inventory, a pattern of Ansible")
    group.addoption(
        "--kubekeel-variables", action="append", default=[], help="variables that count most, as ansible-playbook -e takes them"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Write a report where one is wanted."""
    path = config.getoption("kubekeel_report")
    if path:
        config.pluginmanager.register(Report(pathlib.Path(path)), NAME)


class Report:
    """The file."""

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path
        path.write_text("")

    def write(self, line: dict[str, Any]) -> None:
        """Add a line."""
        with self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note how a check ended, or its preparation failed."""
        told = dict(report.user_properties)
        if CHECK not in told or report.when == "teardown" or (report.when == "setup" and report.passed):
            return
        status = {"passed": "pass", "failed": "fail", "skipped": "skip"}[report.outcome]
        # An error that nobody foresaw says nothing of the node.
        unforeseen = "unknown" if status == "fail" else status
        self.write(
            {
                "node": told.get(NODE, ""),
                "check": told[CHECK],
                "status": told.get(STATUS, unforeseen),
                "evidence": told.get(EVIDENCE) or (str(report.longreprtext).strip().splitlines() or [""])[-1],
            }
        )
