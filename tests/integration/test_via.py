"""Runs from a bastion, which is this machine: over a real sshd with a key of its own, on a free port."""

import contextlib
import functools
import json
import os
import pathlib
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from dataclasses import dataclass
from typing import Any

import pytest
import yaml

from kubekeel import jobs, runs, via
from kubekeel.errors import KubekeelError

SSHD = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:" + os.environ.get("PATH", ""))
SYSTEM = "/usr/local/bin:/usr/bin:/bin"
PROGRAMS = os.path.dirname(sys.executable) + ":" + SYSTEM

pytestmark = [
    pytest.mark.skipif(not SSHD, reason="there is no sshd: apt-get install openssh-server"),
    pytest.mark.skipif(os.geteuid() != 0, reason="an sshd that lets root in has to be started by root"),
    pytest.mark.timeout(400),
]


@dataclass
class Bastion:
    folder: pathlib.Path
    port: int

    @property
    def name(self) -> str:
        return f"root@127.0.0.1:{self.port}"

    def client(self) -> int:
        """The ssh that this process has started to go there."""
        for path in pathlib.Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if f"\0{self.port}\0" in (path / "cmdline").read_text() and f"PPid:\t{os.getpid()}\n" in (path / "status").read_text():
                    return int(path.name)
        return 0


