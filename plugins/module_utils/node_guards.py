"""What of a node speaks against changing anything on it now: its disks, its sysctls, its release, its snaps. Reads nothing."""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Callable, Mapping, NamedTuple, Sequence

from ansible_collections.kubekeel.ha.plugins.module_utils import guards, release, snapd

MIB = 1024 * 1024
LEAST_DISK = 100 * MIB
"""Bytes that a file system needs: kubekeel's files take less than one MiB, etcd's first segment 64 MB, the rest is for logs."""
LEAST_MEMORY = MIB
"""Bytes that one in memory needs. There lie kubekeel's marks and no more, and on a small machine it has a few MiB in all."""
LEAST_INODES = 1000
IP_FORWARD = "net.ipv4.ip_forward"


class Place(NamedTuple):
    """A folder that kubekeel writes to, or the nearest one above it that there is."""

    path: str
    """The folder itself."""
    device: int
    """Which file system it lies on."""
    in_memory: bool = False
    problem: str = ""
    """Why nothing can be written there; then the rest was not read."""
    free: int = 0
    """Bytes."""
    inodes: int | None = None
    """Free ones; None where the file system does not count them."""


@dataclass(frozen=True)
class Snaps:
    """What the command snap said."""

    problem: str = ""
    """Why it did not."""
    changes: Sequence[snapd.Change] = ()
    installed: snapd.Installed | None = None
    """MicroK8s; None where snap does not list it."""
    hold: str = ""
    """Until when the refreshes of all snaps are held."""


@dataclass(frozen=True)
class State:
    """What was read of a node."""

    name: str
    release: str
    places: Sequence[Place] = ()
    forwarding: str | None = None
    """What net.ipv4.ip_forward is; None where this kernel has none."""
    forwarding_at_boot: tuple[str, str] | None = None
    """What a file sets it to at the next boot, and which one; None where none does."""
    snaps: Snaps | None = None
    """None on a node whose Kubernetes is no snap."""
    broke_off: str = ""
    """The latest run, where it was neither carried through nor taken back."""
    about: Mapping[str, str] = field(default_factory=dict)
    """What that run's record says of it."""


def _together(places: Sequence[Place]) -> str:
    return ", ".join(place.path for place in places)


def _alike(places: Sequence[Place], key: Callable[[Place], object]) -> list[list[Place]]:
    found: dict[object, list[Place]] = {}
    for place in places:
        found.setdefault(key(place), []).append(place)
    return list(found.values())


def _size(count: int) -> str:
    return "%.1f MiB" % (count / MIB)


def _storage(state: State) -> list[dict[str, Any]]:
    shut = _alike([place for place in state.places if place.problem], lambda place: (place.device, place.problem))
    found = [guards.found("read_only", node=state.name, paths=_together(group), problem=group[0].problem) for group in shut]
    for group in _alike([place for place in state.places if not place.problem], lambda place: (place.device, place.in_memory)):
        least = LEAST_MEMORY if group[0].in_memory else LEAST_DISK
        facts = {"node": state.name, "paths": _together(group)}
        # They are read one after the other, while somebody else may write there.
        free = min(place.free for place in group)
        inodes = min((place.inodes for place in group if place.inodes is not None), default=LEAST_INODES)
        if free < least:
            found.append(guards.found("disk_full", free=_size(free), least=_size(least), **facts))
        if inodes < LEAST_INODES:
            found.append(guards.found("disk_full", free="%d inodes" % inodes, least="%d" % LEAST_INODES, **facts))
    return found


def _forwarding(state: State) -> list[dict[str, Any]]:
    states = []
    if state.forwarding == "0":
        states.append("is 0")
    if state.forwarding_at_boot and state.forwarding_at_boot[0] == "0":
        states.append("is set to 0 by %s at the next boot" % state.forwarding_at_boot[1])
    return [guards.found("ip_forward", node=state.name, state=" and ".join(states))] if states else []


def _release(state: State) -> list[dict[str, Any]]:
    problem = release.unknown(state.release)
    return [guards.found("unknown_release", node=state.name, release=state.release, problem=problem)] if problem else []


def _snaps(state: State) -> list[dict[str, Any]]:
    snaps = state.snaps
    if snaps is None:
        return []
    if snaps.problem:
        return [guards.found("snap_refresh", node=state.name, doubt="nobody can tell whether ", change=snaps.problem)]
    found = [guards.found("snap_refresh", node=state.name, doubt="", change=str(change)) for change in snaps.changes]
    if snaps.installed and snaps.installed.is_held:
        found.append(guards.found("snap_held", until="", command="snap refresh --unhold microk8s"))
    elif snaps.hold:
        until = ", with those of all snaps, " + ("for ever" if snaps.hold == "forever" else "until " + snaps.hold)
        found.append(guards.found("snap_held", until=until, command="snap refresh --unhold"))
    elif snaps.installed and not snaps.installed.is_local:
        found.append(guards.found("snap_hold"))
    return found


def _broke_off(state: State) -> list[dict[str, Any]]:
    if not state.broke_off:
        return []
    said = ", ".join("%s %s" % (name, value) for name, value in state.about.items() if value)
    return [guards.found("run_broke_off", node=state.name, run=state.broke_off, about=" (%s)" % said if said else "")]


FINDERS: Sequence[Callable[[State], Sequence[Mapping[str, Any]]]] = (_storage, _forwarding, _release, _snaps, _broke_off)


def find(state: State) -> list[dict[str, Any]]:
    """Return everything that speaks against a change."""
    return [dict(one) for finder in FINDERS for one in finder(state)]
