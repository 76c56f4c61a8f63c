"""MicroK8s: its files on a node, and how to ask it for its datastore."""

from collections.abc import Iterator

from ..archive import EXECUTABLE, READABLE, Directory, Entry, File, Link
from ..distribution import Execute
from ..image import POD_ARCHIVE, POD_IMAGE
from ..secrets import Secrets
from ..templates import content
from ..topology import Node, Topology
from ..units import enable
from . import layout
from .credentials import credentials


class MicroK8s:
    """The distribution's answers to ``lab.distribution.Distribution``; templates read its properties too."""

    name = "microk8s"
    api_port = layout.API_PORT
    web_address = layout.WEB_ADDRESS
    pod_network = layout.POD_NETWORK
    splits_servers = False
    containerd_unit = "snap.microk8s.daemon-containerd.service"
    containerd_socket = f"/{layout.COMMON}/run/containerd.sock"
    revision = layout.REVISION
    datastore_client_port = layout.DATASTORE_CLIENT_PORT
    datastore_peer_port = layout.DATASTORE_PEER_PORT

    def check(self) -> None:
        """Nothing in the environment is MicroK8s's own."""

    def units(self, node: Node) -> tuple[str, ...]:
        """Return the snap's units of a node's role."""
        return tuple(daemon.unit for daemon in layout.DAEMONS if node.role in daemon.roles)

    def voters(self, execute: Execute) -> int:
        """Count voters in the status that the ``microk8s`` command prints."""
        return execute("microk8s", "status", "--format", "yaml").count("role: voter")

    def entries(self, topology: Topology, node: Node, secrets: Secrets, version: str) -> Iterator[Entry]:
        """Yield the snap, its data and its units."""
        values = {"topology": topology, "node": node, "distribution": self, "version": version, "pod_image": POD_IMAGE}
        yield from self._snap(values)
        yield from self._data(node, values)
        yield from credentials(node, secrets)
        image_unit = "kubekeel-lab-pod-image.service"
        yield File(f"etc/systemd/system/{image_unit}", content(f"etc/systemd/system/{image_unit}", pod_archive=POD_ARCHIVE, **values))
        yield enable(image_unit)
        for daemon in layout.DAEMONS:
            if node.role in daemon.roles:
                template = "etc/systemd/system/snap.microk8s.daemon.service"
                yield File(f"etc/systemd/system/{daemon.unit}", content(template, daemon=daemon, **values))
                yield enable(daemon.unit)

    def _snap(self, values: dict[str, object]) -> Iterator[Entry]:
        """Yield what the snap's read-only image holds, and the commands that it gives to users."""
        for path, mode in layout.SNAP_FILES.items():
            yield File(f"{layout.SNAP}/{path}", content(f"snap/microk8s/current/{path}", **values), mode)
        for path, target in layout.SNAP_LINKS.items():
            yield Link(f"{layout.SNAP}/{path}", target)
        yield Link("snap/microk8s/current", layout.REVISION)
        for path in layout.COMMANDS:
            yield File(path, content(path, **values), EXECUTABLE)
        yield Link("snap/bin/microk8s", "/usr/bin/microk8s")

    def _data(self, node: Node, values: dict[str, object]) -> Iterator[Entry]:
        """Yield arguments, the datastore's description and the locks that tell roles apart."""
        yield Link("var/snap/microk8s/current", layout.REVISION)
        for folder in (f"{layout.COMMON}/run", f"{layout.COMMON}/var/lib", f"{layout.COMMON}/var/log"):
            yield Directory(folder)
        for folder in (layout.ARGS, layout.CERTS, layout.CREDENTIALS, layout.LOCKS, layout.BACKEND):
            yield Directory(folder, layout.PRIVATE_FOLDER)
        yield Link(f"{layout.DATA}/opt/cni/bin", "/usr/lib/cni")
        for name in layout.ARGUMENT_FILES:
            yield File(f"{layout.ARGS}/{name}", content(f"var/snap/microk8s/current/args/{name}", **values), layout.ARGS_MODE)
        yield File(f"{layout.ARGS}/cni-network/10-lab.conflist", content("etc/cni/net.d/10-lab.conflist", **values), layout.ARGS_MODE)
        yield File(f"{layout.LOCKS}/lite.lock", b"")
        if node.is_server:
            for name in ("cluster.yaml", "info.yaml"):
                source = f"var/snap/microk8s/current/var/kubernetes/backend/{name}"
                yield File(f"{layout.BACKEND}/{name}", content(source, **values), layout.ARGS_MODE)
            yield File(f"{layout.LOCKS}/ha-cluster", b"", READABLE)
        else:
            yield File(f"{layout.LOCKS}/clustered.lock", b"", READABLE)
