"""The commands of ``python -m lab``."""

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from . import binaries, lifecycle, podman, power, requirements, shake, state, traffic, vm, watchdog
from .cache import Cache
from .console import Steps, err, out
from .errors import LabError, UsageError
from .state import State
from .topology import Role, counts
from .vm import lifecycle as machines
from .watchdog import Duty, Post

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="A real Kubernetes cluster on one machine; see lab/README.md.",
)

Name = Annotated[str, typer.Option("--name", "-n", help="Name of the lab.")]
NodeName = Annotated[str, typer.Argument(help="For instance server1.")]
Inventory = Annotated[Path | None, typer.Option(help="Folder of the inventory.  [default: inventories/<name>]")]


def root_cache() -> Cache:
    """Return the cache, for commands that need podman's containers.

    Raises:
        LabError: the user is not root
    """
    if os.geteuid() != 0:
        raise LabError("The lab's nodes are privileged containers: run this command as root")
    return Cache.from_environment()


def inventory_folder(name: str, chosen: Path | None) -> Path:
    """Return the inventory's folder, by default below the current one."""
    return chosen or Path("inventories") / name


def without_machines(lab: State, command: str) -> State:
    """Return a lab that has containers only, which some commands take.

    Raises:
        UsageError: it has a virtual machine
    """
    if lab.topology.guests:
        raise UsageError(f"'{command}' is for labs of containers; '{lab.topology.lab}' has a virtual machine")
    return lab


@app.command("requirements")
def requirements_command(
    tests: Annotated[bool, typer.Option("--tests", help="Those of the tests, too.")] = False,
    machine: Annotated[bool, typer.Option("--vm", help="Those of 'up --distribution vm', too.")] = False,
) -> None:
    """Install the Debian packages that are missing."""
    needed = [*requirements.TO_RUN, *requirements.TO_SHAKE, *requirements.TO_BUILD_IMAGE]
    needed += [*(requirements.TO_TEST if tests else ()), *(requirements.TO_RUN_VM if machine else ())]
    if binaries.needs_build(Cache.from_environment()):
        needed += requirements.TO_BUILD_KUBERNETES
    packages = requirements.missing(needed)
    if not packages:
        out.print("Nothing is missing.")
        return
    with Steps().step(f"install {' '.join(packages)}"):
        requirements.install(packages)


@app.command()
def build() -> None:
    """Fill the caches: Kubernetes and the nodes' image."""
    kube = lifecycle.build(root_cache(), Steps())
    out.print(f"Kubernetes {kube.version} in {kube.folder}")


@app.command()
def up(
    name: Name = "lab",
    distribution: Annotated[str, typer.Option(help="Whose layout the nodes get.")] = "microk8s",
    topology: Annotated[str, typer.Option(help="plain, or split: datastore and control plane on servers of their own (K3s).")] = "plain",
    servers: Annotated[int | None, typer.Option(help="Nodes with control plane and datastore.  [default: 3]")] = None,
    agents: Annotated[int | None, typer.Option(help="Nodes for pods only.  [default: 0, split: 1]")] = None,
    inventory: Inventory = None,
) -> None:
    """Make a cluster; a standing one of the same name is replaced."""
    steps = Steps()
    made = lifecycle.up(
        root_cache(),
        steps,
        lab=name,
        distribution_name=distribution,
        wanted=(vm.check_counts if distribution == vm.VirtualMachine.name else counts)(topology, servers, agents),
        inventory_folder=inventory_folder(name, inventory),
    )
    out.print(lab_table(made))
    out.print(f"Up in {steps.elapsed():.0f} s. Inventory: {made.inventory}")


@app.command()
def down(name: Name = "lab", inventory: Inventory = None) -> None:
    """Remove a cluster and whatever an unfinished ``up`` left; the caches stay."""
    cache = root_cache()
    with cache.lock(f"lab-{name}"), Steps().step(f"remove the lab '{name}'"):
        lifecycle.remove(cache, name, inventory_folder(name, inventory))


@app.command()
def status() -> None:
    """Show the labs that stand."""
    cache = root_cache()
    labs = sorted({container["Labels"][podman.LABEL] for container in podman.containers()})
    if not labs:
        out.print("No lab stands.")
    for lab in labs:
        try:
            out.print(lab_table(state.load(cache, lab)))
        except LabError as error:
            out.print(f"{lab}: {error}")


def lab_table(lab: State) -> Table:
    """Return a lab's nodes as a table."""
    states = {container["Names"][0]: container["State"] for container in podman.containers(lab.topology.lab)}
    table = Table(title=f"{lab.topology.lab}: {lab.distribution}, Kubernetes {lab.version}", title_justify="left")
    for column in ("node", "address", "pods", "container", "state"):
        table.add_column(column, no_wrap=True)
    for node in lab.topology.machines:
        if node.role is Role.GUEST:
            place, now = f"QEMU, SSH at {node.ssh_address}:{node.ssh_port}", machines.status(lab, node)
        else:
            place, now = node.container, states.get(node.container, "missing")
        table.add_row(node.name, node.address, node.pod_subnet, place, now)
    return table


