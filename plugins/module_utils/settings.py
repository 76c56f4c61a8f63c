"""Every setting that kubekeel manages or knows to be wrong: where it belongs, why it matters, who says so.

Roles set values, modules place them, the audit explains them; what a setting *is* stands here alone.
"""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import re
from dataclasses import dataclass

from ansible_collections.kubekeel.ha.plugins.module_utils.release import Release, show_release

APISERVER = "kube-apiserver"
CONTROLLER_MANAGER = "kube-controller-manager"
SCHEDULER = "kube-scheduler"
PROXY = "kube-proxy"
KUBELET = "kubelet"
COMPONENTS = (APISERVER, CONTROLLER_MANAGER, SCHEDULER, PROXY, KUBELET)
ETCD = "etcd"
"""K3s' datastore; of MicroK8s no part."""
FLAG_NAME = re.compile(r"[a-z](?:[a-z0-9-]*[a-z0-9])?")
"""A flag's name without its dashes. To K3s a last '-' or '+' would mean something."""


@dataclass(frozen=True)
class Setting:
    """A flag, an environment variable or a sysctl."""

    why: str
    source: str
    """Where the reason can be read: repository#issue, a page, an RFC."""
    components: tuple[str, ...] = ()
    """For a flag: the components that know it."""


@dataclass(frozen=True)
class DeadFlag:
    """A flag with which a component does not start."""

    components: tuple[str, ...]
    why: str
    source: str
    gone: Release | None = None
    """The first release without it; None for a flag that never was."""


_LEASE_WHY = "until the lease of a dead leader runs out nobody schedules, evicts or removes endpoints"
_LEASE_SOURCE = "canonical/microk8s#2203; kubernetes client-go leaderelection.go"
_HTTP2_WHY = (
    "client-go notices a dead connection to the API server only after idle + ping time-out; where that is longer than "
    "the grace period, one dropped connection marks healthy nodes NotReady"
)
_HTTP2_SOURCE = "kubernetes/kubernetes#121793, #95981"
_ELECTION_WHY = (
    "while etcd elects a new leader nothing can be written, for one to two election time-outs: 5 to 10 s with K3s' own 500 and 5000 ms"
)
_ELECTION_SOURCE = "etcd.io, Tuning: time parameters; k3s-io/k3s pkg/etcd/etcd.go"
_TOLERATION_WHY = "pods of a dead node are replaced only after this toleration (pods created from now on)"
_TOLERATION_SOURCE = "kubernetes.io, Taints and Tolerations: taint based evictions"
_KEEPALIVE_WHY = "an idle connection to a peer that died is found after time + interval x probes"
_KEEPALIVE_SOURCE = "kernel.org, ip-sysctl; RFC 1122 4.2.3.6"

