"""What K3s makes of its configuration files and its command line, and what a drop-in of ours has to say. Reads nothing.

K3s reads config.yaml, then the files of config.yaml.d by name. A later key replaces an earlier one, C(key+) appends to
it. What comes of it is put before the arguments of the command line, so that a list goes on there and a single value is
decided there (k3s-io/k3s pkg/configfilearg/parser.go). A component's flags are a list, and the component takes the last
of two; K3s' own look-ups take the first. So there should be one.
"""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Collection, Mapping, Sequence

from ansible_collections.kubekeel.ha.plugins.module_utils import config_yaml, k3s_keys, settings
from ansible_collections.kubekeel.ha.plugins.module_utils.config_yaml import Entry, Scalar
from ansible_collections.kubekeel.ha.plugins.module_utils.go_duration import same_value

if TYPE_CHECKING:
    from ansible_collections.kubekeel.ha.plugins.module_utils.args_plan import Flags

DROP_IN = "zz-kubekeel.yaml"
SETTINGS = ("server",)
"""Keys with a single value that kubekeel may write."""
_HEAD = "# Written by kubekeel. Change it through the inventory: the next run writes it again.\n"


@dataclass(frozen=True)
class File:
    """A configuration file that was read."""

    path: str
    entries: Sequence[Entry]


@dataclass(frozen=True)
class Argument:
    """An argument that K3s gets, and where it stands."""

    key: str
    value: str
    path: str
    line: int

    @property
    def place(self) -> str:
        """File and line."""
        return "%s:%d" % (self.path, self.line) if self.line else self.path

    @property
    def flag(self) -> tuple[str, str]:
        """For an item of a C(*-arg) key: name and value of the component's flag, as the component understands them."""
        name, equals, value = self.value.lstrip("-").partition("=")
        # name+=value goes to the component beside K3s' own default; it is another thing than name=value.
        return name.replace("_", "-"), value if equals else "true"


@dataclass
class Merged:
    """The arguments that K3s gets."""

    arguments: list[Argument] = field(default_factory=list)
    replaced: list[tuple[Argument, Entry, str]] = field(default_factory=list)
    """An argument that a later key did away with, that key, and its file."""

    def items(self, component: str) -> list[Argument]:
        """Return the items of a component's flags, in order."""
        known = k3s_keys.COMPONENTS[component]
        return [one for one in self.arguments if one.key in (known.key, *known.other_keys)]

    def occurrences(self, component: str, flag: str) -> list[Argument]:
        """Return the items that set a flag of a component; the last one counts."""
        return [item for item in self.items(component) if item.flag[0] == flag]

    def last(self, key: str) -> Argument | None:
        """Return the argument that decides a key with a single value."""
        return next((one for one in reversed(self.arguments) if one.key == key), None)

    def values(self, key: str) -> list[str]:
        """Return every value of a key that takes a list; K3s splits them at commas."""
        return [part for one in self.arguments if one.key == key for part in one.value.split(",") if part]

    def is_on(self, key: str) -> bool:
        """Tell whether a boolean key is switched on."""
        found = self.last(key)
        return found is not None and found.value.lower() in ("", "true", "t", "1")

    def runs(self, component: str, role: str) -> bool:
        """Tell whether a node of a role runs a component."""
        known = k3s_keys.COMPONENTS[component]
        return role in known.roles and not any(self.is_on(key) for key in known.off)

    def effective(self, component: str) -> dict[str, str]:
        """Return the flags of a component; of several occurrences the last one counts."""
        return dict(item.flag for item in self.items(component))


