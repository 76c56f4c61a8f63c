"""How long a cluster takes to get over the death of a node, computed from its settings. Pure.

Every step counts from the moment when the node loses its power, and says which setting has what part in it. What no setting
decides stands as a constant in one table, see C(CONTROLLER_START) and those that follow.
"""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from typing import Any, Callable, Mapping, NamedTuple, Tuple

from ansible_collections.kubekeel.ha.plugins.module_utils import go_duration, tcp_timers, timing
from ansible_collections.kubekeel.ha.plugins.module_utils.release import Release, parse_release
from ansible_collections.kubekeel.ha.plugins.module_utils.settings import APISERVER, CONTROLLER_MANAGER, ETCD, KUBELET

LEADER, OTHER = "leader", "other"
"""The two losses: of the node that holds the lease of kube-controller-manager, and of another one."""

SYSCTL, ENVIRONMENT = "sysctl", "environment"
"""Owners of settings beside the components: the kernel, and the environment of the unit that runs Kubernetes."""


class Cases(NamedTuple):
    """Something in the best, the typical and the worst case, in seconds unless it says otherwise."""

    best: float
    typical: float
    worst: float

    @classmethod
    def always(cls, value: float) -> Cases:
        """Return what is the same in every case."""
        return cls(value, value, value)

    def plus(self, other: Cases) -> Cases:
        """Return the sum, case by case."""
        return Cases(self.best + other.best, self.typical + other.typical, self.worst + other.worst)

    def times(self, factor: float) -> Cases:
        """Return the product, case by case."""
        return Cases(self.best * factor, self.typical * factor, self.worst * factor)


# What no setting decides: estimates for a small cluster on one LAN.
CONTROLLER_START = Cases(0.3, 0.8, 1.5)
"""From a new lease until the new controller-manager looks at the nodes for the first time."""
LOOP_DRIFT = Cases(0.0, 0.005, 0.05)
"""What one look at all nodes takes: the loop waits its period after it (wait.UntilWithContext slides)."""
ENDPOINT_REMOVAL = Cases(0.02, 0.1, 0.5)
"""From pods that are marked not ready until their addresses are out of the EndpointSlices."""
PROXIES_FOLLOW = Cases(0.0, 0.5, 1.0)
"""From an EndpointSlice until every kube-proxy follows it and the last request that hung has timed out."""
TAINT_QUEUE = Cases(0.1, 1.0, 10.0)
"""Until the taint is set and the pods are deleted: the queue is served every 100 ms, node-eviction-rate is one node in 10 s."""
TIMER_LATENESS = Cases(0.0, 0.05, 0.125)
"""Part by which a kernel timer fires late: its wheel is the coarser, the longer the timer (kernel, kernel/time/timer.c)."""
TIMER_SLACK = 1.0
"""Seconds on top of that in the worst case: a measured retransmission time-out of a LAN is a little longer than the shortest."""

GAPS = 1 + timing.JITTER
"""The longest gap between two looks of a candidate, in retry periods; the shortest is 1 (wait.JitterUntil)."""
RESIDUAL = (GAPS * GAPS + GAPS + 1) / (3 * (GAPS + 1))
"""Mean wait for the next look from any moment, in retry periods: E(gap^2) / 2 E(gap), gaps uniform between 1 and C(GAPS)."""

ELECTION_TIMEOUT = {"k3s": 5.0, "microk8s": 3.0}
"""What the distributions' datastores have where nobody set it: embedded etcd, Dqlite."""

RENEWAL_JITTER = 1.04
"""A kubelet renews its Lease up to this factor later than C(timing.HEARTBEAT) says (kubernetes, component-helpers, lease)."""

GRACE_PERIOD_CHANGED: Release = (1, 32, 0)
GRACE_PERIOD_BEFORE = 40.0
"""Default of node-monitor-grace-period in releases before C(GRACE_PERIOD_CHANGED) (kubernetes/kubernetes#121793)."""

_NANOSECOND = 1e-9
"""What Go counts in: a shorter duration is none."""

MOST = 0.75
"""The part of a step that its largest contributions have to explain."""


