"""How load balancers learn where the servers are."""

import threading
import time
from collections.abc import Callable
from urllib.parse import urlsplit

from . import balancer_state, log
from .balancer import Balancer
from .client import Client, RequestError
from .etcd import Etcd
from .node import PORT, Node, host_and_port

POLL_SECONDS = 2.0
RELEARN_SECONDS = 3.0
ENDPOINTS = "/api/v1/namespaces/default/endpoints?fieldSelector=metadata.name%3Dkubernetes"
API_SERVERS = "/v1-k3s/apiservers"
ETCD_MEMBERS = "/db/info"


class ApiServers:
    """What a node without an API server of its own knows of the others'."""

    def __init__(self, node: Node, balancer: Balancer) -> None:
        """Ask with the certificates that the node has."""
        self._node, self._balancer = node, balancer
        authority = node.agent / "server-ca.crt"
        self._local = f"127.0.0.1:{balancer.port}"
        # Proxies may list endpoints, kubelets need not be allowed to.
        self._api = Client(authority, node.agent / "client-kube-proxy")
        self._supervisors = Client(authority, node.agent / "client-kubelet")
        self._complaint = log.Once(log.warning)

    def endpoints(self) -> list[str]:
        """Return the endpoints of the Service ``kubernetes`` as seen through the load balancer.

        Raises:
            RequestError: no API server answers there
        """
        items = self._api.json(self._local, ENDPOINTS).get("items") or [{}]
        return [
            f"{address['ip']}:{port['port']}"
            for subset in items[0].get("subsets") or ()
            for address in subset.get("addresses") or ()
            for port in subset["ports"]
        ]

    def ask(self, address: str) -> list[str]:
        """Return the live API servers that a server's supervisor knows.

        Raises:
            RequestError: it does not answer
        """
        return list(self._supervisors.json(address, API_SERVERS))

    def begin(self) -> None:
        """Return when there is an address to begin with: a remembered one, else what the configured server says."""
        while not self._balancer.addresses:
            try:
                self._balancer.update(self.ask(self._balancer.fallback))
            except RequestError as error:
                self._complaint.complain(f"Failed to retrieve list of apiservers from server: {error}")
            if not self._balancer.addresses:
                time.sleep(POLL_SECONDS)

    def wait_for_server(self) -> None:
        """Return when any server gives its authority's certificate through the load balancer."""
        complaint = log.Once(log.warning)
        while True:
            try:
                self._api.request(self._local, "/cacerts")
            except RequestError as error:
                complaint.complain(f"Failed to get CA certs: {error}")
                time.sleep(POLL_SECONDS)
            else:
                return

    def follow(self) -> None:
        """Keep the load balancer's addresses for ever."""
        while True:
            try:
                self._balancer.update(self.endpoints())
                self._complaint.well()
                time.sleep(POLL_SECONDS)
            except RequestError as error:
                self._complaint.complain(f"Failed to watch apiserver addresses: {error}")
                if self._node.facts.release.relearns_addresses:
                    self.relearn()
                time.sleep(RELEARN_SECONDS)

    def relearn(self) -> None:
        """Ask every server that was ever heard of for the API servers that live now; this is the mend of k3s#11349."""
        own = [f"127.0.0.1:{PORT}"] if self._node.is_server else []
        for address in [*own, *balancer_state.to_ask(self._balancer.fallback, self._balancer.addresses, self._balancer.seen)]:
            try:
                found = self.ask(address)
            except RequestError:
                continue
            if found:
                self._balancer.update(found)
                return


class EtcdMembers:
    """What a control plane without etcd of its own knows of the members."""

    def __init__(self, node: Node, balancer: Balancer) -> None:
        """Ask etcd itself, through the load balancer; the join server where that leads nowhere."""
        self._etcd, self._balancer = Etcd(node), balancer
        self._join_server = host_and_port(node.server_url)
        self._supervisors = Client(node.tls / "server-ca.crt", node.tls / "client-supervisor")
        self._complaint = log.Once(log.warning)

    def urls(self) -> list[str]:
        """Return one URL for clients of each member that has a vote.

        Raises:
            RequestError: neither etcd nor the join server tell
        """
        try:
            return [url for member in self._etcd.members() if not member.learner for url in member.client_urls[:1]]
        except RequestError:
            members = self._supervisors.json(self._join_server, ETCD_MEMBERS)["members"]
            return [url for member in members for url in member["clientURLs"][:1]]

    def follow(self) -> None:
        """Keep the load balancer's addresses for ever."""
        while True:
            try:
                self._balancer.update([urlsplit(url).netloc for url in self.urls()])
                self._complaint.well()
            except RequestError as error:
                self._complaint.complain(f"Failed to list etcd members: {error}")
            time.sleep(POLL_SECONDS)


def in_background(name: str, work: Callable[[], None]) -> None:
    """Do something for ever beside everything else."""
    threading.Thread(target=work, daemon=True, name=name).start()
