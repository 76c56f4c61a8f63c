"""Names, places and ports of MicroK8s, and the tables that say which file goes where."""

from dataclasses import dataclass

from ..archive import EXECUTABLE, READABLE
from ..topology import Role

REVISION = "2074"
API_PORT = 16443
DATASTORE_CLIENT_PORT = 12379
DATASTORE_PEER_PORT = 19001
API_SERVICE_ADDRESS = "10.152.183.1"
WEB_ADDRESS = "10.152.183.80"
POD_NETWORK = "10.1.0.0/16"

SNAP = f"snap/microk8s/{REVISION}"
DATA = f"var/snap/microk8s/{REVISION}"
COMMON = "var/snap/microk8s/common"
ARGS = f"{DATA}/args"
CERTS = f"{DATA}/certs"
CREDENTIALS = f"{DATA}/credentials"
BACKEND = f"{DATA}/var/kubernetes/backend"
LOCKS = f"{DATA}/var/lock"

# As in the snap: the group that may read them has no members here.
ARGS_MODE = 0o660
PRIVATE_FOLDER = 0o770

SERVER = frozenset({Role.SERVER})
AGENT = frozenset({Role.AGENT})
EVERYWHERE = SERVER | AGENT


@dataclass(frozen=True)
class Daemon:
    """A service of the snap, as its unit tells systemd."""

    name: str
    roles: frozenset[Role]
    type: str = "simple"
    restart: str = "on-failure"
    # Only where it is not systemd's default.
    kill_mode: str = ""

    @property
    def unit(self) -> str:
        """The unit's name."""
        return f"snap.microk8s.{self.name}.service"


DAEMONS = (
    Daemon("daemon-k8s-dqlite", SERVER),
    # Pods outlive a restart of containerd.
    Daemon("daemon-containerd", EVERYWHERE, type="notify", restart="always", kill_mode="process"),
    Daemon("daemon-apiserver-proxy", AGENT),
    Daemon("daemon-kubelite", EVERYWHERE),
)

ARGUMENT_FILES = (
    "apiserver-proxy",
    "apiserver-proxy-config",
    "cluster-agent",
    "containerd",
    "containerd-env",
    "containerd.toml",
    "ctr",
    "ha-conf",
    "k8s-dqlite",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-proxy",
    "kube-scheduler",
    "kubectl",
    "kubelet",
    "kubelite",
)

# Path below the snap's folder to its mode.
SNAP_FILES = {
    "apiserver-proxy": EXECUTABLE,
    "bin/dqlite": EXECUTABLE,
    "k8s-dqlite": EXECUTABLE,
    "kubelite": EXECUTABLE,
    "kubelite_args.py": READABLE,
    "kubelite_children.py": READABLE,
    "meta/snap.yaml": READABLE,
    "run-kubelite-with-args": EXECUTABLE,
    "run-with-args": EXECUTABLE,
}
COMMANDS = ("usr/bin/microk8s", "usr/bin/snap")
# Programs of the snap that lie elsewhere in a node of the lab.
SNAP_LINKS = {
    "containerd": "/usr/bin/containerd",
    "kube-apiserver": "/opt/kubekeel-lab/kube/kube-apiserver",
    "kube-controller-manager": "/opt/kubekeel-lab/kube/kube-controller-manager",
    "kube-proxy": "/opt/kubekeel-lab/kube/kube-proxy",
    "kube-scheduler": "/opt/kubekeel-lab/kube/kube-scheduler",
    "kubectl": "/opt/kubekeel-lab/kubectl",
    "kubelet": "/opt/kubekeel-lab/kube/kubelet",
}