def merge(files: Sequence[File], command_line: Sequence[Argument] = ()) -> Merged:
    """Return what K3s makes of its files, in their order, and of the command line of its unit."""
    merged = Merged()
    gathered: dict[str, list[Argument]] = {}
    lists: set[str] = set()
    for file in files:
        for entry in file.entries:
            key = entry.key[:-1] if entry.key.endswith("+") else entry.key
            values = entry.value if isinstance(entry.value, tuple) else (entry.value,)
            new = [Argument(key, value.text, file.path, value.line) for value in values]
            if entry.key != key and key in gathered:
                # A single value that says nothing is no item of a list.
                old = gathered[key] if key in lists else [one for one in gathered[key] if one.value]
                gathered[key] = old + (new if isinstance(entry.value, tuple) else [one for one in new if one.value])
                lists.add(key)
            else:
                merged.replaced.extend((one, entry, file.path) for one in gathered.get(key, ()))
                gathered[key] = new
                (lists.add if isinstance(entry.value, tuple) else lists.discard)(key)
    merged.arguments = [argument for found in gathered.values() for argument in found]
    merged.arguments.extend(command_line)
    return merged


@dataclass
class DropIn:
    """What the drop-in of ours says."""

    flags: dict[str, dict[str, str]] = field(default_factory=dict)
    """For each component the flags that it appends."""
    settings: dict[str, str] = field(default_factory=dict)
    """Keys with a single value."""
    foreign: list[str] = field(default_factory=list)
    """A sentence for each line that kubekeel has not written, and would lose."""

    @classmethod
    def read(cls, files: Sequence[File], path: str) -> DropIn:
        """Return what the drop-in C(path) says; nothing where it is not among the files."""
        found = cls()
        entries = [entry for file in files if file.path == path for entry in file.entries]
        components = {known.key + "+": name for name, known in k3s_keys.COMPONENTS.items()}
        for entry in entries:
            component, flags = components.get(entry.key), _written_flags(entry)
            if component and component not in found.flags and flags is not None:
                found.flags[component] = flags
            elif entry.key in SETTINGS and isinstance(entry.value, Scalar):
                found.settings[entry.key] = entry.value.text
            else:
                found.foreign.append("%s:%d was not written by kubekeel; move it to a file of your own" % (path, entry.line))
        return found

    def text(self) -> str | None:
        """Return the text of the file, None where there is nothing to say."""
        entries: list[tuple[str, str | list[str]]] = [(key, self.settings[key]) for key in sorted(self.settings)]
        for component, known in k3s_keys.COMPONENTS.items():
            flags = self.flags.get(component)
            if flags:
                entries.append((known.key + "+", ["%s=%s" % (name, flags[name]) for name in sorted(flags)]))
        return _HEAD + config_yaml.render(entries) if entries else None


def _written_flags(entry: Entry) -> dict[str, str] | None:
    """Return the flags of a list as kubekeel writes it, each once and none as C(name+=value); None for anything else."""
    if not isinstance(entry.value, tuple):
        return None
    flags = dict(Argument(entry.key, item.text, "", item.line).flag for item in entry.value)
    names = [name for name in flags if settings.FLAG_NAME.fullmatch(name)]
    return flags if len(names) == len(entry.value) else None


@dataclass
class Plan:
    """What has to change, and what cannot."""

    drop_in: DropIn
    after: Merged
    absent: list[str] = field(default_factory=list)
    """Components that this node does not run."""
    reasons: list[str] = field(default_factory=list)
    """Why a flag cannot have its wanted value."""
    findings: list[str] = field(default_factory=list)
    """What should be mended in a file that is not ours."""


