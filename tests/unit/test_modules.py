"""The modules that change files, run as Ansible runs them, on folders of the test's own."""

import json
import os
import pathlib
import shlex
import time
from collections.abc import Callable
from typing import Any

import pytest
from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubekeel.ha.plugins.module_utils import k3s, node_change, node_files, run_record, sysctl_files, systemd
from ansible_collections.kubekeel.ha.plugins.modules import (
    component_args,
    k3s_registration,
    kernel_modules,
    node_info,
    restore,
    run_info,
    service_environment,
    sysctl_profile,
)

from .conftest import LATER, LONG_AGO, Result, RunModule, started

SCHEDULER = "# kept\n--kubeconfig=${SNAP_DATA}/credentials/scheduler.config\n--leader-elect-lease-duration=60s\n"


@pytest.fixture
def args_dir(tmp_path: pathlib.Path) -> pathlib.Path:
    folder = tmp_path / "args"
    folder.mkdir()
    (folder / "kube-scheduler").write_text(SCHEDULER)
    return folder


def set_lease(run_module: RunModule, args_dir: pathlib.Path, value: object = "15s", **more: object) -> Result:
    flags = {"leader-elect-lease-duration": value}
    return run_module(component_args, components={"kube-scheduler": flags}, microk8s_args_dir=str(args_dir), **more)


def test_sets_a_flag_and_says_so(run_module: RunModule, args_dir: pathlib.Path) -> None:
    file = args_dir / "kube-scheduler"
    file.chmod(0o640)
    result = set_lease(run_module, args_dir)
    assert file.read_text() == SCHEDULER.replace("60s", "15s")
    assert file.stat().st_mode & 0o777 == 0o640
    assert result["changed"] is True
    assert result["restart"] == ["snap.microk8s.daemon-kubelite"]
    assert result["effective"]["kube-scheduler"]["leader-elect-lease-duration"] == "15s"
    (change,) = result["changes"]
    assert (change["before"], change["after"], change["path"]) == ("60s", "15s", str(file))
    assert change["why"]
    assert change["source"]
    assert result["diff"][0]["before"] == SCHEDULER
    assert [entry.name for entry in args_dir.iterdir()] == ["kube-scheduler"]


def test_check_mode_says_the_same_and_writes_nothing(run_module: RunModule, args_dir: pathlib.Path, tmp_path: pathlib.Path) -> None:
    checked = set_lease(run_module, args_dir, check=True, run_id="r1")
    assert (args_dir / "kube-scheduler").read_text() == SCHEDULER
    assert not (tmp_path / "marks").exists()
    assert not (tmp_path / "runs").exists()
    made = set_lease(run_module, args_dir, run_id="r1")
    assert {**checked, "invocation": None} == {**made, "invocation": None}


