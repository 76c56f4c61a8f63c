#!/usr/bin/python
"""The module kubekeel.ha.cluster_health."""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

DOCUMENTATION = r"""
module: cluster_health
short_description: Tell whether a cluster is well and may lose a server now
version_added: 0.1.0
description:
  - Asks every API server for C(/readyz), and one that answers for the nodes and the Leases of their kubelets. Changes
    nothing but the Lease of O(holding).
  - MicroK8s. Takes the members of the datastore from C(microk8s status).
  - K3s. Asks etcd for its members and each member whether it is up and knows a leader; every etcd node must have the
    condition C(EtcdIsVoter), and every API server must be among the endpoints of the Service kubernetes. With an external
    datastore only the API servers count.
  - A node that says Ready while its Lease has expired is a finding of its own. Its kubelet is alive and cannot reach
    the API, or its status is written by nobody any more.
  - With O(survey) it also tells what else speaks against changing anything now. That is clocks of API servers that differ, nodes
    of different releases, nodes that are cordoned, a node that kured reboots, a Plan of system-upgrade-controller under way.
  - Runs on a server with an API server. To judge the restart of one server run it on another one, with C(delegate_to).
options:
  kubeconfig:
    description: An administrator's kubeconfig on this node. By default the one that the distribution writes.
    type: path
  expected_servers:
    description:
      - The servers that the inventory knows, by their Kubernetes names or addresses. Any difference from the cluster is
        a reason.
    type: list
    elements: str
  expected_agents:
    description: The agents that the inventory knows. One that the cluster does not have is a reason.
    type: list
    elements: str
    default: []
  ignore_nodes:
    description: Kubernetes names of nodes that are known to be down.
    type: list
    elements: str
    default: []
  losing:
    description:
      - Kubernetes names of nodes that are to be taken down. RV(safe_to_disrupt) and RV(keeps_quorum) are about them then.
      - Without any they are about any one server.
    type: list
    elements: str
    default: []
  renewed_after:
    description:
      - Kubernetes name of a node to a time, in seconds of the Unix epoch. Its Lease must have been renewed after it.
      - Names the nodes that were just restarted. Until its Lease runs out a node looks well although nothing runs.
    type: dict
    default: {}
  timeout:
    description: For how many seconds to wait until all is as asked for. V(0) looks once.
    type: int
    default: 0
  stable:
    description: For how many seconds without a break that has to be so before the wait ends.
    type: int
    default: 0
  spare:
    description:
      - Whether to wait until a server may be lost. Without it the wait is for everything being up alone, which a cluster of
        one server, or one with a server in O(ignore_nodes), can be as well.
    type: bool
    default: true
  datastore_leader:
    description: Whether to find out who leads the datastore. On MicroK8s that takes one more command, C(dqlite) of the snap.
    type: bool
    default: false
  survey:
    description:
      - Whether to look for RV(guards), too. Each look then reads DaemonSets and Plans as well, so it is for the look before a run,
        not for a wait.
    type: bool
    default: false
  holding:
    description:
      - The run that holds the cluster by M(kubekeel.ha.cluster_lock). While this module looks it renews the Lease of that run,
        with the first look and then every 10 seconds.
      - Where another run holds it by now, or nobody since it was broken, the run must not go on, see O(lost_lock).
      - Without it, and in check mode, nobody asks who holds the cluster.
      - Set it once for a play with C(module_defaults) and the group C(group/kubekeel.ha.lock).
    type: str
    default: ""
  lost_lock:
    description:
      - What it is where O(holding) does not hold the cluster any more. V(reason) is one not to go on.
      - V(warning) is for the look after a change. The node waits until it is well, and what was done is not taken back.
    type: str
    choices: [reason, warning]
    default: reason
extends_documentation_fragment: [kubekeel.ha.attributes, kubekeel.ha.distribution]
attributes:
  check_mode:
    description: Renews no Lease.
    support: full
  diff_mode:
    description: Nothing on the node changes.
    support: none
seealso:
  - module: kubekeel.ha.cluster_lock
"""

EXAMPLES = r"""
- name: May a server be restarted?
  kubekeel.ha.cluster_health:
  register: health
  failed_when: not health.safe_to_disrupt

- name: Wait until it is back, seen from another server
  kubekeel.ha.cluster_health:
    timeout: 30
    stable: 10
  delegate_to: server2
  register: health
  until: health.safe_to_disrupt
  retries: 10
  delay: 1
"""