SETTINGS: dict[str, Setting] = {
    "leader-elect-lease-duration": Setting(_LEASE_WHY, _LEASE_SOURCE, (CONTROLLER_MANAGER, SCHEDULER)),
    "leader-elect-renew-deadline": Setting(
        "a leader that cannot renew gives up after this time, well before its lease ends",
        _LEASE_SOURCE,
        (CONTROLLER_MANAGER, SCHEDULER),
    ),
    "leader-elect-retry-period": Setting(
        "how often a candidate tries to take over a lease that has run out", _LEASE_SOURCE, (CONTROLLER_MANAGER, SCHEDULER)
    ),
    "node-monitor-period": Setting(
        "how often the controller-manager looks at the heartbeats",
        "kubernetes.io, kube-controller-manager reference",
        (CONTROLLER_MANAGER,),
    ),
    "node-monitor-grace-period": Setting(
        "for this long requests still go to the endpoints of a node that is dead",
        "kubernetes.io, Nodes: heartbeats; kubernetes/kubernetes#121793",
        (CONTROLLER_MANAGER,),
    ),
    "node-status-update-frequency": Setting(
        "how soon a kubelet sees that its own node is not well (the sign of life is its Lease)",
        "kubernetes.io, kubelet reference",
        (KUBELET,),
    ),
    "nodeLeaseDurationSeconds": Setting(
        "the kubelet gives its sign of life each quarter of it, every 10 s with its own 40; a short grace period needs more",
        "kubernetes.io, KubeletConfiguration; kubernetes pkg/kubelet, nodeLeaseRenewIntervalFraction",
    ),
    "config": Setting(
        "the kubelet takes some settings of a file alone; kubekeel has one of its own",
        "kubernetes.io, Set Kubelet Parameters Via A Configuration File",
        (KUBELET, PROXY, SCHEDULER),
    ),
    "heartbeat-interval": Setting(_ELECTION_WHY, _ELECTION_SOURCE, (ETCD,)),
    "election-timeout": Setting(_ELECTION_WHY, _ELECTION_SOURCE, (ETCD,)),
    "default-not-ready-toleration-seconds": Setting(_TOLERATION_WHY, _TOLERATION_SOURCE, (APISERVER,)),
    "default-unreachable-toleration-seconds": Setting(_TOLERATION_WHY, _TOLERATION_SOURCE, (APISERVER,)),
    "proxy-mode": Setting(
        "how Services are balanced: ipvs with rr spreads evenly but is deprecated since 1.35, nftables follows it",
        "kubernetes.io, Virtual IPs and Service proxies; KEP-5495",
        (PROXY,),
    ),
    "ipvs-scheduler": Setting("rr spreads connections evenly over a Service's endpoints", "kubernetes.io, kube-proxy reference", (PROXY,)),
    "HTTP2_READ_IDLE_TIMEOUT_SECONDS": Setting(_HTTP2_WHY, _HTTP2_SOURCE),
    "HTTP2_PING_TIMEOUT_SECONDS": Setting(_HTTP2_WHY, _HTTP2_SOURCE),
    "server": Setting(
        "a node that starts while the one it joins at is down may not find the cluster",
        "k3s-io/k3s#11333; docs.k3s.io, High Availability Embedded etcd: fixed registration address",
    ),
    "net.ipv4.tcp_retries2": Setting(
        "a connection with unanswered data hangs until the retries are used up: 15 min 24 s with the kernel's 15, "
        "102 s with 8 (host processes and hostNetwork pods; other pods have their own)",
        "kernel.org, ip-sysctl; RFC 1122 4.2.3.5",
    ),
    "net.ipv4.tcp_keepalive_time": Setting(_KEEPALIVE_WHY, _KEEPALIVE_SOURCE),
    "net.ipv4.tcp_keepalive_intvl": Setting(_KEEPALIVE_WHY, _KEEPALIVE_SOURCE),
    "net.ipv4.tcp_keepalive_probes": Setting(_KEEPALIVE_WHY, _KEEPALIVE_SOURCE),
}

DEAD_FLAGS: dict[str, DeadFlag] = {
    "attach-detach-reconcile-max-wait-unmount-duration": DeadFlag(
        COMPONENTS, "it was proposed and never merged", "kubernetes/kubernetes#93776"
    ),
    "container-runtime": DeadFlag(
        (KUBELET,), "remote is the only runtime left", "kubernetes.io/blog, 2023-03-17, Removals in v1.27", (1, 27, 0)
    ),
    "etcd-request-timeout": DeadFlag(COMPONENTS, "no component and no K3s release has it", "kubernetes.io, kube-apiserver reference"),
    "network-plugin": DeadFlag((KUBELET,), "it went with dockershim", "kubernetes/kubernetes#106893", (1, 24, 0)),
    "node-connection-retry": DeadFlag(COMPONENTS, "no component and no K3s release has it", "docs.k3s.io, CLI tools"),
    "pod-eviction-timeout": DeadFlag(
        (CONTROLLER_MANAGER,),
        "default-not-ready-toleration-seconds and default-unreachable-toleration-seconds of kube-apiserver do its work",
        "kubernetes/kubernetes#115840",
        (1, 27, 0),
    ),
}


def check_name(name: str) -> None:
    """Raise ValueError where C(name) is not a flag's name without its dashes."""
    if not FLAG_NAME.fullmatch(name):
        raise ValueError("'%s' is not the name of a flag: give it without dashes, in lower case, words joined by '-'" % name)


def check_flag(component: str, name: str, release: Release | None) -> None:
    """Raise ValueError where C(component) is known not to start with this flag.

    Args:
        component: a name of C(COMPONENTS), or C(ETCD).
        name: the flag without dashes.
        release: the release that runs; None where it is not known, and then a flag that is gone anywhere is refused.
    """
    dead = DEAD_FLAGS.get(name)
    if dead and component in dead.components and (dead.gone is None or release is None or release >= dead.gone):
        since = "does not exist" if dead.gone is None else "is gone since %s" % show_release(dead.gone)
        raise ValueError("%s: --%s %s: %s (%s)" % (component, name, since, dead.why, dead.source))
    known = SETTINGS.get(name)
    if known and component not in known.components:
        raise ValueError("--%s is a flag of %s, not of %s" % (name, " and ".join(known.components), component))


def explain(name: str) -> dict[str, str]:
    """Return C(why) and C(source) of a setting for a report; empty texts for one that is not known."""
    known = SETTINGS.get(name)
    return {"why": known.why if known else "", "source": known.source if known else ""}
