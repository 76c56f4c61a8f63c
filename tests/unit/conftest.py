"""Modules that change files, run as Ansible runs them, on folders of the test's own."""

import json
import pathlib
from collections.abc import Callable
from typing import Any

import pytest
from ansible.module_utils import basic
from ansible.module_utils.testing import patch_module_args
from ansible_collections.kubekeel.ha.plugins.module_utils import run_record, systemd

Result = dict[str, Any]
RunModule = Callable[..., Result]
LONG_AGO, LATER = 1, 10**18


def started(monkeypatch: pytest.MonkeyPatch, moment: int) -> None:
    """Let every unit's main process have started at a moment of the monotonic clock, in microseconds."""
    monkeypatch.setattr(systemd, "show", lambda *_: {"LoadState": "loaded", systemd.STARTED: str(moment)})


@pytest.fixture
def run_module(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> RunModule:
    monkeypatch.setattr(systemd, "MARKS", str(tmp_path / "marks"))
    monkeypatch.setattr(run_record, "RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(systemd, "reload", lambda *_: None)
    started(monkeypatch, LONG_AGO)

    def run(module: Any, check: bool = False, **arguments: object) -> Result:
        basic._ANSIBLE_ARGS = None
        with patch_module_args({**arguments, "_ansible_check_mode": check}), pytest.raises(SystemExit):
            module.main()
        result: Result = json.loads(capsys.readouterr().out)
        return result

    return run


@pytest.fixture
def warned(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a module warns of. Where the controller's code was loaded before, Ansible shows it and keeps nothing of it."""
    texts: list[str] = []
    monkeypatch.setattr(basic.AnsibleModule, "warn", lambda _, text: texts.append(text))
    return texts
