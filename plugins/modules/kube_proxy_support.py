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
  - Reads the Kubernetes release, kube-proxy's flags, the kernel and its modules, the tools that are installed and, where one is
    missing, whether the package manager knows it. Changes nothing.
  - Older releases of kube-proxy fall back to iptables in silence where something is missing (kubernetes#111806), later ones exit, and
    with them the whole kubelite.
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
  install_packages:
    description: Whether packages that are missing may be installed. Otherwise one that is missing is a reason against the mode.
    type: bool
    default: true
  accept_flush:
    description:
      - Whether kube-proxy may remove virtual services of ipvs that are somebody else's, such as keepalived's, which it does in the modes
        V(ipvs) and V(nftables).
      - Otherwise one that is there is a reason against a change to such a mode.
    type: bool
    default: false
  flags:
    description: Flags of kube-proxy that are about to be set and count before those that it has. One without a value is about to go.
    type: dict
    default: {}
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
  description: Packages that are missing and can be installed.
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

import platform
from typing import Any, Mapping

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubekeel.ha.plugins.module_utils import (
    distribution,
    node_change,
    node_module,
    proxy_mode,
    proxy_node,
    proxy_rules,
    running_kernel,
)
from ansible_collections.kubekeel.ha.plugins.module_utils.release import parse_release

# What tells the version of a package that could be installed, and where that stands in its answer.
MANAGERS = (
    (["apt-cache", "policy"], "Candidate:"),
    (["dnf", "--quiet", "info"], "Version"),
    (["yum", "--quiet", "info"], "Version"),
    (["zypper", "--quiet", "--non-interactive", "info"], "Version"),
)


def read_packages(module: AnsibleModule, names: list[str], wanted: bool) -> proxy_mode.Packages:
    """Return what the package manager of this node says of packages."""
    asked = next(((words, key) for words, key in MANAGERS if proxy_node.tool(words[0])), None)
    if not wanted or asked is None:
        return proxy_mode.Packages(wanted)
    words, key = asked
    known = {}
    for name in names:
        out = module.run_command([*words, name], environ_update={"LC_ALL": "C"})[1]
        found = [line.partition(key)[2].strip(" :") for line in out.splitlines() if line.strip().startswith(key)]
        if found and found[0] != "(none)":
            known[name] = found[0]
    return proxy_mode.Packages(wanted, words[0], known)


def read_foreign(module: AnsibleModule, flags: Mapping[str, str]) -> tuple[tuple[tuple[str, str], ...], tuple[str, ...]]:
    """Return the virtual services that are not kube-proxy's, as C(Node.foreign), and those of which that is not sure.

    Raises:
        NodeError: they cannot be read.
    """
    if not proxy_node.virtual_services():
        return (), ()
    kernel, _findings = proxy_node.read_kernel(module)
    excluded = proxy_mode.networks(flags.get("ipvs-exclude-cidrs", ""))
    ours = proxy_rules.our_services(kernel, excluded)
    others = [service for service in kernel.services if service not in ours]
    unsure = proxy_rules.unsure_services(kernel, excluded)
    return (
        tuple((str(service), service.address) for service in others if service not in unsure),
        tuple(str(service) for service in unsure),
    )


def read_node(module: AnsibleModule) -> proxy_mode.Node:
    """Return what proxy_mode has to know of this node.

    Raises:
        NodeError: something cannot be read.
    """
    mode, found = module.params["mode"], distribution.find(module)
    is_microk8s = found.name == distribution.MICROK8S
    is_strict = is_microk8s and proxy_node.strict_snap()
    tools = {}
    for tool in proxy_mode.TOOLS[mode]:
        # The strict snap runs its own tools alone, the classic one those of the node, too. ipvsadm is not kube-proxy's but kubekeel's.
        path = None if is_strict and tool != "ipvsadm" else proxy_node.tool(tool)
        if is_microk8s and tool != "ipvsadm":
            path = path or proxy_node.snap_tool(tool)
        if path:
            tools[tool] = path
    lacking = list(proxy_mode.missing(mode, tools).values())
    flags = {**(proxy_node.flags(module, found) or {}), **module.params["flags"]}
    # None takes a flag away.
    flags = {name: str(value) for name, value in flags.items() if value is not None}
    foreign, unsure = read_foreign(module, flags)
    return proxy_mode.Node(
        release=parse_release(distribution.release(module, found)),
        kernel=parse_release(platform.release()),
        modules=running_kernel.modules("modules.builtin", "modules.dep"),
        tools=tools,
        nft=parse_release(module.run_command([tools["nft"], "--version"])[1]) if "nft" in tools else None,
        packages=read_packages(module, lacking, module.params["install_packages"]) if lacking else None,
        flags=flags,
        strict_snap=is_strict,
        foreign=foreign,
        unsure=unsure,
    )


def run(module: AnsibleModule) -> dict[str, Any]:
    """Do the module's work and return its result.

    Raises:
        NodeError: the operator has to know.
    """
    support = proxy_mode.check(module.params["mode"], module.params["scheduler"], read_node(module), module.params["accept_flush"])
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
            "install_packages": {"type": "bool", "default": True},
            "accept_flush": {"type": "bool", "default": False},
            "flags": {"type": "dict", "default": {}},
        },
        run,
    )


if __name__ == "__main__":
    main()
