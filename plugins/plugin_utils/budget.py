"""From the results of the remedies to what the death of a node costs, before and after them. Pure."""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ansible_collections.kubekeel.ha.plugins.module_utils import failover, settings

OWNERS = {source.name: source.owner for source in failover.SOURCES.values()}
"""Owners by setting. No two owners have a setting of the same name that counts."""

State = dict[str, dict[str, Any]]
"""Values by owner and name, as C(failover.from_flags) takes them."""


def of_servers(servers: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the budgets of a cluster's servers without and with what the remedies change.

    Args:
        servers: by name. C(results) of the modules that change the node, with C(changes) and C(effective), in the order of
            the run; C(distribution), V(k3s) or V(microk8s); C(release), as the distribution names it; C(leads), whether a
            controller-manager runs there; C(election_timeout) of the datastore in seconds, None for the distribution's own.

    Returns:
        C(before) and C(after), each with C(servers), the budget of each that can lead, and the name of the C(slowest).
        Nothing where no module looked at a setting that counts.
    """
    states = {name: before_and_after(server["results"]) for name, server in servers.items()}
    return {
        moment: found
        for moment in ("before", "after")
        if (found := _budgets({name: state[moment] for name, state in states.items() if state}, servers))
    }


def _budgets(states: Mapping[str, State], servers: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the budgets of the servers that can lead, and the slowest of them."""
    known = {
        name: failover.from_flags(state, *(servers[name][key] for key in ("distribution", "release", "election_timeout")))
        for name, state in states.items()
    }
    # A server without a member of its own depends on the others' all the same.
    elections = [known[name].election_timeout for name, state in states.items() if settings.ETCD in state]
    if elections:
        known = {name: replace(each, election_timeout=max(elections)) for name, each in known.items()}
    budgets = {name: failover.budget(each) for name, each in known.items() if servers[name]["leads"]}
    if not budgets:
        return {}
    return {
        "servers": {name: each.as_dict() for name, each in budgets.items()},
        "slowest": max(budgets, key=lambda name: budgets[name].step(budgets[name].slowest, "endpoint_gone").seconds.worst),
    }


def before_and_after(results: Sequence[Mapping[str, Any]]) -> dict[str, State]:
    """Return the settings of a node, C(before) and C(after) what the remedies change; nothing where none of them counts."""
    found = _found(results)
    if not found:
        return {}
    changes = [change for result in results for change in result.get("changes") or () if _counts(change)]
    # In check mode no result shows what another one would change, so both states are made of the changes. Where there are
    # two of one setting, the first knows what was there, and the last what is left.
    return {
        "before": _with(found, ((change["name"], change["before"]) for change in reversed(changes))),
        "after": _with(found, ((change["name"], change["after"]) for change in changes)),
    }


def _found(results: Sequence[Mapping[str, Any]]) -> State:
    """Return what modules looked at: all flags of a component, or single variables, sysctls and keys."""
    state: State = {}
    for result in results:
        for key, value in (result.get("effective") or {}).items():
            if key in (result.get("absent") or ()):
                continue
            if key in (settings.CONTROLLER_MANAGER, settings.APISERVER, settings.ETCD):
                state.setdefault(key, {}).update(value)
            elif key in OWNERS:
                # Of a sysctl there are two values.
                state.setdefault(OWNERS[key], {})[key] = value["runtime"] if isinstance(value, Mapping) else value
    return state


def _counts(change: Mapping[str, Any]) -> bool:
    """Tell whether a change has a part in it: the scheduler's lease, for instance, has none."""
    owner = OWNERS.get(change["name"])
    return owner is not None and (change["owner"] == owner or change["owner"] not in settings.COMPONENTS)


def _with(state: State, values: Iterable[tuple[str, Any]]) -> State:
    made = copy.deepcopy(state)
    for name, value in values:
        made.setdefault(OWNERS[name], {})[name] = value
    return made
