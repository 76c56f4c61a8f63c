"""How long TCP holds on to a peer that is gone: what the sysctls come to, what live connections use, what reaches pods. Pure."""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Iterable, Mapping, Sequence

from ansible_collections.kubekeel.ha.plugins.module_utils.release import Release, show_release

RETRIES = "net.ipv4.tcp_retries2"
TIME, INTERVAL, PROBES = "net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_keepalive_intvl", "net.ipv4.tcp_keepalive_probes"
SYSCTLS = (RETRIES, TIME, INTERVAL, PROBES)
"""They are each network namespace's own (net/ipv4/sysctl_net_ipv4.c), and IPv6 takes them, too."""
RTO_MIN, RTO_MAX = 0.2, 120.0
"""Seconds; the time-out doubles from one to the other (Linux, Documentation/networking/ip-sysctl.rst, tcp_retries2)."""

NONE, CNI, SAFE_SYSCTLS, INIT_CONTAINER = "none", "cni", "safe-sysctls", "init-container"
CHOICES = (NONE, CNI, SAFE_SYSCTLS, INIT_CONTAINER)
"""What reaches pods: nothing, each new pod of the node, or the pods whose manifests say so."""
SAFE: Mapping[str, Release] = {TIME: (1, 29, 0), INTERVAL: (1, 29, 0), PROBES: (1, 29, 0)}
"""Sysctls that any pod may set, and since when (kubernetes.io, Linux Kernel Version Requirements; kubelet safe_sysctls.go)."""
PEERS = 5
"""So many peers are named."""

# Its queues, and an address. Before iproute2 5.6 a record goes on in lines of its own where 80 columns are not enough.
_RECORD = re.compile(r"\s*\d+\s+\d+\s+\S")
_TIMER = re.compile(r"timer:\((?P<kind>\w+),(?P<left>[^,]*),(?P<times>\d{1,9})\)")
# print_ms_timer of iproute2's ss: 119min, 1min58sec, 29sec, 1.468ms (a second and 468 ms), 024ms.
_LEFT = re.compile(r"(?:(\d+)min)?(?:(\d+)(?:sec|(?=\.)))?\.?(?:(\d+)ms)?")


@dataclass(frozen=True)
class Connection:
    """An established connection."""

    peer: str
    """Address and port."""
    timer: str
    """C(on) (data is unanswered), C(keepalive), C(persist) (the peer's window is closed), empty where none runs."""
    left: float
    """Seconds until the timer ends."""
    times: int
    """How often it ended since the peer answered."""

    @property
    def unanswered(self) -> bool:
        """Whether it has sent something again, or a probe, and still waits."""
        return self.timer in ("on", "keepalive", "persist") and self.times > 0

    def waited(self, interval: int) -> float:
        """Return for how many seconds it has waited at least, by the seconds between two probes of keepalive."""
        return float(self.times * interval) if self.timer == "keepalive" else waited(self.times)


@dataclass(frozen=True)
class Network:
    """A network namespace."""

    values: Mapping[str, int]
    """Of C(SYSCTLS)."""
    connections: Sequence[Connection]


def waited(retransmissions: int) -> float:
    """Return the seconds after which the last of so many retransmissions was sent, with the shortest time-outs there can be."""
    return sum(min(RTO_MIN * (1 << min(number, 10)), RTO_MAX) for number in range(retransmissions))


def given_up_after(retries2: int) -> float:
    """Return after how many seconds a connection with unanswered data is given up, at the earliest: 102.2 with 8, 924.6 with 15.

    It is the sum of the first C(retries2) + 1 time-outs (Linux, ip-sysctl: tcp_retries2; tcp_timer.c: tcp_model_timeout).
    """
    return waited(retries2 + 1)


def idle_given_up_after(values: Mapping[str, int]) -> int:
    """Return after how many seconds an idle connection with keepalive is given up."""
    return values[TIME] + values[INTERVAL] * values[PROBES]


def parse(text: str) -> list[Connection]:
    """Return the connections that C(ss -tnoH state established) printed."""
    records: list[str] = []
    for line in text.splitlines():
        if _RECORD.match(line):
            records.append(line)
        elif records:
            records[-1] += " " + line
    found = []
    for record in records:
        # An address and its port are two columns, which may be in two lines.
        words = re.sub(r":\s+", ":", record).split()
        if len(words) >= 4:
            timer = _TIMER.search(words[4]) if len(words) > 4 else None
            kind, left, times = (timer.group("kind"), timer.group("left"), int(timer.group("times"))) if timer else ("", "", 0)
            found.append(Connection(words[3], kind, _seconds(left), times))
    return found


def _seconds(text: str) -> float:
    found = _LEFT.fullmatch(text)
    if not found:
        return 0.0
    minutes, seconds, milliseconds = (int(number or 0) for number in found.groups())
    return 60 * minutes + seconds + milliseconds / 1000


