"""The profiles: whole, sound, and what the roles take where the inventory says nothing."""

import contextlib
import importlib
import json
import os
import pathlib
import subprocess
import sys
from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleFilterError
from ansible_collections.kubekeel.ha.plugins.filter.profile_value import profile_value
from ansible_collections.kubekeel.ha.plugins.filter.write_latency_refusal import write_latency_refusal
from ansible_collections.kubekeel.ha.plugins.module_utils import timing, write_latency
from ansible_collections.kubekeel.ha.plugins.plugin_utils import profiles

ROOT = pathlib.Path(__file__).parents[2]
FILTERS = ROOT / "plugins/filter"
NAMES = sorted(path.stem for path in (ROOT / "profiles").iterdir())
ROLES = ("leader_election", "node_lifecycle", "eviction", "tcp_timeouts")
BALANCED = profiles.load("balanced")["values"]


def options() -> dict[str, Any]:
    """The options of the roles that take their values of a profile."""
    specs = [yaml.safe_load((ROOT / "roles" / role / "meta/argument_specs.yml").read_text()) for role in ROLES]
    return {name: option for spec in specs for name, option in spec["argument_specs"]["main"]["options"].items()}


def test_there_are_three() -> None:
    assert sorted(profiles.BY_SPEED) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_profile_is_whole(name: str) -> None:
    profile = profiles.load(name)
    assert set(profile) == {"summary", "cost", "needs", "values"}
    assert all(profile[part].strip() for part in ("summary", "cost", "needs"))
    assert list(profile["values"]) == list(BALANCED)
    assert set(profile["values"]) <= set(options())
    for variable, value in profile["values"].items():
        assert profile_value(name, variable) == value
        assert value is None or type(value).__name__ == options()[variable]["type"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("own_election", ["5s", "3s"])
def test_a_profile_obeys_every_rule(name: str, own_election: str) -> None:
    values = profiles.load(name)["values"]
    election = values["leader_election_etcd_election_timeout"] if own_election == "5s" else None
    heartbeat = values["leader_election_etcd_heartbeat_interval"]
    durations = {
        "lease_duration": values["leader_election_lease_duration"],
        "renew_deadline": values["leader_election_renew_deadline"],
        "retry_period": values["leader_election_retry_period"],
        "election_timeout": f"{election}ms" if election else own_election,
        "etcd_heartbeat_interval": f"{heartbeat}ms" if heartbeat else "500ms",
        **{key: values[f"node_lifecycle_{key}"] for key in ("monitor_period", "monitor_grace_period", "status_update_frequency")},
        **{key: f"{values[f'node_lifecycle_{key}']}s" for key in ("node_lease_duration", "http2_read_idle_timeout", "http2_ping_timeout")},
    }
    assert {name for rule in timing.RULES for name in rule.names} == set(durations)
    assert timing.violations(durations) == []


def test_every_default_is_the_profiles() -> None:
    for role in ROLES:
        defaults = yaml.safe_load((ROOT / "roles" / role / "defaults/main.yml").read_text())
        for variable in set(defaults) & set(BALANCED):
            assert defaults[variable] == "{{ kubekeel_profile | default('balanced') | kubekeel.ha.profile_value('%s') }}" % variable
    assert set(BALANCED) <= set(options())


@pytest.mark.parametrize("distribution", ["microk8s", "k3s"])
def test_the_example_inventories_state_balanced(distribution: str) -> None:
    lines = (ROOT / f"inventories/{distribution}/group_vars/all.yml").read_text().splitlines()
    for variable, value in BALANCED.items():
        (line,) = [line for line in lines if line.startswith(f"# {variable}:")]
        assert yaml.safe_load(line.removeprefix("# ")) == {variable: value}


@pytest.mark.parametrize(
    ("name", "variable", "part"),
    [
        ("quick", "eviction_not_ready_toleration_seconds", "there is no profile 'quick'; there are balanced, conservative, fast"),
        ("../profiles/fast", "eviction_not_ready_toleration_seconds", "there is no profile"),
        (None, "eviction_not_ready_toleration_seconds", "there is no profile None"),
        ("fast", "kube_proxy_mode", "no profile has a value for kube_proxy_mode"),
    ],
)
def test_what_there_is_not(name: object, variable: str, part: str) -> None:
    with pytest.raises(AnsibleFilterError, match=part):
        profile_value(name, variable)


PLAY = """
- hosts: localhost
  gather_facts: false
  tasks:
    - ansible.builtin.import_role:
        name: kubekeel.ha.{role}
      # The check of the arguments has the tag always, the role's tasks are not run.
      tags: never
{roles}
    - ansible.builtin.copy:
        content: "{{{{ dict(names | zip(query('ansible.builtin.vars', *names))) | to_json }}}}"
        dest: "{{{{ result }}}}"
        mode: "0600"
"""
IMPORT = """
    - ansible.builtin.import_role:
        name: kubekeel.ha.{role}
      tags: never
"""


def values_of(tmp_path: pathlib.Path, **given: object) -> dict[str, Any]:
    """Return what the roles get, as Ansible computes it, after it checked the types."""
    names = [*BALANCED, "leader_election_election_timeout"]
    play, result = tmp_path / "play.yml", tmp_path / "result.json"
    others = "".join(IMPORT.format(role=role) for role in ROLES[1:])
    play.write_text(PLAY.format(role=ROLES[0], roles=others))
    extra = json.dumps({"names": names, "result": str(result), "ansible_python_interpreter": sys.executable, **given})
    done = subprocess.run(
        ["ansible-playbook", "-i", "localhost,", "-c", "local", "-e", extra, str(play)],
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_NOCOLOR": "1"},
        text=True,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(result.read_text())
    return found


@pytest.mark.parametrize("name", NAMES)
def test_the_roles_get_the_values_of_the_profile(tmp_path: pathlib.Path, name: str) -> None:
    found = values_of(tmp_path, kubekeel_profile=name)
    etcd = profiles.load(name)["values"]["leader_election_etcd_election_timeout"]
    assert found.pop("leader_election_election_timeout") == (f"{etcd}ms" if etcd else "5s")
    assert found == profiles.load(name)["values"]


def test_a_variable_counts_more_than_the_profile(tmp_path: pathlib.Path) -> None:
    given = {
        "leader_election_renew_deadline": "9s",
        "node_lifecycle_node_lease_duration": 20,
        "preflight_info": {"distribution": "microk8s"},
    }
    assert values_of(tmp_path, **given) == {**BALANCED, **dict(list(given.items())[:2]), "leader_election_election_timeout": "3s"}


@pytest.mark.parametrize(
    ("p99", "deadline", "period", "part"),
    [
        (0.7, "7s", "500ms", ""),
        (0.71, "7s", "500ms", "10 writes have to fit into the renew deadline of 7s, so 700 ms is the most"),
        (1.0, "30s", "500ms", "less than 2 retry periods of 500ms"),
        (1.0, "10s", "1s", ""),
    ],
)
def test_margins(p99: float, deadline: str, period: str, part: str) -> None:
    found = write_latency.refusal(p99, deadline, period)
    assert part in found
    assert bool(found) is bool(part)


@pytest.mark.parametrize(("p99", "name"), [(0.01, "fast"), (0.8, "balanced"), (1.1, "conservative"), (3.1, None)])
def test_the_profile_that_fits(p99: float, name: str | None) -> None:
    known = {known: profiles.load(known)["values"] for known in profiles.BY_SPEED}
    assert write_latency.fitting(p99, known) == name
    text = write_latency.advice(p99, "7s", "500ms", known)
    assert (text == "") is (name == "fast")
    assert ("no profile fits" in text) is (name is None)
    assert not text or name is None or f"choose kubekeel_profile={name}, or a longer leader_election_renew_deadline" in text


def test_percentiles() -> None:
    lengths = [length / 1000 for length in range(100, 0, -1)]
    assert [write_latency.percentile(lengths, share) for share in (0.5, 0.99, 1.0)] == [0.05, 0.099, 0.1]
    assert write_latency.percentile([3.0], 0.99) == 3.0


@pytest.mark.parametrize("p99", ["nan", "inf", -1, "x", None, 10**400])
def test_what_is_no_length_of_a_write_is_refused(p99: object) -> None:
    with pytest.raises(AnsibleFilterError, match="write_latency_refusal"):
        write_latency_refusal(p99, "7s", "500ms")


WRONG: tuple[Any, ...] = (None, 1, "x", ["x"], {"x": None}, {"x": [{}]})


def test_every_filter_refuses_what_it_cannot_work_on() -> None:
    files = [importlib.import_module(f"ansible_collections.kubekeel.ha.plugins.filter.{path.stem}") for path in FILTERS.glob("*.py")]
    filters = {name: work for file in files for name, work in file.FilterModule().filters().items()}
    assert len(filters) > 10
    for name, work in filters.items():
        for number in range(4):
            for argument in WRONG:
                with contextlib.suppress(AnsibleFilterError):
                    work(*[argument] * number)
        with pytest.raises(AnsibleFilterError, match=f"{name} cannot work on that: TypeError"):
            work()
