"""What the lab asks of podman."""

import contextlib
import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from .command import find_program, last_lines, run
from .errors import LabError
from .topology import Node, gateway, network_name

LABEL = "kubekeel.lab"
FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")
# Every other runtime of podman's refuses the hybrid cgroup tree of some hosts.
RUNTIME = ("--runtime", find_program("runc") or "/usr/sbin/runc")
# Some hosts may not raise limits, and podman's own defaults would; these are below any kernel's default.
ULIMITS = ("nofile=16384:16384", "nproc=16384:16384")


# As on a machine of its own, these are empty after a boot.
TMPFS = ("/run", "/run/lock", "/tmp")  # noqa: S108 -- a node's, not the host's


def podman(*arguments: str | Path, stdin: bytes | None = None, timeout: float | None = 300) -> str:
    """Run podman and return what it prints.

    Raises:
        LabError: podman failed
    """
    return run(["podman", *RUNTIME, *arguments], stdin=stdin, timeout=timeout)


def image_exists(image: str) -> bool:
    """Tell whether podman has an image."""
    return subprocess.run(["podman", "image", "exists", image], check=False).returncode == 0


def import_image(archive: Path, image: str) -> None:
    """Make an image out of a root file system."""
    podman("import", "--quiet", archive, image, timeout=900)


def create_network(lab: str) -> str:
    """Create a lab's network that leaves the host's NAT alone, and return its subnet (``10.89.0.0/24``).

    Podman picks the subnet. An internal network joins the host only where a gateway is named, and naming one
    takes a subnet: hence the second creation.
    """
    name = network_name(lab)
    arguments = ("network", "create", "--internal", "--disable-dns", "--label", f"{LABEL}={lab}")
    podman(*arguments, name)
    (network,) = json.loads(podman("network", "inspect", name))
    subnet = str(network["subnets"][0]["subnet"])
    podman("network", "rm", name)
    podman(*arguments, "--subnet", subnet, "--gateway", gateway(subnet), name)
    return subnet


def create_node(node: Node, image: str, command: str, mounts: Mapping[Path, str]) -> None:
    """Create, but do not start, a container that will boot systemd.

    ``command`` is its first process, which becomes systemd. ``mounts`` maps folders and files of the host to places in
    the node, where they are read-only.
    """
    # Not --systemd=always: with a private cgroup namespace the nodes' systemds would share one tree.
    options = ["--systemd=false", "--privileged", "--cgroupns=private", "--env=container=podman", "--stop-signal=SIGRTMIN+3"]
    # Podman's own limit of 2048 would leave each unit in the node 307 tasks.
    options += ["--pids-limit=-1", *(f"--ulimit={limit}" for limit in ULIMITS), *(f"--tmpfs={place}" for place in TMPFS)]
    options += [f"--hostname={node.name}", f"--network={network_name(node.lab)}", f"--ip={node.address}", "--no-hosts"]
    options += [f"--volume={source}:{target}:ro" for source, target in mounts.items()]
    podman("create", f"--name={node.container}", f"--label={LABEL}={node.lab}", *options, image, command)


def copy_in(name: str, archive: bytes) -> None:
    """Unpack a tar archive at the root of a container, running or not; owners are those of the archive."""
    podman("cp", "--archive=false", "-", f"{name}:/", stdin=archive)


def start(name: str) -> None:
    """Start a container."""
    podman("start", name)


@contextlib.contextmanager
def host_forwarding_kept() -> Iterator[None]:
    """Undo what podman does to the host when a container starts: the lab's nodes share a bridge and need no router."""
    before = FORWARDING.read_text()
    try:
        yield
    finally:
        if FORWARDING.read_text() != before:
            FORWARDING.write_text(before)


def kill(name: str) -> None:
    """Take a container's power away: no process gets a chance to say good-bye."""
    # The kernel of a container lives on: it would close the connections of the processes that it ends.
    try_execute(name, "ip", "link", "set", "eth0", "down")
    podman("kill", "--signal", "KILL", name)


def pause(name: str) -> None:
    """Freeze every process of a container."""
    podman("pause", name)


def unpause(name: str) -> None:
    """Let the processes of a frozen container go on."""
    podman("unpause", name)


def is_on(name: str) -> bool:
    """Tell whether a container has processes, frozen or not."""
    return status(name) in ("running", "paused")


def is_frozen(name: str) -> bool:
    """Tell whether a container is frozen."""
    return status(name) == "paused"


def status(name: str) -> str:
    """Return podman's word for a container's state.

    Raises:
        LabError: there is no such container
    """
    return podman("container", "inspect", "--format", "{{.State.Status}}", name).strip()


def execute(name: str, *command: str, stdin: bytes | None = None, timeout: float | None = 60) -> str:
    """Run a command as root in a container and return what it prints.

    Raises:
        LabError: the command failed
    """
    flags = ["--interactive"] if stdin is not None else []
    return podman("exec", *flags, name, *command, stdin=stdin, timeout=timeout)


def try_execute(name: str, *command: str, timeout: float = 30) -> tuple[int, str]:
    """Run a command as root in a container; return its exit code and its output, or its last words."""
    try:
        done = subprocess.run(["podman", *RUNTIME, "exec", name, *command], capture_output=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired:
        return 124, f"no answer within {timeout:.0f} s"
    output = done.stdout.decode(errors="replace")
    return done.returncode, output if done.returncode == 0 else output + last_lines(done.stderr.decode(errors="replace"))


def containers(lab: str | None = None) -> list[dict[str, Any]]:
    """Return podman's description of every container of one lab, or of all labs."""
    label = LABEL if lab is None else f"{LABEL}={lab}"
    found: list[dict[str, Any]] = json.loads(podman("ps", "--all", "--filter", f"label={label}", "--format", "json"))
    return found


def remove_lab(lab: str) -> None:
    """Remove containers, volumes and networks of a lab, whatever state they are in.

    Raises:
        LabError: something would not go
    """
    label = f"label={LABEL}={lab}"
    for listing, removal in (
        (("ps", "--all", "--quiet"), ("rm", "--force", "--volumes", "--time", "0")),
        (("volume", "ls", "--quiet"), ("volume", "rm", "--force")),
        (("network", "ls", "--quiet"), ("network", "rm", "--force")),
    ):
        names = podman(*listing, "--filter", label).split()
        if names:
            podman(*removal, *names)


def passthrough(name: str, command: Sequence[str], *, interactive: bool) -> int:
    """Run a command in a container with this terminal and return its exit code."""
    flags = ["--interactive", "--tty"] if interactive else []
    return subprocess.run(["podman", *RUNTIME, "exec", *flags, name, *command], check=False).returncode


def require_podman() -> None:
    """Check that podman works for this user.

    Raises:
        LabError: it does not
    """
    try:
        podman("version", "--format", "{{.Client.Version}}", timeout=30)
    except LabError as error:
        raise LabError(f"podman does not work here: {error}") from error
