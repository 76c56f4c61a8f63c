#!/usr/bin/python
"""The module kubekeel.ha.k3s_registration."""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

DOCUMENTATION = r"""
module: k3s_registration
short_description: Let a node of K3s join at a fixed registration address
version_added: 0.1.0
description:
  - K3s takes one C(server:). Where it names a single node, a node that starts while that one is down may not find the cluster
    (k3s-io/k3s#11333). A fixed registration address (a load balancer or a virtual IP in front of all servers) has no such
    hour.
  - Finds a C(server:) that names a single node, and moves the node to the address of O(address) by kubekeel's drop-in
    (C(config.yaml.d/zz-kubekeel.yaml)), after it has made sure that the address answers, that its certificate is the
    cluster's and covers it, and, on a server, that C(tls-san) holds it.
  - Leaves a server alone that began the cluster and has no C(server:).
  - Restarts nothing. The result says whether the unit has to.
options:
  address:
    description:
      - The fixed registration address, such as V(https://k3s.example.org:6443). Port 6443 where none is given.
      - Without it the module only looks.
    type: str
  nodes:
    description: Names and addresses of the nodes of the cluster, to tell one of them from a fixed address.
    type: list
    elements: str
    required: true
  k3s_config_file:
    description: The main configuration file of K3s. By default the one that the unit names.
    type: path
extends_documentation_fragment: [kubekeel.ha.attributes, kubekeel.ha.attributes.writes, kubekeel.ha.run]
seealso:
  - module: kubekeel.ha.component_args
"""

EXAMPLES = r"""
- name: Join at the load balancer
  kubekeel.ha.k3s_registration:
    address: https://k3s.example.org:6443
    nodes: [server1, 192.0.2.11, server2, 192.0.2.12, server3, 192.0.2.13]
"""

RETURN = r"""
server:
  description: Where the node joins before the run; null on a server that began the cluster.
  returned: success
  type: str
single_node:
  description: The node that this names; null where it names none.
  returned: success
  type: str
changes:
  description: The change of C(server), with C(owner), C(name), C(before), C(after), C(path), C(why), C(source).
  returned: success
  type: list
  elements: dict
reasons:
  description: Why the node cannot be moved. Where there is one the module changes nothing and fails; in check mode it only says so.
  returned: success
  type: list
  elements: str
findings:
  description: A C(server:) that names a single node, where no O(address) is given.
  returned: success
  type: list
  elements: str
restart:
  description: The unit, where it has to restart because of this run or of an earlier one that broke off.
  returned: success
  type: list
  elements: str
"""

import socket
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubekeel.ha.plugins.module_utils import (
    k3s,
    k3s_args,
    k3s_config,
    k3s_keys,
    k3s_supervisor,
    node_change,
    node_files,
    node_module,
    registration,
    settings,
    systemd,
)
from ansible_collections.kubekeel.ha.plugins.module_utils.node_files import NodeError

KEY = "server"


def resolve(url: str) -> list[str]:
    """Return the addresses that the host of a URL stands for, none where nobody knows."""
    try:
        return sorted({str(found[4][0]) for found in socket.getaddrinfo(registration.host_of(url), None, type=socket.SOCK_STREAM)})
    except (OSError, ValueError):
        return []


def reasons_against(node: k3s.K3sNode, url: str, nodes: list[str]) -> list[str]:
    """Return why this node cannot be moved to an address."""
    found = []
    host = registration.host_of(url)
    named = registration.single_node(url, nodes, resolve(url))
    if named:
        found.append("%s is the node %s, and no fixed registration address" % (url, named))
    why = k3s_supervisor.why_unfit(url, node.data_dir, covered=True)
    if why:
        found.append("%s: %s" % (url, why))
    if node.role == k3s_keys.SERVER and host not in [name.lower() for name in node.merged.values("tls-san")]:
        found.append("tls-san of this server does not hold %s: its certificate may lose it. Add it on every server" % host)
    return found


def run(module: AnsibleModule) -> dict[str, Any]:
    """Do the module's work and return its result.

    Raises:
        NodeError: the operator has to know, and nothing was changed.
    """
    params = module.params
    unit = k3s.require_unit(module)
    node = k3s.K3sNode(module, unit, params["k3s_config_file"])
    single = registration.single_node(node.server_url, params["nodes"], resolve(node.server_url)) if node.server_url else None
    files: list[node_change.FileChange] = []
    changes: list[node_change.Change] = []
    reasons: list[str] = []
    findings: list[str] = []
    if params["address"] is None:
        if single and node.server_url:
            findings.append(single_node_finding(node, node.server_url, single))
    elif node.server_url:
        try:
            url = registration.normalize(params["address"], registration.PORT)
        except ValueError as error:
            raise NodeError("address: %s" % error) from error
        if url != node.server_url:
            ours = k3s_config.DropIn.read(node.files, node.drop_in)
            ours.settings[KEY] = url
            text, after = node_files.read(node.drop_in), ours.text()
            reasons = [*reasons_against(node, url, params["nodes"]), *ours.foreign, *decided_elsewhere(node, after)]
            changes = [node_change.Change(node.unit, KEY, node.server_url, url, node.drop_in)]
            files = [node_change.FileChange(node.drop_in, text, after, k3s_args.MODE)] if text != after else []
    if not module.check_mode:
        if reasons:
            raise NodeError("; ".join(reasons), reasons=reasons)
        node_change.apply(module, files, unit)
    return {
        "changed": bool(files),
        "server": node.server_url,
        "single_node": single,
        "changes": [change.as_result() for change in changes],
        "diff": [change.as_diff() for change in files],
        "reasons": reasons,
        "findings": findings,
        "restart": [unit] if files or systemd.must_restart(module, unit) else [],
    }


def single_node_finding(node: k3s.K3sNode, url: str, single: str) -> str:
    """Return the sentence about a C(server:) that names a single node."""
    said = node.value(KEY)
    place = said.place if said else ""
    return "server: %s (%s) names the single node %s: %s (%s); give the address in front of all servers as k3s_registration_address" % (
        url,
        place,
        single,
        settings.SETTINGS[KEY].why,
        settings.SETTINGS[KEY].source,
    )


def decided_elsewhere(node: k3s.K3sNode, text: str | None) -> list[str]:
    """Return where the address is set that would count in spite of the drop-in with a new text."""
    found = k3s_config.merge(k3s_config.with_text(node.files, node.drop_in, text), node.command_line).last(KEY)
    if found and found.path != node.drop_in:
        return ["server is set in %s, which comes after kubekeel's drop-in; remove it there" % found.place]
    return []


def main() -> None:
    """Run the module."""
    node_module.execute(
        {
            "address": {"type": "str"},
            "nodes": {"type": "list", "elements": "str", "required": True},
            "k3s_config_file": {"type": "path"},
            "run_id": {"type": "str"},
        },
        run,
    )


if __name__ == "__main__":
    main()
