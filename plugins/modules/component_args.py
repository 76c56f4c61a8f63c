#!/usr/bin/python
"""The module kubekeel.ha.component_args."""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

DOCUMENTATION = r"""
module: component_args
short_description: Set flags of Kubernetes components in MicroK8s or K3s
version_added: 0.1.0
description:
  - MicroK8s. Reads the argument files by the grammar of kubelite, in every form that it accepts, and leaves exactly one
    occurrence of each flag that is named, at the place of the one that counted. Everything else stays byte for byte.
  - K3s. Reads all configuration files and the unit's command line by K3s' rules, and writes one drop-in of its own
    (C(config.yaml.d/zz-kubekeel.yaml)), which appends to the user's C(*-arg) items and edits none of them. A flag that has
    its value already gets no second item. One that a later file or the command line decides is a reason in RV(reasons).
  - K3s. Components that the node does not run (on agents all but kubelet and kube-proxy; those that C(disable-*) keys switch
    off, V(etcd) where another datastore is used) get no flags. They are in RV(absent).
  - Restarts nothing. The result says which units have to; M(kubekeel.ha.unit_restart) or the role
    R(rolling_restart,ansible_collections.kubekeel.ha.rolling_restart_role) does it.
options:
  components:
    description:
      - Component name to flags (without dashes) to values. V(null) removes a flag.
      - Components are V(kube-apiserver), V(kube-controller-manager), V(kube-scheduler), V(kube-proxy) and V(kubelet), and
        in K3s V(etcd).
      - Of V(etcd) V(null) removes what kubekeel set; what another file sets there is tuned by hand, and stays.
      - In MicroK8s a value cannot hold white space, quotes or V(#), and V($) only for a variable of the snap such as
        V(${SNAP_DATA}); kubelite's grammar has no way to write them.
    type: dict
    required: true
  k3s_config_file:
    description:
      - The main configuration file of K3s. By default the one that the unit names (C(--config), E(K3S_CONFIG_FILE)), else
        V(/etc/rancher/k3s/config.yaml). Another one than the unit reads is refused.
    type: path
  microk8s_args_dir:
    description: Folder of MicroK8s' argument files.
    type: path
    default: /var/snap/microk8s/current/args
extends_documentation_fragment: [kubekeel.ha.attributes, kubekeel.ha.attributes.writes, kubekeel.ha.distribution, kubekeel.ha.run]
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
reasons:
  description:
    - Why a flag cannot have the wanted value (K3s). Where there is one the module changes nothing and fails; in check mode it
      only says so.
  returned: success
  type: list
  elements: str
findings:
  description: What should be mended by hand, such as a flag that is set twice, or a key that K3s ignores. With file and line.
  returned: success
  type: list
  elements: str
absent:
  description: Components that this node does not run (K3s).
  returned: success
  type: list
  elements: str
restart:
  description: Units that have to restart, because of this run or of an earlier one that broke off.
  returned: success
  type: list
  elements: str
  sample: [snap.microk8s.daemon-kubelite]
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubekeel.ha.plugins.module_utils import (
    distribution,
    k3s,
    k3s_args,
    k3s_keys,
    microk8s,
    microk8s_args,
    node_change,
    node_module,
    settings,
)
from ansible_collections.kubekeel.ha.plugins.module_utils.args_plan import ArgsPlan
from ansible_collections.kubekeel.ha.plugins.module_utils.node_files import NodeError
from ansible_collections.kubekeel.ha.plugins.module_utils.release import parse_release, show_release


def wanted_flags(components: dict[str, Any]) -> dict[str, dict[str, str | None]]:
    """Return the option O(components) with every value as text, after everything in it was checked.

    Raises:
        NodeError: a component, a flag or a value cannot be meant.
    """
    wanted = {}
    for component, flags in components.items():
        if component not in k3s_keys.COMPONENTS:
            raise NodeError("components: there is no '%s'; there are %s" % (component, ", ".join(k3s_keys.COMPONENTS)))
        if not isinstance(flags, dict):
            raise NodeError("components.%s: flags and their values are needed, not %r" % (component, flags))
        wanted[component] = {name: _as_text(component, name, value) for name, value in flags.items()}
        for name in flags:
            try:
                settings.check_name(name)
            except ValueError as error:
                raise NodeError("components.%s: %s" % (component, error)) from error
    return wanted


def _as_text(component: str, name: str, value: object) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None or isinstance(value, (str, int, float)):
        return None if value is None else str(value)
    raise NodeError("components.%s.%s: one value is needed (several ones joined by ','), not %r" % (component, name, value))


def plan(module: AnsibleModule, found: distribution.Distribution) -> ArgsPlan:
    """Return what has to change on this node.

    Raises:
        NodeError: the operator has to know, and nothing can be changed.
    """
    wanted = wanted_flags(module.params["components"])
    node = None
    if found.name == distribution.K3S:
        node = k3s.K3sNode(module, found.unit, module.params["k3s_config_file"])
    elif settings.ETCD in wanted:
        raise NodeError(
            "components.etcd: the datastore of MicroK8s is Dqlite, which has no such flags; kubekeel sets those of K3s' etcd alone"
        )
    release = parse_release(node.release_text(module) if node else microk8s.release_text())
    if node and release and release < k3s.FIRST_WITH_DROP_INS:
        raise NodeError(
            "K3s %s reads no drop-ins; kubekeel needs %s or later" % (show_release(release), show_release(k3s.FIRST_WITH_DROP_INS))
        )
    for component, flags in wanted.items():
        for name, value in flags.items():
            if value is not None:
                try:
                    settings.check_flag(component, name, release)
                except ValueError as error:
                    raise NodeError(str(error)) from error
    return k3s_args.plan(node, wanted) if node else microk8s_args.plan(module.params["microk8s_args_dir"], wanted)


def run(module: AnsibleModule) -> dict[str, Any]:
    """Do the module's work and return its result.

    Raises:
        NodeError: the operator has to know, and nothing was changed.
    """
    found = distribution.find(module, module.params["microk8s_args_dir"])
    return node_change.carry_out(module, plan(module, found), found.unit)


def main() -> None:
    """Run the module."""
    node_module.execute(
        {
            "distribution": distribution.OPTION,
            "components": {"type": "dict", "required": True},
            "k3s_config_file": {"type": "path"},
            "microk8s_args_dir": {"type": "path", "default": microk8s.ARGS_DIR},
            "run_id": {"type": "str"},
        },
        run,
    )


if __name__ == "__main__":
    main()
