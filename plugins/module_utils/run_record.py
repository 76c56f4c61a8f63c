"""What a run changed on a node, with the previous content, so that it can be taken back.

A run has a folder of its own, readable by root only: C(record.json) and one copy for each file that was there before.
An entry is written before its change is made. A run that broke off can so be taken back, too.
"""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import time
from typing import Any, Iterable, Mapping

from ansible_collections.kubekeel.ha.plugins.module_utils import node_files

RUNS = "/var/lib/kubekeel/runs"
BEGUN, DONE, RESTORED = "begun", "done", "restored"
_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_RECORD = "record.json"


class RunRecord:
    """The record of one run on this node."""

    def __init__(self, run_id: str, runs: str | None = None) -> None:
        """Open the record of a run, or begin it.

        Raises:
            NodeError: the id cannot be a folder's name, or its record cannot be read.
        """
        if not _RUN_ID.fullmatch(run_id):
            raise node_files.NodeError("run_id %r: letters, digits, '.', '_' and '-' are allowed" % run_id)
        self.run_id = run_id
        self.folder = os.path.join(runs or RUNS, run_id)
        self._path = os.path.join(self.folder, _RECORD)
        text = node_files.read(self._path)
        self.known = text is not None
        self._data: dict[str, Any] = {"run_id": run_id, "state": BEGUN, "units": [], "entries": [], "adopted": []}
        if text is not None:
            try:
                self._data.update(**json.loads(text))
                _check(self._data)
            except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
                raise node_files.NodeError("%s is damaged: %s. Nothing was taken back" % (self._path, error)) from error

    @property
    def entries(self) -> list[dict[str, Any]]:
        """What was changed, in order."""
        return list(self._data["entries"])

    @property
    def units(self) -> list[str]:
        """The units that read what was changed."""
        return list(self._data["units"])

    @property
    def state(self) -> str:
        """C(BEGUN), C(DONE) where the node was seen to be well with the change, or C(RESTORED) where it was taken back."""
        return str(self._data["state"])

    @property
    def about(self) -> dict[str, str]:
        """When the run began here, and what else was said of it."""
        return dict(self._data.get("about", {}))

    def describe(self, about: Mapping[str, str]) -> None:
        """Note what the run is, with the time, before it changes anything. A run that goes on keeps its first time."""
        began = self.about.get("began") or time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self._data["about"] = dict(about, began=began)
        self._save()

    def conclude(self, state: str) -> None:
        """Note how the run ended on this node."""
        self._data["state"] = state
        self._save()

    def keep_file(self, path: str, before: str | None, after: str | None) -> None:
        """Keep a file's text (None: there was none) before it is changed for the first time in this run."""
        entry = self._entry("file", path)
        if entry is None:
            kept, mode = None, None
            if before is not None:
                kept = "%d-%s" % (len(self._data["entries"]), os.path.basename(path))
                mode = node_files.mode(path)
                self._make_folder()
                node_files.write(os.path.join(self.folder, kept), before, mode=0o600)
            entry = {"kind": "file", "name": path, "kept": kept, "mode": mode, "before": checksum(before), "after": []}
            self._data["entries"].append(entry)
        self._add_state(entry, checksum(after))

    def keep_sysctl(self, name: str, before: str, after: str) -> None:
        """Keep the value that a sysctl has at run time."""
        entry = self._entry("sysctl", name)
        if entry is None:
            entry = {"kind": "sysctl", "name": name, "before": before, "after": []}
            self._data["entries"].append(entry)
        self._add_state(entry, after)

    def keep_folder(self, path: str) -> None:
        """Note a folder that is about to be created, to go again with what is in it."""
        if self._entry("folder", path) is None:
            self._data["entries"].append({"kind": "folder", "name": path})
            self._save()

    def add_unit(self, unit: str) -> None:
        """Note that this unit has to restart after the run, and after it was taken back."""
        if unit not in self._data["units"]:
            self._data["units"].append(unit)
            self._save()

    @property
    def adopted(self) -> list[str]:
        """Earlier runs that broke off before their units restarted, oldest first: this run puts them into force."""
        return list(self._data["adopted"])

    def adopt(self, runs: Iterable[str], unit: str) -> None:
        """Note that this run puts the changes of earlier ones into force, when it restarts C(unit)."""
        new = [run for run in runs if run not in self._data["adopted"]]
        if new:
            self._data["adopted"].extend(new)
            self.add_unit(unit)
            self._save()

    @property
    def waiting(self) -> list[str]:
        """Units that had to restart already when the run began to change them, for a change outside of any run."""
        return list(self._data.get("waiting", []))

    def note_waiting(self, unit: str) -> None:
        """Note that a unit had to restart before the run changed anything that it reads."""
        if unit not in self.waiting and unit not in self.units:
            self._data["waiting"] = [*self.waiting, unit]
            self._save()

    @property
    def restore(self) -> list[str]:
        """The units that have to restart since the run's files came back; none where nothing had to come back."""
        return list(self._data.get("restore", []))

    def begin_restore(self, units: list[str]) -> list[str]:
        """Note which units have to restart once everything is back, and return them.

        The first call decides: after a restore that broke off, the units' own state no longer tells.
        """
        if "restore" not in self._data:
            self._data["restore"] = units
            self._save()
        decided: list[str] = self._data["restore"]
        return decided

    def kept_text(self, entry: Mapping[str, Any]) -> str | None:
        """Return the text that the file of an entry had before the run, None where there was no file.

        Raises:
            NodeError: the copy is gone, or no longer what was kept.
        """
        if entry["kept"] is None:
            return None
        path = os.path.join(self.folder, entry["kept"])
        text = node_files.read(path)
        if text is None or checksum(text) != entry["before"]:
            what = "is gone" if text is None else "was changed"
            raise node_files.NodeError("%s %s; %s cannot be taken back" % (path, what, entry["name"]))
        return text

    def _entry(self, kind: str, name: str) -> dict[str, Any] | None:
        return next((entry for entry in self._data["entries"] if (entry["kind"], entry["name"]) == (kind, name)), None)

    def _add_state(self, entry: dict[str, Any], state: str | None) -> None:
        """Note a state that the run brings about: whatever else is found there later is somebody else's."""
        if state not in entry["after"]:
            entry["after"].append(state)
        self._save()

    def _make_folder(self) -> None:
        for folder in (os.path.dirname(self.folder), self.folder):
            node_files.make_folder(folder, 0o700)

    def _save(self) -> None:
        self._make_folder()
        node_files.write(self._path, json.dumps(self._data, indent=2) + "\n", mode=0o600)


