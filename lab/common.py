"""What every node has, whatever the distribution: names, routes, SSH."""

import uuid
from collections.abc import Iterator

from .archive import EXECUTABLE, READABLE, SECRET, Directory, Entry, File
from .image import OPERATOR, OPERATOR_GID, OPERATOR_UID
from .secrets import Secrets
from .templates import content
from .topology import Node, Topology
from .units import enable

INIT = "usr/local/lib/kubekeel-lab/init"
CLIENT = "usr/local/lib/kubekeel-lab/ask-service"
FILES = (
    ("etc/hosts", READABLE),
    ("etc/kubekeel-lab/kubelet-sysctls", READABLE),
    ("etc/kubekeel-lab/routes", READABLE),
    ("etc/sysctl.d/10-kubekeel-lab.conf", READABLE),
    ("etc/systemd/system/kubekeel-lab-network.service", READABLE),
    (INIT, EXECUTABLE),
    (CLIENT, EXECUTABLE),
)


def entries(topology: Topology, node: Node, secrets: Secrets) -> Iterator[Entry]:
    """Yield a machine's common files."""
    for path, mode in FILES:
        yield File(path, content(path, topology=topology, node=node), mode)
    yield enable("kubekeel-lab-network.service", "sysinit.target")
    yield File("etc/hostname", f"{node.name}\n".encode())
    yield File("etc/machine-id", f"{uuid.uuid4().hex}\n".encode())
    # A resolver that is not there would cost sudo and sshd seconds; none answers at once.
    yield File("etc/resolv.conf", b"")
    # Kept on disk, so that the journal of before a power cut can be read after it.
    yield Directory("var/log/journal")
    host_key = secrets.host_keys[node.name]
    yield File("etc/ssh/ssh_host_ed25519_key", host_key.private, SECRET)
    yield File("etc/ssh/ssh_host_ed25519_key.pub", f"{host_key.public}\n".encode())
    home = f"home/{OPERATOR}/.ssh"
    yield Directory(home, 0o700, OPERATOR_UID, OPERATOR_GID)
    authorized = f"{secrets.operator.public}\n".encode()
    yield File(f"{home}/authorized_keys", authorized, SECRET, OPERATOR_UID, OPERATOR_GID)
