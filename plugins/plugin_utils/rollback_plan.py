"""Which run is taken back, on which nodes, and what speaks against it. Pure."""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

AGAIN = "-2"
"""What plays/pass.yml adds to the id of a run for its second pass over the nodes."""
RESTORED = "restored"

Runs = Mapping[str, Sequence[Mapping[str, Any]]]
"""For each node its runs, newest first, as the module run_info returns them."""


def plan(known: Runs, run_id: str, others: Collection[str], force: bool = False) -> dict[str, Any]:
    """Return what taking a run back comes to.

    Args:
        known: the runs of the nodes that are to be taken back.
        run_id: the run; empty for the latest one.
        others: nodes of the cluster that are left out.
        force: whether edits of others may be lost.

    Returns:
        C(run_id), C(about), the C(passes), newest first, with the nodes of each in C(nodes) and their C(files) and C(sysctls)
        by node; C(reasons), why it is refused; C(nothing), a sentence where there is nothing to do.
    """
    by_id = {run["run_id"]: run for runs in known.values() for run in runs}
    if not run_id and by_id:
        run_id = max(by_id.values(), key=lambda run: (run["began"], run["run_id"]))["run_id"].removesuffix(AGAIN)
    passes = [name for name in (run_id + AGAIN, run_id) if name in by_id]
    found: dict[str, Any] = {"run_id": run_id, "about": by_id[passes[-1]]["about"] if passes else {}, "passes": [], "reasons": []}
    for name in passes:
        nodes = {node: run for node, runs in known.items() for run in runs if run["run_id"] == name and run["state"] != RESTORED}
        if nodes:
            what = {node: [entry["name"] for entry in [*run["files"], *run["sysctls"]]] for node, run in nodes.items()}
            found["passes"].append({"run_id": name, "nodes": list(nodes), "changed": what})
    found["reasons"] = [] if force else _edited(known, passes)
    if len(found["passes"]) > 1 and others:
        found["reasons"].append(
            "run %s went over the nodes twice, since heartbeats and grace periods have to fit together on all of them: "
            "take it back on all nodes, without leaving out %s" % (run_id, ", ".join(others))
        )
    found["nothing"] = "" if found["passes"] else _nothing(by_id, run_id, passes)
    return found


def _edited(known: Runs, passes: Sequence[str]) -> list[str]:
    """Return a sentence for each file that is no longer as the newest pass that changed it left it."""
    found = []
    for node, runs in known.items():
        mine = [run for name in passes for run in runs if run["run_id"] == name and run["state"] != RESTORED]
        later: set[str] = set()
        for run in mine:
            newer = [other for other in runs if other["began"] > run["began"] and other["run_id"] not in passes]
            for name in run["edited"]:
                if name not in later:
                    culprits = [other["run_id"] for other in newer if name in _names(other)]
                    who = "run %s" % culprits[-1] if culprits else "somebody else"
                    found.append("%s: %s was changed by %s since run %s" % (node, name, who, run["run_id"]))
            later |= _names(run)
    return found


def _names(run: Mapping[str, Any]) -> set[str]:
    """Return the files and sysctls that a run changed."""
    return {entry["name"] for entry in [*run["files"], *run["sysctls"]]}


def _nothing(by_id: Mapping[str, Mapping[str, Any]], run_id: str, passes: Sequence[str]) -> str:
    earlier = sorted(
        (run for run in by_id.values() if run["state"] != RESTORED and not run["run_id"].endswith(AGAIN)),
        key=lambda run: str(run["began"]),
        reverse=True,
    )
    others = ", ".join(run["run_id"] for run in earlier) or "none"
    if not run_id:
        return "no run has changed these nodes"
    return "run %s %s. Runs that could be: %s" % (run_id, "was taken back already" if passes else "changed none of these nodes", others)
