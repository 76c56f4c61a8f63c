"""Run a command while clients ask, and judge."""

import contextlib
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .. import distributions, podman
from ..console import err
from ..errors import LabError
from ..state import State
from .clients import END_SECONDS, ApiClient, ServiceClient
from .report import Report
from .samples import none_answered, summarize_node, summarize_server

API_TIMEOUT_SECONDS = 5.0
"""A slow answer is one; what does not come within that time counts as down since it was asked for."""
START_SECONDS = 20.0


@dataclass(frozen=True)
class Request:
    """What to run, and how often to ask meanwhile; times are seconds."""

    command: Sequence[str]
    interval: float
    settle: float


def measure(lab: State, request: Request) -> Report:
    """Run the command while every node and the host ask, and return what they saw.

    Raises:
        LabError: the command cannot be started, or no answer comes before it starts
    """
    address = distributions.find(lab.distribution).web_address
    running = {each["Names"][0] for each in podman.containers(lab.topology.lab) if each["State"] == "running"}
    services = [ServiceClient(node, address, request.interval) for node in lab.topology.nodes]
    off = {service.name for service in services if service.node.container not in running}
    apis = [ApiClient(name, api) for name, api in lab.apis(lab.administrator(), API_TIMEOUT_SECONDS).items()]
    began = time.monotonic()
    clock = time.time()
    with asking([*services, *apis]):
        wait_for_answers([*apis, *(service for service in services if service.name not in off)])
        code = run_command(request.command)
        time.sleep(request.settle)
    return Report(
        command=list(request.command),
        command_exit_code=code,
        interval=request.interval,
        started=clock,
        # Both clocks tick alike, so one difference turns monotonic times into clock times.
        clock_offset=clock - began,
        seconds=time.monotonic() - began,
        nodes={service.name: summarize_node(service.sessions) for service in services},
        sessions={service.name: len(service.sessions) for service in services},
        servers={api.name: summarize_server(api.samples) for api in apis},
        none_answered=none_answered({api.name: api.samples for api in apis}),
    )


@contextlib.contextmanager
def asking(clients: Sequence[ServiceClient | ApiClient]) -> Iterator[None]:
    """Let clients ask while the block runs; they are gone when it is left, however that happens."""
    for client in clients:
        client.start()
    try:
        yield
    finally:
        for client in clients:
            client.stop()
        deadline = time.monotonic() + END_SECONDS
        for client in clients:
            client.join(max(0.0, deadline - time.monotonic()))
            if client.is_alive() and isinstance(client, ServiceClient):
                client.kill()
                client.join(END_SECONDS)


def wait_for_answers(clients: Sequence[ServiceClient | ApiClient]) -> None:
    """Return when every client has asked once, well or ill.

    Raises:
        LabError: one could not even ask
    """
    deadline = time.monotonic() + START_SECONDS
    while silent := [client.name for client in clients if not client.asking()]:
        if time.monotonic() > deadline:
            raise LabError(f"No client could be started for {', '.join(silent)}")
        time.sleep(0.05)


def run_command(command: Sequence[str]) -> int:
    """Run the command with this terminal and return its exit code, 128 + N for signal N.

    Ctrl-C and SIGTERM end the command, not the measurement: what was seen until then is still reported.

    Raises:
        LabError: it cannot be started
    """
    try:
        process = subprocess.Popen(list(command))
    except OSError as error:
        raise LabError(f"Cannot run {command[0]}: {error.strerror}") from error

    # A terminal sends Ctrl-C to the command as well; SIGTERM comes to us alone.
    previous = {
        signal.SIGINT: signal.signal(signal.SIGINT, signal.SIG_IGN),
        signal.SIGTERM: signal.signal(signal.SIGTERM, lambda *_: process.terminate()),
    }
    try:
        code = process.wait()
    finally:
        for signum, handler in previous.items():
            signal.signal(signum, handler)
    if code < 0:
        err.print(f"{command[0]} was ended by {signal.Signals(-code).name}")
    return code if code >= 0 else 128 - code
