"""Where MicroK8s keeps what kubekeel reads and changes."""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import os
import re
import socket

from ansible_collections.kubekeel.ha.plugins.module_utils import kubelite_args, node_files

SNAP = "/snap/microk8s/current"
COMMON = "/var/snap/microk8s/common"
DATA = "/var/snap/microk8s/current"
ARGS_DIR = DATA + "/args"
DEFAULT_ARGS_DIR = "/snap/microk8s/current/default-args"
KUBECONFIG = DATA + "/credentials/client.config"
KUBELITE = "snap.microk8s.daemon-kubelite"
"""Since 1.21 one unit runs API server, controller-manager, scheduler, kubelet and proxy."""
SNAP_YAML = "/snap/microk8s/current/meta/snap.yaml"
WORKER_LOCK = DATA + "/var/lock/clustered.lock"
"""There on a node that joined as a worker: its control plane's argument files are not read."""

_VERSION = re.compile(r"^version:\s*['\"]?(\S+?)['\"]?\s*$", re.MULTILINE)


def release_text() -> str:
    """Return the release of the snap that runs, an empty text where it cannot be told."""
    found = _VERSION.search(node_files.read(SNAP_YAML) or "")
    return found.group(1) if found else ""


def node_name() -> str:
    """Return the node's name in Kubernetes: the host's, where the kubelet is told no other one."""
    flags = kubelite_args.parse(node_files.read(os.path.join(ARGS_DIR, "kubelet")) or "").effective()
    return flags.get("hostname-override", socket.gethostname()).lower()


def is_worker() -> bool:
    """Tell whether this node joined its cluster as a worker."""
    return os.path.exists(WORKER_LOCK)
