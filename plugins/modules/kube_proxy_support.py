#!/usr/bin/python
"""The module kubekeel.ha.kube_proxy_support."""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

DOCUMENTATION = r"""
module: kube_proxy_support
short_description: Tell whether a node can run kube-proxy in a mode
version_added: 0.1.0
description:
  - Reads the Kubernetes release, the kernel and its modules, and the tools that are installed. Changes nothing.
  - kube-proxy up to 1.20 falls back to iptables in silence where something is missing, later ones exit, and with them
    the whole kubelite.
options:
  mode:
    description: The mode.
    type: str
    choices: [iptables, ipvs, nftables]
    required: true
  scheduler:
    description: The scheduler of mode V(ipvs), such as V(rr).
    type: str
    default: rr
extends_documentation_fragment: [kubekeel.ha.attributes, kubekeel.ha.attributes.reads, kubekeel.ha.distribution]
"""

EXAMPLES = r"""
- name: Can this node run ipvs?
  kubekeel.ha.kube_proxy_support:
    mode: ipvs
  register: support
"""

RETURN = r"""
supported:
  description: Whether the mode can be used once modules are loaded and packages installed.
  returned: success
  type: bool
reasons:
  description: Why it cannot, with the cure.
  returned: success
  type: list
  elements: str
modules:
  description: Kernel modules that the mode needs.
  returned: success
  type: list
  elements: str
packages:
  description: Packages that are missing.
  returned: success
  type: list
  elements: str
changes:
  description: Each package that is missing, as a change that the role kube_proxy makes.
  returned: success
  type: list
  elements: dict
restart:
  description: Always empty.
  returned: success
  type: list
  elements: str
"""

import os
import platform
import shutil
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubekeel.ha.plugins.module_utils import distribution, node_change, node_module, proxy_mode, running_kernel
from ansible_collections.kubekeel.ha.plugins.module_utils.release import parse_release

# sudo may hand over a PATH without the folders of administration.
FOLDERS = os.pathsep.join(
    [
        os.environ.get("PATH", ""),
        *("/usr/local/sbin", "/usr/sbin", "/sbin"),
        # What the distributions bring with them.
        *("/snap/microk8s/current/usr/sbin", "/var/lib/rancher/k3s/data/current/bin", "/var/lib/rancher/k3s/data/current/bin/aux"),
    ]
)


def read_node(module: AnsibleModule) -> proxy_mode.Node:
    """Return what proxy_mode has to know of this node.

    Raises:
        NodeError: something cannot be read.
    """
    kernel = platform.release()
    tools = {tool: path for tool in ("ipset", "ipvsadm", "nft") for path in [shutil.which(tool, path=FOLDERS)] if path}
    nft = parse_release(module.run_command([tools["nft"], "--version"])[1]) if "nft" in tools else None
    release = parse_release(distribution.release(module, distribution.find(module)))
    return proxy_mode.Node(release, parse_release(kernel), running_kernel.modules("modules.builtin", "modules.dep"), tools, nft)


def run(module: AnsibleModule) -> dict[str, Any]:
    """Do the module's work and return its result.

    Raises:
        NodeError: the operator has to know.
    """
    support = proxy_mode.check(module.params["mode"], module.params["scheduler"], read_node(module))
    for warning in support.warnings:
        module.warn(warning)
    return {
        "changed": False,
        "supported": not support.reasons,
        "reasons": support.reasons,
        "modules": support.modules,
        "packages": support.packages,
        "changes": [node_change.Change("package", name, None, "installed", "").as_result() for name in support.packages],
        "diff": [],
        "restart": [],
    }


def main() -> None:
    """Run the module."""
    node_module.execute(
        {
            "distribution": distribution.OPTION,
            "mode": {"type": "str", "choices": list(proxy_mode.MODES), "required": True},
            "scheduler": {"type": "str", "default": "rr"},
        },
        run,
    )


if __name__ == "__main__":
    main()
