"""What runs on a bastion. It is sent there as a text, and needs nothing but Python 3.8: the standard library alone.

It greets with what it found, gets files and at last the stream of C(ansible-runner transmit), and gives back that of
C(ansible-runner worker). The worker keeps no eye on its connection: it would die of a broken pipe in the middle of a node.
So this stands between them. A connection that is cut lets the run come to its end; an order ends it.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import pathlib
import queue
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading

GREETING = "kubekeel-bastion: "
"""Begins the line with what was found; what a login prints stands before it."""
PROGRAMS = ("ansible-playbook", "ansible-runner")
CANCEL, STOP = b"cancel\n", b"stop\n"
"""End it now; end it after the node that it is at."""
STOP_FILE = "stop"
PATIENCE = 20.0
"""Seconds that ansible-playbook gets to end by itself, see kubekeel/jobs.py."""
LAST = 10.0
"""Seconds that the worker gets after that to tell how it ended."""
MEMORY = "/dev/shm"  # noqa: S108


def version(program: str) -> str:
    """Return a program's version; empty where it cannot be run."""
    if not shutil.which(program):
        return ""
    told = subprocess.run([program, "--version"], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False).stdout
    found = re.search(r"\d+(?:\.\d+)+", told)
    return found.group() if found else ""


def exactly(count: int) -> bytes:
    """Return so many bytes of what is sent, or fewer where it ends before."""
    parts = []
    while count > 0:
        part = os.read(0, min(count, 65536))
        if not part:
            break
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def line() -> bytes:
    """Return a line of what is sent, and read nothing behind it."""
    found = b""
    while not found.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte:
            break
        found += byte
    return found


def descendants(pid: int) -> list[int]:
    """Return the processes below a process, nearest first."""
    below: dict[int, list[int]] = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            parent = int(pathlib.Path("/proc", name, "stat").read_text().rpartition(")")[2].split()[1])
            below.setdefault(parent, []).append(int(name))
    found = [pid]
    for one in found:
        found += below.get(one, [])
    return found[1:]


def end(worker: subprocess.Popen[bytes]) -> None:
    """End a run: ansible-playbook is asked to, and after a while killed with all that it began."""
    with contextlib.suppress(OSError):
        # What the worker starts leads a group of its own.
        for pid in [pid for pid in descendants(worker.pid) if os.getpgid(pid) == pid][:1]:
            os.killpg(pid, signal.SIGINT)
    with contextlib.suppress(subprocess.TimeoutExpired):
        worker.wait(PATIENCE)
        return
    left = descendants(worker.pid)
    # It then tells that the run was canceled.
    worker.terminate()
    for pid in left:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        worker.wait(LAST)
        return
    worker.kill()


def obey(worker: subprocess.Popen[bytes], folder: str) -> None:
    """Do what is ordered until the connection ends; that is no order."""
    while True:
        order = line()
        if order == CANCEL:
            end(worker)
        elif order == STOP:
            pathlib.Path(folder, STOP_FILE).touch()
        elif not order:
            return


def give(chunks: queue.SimpleQueue[bytes]) -> None:
    """Write what comes, for as long as somebody reads it. The worker never waits for that."""
    for chunk in iter(chunks.get, b""):
        with contextlib.suppress(OSError):
            while chunk:
                chunk = chunk[os.write(1, chunk) :]


def environment(folder: str) -> dict[str, str]:
    """Return the environment of the worker."""
    # The collection that was sent must be the one that runs, whatever is installed here.
    found = dict(os.environ, ANSIBLE_COLLECTIONS_PATH=os.path.join(folder, "project", "collections"), ANSIBLE_NOCOLOR="1")
    # ansible-runner switches the check of host keys off where nobody asked for it.
    found.setdefault("ANSIBLE_HOST_KEY_CHECKING", "True")
    found.setdefault("ANSIBLE_PIPELINING", "1")
    return found


def work(folder: str) -> int:
    """Greet, take a run, and return the worker's exit code; 0 where no run came."""
    found = {
        "folder": folder,
        "path": os.environ.get("PATH", ""),
        "python": "%d.%d.%d" % sys.version_info[:3],
        "programs": {program: version(program) for program in PROGRAMS},
    }
    os.write(1, ("\n" + GREETING + json.dumps(found) + "\n").encode())
    header = line()
    if not header.endswith(b"\n"):
        return 0
    parts = [(name, exactly(size)) for name, size in json.loads(header)]
    if not line():
        # It was not sent to its end.
        return 0
    stream = parts.pop()[1]
    for name, content in parts:
        place = pathlib.Path(folder, name)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch(mode=0o600)
        place.write_bytes(content)
    command = ["ansible-runner", "worker", "--private-data-dir", folder]
    worker = subprocess.Popen(command, env=environment(folder), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=end, args=(worker,)).start())
    assert worker.stdin  # noqa: S101
    assert worker.stdout  # noqa: S101
    with contextlib.suppress(BrokenPipeError), worker.stdin:
        worker.stdin.write(stream)
    threading.Thread(target=obey, args=(worker, folder), daemon=True).start()
    chunks: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    giver = threading.Thread(target=give, args=(chunks,))
    giver.start()
    for chunk in iter(functools.partial(os.read, worker.stdout.fileno(), 65536), b""):
        chunks.put(chunk)
    code = worker.wait()
    # Before anybody may wait for a connection that hangs.
    shutil.rmtree(folder, ignore_errors=True)
    chunks.put(b"")
    giver.join()
    return code


def main() -> int:
    """Work in a folder that nobody else may read, in memory where that can be had, and leave nothing behind."""
    # A login that ends is no order either.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    folder = tempfile.mkdtemp(prefix="kubekeel-", dir=MEMORY if os.access(MEMORY, os.W_OK) else None)
    try:
        return work(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
