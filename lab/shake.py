"""Make life hard for a lab while a command runs: lost packets, a busy processor.

All of it is held by processes that undo it when their standard input ends, so that nothing is left however this one ends.
"""

import contextlib
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from . import podman, requirements
from .command import find_program
from .errors import LabError
from .state import State
from .topology import gateway
from .traffic.run import run_command

# Where packets of other nodes come in.
INTERFACE = "eth0"
TABLE = "inet kubekeel_lab_loss"
# Loss is drawn out of so many packets, hundredths of a percent.
GRAIN = 10_000
START_SECONDS = 20.0
END_SECONDS = 5.0
RETRY_SECONDS = 2.0
READY = b"on\n"

LOSE = f"""
nft "$1" || exit
trap 'nft delete table {TABLE}' EXIT
trap exit HUP INT TERM
echo on
cat > /dev/null
"""
BURN = """
"$1" --quiet --cpu "$2" &
trap "kill $!; wait" EXIT
trap exit HUP INT TERM
echo on
cat > /dev/null
"""


@dataclass(frozen=True)
class Load:
    """What to do; ``packet_loss`` is in percent, ``cpu`` the number of processors to keep busy."""

    packet_loss: float
    cpu: int


def rules(subnet: str, percent: float) -> str:
    """Return what tells nftables to lose packets, those for the node's pods included, but none of the host (SSH, the lab).

    A table that was left by mishap is replaced.
    """
    lose = f"iifname {INTERFACE} ip saddr != {gateway(subnet)} numgen random mod {GRAIN} < {round(percent * GRAIN / 100)} counter drop"
    chain = f"chain lose {{\ntype filter hook prerouting priority raw\n{lose}\n}}"
    return f"table {TABLE}\ndelete table {TABLE}\ntable {TABLE} {{\n{chain}\n}}\n"


class Held:
    """Something that lasts as long as a process of its own is not told to end."""

    def __init__(self, title: str, command: Sequence[str]) -> None:
        """Start; ``title`` is for messages."""
        self.title = title
        # A session of its own: Ctrl-C is for the command that runs meanwhile.
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        )

    def wait_ready(self) -> None:
        """Return when it is in force.

        Raises:
            LabError: it did not get that far
        """
        timer = threading.Timer(START_SECONDS, self._process.kill)
        timer.start()
        try:
            if self._process.stdout is None or self._process.stdout.readline() != READY:
                _, complaint = self._process.communicate()
                raise LabError(f"{self.title} does not work: {complaint.decode(errors='replace').strip()}")
        finally:
            timer.cancel()

    def over(self) -> bool:
        """Tell whether it has ended."""
        return self._process.poll() is not None

    def release(self) -> None:
        """Ask for the end; ``wait`` waits for it."""
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()

    def wait(self, deadline: float) -> None:
        """Wait for the end until a moment of the monotonic clock."""
        try:
            self._process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for stream in (self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()


class Loss(threading.Thread):
    """Lets every node lose packets, also one that comes back after a power cut."""

    def __init__(self, lab: State, percent: float) -> None:
        """Prepare."""
        super().__init__(daemon=True, name="loss")
        self._commands = {
            node.name: (
                *("podman", *podman.RUNTIME, "exec", "--interactive", node.container),
                *("sh", "-c", LOSE, "sh", rules(lab.topology.subnet, percent)),
            )
            for node in lab.topology.nodes
        }
        running = {each["Names"][0] for each in podman.containers(lab.topology.lab) if each["State"] == "running"}
        self._first = [node.name for node in lab.topology.nodes if node.container in running]
        self._held: dict[str, Held] = {}
        self._over = threading.Event()

    def hold(self, name: str) -> None:
        """Let one node lose packets."""
        self._held[name] = Held(f"Packet loss in {name}", self._commands[name])

    def begin(self) -> None:
        """Let the nodes that are on lose packets, and go on looking after all of them.

        Raises:
            LabError: a node could not be told to
        """
        for name in self._first:
            self.hold(name)
        for held in self._held.values():
            held.wait_ready()
        self.start()

    def run(self) -> None:
        """Tell nodes again that were off."""
        while not self._over.wait(RETRY_SECONDS):
            for name in self._commands:
                held = self._held.get(name)
                if held is None or held.over():
                    if held is not None:
                        held.release()
                        held.wait(time.monotonic())
                    self.hold(name)

    def end(self) -> None:
        """Let all nodes receive everything again."""
        self._over.set()
        if self.ident is not None:
            self.join()
        for held in self._held.values():
            held.release()
        deadline = time.monotonic() + END_SECONDS
        for held in self._held.values():
            held.wait(deadline)


@contextlib.contextmanager
def burning(count: int) -> Iterator[None]:
    """Keep processors of the host busy while the block runs."""
    held = Held("stress-ng", ("sh", "-c", BURN, "sh", find_program("stress-ng") or "stress-ng", str(count)))
    try:
        held.wait_ready()
        yield
    finally:
        held.release()
        held.wait(time.monotonic() + END_SECONDS)


@contextlib.contextmanager
def losing(lab: State, percent: float) -> Iterator[None]:
    """Let every node lose packets of other nodes while the block runs."""
    loss = Loss(lab, percent)
    try:
        loss.begin()
        yield
    finally:
        loss.end()


def run(lab: State, load: Load, command: Sequence[str]) -> int:
    """Run a command under load and return its exit code.

    Raises:
        LabError: stress-ng is missing, or the load or the command cannot be started
    """
    with contextlib.ExitStack() as stack:
        if load.cpu:
            requirements.require(requirements.TO_SHAKE, "Keeping the processor busy")
            stack.enter_context(burning(load.cpu))
        if load.packet_loss:
            stack.enter_context(losing(lab, load.packet_loss))
        return run_command(command)