def checksum(text: str | None) -> str | None:
    """Return the SHA-256 of a file's text, None for no file."""
    return None if text is None else hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def all_runs(runs: str | None = None) -> list[RunRecord]:
    """Return the runs that changed this node, newest first.

    Raises:
        NodeError: a record cannot be read.
    """
    folder = runs or RUNS
    try:
        names = [name for name in os.listdir(folder) if os.path.exists(os.path.join(folder, name, _RECORD))]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise node_files.NodeError("%s cannot be read: %s" % (folder, error.strerror)) from error
    records = [RunRecord(name, runs) for name in names if _RUN_ID.fullmatch(name)]
    return sorted(records, key=lambda record: (record.about.get("began", ""), record.run_id), reverse=True)


def rotate(keep: int, runs: str | None = None) -> list[str]:
    """Remove all but the newest records, and return the runs that are forgotten. One that broke off is never forgotten.

    Args:
        keep: how many stay.
        runs: the folder of all records.

    Raises:
        NodeError: a record cannot be read or removed.
    """
    old = [record for record in all_runs(runs)[keep:] if record.state != BEGUN]
    for record in old:
        try:
            shutil.rmtree(record.folder)
        except OSError as error:
            raise node_files.NodeError("%s cannot be removed: %s" % (record.folder, error.strerror)) from error
    return [record.run_id for record in old]


def _check(data: Mapping[str, Any]) -> None:
    """Raise KeyError or TypeError where a record is not as it was written."""
    if data["state"] not in (BEGUN, DONE, RESTORED):
        raise TypeError("%r is no state of a run" % (data["state"],))
    texts = list(data.get("about", {}).values())
    for name in ("units", "adopted", "restore", "waiting"):
        texts += _list(data.get(name, []))
    for entry in _list(data["entries"]):
        texts.append(entry["name"])
        if entry["kind"] == "file":
            states = [entry["before"], *_after(entry)]
            texts += [state for state in (entry["kept"], *states) if state is not None]
            if (entry["kept"] is None) is not (entry["before"] is None):
                raise TypeError("it names no copy of %r, or one of a file that was not there" % (entry["name"],))
            _check_mode(entry["mode"])
        elif entry["kind"] == "sysctl":
            texts += [entry["before"], *_after(entry)]
        elif entry["kind"] != "folder":
            raise TypeError("it holds a %r" % (entry["kind"],))
    if not all(isinstance(text, str) for text in texts):
        raise TypeError("it holds something else than texts")


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError("%r is no list" % (value,))
    return value


def _after(entry: Mapping[str, Any]) -> list[Any]:
    found = _list(entry["after"])
    if not found:
        raise TypeError("it does not tell what became of %r" % (entry["name"],))
    return found


def _check_mode(mode: Any) -> None:
    if mode is not None and (isinstance(mode, bool) or not isinstance(mode, int) or not 0 <= mode <= 0o7777):
        raise TypeError("%r is no mode of a file" % (mode,))
