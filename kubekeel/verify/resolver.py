"""Prints as JSON what the roles would set on each node. A program: it runs alone, and takes its question from standard input."""

import json
import os
import pathlib
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

# ansible-core needs to be the first to import a collection.
from ansible import constants, context
from ansible.cli import CLI
from ansible.errors import AnsibleError
from ansible.inventory.host import Host
from ansible.inventory.manager import InventoryManager
from ansible.module_utils.common.collections import ImmutableDict
from ansible.parsing.dataloader import DataLoader
from ansible.playbook.play import Play
from ansible.plugins.loader import init_plugin_loader
from ansible.template import Templar, trust_as_template
from ansible.vars.hostvars import HostVars
from ansible.vars.manager import VariableManager

GROUPS = ("servers", "agents")
DISTRIBUTIONS = ("k3s", "microk8s")
Wanted = dict[str, Any]
"""See wanted.py."""


class _Playbook:
    """The remedies as a play that is never run."""

    def __init__(self, inventory: str, limit: str, variables: Sequence[str]) -> None:
        context.CLIARGS = ImmutableDict(extra_vars=tuple(variables), check=True, diff=False)
        init_plugin_loader()
        self.loader = DataLoader()
        secrets = CLI.setup_vault_secrets(self.loader, vault_ids=constants.DEFAULT_VAULT_IDENTITY_LIST, auto_prompt=False)
        self.loader.set_vault_secrets(secrets)
        self.inventory = InventoryManager(loader=self.loader, sources=[inventory])
        self.manager = VariableManager(loader=self.loader, inventory=self.inventory, version_info=CLI.version_info(gitinfo=False))
        # Makes itself known to the manager.
        HostVars(inventory=self.inventory, variable_manager=self.manager, loader=self.loader)
        # The collection is there only since the loader is.
        import ansible_collections.kubekeel.ha as ours

        folder = pathlib.Path(next(iter(ours.__path__))) / "playbooks"
        play = {"name": "Remedies", "hosts": "all", "gather_facts": False, "vars_files": [str(folder / "vars/nodes.yml")]}
        tasks = [{"import_tasks": str(folder / "tasks/remedies.yml")}]
        self.play = Play().load({**play, "tasks": tasks}, variable_manager=self.manager, loader=self.loader)
        self.tasks = list(_tasks(self.play.compile()))
        self.hosts = self.inventory.get_hosts(":".join(GROUPS))
        self.inventory.subset(limit or None)
        self.limited = self.inventory.get_hosts(":".join(GROUPS))

    def templar(self, host: Host, task: Any = None) -> Templar:
        """Return what puts the variables of a node, in a task of a role, in their places."""
        return Templar(loader=self.loader, variables=self.manager.get_vars(play=self.play, host=host, task=task))

    def pretend(self, distribution: str) -> None:
        """Let every node run a distribution, which is what C(preflight) finds out, and look at it as a survey does."""
        facts = {"preflight_info": {"distribution": distribution, "absent": []}, "kubekeel_survey": True}
        for host in self.hosts:
            self.manager.set_nonpersistent_facts(host.name, facts)

    def wanted(self, host: Host) -> dict[str, Any]:
        """Return what the tasks would set on a node of the distribution that is pretended."""
        from ansible_collections.kubekeel.ha.plugins.module_utils import health
        from ansible_collections.kubekeel.ha.plugins.modules import component_args

        flags: dict[str, dict[str, str | None]] = {}
        environment: dict[str, str | None] = {}
        sysctls: dict[str, str] = {}
        kubelet: dict[str, Any] = {}
        for task in self.tasks:
            if task.resolved_action not in _OPTIONS:
                continue
            templar = self.templar(host, task)
            if not all(templar.evaluate_conditional(condition) for condition in task.when):
                continue
            option = templar.template(task.args)[_OPTIONS[task.resolved_action]]
            match task.resolved_action.removeprefix(_OURS):
                case "component_args":
                    for component, named in component_args.wanted_flags(option).items():
                        flags.setdefault(component, {}).update(named)
                case "service_environment":
                    environment.update({name: None if value is None else str(value) for name, value in option.items()})
                case "sysctl_profile":
                    sysctls.update({name: str(value) for name, value in option.items()})
                case "kubelet_configuration":
                    kubelet.update(option)
        # Without a file, or without the field, the kubelet takes its own.
        lease = kubelet.get("nodeLeaseDurationSeconds") or health.LEASE_DURATION
        return {"flags": flags, "environment": environment, "sysctls": sysctls, "node_lease": lease}


_OURS = "kubekeel.ha."
_OPTIONS = {
    _OURS + "component_args": "components",
    _OURS + "service_environment": "environment",
    _OURS + "sysctl_profile": "settings",
    _OURS + "kubelet_configuration": "settings",
}
"""The modules that set what can be seen on a node, and the option of each that says what."""


_OF_THE_NODE = {
    "distribution": "{{ kubekeel_distribution | default('auto') }}",
    "node_name": "{{ kubekeel_node_name | default('') }}",
    "ignored": "{{ preflight_ignore_nodes | default([]) }}",
    "python": "{{ ansible_python_interpreter | default('') }}",
}


def _tasks(items: Any) -> Iterator[Any]:
    """Give every task below blocks, in order."""
    for item in items:
        if hasattr(item, "block"):
            yield from _tasks(item.block)
        else:
            yield item


def _node(playbook: _Playbook, host: Host) -> Wanted:
    """Return what the inventory says of a node itself."""
    found = playbook.templar(host).template({name: trust_as_template(text) for name, text in _OF_THE_NODE.items()})
    groups = {group.name for group in host.get_groups()}
    return {**found, "kind": "server" if "servers" in groups else "agent"}


def _resolve(inventory: str, limit: str, variables: Sequence[str]) -> dict[str, Wanted]:
    playbook = _Playbook(inventory, limit, variables)
    if not playbook.limited:
        raise AnsibleError(f"it has no node in its groups {' and '.join(GROUPS)}" + (f" that {limit} names" if limit else ""))
    nodes: dict[str, Wanted] = {}
    for host in playbook.limited:
        nodes[host.name] = _say(partial(_node, playbook, host))
    for distribution in DISTRIBUTIONS:
        playbook.pretend(distribution)
        for host in playbook.limited:
            node = nodes[host.name]
            if node.get("distribution") in ("auto", distribution):
                found = _say(partial(playbook.wanted, host))
                node.update({"problem": found["problem"]} if "problem" in found else {distribution: found})
    return nodes


def _say(ask: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return an answer, or what kept it away as C(problem)."""
    from ansible_collections.kubekeel.ha.plugins.module_utils.node_files import NodeError

    try:
        found: dict[str, Any] = ask()
        json.dumps(found)
    except (AnsibleError, NodeError, TypeError, ValueError) as error:
        return {"problem": " ".join(f"the inventory's variables cannot be resolved: {error}".split())}
    return found


def _main() -> None:
    # What plugins print is not the answer.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    asked = json.load(sys.stdin)
    try:
        answer: dict[str, Any] = {"nodes": _resolve(asked["inventory"], asked["limit"], asked["variables"])}
    except AnsibleError as error:
        answer = {"problem": " ".join(str(error).split())}
    answers.write(json.dumps(answer))
    answers.close()


if __name__ == "__main__":
    _main()