@dataclass(frozen=True)
class Settings:
    """What decides how long it takes, in seconds where nothing else is said; defaults are those of Kubernetes 1.32 and the kernel.

    C(not_ready_toleration) has no part in the death of a node: it counts for a kubelet that lives but is not well.
    """

    lease_duration: float = 15.0
    renew_deadline: float = 10.0
    retry_period: float = 2.0
    monitor_period: float = 5.0
    monitor_grace_period: float = 50.0
    node_lease_duration: float = timing.NODE_LEASE_DURATION
    http2_read_idle_timeout: float = 30.0
    http2_ping_timeout: float = 15.0
    unreachable_toleration: float = 300.0
    not_ready_toleration: float = 300.0
    tcp_retries2: int = 15
    """Retransmissions."""
    keepalive_time: float = 7200.0
    keepalive_intvl: float = 75.0
    keepalive_probes: int = 9
    """Probes."""
    election_timeout: float = 0.0
    """Of the datastore; 0 for one that does not stop when a node dies."""
    unread: tuple[str, ...] = ()
    """Settings for which a default stands because their value makes no sense, or because nobody looked at their owner."""


@dataclass(frozen=True)
class Contribution:
    """The part of one cause in a step; where something shortens the step it is negative."""

    setting: str
    """A flag, variable, sysctl or key, or a few words for what nobody can set."""
    owner: str
    """Whose setting it is; empty for what nobody can set."""
    seconds: Cases
    why: str


@dataclass(frozen=True)
class Step:
    """Something that happens after the death of a node."""

    name: str
    because: tuple[Contribution, ...]

    @property
    def seconds(self) -> Cases:
        """When it happens, counted from the death."""
        return _total(self.because)


Losses = Mapping[str, Tuple[Step, ...]]
"""The steps of C(LEADER) and of C(OTHER), in the order in which Kubernetes takes them."""


@dataclass(frozen=True)
class Budget:
    """How long everything takes."""

    losses: Losses
    without_election: Losses
    """The same for a node that does not lead the datastore."""
    unread: tuple[str, ...]

    def step(self, loss: str, name: str) -> Step:
        """Return one step.

        Raises:
            KeyError: this loss has no such step.
        """
        return {step.name: step for step in self.losses[loss]}[name]

    @property
    def slowest(self) -> str:
        """The loss after which requests go to a dead endpoint for longest."""
        return max((LEADER, OTHER), key=lambda loss: self.step(loss, "endpoint_gone").seconds.worst)

    @property
    def largest(self) -> tuple[Contribution, ...]:
        """The largest contributions to C(endpoint_gone) of the slowest loss, largest first, that explain most of its worst case."""
        step = self.step(self.slowest, "endpoint_gone")
        found: list[Contribution] = []
        for part in sorted(step.because, key=lambda part: -part.seconds.worst):
            if sum(one.seconds.worst for one in found) >= MOST * step.seconds.worst:
                break
            found.append(part)
        return tuple(found)

    def as_dict(self) -> dict[str, Any]:
        """Return it for a report: steps by name for each loss, the same C(without_election), C(slowest), C(largest) and C(unread)."""

        def shown(part: Contribution) -> dict[str, Any]:
            return {"setting": part.setting, "owner": part.owner, "why": part.why, **part.seconds._asdict()}

        def by_name(losses: Losses) -> dict[str, Any]:
            return {
                loss: {step.name: {**step.seconds._asdict(), "because": [shown(part) for part in step.because]} for step in steps}
                for loss, steps in losses.items()
            }

        return {
            **by_name(self.losses),
            "without_election": by_name(self.without_election),
            "slowest": self.slowest,
            "largest": [shown(part) for part in self.largest],
            "unread": list(self.unread),
        }


def budget(settings: Settings) -> Budget:
    """Return how long the steps take after the loss of the leader, and of another node.

    Sources: kubernetes client-go, leaderelection.go; kubernetes, node_lifecycle_controller.go; kernel, ip-sysctl.
    """
    return Budget(_losses(settings), _losses(replace(settings, election_timeout=0.0)), settings.unread)