RETURN = r"""
healthy:
  description: Whether everything is up.
  returned: success
  type: bool
safe_to_disrupt:
  description: Whether everything is up, the cluster keeps its quorum without any one of its servers, and O(holding) holds it.
  returned: success
  type: bool
keeps_quorum:
  description: Whether the datastore and the API stay without any one server, or without O(losing), whatever else is wrong.
  returned: success
  type: bool
as_asked:
  description: The one of RV(healthy) and RV(safe_to_disrupt) that O(spare) asks for, and whether O(holding) holds the cluster.
  returned: success
  type: bool
held:
  description: Whether O(holding) holds the cluster, as far as was asked.
  returned: success
  type: bool
reasons:
  description: Why not.
  returned: success
  type: list
  elements: str
  sample: [node server2 is NotReady]
msg:
  description: The reasons as one text.
  returned: success
  type: str
servers_to_spare:
  description: How many servers may be lost at once.
  returned: success
  type: int
  sample: 1
nodes:
  description: Every node.
  returned: success
  type: list
  elements: dict
  contains:
    name: {description: Its Kubernetes name., type: str}
    address: {description: Its internal address., type: str}
    role: {description: V(server) or V(agent)., type: str}
    etcd: {description: Whether it is labelled as a member of etcd (K3s)., type: bool}
    voter: {description: Status of its condition EtcdIsVoter; null where it has none., type: str}
    release: {description: Version of its kubelet., type: str}
    ready: {description: What its condition Ready says., type: bool}
    cordoned: {description: Whether it takes no new pods., type: bool}
    lease_age: {description: Seconds since its Lease was renewed; null without one., type: float}
    lease_expired: {description: Whether that is too long., type: bool}
members:
  description: Every member of the datastore.
  returned: success
  type: list
  elements: dict
  contains:
    host: {description: Its address., type: str}
    role: {description: "V(voter), V(standby) or V(spare) in Dqlite, V(voter) or V(learner) in etcd.", type: str}
    ready: {description: Whether it is up (MicroK8s, whether the API server beside it is ready)., type: bool}
leaders:
  description: Kubernetes name of the node that leads, by component of leader election; empty where no API server answered.
  returned: success
  type: dict
  sample: {kube-controller-manager: server1, kube-scheduler: server3}
datastore_leader:
  description: Address of the member that leads the datastore; empty where nobody can tell, or O(datastore_leader=false).
  returned: success
  type: str
  sample: 10.0.0.11
endpoints:
  description: Addresses in the endpoints of the Service kubernetes, with ports (K3s).
  returned: success
  type: list
  elements: str
cluster_id:
  description: Identity of the cluster, the UID of its namespace kube-system; empty where no API server answered.
  returned: success
  type: str
guards:
  description: What speaks against changing anything in the cluster now, although it may be well; empty without O(survey).
  returned: success
  type: list
  elements: dict
  contains:
    name: {description: The name that C(preflight_accept) takes., type: str}
    refuses: {description: Whether it ends a run unless it is accepted., type: bool}
    text: {description: "What is wrong and where, why it matters, what to do about it.", type: str}
    accept: {description: The option of ansible-playbook that accepts it., type: str}
"""

import http.client
import os
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, Sequence, TypeVar
from urllib.parse import urlsplit

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubekeel.ha.plugins.module_utils import (
    addresses,
    api_objects,
    cluster_guards,
    distribution,
    etcd_client,
    health,
    k3s,
    k3s_keys,
    kube_api,
    lock_client,
    microk8s,
    node_module,
)
from ansible_collections.kubekeel.ha.plugins.module_utils.node_files import NodeError

