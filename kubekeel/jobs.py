"""One run of a playbook by ansible-runner: in a process group of its own, with nothing of it left on disk afterwards."""

import contextlib
import os
import pathlib
import shlex
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import ansible_runner

from . import collection

PATIENCE = 20.0
"""Seconds that ansible-playbook gets to end by itself; core 2.19 may wait for ever when SIGINT comes while it forks."""
MEMORY = pathlib.Path("/dev/shm")  # noqa: S108

FROM_A_RUNNER = (
    "AWX_ISOLATED_DATA_DIR",
    "ANSIBLE_STDOUT_CALLBACK",
    "ORIGINAL_STDOUT_CALLBACK",
    "ANSIBLE_HOST_KEY_CHECKING",
    "ANSIBLE_RETRY_FILES_ENABLED",
    "ANSIBLE_CACHE_PLUGIN",
    "ANSIBLE_CACHE_PLUGIN_CONNECTION",
    "RUNNER_OMIT_EVENTS",
    "RUNNER_ONLY_FAILED_EVENTS",
)
"""What ansible-runner puts into the environment of what it runs."""

RawEvent = dict[str, Any]
"""An event as ansible-runner gives it."""


@dataclass(frozen=True)
class Job:
    """What is to be run."""

    playbook: str
    """Full name, such as C(kubekeel.ha.audit)."""
    inventory: pathlib.Path
    folder: pathlib.Path
    """Private folder of this run, see C(private_folder)."""
    variables: Mapping[str, Any] = field(default_factory=dict)
    options: tuple[str, ...] = ()
    """Further options of ansible-playbook."""


@dataclass(frozen=True)
class Ended:
    """How it ended."""

    status: str
    """successful, failed, canceled, or lost: nobody knows."""
    code: int
    output: str
    """What ansible-playbook printed."""


@contextlib.contextmanager
def private_folder() -> Iterator[pathlib.Path]:
    """Make a folder that nobody else may read, in memory where that can be had, and remove it in the end.

    ansible-runner writes the environment and all variables into its private data dir.
    """
    with tempfile.TemporaryDirectory(prefix="kubekeel-", dir=MEMORY if os.access(MEMORY, os.W_OK) else None) as folder:
        yield pathlib.Path(folder)


def environment() -> dict[str, str]:
    """Return the environment for commands of Ansible."""
    found = dict(os.environ)
    # Below another ansible-runner, such as that of AWX or ansible-rulebook: its callback must not become ours, our events not go to its
    # folder, and host keys not go unchecked because it says so.
    if "AWX_ISOLATED_DATA_DIR" in found:
        for name in FROM_A_RUNNER:
            found.pop(name, None)
    found["PATH"] = os.pathsep.join([os.path.dirname(sys.executable), found.get("PATH", os.defpath)])
    if collection.CHECKOUT:
        # A copy that is installed elsewhere must not stand in for this checkout.
        found["ANSIBLE_COLLECTIONS_PATH"] = str(collection.CHECKOUT / ".collections")
    configuration = pathlib.Path("ansible.cfg").absolute()
    if "ANSIBLE_CONFIG" not in found and configuration.is_file():
        found["ANSIBLE_CONFIG"] = str(configuration)
    # Without a configuration five nodes at a time, and none of them over one connection for all of its tasks.
    found.setdefault("ANSIBLE_PIPELINING", "1")
    return found


def play(job: Job, on_event: Callable[[RawEvent], None], cancel: threading.Event | None = None) -> Ended:
    """Run a playbook and return how it ended.

    Args:
        job: what to run.
        on_event: gets every event, in the thread that calls this.
        cancel: breaks the run off once it is set.
    """
    process = _Process(cancel or threading.Event())

    def note(event: RawEvent) -> bool:
        process.pid = event.get("pid") or process.pid
        on_event(event)
        return False

    runner = ansible_runner.interface.init_runner(
        private_data_dir=str(job.folder),
        # The folder in which ansible-playbook runs.
        project_dir=os.getcwd(),
        playbook=job.playbook,
        inventory=str(job.inventory),
        extravars=dict(job.variables),
        # ansible-runner splits it as a shell would.
        cmdline=shlex.join(job.options) or None,
        settings={"pexpect_timeout": 1},
        fact_cache_type="memory",
        quiet=True,
        event_handler=note,
        # Without one ansible-runner takes over the signals of the process.
        cancel_callback=process.ends,
    )
    wanted = {**environment(), "ANSIBLE_NOCOLOR": "1", "ANSIBLE_FORCE_COLOR": "0"}
    # ansible-runner switches the check of host keys off where nobody asked for it.
    for name in ("ANSIBLE_HOST_KEY_CHECKING", "ORIGINAL_STDOUT_CALLBACK", "ANSIBLE_CACHE_PLUGIN", "ANSIBLE_CACHE_PLUGIN_CONNECTION"):
        runner.config.env.pop(name, None)
    if wanted.get("ANSIBLE_STDOUT_CALLBACK"):
        wanted["ORIGINAL_STDOUT_CALLBACK"] = wanted.pop("ANSIBLE_STDOUT_CALLBACK")
    plugins = runner.config.env["ANSIBLE_CALLBACK_PLUGINS"]
    runner.config.env.update(wanted, ANSIBLE_CALLBACK_PLUGINS=plugins)
    runner.run()
    stdout = pathlib.Path(runner.config.artifact_dir) / "stdout"
    output = stdout.read_text(errors="replace") if stdout.exists() else ""
    return Ended("canceled" if process.cancel.is_set() and runner.rc else runner.status, runner.rc, output)


class _Process:
    """ansible-playbook, and its end before its time."""

    def __init__(self, cancel: threading.Event) -> None:
        self.cancel = cancel
        self.pid = 0
        self.asked = 0.0

    def ends(self) -> bool:
        """Ask it to end once that is wanted; tell whether it has to be killed, since it did not."""
        if not self.cancel.is_set():
            return False
        if not self.asked and self.pid:
            self.asked = time.monotonic()
            with contextlib.suppress(ProcessLookupError):
                os.killpg(os.getpgid(self.pid), signal.SIGINT)
            return False
        return not self.pid or time.monotonic() - self.asked > PATIENCE
