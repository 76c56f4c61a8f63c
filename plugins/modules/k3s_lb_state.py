#!/usr/bin/python
"""The module kubekeel.ha.k3s_lb_state."""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

DOCUMENTATION = r"""
module: k3s_lb_state
short_description: Find and clear stale state of the client load balancer of K3s
version_added: 0.1.0
description:
  - An agent, and a server that runs etcd alone, reaches the API servers through a load balancer of its own, which remembers
    them in a file. K3s reads it at its start. Where no address in it is alive any more, the node stays NotReady for good
    (k3s-io/k3s#11349, mended in 1.31.4, 1.30.8, 1.29.12 and 1.32.0).
  - Compares the addresses with those that the cluster has now, and with what answers. Only a file that is stale for certain
    is cleared, since K3s needs what it remembers when its join server is down (k3s-io/k3s#11333).
  - To clear means to stop K3s, move the file aside, start K3s, and wait until the node is Ready. Deleting the file under a
    running K3s would change nothing. Pods go on meanwhile. A node that is Ready all the same is left alone.
  - Recognises the files of RKE2, too, and leaves clearing them to the operator; O(server) and O(endpoints) are needed there.
options:
  data_dir:
    description: Where K3s keeps its data. By default what its configuration says, else V(/var/lib/rancher/k3s).
    type: path
  server:
    description: The server that the node joins at. By default what its configuration says.
    type: str
  endpoints:
    description:
      - The API servers that the cluster has now, as addresses with a port.
      - By default they are asked from the supervisor of the join server, or of one that the file remembers.
    type: list
    elements: str
  state:
    description: With V(cleared) a stale file is moved aside. V(checked) only looks.
    type: str
    choices: [checked, cleared]
    default: checked
  force:
    description: Whether to clear a file that is not stale. Never clears the etcd file of a control-plane-only server.
    type: bool
    default: false
  node_name:
    description: Kubernetes name of this node. By default C(node-name) of the configuration, else the host name.
    type: str
  timeout:
    description: For how many seconds to wait until the node is Ready.
    type: int
    default: 180
attributes:
  check_mode:
    description: Says what would be cleared.
    support: full
  diff_mode:
    description: A file that is moved aside has no diff.
    support: none
extends_documentation_fragment: [kubekeel.ha.attributes]
seealso:
  - module: kubekeel.ha.cluster_health
"""

EXAMPLES = r"""
- name: Is this node kept from the API servers by what it remembers?
  kubekeel.ha.k3s_lb_state:
  register: remembered

- name: Bring it back
  kubekeel.ha.k3s_lb_state:
    state: cleared
    endpoints: [192.0.2.21:6443, 192.0.2.22:6443]
"""

RETURN = r"""
files:
  description: Every file that this node may have.
  returned: success
  type: list
  elements: dict
  contains:
    path: {description: The file., type: str, sample: /var/lib/rancher/k3s/agent/etc/k3s-agent-load-balancer.json}
    to: {description: "What it balances to, V(apiserver) or V(etcd).", type: str}
    verdict: {description: "V(absent), V(fresh), V(partly_stale), V(stale), V(foreign) or V(unreadable).", type: str}
    why: {description: The reason in words., type: str}
    server_url: {description: The server that it was written for., type: str}
    addresses: {description: "What it remembers, each with C(address), C(current) and C(answers).", type: list, elements: dict}
    moved_to: {description: Where it was moved; null where it was not., type: str}
    left: {description: Why it was left where it is., type: str}
due:
  description: Whether there is a file to be cleared.
  returned: success
  type: bool
findings:
  description: A sentence for each stale file.
  returned: success
  type: list
  elements: str
server:
  description: The server that the node joins at.
  returned: success
  type: str
endpoints:
  description: The API servers that the cluster has now, each with C(address) and C(answers).
  returned: success
  type: list
  elements: dict
"""

import os
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any, Iterable
from urllib.parse import urlsplit

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubekeel.ha.plugins.module_utils import (
    addresses,
    api_objects,
    etcd_client,
    health,
    k3s,
    k3s_supervisor,
    kube_api,
    lb_state,
    node_files,
    node_module,
    registration,
    systemd,
    unit_watch,
)
from ansible_collections.kubekeel.ha.plugins.module_utils.node_files import NodeError