REQUEST_TIMEOUT = 4
STATUS_TIMEOUT = 30
LEADER_TIMEOUT = 10
POLL = 1.0
DQLITE = "/snap/microk8s/current/bin/dqlite"
BACKEND = "/var/snap/microk8s/current/var/kubernetes/backend"
NODES = "/api/v1/nodes"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
LEADERS = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases"
IDENTITY = "/api/v1/namespaces/kube-system"
ENDPOINTS = "/api/v1/namespaces/default/endpoints/kubernetes"
DAEMON_SETS = "/apis/apps/v1/daemonsets"
PLANS = "/apis/upgrade.cattle.io/v1/plans"
SHAPES = {
    NODES: api_objects.NODES,
    LEASES: api_objects.LEASES,
    LEADERS: api_objects.LEASES,
    IDENTITY: api_objects.NAMESPACE,
    ENDPOINTS: api_objects.ENDPOINTS,
    DAEMON_SETS: api_objects.DAEMON_SETS,
    PLANS: api_objects.PLANS,
}

T = TypeVar("T")


class Looker:
    """Looks at the cluster from this server."""

    def __init__(self, module: AnsibleModule) -> None:
        """Find out what the node runs.

        Raises:
            NodeError: nothing that kubekeel knows, or the kubeconfig cannot be read.
        """
        self.module = module
        found = distribution.find(module)
        self.etcd: etcd_client.Credentials | None = None
        self._leads = ""
        self._stamps: dict[str, kube_api.Stamp] = {}
        self._seen: health.Observation | None = None
        self._name = microk8s.node_name
        self.is_k3s = found.name == distribution.K3S
        if self.is_k3s:
            node = k3s.K3sNode(module, found.unit)
            self._name = lambda: node.node_name
            if not node.has_api:
                kind = "an agent" if node.role == k3s_keys.AGENT else "an etcd-only server"
                raise NodeError(
                    "this node is %s and has no API server to ask. Servers with one belong into the inventory group 'control_plane', "
                    "those with a member of etcd into 'etcd'; a cluster where every server has both needs neither group" % kind
                )
            # On a server with a member of its own that one; on one without the load balancer that K3s runs.
            self.etcd_url = "https://" + addresses.join(node.loopback if node.loopback == "::1" else "127.0.0.1", k3s.ETCD_PORT)
            if node.uses_etcd:
                self.etcd = k3s.etcd_credentials(node.data_dir)
        self.api = kube_api.Credentials(module.params["kubeconfig"] or found.kubeconfig)
        run_id = "" if module.check_mode else module.params["holding"]
        self._holding = lock_client.Holding(self.api, run_id) if run_id else None
        self._answered = ""

    def observe(self) -> tuple[health.Observation, str]:
        """Return what is to be seen of the cluster, and its identity.

        Raises:
            NodeError: the datastore's members cannot be had.
        """
        self._stamps = {}
        self._seen, identity = self._observe_k3s() if self.is_k3s else self._observe_microk8s()
        return self._seen, identity

    def guards(self, ignore: Sequence[str]) -> list[dict[str, Any]]:
        """Return what speaks against a change, as the last look saw it.

        Args:
            ignore: nodes that are known to be down.

        Raises:
            NodeError: the name of this node cannot be read.
        """
        if not self._seen:
            return []
        nodes = health.read_nodes(self._seen)
        seen = cluster_guards.Seen(self._name(), nodes, self._stamps, self._seen.daemon_sets, self._seen.plans)
        return cluster_guards.find(seen, ignore)

    def datastore_leader(self) -> str:
        """Return the address of the member that leads the datastore, an empty text where nobody can tell."""
        return self._leads if self.is_k3s else dqlite_leader()

    def lost_lock(self) -> str:
        """Renew the Lease of O(holding) where that is due, and return why it does not hold the cluster any more.

        An empty text where it does, where nobody asks, and where no API server answers, which is a reason of its own.
        """
        return self._holding.lost(self._answered) if self._holding and self._answered else ""

    def _observe_microk8s(self) -> tuple[health.Observation, str]:
        members = microk8s_members(self.module)
        hosts = [member.host for member in members]
        seen = health.Observation(members, at_once(hosts, self._ask_readyz), now=time.time())
        return seen, self._read_api(seen, [host for host in hosts if not seen.readyz[host]])

    def _observe_k3s(self) -> tuple[health.Observation, str]:
        members, urls = [], {}
        if self.etcd:
            try:
                found = etcd_client.members(self.etcd, self.etcd_url, REQUEST_TIMEOUT)
            except etcd_client.EtcdError as error:
                raise NodeError("etcd at %s does not list its members: %s" % (self.etcd_url, error)) from error
            for member in found:
                url = next(iter(member.client_urls or member.peer_urls), "")
                host = urlsplit(url).hostname or url
                members.append(health.Member(host, "learner" if member.is_learner else health.VOTER))
                urls[host] = url
        asked = at_once(list(urls), lambda host: self._ask_etcd(urls[host]))
        down = {host: status.problem for host, status in asked.items()}
        self._leads = next((host for host, status in asked.items() if status.leads), "")
        seen = health.Observation(members, {}, now=time.time(), down=down, external=not self.etcd)
        identity = self._read_api(seen, [self.api.host, *urls])
        seen.readyz = at_once(health.api_hosts(seen.nodes), self._ask_readyz)
        return seen, identity

    def _ask_etcd(self, url: str) -> etcd_client.Status:
        return etcd_client.status(self.etcd, url, REQUEST_TIMEOUT) if self.etcd else etcd_client.Status("")

    def _ask_readyz(self, host: str) -> str:
        """Return why the API server of a host is not ready, an empty text where it is."""
        try:
            with kube_api.Session(self.api, host, REQUEST_TIMEOUT) as session:
                session.request("GET", "/readyz")
        except kube_api.ApiError as error:
            return str(error)
        if session.stamp:
            self._stamps[host] = session.stamp
        return ""

    def _read_api(self, seen: health.Observation, hosts: list[str]) -> str:
        """Fill in what the first API server says that answers, and return the identity of the cluster."""
        error, self._answered = None, ""
        for host in hosts:
            try:
                nodes, leases, leaders, namespace, endpoints = [
                    self._get(host, path) for path in (NODES, LEASES, LEADERS, IDENTITY, ENDPOINTS)
                ]
                if self.module.params["survey"]:
                    seen.daemon_sets = self._get(host, DAEMON_SETS)["items"]
                    seen.plans = self._read_plans(host)
            except kube_api.ApiError as failed:
                error = "the API server of %s does not list the nodes: %s" % (host, failed)
                continue
            seen.nodes, seen.leases, seen.now = nodes["items"], leases["items"], time.time()
            seen.leaders = leaders["items"]
            seen.endpoints = health.endpoint_addresses(endpoints) if self.is_k3s else None
            identity: str = namespace["metadata"]["uid"]
            self._answered = host
            return identity
        seen.errors.append(error or "no API server answers")
        return ""

    def _get(self, host: str, path: str) -> Any:
        """Return what an API server answers.

        Raises:
            ApiError: nothing, or not what belongs there.
        """
        try:
            return api_objects.fitting(kube_api.get_json(self.api, host, path, REQUEST_TIMEOUT), SHAPES[path])
        except ValueError as error:
            raise kube_api.ApiError("%s gives something else: %s" % (path, error)) from error

    def _read_plans(self, host: str) -> list[dict[str, Any]]:
        """Return the Plans of system-upgrade-controller, none in a cluster that never heard of it."""
        try:
            found: list[dict[str, Any]] = self._get(host, PLANS)["items"]
        except kube_api.ApiError as error:
            if error.status != http.client.NOT_FOUND:
                raise
            return []
        return found