@app.command("exec")
def exec_command(
    node: NodeName,
    command: Annotated[list[str] | None, typer.Argument(metavar="COMMAND...", help="After '--'; by default a shell.")] = None,
    name: Name = "lab",
) -> None:
    """Run a command as root in a node."""
    lab = state.load(root_cache(), name)
    target, words, interactive = lab.topology.find(node), command or ["bash"], sys.stdin.isatty()
    if target.role is Role.GUEST:
        raise typer.Exit(machines.passthrough(lab, target, words, interactive=interactive))
    raise typer.Exit(podman.passthrough(target.container, words, interactive=interactive))


@app.command("power-off")
def power_off(
    node: NodeName,
    name: Name = "lab",
    return_after: Annotated[float | None, typer.Option(min=0, help="Seconds until the node comes back, if nobody switches it on.")] = None,
) -> None:
    """Cut a node's power: nothing in it gets a chance to say good-bye."""
    cache = root_cache()
    lab = state.load(cache, name)
    target = lab.topology.find(node)
    if target.role is Role.GUEST:
        if return_after is not None:
            raise UsageError(f"{node} is a virtual machine: nothing here brings it back by itself. Leave --return-after away")
        machines.switch_off(lab, target)
        return
    if return_after is not None:
        watchdog.start(Post(cache, target, Duty.RETURN), return_after)
    power.switch_off(target)


@app.command("power-on")
def power_on(node: NodeName, name: Name = "lab") -> None:
    """Start a node again; it comes back by itself."""
    cache = root_cache()
    lab = state.load(cache, name)
    target = lab.topology.find(node)
    if target.role is Role.GUEST:
        machines.switch_on(cache, lab, target)
        return
    power.switch_on(cache, target)
    for duty in Duty:
        watchdog.relieve(Post(cache, target, duty))


@app.command()
def freeze(
    node: NodeName,
    seconds: Annotated[float, typer.Option(min=0, help="For how long.")],
    name: Name = "lab",
) -> None:
    """Stop everything in a node for a while, as a host that hangs; it goes on whatever ends this command."""
    cache = root_cache()
    target = without_machines(state.load(cache, name), "freeze").topology.find(node)
    power.require_running(target)
    post = Post(cache, target, Duty.THAW)
    watchdog.start(post, seconds + watchdog.THAW_MARGIN_SECONDS)
    # Where this fails the watchdog stays on duty: nobody knows what state the node is in.
    signum = power.freeze(target, seconds)
    watchdog.relieve(post)
    if signum is not None:
        raise typer.Exit(128 + signum)


@app.command("shake")
def shake_command(
    command: Annotated[list[str], typer.Argument(metavar="COMMAND...", help="What to run meanwhile, after '--'.")],
    name: Name = "lab",
    packet_loss: Annotated[float, typer.Option(min=0, max=100, help="Percent of the packets from other nodes that a node loses.")] = 0,
    cpu: Annotated[int, typer.Option(min=0, help="Processors of the host to keep busy.")] = 0,
) -> None:
    """Run COMMAND while the nodes lose packets and the host is busy."""
    raise typer.Exit(shake.run(without_machines(state.load(root_cache(), name), "shake"), shake.Load(packet_loss, cpu), command))


@app.command("traffic")
def traffic_command(
    command: Annotated[list[str], typer.Argument(metavar="COMMAND...", help="What to run meanwhile, after '--'.")],
    name: Name = "lab",
    interval: Annotated[float, typer.Option(min=0.01, help="Seconds between two requests of a node.")] = 0.1,
    settle: Annotated[float, typer.Option(min=0, help="Seconds to go on asking after COMMAND.")] = 1.0,
    output: Annotated[Path | None, typer.Option(help="File for the report as JSON.")] = None,
) -> None:
    """Run COMMAND while every node asks the web Service and the host asks the API servers."""
    lab = without_machines(state.load(root_cache(), name), "traffic")
    report = traffic.measure(lab, traffic.Request(command, interval, settle))
    # Standard output belongs to COMMAND.
    err.print(report.to_table())
    if output is not None:
        output.write_text(json.dumps(report.to_json(), indent=2) + "\n")
    raise typer.Exit(report.exit_code)


def main() -> None:
    """Run a command; a user's mistake is a message and exit code 1."""
    try:
        app()
    except LabError as error:
        # Not as markup: journals are full of square brackets.
        err.print(Text.assemble(("Error: ", "bold red"), str(error)), soft_wrap=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        err.print("Interrupted; 'python -m lab down' removes what there is.")
        sys.exit(130)
