"""What the stand-in asks of etcd, through etcd's own JSON gateway."""

import base64
from dataclasses import dataclass

from .client import Client, RequestError
from .node import ETCD_PORT, Node

LOCAL = f"127.0.0.1:{ETCD_PORT}"
API_SERVER_LEASES = "/registry/masterleases/"


@dataclass(frozen=True)
class Membership:
    """A member as etcd knows it."""

    name: str
    learner: bool
    client_urls: tuple[str, ...]


class Etcd:
    """The datastore, on this node or behind its load balancer."""

    def __init__(self, node: Node) -> None:
        """Use the node's certificate for etcd's clients."""
        self._client = Client(node.tls / "etcd/server-ca.crt", node.tls / "etcd/client")

    def healthy(self) -> bool:
        """Tell whether there is a quorum.

        Raises:
            RequestError: no answer
        """
        return bool(self._client.json(LOCAL, "/health").get("health") == "true")

    def alive(self, address: str) -> bool:
        """Tell whether a member answers at all, well or not."""
        try:
            self._client.request(address, "/health")
        except RequestError as error:
            return error.status != 0
        return True

    def members(self) -> list[Membership]:
        """Return all members.

        Raises:
            RequestError: no answer
        """
        answer = self._client.json(LOCAL, "/v3/cluster/member/list", method="POST", body={})
        return [
            Membership(member.get("name", ""), bool(member.get("isLearner")), tuple(member.get("clientURLs", ())))
            for member in answer.get("members", ())
        ]

    def api_servers(self) -> list[str]:
        """Return the addresses at which API servers live: each renews a key of its own.

        Raises:
            RequestError: no answer
        """
        last = API_SERVER_LEASES[:-1] + chr(ord(API_SERVER_LEASES[-1]) + 1)
        body = {"key": encode(API_SERVER_LEASES), "range_end": encode(last), "keys_only": True}
        answer = self._client.json(LOCAL, "/v3/kv/range", method="POST", body=body)
        return [base64.b64decode(pair["key"]).decode().removeprefix(API_SERVER_LEASES) for pair in answer.get("kvs", ())]


def encode(text: str) -> str:
    """Return a key as the gateway takes it."""
    return base64.b64encode(text.encode()).decode()
