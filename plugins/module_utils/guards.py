"""What speaks against changing anything now, although the cluster is up: each thing with its sentence. Finds nothing itself.

One of these ends a run before its first change, unless the operator accepts it by its name in preflight_accept. What is only to be
known (C(refuses) is False) is said and ends nothing.
"""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Mapping, Sequence


@dataclass(frozen=True)
class Guard:
    """Something that has to be known before a change."""

    what: str
    """What is wrong, and where. What changes from case to case is named as in C(%(node)s), here and in C(cure)."""
    why: str
    """Why it matters."""
    cure: str
    """What to do about it."""
    source: str
    """Where that can be read: repository#issue, a page, a file."""
    refuses: bool = True
    """Whether it ends a run."""


GUARDS: Mapping[str, Guard] = {
    "clock_skew": Guard(
        "the clock of %(server)s is at least %(seconds).1f s %(way)s that of %(node)s",
        "signs of life, certificates and the measurements of kubekeel carry times; with clocks apart a node that is well can look dead",
        "set the time on both, and let chrony or systemd-timesyncd keep it",
        "etcd-io/etcd server/etcdserver/api/rafthttp/probing_status.go, which warns from 1 s on; kubernetes.io, Leases",
    ),
    "disk_full": Guard(
        "the file system of %(paths)s on %(node)s has %(free)s left, less than %(least)s",
        "a file could not be written or taken back, and a restart needs room itself: etcd allocates 64 MB in advance",
        "make room there ('df -h', 'df -i')",
        "etcd-io/etcd server/storage/wal/wal.go, SegmentSizeBytes",
    ),
    "read_only": Guard(
        "%(paths)s on %(node)s cannot be written: %(problem)s",
        "nothing could be set there or taken back; a file system that became read-only by itself mostly lies on a disk that fails",
        "look at 'findmnt' and 'dmesg', and whether ansible_become is set",
        "kernel.org, ext4: errors=remount-ro",
    ),
    "ip_forward": Guard(
        "net.ipv4.ip_forward %(state)s on %(node)s",
        "with 0 the node forwards nothing and its pods have no network. K3s and MicroK8s set it when they start, and whoever loads the "
        "files later takes it away again, as 'sysctl --system' and hardening roles do",
        "set it to 1 (dev-sec os_hardening: sysctl_overwrite: {net.ipv4.ip_forward: 1})",
        "kubernetes.io, Container Runtimes: IPv4 packet forwarding; k3s-io/k3s pkg/agent/syssetup; canonical/microk8s "
        "run-kubelite-with-args; dev-sec/ansible-collection-hardening os_hardening",
    ),
    "mixed_releases": Guard(
        "%(who)s: %(releases)s",
        "somebody is in the midst of an upgrade, or left it there: defaults and known flags differ between releases, and so would "
        "what a remediation makes of the nodes",
        "upgrade the rest first",
        "kubernetes.io, Version Skew Policy",
    ),
    "unknown_release": Guard(
        "%(node)s says that its release is '%(release)s', %(problem)s",
        "another release may have other defaults, lack a flag that is set, or have bugs that nobody would be told of",
        "upgrade kubekeel, or Kubernetes",
        "kubernetes.io, Releases",
    ),
    "reboots_by_kured": Guard(
        "%(node)s holds the lock of kured (DaemonSet %(namespace)s/%(daemon_set)s)%(since)s",
        "kured drains and reboots it now, and a second node that goes down meanwhile can cost the quorum",
        "wait until it is back. A node that died of it keeps the lock: 'kubectl -n %(namespace)s annotate daemonset %(daemon_set)s "
        "weave.works/kured-node-lock-' frees it",
        "kubereboot/kured internal/daemonsetlock",
    ),
    "upgrade_in_progress": Guard(
        "system-upgrade-controller is applying its Plan %(plan)s to %(nodes)s",
        "it cordons, drains and restarts nodes by its own plan, and a second node that goes down meanwhile can cost the quorum",
        "wait until 'kubectl get plans --all-namespaces -o wide' shows nobody under APPLYING",
        "rancher/system-upgrade-controller pkg/apis/upgrade.cattle.io/v1/types.go",
    ),
    "node_cordoned": Guard(
        "node %(node)s is cordoned",
        "somebody is at work on it and may take it down at any moment, and it takes no pods while others restart",
        "ask who it is; 'kubectl uncordon %(node)s' ends it",
        "kubernetes.io, Nodes: manual node administration",
    ),
    "snap_refresh": Guard(
        "%(doubt)ssnapd is at work on %(node)s: %(change)s",
        "a refresh stops every service of MicroK8s and starts it again whenever it likes, in the midst of a restart by kubekeel, too",
        "wait until 'snap changes' shows nothing but Done",
        "snapcraft.io, Managing updates",
    ),
    "run_broke_off": Guard(
        "run %(run)s broke off on %(node)s%(about)s",
        "what it changed there may be there in part, and not in force",
        "a remediation goes on from there; 'ansible-playbook -i INVENTORY kubekeel.ha.rollback -e rollback_run=%(run)s' takes it back",
        "/var/lib/kubekeel/runs on the node",
        refuses=False,
    ),
    "snap_hold": Guard(
        "nothing keeps snapd from refreshing MicroK8s during the run",
        "it looks for updates four times a day, on each node when it likes, and may take a second server down while kubekeel restarts one",
        "'snap refresh --hold=2h microk8s' on each node beforehand keeps it away for two hours",
        "snapcraft.io, Managing updates",
        refuses=False,
    ),
    "snap_held": Guard(
        "refreshes of MicroK8s are held%(until)s",
        "nothing comes in between, and no fix of MicroK8s either",
        "'%(command)s' ends it when the work is done",
        "snapcraft.io, Managing updates",
        refuses=False,
    ),
}

ACCEPTABLE = tuple(name for name, guard in GUARDS.items() if guard.refuses)
"""What preflight_accept may hold."""

Found = Mapping[str, Any]
"""As C(found) returns it."""


def found(name: str, **facts: object) -> dict[str, Any]:
    """Return what was found, as the modules give it: C(name), C(refuses), C(text), and in C(accept) how to go on all the same.

    Args:
        name: of C(GUARDS).
        facts: what its texts name.
    """
    guard = GUARDS[name]
    text = "%s. Why: %s. To do: %s (%s)" % (guard.what % facts, guard.why, guard.cure % facts, guard.source)
    return {"name": name, "refuses": guard.refuses, "text": text, "accept": accept([name]) if guard.refuses else ""}


def accept(names: Sequence[str]) -> str:
    """Return the option of ansible-playbook that accepts these."""
    return "-e '%s'" % json.dumps({"preflight_accept": list(names)})
