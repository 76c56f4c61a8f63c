"""Read what C(node_guards) decides about: file systems, sysctls, what the command snap says."""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import os
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Sequence

from ansible_collections.kubekeel.ha.plugins.module_utils import run_record, running_kernel, snapd, sysctl_files, systemd
from ansible_collections.kubekeel.ha.plugins.module_utils.node_files import NodeError
from ansible_collections.kubekeel.ha.plugins.module_utils.node_guards import IP_FORWARD, Place, Snaps, State

if TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule

FOLDERS = ("/etc/systemd/system", "/etc/sysctl.d", "/etc/modules-load.d", "/etc/default")
"""Where kubekeel writes on every node, beside its own folders and the distribution's."""
MEMORY = "/run/"
SNAP_TIMEOUT = 30


def read(module: AnsibleModule, name: str, release: str, folders: Sequence[str], has_snap: bool) -> State:
    """Return what there is of a node.

    Args:
        module: to find the command snap.
        name: of the node, in Kubernetes.
        release: as the distribution names it.
        folders: where kubekeel writes to the distribution's configuration.
        has_snap: whether Kubernetes is a snap here.

    Raises:
        NodeError: a file of sysctl.d, or a run's record, cannot be read.
    """
    try:
        forwarding: str | None = running_kernel.sysctl(IP_FORWARD)
    except NodeError:
        forwarding = None
    latest = next(iter(run_record.all_runs()), None)
    broke_off = latest if latest and latest.state == run_record.BEGUN else None
    return State(
        name,
        release,
        [place(folder) for folder in (*folders, *FOLDERS, run_record.RUNS, systemd.MARKS)],
        forwarding,
        sysctl_files.at_boot(IP_FORWARD, running_kernel.boot_sysctls()),
        snaps(module) if has_snap else None,
        broke_off.run_id if broke_off else "",
        broke_off.about if broke_off else {},
    )


def place(path: str) -> Place:
    """Return what there is of a folder, or of the nearest one above it that exists."""
    folder = path
    while True:
        try:
            device = os.stat(folder).st_dev
            space = os.statvfs(folder)
            break
        except (FileNotFoundError, NotADirectoryError):
            if folder in ("", "/"):
                return Place(path, 0, problem="there is no folder above it")
            folder = os.path.dirname(folder)
        except OSError as error:
            return Place(path, 0, problem="%s: %s" % (folder, error.strerror))
    in_memory = path.startswith(MEMORY)
    if space.f_flag & os.ST_RDONLY:
        return Place(path, device, in_memory, "its file system is mounted read-only")
    if not os.access(folder, os.W_OK | os.X_OK):
        return Place(path, device, in_memory, "the user with the id %d may not" % os.geteuid())
    # What is kept for root is the last resort, as it is for the kubelet. Some file systems make inodes as they go, and count none.
    return Place(path, device, in_memory, "", space.f_bavail * space.f_frsize, space.f_favail if space.f_files else None)


def snaps(module: AnsibleModule) -> Snaps:
    """Return what the command snap says."""
    tool = module.get_bin_path("snap")
    if not tool:
        return Snaps("there is no command snap")
    # The last one fails where nobody ever set a hold.
    asked = (["changes"], ["list", "microk8s"], ["get", "system", "refresh.hold"])
    with ThreadPoolExecutor(max_workers=len(asked)) as pool:
        (code, out, err), (_code, listed, _err), (_code, hold, _err) = pool.map(lambda words: _snap(tool, words), asked)
    if code and snapd.NO_CHANGES not in err:
        return Snaps("'snap changes' says: %s" % ((err or out).strip().splitlines() or ["nothing"])[0])
    return Snaps("", snapd.under_way(out), snapd.installed(listed, "microk8s"), snapd.hold_of_all(hold, time.time()))


def _snap(tool: str, words: Sequence[str]) -> tuple[int, str, str]:
    """Return exit code, output and errors of the command snap, in English."""
    try:
        done = subprocess.run(
            [tool, *words],
            capture_output=True,
            timeout=SNAP_TIMEOUT,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "LC_ALL": "C.UTF-8"},
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return 1, "", str(error)
    return done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace")