def _losses(settings: Settings) -> Losses:
    connections = (_unacknowledged_dropped(settings), _idle_dropped(settings))
    return {
        LEADER: (Step("new_leader", _new_leader(settings)), *_node(settings, _leader_down(settings)), *connections),
        OTHER: (*_node(settings, _other_down(settings)), *connections),
    }


def _total(because: tuple[Contribution, ...]) -> Cases:
    return Cases(*(sum(case) for case in zip(*(part.seconds for part in because))))


def _flag(name: str, seconds: Cases, why: str) -> Contribution:
    return Contribution(name, CONTROLLER_MANAGER, seconds, why)


def _new_leader(known: Settings) -> tuple[Contribution, ...]:
    """Until somebody takes the lease (client-go, leaderelection.go).

    The leader renews every retry period. A candidate looks every 1 to 2.2 of them, counts the lease duration from when it saw
    the last renewal, and takes the lease at its first look after that. Where the node led the datastore, too, nobody sees the
    last renewal before the datastore has a new leader, within two election time-outs (etcd.io, tuning).
    """
    retry = known.retry_period
    # Best: the leader was about to renew. Worst: it just had, and each look of the candidate comes as late as it can.
    looks = Cases(-min(retry, known.lease_duration), (2 * RESIDUAL - 0.5) * retry, 2 * GAPS * retry)
    return (
        _flag("leader-elect-lease-duration", Cases.always(known.lease_duration), "nobody takes the lease of a dead leader before it ends"),
        _flag("leader-elect-retry-period", looks, "from the last renewal to the death, to the candidate's look and to its next one"),
        Contribution(
            "election-timeout",
            ETCD,
            Cases(0.0, 0.0, timing.ELECTIONS * known.election_timeout),
            "the datastore may have lost its leader, too, and then tells nobody of the last renewal before it has a new one",
        ),
    )


def _detected(grace: float, period: float, loop: float) -> float:
    """Return the seconds from a look that sees a sign of life to the look that finds the node down (tryUpdateNodeHealth).

    Args:
        grace: the grace period; it counts from the look itself, and ends at the first look after it.
        period: what the loop waits between two looks.
        loop: what a look takes.
    """
    latest = grace + period + loop
    if period < _NANOSECOND:
        return latest
    # 2.1 / 0.3 is a little more than 7 in binary numbers.
    looks = max(1, math.ceil(round(grace / period, 6)))
    return min(looks * (period + loop), latest)


def _monitored(known: Settings, noticed: Cases) -> tuple[Contribution, ...]:
    """The grace period, and what the monitor's looks add to it.

    Args:
        known: the settings.
        noticed: from the last sign of life to the look that sees it, in monitor periods.
    """
    grace = Cases.always(known.monitor_grace_period)
    period = known.monitor_period
    rounding = Cases(*(_detected(known.monitor_grace_period, period, loop) - known.monitor_grace_period for loop in LOOP_DRIFT))
    return (
        _flag("node-monitor-grace-period", grace, "a node may be silent for this long"),
        _flag("node-monitor-period", rounding.plus(noticed.times(period)), "the silence is measured from look to look"),
    )


def _leader_down(known: Settings) -> tuple[Contribution, ...]:
    """Until the node is Unknown where the leader died with it.

    The new leader has not seen the node before, so it counts from its own first look ("Missing timestamp for Node").
    """
    start = Contribution("start of the controllers", "", CONTROLLER_START, "the new leader starts its controllers and reads the cluster")
    return (*_new_leader(known), start, *_monitored(known, Cases.always(0.0)))


