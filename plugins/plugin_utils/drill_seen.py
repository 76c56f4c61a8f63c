"""What the observers of a drill saw, read into one line of time for each. Pure.

Every observer has a clock of its own. Its zero is the first loss as it saw it itself, so that no clocks have to agree. All
observers begin together: one that missed a loss takes it from another one, counted from the begin.
"""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

States = Sequence[tuple[float, Any]]
"""A state and since when, in order; the first one is the first look."""


@dataclass(frozen=True)
class Request:
    """One request; ``backend`` is the address that it went to, empty where nobody knows."""

    began: float
    seconds: float
    pod: str
    problem: str
    backend: str

    @property
    def ended(self) -> float:
        """When the answer came, or the hope for it ended."""
        return self.began + self.seconds


@dataclass(frozen=True)
class Loss:
    """A node that was lost, as an observer saw it."""

    node: str
    time: float
    uncertainty: float
    """Seconds that it may have happened earlier: the time between two looks."""
    back: float = math.inf
    """When the node answered again."""
    until: float = math.inf
    """What happens before belongs to this loss, and what happens later to the next one."""
    seen: bool = True
    """False where the observer did not see it, and the time is another observer's."""

    def moved(self, seconds: float) -> Loss:
        """Return it so many seconds later."""
        return replace(self, time=self.time + seconds, back=self.back + seconds)


@dataclass(frozen=True)
class Probed:
    """What became of asking one node again and again."""

    asked: int
    failed: int
    states: States


@dataclass(frozen=True)
class Seen:
    """What one observer saw, in seconds after its zero."""

    name: str
    error: str
    start: float
    end: float
    leaders: Mapping[str, States]
    nodes: Mapping[str, States]
    endpoints: Sequence[tuple[float, Mapping[str, tuple[str, str]]]]
    """Since when, and for each pod its node and address."""
    requests: Sequence[Request]
    api: Mapping[str, Probed]
    connections: Sequence[Mapping[str, Any]]
    losses: Sequence[Loss]

    @property
    def failed(self) -> Sequence[Request]:
        """Requests without the hoped-for answer."""
        return [request for request in self.requests if request.problem]

    def present(self, node: str) -> States:
        """Return whether the Service had an endpoint on the node."""
        return [(time, any(where == node for where, _address in pods.values())) for time, pods in self.endpoints]

    def addresses(self, node: str) -> set[str]:
        """Return the addresses of the Service's endpoints on the node."""
        return {address for _time, pods in self.endpoints for where, address in pods.values() if where == node}


def read(observations: Sequence[Mapping[str, Any]], victims: Sequence[str]) -> list[Seen]:
    """Return what each observer saw, with the losses in the order of C(victims); one that nobody saw is left out.

    Args:
        observations: as RETURN of M(kubekeel.ha.drill_observation) describes them.
        victims: nodes that were to be lost, in order.
    """
    own = [_losses(observation, victims) for observation in observations]
    lent = [next(filter(None, seen), None) for seen in zip(*own, strict=True)]
    return [
        _read(observation, [loss or replace(other, seen=False) for loss, other in zip(losses, lent, strict=True) if other])
        for observation, losses in zip(observations, own, strict=True)
    ]


def _losses(observation: Mapping[str, Any], victims: Sequence[str]) -> list[Loss | None]:
    """Return the loss of each victim in seconds after the begin, None where the observer did not see it.

    A node that was lost n times was away for the n longest of all times: a port that did not answer once is no loss. Where the
    kubelet's port never closed, as that of a frozen process, the API server's silence counts.
    """
    found = {}
    for node in set(victims):
        away = _away(observation, "reach", node) or _away(observation, "api", node)
        longest = sorted(away, key=lambda loss: loss.time - loss.back)[: victims.count(node)]
        found[node] = sorted(longest, key=lambda loss: loss.time)
    return [found[node].pop(0) if found[node] else None for node in victims]


def _away(observation: Mapping[str, Any], kind: str, node: str) -> list[Loss]:
    """Return each time that a node did not answer. One that never answered was not lost: nobody may ask it from here."""
    probe = observation[kind].get(node)
    if probe is None or probe["failed"] >= probe["asked"]:
        return []
    losses: list[Loss] = []
    for change in sorted(probe["changes"], key=lambda change: change["time"]):
        time = change["time"] - observation["began"]
        if not change["up"]:
            before = 0.0 if change["previous"] is None else change["previous"] - observation["began"]
            losses.append(Loss(node, time, max(0.0, time - before)))
        elif losses:
            losses[-1] = replace(losses[-1], back=time)
    return losses


def _read(observation: Mapping[str, Any], losses: Sequence[Loss]) -> Seen:
    """Return an observation in seconds after its first loss, or after its begin where there is none."""
    zero = observation["began"] + (losses[0].time if losses else 0.0)
    end = observation["ended"] - zero

    def states(changes: Sequence[Mapping[str, Any]], key: str, convert: Callable[[Any], Any]) -> States:
        return sorted(((change["time"] - zero, convert(change[key])) for change in changes), key=lambda each: each[0])

    endpoints = states(
        observation["endpoints"], "pods", lambda pods: {pod: (where["node"], where["address"]) for pod, where in pods.items()}
    )
    addresses = {pod: address for _time, pods in endpoints for pod, (_node, address) in pods.items()}
    requests = [
        Request(began - zero, seconds, pod, problem, address or addresses.get(pod, ""))
        for began, seconds, pod, problem, address in observation["requests"]
    ]
    moved = [loss.moved(observation["began"] - zero) for loss in losses]
    return Seen(
        name=observation["observer"],
        error=observation["error"],
        start=observation["began"] - zero,
        end=end,
        leaders={name: states(changes, "holder", str) for name, changes in observation["leaders"].items()},
        nodes={node: states(changes, "ready", str) for node, changes in observation["nodes"].items()},
        endpoints=endpoints,
        requests=sorted(requests, key=lambda request: request.began),
        api={
            node: Probed(probe["asked"], probe["failed"], states(probe["changes"], "up", bool))
            for node, probe in observation["api"].items()
        },
        connections=[
            dict(one, opened=one["opened"] - zero, dropped=math.inf if one["dropped"] is None else one["dropped"] - zero)
            for one in observation["connections"]
        ],
        # A loss ends where the next one happens, unless that was before the node was back.
        losses=[replace(loss, until=min((other.time for other in moved if other.time > loss.back), default=end)) for loss in moved],
    )
