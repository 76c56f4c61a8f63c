"""What keeps a kernel module from being loaded: the files of modprobe.d(5) and the kernel's command line. Reads nothing."""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Iterable, Mapping

# In the order of precedence: of two files with the same name the one in the earlier folder is read alone.
FOLDERS = ("/etc/modprobe.d", "/run/modprobe.d", "/usr/local/lib/modprobe.d", "/usr/lib/modprobe.d", "/lib/modprobe.d")

# A command that loads nothing, as hardening guides write it.
_NOTHING = ("false", "true", ":")


@dataclass
class Obstacles:
    """What was found, as sentences."""

    reasons: list[str] = field(default_factory=list)
    """Why a module cannot be loaded."""
    findings: list[str] = field(default_factory=list)
    """Why it will not be loaded at boot, although it can be."""


def normalize(name: str) -> str:
    """Return a module's name as the kernel has it: hyphen and underscore are the same to modprobe."""
    return name.replace("-", "_")


def counting(paths: Iterable[str]) -> list[str]:
    """Return the files that are read, without those that another one of the same name masks."""
    chosen: dict[str, str] = {}
    for folder in FOLDERS:
        for path in sorted(paths):
            if os.path.dirname(path) == folder and path.endswith(".conf"):
                chosen.setdefault(os.path.basename(path), path)
    return [chosen[name] for name in sorted(chosen)]


def lines(text: str) -> list[list[str]]:
    """Return the words of each line; one that ends in a backslash goes on in the next one."""
    whole = text.replace("\\\n", " ").splitlines()
    return [line.split() for line in whole if line.strip() and not line.lstrip().startswith("#")]


def obstacles(names: Iterable[str], files: Mapping[str, str], command_line: str) -> Obstacles:
    """Return what stands in the way of modules.

    A line C(blacklist) does not stop modprobe, which is asked for the module by its name, but it stops systemd-modules-load at boot
    (modprobe.d(5); systemd src/modules-load, KMOD_PROBE_APPLY_BLACKLIST).

    Args:
        names: of modules.
        files: the text of every file of C(FOLDERS), by path.
        command_line: the kernel's.
    """
    found = Obstacles()
    wanted = {normalize(name): name for name in names}
    for path in counting(files):
        for words in lines(files[path]):
            name = wanted.get(normalize(words[1])) if len(words) > 1 else None
            if name and words[0] == "install" and len(words) > 2 and os.path.basename(words[2]) in _NOTHING:
                found.reasons.append(
                    "%s keeps the kernel module %s from being loaded ('%s'): remove that line, or choose a mode of kube-proxy that does "
                    "not need it" % (path, name, " ".join(words))
                )
            elif name and words[0] == "blacklist":
                found.findings.append(_at_boot(name, "%s has '%s'" % (path, " ".join(words))))
    for word in command_line.split():
        key, _, value = word.partition("=")
        named = [wanted[normalize(one)] for one in value.split(",") if normalize(one) in wanted]
        for name in named if key == "module_blacklist" else ():
            found.reasons.append(
                "the kernel's command line keeps the module %s from being loaded (%s): take it out there and reboot, or choose a mode of "
                "kube-proxy that does not need it" % (name, word)
            )
        for name in named if key == "modprobe.blacklist" else ():
            found.findings.append(_at_boot(name, "the kernel's command line has %s" % word))
    return found


def _at_boot(name: str, where: str) -> str:
    return "%s, so the kernel module %s is not loaded at boot whatever modules-load.d says, until kube-proxy asks for it: remove that" % (
        where,
        name,
    )
