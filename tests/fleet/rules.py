"""What the stand-in for the API server of a small cluster answers. Pure; runs in nodes, which have nothing but Python.

It is no Kubernetes: one node, and the objects of it that kubekeel reads and writes. Leases follow the rules of a real API server
(k8s.io/apiserver, pkg/registry/generic/registry/store.go, Update), since on these hangs that only one run has a cluster.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

Object = dict[str, Any]

NODE_LEASES, SYSTEM = "kube-node-lease", "kube-system"
LEASE_DURATION = 40
"""Of the node's Lease, in seconds, as the kubelet has it; it renews it each quarter of that."""
LEADERS = ("kube-controller-manager", "kube-scheduler")
LEASES = re.compile(r"/apis/coordination\.k8s\.io/v1/namespaces/(?P<namespace>[^/?]+)/leases(?:/(?P<name>[^/?]+))?")
OK, CREATED, NOT_FOUND, NOT_ALLOWED, CONFLICT, INVALID = 200, 201, 404, 405, 409, 422


@dataclass(frozen=True)
class Facts:
    """What the cluster is."""

    node: str
    address: str
    uid: str
    release: str
    port: int = 6443


@dataclass(frozen=True)
class Store:
    """What it keeps, on disk and over restarts: Leases by namespace and name, and the last resourceVersion."""

    leases: Mapping[str, Object] = field(default_factory=dict)
    version: int = 1000

    def put(self, key: str, lease: Object, uid: str) -> "Store":
        """Return a store with this Lease, as the next version."""
        version = self.version + 1
        metadata = {**lease["metadata"], "uid": uid, "resourceVersion": str(version)}
        return Store({**self.leases, key: {**lease, "metadata": metadata}}, version)


@dataclass(frozen=True)
class Answer:
    """What a request gets."""

    status: int
    body: Any
    store: Store


def answer(facts: Facts, store: Store, method: str, path: str, body: Any, *, ready: bool = True) -> Answer:
    """Return the answer to a request, and what is kept after it."""
    found = LEASES.fullmatch(path)
    if found:
        return _lease(store, method, found["namespace"], found["name"], body)
    page = pages(facts, ready=ready).get(path)
    if page is None:
        return _refused(store, NOT_FOUND)
    return Answer(OK, page, store) if method == "GET" else _refused(store, NOT_ALLOWED)


def pages(facts: Facts, *, ready: bool) -> dict[str, Any]:
    """Return what can be read and not written, by path."""
    endpoint = {"addresses": [{"ip": facts.address}], "ports": [{"name": "https", "port": facts.port}]}
    return {
        "/readyz": "ok",
        "/api/v1/nodes": {"items": [node(facts, ready=ready)]},
        "/api/v1/namespaces/kube-system": {"metadata": {"name": SYSTEM, "uid": facts.uid}},
        "/api/v1/namespaces/default/endpoints/kubernetes": {"metadata": {"name": "kubernetes"}, "subsets": [endpoint]},
        "/apis/apps/v1/daemonsets": {"items": []},
    }


def node(facts: Facts, *, ready: bool) -> Object:
    """Return the only node."""
    labels = {
        "kubernetes.io/hostname": facts.node,
        "node-role.kubernetes.io/control-plane": "true",
        "node-role.kubernetes.io/master": "true",
    }
    return {
        "metadata": {"name": facts.node, "labels": labels},
        "spec": {},
        "status": {
            "addresses": [{"type": "InternalIP", "address": facts.address}, {"type": "Hostname", "address": facts.node}],
            "conditions": [{"type": "Ready", "status": str(ready)}],
            "nodeInfo": {"kubeletVersion": facts.release},
        },
    }


def renewed(facts: Facts, store: Store, now: float) -> Store:
    """Return the store after kubelet and leaders have renewed their Leases.

    Args:
        facts: what the cluster is.
        store: what was kept before.
        now: seconds of the Unix epoch.
    """
    moment = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    wanted = [(NODE_LEASES, facts.node, facts.node, LEASE_DURATION), *((SYSTEM, name, f"{facts.node}_{facts.uid}", 15) for name in LEADERS)]
    for namespace, name, holder, duration in wanted:
        spec = {"holderIdentity": holder, "leaseDurationSeconds": duration, "renewTime": moment}
        store = store.put(f"{namespace}/{name}", {"metadata": {"name": name, "namespace": namespace}, "spec": spec}, f"{facts.uid}-{name}")
    return store


def _lease(store: Store, method: str, namespace: str, name: str | None, body: Any) -> Answer:
    if name is None and method == "GET":
        return Answer(OK, {"items": [lease for key, lease in store.leases.items() if key.startswith(f"{namespace}/")]}, store)
    if name is None and method != "POST":
        return _refused(store, NOT_ALLOWED)
    key = f"{namespace}/{name or body['metadata']['name']}"
    there = store.leases.get(key)
    if method == "POST":
        return _refused(store, CONFLICT) if there else _stored(store, key, body, CREATED)
    if method == "PUT":
        return _replaced(store, key, there, body)
    if there is None:
        return _refused(store, NOT_FOUND)
    if method == "DELETE":
        left = {other: lease for other, lease in store.leases.items() if other != key}
        return Answer(OK, {"kind": "Status", "status": "Success"}, replace(store, leases=left, version=store.version + 1))
    return Answer(OK, there, store) if method == "GET" else _refused(store, NOT_ALLOWED)


def _replaced(store: Store, key: str, there: Object | None, body: Any) -> Answer:
    """A write has to name the version that is there. A Lease may be created by PUT; only a uid says that another one was meant."""
    named = body["metadata"]
    if there is None:
        return _refused(store, CONFLICT) if named.get("uid") else _stored(store, key, body, CREATED)
    known = there["metadata"]
    if named.get("uid", known["uid"]) != known["uid"]:
        return _refused(store, CONFLICT)
    if not named.get("resourceVersion"):
        return _refused(store, INVALID)
    if named["resourceVersion"] != known["resourceVersion"]:
        return _refused(store, CONFLICT)
    return _stored(store, key, body, OK, known["uid"])


def _stored(store: Store, key: str, lease: Any, status: int, uid: str = "") -> Answer:
    kept = store.put(key, lease, uid or f"uid-{store.version}")
    return Answer(status, kept.leases[key], kept)


def _refused(store: Store, status: int) -> Answer:
    return Answer(status, {"kind": "Status", "code": status, "message": f"refused by the stand-in with {status}"}, store)
