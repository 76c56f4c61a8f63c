"""The files of the virtual machine: those of a MicroK8s worker, without what runs pods, and its own."""

from collections.abc import Iterable, Iterator

from .. import common
from ..archive import EXECUTABLE, Entry, File, Link
from ..microk8s import MicroK8s
from ..microk8s import layout as microk8s
from ..secrets import Secrets
from ..templates import NODE_FILES, content
from ..topology import Node, Topology
from ..units import enable
from . import layout

OWN = "vm"


def entries(topology: Topology, node: Node, secrets: Secrets, version: str) -> Iterable[Entry]:
    """Return the files, each path once; ``version`` is that of Kubernetes."""
    files = [
        *common.entries(topology, node, secrets),
        *MicroK8s().entries(topology, node, secrets, layout.RELEASE),
        *own(topology, node, version),
    ]
    # What comes later takes the place of what came before.
    return [entry for entry in {entry.path: entry for entry in files}.values() if entry.path not in layout.UNUSED]


def own(topology: Topology, node: Node, version: str) -> Iterator[Entry]:
    """Yield what only a virtual machine has."""
    values: dict[str, object] = {
        "subnet": topology.subnet,
        "node": node,
        "gateway": layout.GATEWAY,
        "backends": layout.BACKENDS,
        "port": layout.BACKEND_PORT,
    }
    for name in layout.SNAP_FILES:
        yield File(f"{microk8s.SNAP}/{name}", content(f"{OWN}/snap/microk8s/current/{name}"), EXECUTABLE)
    for file in sorted((NODE_FILES / OWN / layout.STAND_INS).glob("*.py")):
        yield File(f"{layout.STAND_INS}/{file.name}", file.read_bytes())
    yield File(layout.VERSION_FILE, f"{version}\n".encode())
    for path in (layout.NETWORK, layout.NETWORK_UNIT, layout.WEB_UNIT, layout.SSH_SETTINGS):
        yield File(path, content(f"{OWN}/{path}", **values))
    # No udev in the image: nobody else would load what the network card needs.
    yield File("etc/modules-load.d/kubekeel-lab.conf", b"virtio_net\n")
    # Debian's package netbase brings it; without it nft knows protocols by number only.
    yield File("etc/protocols", layout.PROTOCOLS)
    for path in layout.MASKED:
        yield Link(f"etc/systemd/{path}", "/dev/null")
    yield Link("etc/systemd/system/default.target", "/lib/systemd/system/multi-user.target")
    for address in layout.BACKENDS:
        unit = f"kubekeel-lab-web@{address}.service"
        yield Link(f"etc/systemd/system/multi-user.target.wants/{unit}", f"/{layout.WEB_UNIT}")
        yield File(f"srv/kubekeel-lab/{address}/index.html", f"{address}\n".encode())
    template = "etc/systemd/system/snap.microk8s.daemon.service"
    for daemon in layout.DAEMONS:
        yield File(f"etc/systemd/system/{daemon.unit}", content(template, daemon=daemon, distribution=MicroK8s()))
        yield enable(daemon.unit)
