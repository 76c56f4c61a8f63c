"""The module kubelet_configuration, on folders of the test's own."""

import pathlib
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from ansible_collections.kubekeel.ha.plugins.module_utils import (
    config_yaml,
    distribution,
    k3s_config,
    kubelet_file,
    microk8s,
)
from ansible_collections.kubekeel.ha.plugins.module_utils import k3s as k3s_module
from ansible_collections.kubekeel.ha.plugins.module_utils.distribution import Distribution
from ansible_collections.kubekeel.ha.plugins.modules import kubelet_configuration, restore

from .conftest import Result

Set = Callable[..., Result]
FIELD = "nodeLeaseDurationSeconds"
HEAD = kubelet_file.HEAD + "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nnodeLeaseDurationSeconds: 4\n"
FLAGS = "--anonymous-auth=false\n--authentication-token-webhook=true\n--read-only-port=0\n"


# -- MicroK8s ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def args_dir(tmp_path: pathlib.Path) -> pathlib.Path:
    folder = tmp_path / "args"
    folder.mkdir()
    (folder / "kubelet").write_text(FLAGS)
    return folder


@pytest.fixture
def put(run_module: Callable[..., Result], args_dir: pathlib.Path) -> Set:
    def run(value: object = 4, **more: object) -> Result:
        return run_module(kubelet_configuration, **{"settings": {FIELD: value}, "microk8s_args_dir": str(args_dir), **more})

    return run


def test_writes_file_and_flag(put: Set, args_dir: pathlib.Path) -> None:
    result = put()
    file = args_dir / "kubekeel-kubelet.yaml"
    assert file.read_text() == HEAD + "authorization:\n  mode: AlwaysAllow\n"
    assert (args_dir / "kubelet").read_text() == FLAGS + f"--config={file}\n"
    assert (result["changed"], result["restart"]) == (True, ["snap.microk8s.daemon-kubelite"])
    assert result["effective"] == {FIELD: "4"}
    assert [(change["name"], change["before"], change["after"]) for change in result["changes"]] == [
        ("config", None, str(file)),
        (FIELD, None, "4"),
    ]
    assert all(change["owner"] == "kubelet" and change["why"] and change["source"] for change in result["changes"])
    assert [diff["before_header"] for diff in result["diff"]] == [str(file), str(args_dir / "kubelet")]


def test_a_second_run_changes_nothing_and_another_value_one_line(put: Set) -> None:
    put()
    again = put()
    assert (again["changed"], again["changes"], again["diff"]) == (False, [], [])
    (change,) = put(8)["changes"]
    assert (change["name"], change["before"], change["after"]) == (FIELD, "4", "8")


def test_check_mode_says_the_same_and_writes_nothing(put: Set, args_dir: pathlib.Path, tmp_path: pathlib.Path) -> None:
    checked = put(check=True, run_id="r1")
    assert [path.name for path in args_dir.iterdir()] == ["kubelet"]
    assert not (tmp_path / "runs").exists()
    assert {**checked, "invocation": None} == {**put(run_id="r1"), "invocation": None}


def test_null_takes_file_and_flag_away(put: Set, args_dir: pathlib.Path) -> None:
    assert put(None)["changed"] is False
    put()
    result = put(None)
    assert [path.name for path in args_dir.iterdir()] == ["kubelet"]
    assert (args_dir / "kubelet").read_text() == FLAGS
    # The flag goes before the file that it names.
    assert [diff["before_header"] for diff in result["diff"]] == [str(args_dir / "kubelet"), str(args_dir / "kubekeel-kubelet.yaml")]
    assert result["effective"] == {FIELD: None}


def test_fields_that_are_not_named_stay(put: Set, args_dir: pathlib.Path) -> None:
    put(settings={FIELD: 4, "registryPullQPS": 7, "hairpinMode": "none"})
    assert put(settings={})["changed"] is False
    put(settings={FIELD: None})
    text = (args_dir / "kubekeel-kubelet.yaml").read_text()
    assert 'hairpinMode: "none"\nregistryPullQPS: 7\n' in text
    assert FIELD not in text


@pytest.mark.parametrize("value", ["a # b", "😀", 'a"b\\'])
def test_a_text_of_any_kind_comes_back(put: Set, args_dir: pathlib.Path, value: str) -> None:
    put(settings={"clusterDomain": value})
    assert yaml.safe_load((args_dir / "kubekeel-kubelet.yaml").read_text())["clusterDomain"] == value
    again = put(settings={"clusterDomain": value})
    assert (again["changed"], again["changes"]) == (False, [])


@pytest.mark.parametrize("text", ["a: " + "[" * 100_000, "a: x" + " " * 100_000 + "y"])
def test_a_file_of_any_kind_is_looked_through(text: str) -> None:
    assert list(kubelet_file.stated(text)) == ["a"]
    assert kubelet_file.parse(text) == {}


