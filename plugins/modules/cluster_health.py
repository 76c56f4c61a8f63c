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
  - Asks every API server for C(/readyz), and one that answers for the nodes and the Leases of their kubelets. Takes the
    members of the datastore from the distribution. Changes nothing.
  - A node that says Ready while its Lease has expired is a finding of its own. Its kubelet is alive and cannot reach
    the API, or its status is written by nobody any more.
  - Runs on a server. To judge the restart of one server run it on another one, with C(delegate_to).
options:
  distribution:
    description: The Kubernetes distribution of the node.
    type: str
    choices: [auto, microk8s]
    default: auto
  kubeconfig:
    description: An administrator's kubeconfig on this node.
    type: path
    default: /var/snap/microk8s/current/credentials/client.config
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
  renewed_after:
    description:
      - Kubernetes name of a node to a time, in seconds of the Unix epoch. Its Lease must have been renewed after it.
      - Names the nodes that were just restarted. Until its Lease runs out a node looks well although nothing runs.
    type: dict
    default: {}
  timeout:
    description: For how many seconds to wait until a server may be lost. V(0) looks once.
    type: int
    default: 0
  stable:
    description: For how many seconds without a break that has to be so before the wait ends.
    type: int
    default: 0
extends_documentation_fragment: [kubekeel.ha.attributes, kubekeel.ha.attributes.reads]
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
  description: Whether everything is up and the cluster keeps its quorum without any one of its servers.
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
    ready: {description: What its condition Ready says., type: bool}
    lease_age: {description: Seconds since its Lease was renewed; null without one., type: float}
    lease_expired: {description: Whether that is too long., type: bool}
members:
  description: Every member of the datastore.
  returned: success
  type: list
  elements: dict
  contains:
    host: {description: Its address., type: str}
    role: {description: "V(voter), V(standby) or V(spare).", type: str}
    ready: {description: Whether the API server beside it is ready., type: bool}
cluster_id:
  description: Identity of the cluster, the UID of its namespace kube-system; empty where no API server answered.
  returned: success
  type: str
"""

import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubekeel.ha.plugins.module_utils import health, kube_api, microk8s, node_module
from ansible_collections.kubekeel.ha.plugins.module_utils.node_files import NodeError

REQUEST_TIMEOUT = 4
STATUS_TIMEOUT = 60
POLL = 1.0
NODES = "/api/v1/nodes"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
IDENTITY = "/api/v1/namespaces/kube-system"


def datastore_members(module: AnsibleModule) -> list[health.Member]:
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


def ask_readyz(credentials: kube_api.Credentials, host: str) -> str:
    """Return why the API server of a host is not ready, an empty text where it is."""
    try:
        kube_api.get(credentials, host, "/readyz", REQUEST_TIMEOUT)
    except kube_api.ApiError as error:
        return str(error)
    return ""


def observe(module: AnsibleModule, credentials: kube_api.Credentials) -> tuple[health.Observation, str]:
    """Return what is to be seen of the cluster, and its identity.

    Raises:
        NodeError: the datastore's members cannot be had.
    """
    members = datastore_members(module)
    hosts = [member.host for member in members]
    with ThreadPoolExecutor(max_workers=max(len(hosts), 1)) as pool:
        readyz = dict(zip(hosts, pool.map(lambda host: ask_readyz(credentials, host), hosts)))
    seen = health.Observation(members, readyz, now=time.time())
    error = None
    for host in [host for host in hosts if not readyz[host]]:
        try:
            nodes, leases, namespace = [kube_api.get_json(credentials, host, path, REQUEST_TIMEOUT) for path in (NODES, LEASES, IDENTITY)]
        except kube_api.ApiError as failed:
            error = "the API server of %s does not list the nodes: %s" % (host, failed)
            continue
        seen.nodes, seen.leases, seen.now = nodes["items"], leases["items"], time.time()
        return seen, namespace["metadata"]["uid"]
    seen.errors.append(error or "no API server answers")
    return seen, ""


def wait(module: AnsibleModule, credentials: kube_api.Credentials, expected: health.Expectation) -> dict[str, Any]:
    """Look until a server may be lost, for O(stable) seconds without a break, or O(timeout) is over.

    Raises:
        NodeError: the datastore's members cannot be had.
    """
    timeout, stable = module.params["timeout"], module.params["stable"]
    until = time.monotonic() + timeout
    since: float | None = None
    while True:
        try:
            seen, identity = observe(module, credentials)
        except NodeError:
            # In the midst of a restart that is a state like others; it ends the wait only when it lasts.
            if time.monotonic() >= until:
                raise
            since = None
            time.sleep(POLL)
            continue
        answer = health.evaluate(seen, expected)
        now = time.monotonic()
        since = (since or now) if answer["safe_to_disrupt"] else None
        settled = since is not None and now - since >= stable
        if settled or now >= until:
            if not settled and since is not None and timeout:
                answer["safe_to_disrupt"] = False
                answer["reasons"] = ["all is well for %d s only, %d s are asked for" % (now - since, stable)]
            return dict(answer, cluster_id=identity)
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
    expected = health.Expectation(params["expected_servers"], params["expected_agents"], renewed_after, params["ignore_nodes"])
    answer = wait(module, kube_api.Credentials(params["kubeconfig"]), expected)
    return {"changed": False, "msg": "; ".join(answer["reasons"]), **answer}


def main() -> None:
    """Run the module."""
    node_module.execute(
        {
            "distribution": {"type": "str", "choices": ["auto", "microk8s"], "default": "auto"},
            "kubeconfig": {"type": "path", "default": microk8s.KUBECONFIG},
            "expected_servers": {"type": "list", "elements": "str"},
            "expected_agents": {"type": "list", "elements": "str", "default": []},
            "ignore_nodes": {"type": "list", "elements": "str", "default": []},
            "renewed_after": {"type": "dict", "default": {}},
            "timeout": {"type": "int", "default": 0},
            "stable": {"type": "int", "default": 0},
        },
        run,
    )


if __name__ == "__main__":
    main()