CONNECT_TIMEOUT = 3
POLL = 1.0
LEASE = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/"
MOVER = "kubekeel-k3s-lb-state.service"
"""A unit that lives for as long as it takes."""
RKE2 = "/var/lib/rancher/rke2"
RKE2_SUPERVISOR = 9345


def accepts(address: str) -> bool:
    """Tell whether an address accepts a TCP connection."""
    try:
        socket.create_connection(addresses.split(address), CONNECT_TIMEOUT).close()
    except (OSError, ValueError):
        return False
    return True


def all_accept(addresses: Iterable[str]) -> dict[str, bool]:
    """Return for each address whether it accepts a TCP connection."""
    asked = sorted(set(addresses))
    with ThreadPoolExecutor(max_workers=max(len(asked), 1)) as pool:
        return dict(zip(asked, pool.map(accepts, asked)))


class Node:
    """This node, and what it remembers."""

    def __init__(self, module: AnsibleModule) -> None:
        """Read its configuration and its files.

        Raises:
            NodeError: it is no node of K3s, or a file cannot be read.
        """
        self.module = module
        params = module.params
        unit = k3s.unit_of(module) if os.path.isdir(RKE2) else k3s.require_unit(module)
        self.k3s = k3s.K3sNode(module, unit) if unit else None
        self.product = "k3s" if self.k3s else "rke2"
        self.data_dir = params["data_dir"] or (self.k3s.data_dir if self.k3s else RKE2)
        if not self.k3s and (not params["server"] or params["endpoints"] is None):
            raise NodeError("this node runs RKE2, whose configuration kubekeel does not read: give server and endpoints")
        try:
            self.server = registration.normalize(params["server"]) if params["server"] else self.k3s.join_url if self.k3s else ""
        except ValueError as error:
            raise NodeError("server: %s" % error) from error
        self.files = lb_state.files(self.product)
        self.states = {file: self._read(file) for file in self.files}

    def path(self, file: lb_state.StateFile) -> str:
        """Return the path of a file."""
        return os.path.join(self.data_dir, file.path)

    def _read(self, file: lb_state.StateFile) -> tuple[bool, lb_state.State | None]:
        text = node_files.read(self.path(file))
        return text is not None, lb_state.parse(text or "")

    def remembered(self, to: str) -> list[str]:
        """Return the addresses in all files that balance to something."""
        return [address for file, (_there, state) in self.states.items() if state and file.to == to for address in state.addresses]

    @cached_property
    def kubelet(self) -> kube_api.Credentials:
        """Return the credentials of this node's kubelet.

        Raises:
            NodeError: they cannot be read.
        """
        return kube_api.Credentials(os.path.join(self.data_dir, "agent/kubelet.kubeconfig"))

    def current(self, to: str) -> list[str]:
        """Return the API servers, or the members of etcd, that the cluster has now.

        Raises:
            NodeError: nobody tells.
        """
        return self._etcd_members if to == lb_state.ETCD else self._api_servers

    @cached_property
    def _etcd_members(self) -> list[str]:
        """Return the members that any etcd lists, by the load balancer of this node, what it remembers, or the join server."""
        credentials = k3s.etcd_credentials(self.data_dir)
        asked = [
            "127.0.0.1:%d" % k3s.ETCD_PORT,
            "[::1]:%d" % k3s.ETCD_PORT,
            *self.remembered(lb_state.ETCD),
            addresses.join(urlsplit(self.server).hostname or "", k3s.ETCD_PORT),
        ]
        for address in asked:
            try:
                members = etcd_client.members(credentials, "https://" + address, CONNECT_TIMEOUT)
            except etcd_client.EtcdError:
                continue
            return [urlsplit(url).netloc for member in members for url in member.client_urls]
        # This file is never cleared, so it may have the benefit of the doubt.
        return self.remembered(lb_state.ETCD)

    @cached_property
    def _api_servers(self) -> list[str]:
        given: list[str] | None = self.module.params["endpoints"]
        if given is not None:
            return given
        join = urlsplit(self.server)
        supervisors = [
            (join.hostname or "", join.port or 443),
            *(addresses.split(address) for address in self.remembered(lb_state.API)),
        ]
        errors = []
        for host, port in supervisors:
            try:
                found = kube_api.get_json(self.kubelet, host, "/v1-%s/apiservers" % self.product, CONNECT_TIMEOUT, port)
            except kube_api.ApiError as error:
                errors.append("%s: %s" % (addresses.join(host, port), error))
                continue
            if isinstance(found, list) and found:
                return [str(address) for address in found]
            errors.append("%s: it knows none" % addresses.join(host, port))
        raise NodeError("no server tells which API servers the cluster has (%s); give them as endpoints" % "; ".join(errors))

    def judge(self) -> list[dict[str, Any]]:
        """Return an entry of the result for each file.

        Raises:
            NodeError: nobody tells which servers the cluster has now.
        """
        return [self._judge(file, there, state) for file, (there, state) in self.states.items()]

    def _judge(self, file: lb_state.StateFile, there: bool, state: lb_state.State | None) -> dict[str, Any]:
        remembered = state.addresses if state else ()
        current = [addresses.canonical(self._as_listed(address, state)) for address in self.current(file.to)] if state else []
        answers = all_accept([*current, *remembered])
        verdict = lb_state.judge(state, self._server_urls(file.to), current, answers) if there else lb_state.Verdict(lb_state.ABSENT, "")
        return {
            "path": self.path(file),
            "to": file.to,
            "server_url": state.server_url if state else None,
            "verdict": verdict.verdict,
            "why": verdict.why,
            "addresses": [
                {"address": address, "current": addresses.canonical(address) in current, "answers": answers[address]}
                for address in remembered
            ],
            "moved_to": None,
            "left": self._why_left(file, verdict),
        }

    def _why_left(self, file: lb_state.StateFile, verdict: lb_state.Verdict) -> str | None:
        left = lb_state.why_not_cleared(file, verdict, self.module.params["force"])
        if left is None and not self.module.params["force"] and not why_not_ready(self, 0):
            return "the node is Ready all the same: nothing keeps it from the API servers"
        return left

    def _server_urls(self, to: str) -> list[str]:
        """Return the servers that K3s may write such a file for on this node."""
        if to == lb_state.ETCD:
            return ["https://" + addresses.join(urlsplit(self.server).hostname or "", k3s.ETCD_PORT)]
        # A server that runs etcd alone begins with its own supervisor where it began the cluster, in old releases always.
        return [self.server, self.k3s.local_url] if self.k3s else [self.server]

    def _as_listed(self, address: str, state: lb_state.State | None) -> str:
        """RKE2 remembers the port of its supervisor where that is another one than the API server's."""
        host, port = addresses.split(address)
        supervisor = state is not None and any(addresses.split(one)[1] == RKE2_SUPERVISOR for one in state.addresses)
        return addresses.join(host, RKE2_SUPERVISOR if supervisor and self.product == "rke2" else port)