@pytest.mark.parametrize(
    ("line", "value"), [("a: 4 # fast", "4"), ('a: "4 # b"', "4 # b"), ("a: '4' # b", "4"), ("a: 4#b", "4#b"), ("a: # b", None)]
)
def test_what_somebody_else_s_file_states(line: str, value: str | None) -> None:
    assert kubelet_file.stated(line + "\n") == ({} if value is None else {"a": (value, 1)})


def test_a_path_that_is_none_is_told(put: Set, args_dir: pathlib.Path) -> None:
    (args_dir / "kubelet").write_text(FLAGS + "--config=/x\0y\n")
    assert "/x\0y cannot be read" in put()["msg"]


def test_the_only_flag_of_a_file_stays(put: Set, args_dir: pathlib.Path) -> None:
    (args_dir / "kubelet").write_text(f"--config={args_dir}/kubekeel-kubelet.yaml\n")
    assert "would hold no flags any more" in put(None)["msg"]


def test_restore_removes_what_was_not_there(put: Set, args_dir: pathlib.Path, run_module: Callable[..., Result]) -> None:
    put(run_id="r1")
    assert run_module(restore, run_id="r1")["changed"] is True
    assert [path.name for path in args_dir.iterdir()] == ["kubelet"]
    assert (args_dir / "kubelet").read_text() == FLAGS


def test_the_flag_names_the_folder_of_the_revision_that_runs(args_dir: pathlib.Path, monkeypatch: pytest.MonkeyPatch, put: Set) -> None:
    monkeypatch.setattr(microk8s, "ARGS_DIR", str(args_dir))
    put()
    assert "--config=${SNAP_DATA}/args/kubekeel-kubelet.yaml\n" in (args_dir / "kubelet").read_text()


def test_a_lost_flag_comes_back(put: Set, args_dir: pathlib.Path) -> None:
    put()
    (args_dir / "kubelet").write_text(FLAGS)
    assert [(change["name"], change["before"]) for change in put()["changes"]] == [("config", None), (FIELD, None)]
    assert put()["changed"] is False


@pytest.mark.parametrize(
    "text", ["nodeLeaseDurationSeconds: 4 # fast\n", '"x"\n', '{"nodeLeaseDurationSeconds": 4}', "  nodeLeaseDurationSeconds: 4\n"]
)
def test_somebody_elses_file_stays(put: Set, args_dir: pathlib.Path, tmp_path: pathlib.Path, text: str) -> None:
    theirs = tmp_path / "mine.yaml"
    theirs.write_text(text)
    before = FLAGS + f"--config={theirs}\n"
    (args_dir / "kubelet").write_text(before)
    checked, result = put(check=True), put()
    has_it = not text.startswith((" ", '"'))
    assert checked["reasons"] == ([] if has_it else [f"kubelet already reads {theirs}: set {FIELD}: 4 there"])
    assert result.get("failed", False) is not has_it
    assert checked["changes"] == []
    assert (args_dir / "kubelet").read_text() == before
    assert [path.name for path in args_dir.iterdir()] == ["kubelet"]
    assert put(None)["changed"] is False


@pytest.mark.parametrize(
    ("settings", "part"),
    [
        ({"node-lease": 4}, "is not the name of a field"),
        ({FIELD: [4]}, "one value is needed"),
        ({FIELD: "4\n5"}, "cannot be printed"),
        ({FIELD: float("nan")}, "one value is needed"),
        ({FIELD: float("-inf")}, "one value is needed"),
        ({"kind": "x"}, "stands in the file already"),
        ({"readOnlyPort": 0}, "stands in the file already"),
    ],
)
def test_refuses_what_cannot_be_meant(put: Set, settings: dict[str, Any], part: str) -> None:
    assert part in put(settings=settings)["msg"]


@pytest.mark.parametrize("flags", [{}, {"anonymous-auth": "false"}, {"authentication-token-webhook": "true", "read-only-port": "0"}])
def test_the_file_states_what_a_kubelet_without_one_does(flags: dict[str, str]) -> None:
    found = yaml.safe_load(kubelet_file.render({FIELD: 4}, kubelet_file.legacy(flags)) or "")
    wanted: dict[str, tuple[str, dict[str, Any]]] = {
        "anonymous-auth": ("authentication", {"anonymous": {"enabled": True}}),
        "authentication-token-webhook": ("authentication", {"webhook": {"enabled": False}}),
        "authorization-mode": ("authorization", {"mode": "AlwaysAllow"}),
    }
    for flag, (field, value) in wanted.items():
        assert (flag not in flags) is (next(iter(value)) in found.get(field, {}))
        assert flag in flags or value.items() <= found[field].items()
    assert found.get("readOnlyPort") == (None if "read-only-port" in flags else 10255)
    assert kubelet_file.parse(kubelet_file.render({FIELD: 4}, kubelet_file.legacy(flags)) or "") == {FIELD: 4}


