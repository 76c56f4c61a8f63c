"""Which inventory is meant, and one cluster out of an inventory of many."""

import contextlib
import functools
import json
import os
import pathlib
import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from . import collection, jobs
from .errors import UsageError

FLEET = "clusters"
"""The group whose child groups are clusters."""
ROLES = ("servers", "agents")
VARIABLE = "KUBEKEEL_INVENTORY"
_WORD = re.compile(rf"\b{FLEET}\b")


@dataclass(frozen=True)
class Inventory:
    """An inventory that was found."""

    path: pathlib.Path
    cluster: str = ""
    """One cluster of a fleet, a group below C(clusters); empty for all there is."""
    is_lab: bool = False
    """Whether it is the lab's, taken since nobody named another one."""

    def __str__(self) -> str:
        """Return it as an operator names it."""
        return f"{self.path}#{self.cluster}" if self.cluster else str(self.path)

    @property
    def label(self) -> str:
        """A name for the cluster, until its nodes have been asked."""
        if self.cluster:
            return self.cluster
        return self.path.stem if self.path.is_file() and self.path.name != "hosts.yml" else self.folder.name

    @property
    def folder(self) -> pathlib.Path:
        """Its folder."""
        return self.path if self.path.is_dir() else self.path.absolute().parent


def find(given: str | None = None) -> Inventory:
    """Return the inventory that is meant: the given one, that of the environment, or the standing lab's.

    Args:
        given: a path, with C(#CLUSTER) behind it for one cluster of a fleet.

    Raises:
        UsageError: there is none
    """
    asked = given or os.environ.get(VARIABLE) or os.environ.get("ANSIBLE_INVENTORY") or ""
    if not asked:
        lab = _lab()
        if lab is None:
            raise UsageError(f"No inventory: give one with -i, or in {VARIABLE}. 'kubekeel lab up' starts a cluster to try kubekeel on")
        return Inventory(lab, is_lab=True)
    name, mark, cluster = asked.partition("#")
    path = pathlib.Path(name).absolute()
    if not path.exists():
        raise UsageError(f"There is no inventory {name}")
    if mark and cluster not in (known := clusters(path)):
        raise UsageError(f"{name} has no cluster '{cluster}'; it has {', '.join(known) or 'no group ' + FLEET}")
    return Inventory(path, cluster)


def clusters(path: pathlib.Path) -> list[str]:
    """Return the clusters of a fleet, the groups below C(clusters); none where the inventory is of one cluster.

    Raises:
        UsageError: Ansible cannot read it
    """
    if not _may_be_fleet(path):
        return []
    return list(listing(path).get(FLEET, {}).get("children", []))


def listing(path: pathlib.Path) -> dict[str, Any]:
    """Return what C(ansible-inventory --list) says. Asked once, as long as no file of it changes: a fleet needs it for each cluster.

    Raises:
        UsageError: Ansible cannot read it
    """
    found: dict[str, Any] = json.loads(_listing(path, max((file.stat().st_mtime_ns for file in _files(path)), default=0)))
    return found


@functools.lru_cache(maxsize=8)
def _listing(path: pathlib.Path, _changed: int) -> str:
    command = ["ansible-inventory", "--inventory", str(path), "--list"]
    done = subprocess.run(command, env=jobs.environment(), text=True, capture_output=True, check=False)
    # Ansible only warns of a file that it cannot read, and calls the inventory empty.
    unread = next((line for line in done.stderr.splitlines() if "Failed to parse inventory" in line or "Unable to parse" in line), "")
    if done.returncode or unread:
        raise UsageError(f"Ansible cannot read the inventory {path}: {(unread or done.stderr).strip()}")
    return done.stdout


@contextlib.contextmanager
def opened(inventory: Inventory, folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """Give a path for Ansible: the inventory itself, or for one cluster of a fleet an inventory of its own in a folder."""
    if not inventory.cluster:
        yield inventory.path
        return
    path = folder / f"{inventory.cluster}.yml"
    with path.open("x") as handle:
        yaml.dump(restricted(listing(inventory.path), inventory.cluster), handle, Dumper=_Dumper, sort_keys=False)
    try:
        yield path
    finally:
        path.unlink()


def restricted(listed: Mapping[str, Any], cluster: str) -> dict[str, Any]:
    """Return the inventory of one cluster, made of what C(listing) returned: its hosts, their groups and their variables."""
    hosts = members(listed, cluster)
    variables = listed["_meta"]["hostvars"]
    groups = {name: [host for host in members(listed, name) if host in hosts] for name in listed if name not in ("_meta", "all", FLEET)}
    return {
        "all": {
            "vars": {"kubekeel_cluster": cluster},
            "hosts": {host: _tagged(variables.get(host, {})) for host in hosts},
            "children": {name: {"hosts": dict.fromkeys(found)} for name, found in groups.items() if found or name in ROLES},
        }
    }


def members(listed: Mapping[str, Any], group: str) -> list[str]:
    """Return the hosts of a group and of the groups below it, each once."""
    entry = listed.get(group, {})
    found = [*entry.get("hosts", []), *(host for child in entry.get("children", []) for host in members(listed, child))]
    return list(dict.fromkeys(found))


def _may_be_fleet(path: pathlib.Path) -> bool:
    """Tell whether it is worth asking Ansible: that takes as long as everything else that a command does before its run."""
    return any(os.access(file, os.X_OK) or _WORD.search(file.read_text(errors="replace")) for file in _files(path))


def _files(path: pathlib.Path) -> list[pathlib.Path]:
    return [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]


def _lab() -> pathlib.Path | None:
    """Return the inventory of the lab that stands, where there is one."""
    if not collection.CHECKOUT:
        return None
    try:
        from lab import state
        from lab.cache import Cache
        from lab.errors import LabError
    except ImportError:
        # What the lab needs is an extra.
        return None
    try:
        path = state.load(Cache.from_environment(), "lab").inventory.absolute()
    except LabError:
        return None
    return path if path.exists() else None


class _Vaulted(str):
    __slots__ = ()


class _Unsafe(str):
    __slots__ = ()


class _Dumper(yaml.SafeDumper):
    """Writes what Ansible keeps secret, and what it must not template, as its YAML has it."""


_Dumper.add_representer(_Vaulted, lambda dumper, value: dumper.represent_scalar("!vault", value, style="|"))
_Dumper.add_representer(_Unsafe, lambda dumper, value: dumper.represent_scalar("!unsafe", value))


def _tagged(value: Any) -> Any:
    """Return a value of a listing with the tags that it had."""
    if isinstance(value, dict):
        for mark, kind in (("__ansible_vault", _Vaulted), ("__ansible_unsafe", _Unsafe)):
            if set(value) == {mark}:
                return kind(value[mark])
        return {key: _tagged(one) for key, one in value.items()}
    return [_tagged(one) for one in value] if isinstance(value, list) else value
