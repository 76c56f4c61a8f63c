"""The Ansible inventory of a lab."""

import shutil
from pathlib import Path

import yaml

from . import distributions
from .image import OPERATOR
from .state import State
from .topology import Node

MARK = "# Written by the lab"
FILE = "hosts.yml"
# Becomes a comment in the file: PyYAML cannot write one.
PROXY_MODE = "kube_proxy_mode: iptables"
PROXY_MODE_REASON = "the nodes share the host's kernel, which need not have ip_vs"


def render(state: State) -> str:
    """Return the inventory's text."""
    document = {
        "all": {
            "vars": {
                "ansible_user": OPERATOR,
                "ansible_become": True,
                "ansible_ssh_private_key_file": str(state.key),
                "ansible_ssh_common_args": f"-o UserKnownHostsFile={state.known_hosts} -o IdentitiesOnly=yes",
                "ansible_control_path_dir": str(state.control_path),
                "ansible_python_interpreter": "/usr/bin/python3",
                "kubekeel_distribution": state.distribution,
                "kube_proxy_mode": "iptables",
            },
            "children": {
                "servers": {"hosts": {node.name: {"ansible_host": node.address} for node in state.topology.servers}},
                "agents": {"hosts": {node.name: {"ansible_host": node.address} for node in state.topology.agents}},
                **{group: {"hosts": {node.name: {} for node in nodes}} for group, nodes in roles(state).items()},
            },
        }
    }
    text = yaml.safe_dump(document, sort_keys=False, width=1000)
    head = f"{MARK} '{state.topology.lab}' (python -m lab up); the next 'up' overwrites it, 'down' removes it.\n---\n"
    return head + text.replace(PROXY_MODE, f"{PROXY_MODE}  # {PROXY_MODE_REASON}")


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
