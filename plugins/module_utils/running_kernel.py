"""The kernel: sysctls as they are now and as the next boot sets them, modules, network namespaces."""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import platform
from typing import Any, Callable, Iterator, Sequence

from ansible_collections.kubekeel.ha.plugins.module_utils import node_files, sysctl_files
from ansible_collections.kubekeel.ha.plugins.module_utils.node_files import NodeError

_CLONE_NEWNET = 0x40000000
_OWN_NETWORK = "/proc/self/ns/net"
_GONE = (errno.ENOENT, errno.ESRCH, errno.EINVAL)


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


def pod_networks() -> list[str]:
    """Return a file for each network namespace of a pod on this node, without those of pods in the host's network."""
    known = {_network_of(_OWN_NETWORK), ""}
    found = []
    for process in filter(str.isdigit, os.listdir("/proc")):
        path = "/proc/%s/ns/net" % process
        network = _network_of(path)
        # Not every process in a pod's network is the pod's: one of the host's may have entered it.
        if network not in known and _is_of_a_pod(process):
            known.add(network)
            found.append(path)
    return found


def _network_of(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _is_of_a_pod(process: str) -> bool:
    """Tell whether a process is in a control group that the kubelet made for a pod."""
    try:
        return "/kubepods" in (node_files.read("/proc/%s/cgroup" % process) or "")
    except NodeError:
        return False


def in_networks(paths: Sequence[str], look: Callable[[], Any]) -> list[Any]:
    """Return what a function returns in each of several network namespaces, in the order of their files.

    It runs in a process of its own, and /proc/sys/net is there what it is in the namespace.

    Args:
        paths: files such as C(/proc/PID/ns/net). A namespace that went meanwhile is left out.
        look: its result has to be JSON.

    Raises:
        NodeError: they cannot be entered, or C(look) raised it.
    """

    def work() -> list[Any]:
        return [look() for path in paths if _enter(path)]

    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.close(reader)
        _answer(writer, work)
    os.close(writer)
    with os.fdopen(reader, encoding="utf-8") as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    answer: dict[str, Any] = json.loads(text) if text else {"error": "network namespaces cannot be looked into: the process that did died"}
    if "error" in answer:
        raise NodeError(answer["error"])
    found: list[Any] = answer["found"]
    return found


def _answer(writer: int, work: Callable[[], Any]) -> None:
    """Write what C(work) returns, or why it does not, and end the process."""
    try:
        try:
            answer: dict[str, Any] = {"found": work()}
        except NodeError as error:
            answer = {"error": str(error)}
        except OSError as error:
            answer = {"error": "network namespaces cannot be looked into: %s" % error.strerror}
        with os.fdopen(writer, "w", encoding="utf-8") as pipe:
            json.dump(answer, pipe)
    finally:
        os._exit(0)


def _enter(path: str) -> bool:
    """Enter a network namespace; tell whether it was there."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _call("setns", descriptor, _CLONE_NEWNET)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno in _GONE:
            return False
        raise
    return True


def _call(name: str, *arguments: int) -> None:
    """Call a function of the C library: os.setns and os.unshare are there from Python 3.12 on only."""
    if getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


@contextlib.contextmanager
def new_network() -> Iterator[str]:
    """Give the file of a new network namespace, as a pod gets one. It goes with the block.

    Raises:
        NodeError: the kernel makes none.
    """
    ready, tell = os.pipe()
    wait, hold = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.close(hold)
            _call("unshare", _CLONE_NEWNET)
            os.write(tell, b"1")
            os.read(wait, 1)
        finally:
            os._exit(0)
    os.close(tell)
    os.close(wait)
    try:
        if not os.read(ready, 1):
            raise NodeError("a network namespace cannot be made on this node: is the module run by root?")
        yield "/proc/%d/ns/net" % child
    finally:
        os.close(ready)
        os.close(hold)
        os.waitpid(child, 0)