def _other_down(known: Settings) -> tuple[Contribution, ...]:
    """Until the node is Unknown where the leader lives: it counts from the look that saw the last heartbeat."""
    heartbeat = timing.HEARTBEAT * known.node_lease_duration
    monitored = _monitored(known, Cases(0.0, 0.5, 1.0))
    # No node is down before it died, whatever the settings.
    early = Cases(*(-min(part * heartbeat, found) for part, found in zip((RENEWAL_JITTER, 0.5, 0.0), _total(monitored))))
    lives = (Contribution("nodeLeaseDurationSeconds", KUBELET, early, "the last heartbeat was before the death"), *monitored)
    if known.renew_deadline >= timing.ELECTIONS * known.election_timeout + known.retry_period:
        return lives
    late = max(0.0, _total(_leader_down(known)).worst - _total(lives).worst)
    why = "the leader lives but cannot renew while the datastore elects, and ends at its renew deadline"
    return (*lives, Contribution("election-timeout", ETCD, Cases(0.0, 0.0, late), why))


def _node(known: Settings, down: tuple[Contribution, ...]) -> tuple[Step, ...]:
    """The steps from a node that is found down."""
    gone = Step(
        "endpoint_gone",
        (*down, Contribution("endpoint removal", "", ENDPOINT_REMOVAL, "pods are marked not ready, EndpointSlices follow")),
    )
    evicted = (
        # The look that finds the node down still judges it by the state before (processTaintBaseEviction).
        _flag("node-monitor-period", Cases.always(known.monitor_period), "the taint is due at the look after"),
        Contribution(
            "default-unreachable-toleration-seconds", APISERVER, Cases.always(known.unreachable_toleration), "pods tolerate the taint"
        ),
        Contribution("taint queue", "", TAINT_QUEUE, "nodes are tainted one after the other"),
    )
    return (
        Step("node_down", down),
        gone,
        Step("requests_end", (*gone.because, _watch(known, gone), Contribution("kube-proxies", "", PROXIES_FOLLOW, "each has to follow"))),
        Step("pods_evicted", (*down, *evicted)),
    )


def _watch(known: Settings, gone: Step) -> Contribution:
    """What a kube-proxy waits longer whose API server died with the node, if there is one.

    It hears of no change before it finds its connection dead: by HTTP/2's health check, without which the kernel has to
    (kubernetes/kubernetes#95981).
    """
    found = known.http2_read_idle_timeout + known.http2_ping_timeout
    if known.http2_read_idle_timeout <= 0:
        found = tcp_timers.given_up_after(known.tcp_retries2)
    late = Cases(0.0, 0.0, max(0.0, found - gone.seconds.worst))
    why = "with HTTP2_PING_TIMEOUT_SECONDS: a kube-proxy whose API server died, too, sees no change before"
    return Contribution("HTTP2_READ_IDLE_TIMEOUT_SECONDS", ENVIRONMENT, late, why)


def _unacknowledged_dropped(known: Settings) -> Step:
    """Until TCP gives up a connection with unanswered data; counted from the death where data is under way then, else from a later send.

    Of host processes and hostNetwork pods: other pods have sysctls of their own.
    """
    expected = tcp_timers.given_up_after(known.tcp_retries2)
    late = TIMER_LATENESS.times(expected).plus(Cases(0.0, 0.0, TIMER_SLACK))
    return Step(
        "unacknowledged_dropped",
        (
            Contribution("net.ipv4.tcp_retries2", SYSCTL, Cases.always(expected), "data is sent again, after longer and longer time-outs"),
            Contribution("timers of the kernel", "", late, "long timers fire late"),
        ),
    )


def _idle_dropped(known: Settings) -> Step:
    """Until TCP gives up a connection with nothing to say that has SO_KEEPALIVE and no times of its own.

    The idle time counts from the last data that came, which may be long before the death.
    """
    probing = known.keepalive_intvl * known.keepalive_probes
    idle = Cases(0.0, known.keepalive_time, known.keepalive_time)
    late = Cases(*(part * (wait + probing) for part, wait in zip(TIMER_LATENESS, idle))).plus(Cases(0.0, 0.0, TIMER_SLACK))
    return Step(
        "idle_dropped",
        (
            Contribution("net.ipv4.tcp_keepalive_time", SYSCTL, idle, "the first probe waits for this long a silence"),
            Contribution(
                "net.ipv4.tcp_keepalive_intvl", SYSCTL, Cases.always(probing), "x net.ipv4.tcp_keepalive_probes without an answer"
            ),
            Contribution("timers of the kernel", "", late, "long timers fire late"),
        ),
    )


