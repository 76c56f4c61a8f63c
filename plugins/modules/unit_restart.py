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
      - An address that answers once the units have come up. kubelite starts most of its components only when
        its API server is ready, so that the others die of their flags later than that.
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
extends_documentation_fragment: [kubekeel.ha.attributes]
"""

EXAMPLES = r"""
- name: Read the changed arguments
  kubekeel.ha.unit_restart:
    units: "{{ staged.restart }}"
    ready_url: https://127.0.0.1:16443/readyz
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

import http.client
import time
import urllib.error
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.urls import open_url
from ansible_collections.kubekeel.ha.plugins.module_utils import node_module, systemd, unit_log
from ansible_collections.kubekeel.ha.plugins.module_utils.node_files import NodeError

STATE = ("ActiveState", "MainPID", "NRestarts")
POLL = 0.5


def answers(url: str) -> bool:
    """Tell whether a server answers, be it with a refusal."""
    try:
        open_url(url, timeout=2, validate_certs=False, use_proxy=False)
    except urllib.error.HTTPError as error:
        return error.code in (401, 403)
    except ValueError as error:
        raise NodeError("ready_url: %s" % error) from error
    except (OSError, http.client.HTTPException):
        return False
    return True


def watch(module: AnsibleModule, unit: str) -> str | None:
    """Watch a unit until it has come up and lived on for a while. Return why it did not, None where it did.

    Raises:
        NodeError: there is no such unit.
    """
    url, length = module.params["ready_url"], module.params["watch"]
    first = systemd.show(module, unit, *STATE)
    patience = time.monotonic() + module.params["timeout"]
    ready_since = None
    while True:
        state = systemd.show(module, unit, *STATE)
        if state["NRestarts"] != "0" or state["MainPID"] != first["MainPID"]:
            return "its main process died"
        if state["ActiveState"] != "active":
            return "it is %s" % state["ActiveState"]
        now = time.monotonic()
        if ready_since is None and (not url or answers(url)):
            ready_since = now
        if ready_since is not None and now - ready_since >= length:
            return None
        if ready_since is None and now > patience:
            return "%s gives no answer after %d s" % (url, module.params["timeout"])
        time.sleep(POLL)


def log_since(module: AnsibleModule, unit: str, start: float) -> list[str]:
    """Return the lines that tell most of what a unit logged since C(start), in seconds of the Unix epoch."""
    command = ["journalctl", "--unit", unit, "--since", "@%d" % start, "--output", "cat", "--no-pager"]
    return unit_log.telling_lines(module.run_command(command)[1].splitlines())


def restart(module: AnsibleModule, unit: str) -> dict[str, Any]:
    """Restart one unit and return its entry of the result.

    Raises:
        NodeError: there is no such unit, or it does not stay up.
    """
    at = time.time()
    before = after = systemd.show(module, unit, "ExecMainStartTimestamp")["ExecMainStartTimestamp"]
    if not module.check_mode:
        start = time.time()
        systemd.reload(module)
        # A unit that died again and again may not start any more (StartLimitBurst), and keeps its count of restarts.
        module.run_command(["systemctl", "reset-failed", unit])
        code, _out, err = module.run_command(["systemctl", "restart", unit])
        # What the old process did while it was stopping must not count as a sign of the new one.
        at = time.time()
        why = err.strip() if code else watch(module, unit)
        if why:
            log = log_since(module, unit, start)
            raise NodeError("%s did not stay up: %s. It logged:\n%s" % (unit, why, "\n".join(log)), log=log)
        after = systemd.show(module, unit, "ExecMainStartTimestamp")["ExecMainStartTimestamp"]
    return {"name": unit, "before": before, "started": after, "at": at}


def run(module: AnsibleModule) -> dict[str, Any]:
    """Do the module's work and return its result.

    Raises:
        NodeError: the operator has to know.
    """
    units = [restart(module, unit) for unit in module.params["units"]]
    return {"changed": bool(units), "units": units, "restarted_at": max([unit["at"] for unit in units], default=time.time())}


def main() -> None:
    """Run the module."""
    node_module.execute(
        {
            "units": {"type": "list", "elements": "str", "required": True},
            "watch": {"type": "int", "default": 8},
            "ready_url": {"type": "str"},
            "timeout": {"type": "int", "default": 120},
        },
        run,
    )


if __name__ == "__main__":
    main()
