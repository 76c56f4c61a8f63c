"""A node on which modules run, and what has to hold of every module that changes files."""

import contextlib
import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible_collections.kubekeel.ha.plugins.module_utils import etcd_client, k3s, kube_api, lock_client, systemd
from ansible_collections.kubekeel.ha.plugins.module_utils.node_files import NodeError
from ansible_collections.kubekeel.ha.plugins.modules import restore
from hypothesis import strategies as st

from ..unit.conftest import LONG_AGO, Result, RunModule
from . import independent
from .seeds import SECRET

NAMED_SECRET = re.compile(r"token[\"']?\s*[:=]?\s*(?:&t |\|\n\s+)?[\"']?" + SECRET, re.IGNORECASE)
"""Of a text in another place nobody can tell that it is one."""
NO_SPACE = "No space left on device"
ROOM = st.none() | st.none() | st.integers(0, 12)
"""For how many writes the disk has room; most disks have enough."""


HOSTS = ("10.89.0.11", "10.89.0.12", "10.89.0.13")


class Cluster:
    """What API servers and etcd of the nodes answer; nobody else does."""

    def __init__(self) -> None:
        self.pages: dict[str, str] = {}
        self.etcd: dict[str, bytes] = {}
        self.date = ""
        """The header Date of each answer."""
        self.lease: Any = None
        """The one that keeps runs apart."""

    def answer(self, host: str, method: str, path: str, body: str | None) -> str:
        if host not in HOSTS:
            raise kube_api.ApiError("nobody answers")
        if method == "GET" and path in self.pages:
            return self.pages[path]
        if path not in (lock_client.LEASE, lock_client.LEASES) or (method, self.lease) == ("GET", None):
            raise kube_api.ApiError("HTTP 404", 404)
        if method != "GET":
            sent = json.loads(body or "null")
            if (self.lease is None) is not (method == "POST") or version(sent) != version(self.lease):
                raise kube_api.ApiError("HTTP 409", 409)
            self.lease = sent
        return json.dumps(self.lease)

    def call(self, path: str) -> bytes:
        if path not in self.etcd:
            raise etcd_client.EtcdError("nobody answers")
        return self.etcd[path]


def version(lease: Any) -> object:
    """The version that a Lease names."""
    metadata = lease.get("metadata") if isinstance(lease, dict) else None
    return metadata.get("resourceVersion") if isinstance(metadata, dict) else None


class Session(kube_api.Session):
    """A connection to a server of the cluster."""

    def __init__(self, cluster: Cluster, host: str) -> None:
        self.stamp = None
        self._cluster, self._host = cluster, host

    def __exit__(self, *_: object) -> None:
        pass

    def request(self, method: str, path: str, body: str | None = None) -> str:
        now = time.time()
        text = self._cluster.answer(self._host, method, path, body)
        self.stamp = kube_api.Stamp(self._cluster.date, now, now) if self._cluster.date else None
        return text