_LONGEST = 2**63 - 1


def _whole(text: str) -> int:
    if not re.fullmatch("[0-9]+", text) or int(text) > _LONGEST:
        raise ValueError("'%s' is not a whole number" % text)
    return int(text)


class Source(NamedTuple):
    """Where one of C(Settings) is read."""

    owner: str
    """A component, C(ENVIRONMENT) or C(SYSCTL)."""
    name: str
    read: Callable[[str], float]
    """Raises ValueError for what is no value."""


SOURCES: dict[str, Source] = {
    "election_timeout": Source(ETCD, "election-timeout", lambda text: _whole(text) / 1000),
    "lease_duration": Source(CONTROLLER_MANAGER, "leader-elect-lease-duration", go_duration.seconds),
    "renew_deadline": Source(CONTROLLER_MANAGER, "leader-elect-renew-deadline", go_duration.seconds),
    "retry_period": Source(CONTROLLER_MANAGER, "leader-elect-retry-period", go_duration.seconds),
    "monitor_period": Source(CONTROLLER_MANAGER, "node-monitor-period", go_duration.seconds),
    "monitor_grace_period": Source(CONTROLLER_MANAGER, "node-monitor-grace-period", go_duration.seconds),
    "node_lease_duration": Source(KUBELET, "nodeLeaseDurationSeconds", _whole),
    "http2_read_idle_timeout": Source(ENVIRONMENT, "HTTP2_READ_IDLE_TIMEOUT_SECONDS", _whole),
    "http2_ping_timeout": Source(ENVIRONMENT, "HTTP2_PING_TIMEOUT_SECONDS", _whole),
    "unreachable_toleration": Source(APISERVER, "default-unreachable-toleration-seconds", _whole),
    "not_ready_toleration": Source(APISERVER, "default-not-ready-toleration-seconds", _whole),
    "tcp_retries2": Source(SYSCTL, "net.ipv4.tcp_retries2", _whole),
    "keepalive_time": Source(SYSCTL, "net.ipv4.tcp_keepalive_time", _whole),
    "keepalive_intvl": Source(SYSCTL, "net.ipv4.tcp_keepalive_intvl", _whole),
    "keepalive_probes": Source(SYSCTL, "net.ipv4.tcp_keepalive_probes", _whole),
}
"""By field of C(Settings)."""

SHIPPED = {("microk8s", CONTROLLER_MANAGER): {"leader-elect-lease-duration": "60s", "leader-elect-renew-deadline": "30s"}}
"""Flags that a distribution's own files set; they stand in where nobody looked (canonical/microk8s#2203)."""


def from_flags(
    effective: Mapping[str, Mapping[str, object]], distribution: str, release: str, election_timeout: float | None = None
) -> Settings:
    """Return the settings of a node.

    A flag that is not there has the default of its release. C(unread) of the result names what makes no sense, and
    everything of an owner that is not in C(effective) at all.

    Args:
        effective: values by owner and name, as in C(SOURCES); None is for a value that is not set. Other names are ignored.
        distribution: V(k3s) or V(microk8s).
        release: as the distribution names it; where it names none a new one is assumed.
        election_timeout: of the datastore in seconds, where no flag says it and it is not the distribution's own.
    """
    parsed = parse_release(release)
    found: dict[str, Any] = {"election_timeout": ELECTION_TIMEOUT.get(distribution, 0.0) if election_timeout is None else election_timeout}
    if parsed is not None and parsed < GRACE_PERIOD_CHANGED:
        found["monitor_grace_period"] = GRACE_PERIOD_BEFORE
    unread = []
    for field, source in SOURCES.items():
        values = effective.get(source.owner)
        if values is None:
            # Of a datastore that has no such flag there is nothing to read.
            unread += [] if source.owner == ETCD else [source.name]
            values = SHIPPED.get((distribution, source.owner), {})
        value = values.get(source.name)
        if value is not None:
            try:
                found[field] = source.read(str(value))
            except ValueError:
                unread.append(source.name)
    return replace(Settings(), unread=tuple(unread), **found)
