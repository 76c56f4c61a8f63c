"""Flags of components in K3s' configuration: what is there, and what our drop-in has to say."""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

from typing import Mapping

from ansible_collections.kubekeel.ha.plugins.module_utils import k3s_config, node_files
from ansible_collections.kubekeel.ha.plugins.module_utils.args_plan import ArgsPlan, Flags
from ansible_collections.kubekeel.ha.plugins.module_utils.k3s import K3sNode
from ansible_collections.kubekeel.ha.plugins.module_utils.node_change import Change, FileChange
from ansible_collections.kubekeel.ha.plugins.module_utils.node_files import NodeError

MODE = 0o600
"""Of a drop-in of ours: K3s' own configuration holds the cluster's token."""


def plan(node: K3sNode, wanted: Mapping[str, Flags]) -> ArgsPlan:
    """Return what has to change on a node.

    Raises:
        NodeError: a value cannot be written.
    """
    for component, flags in wanted.items():
        for name, value in flags.items():
            if value is not None and (not value.isprintable() or value != value.strip()):
                why = "the value holds a character that cannot be printed, or a space at an end, which K3s takes away"
                raise NodeError("components.%s: --%s: %s" % (component, name, why))
    decided = k3s_config.plan(node.role, node.files, node.command_line, node.drop_in, wanted, node.absent)
    made = ArgsPlan(reasons=decided.reasons, findings=decided.findings, absent=decided.absent)
    text, after = node_files.read(node.drop_in), decided.drop_in.text()
    if text != after:
        made.files.append(FileChange(node.drop_in, text, after, MODE))
    for component, flags in wanted.items():
        made.effective[component] = decided.after.effective(component)
        if component in decided.absent:
            continue
        before = node.merged.effective(component)
        for name in flags:
            count = len(node.merged.occurrences(component, name))
            now = made.effective[component].get(name)
            if before.get(name) != now:
                note = "it was there %d times" % count if count > 1 else ""
                made.changes.append(Change(component, name, before.get(name), now, node.drop_in, note))
    for problem in k3s_config.key_problems(node.role, node.files):
        if problem.fatal:
            made.problems.append({"path": problem.path, "line": problem.line, "text": problem.text, "why": problem.why})
        else:
            made.findings.append("%s:%d: '%s': %s" % (problem.path, problem.line, problem.text, problem.why))
    return made
