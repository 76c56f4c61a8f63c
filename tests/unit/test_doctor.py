"""The doctor: what it finds on this machine, of inventories, and of nodes that cannot be managed."""

import io
import json
import pathlib
import sys
import time
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import yaml
from rich.console import Console

from kubekeel import doctor, jobs
from kubekeel.doctor import Line
from kubekeel.inventories import Inventory

ROOT = pathlib.Path(__file__).parents[2]
NOW = 1_800_000_000.0


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    """Give a machine that is busy with other tests its time."""
    for name, seconds in (("TASK", 60), ("NODES", 90.0), ("COMMAND", 60.0)):
        monkeypatch.setattr(doctor, name, seconds)
    monkeypatch.setenv("KUBEKEEL_RUNS", str(tmp_path / "state" / "runs"))


def program(path: pathlib.Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def inventory(tmp_path: pathlib.Path, servers: Mapping[str, Any], agents: Mapping[str, Any] | None = None, **variables: Any) -> Inventory:
    path = tmp_path / "hosts.yml"
    children = {"servers": {"hosts": dict(servers)}, "agents": {"hosts": dict(agents or {})}}
    path.write_text(yaml.safe_dump({"all": {"vars": {"ansible_connection": "local", **variables}, "children": children}}))
    return Inventory(path)


def by_name(lines: Sequence[Line]) -> dict[str, Line]:
    names = [line.what for line in lines]
    assert len(set(names)) == len(names)
    return {line.what: line for line in lines}


def test_nodes_that_can_and_that_cannot_be_managed(tmp_path: pathlib.Path) -> None:
    ssh = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 9}
    sudo = program(tmp_path / "sudo", "echo 'sudo: a password is required' >&2; exit 1")
    found = inventory(
        tmp_path,
        {"well": {}, "closed": ssh, "closed.two": ssh},
        {
            "bare": {"ansible_python_interpreter": "/nonexistent/python3"},
            "locked": {"ansible_become": True, "ansible_become_user": "nobody", "ansible_become_exe": sudo},
        },
        ansible_python_interpreter=sys.executable,
    )
    began = time.monotonic()
    lines = by_name(doctor.examine(found, why="given"))
    assert time.monotonic() - began < 60, "a node that is away does not keep anybody waiting"
    assert lines["inventory"] == Line("inventory", f"{found.path} (given)", ok=True)
    assert lines["nodes"].value == "3 servers, 2 agents"
    assert (lines["profile"].value, lines["profile"].ok) == ("balanced", True)
    assert lines["node well"].value.startswith(f"answers, Python {sys.version_info[0]}.{sys.version_info[1]}.")
    for name in ("closed", "closed.two"):
        line = lines[f"node {name}"]
        assert line.value.startswith("unreachable, nobody listens there: ssh: connect to host 127.0.0.1 port 9")
        assert "sshd" in line.cure
    assert lines["node bare"].value.startswith("cannot be managed, Python is missing")
    assert "ansible_python_interpreter" in lines["node bare"].cure
    assert lines["node locked"].value == "cannot be managed, sudo needs a password: sudo: a password is required"
    assert {name for name, line in lines.items() if line.ok is False and name.startswith("node ")} >= {
        "node closed",
        "node closed.two",
        "node bare",
        "node locked",
    }
    assert not doctor.is_well(list(lines.values()))


def test_another_copy_of_the_collection_is_found(tmp_path: pathlib.Path) -> None:
    stale = tmp_path / "ansible_collections" / "kubekeel" / "ha"
    (stale / "plugins" / "modules").mkdir(parents=True)
    (stale / "MANIFEST.json").write_text(json.dumps({"collection_info": {"namespace": "kubekeel", "name": "ha", "version": "0.0.9"}}))
    environment = jobs.environment()
    environment["ANSIBLE_COLLECTIONS_PATH"] = f"{tmp_path}:{environment['ANSIBLE_COLLECTIONS_PATH']}"
    lines = by_name(doctor.examine(None, missing="No inventory: give one", environment=environment))
    assert lines["collection kubekeel.ha"].ok is False
    assert lines["collection kubekeel.ha"].value.startswith(f"0.0.9 at {stale}, which is not the one of this kubekeel")
    assert f"remove {stale}" in lines["collection kubekeel.ha"].cure
    assert lines["inventory"] == Line("inventory", "none", ok=False, cure="No inventory: give one")


