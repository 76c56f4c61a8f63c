"""What has to agree: defaults, argument specs, the example inventory and the collection's metadata."""

import pathlib
import tomllib
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from ansible_collections.kubekeel.ha.plugins.module_utils import guards

import kubekeel

ROOT = pathlib.Path(__file__).parents[2]
ROLES = sorted(path.name for path in (ROOT / "roles").iterdir())
# What the playbooks set, not the operator.
INTERNAL = {
    "drill_computed",
    "k3s_lb_state_state",
    "k3s_lb_state_endpoints",
    "k3s_lb_state_force",
    "preflight_enforce",
    "rollback_gate",
    "rollback_run_id",
    "rolling_restart_units",
    "rolling_restart_gate",
    "rolling_restart_node",
}


def load(path: pathlib.Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text()) if path.exists() else {}


def spec(role: str) -> dict[str, Any]:
    found: dict[str, Any] = load(ROOT / "roles" / role / "meta/argument_specs.yml")["argument_specs"]["main"]["options"]
    return found


@pytest.mark.parametrize("role", ROLES)
def test_defaults_and_argument_specs_agree(role: str) -> None:
    defaults = load(ROOT / "roles" / role / "defaults/main.yml")
    options = spec(role)
    assert set(options) == set(defaults) | {name for name, option in options.items() if option.get("required")}
    for name, option in options.items():
        if isinstance(defaults.get(name), str) and "{{" in defaults[name]:
            assert "default" not in option, "what is computed cannot be stated"
        else:
            assert option.get("default") == defaults.get(name)
        assert option["description"]
        assert name.startswith(role + "_")


@pytest.mark.parametrize(("distribution", "foreign"), [("microk8s", "k3s_"), ("k3s", "microk8s_")])
def test_the_example_inventories_name_every_variable_of_every_role(distribution: str, foreign: str) -> None:
    text = (ROOT / f"inventories/{distribution}/group_vars/all.yml").read_text()
    wanted = {name for role in ROLES for name in spec(role) if not name.startswith(foreign)} - INTERNAL
    assert {name for name in wanted if f"\n# {name}:" not in text} == set()


@pytest.mark.parametrize("distribution", ["microk8s", "k3s"])
def test_the_example_inventories_state_the_defaults(distribution: str) -> None:
    text = (ROOT / f"inventories/{distribution}/group_vars/all.yml").read_text()
    stated = yaml.safe_load(
        "\n".join(line.removeprefix("# ") for line in text.splitlines() if line.startswith(("# ", "#   ")) and is_yaml(line))
    )
    for role in ROLES:
        for name, option in spec(role).items():
            if name in stated and "default" in option and name != "extra_args_components":
                assert stated[name] == option["default"]


def is_yaml(line: str) -> bool:
    words = line.removeprefix("# ").split()
    return bool(words) and words[0].endswith(":") and "_" in words[0]


def test_what_can_be_accepted_is_what_is_refused() -> None:
    option = spec("preflight")["preflight_accept"]
    assert option["choices"] == list(guards.ACCEPTABLE)
    for name in guards.ACCEPTABLE:
        assert any(line.startswith(f"V({name}), ") for line in option["description"])
        text = (ROOT / "inventories/microk8s/group_vars/all.yml").read_text()
        assert name in text.partition("# preflight_accept:")[0]


def tasks_of(found: Any) -> Iterator[dict[str, Any]]:
    """Every task of a file, those of blocks included."""
    for entry in found or []:
        yield entry
        for name in ("tasks", "block", "rescue", "always"):
            yield from tasks_of(entry.get(name))


def test_a_server_that_cannot_be_asked_does_not_end_the_play_of_the_node_that_asks() -> None:
    """With any_errors_fatal or run_once ansible-core calls the node failed although it was told to ignore that."""
    paths = [*(ROOT / "roles").glob("*/tasks/*.yml"), *(ROOT / "playbooks").rglob("*.yml")]
    lists = [found for found in map(load, paths) if isinstance(found, list)]
    tasks = [task for found in lists for task in tasks_of(found) if task.get("ignore_unreachable")]
    assert len(tasks) > 3
    assert [task["name"] for task in tasks if task.get("any_errors_fatal") is not False or task.get("run_once")] == []


def test_versions_agree() -> None:
    galaxy = load(ROOT / "galaxy.yml")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert galaxy["version"] == kubekeel.__version__
    assert f"ansible-core{load(ROOT / 'meta/runtime.yml')['requires_ansible'].removesuffix('.0')}" in project["dependencies"][0]
