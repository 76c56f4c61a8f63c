"""A result as metrics, in the format of Prometheus' text files. Labels and their meaning stand in C(METRICS)."""

import datetime
from collections.abc import Iterable

from .findings import SEVERITIES, STATES, Document, state, weight

METRICS = {
    "kubekeel_run_timestamp_seconds": "When the last run ended, in seconds since 1970.",
    "kubekeel_run_exit_code": "How the last run ended: 0 fine, 1 findings, 2 usage, 3 not completed, 4 failed, 5 refused, 130 interrupted.",
    "kubekeel_run_duration_seconds": "How long the last run took.",
    "kubekeel_findings": "Findings by severity and by what came of them; one with a waiver is waived.",
    "kubekeel_node_findings": "Findings that count on a node, by the severity with which they count.",
    "kubekeel_finding": "1 for each finding that counts; the node is empty for the cluster.",
    "kubekeel_failover_seconds": "Computed time after the death of the worst node until a step, before and after the plan or the changes.",
    "kubekeel_drill_passed": "Whether the drill passed.",
    "kubekeel_drill_seconds": "Measured time after a loss until a step, of the loss that took longest.",
}
"""What each metric is. All are gauges, and have the labels cluster and command."""

Sample = tuple[dict[str, str], float]


def render(document: Document) -> str:
    """Return the metrics."""
    run = document["run"]
    common = {"cluster": document["cluster"]["name"], "command": run["command"]}
    ended = datetime.datetime.fromisoformat(run["ended"])
    # A time without a zone is in UTC, as all times of a result.
    ended = ended if ended.tzinfo else ended.replace(tzinfo=datetime.UTC)
    single = {
        "kubekeel_run_timestamp_seconds": ended.timestamp(),
        "kubekeel_run_exit_code": run["exit_code"],
        "kubekeel_run_duration_seconds": run["seconds"],
    }
    samples: dict[str, Iterable[Sample]] = {name: [({}, value)] for name, value in single.items()}
    samples |= _findings(document) | _figures(document)
    lines = []
    for name, about in METRICS.items():
        # The same labels twice would make the whole file invalid.
        unique = {_labels({**common, **labels}): value for labels, value in samples.get(name, ())}
        if unique:
            lines += [f"# HELP {name} {about}", f"# TYPE {name} gauge"]
            lines += [f"{name}{labels} {_number(value)}" for labels, value in unique.items()]
    return "\n".join(lines) + "\n"


def _findings(document: Document) -> dict[str, Iterable[Sample]]:
    found = document["findings"]
    nodes = dict.fromkeys([node["name"] for node in document["cluster"]["nodes"]] + [one["node"] for one in found if one["node"]])
    # Those that are 0, too: a series that vanishes ends no alert.
    return {
        "kubekeel_findings": [
            ({"severity": severity, "status": status}, sum(one["severity"] == severity and state(one) == status for one in found))
            for severity in SEVERITIES
            for status in STATES
        ],
        "kubekeel_node_findings": [
            ({"node": node, "severity": severity}, sum(one["node"] == node and weight(one) == severity for one in found))
            for node in nodes
            for severity in SEVERITIES
        ],
        "kubekeel_finding": [
            ({"id": one["id"], "node": one["node"], "severity": one["severity"], "status": one["status"]}, 1)
            for one in found
            if weight(one)
        ],
    }


def _figures(document: Document) -> dict[str, Iterable[Sample]]:
    budget, drill = document["budget"], document["drill"]
    return {
        "kubekeel_failover_seconds": [
            ({"step": step["name"], "case": case, "moment": moment}, step[case])
            for moment in (("before", "after") if budget else ())
            for step in budget[moment]["steps"]
            for case in ("typical", "worst")
        ],
        "kubekeel_drill_passed": [({}, int(drill["passed"]))] if drill else [],
        "kubekeel_drill_seconds": [
            ({"step": step}, value) for step, value in (drill["slowest"] if drill else {}).items() if value is not None
        ],
    }


def _labels(labels: dict[str, str]) -> str:
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else repr(float(value))