def test_a_restart_stays_due_until_the_unit_is_younger_than_the_change(
    run_module: RunModule, args_dir: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_lease(run_module, args_dir)
    again = set_lease(run_module, args_dir)
    assert (again["changed"], again["restart"]) == (False, ["snap.microk8s.daemon-kubelite"])
    started(monkeypatch, LATER)
    assert set_lease(run_module, args_dir)["restart"] == []


@pytest.mark.parametrize(
    ("value", "part"),
    [
        ("1 5s", "a space would split it"),
        ("$HOME", "would expand the '$'"),
        (["1s"], "one value is needed"),
        ({"a": 1}, "one value is needed"),
    ],
)
def test_refuses_a_value_and_leaves_the_file(run_module: RunModule, args_dir: pathlib.Path, value: object, part: str) -> None:
    result = set_lease(run_module, args_dir, value)
    assert result["failed"] is True
    assert part in result["msg"]
    assert (args_dir / "kube-scheduler").read_text() == SCHEDULER


@pytest.mark.parametrize(
    ("components", "part"),
    [
        ({"kube-apiserver": {"v": 1}}, "kube-apiserver is missing"),
        ({"k8s-dqlite": {"v": 1}}, "there is no 'k8s-dqlite'"),
        ({"kube-scheduler": ["v"]}, "flags and their values are needed"),
        ({"kube-scheduler": {"node-monitor-period": "1s"}}, "is a flag of kube-controller-manager"),
    ],
)
def test_refuses_what_cannot_be_meant(run_module: RunModule, args_dir: pathlib.Path, components: object, part: str) -> None:
    result = run_module(component_args, components=components, microk8s_args_dir=str(args_dir))
    assert result["failed"] is True
    assert part in result["msg"]


@pytest.mark.parametrize(
    ("distribution", "part"),
    [
        ("auto", "and no unit of K3s: MicroK8s is not installed here"),
        ("microk8s", "or is damaged"),
        ("k3s", "systemd knows no unit k3s or k3s-agent here"),
    ],
)
def test_refuses_a_node_without_kubernetes(
    run_module: RunModule, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, distribution: str, part: str
) -> None:
    def unknown(*_: object) -> dict[str, str]:
        raise node_files.NodeError("systemd has no such unit")

    monkeypatch.setattr(systemd, "show", unknown)
    assert part in set_lease(run_module, tmp_path / "none", distribution=distribution)["msg"]


def test_follows_no_link(run_module: RunModule, args_dir: pathlib.Path, tmp_path: pathlib.Path) -> None:
    target = tmp_path / "target"
    (args_dir / "kube-scheduler").rename(target)
    (args_dir / "kube-scheduler").symlink_to(target)
    assert "not a regular file" in set_lease(run_module, args_dir)["msg"]
    assert target.read_text() == SCHEDULER


def test_a_file_that_becomes_a_link_between_look_and_write_is_left_alone(args_dir: pathlib.Path, tmp_path: pathlib.Path) -> None:
    file, target = args_dir / "kube-scheduler", tmp_path / "target"
    target.write_text("mine\n")
    file.unlink()
    file.symlink_to(target)
    with pytest.raises(node_files.NodeError, match="not a regular file"):
        node_files.write(str(file), "theirs\n")
    assert (file.is_symlink(), target.read_text()) == (True, "mine\n")


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_file_is_neither_read_nor_waited_for(tmp_path: pathlib.Path, make: Callable[[pathlib.Path], None]) -> None:
    make(tmp_path / "odd")
    for follow in (False, True):
        with pytest.raises(node_files.NodeError, match="not a regular file"):
            node_files.read(str(tmp_path / "odd"), follow)


def test_keeps_bytes_that_are_no_text(run_module: RunModule, args_dir: pathlib.Path) -> None:
    file = args_dir / "kube-scheduler"
    file.write_bytes(b"# \xff\xfe\r\n" + SCHEDULER.encode())
    set_lease(run_module, args_dir)
    assert file.read_bytes() == b"# \xff\xfe\r\n" + SCHEDULER.replace("60s", "15s").encode()


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    run_module: RunModule, args_dir: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    result = set_lease(run_module, args_dir)
    assert "No space left on device" in result["msg"]
    assert (args_dir / "kube-scheduler").read_text() == SCHEDULER
    assert [entry.name for entry in args_dir.iterdir()] == ["kube-scheduler"]


def test_restore_brings_back_every_byte(run_module: RunModule, args_dir: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_lease(run_module, args_dir, run_id="r1")
    set_lease(run_module, args_dir, "20s", run_id="r1")
    started(monkeypatch, LATER)
    result = run_module(restore, run_id="r1")
    assert (args_dir / "kube-scheduler").read_text() == SCHEDULER
    assert (result["changed"], result["restart"]) == (True, ["snap.microk8s.daemon-kubelite"])


def test_restore_takes_back_a_run_that_broke_off_together_with_the_one_that_put_it_into_force(
    run_module: RunModule, args_dir: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_lease(run_module, args_dir, "bad", run_id="r1")
    assert set_lease(run_module, args_dir, "bad", run_id="r2")["changed"] is False
    started(monkeypatch, time.monotonic_ns() // 1000)
    result = run_module(restore, run_id="r2")
    assert (args_dir / "kube-scheduler").read_text() == SCHEDULER
    assert result["restart"] == ["snap.microk8s.daemon-kubelite"]


def test_restore_before_any_restart_leaves_files_and_process_agreed(run_module: RunModule, args_dir: pathlib.Path) -> None:
    set_lease(run_module, args_dir, "15s", run_id="r1")
    set_lease(run_module, args_dir, "20s", run_id="r2")
    assert run_module(restore, run_id="r2")["restart"] == []
    assert (args_dir / "kube-scheduler").read_text() == SCHEDULER


def test_restore_that_broke_off_still_asks_for_the_restart(
    run_module: RunModule, args_dir: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_lease(run_module, args_dir, "15s", run_id="r1")
    started(monkeypatch, time.monotonic_ns() // 1000)
    with monkeypatch.context() as broken:
        broken.setattr(systemd, "reload", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run_module(restore, run_id="r1")
    again = run_module(restore, run_id="r1")
    assert (again["changed"], again["restart"]) == (False, ["snap.microk8s.daemon-kubelite"])


def an_entry(**more: Any) -> str:
    """A record with one file, or another thing."""
    entry = {"kind": "file", "name": "/x", "kept": "0-x", "mode": 0o644, "before": "a", "after": ["b"], **more}
    return json.dumps({"entries": [entry]})


@pytest.mark.parametrize(
    ("text", "part"),
    [
        *(("", "Expecting"), ("{", "Expecting"), ("[]", "mapping"), ("[" * 100_000, "recursion")),
        *(('{"entries": {}}', "is no list"), ('{"entries": [null]}', "subscriptable"), ('{"units": "x"}', "is no list")),
        *(('{"adopted": [1]}', "else than texts"), ('{"restore": "x"}', "is no list"), ('{"state": "soon"}', "'soon' is no state")),
        *(('{"about": 5}', "values"), ('{"about": {"operator": 5}}', "else than texts"), ('{"entries": [{}]}', "'name'")),
        *((an_entry(name=None), "else than texts"), (an_entry(kind="x"), "it holds a 'x'"), (an_entry(kind=[]), "it holds a []")),
        *((an_entry(mode="rw"), "no mode of a file"), (an_entry(mode=True), "no mode of a file"), (an_entry(mode=-1), "no mode of a file")),
        *((an_entry(kept=None), "names no copy of '/x'"), (an_entry(before=None), "names no copy of '/x'")),
        *((an_entry(after=[]), "what became of '/x'"), (an_entry(after="b"), "is no list"), (an_entry(after=[1]), "else than texts")),
        *((an_entry(kind="sysctl", after=[]), "what became of '/x'"), (an_entry(kind="sysctl", before=None), "else than texts")),
    ],
)
def test_a_damaged_record_is_refused(run_module: RunModule, args_dir: pathlib.Path, tmp_path: pathlib.Path, text: str, part: str) -> None:
    set_lease(run_module, args_dir, run_id="r1")
    (tmp_path / "runs/r1/record.json").write_text(text)
    for module, arguments in ((restore, {"run_id": "r1"}), (run_info, {})):
        result = run_module(module, **arguments)
        assert result["failed"] is True
        assert "is damaged" in result["msg"]
        assert part in result["msg"]


@pytest.mark.parametrize(
    "touch",
    [node_files.read, node_files.remove, node_files.mode, node_files.remove_empty_folder],
)
def test_a_path_that_is_none_is_an_error_as_others_are(tmp_path: pathlib.Path, touch: Callable[[str], object]) -> None:
    for each in (touch, lambda path: node_files.write(path + "/x", ""), lambda path: node_files.make_folder(path, 0o755)):
        with pytest.raises(node_files.NodeError, match="cannot be"):
            each(f"{tmp_path}/\0")


@pytest.mark.parametrize("pending", [False, True], ids=["", "somebody's change is waiting"])
def test_restore_of_a_change_that_could_not_be_made_restarts_nothing(
    run_module: RunModule, args_dir: pathlib.Path, monkeypatch: pytest.MonkeyPatch, pending: bool
) -> None:
    if pending:
        set_lease(run_module, args_dir, "20s")
    before = (args_dir / "kube-scheduler").read_text()
    with monkeypatch.context() as patched:
        patched.setattr(node_change, "write", refuse_to_write)
        assert "read-only" in set_lease(run_module, args_dir, "15s", run_id="r1")["msg"]
    again = run_module(restore, run_id="r1")
    assert (again["changed"], again["restart"]) == (False, [])
    assert (args_dir / "kube-scheduler").read_text() == before
    # What was changed before is still to come into force, and nothing else.
    assert bool(set_lease(run_module, args_dir, "20s" if pending else "60s")["restart"]) is pending


def refuse_to_write(_changes: object) -> None:
    raise node_files.NodeError("read-only file system")


def test_restore_restarts_nothing_that_never_saw_the_change(run_module: RunModule, args_dir: pathlib.Path) -> None:
    set_lease(run_module, args_dir, run_id="r1")
    assert run_module(restore, run_id="r1")["restart"] == []
    assert set_lease(run_module, args_dir, "60s")["restart"] == []


def test_records_are_for_root_only(run_module: RunModule, args_dir: pathlib.Path, tmp_path: pathlib.Path) -> None:
    (args_dir / "kube-scheduler").chmod(0o666)
    set_lease(run_module, args_dir, run_id="r1")
    folder = tmp_path / "runs" / "r1"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {entry.stat().st_mode & 0o777 for entry in folder.iterdir()} == {0o600}


def test_a_line_that_does_not_work_is_shown_without_its_secret(run_module: RunModule, args_dir: pathlib.Path) -> None:
    (args_dir / "kube-scheduler").write_text(SCHEDULER + "x --bootstrap-token=K10secret\n")
    result = set_lease(run_module, args_dir)
    assert [(problem["line"], problem["text"]) for problem in result["problems"]] == [(4, "x --bootstrap-token=********")]
    assert "K10secret" not in json.dumps({**result, "effective": None})


@pytest.mark.parametrize("run_id", ["../x", "", ".", "a/b"])
def test_a_run_id_is_no_path(tmp_path: pathlib.Path, run_id: str) -> None:
    with pytest.raises(node_files.NodeError, match="run_id"):
        run_record.RunRecord(run_id, str(tmp_path))


def test_a_module_of_the_kernel_is_no_option(run_module: RunModule, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[list[str]] = []

    def unknown(_module: AnsibleModule, words: list[str]) -> tuple[int, str, str]:
        called.append(words)
        return 1, "", "not found"

    monkeypatch.setattr(AnsibleModule, "run_command", unknown)
    result = run_module(kernel_modules, modules=["--version"], path=str(tmp_path / "x.conf"))
    assert "cannot be loaded" in result["msg"]
    assert called == [["modprobe", "--", "--version"]]


@pytest.fixture
def unit(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """A drop-in's path; systemd knows what stands in it, and one variable of the unit's own."""
    monkeypatch.setattr(service_environment, "DROP_INS", str(tmp_path))
    path = tmp_path / "x.service.d" / "zz-kubekeel.conf"

    def show(*_: object) -> dict[str, str]:
        words = [line.removeprefix("Environment=") for line in path.read_text().splitlines() if "=" in line] if path.exists() else []
        return {"LoadState": "loaded", "Environment": " ".join(["OWN=1", *words]), systemd.STARTED: str(10**18)}

    monkeypatch.setattr(systemd, "show", show)
    return path


def test_a_dropin_comes_and_goes_with_its_variables(run_module: RunModule, unit: pathlib.Path) -> None:
    first = run_module(service_environment, unit="x", environment={"A": 8, "B": "two words"})
    assert (first["changed"], first["restart"]) == (True, ["x"])
    assert first["effective"] == {"A": "8", "B": "two words"}
    assert run_module(service_environment, unit="x.service", environment={"A": "8"})["changed"] is False
    assert run_module(service_environment, unit="x", environment={"A": None})["effective"] == {"A": None}
    assert "A=" not in unit.read_text()
    run_module(service_environment, unit="x", environment={"B": None})
    assert not unit.exists()


@pytest.mark.usefixtures("unit")
@pytest.mark.parametrize("value", [["a"], {"a": 1}])
def test_a_variable_has_one_value(run_module: RunModule, value: object) -> None:
    assert "one value is needed" in run_module(service_environment, unit="x", environment={"A": value})["msg"]


def test_a_value_of_any_kind_reaches_the_unit() -> None:
    shown = {"Environment": shlex.join(['A=a "b" \\c', "B=", "C='x"])}
    assert systemd.environment(shown) == {"A": 'a "b" \\c', "B": "", "C": "'x"}


def test_systemd_is_told_of_a_dropin_also_after_a_run_that_broke_off(
    run_module: RunModule, unit: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded, disk = {"text": ""}, lambda: unit.read_text() if unit.exists() else ""

    def show(*_: object) -> dict[str, str]:
        words = [line.removeprefix("Environment=") for line in loaded["text"].splitlines() if line.startswith("Environment=")]
        return {"LoadState": "loaded", "Environment": " ".join(words), systemd.STARTED: "1"}

    monkeypatch.setattr(systemd, "show", show)
    monkeypatch.setattr(systemd, "reload", lambda *_: loaded.update(text=disk()))
    unit.parent.mkdir()
    unit.write_text('# Written by kubekeel. Change it through the inventory: the next run writes it again.\n[Service]\nEnvironment="A=8"\n')
    result = run_module(service_environment, unit="x", environment={"A": 8})
    assert (result["changed"], result["effective"]) == (False, {"A": "8"})
    assert run_module(service_environment, unit="x", environment={"A": 8})["changes"] == []


@pytest.mark.usefixtures("unit")
def test_a_dropin_that_is_overridden_is_an_error(run_module: RunModule, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(systemd, "show", lambda *_: {"LoadState": "loaded", "Environment": "A=1", systemd.STARTED: "1"})
    result = run_module(service_environment, unit="x", environment={"A": 8})
    assert result["failed"] is True
    assert "another file that comes after" in result["msg"]


def test_a_masked_file_and_a_refused_value(run_module: RunModule, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    proc, etc, lib = tmp_path / "proc", tmp_path / "etc", tmp_path / "lib"
    for folder in (proc, etc, lib):
        folder.mkdir()
    (proc / "a.b").write_text("8\n")
    (lib / "99-zzz.conf").write_text("a.b = 9\n")
    (etc / "99-zzz.conf").symlink_to("/dev/null")
    monkeypatch.setattr(sysctl_files, "FOLDERS", (str(etc), str(lib)))
    monkeypatch.setattr(sysctl_files, "proc_path", lambda name: str(proc / name))
    path = etc / "99-zz-kubekeel.conf"
    assert run_module(sysctl_profile, settings={"a.b": 8}, path=str(path))["overridden"] == []
    kept = path.read_text()
    result = run_module(sysctl_profile, settings={"a.b": "ä"}, path=str(path))
    assert "the kernel refuses a.b" in result["msg"]
    assert path.read_text() == kept


def test_sysctls_are_told_apart_by_running_kernel_and_next_boot(
    run_module: RunModule, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proc, etc = tmp_path / "proc", tmp_path / "sysctl.d"
    proc.mkdir()
    etc.mkdir()
    (proc / "a.b").write_text("15\n")
    (proc / "a.c").write_text("1\t2\n")
    (etc / "10-mine.conf").write_text("a.b = 9\n")
    path = etc / "99-zz-kubekeel.conf"
    monkeypatch.setattr(sysctl_files, "FOLDERS", (str(etc),))
    monkeypatch.setattr(sysctl_files, "proc_path", lambda name: str(proc / name))
    result = run_module(sysctl_profile, settings={"a.b": 8, "a/c": "1 2"}, path=str(path))
    assert result["effective"] == {"a.b": {"runtime": "8", "boot": "8"}, "a.c": {"runtime": "1 2", "boot": "1 2"}}
    assert [(change["name"], change["note"]) for change in result["changes"]] == [
        ("a.b", ""),
        ("a.c", "now; at the next boot it would be the kernel's default"),
    ]
    assert (proc / "a.b").read_text() == "8\n"
    again = run_module(sysctl_profile, settings={"a.b": 8, "a.c": "1 2"}, path=str(path))
    assert (again["changed"], again["changes"]) == (False, [])
    assert "there is no sysctl a.x" in run_module(sysctl_profile, settings={"a.x": 1}, path=str(path))["msg"]


@pytest.mark.parametrize(
    ("settings", "part"),
    [
        ({"a/../../etc/x": 1}, "is no name of a sysctl"),
        ({"a..b": 1}, "is no name of a sysctl"),
        ({"a.b": 1, "a/b": 2}, "stands there twice"),
        ({"a.b": None}, "a number or a text is needed"),
        ({"a.b": True}, "a number or a text is needed"),
        ({"a.b": [1]}, "a number or a text is needed"),
        ({"a.b": "1\0"}, "a number or a text is needed"),
    ],
)
def test_sysctls_that_cannot_be_meant(
    run_module: RunModule, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, object], part: str
) -> None:
    for name in ("proc/a/b", "etc/x"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("7\n")
    monkeypatch.setattr(sysctl_files, "proc_path", lambda name: f"{tmp_path}/proc/{name.translate(str.maketrans('./', '/.'))}")
    assert part in run_module(sysctl_profile, settings=settings, path=str(tmp_path / "x.conf"))["msg"]
    assert [(tmp_path / name).read_text() for name in ("proc/a/b", "etc/x")] == ["7\n", "7\n"]


SERVER_CONFIG = """token: "K10secret"
server: https://10.0.0.1:6443
tls-san: [lb.example.org]
kubelet-arg:
  - max-pods=60
"""


@pytest.fixture
def k3s_node(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """The folder of a K3s server: config.yaml, its unit and /etc/default."""
    config, default, program = tmp_path / "config.yaml", tmp_path / "default", tmp_path / "k3s-program"
    config.write_text(SERVER_CONFIG)
    default.mkdir()
    program.write_text("#!/bin/sh\necho 'k3s version v1.31.3+k3s1 (x)'\n")
    program.chmod(0o755)
    unit = tmp_path / "k3s.service"
    unit.write_text(f"[Service]\nExecStart={program} \\\n  server \\\n  --config {config}\n")
    files = f"{default}/k3s (ignore_errors=yes)\n{tmp_path}/k3s.service.env (ignore_errors=yes)"

    def show(_module: object, name: str, *_: str) -> dict[str, str]:
        if name != "k3s":
            raise node_files.NodeError("systemd has no unit %s on this node" % name)
        shown = {"LoadState": "loaded", "ActiveState": "active", "FragmentPath": str(unit), "EnvironmentFiles": files, "Environment": ""}
        return {**shown, systemd.STARTED: str(LONG_AGO)}

    monkeypatch.setattr(systemd, "show", show)
    monkeypatch.setattr(service_environment, "DEFAULTS", str(default))
    return tmp_path


def set_frequency(run_module: RunModule, **more: object) -> Result:
    return run_module(component_args, components={"kubelet": {"node-status-update-frequency": "5s"}}, distribution="k3s", **more)


def test_k3s_gets_a_drop_in_that_only_root_reads_and_the_user_s_file_stays(run_module: RunModule, k3s_node: pathlib.Path) -> None:
    result = set_frequency(run_module, run_id="r1")
    drop_in = k3s_node / "config.yaml.d/zz-kubekeel.yaml"
    assert drop_in.stat().st_mode & 0o777 == 0o600
    assert (k3s_node / "config.yaml").read_text() == SERVER_CONFIG
    assert result["effective"]["kubelet"] == {"max-pods": "60", "node-status-update-frequency": "5s"}
    assert (result["restart"], result["changes"][0]["path"]) == (["k3s"], str(drop_in))
    assert set_frequency(run_module)["changed"] is False
    assert run_module(restore, run_id="r1")["paths"] == [str(drop_in)]
    assert not drop_in.exists()


def test_k3s_is_not_changed_where_another_file_decides(run_module: RunModule, k3s_node: pathlib.Path) -> None:
    folder = k3s_node / "config.yaml.d"
    folder.mkdir()
    (folder / "zzz.yaml").write_text("kubelet-arg: max-pods=9\n")
    assert set_frequency(run_module, check=True)["reasons"]
    result = set_frequency(run_module)
    assert result["failed"] is True
    assert "zzz.yaml:1 comes after kubekeel's drop-in" in result["msg"]
    assert [path.name for path in folder.iterdir()] == ["zzz.yaml"]


@pytest.mark.parametrize(
    ("text", "part"),
    [("token: 'K10secret\n", "config.yaml:1: a quote is not closed"), ("token: K10secret\n\tserver: x\n", "config.yaml:2: a tab stands")],
)
def test_a_k3s_file_that_cannot_be_read_ends_with_its_line(run_module: RunModule, k3s_node: pathlib.Path, text: str, part: str) -> None:
    (k3s_node / "config.yaml").write_text(text)
    result = set_frequency(run_module)
    assert part in result["msg"]
    assert "K10secret" not in json.dumps(result)
    assert not (k3s_node / "config.yaml.d").exists()


def test_another_config_file_than_the_unit_s_is_refused(run_module: RunModule, k3s_node: pathlib.Path) -> None:
    assert f"but unit k3s reads {k3s_node}/config.yaml" in set_frequency(run_module, k3s_config_file="/etc/other.yaml")["msg"]


def test_a_value_that_k3s_would_cut_is_refused(run_module: RunModule, k3s_node: pathlib.Path) -> None:
    assert k3s_node.exists()
    result = run_module(component_args, components={"kubelet": {"node-ip": "10.0.0.1 "}}, distribution="k3s")
    assert "a space at an end" in result["msg"]


@pytest.mark.parametrize("config", ["config.yaml", "https://x/config.yaml"])
def test_a_config_file_of_no_certain_place_is_refused(run_module: RunModule, k3s_node: pathlib.Path, config: str) -> None:
    unit = k3s_node / "k3s.service"
    unit.write_text(unit.read_text().replace(f"--config {k3s_node}/config.yaml", f"--config {config}"))
    assert f"reads its configuration from {config}" in set_frequency(run_module)["msg"]


def test_a_config_file_that_is_no_path_is_told(run_module: RunModule, k3s_node: pathlib.Path) -> None:
    unit = k3s_node / "k3s.service"
    unit.write_text(unit.read_text().replace(f"--config {k3s_node}/config.yaml", "--config /x\0y"))
    assert "/x\0y.d cannot be read: embedded null byte" in set_frequency(run_module)["msg"]


def test_a_port_is_a_number(k3s_node: pathlib.Path) -> None:
    for text, port in (("7443", 7443), ("²", 6443), ("9" * 5000, 6443)):
        (k3s_node / "config.yaml").write_text(f"https-listen-port: {text}\n")
        assert k3s.K3sNode(None, "k3s").port == port


def test_a_dead_flag_is_refused_by_the_release_of_k3s(run_module: RunModule, k3s_node: pathlib.Path) -> None:
    assert k3s_node.exists()
    result = run_module(component_args, components={"kube-controller-manager": {"pod-eviction-timeout": "1m"}}, distribution="k3s")
    assert "is gone since 1.27" in result["msg"]


def test_variables_of_k3s_go_beside_what_is_there_and_secrets_stay_secret(run_module: RunModule, k3s_node: pathlib.Path) -> None:
    file = k3s_node / "default/k3s"
    file.write_text("# mine\nK3S_TOKEN=K10secret\nNO_PROXY=x\n")
    file.chmod(0o640)
    arguments = {"distribution": "k3s", "environment": {"HTTP2_PING_TIMEOUT_SECONDS": 4}}
    result = run_module(service_environment, run_id="r1", **arguments)
    assert file.read_text() == "# mine\nK3S_TOKEN=K10secret\nNO_PROXY=x\nHTTP2_PING_TIMEOUT_SECONDS=4\n"
    assert file.stat().st_mode & 0o777 == 0o640
    assert (result["changed"], result["restart"]) == (True, ["k3s"])
    again = run_module(service_environment, **arguments)
    assert again["changed"] is False
    back = run_module(restore, run_id="r1")
    assert "K10secret" not in json.dumps([result, again, back])
    (k3s_node / "k3s.service.env").write_text("HTTP2_PING_TIMEOUT_SECONDS=9\n")
    assert "is set by another file that comes after" in run_module(service_environment, **arguments)["msg"]


def test_the_join_server_is_told_and_moved_only_to_an_address_that_is_fit(run_module: RunModule, k3s_node: pathlib.Path) -> None:
    looked = run_module(k3s_registration, nodes=["server1", "10.0.0.1"])
    assert (looked["server"], looked["single_node"], looked["changed"]) == ("https://10.0.0.1:6443", "10.0.0.1", False)
    assert f"({k3s_node}/config.yaml:2) names the single node 10.0.0.1" in looked["findings"][0]
    assert run_module(k3s_registration, nodes=["server1"])["findings"] == []
    refused = run_module(k3s_registration, nodes=["server1"], address="other.example.org")
    assert any("certificate authority" in reason for reason in refused["reasons"])
    assert any("tls-san of this server does not hold other.example.org" in reason for reason in refused["reasons"])
    assert not (k3s_node / "config.yaml.d").exists()


def test_what_a_k3s_node_is(run_module: RunModule, k3s_node: pathlib.Path) -> None:
    found = run_module(node_info)
    assert {name: found[name] for name in ("distribution", "release", "unit", "kind", "has_api")} == {
        "distribution": "k3s",
        "release": "v1.31.3+k3s1",
        "unit": "k3s",
        "kind": "server",
        "has_api": True,
    }
    (k3s_node / "config.yaml").write_text("disable-apiserver: true\n")
    found = run_module(node_info)
    assert (found["kind"], found["has_api"]) == ("etcd-only server", False)
    assert "k3s-io/k3s#11349" in found["findings"][0]


def test_what_speaks_against_changing_a_node(run_module: RunModule, k3s_node: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, proc = k3s_node / "sysctl.d", k3s_node / "proc"
    folder.mkdir()
    proc.mkdir()
    (folder / "99-hardening.conf").write_text("net.ipv4.ip_forward = 0\n")
    (proc / "net.ipv4.ip_forward").write_text("1\n")
    (k3s_node / "k3s-program").write_text("#!/bin/sh\necho 'k3s version v1.99.0+k3s1 (x)'\n")
    monkeypatch.setattr(sysctl_files, "FOLDERS", (str(folder),))
    monkeypatch.setattr(sysctl_files, "proc_path", lambda name: str(proc / name))
    found = {one["name"]: one for one in run_module(node_info)["guards"]}
    assert f"is set to 0 by {folder}/99-hardening.conf at the next boot" in found["ip_forward"]["text"]
    assert "newer than 1.36" in found["unknown_release"]["text"]
    assert "snap_refresh" not in found
    (folder / "99-hardening.conf").write_text("# net.ipv4.ip_forward = 0\n")
    assert "ip_forward" not in {one["name"] for one in run_module(node_info)["guards"]}
