"""The Ansible inventory of a lab."""

import shlex
import shutil
import sys
from pathlib import Path

import yaml

from . import distributions
from .image import OPERATOR, POD_IMAGE
from .microk8s import MicroK8s
from .state import State
from .topology import SSH_PORT, Node

ROOT = Path(__file__).parents[1]
MARK = "# Written by the lab"
FILE = "hosts.yml"
# Become comments in the file, behind the variable of that name: PyYAML cannot write one.
REASONS = {
    "kube_proxy_mode": "the nodes share the host's kernel, which need not have ip_vs",
    "preflight_spare": "there is one server: while it restarts there is no API",
    "leader_election_election_timeout": "the stand-in for Dqlite is etcd, with etcd's default",
}
ONE_SERVER: dict[str, bool | str] = {"preflight_spare": False}


def render(state: State) -> str:
    """Return the inventory's text."""
    document = {
        "all": {
            "vars": {
                "ansible_user": OPERATOR,
                "ansible_become": True,
                "ansible_ssh_private_key_file": str(state.key),
                "ansible_ssh_extra_args": "-o ServerAliveInterval=5 -o ServerAliveCountMax=6",
                "ansible_ssh_common_args": f"-o UserKnownHostsFile={state.known_hosts} -o IdentitiesOnly=yes",
                "ansible_control_path_dir": str(state.control_path),
                "ansible_python_interpreter": "/usr/bin/python3",
                "kubekeel_distribution": distributions.layout(state.distribution),
                "kubekeel_cluster": state.topology.lab,
                **({} if state.topology.guests else {"kube_proxy_mode": "iptables"}),
                **({"leader_election_election_timeout": "1s"} if distributions.layout(state.distribution) == MicroK8s.name else {}),
                **(ONE_SERVER if state.topology.guests else drill(state)),
            },
            "children": {
                "servers": {"hosts": {node.name: host(state, node) for node in state.topology.servers}},
                "agents": {"hosts": {node.name: host(state, node) for node in state.topology.agents}},
                **{group: {"hosts": {node.name: {} for node in nodes}} for group, nodes in roles(state).items()},
            },
        }
    }
    text = yaml.safe_dump(document, sort_keys=False, width=1000)
    head = f"{MARK} '{state.topology.lab}' (python -m lab up); the next 'up' overwrites it, 'down' removes it.\n---\n"
    return head + "".join(explained(line) for line in text.splitlines(keepends=True))


def host(state: State, node: Node) -> dict[str, str | int]:
    """Return a node's own variables."""
    variables: dict[str, str | int] = {"ansible_host": node.ssh_address}
    if node.ssh_port != SSH_PORT:
        variables["ansible_port"] = node.ssh_port
    elif state.topology.guests:
        # Beside a machine with a kernel of its own, where a mode can be chosen.
        variables["kube_proxy_mode"] = "iptables"
    return variables


def explained(line: str) -> str:
    """Return a line with the reason for its variable, where that needs one."""
    reason = REASONS.get(line.partition(":")[0].strip())
    return f"{line.rstrip()}  # {reason}\n" if reason else line


def drill(state: State) -> dict[str, bool | str]:
    """Return how a drill takes a node's power and gives it back, by commands on this host."""

    def command(verb: str, *options: str) -> str:
        # The lab's folder, not the caller's environment, says where the cache is.
        cache = f"KUBEKEEL_CACHE={state.folder.parents[1]}"
        return " ".join([shlex.join(["env", cache, sys.executable, "-m", "lab", verb, "--name", state.topology.lab]), *options, "{node}"])

    return {
        "drill_method": "command",
        "drill_command_folder": str(ROOT),
        "drill_loss_command": command("power-off"),
        "drill_return_command": command("power-on"),
        "drill_freeze_command": command("freeze", "--seconds", "{seconds}"),
        "drill_image": POD_IMAGE,
        "drill_image_pull_policy": "Never",
    }


def roles(state: State) -> dict[str, tuple[Node, ...]]:
    """Return the groups that tell servers apart, where the distribution has more than one kind of them."""
    if not distributions.find(state.distribution).splits_servers:
        return {}
    return {"etcd": state.topology.datastore, "control_plane": state.topology.api_servers}


def write(state: State) -> None:
    """Write the inventory into its folder."""
    state.inventory.mkdir(parents=True, exist_ok=True)
    (state.inventory / FILE).write_text(render(state))


def is_ours(folder: Path) -> bool:
    """Tell whether an inventory was written by the lab."""
    try:
        return (folder / FILE).read_text().startswith(MARK)
    except OSError:
        return False


def remove(folder: Path) -> None:
    """Remove an inventory of the lab's own; what somebody else put beside it stays."""
    if not is_ours(folder):
        return
    (folder / FILE).unlink()
    if not any(folder.iterdir()):
        shutil.rmtree(folder)
