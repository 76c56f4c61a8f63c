"""What goes to a bastion, and what is believed of what comes back; runs over a real sshd are in tests/integration/test_via.py."""

import ast
import base64
import contextlib
import io
import json
import pathlib
import subprocess
import sys
import threading
import time
import zipfile
from typing import Any

import pytest
import yaml
from ansible_runner.utils.streaming import stream_dir

from kubekeel import bastion, inventories, jobs, via
from kubekeel.errors import UsageError
from kubekeel.via import Target


@pytest.mark.parametrize(
    ("text", "there"),
    [
        ("bastion", Target("bastion")),
        ("alice@bastion.example.org", Target("bastion.example.org", "alice")),
        ("bastion:2222", Target("bastion", "", 2222)),
        ("alice@[2001:db8::1]:22", Target("2001:db8::1", "alice", 22)),
        ("[fe80::1%eth0]", Target("fe80::1%eth0")),
        ("my_jump", Target("my_jump")),
    ],
)
def test_a_target(text: str, there: Target) -> None:
    assert via.target(text) == there


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-oProxyCommand=id",
        "a@-oProxyCommand=id",
        "-l@b",
        "a b",
        "a:0",
        "a:70000",
        "a:x",
        "2001:db8::1",
        "a@b@c",
        "ssh://a",
        "a;id",
        "a\n",
    ],
)
def test_no_target(text: str) -> None:
    with pytest.raises(UsageError, match=r"give \[user@\]host\[:port\]"):
        via.target(text)


def test_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBEKEEL_SSH_OPTIONS", "-J 'a b'")
    command = Target("bastion", "alice", 2222).command("python3", "-c", "print('x y')")
    assert command[command.index("-J") :] == [
        "-J",
        "a b",
        "-p",
        "2222",
        "-l",
        "alice",
        "--",
        "bastion",
        """python3 -c 'print('"'"'x y'"'"')'""",
    ]
    assert "BatchMode=yes" in command
    assert not [option for option in command if "StrictHostKeyChecking" in option]


@pytest.mark.parametrize(
    "option",
    [
        "--vault-password-file=x",
        "--vault-id",
        "--private-key=x",
        "--extra-vars=@vars.yml",
        "@vars.yml",
        "-e@vars.yml",
        "--inventory=x",
    ],
)
def test_options_that_do_not_work_there(option: str, tmp_path: pathlib.Path) -> None:
    with pytest.raises(UsageError, match="does not go together with --via"):
        via.play("bastion", jobs.Job("kubekeel.ha.audit", tmp_path, tmp_path, {}, ("--limit", "a", option)), lambda _: None)


def test_the_inventory_stays_what_it_is(tmp_path: pathlib.Path) -> None:
    (tmp_path / "hosts.yml").write_text(
        yaml.safe_dump(
            {
                "servers": {"hosts": {"z": {"port": 1}, "a": None, "m": None}, "vars": {"kind": "server"}},
                "agents": {"hosts": {"agent1": None}},
                "cluster": {"children": {"servers": None, "agents": None}, "vars": {"template": "{{ 1 + 1 }}"}},
                "empty": {},
                "ungrouped": {"hosts": {"alone": None}},
            },
            sort_keys=False,
        )
    )
    resolved = tmp_path / "resolved" / "hosts.json"
    resolved.parent.mkdir()
    resolved.write_text(json.dumps(via.resolved(tmp_path / "hosts.yml")))
    before, after = inventories.listing(tmp_path / "hosts.yml"), inventories.listing(resolved)
    assert after["_meta"]["hostvars"] == before["_meta"]["hostvars"]
    assert after["servers"]["hosts"] == ["z", "a", "m"]
    assert after["cluster"]["children"] == ["servers", "agents"]
    assert after["ungrouped"] == before["ungrouped"]
    assert "empty" in after["all"]["children"]


def received(folder: pathlib.Path, *lines: bytes | dict[str, Any]) -> via._Received:
    """What comes of a stream."""
    stream = b"".join(line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n" for line in lines)
    made = via._Received(io.BytesIO(stream), folder, lambda _: None)
    made.run()
    return made


def artifacts(folder: pathlib.Path, **files: str) -> bytes:
    """A folder as the worker sends it."""
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text)
    buffer = via._Buffer()
    stream_dir(str(folder), buffer)
    return buffer.getvalue()


EVENT = {"event": "verbose", "counter": 1, "uuid": "a", "stdout": "PLAY"}
EOF = {"eof": True}


