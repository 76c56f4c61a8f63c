"""The web Service of a lab with a virtual machine: no pods, but two addresses of the machine."""

from ..api import Json
from ..workload import LABELS, NAME, NAMESPACE
from . import layout


def service(address: str) -> Json:
    """Return the Service; without a selector nobody but us says who serves it."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": NAME, "labels": LABELS},
        "spec": {"clusterIP": address, "ports": [{"port": 80, "targetPort": layout.BACKEND_PORT}]},
    }


def endpoints() -> Json:
    """Return the Endpoints; the controller-manager makes the EndpointSlice that kube-proxy reads out of them."""
    return {
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {"name": NAME, "labels": LABELS},
        "subsets": [{"addresses": [{"ip": address} for address in layout.BACKENDS], "ports": [{"port": layout.BACKEND_PORT}]}],
    }


def objects(address: str) -> tuple[tuple[str, Json], ...]:
    """Return what to create, each with the collection that takes it."""
    return (
        (f"/api/v1/namespaces/{NAMESPACE}/services", service(address)),
        (f"/api/v1/namespaces/{NAMESPACE}/endpoints", endpoints()),
    )
