"""One run at a time: who holds the Lease that keeps runs apart, and what to write to take, renew or release it. Pure.

Every write names the resourceVersion that was read, so that of two runs that read the same the API server takes one, and
refuses the other with HTTP 409. It names the uid, too: a Lease may be created by PUT, and one that was deleted meanwhile must
not come back that way.
"""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Mapping

from ansible_collections.kubekeel.ha.plugins.module_utils import health

NAME = "kubekeel"
NAMESPACE = "kube-system"
PURPOSE = "kubekeel.io/purpose"
OPERATOR = "kubekeel.io/operator"
DURATION = 600
"""Seconds for which a run holds it without renewing it. Longer than any step of a run takes."""
SHORTEST = 60
"""The shortest such time that is taken: a run on its way from one look to the next must not lose it."""
LONGEST = 2**31 - 1
"""The longest one that a Lease can hold."""
RENEW_AFTER = 10
"""Seconds after which it is renewed, where somebody looks."""

_LAST = 253402300799.0
"""The last second that a time has a text for, that of the year 9999."""


@dataclass(frozen=True)
class Lock:
    """What the Lease says. Times are in seconds of the Unix epoch, None where they are missing or no times."""

    holder: str = ""
    """The run that holds it; empty where nobody does, as client-go leaves a Lease that it releases."""
    purpose: str = ""
    operator: str = ""
    acquired: float | None = None
    renewed: float | None = None
    duration: int | None = None

    @property
    def expires(self) -> float | None:
        """When another run may take it, which allows for clocks that differ; None where that cannot be told."""
        if not self.holder or self.renewed is None or self.duration is None:
            return None
        return self.renewed + self.duration + health.CLOCK_SKEW

    @property
    def damaged(self) -> bool:
        """Whether somebody holds it and nobody can tell until when."""
        return bool(self.holder) and self.expires is None

    def held(self, now: float) -> bool:
        """Tell whether other runs have to keep away. They have to where it is damaged, since its holder may be alive."""
        return bool(self.holder) and (self.expires is None or now < self.expires)


@dataclass(frozen=True)
class Run:
    """Who wants to hold it."""

    run_id: str
    purpose: str = ""
    operator: str = ""
    duration: int = DURATION


@dataclass(frozen=True)
class Step:
    """What follows from the Lease as it was read: a request, or a refusal, or nothing."""

    method: str = ""
    """POST or PUT; empty where there is nothing to write."""
    lease: Mapping[str, Any] | None = None
    """What to write."""
    refusal: str = ""
    """Why the run must not go on; empty where it may."""


def read(lease: Any) -> Lock:
    """Return what a Lease says, None or whatever somebody else wrote into it included."""
    spec = _part(lease, "spec")
    holder, duration = _text(spec.get("holderIdentity")), spec.get("leaseDurationSeconds")
    # Those of a released Lease are about who held it last.
    notes = _part(_part(lease, "metadata"), "annotations") if holder else {}
    return Lock(
        holder=holder,
        purpose=_text(notes.get(PURPOSE)),
        operator=_text(notes.get(OPERATOR)),
        acquired=_moment(spec.get("acquireTime")),
        renewed=_moment(spec.get("renewTime")),
        duration=duration if isinstance(duration, int) and not isinstance(duration, bool) and 0 < duration <= LONGEST else None,
    )


def take(lease: Any, run: Run, now: float) -> Step:
    """Take the Lease for a run, where no other run holds it. The run that holds it already renews it.

    Args:
        lease: as it was read, None where there is none.
        run: who takes it.
        now: seconds of the Unix epoch.
    """
    lock = read(lease)
    if lock.held(now) and lock.holder != run.run_id:
        return Step(refusal=sentence(lock, now))
    since = lock.acquired if lock.holder == run.run_id else None
    spec = {
        "holderIdentity": run.run_id,
        "leaseDurationSeconds": run.duration,
        "acquireTime": health.micro_time(now if since is None else since),
        "renewTime": health.micro_time(now),
    }
    notes = {PURPOSE: run.purpose, OPERATOR: run.operator}
    if lease is None:
        metadata = {"name": NAME, "namespace": NAMESPACE, "annotations": notes}
        return Step("POST", {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec})
    metadata = dict(_part(lease, "metadata"))
    metadata["annotations"] = dict(_part(metadata, "annotations"), **notes)
    return Step("PUT", dict(lease, metadata=metadata, spec=spec))