def at_once(hosts: list[str], ask: Callable[[str], T]) -> dict[str, T]:
    """Return the answer for each host, all asked at the same time."""
    with ThreadPoolExecutor(max_workers=max(len(hosts), 1)) as pool:
        return dict(zip(hosts, pool.map(ask, hosts)))


def microk8s_members(module: AnsibleModule) -> list[health.Member]:
    """Return the members of the datastore.

    Raises:
        NodeError: MicroK8s does not tell.
    """
    tool = module.get_bin_path("microk8s", opt_dirs=["/snap/bin"])
    if not tool:
        raise NodeError("this node has no command microk8s. Is it in the right inventory group?")
    command = [tool, "status", "--format", "yaml"]
    try:
        done = subprocess.run(command, capture_output=True, timeout=STATUS_TIMEOUT, check=False)
    except subprocess.TimeoutExpired as error:
        raise NodeError("'microk8s status' gives no answer within %d s" % STATUS_TIMEOUT) from error
    text = done.stdout.decode("utf-8", "replace")
    members = health.members_of_status(text)
    if not members:
        lines = (done.stderr.decode("utf-8", "replace") + text).strip().splitlines() or ["nothing"]
        raise NodeError("'microk8s status' lists no members of the datastore: it has no leader, or does not run. It says: %s" % lines[0])
    return members