def clear(node: Node, entries: list[dict[str, Any]]) -> None:
    """Move files aside while K3s is stopped, and wait until the node is Ready again.

    Raises:
        NodeError: the join server does not answer, K3s does not come up, or the node does not become Ready.
    """
    if not node.k3s:
        raise NodeError("this node runs RKE2; kubekeel tells what is stale there, and leaves clearing it to you")
    if not node.server:
        raise NodeError("this node has no join server: with its memory cleared it could not find the cluster")
    unfit = k3s_supervisor.why_unfit(node.server, node.data_dir, covered=False)
    if unfit:
        raise NodeError(
            "nothing was changed: a node that remembers nothing needs its join server to start. %s: %s. "
            "Start it, or move the node to a fixed registration address first (role k3s_registration)" % (node.server, unfit)
        )
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    for entry in entries:
        entry["moved_to"] = "%s.%s" % (entry["path"], stamp)
    if not node.module.check_mode:
        since = time.time()
        move_aside(node.module, node.k3s.unit, {entry["path"]: entry["moved_to"] for entry in entries})
        wait_until_ready(node, since)


def move_aside(module: AnsibleModule, unit: str, moves: dict[str, str]) -> None:
    """Let systemd stop K3s, move files, and start K3s again: it does so to the end whatever becomes of this module.

    Raises:
        NodeError: a file could not be moved. K3s is started in any case.
    """
    systemctl, mv = module.get_bin_path("systemctl", required=True), module.get_bin_path("mv", required=True)
    commands = ["ExecStart=%s stop %s.service" % (systemctl, unit)]
    commands += ['ExecStart=%s -n "%s" "%s"' % (mv, old.replace("%", "%%"), new.replace("%", "%%")) for old, new in moves.items()]
    commands.append("ExecStopPost=%s start --no-block %s.service" % (systemctl, unit))
    path = os.path.join("/run/systemd/system", MOVER)
    text = "[Unit]\nDescription=kubekeel: move stale state of K3s aside\n[Service]\nType=oneshot\n" + "\n".join(commands) + "\n"
    node_files.make_folder(os.path.dirname(path), 0o755)
    node_files.write(path, text)
    try:
        systemd.reload(module)
        code, _out, err = module.run_command([systemctl, "start", MOVER])
    finally:
        node_files.remove(path)
        systemd.reload(module)
    kept = [old for old, new in moves.items() if not os.path.exists(new)]
    if code or kept:
        raise NodeError("%s could not be moved aside (%s); K3s was started again" % (", ".join(kept or moves), err.strip() or "mv failed"))


