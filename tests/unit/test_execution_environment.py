"""The definition of the image for AWX: what ansible-builder makes of it, and that it installs what the package depends on."""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tomllib
from typing import Any

import pytest
import yaml

ROOT = pathlib.Path(__file__).parents[2]
BUILDER = shutil.which("ansible-builder", path=os.path.dirname(sys.executable) + os.pathsep + os.environ.get("PATH", ""))
WHEEL = "kubekeel-0.1.0-py3-none-any.whl"


@pytest.fixture(scope="module")
def definition() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "execution-environment.yml").read_text())
    return loaded


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """What podman would build from."""
    if not BUILDER:
        pytest.skip("there is no ansible-builder")
    folder = tmp_path_factory.mktemp("environment")
    shutil.copy(ROOT / "execution-environment.yml", folder)
    (folder / "dist").mkdir()
    (folder / "dist" / WHEEL).touch()
    subprocess.run([BUILDER, "create"], cwd=folder, check=True, capture_output=True, text=True)
    return folder / "context"


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]  # type: ignore[no-any-return]


def test_it_installs_what_the_package_depends_on(definition: dict[str, Any]) -> None:
    wanted = definition["dependencies"]
    installed = [*wanted["python"], wanted["ansible_core"]["package_pip"], wanted["ansible_runner"]["package_pip"]]
    assert sorted(installed) == sorted(project()["dependencies"])


def test_its_python_is_new_enough(definition: dict[str, Any]) -> None:
    interpreter = definition["dependencies"]["python_interpreter"]
    assert interpreter["python_path"] == "/usr/bin/" + interpreter["package_system"]
    version = re.fullmatch(r"python(\d+)\.(\d+)", interpreter["package_system"])
    least = re.fullmatch(r">=(\d+)\.(\d+)", project()["requires-python"])
    assert version
    assert least
    assert [int(part) for part in version.groups()] >= [int(part) for part in least.groups()]


def test_ansible_builder_takes_it(context: pathlib.Path, definition: dict[str, Any]) -> None:
    lines = (context / "Containerfile").read_text().splitlines()
    assert f'ARG EE_BASE_IMAGE="{definition["images"]["base_image"]["name"]}"' in lines
    assert f'ARG PYCMD="{definition["dependencies"]["python_interpreter"]["python_path"]}"' in lines
    requirements = (context / "_build" / "requirements.txt").read_text().splitlines()
    assert requirements == definition["dependencies"]["python"]
    assert (context / "_build" / "wheel" / WHEEL).exists()


def test_the_wheel_is_installed_when_all_else_is(context: pathlib.Path) -> None:
    text = (context / "Containerfile").read_text()
    final = text.index("AS final")
    assert final < text.index("install-from-bindep", final) < text.index("--no-deps /tmp/wheel/*.whl") < text.index("pip check")


def test_nothing_that_it_needs_is_left_out_as_a_matter_of_tests(context: pathlib.Path, definition: dict[str, Any]) -> None:
    # ansible-builder drops pytest and its like from what collections ask for.
    build = context / "_build"
    command = [sys.executable, str(build / "scripts" / "introspect.py"), "introspect", str(context)]
    command += [f"--user-pip={build / 'requirements.txt'}", f"--write-pip={context / 'kept.txt'}"]
    subprocess.run(command, check=True, capture_output=True)
    kept = [line.partition("  #")[0] for line in (context / "kept.txt").read_text().splitlines()]
    assert kept == definition["dependencies"]["python"]
