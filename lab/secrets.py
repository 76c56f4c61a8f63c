"""Every key of one lab; made anew by each ``up``."""

import secrets
from dataclasses import dataclass

from .pki import Authority, Pair, new_key, private_pem
from .ssh import KeyPair, new_key_pair
from .topology import Topology

ADMINISTRATOR = "admin"


@dataclass(frozen=True)
class Secrets:
    """Authorities and keys that all nodes share, and the nodes' host keys by node name."""

    cluster: Authority
    front_proxy: Authority
    administrator: Pair
    service_account_key: bytes
    token: str
    operator: KeyPair
    host_keys: dict[str, KeyPair]

    @classmethod
    def create(cls, topology: Topology) -> "Secrets":
        """Make all keys (a few milliseconds)."""
        cluster = Authority("kubekeel-lab-ca")
        return cls(
            cluster=cluster,
            front_proxy=Authority("kubekeel-lab-front-proxy-ca"),
            administrator=cluster.issue(ADMINISTRATOR, "system:masters"),
            service_account_key=private_pem(new_key()),
            token=secrets.token_hex(16),
            operator=new_key_pair(),
            host_keys={node.name: new_key_pair() for node in topology.machines},
        )