def plan(
    role: str,
    files: Sequence[File],
    command_line: Sequence[Argument],
    drop_in: str,
    wanted: Mapping[str, Flags],
    absent: Collection[str] = (),
) -> Plan:
    """Decide what the drop-in has to say, so that each flag gets its value, once where that can be.

    Args:
        role: C(server) or C(agent).
        files: every file that K3s reads, in its order; the drop-in among them where it exists.
        command_line: the arguments of the unit.
        drop_in: path of the drop-in.
        wanted: for each component its flags; None for one that is to go.
        absent: components that do not run here for reasons beyond these files.
    """
    without = merge([file for file in files if file.path != drop_in], command_line)
    ours = DropIn.read(files, drop_in)
    made = Plan(ours, without, reasons=list(ours.foreign))
    for component, flags in wanted.items():
        if component in absent or not without.runs(component, role):
            made.absent.append(component)
            # What an earlier run wrote would keep an agent from starting.
            ours.flags.pop(component, None)
            continue
        own = ours.flags.setdefault(component, {})
        theirs = without.effective(component)
        for name, value in flags.items():
            own.pop(name, None)
            if value is not None and not (name in theirs and same_value(theirs[name], value)):
                own[name] = value
    made.after = merge(with_text(files, drop_in, ours.text()), command_line)
    for component, flags in wanted.items():
        if component not in made.absent:
            for name, value in flags.items():
                _judge(made, component, name, value, drop_in)
    return made


def _judge(made: Plan, component: str, name: str, value: str | None, drop_in: str) -> None:
    """Say what keeps a flag from its value, or from standing there once."""
    found = made.after.occurrences(component, name)
    elsewhere = [one for one in found if one.path != drop_in]
    key = k3s_keys.COMPONENTS[component].key
    if value is None and k3s_keys.COMPONENTS[component].tuned:
        return
    if value is None:
        made.reasons.extend("%s: --%s is set in %s; remove it there" % (component, name, one.place) for one in elsewhere)
    elif not found or not same_value(found[-1].flag[1], value):
        if found:
            made.reasons.append(
                "%s: --%s=%s is wanted, but %s comes after kubekeel's drop-in and says %s; remove it there"
                % (component, name, value, found[-1].place, found[-1].flag[1])
            )
        else:
            wiped = next((entry, path) for old, entry, path in made.after.replaced if old.path == drop_in and old.flag[0] == name)
            made.reasons.append(
                "%s: --%s=%s is wanted, but '%s:' in %s:%d comes after kubekeel's drop-in and replaces it; write '%s+:' there"
                % (component, name, value, key, wiped[1], wiped[0].line, key)
            )
    elif len(found) > 1:
        made.findings.append(
            "%s: --%s is also set in %s; remove it there: %s takes the last one (%s), K3s' own look-ups the first"
            % (component, name, " and ".join(one.place for one in found[:-1]), component, found[-1].flag[1])
        )


def with_text(files: Sequence[File], path: str, text: str | None) -> list[File]:
    """Return the files with a new text for the drop-in C(path), as K3s reads them: the main file, then its folder by name."""
    found = [file for file in files if file.path != path]
    if text is not None:
        found.append(File(path, config_yaml.parse(text)))
    folder = os.path.dirname(path)
    return sorted(found, key=lambda file: (os.path.dirname(file.path) == folder, file.path))


@dataclass(frozen=True)
class KeyProblem:
    """A key that K3s does not take."""

    path: str
    line: int
    text: str
    why: str
    fatal: bool
    """Whether K3s does not start with it."""


def key_problems(role: str, files: Sequence[File]) -> list[KeyProblem]:
    """Return the keys that K3s ignores on a server (k3s#8266), or that keep an agent from starting (k3s-ansible#270)."""
    found = []
    for file in files:
        for entry in file.entries:
            key = entry.key[:-1] if entry.key.endswith("+") else entry.key
            if key in k3s_keys.known_keys(role):
                continue
            spelling = k3s_keys.likely_spelling(key, role)
            meant = "; is '%s' meant?" % spelling if spelling else ""
            if role == k3s_keys.SERVER:
                why = "K3s knows no such key and ignores it%s" % meant
            elif key in k3s_keys.SERVER_ONLY:
                why = "it is a key of servers, and keeps k3s-agent from starting"
            else:
                why = "kubekeel knows no such key of agents, and one that K3s does not know either keeps k3s-agent from starting%s" % meant
            fatal = role == k3s_keys.AGENT and key in k3s_keys.SERVER_ONLY
            found.append(KeyProblem(file.path, entry.line, entry.key, why, fatal))
    return found
