"""The kernel: sysctls as they are now and as the next boot sets them, modules."""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import os
import platform

from ansible_collections.kubekeel.ha.plugins.module_utils import node_files, sysctl_files
from ansible_collections.kubekeel.ha.plugins.module_utils.node_files import NodeError


def sysctl(name: str) -> str:
    """Return the value of a sysctl.

    Raises:
        NodeError: this kernel has no such sysctl, or does not show it.
    """
    path = sysctl_files.proc_path(name)
    text = node_files.read(path)
    if text is None:
        raise NodeError(
            "there is no sysctl %s on this node (%s is missing); is it misspelt, or is a kernel module not loaded?" % (name, path)
        )
    return sysctl_files.normalize(text)


def set_sysctl(name: str, value: str) -> None:
    """Set a sysctl.

    Raises:
        NodeError: the kernel refuses it.
    """
    try:
        with open(sysctl_files.proc_path(name), "w", encoding="ascii") as file:
            file.write(value + "\n")
    except (OSError, ValueError) as error:
        raise NodeError("the kernel refuses %s = %s: %s" % (name, value, getattr(error, "strerror", error))) from error


def boot_sysctls() -> dict[str, list[sysctl_files.Entry]]:
    """Return the settings of every file that is read at boot, by path.

    Raises:
        NodeError: a file cannot be read.
    """
    found = {}
    for folder in sysctl_files.FOLDERS:
        for name in os.listdir(folder) if os.path.isdir(folder) else ():
            if name.endswith(".conf"):
                path = os.path.join(folder, name)
                # Debian's 99-sysctl.conf is a link: what it leads to counts. One to /dev/null masks the file of that
                # name in the folders that follow.
                target = os.path.realpath(path)
                found[path] = sysctl_files.parse(node_files.read(target) or "") if os.path.isfile(target) else []
    return found


def modules(*lists: str) -> frozenset[str]:
    """Return the names of the modules that are loaded, and of those in lists such as C(modules.builtin).

    Raises:
        NodeError: a list cannot be read.
    """
    found = set(os.listdir("/sys/module"))
    for name in lists:
        text = node_files.read(os.path.join("/lib/modules", platform.release(), name)) or ""
        for line in text.splitlines():
            file = os.path.basename(line.split(":")[0])
            found.add(file.split(".ko")[0].replace("-", "_"))
    return frozenset(found)