def wait_until_ready(node: Node, since: float) -> None:
    """Wait until K3s is up and the node is Ready by the word of an API server.

    Args:
        node: this node.
        since: when K3s was stopped.

    Raises:
        NodeError: it does not become so.
    """
    unit, timeout = node.k3s.unit, node.module.params["timeout"]  # type: ignore[union-attr]
    why = unit_watch.watch(node.module, unit, "0", unit_watch.at_once, 0, timeout)
    if why:
        log = unit_watch.log_since(node.module, unit, since)
        raise NodeError("%s did not come up: %s. It logged:\n%s" % (unit, why, "\n".join(log)), log=log)
    until = time.monotonic() + timeout
    while True:
        why = why_not_ready(node, since)
        if not why:
            return
        if time.monotonic() > until:
            raise NodeError("the node is not Ready %d s after K3s was started: %s" % (timeout, why))
        time.sleep(POLL)


def why_not_ready(node: Node, since: float) -> str:
    """Return why the node is not Ready, an empty text where it is and its kubelet renewed its Lease after C(since)."""
    name = node.module.params["node_name"] or (node.k3s.node_name if node.k3s else socket.gethostname().lower())
    error = "no API server answers"
    for address in node.current(lb_state.API):
        host, port = addresses.split(address)
        try:
            found = kube_api.get_json(node.kubelet, host, "/api/v1/nodes/" + name, CONNECT_TIMEOUT, port)
            found = api_objects.fitting(found, api_objects.NODE)
            lease = kube_api.get_json(node.kubelet, host, LEASE + name, CONNECT_TIMEOUT, port)
            lease = api_objects.fitting(lease, api_objects.LEASE)["spec"]
        except (kube_api.ApiError, ValueError) as failed:
            error = "%s: %s" % (address, failed)
            continue
        if not health.is_ready(found):
            return "%s says that it is NotReady" % address
        fresh = max(since, time.time() - lease.get("leaseDurationSeconds", health.LEASE_DURATION))
        renewed = health.moment(lease.get("renewTime"))
        return "" if renewed is not None and renewed > fresh else "its kubelet does not renew its Lease"
    return error


def run(module: AnsibleModule) -> dict[str, Any]:
    """Do the module's work and return its result.

    Raises:
        NodeError: the operator has to know.
    """
    node = Node(module)
    entries = node.judge()
    due = [entry for entry in entries if entry["left"] is None]
    answer = result(node, entries)
    if due and module.params["state"] == "cleared":
        clear(node, due)
    return dict(answer, changed=bool(due) and module.params["state"] == "cleared")


def result(node: Node, entries: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the module's result."""
    there = any(state for _there, state in node.states.values())
    current = node.current(lb_state.API) if node.module.params["endpoints"] is not None or there else []
    answers = all_accept(current)
    return {
        "files": entries,
        "due": any(entry["left"] is None for entry in entries),
        "findings": [
            "%s is stale: %s (%s)" % (entry["path"], entry["why"], "remembered: " + ", ".join(one["address"] for one in entry["addresses"]))
            for entry in entries
            if entry["verdict"] == lb_state.STALE
        ],
        "server": node.server or None,
        "endpoints": [{"address": address, "answers": answers[address]} for address in current],
    }


def main() -> None:
    """Run the module."""
    node_module.execute(
        {
            "data_dir": {"type": "path"},
            "server": {"type": "str"},
            "endpoints": {"type": "list", "elements": "str"},
            "state": {"type": "str", "choices": ["checked", "cleared"], "default": "checked"},
            "force": {"type": "bool", "default": False},
            "node_name": {"type": "str"},
            "timeout": {"type": "int", "default": 180},
        },
        run,
    )


if __name__ == "__main__":
    main()
