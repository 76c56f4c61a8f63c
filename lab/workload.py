"""The web workload: one pod on each node behind a Service with a fixed address."""

from .api import Json
from .image import POD_IMAGE

NAMESPACE = "default"
NAME = "web"
POD_PORT = 8080
LABELS = {"app": NAME}
SERVE = f"mkdir -p /www && hostname > /www/index.html && exec httpd -f -p {POD_PORT} -h /www"


def deployment(replicas: int) -> Json:
    """Return the Deployment."""
    spread = {"labelSelector": {"matchLabels": LABELS}, "topologyKey": "kubernetes.io/hostname"}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": NAME, "labels": LABELS},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": LABELS},
            # A surplus pod would find no free node.
            "strategy": {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}},
            "template": {
                "metadata": {"labels": LABELS},
                "spec": {
                    "automountServiceAccountToken": False,
                    "terminationGracePeriodSeconds": 10,
                    "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [spread]}},
                    "containers": [
                        {
                            "name": NAME,
                            "image": POD_IMAGE,
                            "imagePullPolicy": "Never",
                            "command": ["/bin/sh", "-c", SERVE],
                            "ports": [{"containerPort": POD_PORT}],
                            # Endpoints go before the process does, or the last requests would be refused.
                            "lifecycle": {"preStop": {"exec": {"command": ["/bin/sleep", "3"]}}},
                        }
                    ],
                },
            },
        },
    }


def service(address: str) -> Json:
    """Return the Service."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": NAME, "labels": LABELS},
        "spec": {
            "clusterIP": address,
            "selector": LABELS,
            "ports": [{"port": 80, "targetPort": POD_PORT}],
        },
    }


def objects(replicas: int, address: str) -> tuple[tuple[str, Json], ...]:
    """Return what to create, each with the collection that takes it."""
    return (
        (f"/api/v1/namespaces/{NAMESPACE}/services", service(address)),
        (f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments", deployment(replicas)),
    )
