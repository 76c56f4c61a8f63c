"""From the records of runs to what has to be done to take them back."""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

from typing import Callable, Mapping, Sequence

from ansible_collections.kubekeel.ha.plugins.module_utils import node_files
from ansible_collections.kubekeel.ha.plugins.module_utils.node_change import FileChange
from ansible_collections.kubekeel.ha.plugins.module_utils.run_record import RunRecord, checksum


class Restoring:
    """What takes runs back: files, folders and sysctls, as they are now and as they were."""

    def __init__(self, sources: Sequence[RunRecord], sysctl: Callable[[str], str]) -> None:
        """Walk back through runs, the newest first.

        An older run is followed only where it left what a newer one found: what lies between them is somebody else's.

        Args:
            sources: records of runs.
            sysctl: the value of one at run time.

        Raises:
            NodeError: a copy is gone, or a file cannot be read.
        """
        self.sources = sources
        self.edited: list[str] = []
        """Names of files and sysctls that are no longer as the newest run that changed them left them."""
        self.left: list[str] = []
        """Sentences about older runs that are not followed."""
        self.folders: list[str] = []
        """Folders to remove where nothing is in them, innermost first."""
        now: dict[str, str | None] = {}
        texts: dict[str, str | None] = {}
        modes: dict[str, int] = {}
        values: dict[str, str] = {}
        for source in sources:
            for entry in reversed(source.entries):
                name = entry["name"]
                if entry["kind"] == "folder":
                    self.folders.append(name)
                elif entry["kind"] == "file":
                    now.setdefault(name, node_files.read(name))
                    if self._follows(entry, source, name in texts, checksum(texts.get(name, now[name]))):
                        texts[name] = source.kept_text(entry)
                        modes[name] = entry["mode"] or 0o600
                elif self._follows(entry, source, name in values, values[name] if name in values else sysctl(name)):
                    values[name] = entry["before"]
        self.files = [
            FileChange(name, now[name], text, modes[name], only_changes=True) for name, text in texts.items() if now[name] != text
        ]
        self.sysctls = {name: value for name, value in values.items() if sysctl(name) != value}

    def _follows(self, entry: Mapping[str, object], source: RunRecord, reached: bool, state: str | None) -> bool:
        """Tell whether an entry is about the state that was reached; where it is about the first one, note that it is not."""
        known = [entry["before"], *_states(entry)]
        if state in known:
            return True
        if reached:
            self.left.append(
                "%s: run %s left something else there than the run after it found; that stays" % (entry["name"], source.run_id)
            )
            return False
        self.edited.append(str(entry["name"]))
        return True


def _states(entry: Mapping[str, object]) -> list[object]:
    after = entry["after"]
    return after if isinstance(after, list) else []
