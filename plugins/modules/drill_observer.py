#!/usr/bin/python
"""The module kubekeel.ha.drill_observer."""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

DOCUMENTATION = r"""
module: drill_observer
short_description: Watch a cluster while one of its nodes is lost
version_added: 0.1.0
description:
  - Keeps asking until it is told to stop, and writes what it sees into a folder, from where M(kubekeel.ha.drill_observation)
    reads it. Run it with C(async) and C(poll=0).
  - Everywhere. Whether the kubelet of each node accepts connections, and whether each API server answers.
  - On a server, with O(image). Deploys a workload of its own with a pod on each node, and watches leases, nodes and
    endpoints; asks the workload's Service; holds two TCP connections to each pod. Removes the workload at the end, also where
    nobody told it to stop.
  - Ends by itself after O(duration), or O(patience) after M(kubekeel.ha.drill_observation) looked for the last time, so that
    nothing stays of a drill whose controller died.
options:
  folder:
    description: Where to write. One observer at a time.
    type: path
    required: true
  observer:
    description: What the observer is called in the results.
    type: str
    required: true
  drill:
    description: Name of the drill. Whoever reads the observation has to know it.
    type: str
    required: true
  duration:
    description: After how many seconds it ends by itself.
    type: int
    required: true
  patience:
    description: How many seconds without a look it takes for the death of the controller.
    type: int
    required: true
  nodes:
    description: Kubernetes names of the nodes to addresses.
    type: dict
    required: true
  api_servers:
    description: Kubernetes names of the nodes with an API server to addresses.
    type: dict
    required: true
  api_port:
    description: Where the API servers listen.
    type: int
    required: true
  interval:
    description: Seconds between two requests to the Service.
    type: float
    default: 0.1
  image:
    description: An image with the sh, httpd and nc of busybox for the workload. Without it there is no workload.
    type: str
  image_pull_policy:
    description: As Kubernetes takes it.
    type: str
    choices: [Always, IfNotPresent, Never]
    default: IfNotPresent
  replace:
    description: Whether to end an observer that writes into the same folder. Without it one that does is an error.
    type: bool
    default: false
  kubeconfig:
    description: An administrator's kubeconfig on this node. By default the one that the distribution writes.
    type: path
extends_documentation_fragment: [kubekeel.ha.attributes, kubekeel.ha.distribution]
attributes:
  check_mode:
    description: Does nothing.
    support: full
  diff_mode:
    description: What it deploys, it removes.
    support: none
seealso:
  - module: kubekeel.ha.drill_observation
"""

EXAMPLES = r"""
- name: Observe from a server
  kubekeel.ha.drill_observer:
    folder: /run/kubekeel/drill
    observer: server2
    drill: 20261121T150000Z-leader_loss
    duration: 600
    patience: 300
    nodes: {server1: 10.0.0.1, server2: 10.0.0.2, server3: 10.0.0.3}
    api_servers: {server1: 10.0.0.1, server2: 10.0.0.2, server3: 10.0.0.3}
    api_port: 16443
    image: busybox:1.36
  async: 660
  poll: 0
"""

RETURN = r"""#"""

import contextlib
import fcntl
import json
import os
import time
from typing import IO, Any, Callable, Mapping, TypeVar

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubekeel.ha.plugins.module_utils import (
    distribution,
    drill_events,
    drill_probes,
    drill_workload,
    health,
    kube_api,
    node_files,
    node_module,
)
from ansible_collections.kubekeel.ha.plugins.module_utils.drill_watch import Watch
from ansible_collections.kubekeel.ha.plugins.module_utils.node_files import NodeError

Answer = TypeVar("Answer")

POLL = 0.5
RETRY = 5
REQUEST_TIMEOUT = 10
GONE_TIMEOUT = 120
REPLACE_TIMEOUT = 30
REMOVE_TIMEOUT = 120
LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases"
NODES = "/api/v1/nodes"


