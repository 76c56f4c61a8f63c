#!/usr/bin/python
"""The module kubekeel.ha.datastore_latency."""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

DOCUMENTATION = r"""
module: datastore_latency
short_description: Measure how long a write to the datastore takes
version_added: 0.1.0
description:
  - Renews a Lease of its own (C(kubekeel-write-latency) in C(kube-system)) as leader election does, one read and one write
    after the other, through the API server of this node, and times the writes. Removes the Lease afterwards.
  - Tells how short the renew deadline of the leader election may be.
  - Runs on a server with an API server.
options:
  samples:
    description: How many writes. Fewer where they take longer than O(limit).
    type: int
    default: 100
  limit:
    description: After how many seconds no further write is begun.
    type: int
    default: 30
  kubeconfig:
    description: An administrator's kubeconfig on this node. By default that of the distribution.
    type: path
extends_documentation_fragment: [kubekeel.ha.attributes, kubekeel.ha.distribution]
attributes:
  check_mode:
    description: Skips, since it has to write.
    support: full
  diff_mode:
    description: Nothing is left behind.
    support: none
"""

EXAMPLES = r"""
- name: How long does a write take?
  kubekeel.ha.datastore_latency:
  register: latency
"""

RETURN = r"""
p50:
  description: Milliseconds that half of the writes did not exceed.
  returned: when not in check mode
  type: float
  sample: 6.1
p99:
  description: Milliseconds that 99 of 100 writes did not exceed.
  returned: when not in check mode
  type: float
  sample: 14.8
max:
  description: Milliseconds of the longest write.
  returned: when not in check mode
  type: float
  sample: 21.3
samples:
  description: How many writes were timed.
  returned: when not in check mode
  type: int
  sample: 100
"""

import contextlib
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubekeel.ha.plugins.module_utils import distribution, health, kube_api, node_module, write_latency
from ansible_collections.kubekeel.ha.plugins.module_utils.node_files import NodeError

NAME = "kubekeel-write-latency"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases"
LEASE = LEASES + "/" + NAME
REQUEST_TIMEOUT = 10
NOT_FOUND = 404
CONFLICT = 409


def now() -> str:
    """Return the time as a Lease has it."""
    return health.micro_time(time.time())


def create(session: kube_api.Session) -> None:
    """Create the Lease; one that a run left behind which broke off serves as well.

    Raises:
        ApiError: it cannot be created.
    """
    try:
        session.send_json(
            "POST",
            LEASES,
            {
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {"name": NAME},
                "spec": {"holderIdentity": "kubekeel", "leaseDurationSeconds": 15, "acquireTime": now(), "renewTime": now()},
            },
        )
    except kube_api.ApiError as error:
        if error.status != CONFLICT:
            raise


def measure(session: kube_api.Session, samples: int, limit: float) -> list[float]:
    """Return how long each renewal took, in seconds; at least one.

    Raises:
        ApiError: the API server does not answer, or refuses.
    """
    lengths: list[float] = []
    until = time.monotonic() + limit
    while not lengths or (len(lengths) < samples and time.monotonic() < until):
        try:
            lease = session.send_json("GET", LEASE)
            lease["spec"]["renewTime"] = now()
            began = time.monotonic()
            session.send_json("PUT", LEASE, lease)
        except kube_api.ApiError as error:
            # Another run measures at the same moment, or has just ended.
            if error.status not in (NOT_FOUND, CONFLICT) or time.monotonic() >= until:
                raise
            create(session)
        else:
            lengths.append(time.monotonic() - began)
    return lengths


def run(module: AnsibleModule) -> dict[str, Any]:
    """Do the module's work and return its result.

    Raises:
        NodeError: the API server does not answer, or refuses.
    """
    found = distribution.find(module)
    if module.check_mode:
        return {"changed": False, "skipped": True, "msg": "not measured in check mode: it takes writes"}
    credentials = kube_api.Credentials(module.params["kubeconfig"] or found.kubeconfig)
    with kube_api.Session(credentials, credentials.host, REQUEST_TIMEOUT) as session:
        try:
            try:
                create(session)
                lengths = measure(session, module.params["samples"], module.params["limit"])
            finally:
                with contextlib.suppress(kube_api.ApiError):
                    session.request("DELETE", LEASE)
        except kube_api.ApiError as error:
            raise NodeError("the API server of %s does not take a write to the Lease %s: %s" % (credentials.host, NAME, error)) from error
    return {
        "changed": False,
        "p50": milliseconds(write_latency.percentile(lengths, 0.5)),
        "p99": milliseconds(write_latency.percentile(lengths, 0.99)),
        "max": milliseconds(max(lengths)),
        "samples": len(lengths),
    }


def milliseconds(length: float) -> float:
    """Return a length in milliseconds, as it is shown."""
    return round(length * 1000, 1)


def main() -> None:
    """Run the module."""
    node_module.execute(
        {
            "distribution": distribution.OPTION,
            "kubeconfig": {"type": "path"},
            "samples": {"type": "int", "default": 100},
            "limit": {"type": "int", "default": 30},
        },
        run,
    )


if __name__ == "__main__":
    main()
