"""The rules that durations have to keep among each other.

A set that breaks one makes a component exit, or makes healthy nodes NotReady.
"""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Mapping

from ansible_collections.kubekeel.ha.plugins.module_utils.go_duration import seconds

Seconds = Mapping[str, float]

NODE_LEASE_DURATION = 40
"""The kubelet's own nodeLeaseDurationSeconds."""

HEARTBEAT = 0.25
"""Between two signs of life of a node lies this part of the node lease duration: then its kubelet renews its Lease.

The flag node-status-update-frequency does not shorten it. It changes how often the kubelet computes the node's status;
one that has not changed is reported every 5 minutes all the same (measured by the kubelet's configz endpoint; only in a
configuration file does the one value set the other).
"""

DEFAULTS = {"node_lease_duration": "%ds" % NODE_LEASE_DURATION}
"""Durations that count where they are not named."""

JITTER = 1.2
"""client-go's leaderelection.JitterFactor."""

HEARTBEATS = 2
"""Heartbeats that have to fit into the grace period, so that one may be late (kubernetes/kubernetes#80172)."""

ELECTIONS = 2
"""Election time-outs after which a datastore elects at the latest: each member waits for one to two of them, at random."""


ETCD_HEARTBEATS = 5
"""Heartbeats that etcd wants to fit into its election time-out."""


@dataclass(frozen=True)
class Rule:
    """Something that has to hold for a set of durations."""

    names: tuple[str, ...]
    holds: Callable[[Seconds], bool]
    text: str
    source: str


RULES = (
    Rule(
        ("lease_duration", "renew_deadline"),
        lambda d: d["lease_duration"] > d["renew_deadline"],
        "the lease duration must be longer than the renew deadline, or the component exits at its start",
        "kubernetes client-go, leaderelection.go",
    ),
    Rule(
        ("renew_deadline", "retry_period"),
        lambda d: d["renew_deadline"] > JITTER * d["retry_period"],
        "the renew deadline must be longer than 1.2 x the retry period, or the component exits at its start",
        "kubernetes client-go, leaderelection.go",
    ),
    Rule(
        ("retry_period",),
        lambda d: d["retry_period"] > 0,
        "the retry period must be longer than 0",
        "kubernetes client-go, leaderelection.go",
    ),
    Rule(
        ("renew_deadline", "election_timeout", "retry_period"),
        lambda d: d["renew_deadline"] >= ELECTIONS * d["election_timeout"] + d["retry_period"],
        "etcd and Dqlite elect a new leader within two election time-outs; a component that has no time left then for one more try exits",
        "etcd.io, Tuning; etcd-io/raft raft.go; canonical/raft#197; kubernetes client-go, leaderelection.go",
    ),
    Rule(
        ("election_timeout", "etcd_heartbeat_interval"),
        lambda d: d["election_timeout"] >= ETCD_HEARTBEATS * d["etcd_heartbeat_interval"],
        "the election time-out of etcd must hold at least 5 of its heartbeats, or etcd exits at its start",
        "etcd-io/etcd, server/embed/config.go",
    ),
    Rule(
        ("monitor_period",),
        lambda d: d["monitor_period"] > 0,
        "the monitor period must be longer than 0",
        "kubernetes.io, kube-controller-manager reference",
    ),
    Rule(
        ("monitor_grace_period", "monitor_period"),
        lambda d: d["monitor_grace_period"] > d["monitor_period"],
        "the grace period must be longer than the monitor period",
        "kubernetes.io, kube-controller-manager reference",
    ),
    Rule(
        ("node_lease_duration",),
        lambda d: d["node_lease_duration"] > 0,
        "the node lease duration must be longer than 0, or the kubelet exits at its start",
        "kubernetes, pkg/kubelet/apis/config/validation",
    ),
    Rule(
        ("monitor_grace_period", "node_lease_duration"),
        lambda d: d["monitor_grace_period"] >= HEARTBEATS * HEARTBEAT * d["node_lease_duration"],
        "the grace period must hold at least 2 heartbeats, and a kubelet renews its Lease each quarter of the node lease duration",
        "kubernetes/kubernetes#80172",
    ),
    Rule(
        ("status_update_frequency",),
        lambda d: d["status_update_frequency"] > 0,
        "the status update frequency must be longer than 0",
        "kubernetes.io, kubelet reference",
    ),
    Rule(
        ("http2_read_idle_timeout",),
        lambda d: d["http2_read_idle_timeout"] > 0,
        "an HTTP/2 read idle time-out of 0 switches the health check off",
        "kubernetes/kubernetes#95981",
    ),
    Rule(
        ("monitor_grace_period", "http2_read_idle_timeout", "http2_ping_timeout"),
        lambda d: d["monitor_grace_period"] > d["http2_read_idle_timeout"] + d["http2_ping_timeout"],
        "the grace period must be longer than HTTP/2 read idle + ping time-out, or one dropped connection marks healthy nodes NotReady",
        "kubernetes/kubernetes#121793",
    ),
)


def violations(durations: Mapping[str, str]) -> list[str]:
    """Return a sentence for each duration that cannot be read and each rule that is broken; none is good.

    Args:
        durations: Go durations by name, the names of C(RULES). A rule of which a name is missing is not applied, but for
            names of C(DEFAULTS).
    """
    durations = {**DEFAULTS, **durations}
    found = []
    known = {}
    for name, text in durations.items():
        try:
            known[name] = seconds(str(text))
        except ValueError as error:
            found.append("%s: %s" % (name, error))
    for rule in RULES:
        if all(name in known for name in rule.names) and not rule.holds(known):
            values = ", ".join("%s=%s" % (name, durations[name]) for name in rule.names)
            found.append("%s: %s (%s)" % (values, rule.text, rule.source))
    return found
