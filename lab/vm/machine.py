"""The process that is a virtual machine: start it, find it again, take its power."""

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..command import find_program, last_lines, run
from ..errors import LabError
from ..topology import LOOPBACK
from ..watchdog import Process
from .accelerator import OPTIONS, QEMU
from .image import INIT, Base

MEMORY_MB = 1024
PROCESSORS = 2
# Under TCG the first boot takes some 10 seconds; beside other work on the host several times that.
PATIENCE_SECONDS = 180.0
POLL_SECONDS = 0.2
# QEMU takes connections long before anybody in the machine does: only what sshd says counts.
BANNER = b"SSH-"
BANNER_SECONDS = 0.8
END_SECONDS = 10.0
CONSOLE_LINES = 15


@dataclass(frozen=True)
class Machine:
    """A virtual machine, known by its folder, and the host's port that leads to its SSH."""

    name: str
    folder: Path
    port: int

    @property
    def base(self) -> Base:
        """What it was made from, and where its kernel is."""
        return Base((self.folder / "base").resolve())

    @property
    def disk(self) -> Path:
        """Its root file system; what is changed there outlives reboots and power cuts."""
        return self.folder / "root.img"

    @property
    def seed(self) -> Path:
        """The archive that it unpacks at its first boot."""
        return self.folder / "seed.tar"

    @property
    def console(self) -> Path:
        """What its kernel and its systemd print."""
        return self.folder / "console.log"

    @property
    def log(self) -> Path:
        """What QEMU has to say."""
        return self.folder / "qemu.log"


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens at."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def create(machine: Machine, base: Base, seed: bytes) -> None:
    """Make the machine's folder and disks."""
    machine.folder.mkdir(parents=True, mode=0o700)
    (machine.folder / "base").symlink_to(base.folder)
    # A copy, since a layer on the base would take another package; it is sparse, and shares blocks where the host can.
    run(["cp", "--sparse=always", "--reflink=auto", base.disk, machine.disk])
    descriptor = os.open(machine.seed, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as handle:
        handle.write(seed)


def command(machine: Machine, accelerator: str) -> list[str]:
    """Return QEMU's command line."""
    kernel = f"root=/dev/nvme0n1 rw rootfstype=ext4 console=ttyS0 quiet net.ifnames=0 init=/{INIT}"
    drives = ((machine.disk, 1, "cache=unsafe"), (machine.seed, 2, "readonly=on"))
    words = [find_program(QEMU) or QEMU, "-name", machine.name, "-M", "q35", *OPTIONS[accelerator]]
    words += ["-smp", str(PROCESSORS), "-m", str(MEMORY_MB), "-nodefaults", "-no-user-config", "-display", "none"]
    words += ["-chardev", f"file,id=console,path={machine.console},append=on", "-serial", "chardev:console"]
    words += ["-kernel", str(machine.base.kernel), "-append", kernel]
    # One controller with two disks: with two of them the order of their names would be a matter of chance.
    words += ["-device", "nvme,id=nvme,serial=1"]
    for path, number, option in drives:
        words += ["-drive", f"if=none,id=disk{number},format=raw,file={path},{option}"]
        words += ["-device", f"nvme-ns,bus=nvme,drive=disk{number},nsid={number}"]
    words += ["-netdev", f"user,id=net,hostfwd=tcp:{LOOPBACK}:{machine.port}-:22"]
    return [*words, "-device", "virtio-net-pci,netdev=net,romfile="]


def start(machine: Machine, accelerator: str) -> None:
    """Switch the machine on; it lives on when this process ends.

    Raises:
        LabError: QEMU did not take it, for instance since somebody else has its port by now
    """
    with machine.log.open("ab") as log:
        process = subprocess.Popen(
            command(machine, accelerator), stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", start_new_session=True
        )
    with suppress(subprocess.TimeoutExpired):
        process.wait(0.3)
        raise LabError(f"QEMU ended with code {process.returncode}:\n{last_lines(machine.log.read_text(errors='replace'))}")


def processes(folder: Path) -> Iterator[Process]:
    """Yield the QEMU processes whose disks lie in a folder; a record of theirs could miss one, or name another by now."""
    mark = f"file={folder}/"
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with suppress(OSError, ProcessLookupError):
            words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
            if Path(words[0]).name == QEMU and any(mark in word for word in words):
                yield Process.find(int(entry.name))


def is_on(machine: Machine) -> bool:
    """Tell whether the machine has power."""
    return any(True for _ in processes(machine.folder))


def cut(folder: Path) -> None:
    """Take the power of all machines with disks below a folder, and return when it is gone.

    Raises:
        LabError: a process does not end
    """
    deadline = time.monotonic() + END_SECONDS
    while found := list(processes(folder)):
        for process in found:
            process.end()
        if time.monotonic() > deadline:
            raise LabError(f"QEMU does not end: process {found[0].pid}")
        time.sleep(0.05)


def answers(machine: Machine) -> bool:
    """Tell whether the machine's sshd says its name."""
    try:
        with socket.create_connection((LOOPBACK, machine.port), BANNER_SECONDS) as connection:
            return connection.recv(len(BANNER)) == BANNER
    except OSError:
        return False


def wait(machine: Machine) -> None:
    """Return when the machine answers SSH.

    Raises:
        LabError: it ended, or took too long; with what it printed last
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not answers(machine):
        if not is_on(machine):
            raise LabError(f"{machine.name} went off:\n{last_lines(machine.log.read_text(errors='replace'))}\n{last_words(machine)}")
        if time.monotonic() > deadline:
            raise LabError(f"{machine.name} did not answer SSH within {PATIENCE_SECONDS:.0f} s. Its console:\n{last_words(machine)}")
        time.sleep(POLL_SECONDS)


def last_words(machine: Machine) -> str:
    """Return the end of what the machine printed."""
    with suppress(OSError):
        return last_lines(machine.console.read_text(errors="replace"), CONSOLE_LINES)
    return ""
