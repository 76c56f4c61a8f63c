"""From the modules' results to what a person reads: nodes with the same findings together. Pure."""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.kubekeel.ha.plugins.module_utils.guards import Found, accept


def by_nodes(staged: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Return what differs, once for all nodes where the same differs.

    Args:
        staged: for each node the results of the modules that change it.

    Returns:
        Dictionaries with C(nodes) and C(changes), in the order of the first node.
    """
    changes = {node: [change for result in results for change in result["changes"]] for node, results in staged.items()}
    return [{"nodes": group["nodes"], "changes": group["found"]} for group in alike(changes)]


def alike(found: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Return what was found on nodes, once for all nodes where the same was found; nodes with nothing are left out.

    Args:
        found: a list for each node.

    Returns:
        Dictionaries with C(nodes) and C(found), in the order of the first node.
    """
    groups: list[dict[str, Any]] = []
    for node, entries in found.items():
        same = next((group for group in groups if group["found"] == list(entries)), None)
        if same:
            same["nodes"].append(node)
        elif entries:
            groups.append({"nodes": [node], "found": list(entries)})
    return groups


def reasons(groups: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return each reason once, with its source and the settings that it is given for."""
    found: dict[str, dict[str, Any]] = {}
    for group in groups:
        for change in group["changes"]:
            if change["why"]:
                entry = found.setdefault(change["why"], {"why": change["why"], "source": change["source"], "names": []})
                if change["name"] not in entry["names"]:
                    entry["names"].append(change["name"])
    return list(found.values())


def guards(found: Mapping[str, Sequence[Found]], accepted: Sequence[str]) -> dict[str, Any]:
    """Return what speaks against a change, once for all nodes that found it.

    Args:
        found: for each node what its modules found, see C(guards.found).
        accepted: names of what the operator accepts.

    Returns:
        What is C(refused), C(accepted) and C(noted), each of it with C(nodes), C(name), C(text) and C(sentence), which says how to
        go on all the same; in C(together) how to accept all that is refused at once, empty where its sentence says so.
    """
    sorted_out: dict[str, list[dict[str, Any]]] = {"refused": [], "accepted": [], "noted": []}
    for node, entries in found.items():
        for one in entries:
            kind = "noted" if not one["refuses"] else "accepted" if one["name"] in accepted else "refused"
            same = next((known for known in sorted_out[kind] if known["text"] == one["text"]), None)
            if same is None:
                sentence = one["text"] + (". To go on all the same: " + one["accept"] if one["refuses"] else "")
                same = {"nodes": [], "name": one["name"], "text": one["text"], "accept": one["accept"], "sentence": sentence}
                sorted_out[kind].append(same)
            same["nodes"].append(node)
    refused = [one["name"] for one in sorted_out["refused"]]
    names = list(dict.fromkeys([*accepted, *refused]))
    return {**sorted_out, "together": accept(names) if refused and len(names) > 1 else ""}
