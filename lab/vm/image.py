"""The base of every virtual machine: Debian's cloud kernel, and the nodes' image as an ext4 file system. Cached by recipe.

The kernel is unpacked, never installed on the host. Its ext4 and NVMe drivers are built in, so it needs no initramfs.
"""

import hashlib
import platform
import shutil
from dataclasses import dataclass
from pathlib import Path

from .. import podman, requirements
from ..apt import SUITE, own_lists
from ..binaries import KubeBinaries
from ..cache import Cache
from ..command import run
from ..console import Steps
from ..errors import LabError
from ..image import NODE_IMAGE
from ..templates import NODE_FILES

KERNEL_PACKAGE = "linux-image-cloud-amd64"
ARCHITECTURE = "x86_64"
INIT = "usr/local/lib/kubekeel-lab/vm-init"
INIT_SOURCE = NODE_FILES / "vm" / INIT
KUBE_PROXY = "opt/kubekeel-lab/kube/kube-proxy"
# Sparse: what is empty takes no room on the host.
SIZE = "4G"
# What mkfs would leave to a thread of the kernel's, at each first boot.
FEATURES = ("-E", "lazy_itable_init=0,lazy_journal_init=0,root_owner=0:0", "-m", "0")
KERNEL_PREFIX = "vmlinuz-"


@dataclass(frozen=True)
class Base:
    """What all virtual machines of one recipe start from; nobody writes to it."""

    folder: Path

    @property
    def disk(self) -> Path:
        """The root file system."""
        return self.folder / "root.img"

    @property
    def kernel(self) -> Path:
        """The kernel, named by its release.

        Raises:
            LabError: the folder holds none
        """
        for path in self.folder.glob(f"{KERNEL_PREFIX}*"):
            return path
        raise LabError(f"{self.folder} is damaged: remove it, the next 'up' makes it again")

    @property
    def complete(self) -> bool:
        """Tell whether it was made to the end."""
        return self.disk.is_file()


def base(cache: Cache, kube: KubeBinaries) -> Base:
    """Return where the base is, made or not; its name tells the recipe."""
    recipe = (NODE_IMAGE, SUITE, KERNEL_PACKAGE, SIZE, *FEATURES, INIT_SOURCE.read_text(), kube.version, str(kube.folder))
    return Base(cache.root / "vm" / hashlib.sha256("|".join(recipe).encode()).hexdigest()[:12])


def ensure(cache: Cache, steps: Steps, kube: KubeBinaries) -> Base:
    """Return the base, making it where the cache does not hold it.

    Raises:
        LabError: a package is missing, Debian's mirror is out of reach, or a program failed
    """
    wanted = base(cache, kube)
    if not wanted.complete:
        with cache.lock("vm"):
            if not wanted.complete:
                build(cache, steps, kube, wanted)
    return wanted


def check() -> None:
    """Check what a virtual machine needs of the host.

    Raises:
        LabError: another processor than that of the kernel's package, or a package is missing
    """
    if platform.machine() != ARCHITECTURE:
        raise LabError(f"The virtual machine is for {ARCHITECTURE}, this host is {platform.machine()}")
    requirements.require(requirements.TO_RUN_VM, "The virtual machine", "--vm")


def build(cache: Cache, steps: Steps, kube: KubeBinaries, wanted: Base) -> None:
    """Make the base in a scratch folder and move it to its place, so that a broken off build leaves nothing.

    Raises:
        LabError: Debian's mirror is out of reach, or a program failed
    """
    with cache.scratch() as scratch:
        with steps.step("fetch Debian's cloud kernel (26 MB)"):
            package = fetch_kernel(scratch)
        with steps.step("make the virtual machine's disk (once; half a minute)"):
            root = scratch / "root"
            copy_image(root)
            unpacked = scratch / "kernel"
            run(["dpkg-deb", "--extract", package, unpacked])
            (unpacked / "lib" / "modules").rename(root / "usr" / "lib" / "modules")
            kernel = next((unpacked / "boot").glob(f"{KERNEL_PREFIX}*"))
            release = kernel.name.removeprefix(KERNEL_PREFIX)
            # Programs look there for what the kernel was made with.
            shutil.move(unpacked / "boot" / f"config-{release}", root / "boot")
            run(["chroot", root, "depmod", release])
            for source, path in ((INIT_SOURCE, INIT), (kube.folder / "kube-proxy", KUBE_PROXY)):
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, root / path)
                (root / path).chmod(0o755)
            made = scratch / "made"
            made.mkdir()
            shutil.move(kernel, made / kernel.name)
            run(["mke2fs", "-q", "-t", "ext4", *FEATURES, "-d", root, made / "root.img", SIZE], timeout=600)
        wanted.folder.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(wanted.folder, ignore_errors=True)
        made.rename(wanted.folder)


def copy_image(root: Path) -> None:
    """Copy the files of the nodes' image into a new folder."""
    mounted = podman.podman("image", "mount", NODE_IMAGE).strip()
    try:
        run(["cp", "--archive", mounted, root], timeout=600)
    finally:
        podman.podman("image", "unmount", NODE_IMAGE)


def fetch_kernel(scratch: Path) -> Path:
    """Download the kernel's package with lists of our own, so that the host may be of another release.

    Raises:
        LabError: the mirror is out of reach or has no such package
    """
    options = own_lists(scratch, "deb")
    name = kernel_package(run(["apt-cache", *options, "depends", KERNEL_PACKAGE]))
    run(["apt-get", "--quiet", *options, "download", name], cwd=scratch, timeout=900)
    return next(scratch.glob(f"{name}_*.deb"))


def kernel_package(depends: str) -> str:
    """Return the package that Debian's package without a number stands for, out of what ``apt-cache depends`` prints.

    Raises:
        LabError: it names none
    """
    for line in depends.splitlines():
        kind, _, name = line.strip().partition(": ")
        if kind == "Depends" and name.startswith("linux-image-"):
            return name
    raise LabError(f"Debian's {KERNEL_PACKAGE} names no kernel:\n{depends}")
