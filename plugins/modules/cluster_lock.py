#!/usr/bin/python
"""The module kubekeel.ha.cluster_lock."""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

DOCUMENTATION = r"""
module: cluster_lock
short_description: Take a cluster for a run, so that no other run changes it at the same time
version_added: 0.1.0
description:
  - A Lease in the cluster, C(kubekeel) in C(kube-system), names the run that works on it. A run that finds another one there
    keeps away. Of two that come at the same moment one gets it, since each write names the version that was read.
  - A run holds it until it is released, or not renewed for O(duration). M(kubekeel.ha.cluster_health) renews it with its
    option O(kubekeel.ha.cluster_health#module:holding).
  - A Lease whose holder has no renew time or lease duration that can be read is damaged. It is never taken, only broken.
  - Asks the API server of this node, and where that does not answer O(api_servers). Runs on a server with an API server.
options:
  state:
    description:
      - V(taken) takes it, or renews it where this run holds it already. The module fails where another run holds it.
      - V(released) releases it. Where another run holds it, or no API server answers, that is a warning.
      - V(broken) releases it for a run that is dead.
      - V(seen) says who holds it.
    type: str
    choices: [taken, released, broken, seen]
    default: taken
  run_id:
    description: The run. O(state=taken) and O(state=released) need it.
    type: str
  purpose:
    description: What the run does, to be told to others, such as V(remediate) or V(drill).
    type: str
    default: ""
  operator:
    description: Who started it, to be told to others.
    type: str
    default: ""
  duration:
    description: For how many seconds the run holds it without renewing it, at least 60. Longer than any of its steps takes.
    type: int
    default: 600
  holder:
    description:
      - The run that is dead, which O(state=broken) needs. Where another one holds it the module fails.
      - A run that is alive all the same goes on until it asks M(kubekeel.ha.cluster_health) for the next time.
    type: str
  api_servers:
    description: Addresses of API servers to ask, in their order, where that of this node does not answer.
    type: list
    elements: str
    default: []
  kubeconfig:
    description: An administrator's kubeconfig on this node. By default the one that the distribution writes.
    type: path
extends_documentation_fragment: [kubekeel.ha.attributes, kubekeel.ha.distribution]
attributes:
  check_mode:
    description: Says whether it could be taken, released or broken, and writes nothing.
    support: full
  diff_mode:
    description: Nothing on the node changes.
    support: none
seealso:
  - module: kubekeel.ha.cluster_health
"""

EXAMPLES = r"""
- name: Take the cluster
  kubekeel.ha.cluster_lock:
    run_id: 20261121T055642Z-41873
    purpose: restart
    operator: alice@bastion

- name: Do not go on where it was lost
  kubekeel.ha.cluster_health:
    holding: 20261121T055642Z-41873
  register: health
  failed_when: not health.safe_to_disrupt

- name: Let others have it
  kubekeel.ha.cluster_lock:
    state: released
    run_id: 20261121T055642Z-41873
"""

RETURN = r"""
holder:
  description: The run that the Lease names; empty where it names none, or where no API server answers a run that releases it.
  returned: success, and where another run holds it
  type: str
  sample: 20261121T055642Z-41873
purpose:
  description: What that run does; empty where nobody holds it.
  returned: success, and where another run holds it
  type: str
  sample: restart
operator:
  description: Who started it; empty where nobody holds it.
  returned: success, and where another run holds it
  type: str
  sample: alice@bastion
renewed:
  description: When it was renewed, in seconds of the Unix epoch; null where that cannot be told.
  returned: success, and where another run holds it
  type: float
expires:
  description: When another run may take it, in seconds of the Unix epoch; null where that cannot be told.
  returned: success, and where another run holds it
  type: float
held:
  description: Whether somebody holds it. A damaged one counts as held.
  returned: success, and where another run holds it
  type: bool
mine:
  description: Whether O(run_id) holds it.
  returned: success, and where another run holds it
  type: bool
msg:
  description: All that as a sentence, and what to do where another run holds it.
  returned: success, and where another run holds it
  type: str
  sample: nobody holds this cluster
"""