def renew(lease: Any, run_id: str, now: float) -> Step:
    """Renew the Lease of a run, where that is due. A run that does not hold it any more does not take it again."""
    lock = read(lease)
    if lock.holder != run_id:
        why = sentence(lock, now) if lock.holder else "its Lease was released or broken, and nobody holds it"
        return Step(refusal="run %s does not hold this cluster any more: %s" % (run_id, why))
    # Several nodes of a batch renew it at the same moment; who comes second has nothing to do.
    if lock.renewed is not None and -health.CLOCK_SKEW <= now - lock.renewed < RENEW_AFTER:
        return Step()
    return _write(lease, renewTime=health.micro_time(now))


def release(lease: Any, run_id: str, now: float) -> Step:
    """Release the Lease of a run. What another run holds stays, and is told."""
    lock = read(lease)
    if lock.holder == run_id:
        return _write(lease, holderIdentity="", renewTime=health.micro_time(now))
    return Step(refusal="run %s has nothing to release: %s" % (run_id, sentence(lock, now)) if lock.holder else "")


def end(lease: Any, holder: str, now: float) -> Step:
    """Release the Lease of another run, which is dead; of that one only."""
    lock = read(lease)
    if lock.holder not in ("", holder):
        return Step(refusal="run %s has no Lease to break: %s" % (holder, sentence(lock, now)))
    return release(lease, holder, now) if lock.holder else Step()


def sentence(lock: Lock, now: float, advice: bool = True) -> str:
    """Say who holds the cluster, since when and until when, and with C(advice) what others can do about it."""
    if not lock.holder:
        return "nobody holds this cluster"
    said = ", ".join(part for part in (lock.purpose, lock.operator) if part)
    who = "run %s%s" % (lock.holder, " (%s)" % said if said else "")
    dead = "where that run is certainly dead: ansible-playbook -i INVENTORY kubekeel.ha.lock -e lock_break=%s" % lock.holder
    if lock.expires is None or lock.renewed is None:
        damaged = (
            "the Lease %s in %s is damaged: it says that %s holds this cluster, and no renew time or no lease duration, so that "
            "nobody can tell until when" % (NAME, NAMESPACE, who)
        )
        return "%s. Ask whoever started it, or, %s" % (damaged, dead) if advice else damaged
    if not lock.held(now):
        return "nobody holds this cluster: %s held it, and its Lease ran out at %s" % (who, _utc(lock.expires))
    since = "" if lock.acquired is None else " since %s" % _utc(lock.acquired)
    until = "%s holds this cluster%s. It renewed its Lease %s; where it does not do so again, it holds it until %s" % (
        who,
        since,
        _ago(now - lock.renewed),
        _utc(lock.expires),
    )
    return "%s. Wait, or, %s" % (until, dead) if advice else until


def _ago(seconds: float) -> str:
    if seconds < -health.CLOCK_SKEW:
        return "by a clock that is %d s ahead of this one" % -seconds
    return "%d s ago" % max(seconds, 0)


def _utc(moment: float) -> str:
    return datetime.fromtimestamp(min(moment, _LAST), timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")


def _write(lease: Any, **fields: str) -> Step:
    return Step("PUT", dict(lease, spec=dict(_part(lease, "spec"), **fields)))


def _part(value: Any, name: str) -> Mapping[str, Any]:
    """Return a mapping within another one, an empty one where there is none."""
    found = value.get(name) if isinstance(value, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _moment(value: Any) -> float | None:
    moment = health.moment(value)
    return None if moment is None or moment > _LAST else moment
