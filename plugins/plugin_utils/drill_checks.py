"""What has to be so after a drill, and whether it was. Pure."""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

AFTERWARDS = 1.0
"""Seconds in which the nodes may still write their rules after an endpoint is gone."""

Document = Mapping[str, Any]
"""A result without its checks, see roles/drill/files/drill.schema.json."""


def checks(document: Document, victims: Sequence[str]) -> list[dict[str, Any]]:
    """Return what had to be so, and whether it was: C(ok) is None where it cannot be told.

    Args:
        document: the result without checks.
        victims: nodes that were to be lost; none where the scenario loses none.
    """
    found = [
        _check("done", filter(None, [document["failure"]]), "everything was done as planned"),
        _check("observers", _unobserved(document), "%d looked, without an error" % len(document["observers"])),
    ]
    if victims:
        found.append(_check_losses(document["losses"], victims))
    if document["scenario"] == "leader_loss":
        others = ["%s did not lead any more when it was lost" % loss["node"] for loss in document["losses"] if loss["role"] != "leader"]
        found.append(_check("leader_lost", others, "the leader was lost"))
    flapped = ("%s was %s at %.1f s" % (one["node"], _ready(one["ready"]), one["time"]) for one in document["healthy_not_ready"])
    found.append(_check("healthy_stayed_ready", dict.fromkeys(flapped), "every node that was not lost stayed Ready"))
    if document["scenario"] == "soak":
        took = ("%s took the Lease of %s from %s" % (one["to"], one["component"], one["from"]) for one in document["leader_changes"])
        found.append(_check("leaders_stayed", dict.fromkeys(took), "no leader changed"))
    if victims:
        problems = [problem for loss in document["losses"] for problem in _not_recovered(loss)]
        found.append(_check("recovered", problems if document["losses"] else ["no loss was seen"], "the cluster took over"))
    # Lost packets cost requests in a soak, by right.
    if document["requests"]["total"] and document["scenario"] != "soak":
        found += [_check_requests(document, bool(victims)), _check_backends(document["requests"])]
    if document["budget_seconds"] is not None and victims:
        found.append(_check_budget(document))
    if document["computed"] and victims:
        found.append(_check_computed(document))
    return found


def _check(name: str, problems: Iterable[str], good: str) -> dict[str, Any]:
    """Return a check that is ok where there are no problems."""
    text = "; ".join(problems)
    return {"name": name, "ok": not text, "text": text or good}


def _open(name: str, text: str) -> dict[str, Any]:
    """Return a check of which nobody can tell."""
    return {"name": name, "ok": None, "text": text}


def _unobserved(document: Document) -> list[str]:
    """Return what nobody looked at, and who had an error."""
    problems = ["%s: %s" % (one["observer"], one["error"]) for one in document["observers"] if one["error"]]
    unwatched = [node for node in document["nodes"] if node not in document["series"]["nodes"]]
    problems += ["nobody watched %s" % ", ".join(unwatched)] if unwatched else []
    problems += [] if document["requests"]["total"] else ["nobody asked the Service"]
    return problems


def _check_losses(losses: Sequence[Document], victims: Sequence[str]) -> dict[str, Any]:
    """Check that every victim was seen to be lost, by somebody."""
    missed = Counter(victims) - Counter(loss["node"] for loss in losses)
    found = ", ".join("%s (to %.1f s)" % (one["node"], one["uncertainty"]) for one in losses)
    return _check(
        "losses_seen", ["nobody saw the loss of %s" % ", ".join(missed.elements())] if missed else [], "the loss of %s was seen" % found
    )


def _ready(status: str) -> str:
    """Return the word for a status of the condition Ready."""
    return {"True": "Ready", "False": "NotReady"}.get(status, status)


