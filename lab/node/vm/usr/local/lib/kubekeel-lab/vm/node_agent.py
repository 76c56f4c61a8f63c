"""What a kubelet tells the API about its node, without one: the Node, that it is Ready, and the Lease that it lives.

Of the kubelet's flags it reads those with which a node introduces itself; all others are for a kubelet that runs pods.
"""

import argparse
import datetime
import socket
import sys
import time
from collections.abc import Sequence
from http import HTTPStatus
from pathlib import Path
from typing import NoReturn

from .kube_client import ApiError, Client, Json

# As the kubelet's defaults: a quarter of the lease's 40 seconds.
LEASE_SECONDS = 40
RENEW_SECONDS = 10.0
# The node controller is content with the Lease; the status is for those who read it.
RETRY_SECONDS = 1.0
LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
MERGE = "application/merge-patch+json"
VERSION_FILE = Path("/etc/kubekeel-lab/kubelet-version")


def now(precise: bool = False) -> str:
    """Return the time as the API writes it, in microseconds where it wants that."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ" if precise else "%Y-%m-%dT%H:%M:%SZ")


def labels(text: str, name: str) -> dict[str, str]:
    """Return the labels of a node: those of the flag, and those that every kubelet gives."""
    own = dict(word.partition("=")[::2] for word in text.split(",") if word)
    return {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64", **own}


def status(name: str, address: str, version: str) -> Json:
    """Return what a healthy node says of itself."""
    moment = now()
    return {
        "addresses": [{"type": "InternalIP", "address": address}, {"type": "Hostname", "address": name}],
        "conditions": [
            {
                "type": "Ready",
                "status": "True",
                "reason": "KubeletReady",
                "message": "a stand-in for the kubelet says so",
                "lastHeartbeatTime": moment,
                "lastTransitionTime": moment,
            }
        ],
        "nodeInfo": {
            "machineID": "",
            "systemUUID": "",
            "bootID": Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
            "kernelVersion": Path("/proc/sys/kernel/osrelease").read_text().strip(),
            "osImage": "",
            "containerRuntimeVersion": "",
            "kubeletVersion": version,
            "kubeProxyVersion": version,
            "operatingSystem": "linux",
            "architecture": "amd64",
        },
    }


def register(client: Client, name: str, node_labels: dict[str, str], state: Json) -> None:
    """Make the node known, or say again how it is.

    Raises:
        ApiError: the API does not take it
    """
    metadata = {"name": name, "labels": node_labels}
    try:
        client.request("POST", "/api/v1/nodes", {"apiVersion": "v1", "kind": "Node", "metadata": metadata})
    except ApiError as error:
        if error.status != HTTPStatus.CONFLICT:
            raise
    client.request("PATCH", f"/api/v1/nodes/{name}/status", {"status": state}, MERGE)


def renew(client: Client, name: str) -> None:
    """Say that the node lives.

    Raises:
        ApiError: the API does not take it
    """
    spec = {"holderIdentity": name, "leaseDurationSeconds": LEASE_SECONDS, "renewTime": now(precise=True)}
    try:
        client.request("PATCH", f"{LEASES}/{name}", {"spec": spec}, MERGE)
    except ApiError as error:
        if error.status != HTTPStatus.NOT_FOUND:
            raise
        client.request("POST", LEASES, {"metadata": {"name": name}, "spec": spec})


def main(words: Sequence[str]) -> NoReturn:
    """Introduce the node, then renew its Lease for ever."""
    parser = argparse.ArgumentParser(prog="kubelet", allow_abbrev=False, add_help=False)
    parser.add_argument("--kubeconfig", type=Path, required=True)
    parser.add_argument("--node-ip", required=True)
    parser.add_argument("--node-labels", default="")
    options = parser.parse_known_args(words)[0]
    name = socket.gethostname()
    client = Client(options.kubeconfig)
    known = False
    while True:
        try:
            if not known:
                register(client, name, labels(options.node_labels, name), status(name, options.node_ip, VERSION_FILE.read_text().strip()))
                known = True
            renew(client, name)
        except ApiError as error:
            print(f"node_agent: {error}", file=sys.stderr, flush=True)
            time.sleep(RETRY_SECONDS)
            continue
        time.sleep(RENEW_SECONDS)