def dqlite_leader() -> str:
    """Return the address of the member that leads Dqlite, an empty text where Dqlite does not tell."""
    files = {name: os.path.join(BACKEND, name) for name in ("cluster.yaml", "cluster.crt", "cluster.key")}
    command = [DQLITE, "-s", "file://" + files["cluster.yaml"], "-c", files["cluster.crt"], "-k", files["cluster.key"], "k8s", ".leader"]
    try:
        done = subprocess.run(command, capture_output=True, timeout=LEADER_TIMEOUT, stdin=subprocess.DEVNULL, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    address = done.stdout.decode("utf-8", "replace").strip()
    return "" if done.returncode or not address else addresses.split(address)[0]


def wait(module: AnsibleModule, looker: Looker, expected: health.Expectation) -> dict[str, Any]:
    """Look until all is as asked for, for O(stable) seconds without a break, or O(timeout) is over.

    Raises:
        NodeError: the datastore's members cannot be had.
    """
    timeout, stable = module.params["timeout"], module.params["stable"]
    wanted = "safe_to_disrupt" if module.params["spare"] else "healthy"
    until = time.monotonic() + timeout
    since: float | None = None
    while True:
        try:
            seen, identity = looker.observe()
        except NodeError:
            # In the midst of a restart that is a state like others; it ends the wait only when it lasts.
            if time.monotonic() >= until:
                raise
            since = None
            time.sleep(POLL)
            continue
        answer = health.evaluate(seen, expected)
        lost = looker.lost_lock()
        as_asked = answer[wanted]
        if lost and module.params["lost_lock"] == "reason":
            as_asked = answer["safe_to_disrupt"] = False
            answer["reasons"].insert(0, lost)
        now = time.monotonic()
        since = (since or now) if as_asked else None
        settled = since is not None and now - since >= stable
        if settled or now >= until:
            if not settled and since is not None and timeout:
                as_asked = answer[wanted] = False
                answer["reasons"] = ["all is well for %d s only, %d s are asked for" % (now - since, stable)]
            if lost and as_asked:
                module.warn(lost)
            return dict(answer, as_asked=as_asked, held=not lost, cluster_id=identity)
        time.sleep(POLL)


def run(module: AnsibleModule) -> dict[str, Any]:
    """Do the module's work and return its result.

    Raises:
        NodeError: the operator has to know.
    """
    params = module.params
    try:
        renewed_after = {name: float(moment) for name, moment in params["renewed_after"].items()}
    except (TypeError, ValueError) as error:
        raise NodeError("renewed_after: a time in seconds of the Unix epoch is needed for each node") from error
    expected = health.Expectation(
        params["expected_servers"], params["expected_agents"], renewed_after, params["ignore_nodes"], params["losing"]
    )
    looker = Looker(module)
    answer = wait(module, looker, expected)
    leader = looker.datastore_leader() if params["datastore_leader"] else ""
    found = looker.guards(params["ignore_nodes"]) if params["survey"] else []
    return {"changed": False, "msg": "; ".join(answer["reasons"]), "datastore_leader": leader, "guards": found, **answer}


def main() -> None:
    """Run the module."""
    node_module.execute(
        {
            "distribution": distribution.OPTION,
            "kubeconfig": {"type": "path"},
            "expected_servers": {"type": "list", "elements": "str"},
            "expected_agents": {"type": "list", "elements": "str", "default": []},
            "ignore_nodes": {"type": "list", "elements": "str", "default": []},
            "losing": {"type": "list", "elements": "str", "default": []},
            "renewed_after": {"type": "dict", "default": {}},
            "timeout": {"type": "int", "default": 0},
            "stable": {"type": "int", "default": 0},
            "spare": {"type": "bool", "default": True},
            "datastore_leader": {"type": "bool", "default": False},
            "survey": {"type": "bool", "default": False},
            "holding": {"type": "str", "default": ""},
            "lost_lock": {"type": "str", "choices": ["reason", "warning"], "default": "reason"},
        },
        run,
    )


if __name__ == "__main__":
    main()
