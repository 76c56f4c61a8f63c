"""Flags of components in MicroK8s' argument files: what is there, and what has to change."""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import os
from typing import Any, Mapping

from ansible_collections.kubekeel.ha.plugins.module_utils import kubelite_args, microk8s, node_files, settings
from ansible_collections.kubekeel.ha.plugins.module_utils.args_plan import ArgsPlan, Flags
from ansible_collections.kubekeel.ha.plugins.module_utils.node_change import Change, FileChange, hide_secrets
from ansible_collections.kubekeel.ha.plugins.module_utils.node_files import NodeError


def check(component: str, flags: Flags) -> None:
    """Raise NodeError where kubelite's grammar cannot carry a value."""
    for name, value in flags.items():
        try:
            if value is not None:
                kubelite_args.check_value(name, value)
        except ValueError as error:
            raise NodeError("components.%s: %s" % (component, error)) from error


def read_args(args_dir: str, component: str) -> tuple[str, str]:
    """Return path and text of a component's argument file.

    Raises:
        NodeError: it is missing, cannot be read, or says nothing.
    """
    path = os.path.join(args_dir, component)
    text = node_files.read(path)
    cure = "MicroK8s' own is %s" % os.path.join(microk8s.DEFAULT_ARGS_DIR, component)
    if text is None:
        raise NodeError("%s is missing. %s" % (path, cure))
    if not kubelite_args.parse(text).flags:
        raise NodeError("%s holds no flags, as after a power cut (canonical/microk8s#4089). Restore it first; %s" % (path, cure))
    return path, text


def plan_file(component: str, path: str, text: str, wanted: Flags) -> tuple[str, list[Change]]:
    """Return the new text of a file and the changes that lead to it."""
    after = kubelite_args.merge(text, wanted)
    if after == text:
        return after, []
    old, new = kubelite_args.parse(text), kubelite_args.parse(after)
    changes = []
    for name in wanted:
        count = len(old.occurrences(name))
        if old.occurrences(name) != new.occurrences(name):
            note = "it was there %d times" % count if count > 1 else ""
            before, now = old.effective().get(name), new.effective().get(name)
            changes.append(Change(component, name, before, now, path, note))
    return after, changes


def _shown(problem: kubelite_args.Problem, path: str) -> dict[str, Any]:
    """Return a problem for a result, without the value of a secret, which its reason may repeat."""
    text = hide_secrets(problem.text)
    why = problem.why if text == problem.text else "it holds something else than flags and their values"
    return {"path": path, "line": problem.line, "text": text, "why": why}


def plan(args_dir: str, wanted: Mapping[str, Flags]) -> ArgsPlan:
    """Return what has to change on this node.

    Raises:
        NodeError: a file is missing or damaged, or a value cannot be written.
    """
    made = ArgsPlan()
    for component, flags in wanted.items():
        check(component, flags)
        path, text = read_args(args_dir, component)
        after, changed = plan_file(component, path, text, flags)
        made.changes += changed
        parsed = kubelite_args.parse(after)
        if not parsed.flags:
            raise NodeError("%s would hold no flags any more, as one that is damaged; leave it another one" % path)
        if after != text:
            made.files.append(FileChange(path, text, after))
        made.effective[component] = parsed.effective()
        found = [_shown(problem, path) for problem in kubelite_args.problems(parsed, component)]
        made.problems += found
        made.warnings += ["{path}:{line}: '{text}': {why}".format(**problem) for problem in found]
        if microk8s.is_worker() and component not in (settings.KUBELET, settings.PROXY):
            made.warnings.append("%s is not read on this node: it is a worker" % path)
    return made