class Node:
    """A folder in the place of a node, which files and arguments call ``@``."""

    def __init__(self, folder: pathlib.Path, run: RunModule) -> None:
        self.folder, self.etc, self.proc = folder, folder / "node", folder / "proc"
        self.cluster = Cluster()
        self.programs: dict[str, str] = {}
        """What a command prints, by its last word."""
        self.warnings: list[str] = []
        self._run = run
        self._is_secret = True
        self._room: int | None = None
        self._started = LONG_AGO

    def restart(self) -> None:
        """Let every unit begin anew."""
        self._started = time.monotonic_ns() // 1000

    def fill(self, files: Mapping[str, str], proc: Mapping[str, str] | None = None) -> None:
        """Begin anew with these files."""
        self.cluster, self.programs, self._started = Cluster(), {}, LONG_AGO
        self._is_secret = all(text.count(SECRET) == len(NAMED_SECRET.findall(text)) for text in files.values())
        for path in self.folder.iterdir():
            shutil.rmtree(path)
        for top, each in ((self.etc, files), (self.proc, proc or {})):
            for name, text in each.items():
                path = top / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(self.named(text).encode("utf-8", "surrogateescape"))

    def named(self, value: Any) -> Any:
        """The value with the folder's name in it."""
        if isinstance(value, dict):
            return {key: self.named(one) for key, one in value.items()}
        return value.replace("@", str(self.etc)) if isinstance(value, str) else value

    def files(self) -> dict[str, bytes]:
        """Every file."""
        return {str(path.relative_to(self.etc)): path.read_bytes() for path in self.etc.rglob("*") if path.is_file()}

    def text(self, name: str) -> str:
        """The text of a file, an empty one where there is none."""
        path = self.etc / name
        return path.read_bytes().decode("utf-8", "surrogateescape") if path.exists() else ""

    def run(self, module: Any, **arguments: Any) -> Result:
        """Run a module. However it ends, it says something of use and nothing that is secret, and leaves nothing lying about."""
        self.warnings.clear()
        result = self._run(module, **self.named(arguments))
        if result.get("failed"):
            assert result["msg"].strip()
        said = json.dumps([{name: value for name, value in result.items() if name not in ("invocation", "effective")}, self.warnings])
        assert not self._is_secret or SECRET not in said
        assert "Traceback" not in said
        assert "exception" not in result
        assert not list(self.folder.rglob("*.kubekeel"))
        return result

    def run_with_room(self, room: int, module: Any, **arguments: Any) -> Result:
        """Run a module while the disk has room for so many writes."""
        self._room = room
        try:
            return self.run(module, **arguments)
        finally:
            self._room = None

    # In the place of the system.

    def confined(self, change: Callable[..., None]) -> Callable[..., None]:
        """The same, for files of this node alone."""

        def within(path: str, *args: Any, **kwargs: Any) -> None:
            if not os.path.abspath(path).startswith(str(self.folder)):
                raise NodeError(f"{path} cannot be written: {self.etc} is all there is")
            change(path, *args, **kwargs)

        return within

    def fsync(self, _descriptor: int) -> None:
        if self._room is not None:
            self._room -= 1
            if self._room < 0:
                raise OSError(28, NO_SPACE)

    def show(self, _module: object, unit: str, *_: str) -> dict[str, str]:
        unit = unit.removesuffix(".service")
        path = self.etc / f"{unit}.service"
        if unit in k3s.UNITS and not path.exists():
            raise NodeError(f"systemd has no unit {unit}")
        variables = independent.drop_in(self.text(f"units/{unit}.service.d/zz-kubekeel.conf"))
        return {
            "LoadState": "loaded",
            "ActiveState": "active",
            "FragmentPath": str(path),
            "EnvironmentFiles": f"{self.etc}/default/{unit} (ignore_errors=yes)\n{self.etc}/{unit}.env (ignore_errors=yes)",
            "Environment": " ".join(shlex.quote(f"{name}={value}") for name, value in variables.items()),
            systemd.STARTED: str(self._started),
        }

    def program(self, words: Sequence[str], **_: Any) -> subprocess.CompletedProcess[bytes]:
        said = self.programs.get(words[-1], "")
        return subprocess.CompletedProcess(words, 0 if said else 1, said.encode("utf-8", "surrogateescape"), b"error: x\n")

    def command(self, words: list[str], **_: Any) -> tuple[int, str, str]:
        if words[0] != "modprobe":
            return 0, "k3s version v1.31.3+k3s1 (x)\n", ""
        is_option = words[-1].startswith("-") and "--" not in words[1:-1]
        is_known = is_option or re.fullmatch(r"\w[\w-]*", words[-1], re.ASCII)
        return (0, "", "") if is_known else (1, "", f"FATAL: Module {words[-1]} not found")


def settle(
    node: Node,
    module: Any,
    files: Mapping[str, str],
    room: int | None = None,
    proc: Mapping[str, str] | None = None,
    look: Callable[[], Any] = lambda: None,
    overridden: bool = False,
    **arguments: Any,
) -> tuple[Result, Any, Any] | None:
    """Run a module that changes files: what it says, what was to be seen before and after. None where it refuses.

    It tells beforehand what it does, does all of it or nothing, does it once, and all of it can be taken back.

    Args:
        node: the node.
        module: the module.
        files: what is there.
        room: how many writes there is room for in a run before.
        proc: values of the running kernel.
        look: tells what there is to be seen.
        overridden: whether the module may write, and complain nevertheless that another file counts more.
        arguments: of the module.
    """
    node.fill(files, proc)
    before = node.files()
    checked = node.run(module, check=True, **arguments)
    assert node.files() == before
    seen = None if checked.get("failed") else look()
    if room is not None:
        _break_off(node, module, room, **arguments)
        node.fill(files, proc)
    made = node.run(module, run_id="r1", **arguments)
    after = node.files()
    if made.get("failed") and not overridden:
        assert after == before
        assert checked.get("failed") or checked["reasons"]
        return None
    found = look()
    again = node.run(module, run_id="r1", **arguments)
    assert node.files() == after
    assert again.get("failed", False) is made.get("failed", False)
    if not made.get("failed"):
        assert [checked[name] for name in ("changed", "changes", "diff")] == [made[name] for name in ("changed", "changes", "diff")]
        assert [again[name] for name in ("changed", "changes", "diff")] == [False, [], []]
    if not made.get("failed") and proc is None:
        assert made["changed"] is bool(made["diff"]) is (after != before)
    node.run(restore, run_id="r1")
    assert node.files() == before
    return made, seen, found


def _break_off(node: Node, module: Any, room: int, **arguments: Any) -> None:
    """Each file is as it was or as it was to be, the next run goes on from there, and all of it can be taken back."""
    before = node.files()
    broke = node.run_with_room(room, module, run_id="r1", **arguments)
    partly = node.files()
    if NO_SPACE in broke.get("msg", ""):
        node.run(module, run_id="r2", **arguments)
        whole = node.files()
        assert all(partly.get(name) in (before.get(name), whole.get(name)) for name in {*before, *partly, *whole})
        node.run(restore, run_id="r2")
    with contextlib.suppress(OSError):
        node.run(restore, run_id="r1")
    assert node.files() == before


def refusal_names_a_file(node: Node, module: Any, **arguments: Any) -> None:
    """What is refused because of what a file says names the file."""
    result = node.run(module, check=True, **arguments)
    for sentence in [result["msg"]] if result.get("failed") else result["reasons"]:
        assert str(node.etc) in sentence
