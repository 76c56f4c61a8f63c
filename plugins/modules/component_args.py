#!/usr/bin/python
"""The module kubekeel.ha.component_args."""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

DOCUMENTATION = r"""
module: component_args
short_description: Set flags of Kubernetes components in MicroK8s' argument files
version_added: 0.1.0
description:
  - Reads the argument files by the grammar of MicroK8s' kubelite, in every form that it accepts, and leaves exactly one
    occurrence of each flag that is named, at the place of the one that counted. Everything else stays byte for byte.
  - Restarts nothing. The result says which units have to; M(kubekeel.ha.unit_restart) or the role
    R(rolling_restart,ansible_collections.kubekeel.ha.rolling_restart_role) does it.
options:
  distribution:
    description: The Kubernetes distribution of the node.
    type: str
    choices: [auto, microk8s]
    default: auto
  components:
    description:
      - Component name to flags (without dashes) to values. V(null) removes a flag.
      - Components are V(kube-apiserver), V(kube-controller-manager), V(kube-scheduler), V(kube-proxy) and V(kubelet).
      - A value cannot hold white space, quotes or V(#), and V($) only for a variable of the snap such as
        V(${SNAP_DATA}); kubelite's grammar has no way to write them.
    type: dict
    required: true
  microk8s_args_dir:
    description: Folder of MicroK8s' argument files.
    type: path
    default: /var/snap/microk8s/current/args
extends_documentation_fragment: [kubekeel.ha.attributes, kubekeel.ha.attributes.writes, kubekeel.ha.run]
seealso:
  - module: kubekeel.ha.service_environment
  - module: kubekeel.ha.unit_restart
"""

EXAMPLES = r"""
- name: A new leader within 18 seconds
  kubekeel.ha.component_args:
    components:
      kube-controller-manager:
        leader-elect-lease-duration: 15s
        leader-elect-renew-deadline: 10s
      kube-scheduler:
        leader-elect-lease-duration: 15s
        leader-elect-renew-deadline: 10s

- name: Go back to the component's default
  kubekeel.ha.component_args:
    components:
      kube-proxy:
        proxy-mode: null
"""

RETURN = r"""
changes:
  description: Each flag that was changed, or would be.
  returned: success
  type: list
  elements: dict
  contains:
    owner: {description: The component., type: str, sample: kube-scheduler}
    name: {description: The flag without dashes., type: str, sample: leader-elect-lease-duration}
    before: {description: The value that counted before; null where there was none., type: str, sample: 60s}
    after: {description: The value that counts now; null where the flag was removed., type: str, sample: 15s}
    path: {description: The file., type: str, sample: /var/snap/microk8s/current/args/kube-scheduler}
    note: {description: "What else changed, such as the number of occurrences.", type: str}
    why: {description: Why the setting matters., type: str}
    source: {description: Where that can be read., type: str}
effective:
  description: The flags of each component after the run. Variables are not expanded; a lone flag is V(true).
  returned: success
  type: dict
  sample: {kube-scheduler: {leader-elect-lease-duration: 15s}}
problems:
  description: Lines that are in a file after the run and with which its component will not start.
  returned: success
  type: list
  elements: dict
  contains:
    path: {description: The file., type: str}
    line: {description: Number of the line., type: int}
    text: {description: The line., type: str}
    why: {description: What is wrong with it., type: str}
restart:
  description: Units that have to restart, because of this run or of an earlier one that broke off.
  returned: success
  type: list
  elements: str
  sample: [snap.microk8s.daemon-kubelite]
"""

import os
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubekeel.ha.plugins.module_utils import (
    kubelite_args,
    microk8s,
    node_change,
    node_files,
    node_module,
    settings,
    systemd,
)
from ansible_collections.kubekeel.ha.plugins.module_utils.node_files import NodeError