@pytest.fixture
def bastion(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Bastion]]:
    """Starts a bastion with the given PATH."""
    pathlib.Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    servers = []

    def start(path: str = PROGRAMS) -> Bastion:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
        folder = tmp_path / f"sshd-{port}"
        folder.mkdir()
        for key in ("host", "client"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / key)], check=True)
        settings = {
            "Port": port,
            "ListenAddress": "127.0.0.1",
            "HostKey": folder / "host",
            "AuthorizedKeysFile": folder / "client.pub",
            "PidFile": "none",
            "StrictModes": "no",
            "UsePAM": "no",
            "PasswordAuthentication": "no",
            "PermitRootLogin": "prohibit-password",
            "SetEnv": f'PATH="{path}"',
        }
        (folder / "sshd_config").write_text("".join(f"{name} {value}\n" for name, value in settings.items()))
        (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {(folder / 'host.pub').read_text()}")
        assert SSHD
        servers.append(subprocess.Popen([SSHD, "-D", "-e", "-f", str(folder / "sshd_config")], stderr=(folder / "log").open("w")))
        wait(lambda: listens(port))
        options = [
            "-F",
            "none",
            "-i",
            str(folder / "client"),
            "-o",
            "IdentitiesOnly=yes",
            "-o",
            f"UserKnownHostsFile={folder / 'known_hosts'}",
        ]
        monkeypatch.setenv("KUBEKEEL_SSH_OPTIONS", shlex.join(options))
        return Bastion(folder, port)

    yield start
    for server in servers:
        server.terminate()
        server.wait()


@dataclass
class Played:
    """A run in a thread of its own, and what it told."""

    ended: futures.Future[jobs.Ended]
    cancel: threading.Event
    events: list[dict[str, Any]]

    def end(self) -> jobs.Ended:
        return self.ended.result(100)

    @property
    def folder(self) -> pathlib.Path:
        """The folder on the bastion, as the playbook printed it."""
        printed = next(event["event_data"]["res"]["msg"] for event in self.events if event["event"] == "runner_on_ok")
        return pathlib.Path(printed).parents[1]


PLAYBOOK = """
- hosts: servers
  gather_facts: false
  connection: local
  vars: {{ansible_python_interpreter: "{{{{ ansible_playbook_python }}}}"}}
  tasks:
    - ansible.builtin.debug: {{msg: "{{{{ inventory_dir }}}}"}}
{tasks}
"""


@pytest.fixture
def play(tmp_path: pathlib.Path) -> Iterator[Callable[..., Played]]:
    """Starts a playbook with further tasks on a bastion; the inventory is a folder 'cluster'."""
    inventory, private = tmp_path / "cluster", tmp_path / "private"
    cancels: list[threading.Event] = []
    inventory.mkdir()
    private.mkdir()
    (inventory / "hosts.yml").write_text("servers: {hosts: {server1: {}}}\n")

    def start(bastion: Bastion, *tasks: dict[str, Any], options: tuple[str, ...] = (), **variables: Any) -> Played:
        playbook = tmp_path / "playbook.yml"
        listed = "".join(f"    - {json.dumps(task)}\n" for task in tasks)
        playbook.write_text(PLAYBOOK.format(tasks=listed))
        job = jobs.Job(str(playbook), inventory, private, variables, options)
        events: list[dict[str, Any]] = []
        cancel = threading.Event()
        cancels.append(cancel)
        return Played(pool.submit(via.play, bastion.name, job, events.append, cancel), cancel, events)

    with futures.ThreadPoolExecutor() as pool:
        yield start
        for each in cancels:
            each.set()


def wait(condition: Callable[[], Any], seconds: float = 100) -> None:
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(OSError):
            if condition():
                return
        assert time.monotonic() < deadline, "it did not come to it"
        time.sleep(0.1)


def listens(port: int) -> bool:
    with socket.create_connection(("127.0.0.1", port), 1):
        return True


def command(text: str) -> dict[str, Any]:
    return {"ansible.builtin.command": {"cmd": text}}


def running(text: str) -> bool:
    """Whether a process has this in its command line, and is no zombie."""
    for path in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if text in (path / "cmdline").read_text().replace("\0", " "):
                return True
    return False


def test_a_run_tells_its_events_and_leaves_nothing_there(bastion: Any, play: Any, tmp_path: pathlib.Path) -> None:
    result = tmp_path / "result"
    played = play(
        bastion(),
        {"ansible.builtin.copy": {"content": "found", "dest": "{{ kubekeel_result_file }}", "mode": "0600"}},
        kubekeel_result_file=str(result),
    )
    ended = played.end()
    assert (ended.status, ended.code) == ("successful", 0)
    assert "PLAY RECAP" in ended.output
    assert [event["event"] for event in played.events][-1] == "playbook_on_stats"
    assert result.read_text() == "found"
    assert played.folder.name.startswith("kubekeel-")
    assert not played.folder.exists()
    left = [path for path in (tmp_path / "private").rglob("*") if path.is_file()]
    assert not left, "the bastion's environment is not kept here"


def test_the_inventory_is_resolved_here_with_what_is_encrypted(
    bastion: Any, play: Any, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    password = tmp_path / "password"
    password.write_text("correct horse")
    monkeypatch.setenv("ANSIBLE_VAULT_PASSWORD_FILE", str(password))
    encrypted = subprocess.run(
        ["ansible-vault", "encrypt_string", "--name", "inline", "hunter2"],
        env=jobs.environment(),
        text=True,
        capture_output=True,
        check=True,
    ).stdout
    group_vars = tmp_path / "cluster" / "group_vars"
    group_vars.mkdir()
    (group_vars / "servers.yml").write_text(encrypted + 'unsafe: !unsafe "{{ 1 + 1 }}"\ntemplate: "{{ 1 + 1 }}"\n')
    conditions = ["inline == 'hunter2'", "unsafe | length == 11", "template == 2", "inventory_dir | basename == 'cluster'"]
    ended = play(bastion(), {"ansible.builtin.assert": {"that": conditions}}).end()
    assert ended.status == "successful", ended.output


def test_the_collection_that_is_sent_runs(bastion: Any, tmp_path: pathlib.Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        closed = taken.getsockname()[1]
    inventory = tmp_path / "unreachable"
    inventory.mkdir()
    host = {"ansible_host": "127.0.0.1", "ansible_port": closed, "ansible_ssh_retries": 0}
    (inventory / "hosts.yml").write_text(yaml.safe_dump({"servers": {"hosts": {"server1": host}}}))
    play = functools.partial(via.play, bastion().name)
    found = runs.run("audit", str(inventory), folder=tmp_path / "runs", play=play)
    assert (found.status, found.exit_code) == ("incomplete", 3), found.document["failures"]
    assert found.document["cluster"]["name"] == "unreachable"
    [failure] = [failure for failure in found.document["failures"] if failure["unreachable"]]
    assert failure["nodes"] == ["server1"]
    assert "Connection refused" in failure["message"]


def test_a_password_file_is_sent_along(bastion: Any, play: Any, tmp_path: pathlib.Path) -> None:
    (tmp_path / "become").write_text("hunter2")
    sent = "query('fileglob', inventory_dir ~ '/../../password-*')"
    task = {"ansible.builtin.assert": {"that": [f"lookup('file', {sent} | first) == 'hunter2'"]}}
    played = play(bastion(), task, options=("--become-password-file", str(tmp_path / "become")))
    assert played.end().status == "successful", played.end().output
    assert not played.folder.exists()


def test_a_playbook_that_fails(bastion: Any, play: Any) -> None:
    ended = play(bastion(), {"ansible.builtin.fail": {"msg": "no"}}).end()
    assert (ended.status, ended.code) == ("failed", 2)
    assert "no" in ended.output


def test_a_worker_that_is_missing(bastion: Any, tmp_path: pathlib.Path) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("python3", "ansible-playbook"):
        (programs / name).symlink_to(os.path.join(os.path.dirname(sys.executable), name))
    there = bastion(f"{programs}:/usr/bin:/bin")
    [sentence] = via.look(there.name)
    assert sentence.startswith("root@127.0.0.1 has no working ansible-runner on the PATH")
    assert str(programs) in sentence
    with pytest.raises(KubekeelError, match=r"install ansible-runner>=2\.4"):
        via.play(there.name, jobs.Job("kubekeel.ha.audit", _inventory(tmp_path), tmp_path), lambda _: None)


def test_a_bastion_with_all_that_it_needs(bastion: Any) -> None:
    assert via.look(bastion().name) == []


def test_no_python(bastion: Any, tmp_path: pathlib.Path) -> None:
    (tmp_path / "nothing").mkdir()
    [sentence] = via.look(bastion(str(tmp_path / "nothing")).name)
    assert "has no python3 on the PATH" in sentence


def test_nobody_listens(bastion: Any) -> None:
    bastion()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    [sentence] = via.look(f"root@127.0.0.1:{port}")
    assert "cannot be reached" in sentence
    assert "Connection refused" in sentence


def test_a_host_key_that_changed_is_refused(bastion: Any) -> None:
    there = bastion()
    known = there.folder / "known_hosts"
    other = (there.folder / "client.pub").read_text().split()
    known.write_text(f"[127.0.0.1]:{there.port} {other[0]} {other[1]}\n")
    [sentence] = via.look(there.name)
    assert "Host key verification failed" in sentence


def test_a_connection_that_is_cut(bastion: Any, play: Any, tmp_path: pathlib.Path) -> None:
    go, finished = tmp_path / "go", tmp_path / "finished"
    there = bastion()
    # More than fits into the pipes of a connection that nobody reads.
    script = f"until test -e {go}; do sleep 0.1; done; head -c 200000 /dev/zero | tr '\\0' x"
    played = play(there, {"ansible.builtin.command": {"argv": ["sh", "-c", script]}}, command(f"touch {finished}"))
    wait(lambda: running(script))
    os.kill(there.client(), signal.SIGKILL)
    ended = played.end()
    assert ended.status == "lost"
    assert "The connection to root@127.0.0.1 was lost" in ended.output
    assert "ansible-playbook kubekeel.ha.lock" in ended.output
    assert played.folder.exists()
    go.touch()
    wait(finished.exists)
    wait(lambda: not played.folder.exists())


def test_an_interrupt_ends_it_there_too(bastion: Any, play: Any, tmp_path: pathlib.Path) -> None:
    mark = f"sleep 300.{os.getpid()}"
    played = play(bastion(), command(mark), command(f"touch {tmp_path / 'finished'}"))
    wait(lambda: running(mark))
    began = time.monotonic()
    played.cancel.set()
    ended = played.end()
    assert (ended.status, ended.code != 0) == ("canceled", True), ended
    assert time.monotonic() - began < 100, "it did not end before its task did"
    assert not running(mark)
    assert not played.folder.exists()
    assert not (tmp_path / "finished").exists()


def test_a_stop_between_two_nodes_is_told(bastion: Any, play: Any, tmp_path: pathlib.Path) -> None:
    stop = tmp_path / "stop"
    task = {"ansible.builtin.wait_for": {"path": "{{ kubekeel_stop_file }}", "timeout": 20}}
    played = play(bastion(), task, kubekeel_stop_file=str(stop))
    wait(lambda: played.events)
    stop.touch()
    assert played.end().status == "successful"


def test_several_at_once(bastion: Any, tmp_path: pathlib.Path) -> None:
    there = bastion()
    playbook = tmp_path / "several.yml"
    playbook.write_text(PLAYBOOK.format(tasks=""))
    inventory = _inventory(tmp_path)

    def one(name: str) -> str:
        (tmp_path / name).mkdir()
        return via.play(there.name, jobs.Job(str(playbook), inventory, tmp_path / name), lambda _: None).status

    with futures.ThreadPoolExecutor() as pool:
        assert list(pool.map(one, "ab")) == ["successful"] * 2


def _inventory(folder: pathlib.Path) -> pathlib.Path:
    path = folder / "hosts.yml"
    path.write_text("servers: {hosts: {server1: {}}}\n")
    return path
