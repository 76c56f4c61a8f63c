"""What a run changed on a node, with the previous content, so that it can be taken back.

A run has a folder of its own, readable by root only: C(record.json) and one copy for each file that was there before.
An entry is written before its change is made. A run that broke off can so be taken back, too.
"""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import json
import os
import re
from typing import Any, Iterable

from ansible_collections.kubekeel.ha.plugins.module_utils import node_files

RUNS = "/var/lib/kubekeel/runs"
_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class RunRecord:
    """The record of one run on this node."""

    def __init__(self, run_id: str, runs: str | None = None) -> None:
        """Open the record of a run, or begin it.

        Raises:
            NodeError: the id cannot be a folder's name, or its record cannot be read.
        """
        if not _RUN_ID.fullmatch(run_id):
            raise node_files.NodeError("run_id %r: letters, digits, '.', '_' and '-' are allowed" % run_id)
        self.folder = os.path.join(runs or RUNS, run_id)
        self._path = os.path.join(self.folder, "record.json")
        text = node_files.read(self._path)
        self.known = text is not None
        self._data: dict[str, Any] = {"run_id": run_id, "units": [], "entries": [], "adopted": []}
        if text is not None:
            try:
                self._data.update(**json.loads(text))
            except (TypeError, ValueError) as error:
                raise node_files.NodeError("%s is damaged: %s. Nothing was taken back" % (self._path, error)) from error

    @property
    def entries(self) -> list[dict[str, Any]]:
        """What was changed, in order."""
        return list(self._data["entries"])

    @property
    def units(self) -> list[str]:
        """The units that read what was changed."""
        return list(self._data["units"])

    def keep_file(self, path: str, text: str | None) -> None:
        """Keep a file's text (None: there was none) before it is changed for the first time in this run."""
        if any(entry["kind"] == "file" and entry["path"] == path for entry in self.entries):
            return
        kept = None
        if text is not None:
            kept = "%d-%s" % (len(self.entries), os.path.basename(path))
            self._make_folder()
            node_files.write(os.path.join(self.folder, kept), text, mode=0o600)
        self._add({"kind": "file", "path": path, "kept": kept})

    def keep_sysctl(self, name: str, value: str) -> None:
        """Keep the value that a sysctl has at run time."""
        if not any(entry["kind"] == "sysctl" and entry["name"] == name for entry in self.entries):
            self._add({"kind": "sysctl", "name": name, "value": value})

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

    def begin_restore(self, units: list[str]) -> list[str]:
        """Note which units have to restart once everything is back, and return them.

        The first call decides: after a restore that broke off, the units' own state no longer tells.
        """
        if "restore" not in self._data:
            self._data["restore"] = units
            self._save()
        decided: list[str] = self._data["restore"]
        return decided

    def kept_text(self, entry: dict[str, Any]) -> str | None:
        """Return the text that the file of an entry had before the run, None where there was no file.

        Raises:
            NodeError: the copy is gone.
        """
        if entry["kept"] is None:
            return None
        path = os.path.join(self.folder, entry["kept"])
        text = node_files.read(path)
        if text is None:
            raise node_files.NodeError("%s is gone; %s cannot be taken back" % (path, entry["path"]))
        return text

    def _add(self, entry: dict[str, Any]) -> None:
        self._data["entries"].append(entry)
        self._save()

    def _make_folder(self) -> None:
        for folder in (os.path.dirname(self.folder), self.folder):
            node_files.make_folder(folder, 0o700)

    def _save(self) -> None:
        self._make_folder()
        node_files.write(self._path, json.dumps(self._data, indent=2) + "\n", mode=0o600)
