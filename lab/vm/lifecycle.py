"""Virtual machines of a lab: make them, wait for them, reach them, take their power and give it back."""

import shlex
import subprocess
import time
from collections.abc import Sequence
from dataclasses import replace

from .. import readiness
from ..api import ApiError
from ..archive import pack
from ..cache import Cache
from ..command import last_lines
from ..console import Steps
from ..errors import LabError
from ..image import OPERATOR
from ..readiness import Cluster
from ..secrets import Secrets
from ..state import State
from ..topology import Node, Topology
from . import accelerator, guest, machine, workload
from .image import Base
from .machine import Machine

SERVED_SECONDS = 180
ASK = "until curl --fail --silent --max-time 2 http://{address}/; do sleep 0.5; done"
DIAGNOSIS_LINES = 12
KUBELITE = "snap.microk8s.daemon-kubelite.service"
SSH_SECONDS = 30.0
# A machine whose power is cut never ends a connection.
SSH_OPTIONS = (
    "IdentitiesOnly=yes",
    "BatchMode=yes",
    "LogLevel=ERROR",
    "ControlPath=none",
    "ServerAliveInterval=5",
    "ServerAliveCountMax=6",
)


def with_ports(topology: Topology) -> Topology:
    """Give each virtual machine a free port of this host."""
    nodes = tuple(replace(node, ssh_port=machine.free_port()) if node in topology.guests else node for node in topology.nodes)
    return replace(topology, nodes=nodes)


def machine_of(lab: State, node: Node) -> Machine:
    """Return the machine that a node is."""
    return Machine(node.container, lab.folder / node.name, node.ssh_port)


def boot(cache: Cache, lab: State, base: Base, secrets: Secrets) -> None:
    """Make and start all virtual machines of a lab.

    Raises:
        LabError: QEMU does not take one
    """
    for node in lab.topology.guests:
        made = machine_of(lab, node)
        machine.create(made, base, pack(guest.entries(lab.topology, node, secrets, lab.version), time.time()))
        machine.start(made, accelerator.choose(cache, base))


def wait(steps: Steps, lab: State, cluster: Cluster) -> None:
    """Wait until server and machine serve; ``cluster`` has the containers only.

    Raises:
        LabError: they do not; with the last words of what is to blame
    """
    (node,) = lab.topology.guests
    (api,) = cluster.apis.values()
    mine = machine_of(lab, node)

    def service_missing() -> list[str]:
        try:
            for path, body in workload.objects(cluster.distribution.web_address):
                api.ensure(path, body)
        except ApiError as error:
            return [str(error)]
        return []

    def unknown_machine() -> list[str]:
        ready = {each["metadata"]["name"] for each in readiness.listing(cluster, "/api/v1/nodes") if readiness.is_ready(each)}
        return [] if node.name in ready else [node.name]

    for title, missing in (
        ("wait for the API server", lambda: readiness.unready_servers(cluster)),
        ("make the web Service", service_missing),
    ):
        with steps.step(title):
            readiness.wait_until(missing, title, cluster)
    with steps.step("wait for the machine to answer SSH"):
        machine.wait(mine)
    try:
        with steps.step("wait for the machine's node to be Ready"):
            readiness.wait_until(unknown_machine, "the machine's node", cluster)
        with steps.step("wait for the Service to answer on the machine"):
            ask_service(lab, node, cluster.distribution.web_address)
    except LabError as error:
        raise LabError(f"{error}\n{diagnosis(lab, node)}") from error
    for title, missing in (
        ("wait for the server to be Ready", lambda: readiness.unready_nodes(cluster)),
        ("count the datastore's voters", lambda: readiness.missing_voters(cluster)),
    ):
        with steps.step(title):
            readiness.wait_until(missing, title, cluster)


def ask_service(lab: State, node: Node, address: str) -> None:
    """Return when a Service answers on a machine.

    Raises:
        LabError: it does not
    """
    words = ("timeout", str(SERVED_SECONDS), "sh", "-c", ASK.format(address=address))
    code, output = try_execute(lab, node, *words, timeout=SERVED_SECONDS * 2)
    if code:
        raise LabError(f"{address} did not answer on {node.name} within {SERVED_SECONDS} s\n{output}")


def try_execute(lab: State, node: Node, *words: str, timeout: float = SSH_SECONDS) -> tuple[int, str]:
    """Run a command as root in a machine; return its exit code and its output, or its last words."""
    try:
        done = subprocess.run(ssh_command(lab, node, words), capture_output=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired:
        return 124, f"no answer within {timeout:.0f} s"
    output = done.stdout.decode(errors="replace")
    return done.returncode, output if done.returncode == 0 else output + last_lines(done.stderr.decode(errors="replace"))


def passthrough(lab: State, node: Node, words: Sequence[str], *, interactive: bool) -> int:
    """Run a command as root in a machine with this terminal and return its exit code.

    Raises:
        LabError: the machine is off
    """
    if not machine.is_on(machine_of(lab, node)):
        raise LabError(f"{node.name} is off; 'python -m lab power-on --name {node.lab} {node.name}' starts it")
    return subprocess.run(ssh_command(lab, node, words, terminal=interactive), check=False).returncode


def ssh_command(lab: State, node: Node, words: Sequence[str], *, terminal: bool = False) -> list[str]:
    """Return the command that runs ``words`` as root in a machine."""
    options = ["-i", str(lab.key), "-p", str(node.ssh_port), *(["-t"] if terminal else [])]
    for option in (f"UserKnownHostsFile={lab.known_hosts}", *SSH_OPTIONS):
        options += ["-o", option]
    return ["ssh", *options, f"{OPERATOR}@{node.ssh_address}", shlex.join(["sudo", "--", *words])]


def diagnosis(lab: State, node: Node) -> str:
    """Return what the machine's journal says last of what does not run, else what its console does."""
    _, failed = try_execute(lab, node, "systemctl", "list-units", "--state=failed,activating", "--no-legend", "--plain")
    code, journal = try_execute(lab, node, "journalctl", f"--unit={KUBELITE}", f"--lines={DIAGNOSIS_LINES}", "--no-pager", "--output=cat")
    return f"{node.name}: {failed}\n{journal if code == 0 else machine.last_words(machine_of(lab, node))}"


def status(lab: State, node: Node) -> str:
    """Return podman's word for what the machine is."""
    return "running" if machine.is_on(machine_of(lab, node)) else "exited"


def switch_off(lab: State, node: Node) -> None:
    """Cut a machine's power: nothing in it gets a chance to say good-bye. One that is off stays so."""
    machine.cut(machine_of(lab, node).folder)


def switch_on(cache: Cache, lab: State, node: Node) -> None:
    """Start a machine that is off, with the disk that it had.

    Raises:
        LabError: QEMU does not take it
    """
    mine = machine_of(lab, node)
    if not machine.is_on(mine):
        machine.start(mine, accelerator.choose(cache, mine.base))


def remove(cache: Cache, lab: str) -> None:
    """End all virtual machines of a lab; their files go with the lab's folder."""
    machine.cut(cache.state(lab))