import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubekeel.ha.plugins.module_utils import cluster_lock, distribution, kube_api, lock_client, node_module
from ansible_collections.kubekeel.ha.plugins.module_utils.node_files import NodeError

TAKEN = "taken"
RELEASED = "released"
BROKEN = "broken"
SEEN = "seen"
NEEDED = {TAKEN: "run_id", RELEASED: "run_id", BROKEN: "holder"}


def decide(params: dict[str, Any], lease: Any) -> cluster_lock.Step:
    """Return what O(state) makes of the Lease."""
    now = time.time()
    if params["state"] == TAKEN:
        run = cluster_lock.Run(params["run_id"], params["purpose"], params["operator"], params["duration"])
        return cluster_lock.take(lease, run, now)
    if params["state"] == RELEASED:
        return cluster_lock.release(lease, params["run_id"], now)
    if params["state"] == BROKEN:
        return cluster_lock.end(lease, params["holder"], now)
    return cluster_lock.Step()


def describe(lock: cluster_lock.Lock, run_id: str | None) -> dict[str, Any]:
    """Return a Lease as the result has it."""
    now = time.time()
    mine = bool(run_id) and lock.holder == run_id
    return {
        "holder": lock.holder,
        "purpose": lock.purpose,
        "operator": lock.operator,
        "renewed": lock.renewed,
        "expires": lock.expires,
        "held": lock.held(now),
        "mine": mine,
        "msg": cluster_lock.sentence(lock, now, advice=not mine),
    }


def run(module: AnsibleModule) -> dict[str, Any]:
    """Do the module's work and return its result.

    Raises:
        NodeError: another run holds the cluster, or nobody can tell.
    """
    params = module.params
    state, run_id = params["state"], params["run_id"]
    needed = NEEDED.get(state)
    # An empty name in a Lease means nobody.
    if needed and not params[needed]:
        raise NodeError("%s is missing: the name of a run is needed with state=%s" % (needed, state))
    if state == TAKEN and params["duration"] < cluster_lock.SHORTEST:
        raise NodeError("duration is %d s: less than %d s is too short for a run" % (params["duration"], cluster_lock.SHORTEST))
    if state == TAKEN and params["duration"] > cluster_lock.LONGEST:
        raise NodeError("duration is %d s: a Lease holds %d s at most" % (params["duration"], cluster_lock.LONGEST))
    api = kube_api.Credentials(params["kubeconfig"] or distribution.find(module).kubeconfig)
    hosts = [api.host, *(host for host in params["api_servers"] if host != api.host)]
    try:
        outcome = lock_client.settle(api, hosts, lambda lease: decide(params, lease), write=not module.check_mode)
    except kube_api.ApiError as error:
        if state != RELEASED:
            raise NodeError("who holds this cluster cannot be told: %s" % error) from error
        module.warn("run %s could not release its Lease, which runs out by itself: %s" % (run_id, error))
        return {"changed": False, **describe(cluster_lock.Lock(), run_id), "msg": str(error)}
    result = {"changed": bool(outcome.step.method), **describe(outcome.lock, run_id)}
    if outcome.step.refusal:
        if state != RELEASED:
            del result["msg"]
            raise NodeError(outcome.step.refusal, **result)
        module.warn(outcome.step.refusal)
    return result


def main() -> None:
    """Run the module."""
    node_module.execute(
        {
            "distribution": distribution.OPTION,
            "state": {"type": "str", "choices": [TAKEN, RELEASED, BROKEN, SEEN], "default": TAKEN},
            "run_id": {"type": "str"},
            "purpose": {"type": "str", "default": ""},
            "operator": {"type": "str", "default": ""},
            "duration": {"type": "int", "default": cluster_lock.DURATION},
            "holder": {"type": "str"},
            "api_servers": {"type": "list", "elements": "str", "default": []},
            "kubeconfig": {"type": "path"},
        },
        run,
    )


if __name__ == "__main__":
    main()
