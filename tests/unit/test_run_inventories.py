"""Which inventory is meant, and one cluster out of many."""

import json
import pathlib
import subprocess

import pytest
import yaml

from kubekeel import inventories
from kubekeel.errors import UsageError

FLEET = """\
all:
  vars: {everywhere: 1}
  children:
    clusters:
      children:
        north: {hosts: {n1: {ansible_host: 192.0.2.1}, n2: {}}, vars: {kubekeel_profile: fast}}
        south: {hosts: {s1: {}}}
    servers: {hosts: {n1: {}, s1: {}}}
    agents: {hosts: {n2: {secret: !vault "$ANSIBLE_VAULT;1.1;AES256\\n6162", raw: !unsafe "{{ not a template }}"}}}
    racks: {children: {rack1: {hosts: {n1: {}, s1: {}}}}}
"""


@pytest.fixture(autouse=True)
def nothing_chosen(monkeypatch, tmp_path):
    for name in ("KUBEKEEL_INVENTORY", "ANSIBLE_INVENTORY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KUBEKEEL_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def fleet(tmp_path):
    path = tmp_path / "fleet.yml"
    path.write_text(FLEET)
    return path


def listed(path):
    return inventories.listing(path)


def test_a_cluster_of_a_fleet_is_an_inventory_of_its_own(fleet, tmp_path):
    found = inventories.find(f"{fleet}#north")
    assert (found.cluster, found.label, str(found)) == ("north", "north", f"{fleet}#north")
    with inventories.opened(found, tmp_path) as path:
        text = path.read_text()
        alone = listed(path)
    assert not path.exists()
    assert (alone["servers"]["hosts"], alone["agents"]["hosts"], alone["rack1"]["hosts"]) == (["n1"], ["n2"], ["n1"])
    assert "s1" not in json.dumps(alone)
    variables = alone["_meta"]["hostvars"]["n1"]
    expected = {"ansible_host": "192.0.2.1", "everywhere": 1, "kubekeel_profile": "fast", "kubekeel_cluster": "north"}
    assert {name: variables[name] for name in expected} == expected
    assert "!vault" in text
    assert yaml.compose(text)
    assert "!unsafe '{{ not a template }}'" in text


def test_a_cluster_without_agents_has_the_group_all_the_same(fleet):
    made = inventories.restricted(listed(fleet), "south")
    assert made["all"]["children"]["agents"] == {"hosts": {}}


def test_a_fleet_is_known_by_its_group(fleet, tmp_path):
    assert inventories.clusters(fleet) == ["north", "south"]
    (tmp_path / "one.yml").write_text("all: {children: {servers: {hosts: {n1: {}}}}}\n")
    assert inventories.clusters(tmp_path / "one.yml") == []


def test_an_inventory_of_one_cluster_costs_no_question_to_ansible(tmp_path, monkeypatch):
    (tmp_path / "one.yml").write_text("all: {children: {servers: {hosts: {n1: {}}}}}\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("asked Ansible"))
    assert inventories.clusters(tmp_path / "one.yml") == []


@pytest.mark.parametrize(("given", "told"), [("none.yml", "no inventory none.yml"), ("fleet.yml#east", "it has north, south")])
def test_what_is_not_there_is_said(fleet, monkeypatch, given, told):
    monkeypatch.chdir(fleet.parent)
    with pytest.raises(UsageError, match=told):
        inventories.find(given)


def test_a_file_that_is_no_inventory_is_said(tmp_path):
    (tmp_path / "broken.yml").write_text("clusters: [")
    with pytest.raises(UsageError, match="Ansible cannot read the inventory"):
        inventories.clusters(tmp_path / "broken.yml")


def test_the_environment_is_asked_before_the_lab(fleet, monkeypatch):
    monkeypatch.setenv("ANSIBLE_INVENTORY", str(fleet))
    assert inventories.find().path == fleet
    monkeypatch.setenv("KUBEKEEL_INVENTORY", f"{fleet}#south")
    assert inventories.find().cluster == "south"


def test_the_lab_that_stands_is_the_default(tmp_path):
    with pytest.raises(UsageError, match="kubekeel lab up"):
        inventories.find()
    folder = tmp_path / "inventories/lab"
    folder.mkdir(parents=True)
    state = pathlib.Path(tmp_path / "cache/labs/lab")
    state.mkdir(parents=True)
    topology: dict[str, object] = {"lab": "lab", "subnet": "192.0.2.0/24", "nodes": [], "registration": None}
    known = {"topology": topology, "distribution": "k3s", "version": "v1", "inventory": str(folder), "api_port": 6443}
    (state / "lab.json").write_text(json.dumps(known))
    found = inventories.find()
    assert (found.path, found.is_lab, found.label) == (folder, True, "lab")
    assert not inventories.find(str(folder)).is_lab
