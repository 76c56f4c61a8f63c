"""The dead man's switch: a process of its own undoes a power cut or a freeze that nobody else undid.

It has its own session and no terminal, so it outlives whoever started it, however that ends. Its record below the lab's
folder is its duty: who removes the record, or writes another, relieves it.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

from . import power, state
from .cache import Cache
from .command import last_lines
from .errors import LabError
from .topology import Node

ROOT = Path(__file__).parents[1]
START_SECONDS = 30.0
# How much longer a freeze may last, so that its own end comes first.
THAW_MARGIN_SECONDS = 5.0
# A host under load may fail to start a container at the first attempt.
ATTEMPTS = 10
RETRY_SECONDS = 3.0


class Duty(StrEnum):
    """What a watchdog sees to."""

    RETURN = "return"
    """The machine has power again."""
    THAW = "thaw"
    """The machine goes on."""


@dataclass(frozen=True)
class Process:
    """A process: pids are used again, a pid together with its start (clock ticks since boot) is not."""

    pid: int
    start: int

    @classmethod
    def find(cls, pid: int) -> "Process":
        """Return the process that has a pid now.

        Raises:
            ProcessLookupError: none has
        """
        try:
            text = Path(f"/proc/{pid}/stat").read_text()
        except OSError as error:
            raise ProcessLookupError(pid) from error
        # The name, in brackets, may hold anything; the start is the 22nd field of all.
        return cls(pid, int(text.rpartition(")")[2].split()[19]))

    def end(self) -> None:
        """End exactly this process, where it still runs."""
        with suppress(ProcessLookupError), handle(self.pid) as process:
            # The handle stays with the process that it was opened for, so that the look is at the one that is ended.
            if Process.find(self.pid) == self:
                signal.pidfd_send_signal(process, signal.SIGKILL)


@contextmanager
def handle(pid: int) -> Iterator[int]:
    """Hold a handle of a process."""
    descriptor = os.pidfd_open(pid)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@dataclass(frozen=True)
class Post:
    """Where a watchdog of one machine and one duty has its record and its log."""

    cache: Cache
    node: Node
    duty: Duty

    @property
    def record(self) -> Path:
        """The file that says which process is on duty."""
        return folder(self.cache, self.node.lab) / f"{self.node.name}.{self.duty}.json"

    @property
    def log(self) -> Path:
        """What watchdogs of this post had to say."""
        return self.record.with_suffix(".log")

    def holder(self) -> Process | None:
        """Return who is on duty, alive or not."""
        return read(self.record)

    def take(self, process: Process) -> None:
        """Put a process on duty in place of any other."""
        draft = self.record.with_suffix(f".{process.pid}")
        draft.write_text(json.dumps(asdict(process)))
        draft.rename(self.record)


def folder(cache: Cache, lab: str) -> Path:
    """Return the folder of a lab's watchdogs."""
    return cache.state(lab) / "watchdogs"


def read(record: Path) -> Process | None:
    """Return the process that a record names."""
    try:
        return Process(**json.loads(record.read_text()))
    except (OSError, ValueError, TypeError):
        return None


def start(post: Post, seconds: float) -> None:
    """Start a watchdog that acts after some seconds; when this returns it is on duty, and no former one of the post is.

    Raises:
        LabError: it did not start
    """
    deadline = time.monotonic() + seconds
    former = post.holder()
    post.record.parent.mkdir(exist_ok=True, mode=0o700)
    command = [sys.executable, "-m", "lab.watchdog", post.node.lab, post.node.name, post.duty.value, str(deadline)]
    environment = {**os.environ, "KUBEKEEL_CACHE": str(post.cache.root)}
    with post.log.open("ab") as log:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    patience = time.monotonic() + START_SECONDS
    while (holder := post.holder()) is None or holder.pid != process.pid:
        if process.poll() is not None or time.monotonic() > patience:
            process.kill()
            raise LabError(f"The dead man's switch for {post.node.name} did not start:\n{last_lines(post.log.read_text())}")
        time.sleep(0.02)
    if former is not None:
        end(post.cache, former)


def relieve(post: Post) -> None:
    """End a post's watchdog, where there is one."""
    holder = post.holder()
    post.record.unlink(missing_ok=True)
    if holder is not None:
        end(post.cache, holder)


def relieve_all(cache: Cache, lab: str) -> None:
    """End all watchdogs of a lab."""
    for record in folder(cache, lab).glob("*.json"):
        holder = read(record)
        record.unlink(missing_ok=True)
        if holder is not None:
            end(cache, holder)


def end(cache: Cache, process: Process) -> None:
    """End a watchdog, but not while it starts a machine: what podman does to the host is undone behind that."""
    with cache.lock("network"):
        process.end()


def keep(post: Post, deadline: float) -> None:
    """Be the watchdog: go on duty, wait for the deadline (of the monotonic clock), act unless relieved."""
    own = Process.find(os.getpid())
    post.take(own)
    note(f"on duty for {post.node.name}, to act in {deadline - time.monotonic():.0f} s")
    time.sleep(max(0.0, deadline - time.monotonic()))
    for _ in range(ATTEMPTS):
        if post.holder() != own:
            note("relieved: nothing to do")
            return
        try:
            acted = act(post)
        except LabError as error:
            note(str(error))
            time.sleep(RETRY_SECONDS)
            continue
        note(f"{post.node.name} {'was still out: brought back' if acted else 'runs: nothing to do'}")
        post.record.unlink(missing_ok=True)
        return
    note("gave up")


def act(post: Post) -> bool:
    """Do what the duty asks for, where it is needed; tell whether it was."""
    return power.switch_on(post.cache, post.node) if post.duty is Duty.RETURN else power.thaw(post.node)


def note(text: str) -> None:
    """Write a line to the log."""
    print(f"{time.strftime('%F %T')} {os.getpid()}: {text}", flush=True)


def main() -> None:
    """Be a watchdog: ``python -m lab.watchdog LAB NODE DUTY DEADLINE``."""
    lab, name, duty, deadline = sys.argv[1:]
    cache = Cache.from_environment()
    keep(Post(cache, state.load(cache, lab).topology.find(name), Duty(duty)), float(deadline))


if __name__ == "__main__":
    main()