def test_without_ansible(tmp_path: pathlib.Path) -> None:
    lines = by_name(doctor.examine(None, missing="none", environment={"PATH": str(tmp_path)}))
    assert lines["ansible-core"].value == "there is no command ansible"
    assert lines["ansible-core"].ok is False
    assert (lines["git"].value, lines["git"].ok) == ("not there", None), "only some commands need it"
    broken = program(tmp_path / "ansible", "echo 'ModuleNotFoundError: jinja2'; exit 1")
    assert broken
    lines = by_name(doctor.examine(None, missing="none", environment={"PATH": str(tmp_path)}))
    assert lines["ansible-core"].value == "the command ansible does not work"


def test_an_inventory_that_is_none(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "broken.yml"
    path.write_text("servers: [")
    lines = doctor.examine(Inventory(path))
    wrong = [line for line in lines if line.ok is False]
    assert [line.what for line in wrong] == ["inventory"]
    assert "cannot read the inventory" in wrong[0].value
    assert not any(line.what.startswith("node ") for line in lines)


def test_an_inventory_without_servers() -> None:
    found = by_name(list(doctor._inventory(Inventory(ROOT), "", {"all": {"hosts": ["one"]}, "_meta": {"hostvars": {}}})))
    assert found["nodes"].value == "0 servers, 0 agents, 1 hosts in neither group"
    assert found["nodes"].ok is False
    assert "servers" in found["nodes"].cure


def test_one_node_of_one_cluster_of_a_fleet(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "fleet.yml"
    hosts: dict[str, dict[str, Any]] = {"ulm1": {}, "bonn1": {}, "bonn2": {}}
    clusters: dict[str, Any] = {"ulm": {"hosts": {"ulm1": {}}}, "bonn": {"hosts": {"bonn1": {}, "bonn2": {}}}}
    groups = {"clusters": {"children": clusters}, "servers": {"hosts": hosts}}
    variables = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable, "kubekeel_profile": "quick"}
    path.write_text(yaml.safe_dump({"all": {"vars": variables, "children": groups}}))
    lines = by_name(doctor.examine(Inventory(path, "bonn"), limit="bonn2:ulm1"))
    assert lines["nodes"].value == "2 servers, 0 agents"
    assert [name for name in lines if name.startswith("node ")] == ["node bonn2"]
    assert lines["node bonn2"].value.startswith("answers")
    assert lines["profile"].ok is False
    assert "balanced" in lines["profile"].cure
    assert "ssh" not in lines, "no node of this inventory is reached by it"
    assert lines["collection kubekeel.ha"].ok
    assert lines["ansible-core"].ok
    assert str(ROOT / "ansible.cfg") in lines["ansible.cfg"].value or pathlib.Path.cwd() != ROOT
    assert lines["results"].ok
    assert not (tmp_path / "state").exists(), "it changes nothing"


def test_a_node_that_hangs_is_given_up(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "NODES", 4.0)
    slow = program(tmp_path / "python", "sleep 8")
    began = time.monotonic()
    lines = by_name(doctor.examine(inventory(tmp_path, {"slow": {"ansible_python_interpreter": slow}})))
    assert time.monotonic() - began < 60
    assert lines["node slow"].value == "did not answer within 4 s"
    assert "kubekeel doctor --limit slow" in lines["node slow"].cure


ANSWER = """[WARNING]: Host 'a' is using the discovered Python interpreter
a | SUCCESS => {
    "ansible_facts": {"x": "b | FAILED! => {"},
    "changed": false
}
[ERROR]: Task failed: {no json
b.example.org | UNREACHABLE! => {
    "msg": "b | c",
    "unreachable": true
}
c | FAILED! => {"msg": "cut o"""


def test_what_ansible_prints_is_read_node_by_node() -> None:
    answers = doctor._answers(ANSWER)
    assert {name: state for name, (state, _) in answers.items()} == {"a": "SUCCESS", "b.example.org": "UNREACHABLE"}
    assert answers["b.example.org"][1]["msg"] == "b | c"


def well(**changed: Any) -> tuple[str, dict[str, Any]]:
    facts = {
        "ansible_python": {"version": {"major": 3, "minor": 11, "micro": 2}},
        "ansible_effective_user_id": 0,
        "ansible_user_id": "root",
        "ansible_date_time": {"epoch": str(int(NOW))},
    }
    return "SUCCESS", {"ansible_facts": {**facts, **changed}}


@pytest.mark.parametrize(
    ("answer", "ok", "said"),
    [
        (well(), True, "answers, Python 3.11.2, as root"),
        (well(ansible_effective_user_id=1000, ansible_user_id="ubuntu"), False, "as ubuntu and not as root"),
        (well(ansible_date_time={"epoch": str(NOW + 4)}), True, "as root"),
        (well(ansible_date_time={"epoch": str(NOW + 3 + 3600)}), False, "its clock is 1:00:00 ahead of this machine"),
        (well(ansible_date_time={"epoch": str(NOW - 90)}), False, "its clock is 0:01:30 behind this machine"),
        (None, False, "did not answer"),
    ],
)
def test_what_is_said_of_a_node(answer: tuple[str, dict[str, Any]] | None, ok: bool, said: str) -> None:
    line = doctor._node("server1", answer, (NOW, NOW + 3))
    assert line.ok is ok
    assert said in line.value
    assert bool(line.cure) is not ok


@pytest.mark.parametrize(
    ("message", "what"),
    [
        ("Task failed: Missing sudo password", "sudo needs a password"),
        ("ada is not in the sudoers file.", "the user may not use sudo"),
        ("/bin/sh: 1: sudo: not found", "there is no sudo"),
        ("ada@192.0.2.1: Permission denied (publickey,password).", "ssh is refused"),
        ("Host key verification failed.", "its host key is not known, or another one"),
        ("ssh: Could not resolve hostname server9: Name or service not known", "its name is not known"),
        ("ssh: connect to host 192.0.2.1 port 22: Connection refused", "nobody listens there"),
        ("ssh: connect to host 192.0.2.1 port 22: Connection timed out", "it does not answer"),
        ("ssh: connect to host 192.0.2.1 port 22: No route to host", "it does not answer"),
        ("Connection timed out during banner exchange", "it does not answer"),
        ("ansible-core requires a minimum of Python version 3.8. Current version: 3.6.8", "its Python is too old"),
        ("/bin/sh: 1: /usr/bin/python3: not found", "Python is missing, or does not start"),
        ("Attempting to decrypt but no vault secrets found", "its variables are encrypted"),
        ("something else", "Ansible cannot work there"),
    ],
)
def test_causes(message: str, what: str) -> None:
    assert doctor.cause(message)[0] == what


def test_a_folder_that_cannot_be_written(tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").write_text("")
    line = doctor._folder(tmp_path / "file" / "runs")
    assert line.ok is False
    assert str(tmp_path / "file") in line.value


def test_the_releases_of_ansible_core_are_those_of_the_package() -> None:
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    (first, first_minor), (last, last_minor) = doctor.CORE
    assert f"ansible-core>={first}.{first_minor},<{last}.{last_minor}" in dependencies


def test_what_is_printed() -> None:
    console = Console(file=io.StringIO(), width=60, color_system=None)
    lines = [
        Line("git", "2.39", ok=True, cure="not shown"),
        Line("java", "not there", ok=None, cure="only for alerts"),
        Line("node a", "[bold]\x1b[31mbad\nthing", ok=False, cure="mend it"),
    ]
    console.print(doctor.draw(lines))
    assert isinstance(console.file, io.StringIO)
    assert [line.rstrip() for line in console.file.getvalue().splitlines()] == [
        "ok  git     2.39",
        "-   java    not there",
        "            only for alerts",
        "NO  node a  [bold]?[31mbad thing",
        "            mend it",
        "1 of these keep kubekeel from its work",
    ]


def test_an_inventory_that_is_not_there_is_told_like_everything_else(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor.show(str(tmp_path / "none")) == 3
    out = capsys.readouterr().out
    assert "There is no inventory" in out
    assert "Traceback" not in out