def summary(networks: Sequence[Network]) -> dict[str, Any]:
    """Return what the connections of some network namespaces have in common, see the module tcp_connections."""
    connections = [connection for network in networks for connection in network.connections]
    waits = [(one.waited(network.values[INTERVAL]), one.peer) for network in networks for one in network.connections if one.unanswered]
    waits.sort(key=lambda wait: -wait[0])
    probed = [one for one in connections if one.timer == "keepalive"]
    return {
        "connections": len(connections),
        "keepalive": len(probed),
        "keepalive_within": round(max((one.left for one in probed if not one.times), default=0)),
        "without_keepalive": sum(not one.timer for one in connections),
        "unanswered": len(waits),
        "unanswered_for": round(waits[0][0], 1) if waits else 0.0,
        "peers": list(dict.fromkeys(peer for _, peer in waits))[:PEERS],
    }


def by_values(networks: Iterable[Network]) -> list[dict[str, Any]]:
    """Return network namespaces with the same sysctls together, the largest group first: C(values), C(count), and C(summary)."""
    groups: dict[tuple[int, ...], list[Network]] = {}
    for network in networks:
        groups.setdefault(tuple(network.values[name] for name in SYSCTLS), []).append(network)
    ordered = sorted(groups.values(), key=lambda group: -len(group))
    return [{"values": dict(group[0].values), "count": len(group), **summary(group)} for group in ordered]


def lines(host: Mapping[str, Any], pods: Sequence[Mapping[str, Any]], wanted: Mapping[str, int]) -> list[str]:
    """Return what is worth a line of a report.

    Args:
        host: C(values) and C(summary) of the host.
        pods: C(by_values) of the pods with a network of their own.
        wanted: sysctls.
    """
    made = []
    if host["unanswered"]:
        made.append("host: " + "; ".join(_about(host)))
    for group in pods:
        different = [name for name in SYSCTLS if name in wanted and group["values"][name] != wanted[name]]
        if different:
            values = group["values"]
            text = "%s with %s: a dead peer is noticed after %s with unanswered data, after %s where idle with keepalive" % (
                _count(group["count"], "pod"),
                ", ".join("%s=%d" % (name.rpartition(".")[2], values[name]) for name in different),
                duration(given_up_after(values[RETRIES])),
                duration(idle_given_up_after(values)),
            )
            made.append("; ".join([text, *(_about(group) if group["connections"] else ())]))
        elif group["unanswered"]:
            made.append("; ".join(["%s as wanted" % _count(group["count"], "pod"), *_about(group)]))
    return made


def _about(group: Mapping[str, Any]) -> list[str]:
    made = [_count(group["connections"], "connection")]
    if group["without_keepalive"]:
        made[0] += ", %d without keepalive" % group["without_keepalive"]
    if group["keepalive_within"] > group["values"][TIME]:
        # A timer that runs is not made shorter by the sysctl (net/ipv4/tcp_timer.c, tcp_keepalive_timer).
        text = "one is probed in %s only: it is older than the sysctl's value, or its program says so"
        made.append(text % duration(group["keepalive_within"]))
    if group["unanswered"]:
        peers = ", ".join(group["peers"])
        made.append("%d without an answer, for %s or longer: %s" % (group["unanswered"], duration(group["unanswered_for"]), peers))
    return made


def duration(seconds: float) -> str:
    """Return a duration for a report: V(25.4 s), V(102 s), V(15 min 25 s)."""
    if seconds < 60:
        return "%g s" % round(seconds, 1)
    whole = round(seconds)
    if whole < 120:
        return "%d s" % whole
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    parts = [(hours, "h"), (minutes, "min"), (rest, "s")]
    return " ".join("%d %s" % (number, unit) for number, unit in parts if number)


def _count(number: int, what: str) -> str:
    return "%d %s%s" % (number, what, "" if number == 1 else "s")


def refusals(choice: str, release: Release | None) -> list[str]:
    """Return why a choice of C(CHOICES) cannot be had with a release of Kubernetes, None where that is not known."""
    first = max(SAFE.values())
    if choice != SAFE_SYSCTLS or (release and release >= first):
        return []
    seen = "Kubernetes %s" % show_release(release) if release else "a release that cannot be told"
    return [
        "tcp_timeouts_pods=%s: with %s the kubelet refuses a pod that sets tcp_keepalive_* (SysctlForbidden); they are safe since %s "
        "(kubernetes.io, Using sysctls in a Kubernetes Cluster). Choose %s or %s"
        % (SAFE_SYSCTLS, seen, show_release(first), INIT_CONTAINER, CNI)
    ]


def manifest(choice: str, wanted: Mapping[str, int]) -> str:
    """Return what workloads have to say themselves with a choice of C(CHOICES), as YAML; empty where nothing.

    tcp_retries2 is no safe sysctl: the kubelet takes it where C(allowed-unsafe-sysctls) names it only.
    """
    ordered = [name for name in SYSCTLS if name in wanted]
    if choice == SAFE_SYSCTLS:
        safe = ['      - {name: %s, value: "%d"}' % (name, wanted[name]) for name in ordered if name in SAFE]
        return "\n".join(["spec:", "  securityContext:", "    sysctls:", *safe]) + "\n"
    if choice == INIT_CONTAINER:
        words = "".join(", %s=%d" % (name, wanted[name]) for name in ordered)
        made = ["spec:", "  initContainers:", "    - name: tcp-timeouts", "      image: busybox:1.36"]
        made += ["      command: [sysctl, -w%s]" % words, "      securityContext: {privileged: true}"]
        return "\n".join(made) + "\n"
    return ""