def wanted_flags(components: dict[str, Any]) -> dict[str, dict[str, str | None]]:
    """Return the option O(components) with every value as text, after everything in it was checked.

    Raises:
        NodeError: a component, a flag or a value cannot be meant.
    """
    wanted = {}
    for component, flags in components.items():
        if component not in settings.COMPONENTS:
            raise NodeError("components: there is no '%s'; there are %s" % (component, ", ".join(settings.COMPONENTS)))
        if not isinstance(flags, dict):
            raise NodeError("components.%s: flags and their values are needed, not %r" % (component, flags))
        wanted[component] = {name: _as_text(component, name, value) for name, value in flags.items()}
        for name, value in wanted[component].items():
            try:
                kubelite_args.check_name(name)
                if value is not None:
                    kubelite_args.check_value(name, value)
            except ValueError as error:
                raise NodeError("components.%s: %s" % (component, error)) from error
    return wanted


def _as_text(component: str, name: str, value: object) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None or isinstance(value, (str, int, float)):
        return None if value is None else str(value)
    raise NodeError("components.%s.%s: one value is needed (several ones joined by ','), not %r" % (component, name, value))


def detect(distribution: str, args_dir: str) -> None:
    """Make sure that this node runs a distribution that this module knows.

    Raises:
        NodeError: it does not.
    """
    if os.path.isdir(args_dir):
        return
    if distribution == "auto" and os.path.exists("/etc/rancher/k3s"):
        raise NodeError("this node runs K3s, which this release of kubekeel does not change yet")
    raise NodeError(
        "there is no %s: MicroK8s is not installed here, or is damaged. Is the node in the right inventory group? "
        "For files in another place set microk8s_args_dir" % args_dir
    )


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


def plan(component: str, path: str, text: str, wanted: dict[str, str | None]) -> tuple[str, list[node_change.Change]]:
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
            changes.append(node_change.Change(component, name, before, now, path, note))
    return after, changes


def run(module: AnsibleModule) -> dict[str, Any]:
    """Do the module's work and return its result.

    Raises:
        NodeError: the operator has to know, and nothing was changed.
    """
    args_dir = module.params["microk8s_args_dir"]
    wanted = wanted_flags(module.params["components"])
    detect(module.params["distribution"], args_dir)
    release = microk8s.release()
    files, changes, problems, effective = [], [], [], {}
    for component, flags in wanted.items():
        for name, value in flags.items():
            if value is not None:
                try:
                    settings.check_flag(component, name, release)
                except ValueError as error:
                    raise NodeError(str(error)) from error
        path, text = read_args(args_dir, component)
        after, changed = plan(component, path, text, flags)
        changes += changed
        if after != text:
            files.append(node_change.FileChange(path, text, after))
        parsed = kubelite_args.parse(after)
        effective[component] = parsed.effective()
        problems += [dict(vars(problem), path=path) for problem in kubelite_args.problems(parsed, component)]
        if microk8s.is_worker() and component not in (settings.KUBELET, settings.PROXY):
            module.warn("%s is not read on this node: it is a worker" % path)
    for problem in problems:
        module.warn("{path}:{line}: '{text}': {why}".format(**problem))
    if not module.check_mode:
        node_change.apply(module, files, microk8s.KUBELITE)
    return {
        "changed": bool(files),
        "changes": [change.as_result() for change in changes],
        "diff": [change.as_diff() for change in files],
        "effective": effective,
        "problems": problems,
        "restart": [microk8s.KUBELITE] if files or systemd.must_restart(module, microk8s.KUBELITE) else [],
    }


def main() -> None:
    """Run the module."""
    node_module.execute(
        {
            "distribution": {"type": "str", "choices": ["auto", "microk8s"], "default": "auto"},
            "components": {"type": "dict", "required": True},
            "microk8s_args_dir": {"type": "path", "default": microk8s.ARGS_DIR},
            "run_id": {"type": "str"},
        },
        run,
    )


if __name__ == "__main__":
    main()