class Cluster:
    """The API of the cluster, by whichever server answers."""

    def __init__(self, module: AnsibleModule) -> None:
        """Read the credentials; the server on this node is asked first.

        Raises:
            NodeError: there is no kubeconfig.
        """
        self.api = kube_api.Credentials(module.params["kubeconfig"] or distribution.find(module).kubeconfig)
        self.hosts = [self.api.host, *module.params["api_servers"].values()]

    def send(self, method: str, path: str, body: Any = None) -> Any:
        """Send a request to the first server that answers.

        Raises:
            kube_api.ApiError: the answer is no success, or none answers.
        """
        return self._first(lambda host: kube_api.send_json(self.api, host, method, path, body, REQUEST_TIMEOUT))

    def _first(self, ask: Callable[[str], Answer]) -> Answer:
        error = kube_api.ApiError("no API server answers")
        for host in self.hosts:
            try:
                return ask(host)
            except kube_api.ApiError as failed:
                if failed.status is not None:
                    raise
                error = failed
        raise error

    def deploy(self, wanted: drill_workload.Workload, replace: bool) -> str:
        """Deploy the workload, after that of an earlier drill is gone, and return the address of its Service.

        Raises:
            NodeError: the namespace is somebody else's, or the API refuses.
        """
        try:
            self._make_room(replace)
            answers = [self.send("POST", path, body) for path, body in drill_workload.objects(wanted)]
        except kube_api.ApiError as error:
            raise NodeError("the workload of the drill cannot be deployed: %s" % error) from error
        address: str = next(answer["spec"]["clusterIP"] for answer in answers if answer["kind"] == "Service")
        return address

    def _make_room(self, replace: bool) -> None:
        """Wait until the workload of an earlier drill is gone, or remove it.

        Raises:
            NodeError: the namespace is somebody else's, or does not go.
            kube_api.ApiError: the API refuses.
        """
        until = time.monotonic() + GONE_TIMEOUT
        while True:
            namespace = self._namespace()
            if namespace is None:
                return
            if not drill_workload.is_ours(namespace):
                raise NodeError("there is a namespace %s that no drill made; nothing was changed" % drill_workload.NAMESPACE)
            if not namespace["metadata"].get("deletionTimestamp"):
                if not replace:
                    raise NodeError(
                        "another drill is going on: its namespace %s is there. %s" % (drill_workload.NAMESPACE, drill_events.REPLACE)
                    )
                self._delete()
            if time.monotonic() > until:
                raise NodeError("the namespace %s of an earlier drill does not go" % drill_workload.NAMESPACE)
            time.sleep(1)

    def remove(self, drill: str) -> None:
        """Remove the workload where it is this drill's; whoever came after it has made room already.

        The API may be away just now: try for a while.
        """
        until = time.monotonic() + REMOVE_TIMEOUT
        while time.monotonic() < until:
            try:
                namespace = self._namespace()
                if namespace and drill_workload.is_ours(namespace, drill):
                    self._delete()
                return
            except kube_api.ApiError:
                time.sleep(RETRY)

    def _delete(self) -> None:
        """Delete the namespace, and its pods at once: a node that was away would keep them for minutes.

        Raises:
            kube_api.ApiError: the API refuses.
        """
        self.send("DELETE", drill_workload.NAMESPACE_PATH)
        self.send("DELETE", drill_workload.PODS_PATH, {"gracePeriodSeconds": 0})

    def _namespace(self) -> Any:
        try:
            return self.send("GET", drill_workload.NAMESPACE_PATH)
        except kube_api.ApiError as error:
            if error.status == 404:
                return None
            raise