# -- K3s --------------------------------------------------------------------------------------------------------------


class Node:
    """As much of a node of K3s as the module looks at."""

    role = "server"

    def __init__(self, folder: pathlib.Path, absent: list[str]) -> None:
        self.folder, self.absent = folder, absent
        self.drop_in, self.data_dir = str(folder / "config.yaml.d/zz-kubekeel.yaml"), str(folder / "data")
        self.command_line: list[k3s_config.Argument] = []
        paths = [folder / "config.yaml", pathlib.Path(self.drop_in)]
        self.files = [k3s_config.File(str(path), config_yaml.parse(path.read_text())) for path in paths if path.exists()]
        self.merged = k3s_config.merge(self.files)


@pytest.fixture
def k3s(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """The folder of a server of K3s before 1.32."""
    (tmp_path / "config.yaml.d").mkdir()
    (tmp_path / "config.yaml").write_text("kubelet-arg: max-pods=60\n")
    monkeypatch.setattr(distribution, "find", lambda *_: Distribution("k3s", "k3s", ""))
    monkeypatch.setattr(kubelet_configuration, "K3S_FILE", str(tmp_path / "kubekeel-kubelet.yaml"))
    monkeypatch.setattr(k3s_module, "K3sNode", lambda *_: Node(tmp_path, []))
    return tmp_path


def drop_ins(folder: pathlib.Path) -> pathlib.Path:
    """Let it be 1.32 or later."""
    found = folder / "data/agent/etc/kubelet.conf.d"
    found.mkdir(parents=True)
    (found / "00-k3s-defaults.conf").write_text("nodeLeaseDurationSeconds: 40\n")
    return found


def test_k3s_gets_the_flag_in_the_drop_in(put: Set, k3s: pathlib.Path) -> None:
    assert put()["restart"] == ["k3s"]
    file = k3s / "kubekeel-kubelet.yaml"
    assert file.read_text() == HEAD
    assert f'kubelet-arg+:\n  - "config={file}"\n' in (k3s / "config.yaml.d/zz-kubekeel.yaml").read_text()
    assert put()["changed"] is False
    put(None)
    assert not file.exists()
    assert list((k3s / "config.yaml.d").iterdir()) == []


def test_the_copy_of_k3s_comes_and_goes_with_the_file(put: Set, k3s: pathlib.Path, run_module: Callable[..., Result]) -> None:
    folder = drop_ins(k3s)
    put(run_id="r1")
    assert (folder / "10-cli-config.conf").read_text() == HEAD
    assert put(run_id="r1")["changed"] is False
    run_module(restore, run_id="r1")
    assert [path.name for path in folder.iterdir()] == ["00-k3s-defaults.conf"]
    put()
    put(None)
    assert [path.name for path in folder.iterdir()] == ["00-k3s-defaults.conf"]


def test_a_copy_of_somebody_elses_is_a_reason(put: Set, k3s: pathlib.Path) -> None:
    copy = drop_ins(k3s) / "10-cli-config.conf"
    copy.write_text("maxPods: 7\n")
    assert "was left by an earlier kubelet-arg config=" in put()["msg"]
    assert copy.read_text() == "maxPods: 7\n"
    assert put(None)["changed"] is False
    assert copy.exists()


def test_a_later_drop_in_of_the_kubelet_is_a_reason(put: Set, k3s: pathlib.Path) -> None:
    path = drop_ins(k3s) / "50-mine.conf"
    path.write_text("# x\nnodeLeaseDurationSeconds: 20\n")
    (reason,) = put(check=True)["reasons"]
    assert reason == f"kubelet: {FIELD}: 4 is wanted, but {path}:2 comes later and says 20; remove it there"
    path.write_text("nodeLeaseDurationSeconds: 4\n")
    assert put(check=True)["reasons"] == []


def test_somebody_elses_flag_of_k3s_stays(put: Set, k3s: pathlib.Path) -> None:
    theirs = k3s / "mine.yaml"
    theirs.write_text("nodeLeaseDurationSeconds: 40\n")
    (k3s / "config.yaml").write_text(f"kubelet-arg: config={theirs}\n")
    assert put()["reasons"] == [f"kubelet already reads {theirs}: set {FIELD}: 4 there"]
    theirs.write_text("nodeLeaseDurationSeconds: 4\n")
    result = put()
    assert (result["changed"], result["effective"]) == (False, {FIELD: "4"})


def test_a_node_without_a_kubelet_is_left_alone(put: Set, k3s: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(k3s_module, "K3sNode", lambda *_: Node(k3s, ["kubelet"]))
    result = put()
    assert (result["changed"], result["absent"], result["effective"]) == (False, ["kubelet"], {FIELD: None})
