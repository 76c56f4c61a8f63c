"""Fixtures of the suite: every node is read once, by one command."""

import os
from collections.abc import Mapping
from typing import Any

import pytest
from testinfra.utils.ansible_runner import AnsibleRunner

from kubekeel import jobs
from kubekeel.errors import KubekeelError
from kubekeel.verify import facts, plugin, wanted
from kubekeel.verify.checks import READ, Check, Node

WANTED = pytest.StashKey[Mapping[str, Mapping[str, Any]]]()


def pytest_configure(config: pytest.Config) -> None:
    """Take connections from the inventory, and Ansible itself for what testinfra cannot do of them."""
    inventory = config.getoption("ansible_inventory", default=None)
    if not inventory:
        pytest.exit("say which nodes: --hosts=ansible://servers,agents --ansible-inventory=INVENTORY", pytest.ExitCode.USAGE_ERROR)
    os.environ.update(jobs.environment())
    # The same for a second group in --hosts=ansible://servers,agents.
    config.option.connection = config.option.connection or "ansible"
    limit = config.getoption("kubekeel_limit", default="")
    try:
        found = wanted.read(inventory, limit, config.getoption("kubekeel_variables", default=[]))
    except KubekeelError as error:
        pytest.exit(str(error), pytest.ExitCode.USAGE_ERROR)
    config.stash[WANTED] = found
    runner = AnsibleRunner.get_runner(inventory)
    needs = facts.settings_need_ansible(runner.ansible_config) or any(facts.needs_ansible(runner.get_variables(name)) for name in found)
    config.option.force_ansible = config.option.force_ansible or needs
    if limit or not config.option.hosts:
        config.option.hosts = ",".join(f"ansible://{name}" for name in found)


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest) -> facts.Cluster:
    """Every node that is tested, as it was found."""
    hosts = {one.backend.host: one for one in map(_host, request.session.items) if one is not None}
    found = facts.read(list(hosts.values()), request.config.stash[WANTED])
    report = request.config.pluginmanager.get_plugin(plugin.NAME)
    if report:
        report.write({"nodes": {name: _about(name, node, found) for name, node in request.config.stash[WANTED].items()}})
    return found


def _host(item: pytest.Item) -> Any:
    return item.callspec.params.get("_testinfra_host") if isinstance(item, pytest.Function) and hasattr(item, "callspec") else None


def _about(name: str, asked: Mapping[str, Any], found: facts.Cluster) -> dict[str, Any]:
    node = found.nodes.get(name)
    mine = ((node.view or {}).get("nodes") or {}).get(node.name_in_kubernetes, {}) if node else {}
    return {
        "role": asked.get("kind", ""),
        "distribution": node.facts["distribution"] if node else "",
        "release": mine.get("release", ""),
        "problem": found.problems.get(name, ""),
    }


@pytest.fixture
def node(_testinfra_host: Any, check: Check, cluster: facts.Cluster, request: pytest.FixtureRequest) -> Node:
    """The node that is tested."""
    name = _testinfra_host.backend.host
    told = request.node.user_properties
    told += [(plugin.NODE, name), (plugin.CHECK, check.name)]
    asked = request.config.stash[WANTED].get(name, {})
    problem = cluster.problems.get(name)
    if problem and {name, asked.get("node_name")} & set(asked.get("ignored", ())):
        pytest.skip(f"it may be down (preflight_ignore_nodes): {problem}")
    if problem and check is not READ:
        pytest.skip("it could not be read")
    if problem:
        told += [(plugin.STATUS, "unread"), (plugin.EVIDENCE, problem)]
        pytest.fail(f"{name}: {problem}", pytrace=False)
    if name not in cluster.nodes:
        pytest.skip(f"{name} is neither in the group servers nor in agents")
    return cluster.nodes[name]
