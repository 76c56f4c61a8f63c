"""What a drill deploys to have something that can fail: one pod on each node behind a Service. Pure."""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Mapping

Json = Dict[str, Any]

NAMESPACE = "kubekeel-drill"
NAME = "drill"
NAMESPACE_PATH = "/api/v1/namespaces/" + NAMESPACE
ENDPOINTS_PATH = NAMESPACE_PATH + "/endpoints"
PODS_PATH = NAMESPACE_PATH + "/pods"
PORT = 80
WEB_PORT = 8080
ECHO_PORT = 9000
DRILL = "kubekeel/drill"
OURS = {"app.kubernetes.io/managed-by": "kubekeel"}
_LABELS = {"app.kubernetes.io/name": NAME, **OURS}
_SELECTOR = {"app.kubernetes.io/name": NAME}
# The answer to a request is the name of the pod; what is sent to the other port comes back for as long as it is open.
_SERVE = "hostname > /www/index.html && { nc -ll -p %d -e cat & } && exec httpd -f -p %d -h /www"
# What the strictest of the Pod Security Standards asks for.
_POD_SECURITY = {"runAsNonRoot": True, "runAsUser": 65534, "runAsGroup": 65534, "seccompProfile": {"type": "RuntimeDefault"}}
_CONTAINER_SECURITY = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


@dataclass(frozen=True)
class Workload:
    """What to deploy."""

    image: str
    """With busybox's sh, httpd and nc."""
    pull_policy: str
    replicas: int
    drill: str
    """Whose workload it is: nobody removes that of another drill while it goes on."""


def objects(wanted: Workload) -> list[tuple[str, Json]]:
    """Return what to create, in its order, each with the collection that takes it."""
    metadata = {"name": NAMESPACE, "labels": OURS, "annotations": {DRILL: wanted.drill}}
    return [
        ("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}),
        (NAMESPACE_PATH + "/services", _service()),
        ("/apis/apps/v1/namespaces/%s/deployments" % NAMESPACE, _deployment(wanted)),
    ]


def is_ours(namespace: Mapping[str, Any], drill: str | None = None) -> bool:
    """Tell whether a namespace is one that any drill made, or this one."""
    labels = namespace["metadata"].get("labels") or {}
    annotations = namespace["metadata"].get("annotations") or {}
    return all(labels.get(name) == value for name, value in OURS.items()) and (drill is None or annotations.get(DRILL) == drill)


def _service() -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": NAME, "labels": _LABELS},
        "spec": {"selector": _SELECTOR, "ports": [{"port": PORT, "targetPort": WEB_PORT}]},
    }


def _deployment(wanted: Workload) -> Json:
    apart = {"labelSelector": {"matchLabels": _SELECTOR}, "topologyKey": "kubernetes.io/hostname"}
    container = {
        "name": NAME,
        "image": wanted.image,
        "imagePullPolicy": wanted.pull_policy,
        "command": ["/bin/sh", "-c", _SERVE % (ECHO_PORT, WEB_PORT)],
        "ports": [{"containerPort": WEB_PORT}, {"containerPort": ECHO_PORT}],
        "readinessProbe": {"tcpSocket": {"port": WEB_PORT}, "periodSeconds": 5, "timeoutSeconds": 5},
        "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}},
        "securityContext": _CONTAINER_SECURITY,
        "volumeMounts": [{"name": "www", "mountPath": "/www"}],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": NAME, "labels": _LABELS},
        "spec": {
            "replicas": wanted.replicas,
            "selector": {"matchLabels": _SELECTOR},
            "strategy": {"type": "Recreate"},
            "template": {
                "metadata": {"labels": _LABELS},
                "spec": {
                    "automountServiceAccountToken": False,
                    "terminationGracePeriodSeconds": 1,
                    # Servers have pods, too. Not every NoExecute: the cluster's own tolerations of dead nodes are what counts.
                    "tolerations": [{"operator": "Exists", "effect": "NoSchedule"}, {"key": "CriticalAddonsOnly", "operator": "Exists"}],
                    "securityContext": _POD_SECURITY,
                    "volumes": [{"name": "www", "emptyDir": {}}],
                    "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [apart]}},
                    "containers": [container],
                },
            },
        },
    }
