#!/usr/bin/python
"""The module kubekeel.ha.node_info."""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

DOCUMENTATION = r"""
module: node_info
short_description: Tell what a node runs, and which known bugs its release has
version_added: 0.1.0
description:
  - Reads distribution, release, unit and role of a node from its files. Works also where no API server answers.
  - Tells what on the node speaks against changing anything on it now. That is its file systems, C(net.ipv4.ip_forward), a
    release that kubekeel does not know, and on MicroK8s what snapd is doing.
extends_documentation_fragment: [kubekeel.ha.attributes, kubekeel.ha.attributes.reads, kubekeel.ha.distribution]
"""

EXAMPLES = r"""
- name: What does the node run?
  kubekeel.ha.node_info:
  register: node
"""

RETURN = r"""
distribution:
  description: V(microk8s) or V(k3s).
  returned: success
  type: str
node_name:
  description: Name of the node in Kubernetes, as its configuration says.
  returned: success
  type: str
  sample: server1
absent:
  description: Components that the node's own configuration switches off, or that do not run on such a node (K3s).
  returned: success
  type: list
  elements: str
release:
  description: As the distribution names it; empty where it does not say.
  returned: success
  type: str
  sample: v1.32.3+k3s1
unit:
  description: The unit that runs Kubernetes.
  returned: success
  type: str
  sample: k3s-agent
kind:
  description: "V(server), V(agent), V(etcd-only server) or V(control-plane-only server)."
  returned: success
  type: str
has_api:
  description: Whether an API server runs here.
  returned: success
  type: bool
findings:
  description: A sentence for each known bug that the release has and that shows on such a node.
  returned: success
  type: list
  elements: str
guards:
  description: What speaks against changing anything on the node now, and what is to be known before.
  returned: success
  type: list
  elements: dict
  contains:
    name: {description: The name that C(preflight_accept) takes., type: str}
    refuses: {description: Whether it ends a run unless it is accepted., type: bool}
    text: {description: "What is wrong and where, why it matters, what to do about it.", type: str}
    accept: {description: The option of ansible-playbook that accepts it., type: str}
"""

import os
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubekeel.ha.plugins.module_utils import (
    distribution,
    k3s,
    k3s_keys,
    known_bugs,
    microk8s,
    node_guards,
    node_module,
    node_state,
)


def read_k3s(module: AnsibleModule, unit: str) -> tuple[k3s.K3sNode, str]:
    """Return a node of K3s and its kind.

    Raises:
        NodeError: its configuration cannot be read.
    """
    node = k3s.K3sNode(module, unit)
    kind = known_bugs.SERVER
    if node.role == k3s_keys.AGENT:
        kind = known_bugs.AGENT
    elif not node.has_api:
        kind = known_bugs.ETCD_ONLY
    elif node.merged.is_on("disable-etcd"):
        kind = known_bugs.CONTROL_PLANE_ONLY
    return node, kind


def run(module: AnsibleModule) -> dict[str, Any]:
    """Do the module's work and return its result.

    Raises:
        NodeError: the node runs nothing that kubekeel knows, or its files cannot be read.
    """
    found = distribution.find(module)
    has_snap = found.name == distribution.MICROK8S
    if has_snap:
        kind = known_bugs.AGENT if microk8s.is_worker() else known_bugs.SERVER
        name, absent, release = microk8s.node_name(), [], microk8s.release_text()
        folders = [microk8s.ARGS_DIR]
    else:
        node, kind = read_k3s(module, found.unit)
        name, absent, release = node.node_name, node.absent, node.release_text(module)
        folders = [os.path.dirname(node.drop_in), os.path.dirname(k3s.CONFIG_FILE), node.data_dir]
    return {
        "changed": False,
        "distribution": found.name,
        "node_name": name,
        "absent": absent,
        "release": release,
        "unit": found.unit,
        "kind": kind,
        "has_api": kind in (known_bugs.SERVER, known_bugs.CONTROL_PLANE_ONLY),
        "findings": known_bugs.findings(found.name, release, kind),
        "guards": node_guards.find(node_state.read(module, name, release, folders, has_snap)),
    }


def main() -> None:
    """Run the module."""
    node_module.execute({"distribution": distribution.OPTION}, run)


if __name__ == "__main__":
    main()