class Observer:
    """Everything that asks."""

    def __init__(self, module: AnsibleModule) -> None:
        """Prepare."""
        self.params = module.params
        self.folder = module.params["folder"]
        self.recorder = drill_probes.Recorder(module.params["observer"], module.params["drill"], module.params["interval"])
        self.cluster = Cluster(module) if module.params["image"] else None
        self.service = ""
        self.names: dict[str, str] = {}
        self.stop = time.monotonic() + module.params["duration"]

    def run(self) -> None:
        """Observe until the end.

        Raises:
            NodeError: the workload cannot be deployed.
        """
        for name, address in self.params["nodes"].items():
            self._keep_asking("reach", name, address, drill_probes.KUBELET_PORT, drill_probes.accepts, drill_probes.REACH_INTERVAL)
        for name, address in self.params["api_servers"].items():
            self._keep_asking("api", name, address, self.params["api_port"], drill_probes.answers, drill_probes.API_INTERVAL)
        try:
            if self.cluster:
                self._watch(self.cluster)
            while not self._is_over():
                if self.cluster and not self.recorder.seen["connections"]:
                    self._use()
                self.write()
                time.sleep(POLL)
        finally:
            self.recorder.over.set()
            self.write()
            if self.cluster:
                self.cluster.remove(self.params["drill"])

    def _keep_asking(self, kind: str, name: str, address: str, port: int, ask: Callable[[str, int], str], interval: float) -> None:
        drill_probes.keep_asking(self.recorder, kind, name, lambda: ask(address, port), interval)

    def _is_over(self) -> bool:
        return (
            time.monotonic() > self.stop
            or os.path.exists(os.path.join(self.folder, drill_events.STOP))
            or time.time() - os.stat(os.path.join(self.folder, drill_events.LOOKED)).st_mtime > self.params["patience"]
        )

    def _watch(self, cluster: Cluster) -> None:
        image, policy = self.params["image"], self.params["image_pull_policy"]
        wanted = drill_workload.Workload(image, policy, len(self.params["nodes"]), self.params["drill"])
        self.service = cluster.deploy(wanted, self.params["replace"])
        for path, handler in ((NODES, self._saw_node), (drill_workload.ENDPOINTS_PATH, self._saw_endpoints), (LEASES, self._saw_lease)):
            Watch(cluster.api, cluster.hosts, path, handler, self.recorder.over).start()

    def _saw_lease(self, lease: Mapping[str, Any]) -> None:
        name = lease["metadata"]["name"]
        # Without the nodes nobody knows whose host that is. It is renewed soon, and comes again.
        if name in health.LEADERS and len(self.names) >= len(self.params["nodes"]):
            holder = health.holder(lease)
            self.recorder.change(self.recorder.seen["leaders"].setdefault(name, []), holder=self.names.get(holder, holder))

    def _saw_node(self, node: Mapping[str, Any]) -> None:
        self.names[health.host_name(node)] = node["metadata"]["name"]
        series = self.recorder.seen["nodes"].setdefault(node["metadata"]["name"], [])
        self.recorder.change(series, ready=health.ready(node))

    def _saw_endpoints(self, endpoints: Mapping[str, Any]) -> None:
        if endpoints["metadata"]["name"] == drill_workload.NAME:
            self.recorder.change(self.recorder.seen["endpoints"], pods=drill_events.ready_pods(endpoints))

    def _use(self) -> None:
        """Begin to use the workload once all its pods are there, and the Service leads to them on this node, too."""
        endpoints = self.recorder.seen["endpoints"]
        if not endpoints or len(endpoints[-1]["pods"]) < len(self.params["nodes"]) or not drill_probes.serves(self.service):
            return
        with contextlib.suppress(OSError):
            drill_probes.Connections(self.recorder, endpoints[-1]["pods"]).start()
            drill_probes.ServiceClient(self.recorder, self.service).start()

    def write(self, error: str = "", over: bool = False) -> None:
        """Write what was seen until now.

        Raises:
            NodeError: the file cannot be written.
        """
        with self.recorder.lock:
            self.recorder.seen.update(ended=time.time(), error=error, over=over)
            text = json.dumps(self.recorder.seen)
        # It is written all the time, and the datastore may wait for the same disk.
        node_files.write(os.path.join(self.folder, drill_events.OBSERVATION), text, 0o600, sync=False)


def take(lock: IO[str], folder: str, replace: bool) -> None:
    """Take the folder for this observer.

    Raises:
        NodeError: another one has it.
    """
    if replace:
        node_files.write(os.path.join(folder, drill_events.STOP), "", 0o600)
    until = time.monotonic() + REPLACE_TIMEOUT * replace
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if time.monotonic() >= until:
                raise NodeError("another drill is watched from here. " + drill_events.REPLACE) from error
            time.sleep(POLL)
        else:
            return


def run(module: AnsibleModule) -> dict[str, Any]:
    """Do the module's work and return its result.

    Raises:
        NodeError: the operator has to know; it is in the observation, too.
    """
    if module.check_mode:
        return {"changed": False}
    folder = module.params["folder"]
    node_files.make_folder(folder, 0o700)
    with open(os.path.join(folder, "lock"), "w", encoding="ascii") as lock:
        take(lock, folder, module.params["replace"])
        for name in (drill_events.STOP, drill_events.OBSERVATION, drill_events.LOOKED):
            node_files.remove(os.path.join(folder, name))
        node_files.write(os.path.join(folder, drill_events.LOOKED), "", 0o600)
        observer = Observer(module)
        try:
            observer.run()
        except NodeError as error:
            observer.write(str(error))
            raise
        observer.write(over=True)
    return {"changed": True}


def main() -> None:
    """Run the module."""
    node_module.execute(
        {
            "distribution": distribution.OPTION,
            "folder": {"type": "path", "required": True},
            "observer": {"type": "str", "required": True},
            "drill": {"type": "str", "required": True},
            "duration": {"type": "int", "required": True},
            "patience": {"type": "int", "required": True},
            "nodes": {"type": "dict", "required": True},
            "api_servers": {"type": "dict", "required": True},
            "api_port": {"type": "int", "required": True},
            "interval": {"type": "float", "default": 0.1},
            "image": {"type": "str"},
            "image_pull_policy": {"type": "str", "choices": ["Always", "IfNotPresent", "Never"], "default": "IfNotPresent"},
            "replace": {"type": "bool", "default": False},
            "kubeconfig": {"type": "path"},
        },
        run,
    )


if __name__ == "__main__":
    main()
