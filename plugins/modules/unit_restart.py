#!/usr/bin/python
"""The module kubekeel.ha.unit_restart."""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

DOCUMENTATION = r"""
module: unit_restart
short_description: Restart systemd units and see whether they stay up
version_added: 0.1.0
description:
  - Restarts each unit, then watches it for a while. A unit of type C(simple) counts as started at once, and one that
    dies of a bad flag a second later is restarted by systemd again and again, so that C(systemctl restart) says nothing.
  - Where a unit does not stay up the module fails, with the lines of its log that tell why.
  - Whether the cluster is well afterwards is the question of M(kubekeel.ha.cluster_health).
options:
  units:
    description: The units, in the order in which they restart. An empty list changes nothing.
    type: list
    elements: str
    required: true
  watch:
    description: For how many seconds a unit's main process must not die, once O(ready_url) answers.
    type: int
    default: 8
  ready_url:
    description:
      - An address that answers once the units have come up. Most components start only when the API server of their node is
        ready, so that they die of their flags later than that.
      - By default the API server of the node has to say that it is ready, asked with the administrator's kubeconfig. An empty
        one waits for nothing.
      - An answer that denies access is one, too. The certificate is not checked, since nothing is sent or read.
    type: str
  timeout:
    description: For how many seconds to wait for O(ready_url).
    type: int
    default: 120
attributes:
  check_mode:
    description: Says what would restart.
    support: full
  diff_mode:
    description: A restart has no diff.
    support: none
extends_documentation_fragment: [kubekeel.ha.attributes, kubekeel.ha.distribution]
"""

EXAMPLES = r"""
- name: Read the changed arguments
  kubekeel.ha.unit_restart:
    units: "{{ staged.restart }}"
"""

RETURN = r"""
units:
  description: Each unit that was restarted.
  returned: success
  type: list
  elements: dict
  contains:
    name: {description: The unit., type: str, sample: snap.microk8s.daemon-kubelite}
    before: {description: When its main process had started., type: str, sample: "Sat 2026-11-21 03:12:45 UTC"}
    started: {description: When it started; the same as before in check mode., type: str, sample: "Sat 2026-11-21 03:15:02 UTC"}
    at: {description: "The same moment, in seconds of the Unix epoch.", type: float}
restarted_at:
  description: When the last of them had been restarted, in seconds of the Unix epoch by the clock of the node.
  returned: success
  type: float
log:
  description: The lines that tell why the unit died.
  returned: when a unit did not stay up
  type: list
  elements: str
"""

import time
from typing import Any, Callable

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubekeel.ha.plugins.module_utils import distribution, k3s, k3s_keys, microk8s, node_module, systemd, unit_watch
from ansible_collections.kubekeel.ha.plugins.module_utils.node_files import NodeError


def restart(module: AnsibleModule, unit: str, ready: Callable[[], bool]) -> dict[str, Any]:
    """Restart one unit and return its entry of the result.

    Raises:
        NodeError: there is no such unit, or it does not stay up.
    """
    at = time.time()
    shown = systemd.show(module, unit, "ExecMainStartTimestamp", "MainPID")
    before = after = shown["ExecMainStartTimestamp"]
    if not module.check_mode:
        systemd.reload(module)
        # A unit that died again and again may not start any more (StartLimitBurst), and keeps its count of restarts.
        module.run_command(["systemctl", "reset-failed", unit])
        # Not waiting for it: a unit of type notify, as K3s is, may take for ever to say that it is ready.
        code, _out, err = module.run_command(["systemctl", "restart", "--no-block", unit])
        length, timeout = module.params["watch"], module.params["timeout"]
        why = err.strip() if code else unit_watch.watch(module, unit, shown["MainPID"], ready, length, timeout)
        if why:
            log = unit_watch.log_since(module, unit, at)
            raise NodeError("%s did not stay up: %s. It logged:\n%s" % (unit, why, "\n".join(log)), log=log)
        new = systemd.show(module, unit, "ExecMainStartTimestamp", systemd.STARTED)
        after = new["ExecMainStartTimestamp"]
        # What the old process did while it was stopping must not count as a sign of the new one.
        at = time.time() - time.monotonic() + int(new[systemd.STARTED]) / 1e6
    return {"name": unit, "before": before, "started": after, "at": at}


def readiness(module: AnsibleModule) -> tuple[str | None, Callable[[], bool]]:
    """Return a unit (None for each), and how to tell that it has come up; by default what the distribution has.

    Raises:
        NodeError: the node runs no distribution that kubekeel knows.
    """
    asked = module.params["ready_url"]
    if asked is not None:
        return None, (lambda: unit_watch.answers(asked)) if asked else unit_watch.at_once
    found = distribution.find(module)
    if found.name == distribution.MICROK8S:
        return found.unit, unit_watch.at_once if microk8s.is_worker() else (lambda: unit_watch.api_ready(found.kubeconfig))
    node = k3s.K3sNode(module, found.unit)
    if node.has_api:
        return found.unit, lambda: unit_watch.api_ready(found.kubeconfig)
    return found.unit, (lambda: unit_watch.answers(node.local_url + "/cacerts")) if node.role == k3s_keys.SERVER else unit_watch.at_once


def run(module: AnsibleModule) -> dict[str, Any]:
    """Do the module's work and return its result.

    Raises:
        NodeError: the operator has to know.
    """
    names = module.params["units"]
    for_unit, ready = readiness(module) if names else (None, unit_watch.at_once)
    units = [restart(module, name, ready if for_unit in (None, name) else unit_watch.at_once) for name in names]
    return {"changed": bool(units), "units": units, "restarted_at": max([unit["at"] for unit in units], default=time.time())}


def main() -> None:
    """Run the module."""
    node_module.execute(
        {
            "distribution": distribution.OPTION,
            "units": {"type": "list", "elements": "str", "required": True},
            "watch": {"type": "int", "default": 8},
            "ready_url": {"type": "str"},
            "timeout": {"type": "int", "default": 120},
        },
        run,
    )


if __name__ == "__main__":
    main()
