"""What runs the virtual machine's instructions: the host's processor (KVM), or QEMU's translator (TCG)."""

import contextlib
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from ..cache import Cache
from ..command import find_program
from ..errors import UsageError
from .image import Base

CHOICE = "KUBEKEEL_VM_ACCEL"
QEMU = "qemu-system-x86_64"
DEVICE = Path("/dev/kvm")
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
# To each its options of QEMU. With KVM the guest sees the host's processor; TCG is quickest with QEMU's plainest one.
OPTIONS = {
    "kvm": ("-accel", "kvm", "-cpu", "host"),
    "tcg": ("-accel", "tcg,thread=multi"),
}
# A kernel that finds no root file system gives up within a second.
PROBE_SECONDS = 5.0


def forced(environ: Mapping[str, str] = os.environ) -> str:
    """Return what the user's environment forces, an empty text where it leaves the choice to us.

    Raises:
        UsageError: it asks for something else
    """
    chosen = environ.get(CHOICE, "")
    if chosen and chosen not in OPTIONS:
        raise UsageError(f"{CHOICE}={chosen}: there are {' and '.join(OPTIONS)}")
    return chosen


def choose(cache: Cache, base: Base, environ: Mapping[str, str] = os.environ) -> str:
    """Return ``kvm`` or ``tcg``: what the user's environment forces, else KVM where it works.

    Raises:
        UsageError: the environment asks for something else
    """
    return forced(environ) or ("kvm" if DEVICE.exists() and kvm_works(cache, base) else "tcg")


def kvm_works(cache: Cache, base: Base) -> bool:
    """Tell whether a kernel runs under KVM; tried once for each boot of the host.

    That the device opens says nothing: within some virtual machines it does, and then no instruction is ever executed.
    """
    record = cache.root / "vm" / "kvm"
    boot = BOOT_ID.read_text().strip()
    with contextlib.suppress(OSError, ValueError):
        tried, answer = record.read_text().split()
        if tried == boot:
            return answer == "works"
    with cache.scratch() as scratch:
        works = probe(base, scratch)
    record.parent.mkdir(parents=True, exist_ok=True)
    record.write_text(f"{boot} {'works' if works else 'fails'}\n")
    return works


def probe(base: Base, folder: Path) -> bool:
    """Let the kernel start under KVM without a disk, and tell whether it came to the point where it misses one.

    ``folder`` is for what QEMU may drop where it dies.
    """
    command = [find_program(QEMU) or QEMU, "-M", "q35", *OPTIONS["kvm"], "-m", "256", "-nodefaults", "-display", "none", "-no-reboot"]
    command += ["-serial", "stdio", "-kernel", str(base.kernel), "-append", "console=ttyS0 panic=-1"]
    try:
        done = subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, timeout=PROBE_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0 and b"Kernel panic" in done.stdout
