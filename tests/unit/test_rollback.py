"""Records of runs, and taking runs back: what was there comes back byte for byte, and nobody else's edit is lost."""

import pathlib
import tempfile
from typing import Any

import pytest
from ansible_collections.kubekeel.ha.plugins.module_utils import node_change, node_guards, run_record, running_kernel
from ansible_collections.kubekeel.ha.plugins.module_utils.node_change import FileChange
from ansible_collections.kubekeel.ha.plugins.module_utils.restoring import Restoring
from ansible_collections.kubekeel.ha.plugins.modules import restore, run_info
from ansible_collections.kubekeel.ha.plugins.modules import run_record as run_record_module
from ansible_collections.kubekeel.ha.plugins.plugin_utils.rollback_plan import plan
from hypothesis import given, settings
from hypothesis import strategies as st

from .conftest import RunModule


def change(run_id: str | None, path: pathlib.Path, text: str | None) -> None:
    """Change a file as the modules do, in a run or, for None, as somebody else."""
    before = path.read_bytes().decode("utf-8", "surrogateescape") if path.exists() else None
    changes = [FileChange(str(path), before, text)]
    node_change.keep(run_id, changes)
    if text is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
    node_change.write(changes)


def text_of(path: pathlib.Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


def test_what_a_run_created_goes_with_its_folders_and_what_it_removed_comes_back(run_module: RunModule, tmp_path: pathlib.Path) -> None:
    made, removed = tmp_path / "x.service.d" / "deep" / "a.conf", tmp_path / "b.conf"
    removed.write_bytes(b"odd \xff bytes\r\n")
    removed.chmod(0o640)
    change("r1", made, "new\n")
    change("r1", removed, None)
    result = run_module(restore, run_id="r1")
    assert (result["changed"], result["edited"]) == (True, [])
    assert not (tmp_path / "x.service.d").exists()
    assert (removed.read_bytes(), removed.stat().st_mode & 0o777) == (b"odd \xff bytes\r\n", 0o640)
    assert run_module(restore, run_id="r1")["changed"] is False


def test_a_folder_in_which_somebody_put_something_stays(run_module: RunModule, tmp_path: pathlib.Path) -> None:
    made = tmp_path / "x.service.d" / "a.conf"
    change("r1", made, "new\n")
    (made.parent / "theirs.conf").write_text("mine\n")
    run_module(restore, run_id="r1")
    assert [entry.name for entry in made.parent.iterdir()] == ["theirs.conf"]


@pytest.mark.parametrize("force", [False, True])
def test_an_edit_of_somebody_else_is_not_overwritten_unless_forced(run_module: RunModule, tmp_path: pathlib.Path, force: bool) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text("old\n")
    change("r1", one, "new\n")
    change("r1", two, "new\n")
    one.write_text("edited\n")
    assert run_module(run_info)["runs"][0]["edited"] == [str(one)]
    result = run_module(restore, run_id="r1", force=force)
    assert result["edited"] == [str(one)]
    assert result.get("failed", False) is not force
    assert (one.read_text(), two.exists()) == (("old\n", False) if force else ("edited\n", True))


def test_a_sysctl_that_somebody_else_set_since_is_not_overwritten(run_module: RunModule, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = {"a.b": "8"}
    monkeypatch.setattr(running_kernel, "sysctl", lambda name: kernel[name])
    monkeypatch.setattr(running_kernel, "set_sysctl", kernel.__setitem__)
    node_change.keep("r1", [], sysctls={"a.b": ("15", "8")})
    kernel["a.b"] = "9"
    assert "somebody else changed a.b" in run_module(restore, run_id="r1")["msg"]
    kernel["a.b"] = "8"
    assert run_module(restore, run_id="r1")["changed"] is True
    assert kernel == {"a.b": "15"}


def test_an_edit_between_a_run_that_broke_off_and_the_one_that_adopted_it_stays(
    run_module: RunModule, tmp_path: pathlib.Path, warned: list[str]
) -> None:
    path = tmp_path / "file"
    path.write_text("old\n")
    change("r1", path, "one\n")
    change(None, path, "theirs\n")
    change("r2", path, "two\n")
    run_record.RunRecord("r2").adopt(["r1"], "x")
    run_module(restore, run_id="r2")
    assert path.read_text() == "theirs\n"
    assert "run r1 left something else there" in warned[0]


def test_a_run_that_was_put_into_force_and_forgotten_is_told(run_module: RunModule, tmp_path: pathlib.Path, warned: list[str]) -> None:
    path = tmp_path / "file"
    change("r2", path, "two\n")
    run_record.RunRecord("r2").adopt(["r1"], "x")
    assert run_module(restore, run_id="r2")["paths"] == [str(path)]
    assert "there is no record any more of run r1" in warned[0]
    assert [one.name for one in (tmp_path / "runs").iterdir()] == ["r2"]


def test_a_sysctl_that_was_empty_is_followed_to_the_run_before(run_module: RunModule, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = {"a.b": "8"}
    monkeypatch.setattr(running_kernel, "sysctl", lambda name: kernel[name])
    monkeypatch.setattr(running_kernel, "set_sysctl", kernel.__setitem__)
    node_change.keep("r1", [], sysctls={"a.b": ("15", "")})
    node_change.keep("r2", [], sysctls={"a.b": ("", "8")})
    run_record.RunRecord("r2").adopt(["r1"], "x")
    assert run_module(restore, run_id="r2")["changed"] is True
    assert kernel == {"a.b": "15"}


CONTENTS = st.sampled_from(["", "a\n", "b\n", "c\udcff\n", None])


@settings(deadline=None, max_examples=300)
@given(
    first=CONTENTS, steps=st.lists(st.tuples(st.sampled_from(["one", "two"]), CONTENTS), min_size=1, max_size=6), edit=st.none() | CONTENTS
)
def test_a_run_is_taken_back_byte_for_byte_or_not_at_all(first: str | None, steps: list[tuple[str, str | None]], edit: str | None) -> None:
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as monkeypatch:
        folder = pathlib.Path(name)
        monkeypatch.setattr(run_record, "RUNS", str(folder / "runs"))
        paths = {each: folder / each for each in ("one", "two")}
        for path in paths.values():
            change(None, path, first)
        before = {each: text_of(path) for each, path in paths.items()}
        for each, text in steps:
            change("r1", paths[each], text)
        mine = text_of(paths["one"])
        change(None, paths["one"], edit)
        theirs = text_of(paths["one"])
        back = Restoring([run_record.RunRecord("r1")], lambda _name: "")
        known = {
            before["one"],
            mine,
            *(None if text is None else text.encode("utf-8", "surrogateescape") for at, text in steps if at == "one"),
        }
        touched = any(at == "one" for at, _text in steps)
        assert back.edited == ([] if theirs in known or not touched else [str(paths["one"])])
        if not back.edited:
            node_change.write(back.files)
            assert text_of(paths["two"]) == before["two"]
            assert text_of(paths["one"]) == (before["one"] if touched else theirs)


def test_old_records_go_but_not_those_of_runs_that_broke_off(run_module: RunModule, tmp_path: pathlib.Path) -> None:
    for number in range(5):
        run_module(run_record_module, run_id=f"r{number}", about={"operator": "me"}, keep=10)
        if number != 1:
            run_module(run_record_module, run_id=f"r{number}", state="done")
    result = run_module(run_record_module, run_id="r5", keep=2)
    assert result["forgotten"] == ["r3", "r2", "r0"]
    runs = run_module(run_info)["runs"]
    assert [(run["run_id"], run["state"]) for run in runs] == [("r5", "begun"), ("r4", "done"), ("r1", "begun")]
    assert runs[1]["about"] == {"operator": "me"}
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "runs").rglob("*.json")} == {0o600}
    assert "has to stay" in run_module(run_record_module, run_id="r6", keep=0)["msg"]


def test_a_copy_that_was_tampered_with_is_not_brought_back(run_module: RunModule, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "file"
    path.write_text("old\n")
    change("r1", path, "new\n")
    (tmp_path / "runs/r1/0-file").write_text("evil\n")
    assert "was changed" in run_module(restore, run_id="r1")["msg"]
    assert path.read_text() == "new\n"


def a_run(
    run_id: str, began: str = "", *, state: str = "done", files: tuple[str, ...] = ("/f",), edited: tuple[str, ...] = ()
) -> dict[str, Any]:
    listed = [{"name": name, "before": "x", "after": "y"} for name in files]
    about = {"profile": "fast"}
    return {
        "run_id": run_id,
        "began": began or run_id,
        "state": state,
        "about": about,
        "files": listed,
        "sysctls": [],
        "edited": list(edited),
    }


def test_the_latest_run_is_taken_back_its_second_pass_first() -> None:
    known = {
        "server1": [a_run("T2-2", "T3"), a_run("T2"), a_run("T1")],
        "agent1": [a_run("T2"), a_run("T1")],
        "agent2": [a_run("T1")],
    }
    found = plan(known, "", [])
    assert (found["run_id"], found["about"], found["reasons"], found["nothing"]) == ("T2", {"profile": "fast"}, [], "")
    assert [(each["run_id"], each["nodes"]) for each in found["passes"]] == [("T2-2", ["server1"]), ("T2", ["server1", "agent1"])]
    (reason,) = plan(known, "", ["server2"])["reasons"]
    assert "take it back on all nodes, without leaving out server2" in reason
    assert plan(known, "T1", ["server2"])["reasons"] == []


def test_what_a_second_pass_changed_is_no_edit_of_somebody_else() -> None:
    known = {"server1": [a_run("T2-2", "T3"), a_run("T2", edited=("/f", "/g"), files=("/f", "/g"))]}
    assert plan(known, "T2", [])["reasons"] == ["server1: /g was changed by somebody else since run T2"]
    assert plan(known, "T2", [], force=True)["reasons"] == []


def test_a_newer_run_is_named() -> None:
    known = {"server1": [a_run("T2"), a_run("T1", edited=("/f",))]}
    assert plan(known, "T1", [])["reasons"] == ["server1: /f was changed by run T2 since run T1"]


def test_a_newer_run_that_changed_other_files_is_not_blamed() -> None:
    known = {"server1": [a_run("T2", files=("/other",)), a_run("T1", edited=("/f",))]}
    assert plan(known, "T1", [])["reasons"] == ["server1: /f was changed by somebody else since run T1"]


def test_where_there_is_nothing_to_take_back_it_says_what_there_is() -> None:
    known = {"server1": [a_run("T2", state="restored"), a_run("T1")]}
    assert plan(known, "", [])["nothing"] == "run T2 was taken back already. Runs that could be: T1"
    assert plan(known, "T9", [])["nothing"] == "run T9 changed none of these nodes. Runs that could be: T1"
    assert plan({"server1": []}, "", [])["nothing"] == "no run has changed these nodes"


def test_a_run_that_broke_off_is_known_until_another_one_is_carried_through(run_module: RunModule, tmp_path: pathlib.Path) -> None:
    run_module(run_record_module, run_id="r1", about={"operator": "me@here"})
    change("r1", tmp_path / "file", "new\n")
    latest = run_record.all_runs()[0]
    state = node_guards.State("n1", "v1.32.3", broke_off=latest.run_id, about=latest.about)
    (found,) = [one for one in node_guards.find(state) if one["name"] == "run_broke_off"]
    assert found["refuses"] is False
    assert "run r1 broke off on n1 (operator me@here, began " in found["text"]
    assert "rollback_run=r1" in found["text"]
    run_module(run_record_module, run_id="r2")
    run_record.RunRecord("r2").adopt(["r1"], "x")
    run_module(run_record_module, run_id="r2", state="done")
    assert {run.state for run in run_record.all_runs()} == {"done"}