def judged(folder: pathlib.Path, found: via._Received, code: int = 0, canceled: bool = False) -> jobs.Ended:
    return via._judged(found, jobs.Job("p", folder, folder), Target("bastion"), "", code, canceled)


@pytest.mark.parametrize(
    ("files", "code", "canceled", "status"),
    [
        ({"status": "successful", "rc": "0"}, 0, False, "successful"),
        ({"status": "successful", "rc": "0"}, 255, True, "successful"),
        ({"status": "failed", "rc": "2"}, 0, False, "failed"),
        ({"status": "failed", "rc": "99"}, 0, True, "canceled"),
        ({"status": "canceled", "rc": "254"}, 0, True, "canceled"),
        ({"status": "timeout", "rc": "None"}, 0, False, "failed"),
        ({"stdout": "PLAY", "rc": "0"}, 0, False, "lost"),
    ],
)
def test_the_status_file_judges(files: dict[str, str], code: int, canceled: bool, status: str, tmp_path: pathlib.Path) -> None:
    found = received(tmp_path, {"status": "successful"}, EVENT, artifacts(tmp_path / "artifacts", **files), EOF)
    ended = judged(tmp_path, found, code, canceled)
    assert ended.status == status
    assert (ended.code == 0) == (status == "successful")
    assert "PLAY" in ended.output


@pytest.mark.parametrize(
    "lines", [(), (EVENT,), (EVENT, EOF), ({"status": "successful"}, b'{"eve'), (b"Traceback (most recent call last):\n",)]
)
def test_a_stream_without_a_status_file_is_lost(lines: Any, tmp_path: pathlib.Path) -> None:
    ended = judged(tmp_path, received(tmp_path, *lines), 255)
    assert ended.status == "lost"
    assert "ERROR: The connection to bastion was lost" in ended.output


def test_artifacts_that_are_cut_are_lost(tmp_path: pathlib.Path) -> None:
    whole = artifacts(tmp_path / "artifacts", status="successful", stdout="x" * 1000)
    for length in (30, len(whole) // 2, len(whole) - 4):
        assert judged(tmp_path, received(tmp_path, whole[:length]), 255).status == "lost"


def test_a_bastion_writes_no_files_here(tmp_path: pathlib.Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in ("status", "command", "../../evil", "job_events/evil"):
            archive.writestr(name, "successful")
    content = buffer.getvalue()
    encoded = base64.b64encode(content)
    folder = tmp_path / "private"
    found = received(folder, {"status": "starting", "env": {"SECRET": "hunter2"}}, {"zipfile": len(content)}, encoded, EVENT, EOF)
    assert judged(tmp_path, found).status == "successful"
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_what_ignores_the_interrupt_is_killed(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    monkeypatch.setattr(bastion, "PATIENCE", 0.5)
    stubborn = "import os,signal,sys,time; os.setsid(); signal.signal(signal.SIGINT, signal.SIG_IGN);"
    stubborn += "open(sys.argv[1], 'w').write(str(os.getpid()));"
    inner = tmp_path / "inner"
    # As ansible-playbook does, in a group of its own, and with a worker of its own in another one.
    outer = stubborn + "import subprocess; subprocess.run([sys.executable, '-c', sys.argv[2], sys.argv[3]])"
    command = [sys.executable, "-c", outer, str(tmp_path / "outer"), stubborn + "time.sleep(100)", str(inner)]
    source = f"import subprocess; subprocess.run({command!r}); print('told', flush=True)"
    worker = subprocess.Popen(
        [sys.executable, "-c", "import signal; signal.signal(signal.SIGTERM, lambda *_: None);" + source], stdout=subprocess.PIPE
    )
    deadline = time.monotonic() + 60
    while not (inner.exists() and inner.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    thread = threading.Thread(target=bastion.end, args=(worker,))
    thread.start()
    assert worker.communicate(timeout=60)[0] == b"told\n", "the worker has the time to tell how it ended"
    thread.join()
    for name in ("outer", "inner"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            status = pathlib.Path("/proc", (tmp_path / name).read_text(), "status").read_text()
            assert "State:\tZ" in status, f"{name} goes on"


def test_what_is_sent_runs_on_an_old_python() -> None:
    source = pathlib.Path(bastion.__file__).read_text()
    # What is written in annotations is not looked at there.
    assert "\nfrom __future__ import annotations\n" in source
    ast.parse(source, feature_version=(3, 8))
