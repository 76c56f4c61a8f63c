"""The two images of the lab: the node (Debian with systemd) and what runs in every pod (busybox)."""

import hashlib
import io
import json
import platform
import tarfile
from pathlib import Path

from . import podman, requirements
from .apt import SUITE, acquire_options, host_mirror
from .archive import EXECUTABLE, Directory, File, Link, pack
from .cache import Cache
from .command import run
from .console import Steps
from .errors import LabError

NODE_PACKAGES = (
    "systemd",
    "systemd-sysv",
    "dbus",
    "python3",
    "python3-yaml",
    "openssh-server",
    "sudo",
    "ca-certificates",
    "curl",
    "iproute2",
    "procps",
    "iptables",
    "nftables",
    "conntrack",
    "ipset",
    "ipvsadm",
    "socat",
    "ethtool",
    "kmod",
    "etcd-server",
    "etcd-client",
    "containerd",
    "runc",
    "containernetworking-plugins",
    "busybox-static",
    "haproxy",
)
# The lab's own units replace the packages' services; getty has no terminal to wait on.
MASKED_UNITS = (
    "etcd.service",
    "containerd.service",
    "haproxy.service",
    "console-getty.service",
    "getty.target",
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "systemd-resolved.service",
)
OPERATOR = "operator"
# Debian has a group of that name already, so the user joins it instead of getting one.
OPERATOR_GID = 37
OPERATOR_UID = 1000
NODE_HOOKS = (
    f'chroot "$1" useradd --create-home --shell /bin/bash --uid {OPERATOR_UID} --gid {OPERATOR_GID} {OPERATOR}',
    f'echo "{OPERATOR} ALL=(ALL) NOPASSWD: ALL" > "$1/etc/sudoers.d/{OPERATOR}"',
    f'chmod 0440 "$1/etc/sudoers.d/{OPERATOR}"',
    f'for unit in {" ".join(MASKED_UNITS)}; do ln -sf /dev/null "$1/etc/systemd/system/$unit"; done',
    'rm -f "$1"/etc/ssh/ssh_host_* "$1/etc/machine-id" "$1/var/lib/dbus/machine-id"; : > "$1/etc/machine-id"',
)

# /bin may be a link to /usr/bin or a folder of its own.
BUSYBOX = frozenset({"./usr/bin/busybox", "./bin/busybox"})
POD_IMAGE = "docker.io/kubekeel/pod:lab"
# Where a node has the archive of that image.
POD_ARCHIVE = "/opt/kubekeel-lab/pod-image.tar"
POD_APPLETS = ("sh", "sleep", "httpd", "hostname", "mkdir", "cat", "wget", "ls", "ps")
POD_ENTRYPOINT = ("/bin/sleep", "2147483647")
DOCKER_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


# The name tells the recipe, so that any change of the recipe is another image.
RECIPE = (SUITE, *NODE_PACKAGES, *NODE_HOOKS, POD_IMAGE, POD_ARCHIVE, *POD_APPLETS, *POD_ENTRYPOINT)
NODE_IMAGE = f"localhost/kubekeel-lab-node:{hashlib.sha256('|'.join(RECIPE).encode()).hexdigest()[:12]}"


def node_image(cache: Cache, steps: Steps) -> str:
    """Return the name of the node's image, building it where podman does not have it.

    Raises:
        LabError: mmdebstrap is missing or failed
    """
    if not podman.image_exists(NODE_IMAGE):
        with cache.lock("node-image"):
            if not podman.image_exists(NODE_IMAGE):
                build(cache, steps)
    return NODE_IMAGE


def build(cache: Cache, steps: Steps) -> None:
    """Make both images, the pods' inside the nodes': its busybox is the node's own.

    Raises:
        LabError: mmdebstrap is missing or failed
    """
    requirements.require(requirements.TO_BUILD_IMAGE, "Building the node's image")
    with cache.scratch() as scratch:
        root = scratch / "node.tar"
        command = ["mmdebstrap", "--variant=minbase", f"--include={','.join(NODE_PACKAGES)}"]
        command += [f"--aptopt={option}" for option in acquire_options()]
        command += [f"--customize-hook={hook}" for hook in NODE_HOOKS]
        command += [SUITE, str(root), host_mirror().line("deb").strip()]
        with steps.step(f"install Debian {SUITE} into the node's image (once; under a minute)"):
            run(command, environ={"TMPDIR": str(scratch)}, log=scratch / "mmdebstrap.log", timeout=1800)
        with steps.step("give the image to podman"):
            add_pod_image(root)
            podman.import_image(root, NODE_IMAGE)


def add_pod_image(root: Path) -> None:
    """Put the pods' image into the archive of the node's root file system."""
    archive = pod_image_archive(read_busybox(root))
    with tarfile.open(root, "a") as node:
        member = tarfile.TarInfo(f".{POD_ARCHIVE}")
        member.size = len(archive)
        node.addfile(member, io.BytesIO(archive))


def read_busybox(root: Path) -> bytes:
    """Return the static busybox out of the node's archive.

    Raises:
        LabError: Debian has moved it
    """
    with tarfile.open(root) as node:
        for member in node:
            content = node.extractfile(member) if member.name in BUSYBOX else None
            if content is not None:
                return content.read()
    raise LabError("The package busybox-static has no busybox in any known place")


def pod_image_archive(busybox: bytes) -> bytes:
    """Return a docker-archive of an image that sleeps by default (a pause container) and holds a shell."""
    layer = pack(
        [
            *(Directory(folder) for folder in ("bin", "etc", "proc", "sys", "dev")),
            Directory("tmp", 0o1777),
            File("bin/busybox", busybox, EXECUTABLE),
            *(Link(f"bin/{applet}", "busybox") for applet in POD_APPLETS),
            File("etc/passwd", b"root:x:0:0:root:/:/bin/sh\n"),
        ]
    )
    config = json.dumps(
        {
            "architecture": DOCKER_ARCHITECTURES.get(platform.machine(), platform.machine()),
            "os": "linux",
            "config": {"Entrypoint": list(POD_ENTRYPOINT), "Env": ["PATH=/bin"]},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
        }
    ).encode()
    config_name = f"{hashlib.sha256(config).hexdigest()}.json"
    manifest = [{"Config": config_name, "RepoTags": [POD_IMAGE], "Layers": ["layer.tar"]}]
    return pack(
        [
            File(config_name, config),
            File("layer.tar", layer),
            File("manifest.json", json.dumps(manifest).encode()),
        ]
    )
