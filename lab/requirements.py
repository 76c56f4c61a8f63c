"""Debian packages that the host needs, and what for."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from .command import find_program, run
from .errors import LabError


@dataclass(frozen=True)
class Requirement:
    """A package, known by any one of the programs or files that it brings."""

    package: str
    probes: tuple[str, ...]

    def met(self) -> bool:
        """Tell whether a program (bare name) or a file (absolute path) of the package is there."""
        return any(Path(probe).exists() if probe.startswith("/") else find_program(probe) for probe in self.probes)


TO_RUN = (
    Requirement("podman", ("podman",)),
    Requirement("netavark", ("/usr/lib/podman/netavark", "/usr/libexec/podman/netavark")),
    Requirement("iptables", ("iptables",)),
    Requirement("runc", ("runc",)),
    Requirement("openssh-client", ("ssh",)),
)
TO_SHAKE = (Requirement("stress-ng", ("stress-ng",)),)
TO_TEST = (
    # A page is looked at in a browser, an alert comes through ansible-rulebook, a bastion is this host.
    Requirement("chromium", ("chromium",)),
    Requirement("openjdk-17-jre-headless", ("java",)),
    Requirement("openssh-server", ("sshd",)),
)
# The virtual machine of `up --distribution vm`.
TO_RUN_VM = (
    Requirement("qemu-system-x86", ("qemu-system-x86_64",)),
    Requirement("e2fsprogs", ("mke2fs",)),
)
TO_BUILD_IMAGE = (Requirement("mmdebstrap", ("mmdebstrap",)),)
TO_BUILD_KUBERNETES = (
    Requirement("golang-1.19-go", ("/usr/lib/go-1.19/bin/go",)),
    Requirement("make", ("make",)),
    Requirement("gcc", ("gcc",)),
    Requirement("libc6-dev", ("/usr/include/stdio.h",)),
    Requirement("rsync", ("rsync",)),
    Requirement("jq", ("jq",)),
    Requirement("dpkg-dev", ("dpkg-source",)),
    Requirement("patch", ("patch",)),
    Requirement("xz-utils", ("xz",)),
)


def missing(requirements: Iterable[Requirement]) -> list[str]:
    """Return the packages that are not there, in the table's order."""
    return [requirement.package for requirement in requirements if not requirement.met()]


def install_command(packages: Iterable[str]) -> str:
    """Return the command that a person would type."""
    return "sudo apt-get install --no-install-recommends " + " ".join(packages)


def require(requirements: Iterable[Requirement], purpose: str, option: str = "") -> None:
    """Check that the packages are there; ``option`` is what makes the command 'requirements' install them.

    Raises:
        LabError: naming what is missing and how to get it
    """
    packages = missing(requirements)
    if packages:
        raise LabError(
            f"{purpose} needs packages that are not installed: {' '.join(packages)}\n"
            f"Run '{' '.join(['python -m lab requirements', option]).strip()}' as root, or: {install_command(packages)}"
        )


def install(packages: list[str]) -> None:
    """Install Debian packages.

    Raises:
        LabError: not root, no apt-get, or apt-get failed
    """
    if not packages:
        return
    if find_program("apt-get") is None:
        raise LabError(f"This host has no apt-get; install by other means: {' '.join(packages)}")
    if os.geteuid() != 0:
        raise LabError(f"Only root may install packages. Missing: {' '.join(packages)}\nRun: {install_command(packages)}")
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    run(["apt-get", "update", "--quiet"], environ=quiet)
    run(["apt-get", "install", "--yes", "--quiet", "--no-install-recommends", *packages], environ=quiet)