def _not_recovered(loss: Document) -> list[str]:
    """Return what the cluster did not make good after a loss.

    A node that was back before anybody missed it leaves nothing to make good.
    """
    node, problems = loss["node"], []
    if loss["back"] is None or loss["node_down"] is not None:
        problems += ["nobody took the Lease of %s over from %s" % (name, node) for name, at in loss["new_leader"].items() if at is None]
        if loss["node_down"] is None:
            problems.append("%s stayed Ready although it was lost" % node)
        if loss["had_endpoint"] and loss["endpoint_gone"] is None:
            problems.append("the endpoint on %s stayed" % node)
    if loss["failed"] and loss["requests_end"] is None:
        problems.append("requests failed until the end after the loss of %s" % node)
    if loss["back"] is None:
        problems.append("%s did not come back" % node)
    elif loss["node_down"] is not None and loss["node_up"] is None:
        problems.append("%s came back but not Ready" % node)
    return problems


def _check_requests(document: Document, lossy: bool) -> dict[str, Any]:
    """Check that requests failed between a loss and the end of its endpoint only, or once the node had returned."""
    requests = document["requests"]
    if not lossy:
        failed = ["%d of %d requests failed" % (requests["failed"], requests["total"])] if requests["failed"] else []
        return _check("no_request_failed", failed, "no request failed")
    early = requests["failed_before_loss"]
    problems = ["%d requests failed before anything was lost" % early] if early else []
    for loss in document["losses"]:
        # Each by its own eyes: what one observer saw gone, another one may see later.
        for view in loss["seen_by"]:
            gone, last = view["endpoint_gone"], view["last_failed"]
            if last is not None and (gone is None or last > gone + AFTERWARDS):
                than = "no endpoint went" if gone is None else "its endpoint went at %.1f s" % gone
                problems.append("%s: a request failed %.1f s after the loss of %s, %s" % (view["observer"], last, loss["node"], than))
    return _check("requests_end_with_endpoint", problems, "no request failed after the endpoint was gone (+ %g s)" % AFTERWARDS)


def _check_backends(requests: Document) -> dict[str, Any]:
    """Check that only backends on lost nodes failed to answer."""
    live, unknown = requests["failed_at_live_backends"], requests["failed_unknown_backend"]
    of_unknown = ", of %d nobody knows it" % unknown if unknown else ""
    good = "no request failed at a backend that was alive" + of_unknown
    if unknown and unknown == requests["failed"]:
        return _open("only_dead_backends", good)
    return _check("only_dead_backends", ["%d requests failed at a backend that was alive%s" % (live, of_unknown)] if live else [], good)


def _check_budget(document: Document) -> dict[str, Any]:
    """Check that the slowest loss kept to the budget."""
    budget, slowest = document["budget_seconds"], document["slowest"]["endpoint_gone"]
    had = [loss for loss in document["losses"] if loss["had_endpoint"]]
    if not had:
        return _open("budget", "the Service had no endpoint on a lost node: the budget of %g s was not tried" % budget)
    if slowest is None:
        text = "an endpoint on a lost node stayed, the budget is %g s" % budget
        # Back within the budget, before anybody missed it: the endpoint may have stayed by right.
        away = max(loss["back"] or math.inf for loss in had if loss["endpoint_gone"] is None)
        return _open("budget", text) if away <= budget else _check("budget", [text], "")
    text = "the endpoint was gone after %.1f s, the budget is %g s" % (slowest, budget)
    return _check("budget", [text] if slowest > budget else [], text)


def _check_computed(document: Document) -> dict[str, Any]:
    """Check that nothing took longer than computed."""
    rows = [(loss["node"], step) for loss in document["losses"] for step in loss["steps"]]
    rows += [(connection["node"], connection) for connection in document["connections"]]
    if all(row["within"] is None for _node, row in rows):
        return _open("within_computed", "nothing was measured that could be compared with what was computed")
    slow = [
        "%s of %s: %s instead of %.1f s at worst"
        % (row["name"], node, "never" if row["measured"] is None else "%.1f s" % row["measured"], row["worst"])
        for node, row in rows
        if row["within"] is False
    ]
    return _check("within_computed", slow, "nothing took longer than computed")
