"""What K3s tells the API about a server's node: its roles, and whether its etcd has a vote."""

import http
import time
from typing import Any

from . import log
from .client import Client, RequestError
from .etcd import Etcd
from .node import Node, host_and_port

SECONDS = 3.0
ROLE = "node-role.kubernetes.io"
MEMBER_NAME = "etcd.k3s.cattle.io/node-name"
MEMBER_ADDRESS = "etcd.k3s.cattle.io/node-address"
VOTER = ("True", "MemberNotLearner", "Node is a voting member of the etcd cluster")
LEARNER = ("False", "MemberIsLearner", "Node has not been promoted to voting member of the etcd cluster")
STRANGER = ("False", "NotAMember", "Node is not a member of the etcd cluster")


class NodeStatus:
    """Keeps labels, annotations and the condition ``EtcdIsVoter`` of one server's node."""

    def __init__(self, node: Node) -> None:
        """Use the supervisor's certificate, which may do everything."""
        self._node = node
        self._client = Client(node.tls / "server-ca.crt", node.tls / "client-supervisor")
        self._address = host_and_port(node.local_api)
        self._etcd = Etcd(node) if node.runs("etcd") else None
        self._complaint = log.Once()

    def follow(self) -> None:
        """Keep the node's description for ever."""
        while True:
            try:
                self.refresh()
                self._complaint.well()
            except RequestError as error:
                # The kubelet has not registered the node yet.
                if error.status != http.HTTPStatus.NOT_FOUND:
                    self._complaint.complain(f"Failed to update the node's labels and status: {error}")
            time.sleep(SECONDS)

    def refresh(self) -> None:
        """Write what is not yet as it should be.

        Raises:
            RequestError: API server or etcd do not answer, or the kubelet has not registered the node yet
        """
        path = f"/api/v1/nodes/{self._node.name}"
        found = self._client.json(self._address, path)
        labels, annotations = self.labels(), self.annotations()
        metadata = found["metadata"]
        if not (labels.items() <= metadata.get("labels", {}).items() and annotations.items() <= metadata.get("annotations", {}).items()):
            self._patch(path, {"metadata": {"labels": labels, "annotations": annotations}})
        if self._etcd is not None:
            condition = self.vote(self._etcd)
            old: dict[str, str] = next((each for each in found["status"].get("conditions", ()) if each["type"] == "EtcdIsVoter"), {})
            if (old.get("status"), old.get("reason"), old.get("message")) != condition:
                self._patch(f"{path}/status", {"status": {"conditions": [render(condition)]}})

    def labels(self) -> dict[str, str]:
        """Return the labels of the node's roles."""
        roles = ["control-plane", "master"] if self._node.runs("apiserver") else []
        return {f"{ROLE}/{role}": "true" for role in [*roles, *(["etcd"] if self._etcd else [])]}

    def annotations(self) -> dict[str, str]:
        """Return what tells the node's member of etcd."""
        members = self._node.facts.members if self._etcd else ()
        return next(
            ({MEMBER_NAME: member.name, MEMBER_ADDRESS: member.address} for member in members if member.node == self._node.name), {}
        )

    def vote(self, etcd: Etcd) -> tuple[str, str, str]:
        """Return status, reason and message by what etcd itself says.

        Raises:
            RequestError: it says nothing
        """
        name = self.annotations().get(MEMBER_NAME)
        for member in etcd.members():
            if member.name == name:
                return LEARNER if member.learner else VOTER
        return STRANGER

    def _patch(self, path: str, body: dict[str, Any]) -> None:
        kind = "application/strategic-merge-patch+json"
        self._client.json(self._address, path, method="PATCH", body=body, kind=kind)


def render(condition: tuple[str, str, str]) -> dict[str, str]:
    """Return a condition as the API takes it."""
    status, reason, message = condition
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return {
        "type": "EtcdIsVoter",
        "status": status,
        "reason": reason,
        "message": message,
        "lastHeartbeatTime": now,
        "lastTransitionTime": now,
    }
