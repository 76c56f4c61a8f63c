"""The wheel: the command, and a collection that ansible-core finds by its full name, with nothing configured."""

import json
import os
import pathlib
import subprocess
import sys
import zipfile

import pytest

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A folder as pip would leave it behind."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", str(folder), str(ROOT)], check=True, capture_output=True
    )
    (wheel,) = folder.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(folder / "site")
    return folder / "site"


def run(site: pathlib.Path, *command: str, code: int = 0) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    environment |= {"PYTHONPATH": str(site), "ANSIBLE_NOCOLOR": "1"}
    done = subprocess.run(command, cwd=site, env=environment, text=True, capture_output=True, check=False)
    assert done.returncode == code, done.stderr
    return done.stdout


def test_holds_the_collection_the_command_and_nothing_else(site: pathlib.Path) -> None:
    collection = site / "ansible_collections/kubekeel/ha"
    folders = {"extensions", "meta", "playbooks", "plugins", "profiles", "roles"}
    assert {path.name for path in collection.iterdir()} == {"README.md", "galaxy.yml", *folders}
    assert {path.name for path in site.iterdir()} == {"ansible_collections", "kubekeel", "kubekeel-0.1.0.dist-info"}
    assert not list(site.rglob("__pycache__"))


def test_every_module_role_and_filter_is_documented(site: pathlib.Path) -> None:
    for kind, folder, ending in (
        ("module", "modules", ".py"),
        ("filter", "filter", ".yml"),
        ("lookup", "lookup", ".py"),
        ("inventory", "inventory", ".py"),
    ):
        names = {path.stem for path in (ROOT / "plugins" / folder).glob(f"*{ending}")}
        listed = run(site, "ansible-doc", "--list", "--type", kind, "kubekeel.ha")
        assert {line.split()[0] for line in listed.splitlines()} == {f"kubekeel.ha.{name}" for name in names}
        for name in names:
            assert "EXAMPLES" in run(site, "ansible-doc", "--type", kind, f"kubekeel.ha.{name}")
    listed = run(site, "ansible-doc", "--list", "--type", "role", "kubekeel.ha")
    assert [path.name for path in (ROOT / "roles").iterdir() if f"kubekeel.ha.{path.name}" not in listed] == []


@pytest.mark.parametrize("playbook", ["alert", "audit", "lock", "recover_k3s_lb", "remediate", "restart"])
def test_playbooks_are_found_by_name(site: pathlib.Path, playbook: str) -> None:
    assert "playbook: " in run(site, "ansible-playbook", "--syntax-check", "-i", "localhost,", f"kubekeel.ha.{playbook}")


def test_the_command_works_without_a_checkout(site: pathlib.Path, tmp_path: pathlib.Path) -> None:
    kubekeel = (sys.executable, "-m", "kubekeel")
    assert "kured" in run(site, *kubekeel, "explain", "reboots_by_kured")
    (tmp_path / "hosts.yml").write_text("all: {children: {servers: {hosts: {n1: {ansible_host: 127.0.0.1, ansible_port: 1}}}}}\n")
    words = ("audit", "--quiet", "--inventory", str(tmp_path / "hosts.yml"), "--runs", str(tmp_path / "runs"), "--format", "json")
    document = json.loads(run(site, *kubekeel, *words, code=3))
    assert [each["status"] for each in document["findings"]] == ["unknown"]
