#!/usr/bin/python
"""The module kubekeel.ha.drill_observation."""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

DOCUMENTATION = r"""
module: drill_observation
short_description: Wait for what an observer of a drill is to see, and read it
version_added: 0.1.0
description:
  - Reads what M(kubekeel.ha.drill_observer) writes on this node.
options:
  folder:
    description: Where the observer writes.
    type: path
    required: true
  drill:
    description: Name of the drill. What another one writes is not read.
    type: str
    required: true
  wait_for:
    description:
      - V(start) is over when every pod serves and everything that is asked has answered.
      - V(loss) is over when a node in O(lost) no longer accepts connections.
      - V(recovery) is over when the cluster got over it. The node is seen as down, no endpoint is left on it, it holds no lease
        of leader election, and requests are answered.
      - V(end) tells the observer to stop, waits until it has, and returns RV(observation).
    type: str
    choices: [start, loss, recovery, end]
    required: true
  pods:
    description: How many pods the observer deploys.
    type: int
    default: 0
  lost:
    description: Kubernetes names of the nodes that are lost.
    type: list
    elements: str
    default: []
  connections:
    description: Whether recovery is over only when the long-lived connections to the nodes were dropped, too.
    type: bool
    default: false
  timeout:
    description: For how many seconds to wait.
    type: int
    default: 15
extends_documentation_fragment: [kubekeel.ha.attributes, kubekeel.ha.attributes.reads]
seealso:
  - module: kubekeel.ha.drill_observer
"""

EXAMPLES = r"""
- name: Wait until the cluster got over the loss
  kubekeel.ha.drill_observation:
    folder: /run/kubekeel/drill
    drill: 20261121T150000Z-leader_loss
    wait_for: recovery
    lost: [server1]
    timeout: 15
  register: seen
  until: seen.missing | length == 0
  retries: 20
  delay: 0
"""

RETURN = r"""
missing:
  description: What has not happened within O(timeout).
  returned: success
  type: list
  elements: str
  sample: [the endpoint on server1 to be removed]
observation:
  description: Everything that was seen. All times are in seconds of the Unix epoch by the clock of this node.
  returned: with O(wait_for=end)
  type: dict
  contains:
    observer: {description: Who observed., type: str}
    began: {description: When., type: float}
    ended: {description: Until when., type: float}
    interval: {description: Seconds between two requests to the Service., type: float}
    error: {description: Why the observer failed; empty where it did not., type: str}
    leaders:
      description: For each component of leader election C(time) and C(holder) at the beginning and at each change.
      type: dict
    nodes: {description: For each node C(time) and C(ready) at the beginning and at each change., type: dict}
    endpoints:
      description: C(time) and C(pods) that get requests, with C(node) and C(address), at the beginning and at each change.
      type: list
      elements: dict
    requests:
      description:
        - Each request to the Service as a list. When it began, how many seconds it took, the pod that answered, what was wrong,
          and where a request went with which something was wrong, as far as the kernel tells.
      type: list
      elements: list
    reach:
      description:
        - For each node C(asked), C(failed) and C(changes) of whether its kubelet accepts connections. A change has C(time), that of
          the question, C(previous), that of the one before, C(up) and C(problem).
      type: dict
    api: {description: The same for the API servers., type: dict}
    connections:
      description:
        - Each long-lived connection with C(kind) (V(unacknowledged) keeps sending, V(idle) has keepalive), C(node), C(opened),
          C(dropped), C(error) and C(settings), the sysctls that counted.
      type: list
      elements: dict
"""

import contextlib
import json
import os
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubekeel.ha.plugins.module_utils import drill_events, node_files, node_module
from ansible_collections.kubekeel.ha.plugins.module_utils.node_files import NodeError

POLL = 0.25
STALE = 30.0
"""Seconds after which an observer that writes nothing is taken for dead."""


def read(params: dict[str, Any]) -> drill_events.Observation | None:
    """Return what is written, whoever wrote it; None before the first time."""
    text = node_files.read(os.path.join(params["folder"], drill_events.OBSERVATION))
    return None if text is None else json.loads(text)


def missing(params: dict[str, Any], seen: drill_events.Observation, asked: float) -> list[str]:
    """Return what has not happened yet.

    Raises:
        NodeError: the observer failed or is dead.
    """
    if params["wait_for"] == "end":
        return [] if seen["over"] or seen["error"] else ["the end of the observation"]
    if seen["error"]:
        raise NodeError(seen["error"])
    if asked - seen["ended"] > STALE or seen["over"]:
        raise NodeError("the observer has stopped: it was killed, or its time is over")
    if params["wait_for"] == "start":
        return drill_events.missing_at_start(seen, params["pods"])
    if params["wait_for"] == "loss":
        return drill_events.missing_before_loss(seen, params["lost"])
    return drill_events.missing_after_loss(seen, params["lost"], params["connections"])


def run(module: AnsibleModule) -> dict[str, Any]:
    """Do the module's work and return its result.

    Raises:
        NodeError: the observer failed or is dead.
    """
    params = module.params
    until = time.monotonic() + params["timeout"]
    while True:
        seen, lacking = read(params), ["the observer to begin"]
        if seen and seen["drill"] == params["drill"]:
            if params["wait_for"] == "end":
                node_files.write(os.path.join(params["folder"], drill_events.STOP), "", 0o600)
            with contextlib.suppress(FileNotFoundError):
                os.utime(os.path.join(params["folder"], drill_events.LOOKED))
            lacking = missing(params, seen, time.time())
        elif seen and not seen["over"] and time.monotonic() >= until and time.time() - seen["ended"] < STALE:
            raise NodeError("the drill %s is going on. %s" % (seen["drill"], drill_events.REPLACE))
        if not lacking or time.monotonic() >= until:
            found = {"observation": seen} if params["wait_for"] == "end" else {}
            return {"changed": False, "missing": lacking, **found}
        time.sleep(POLL)


def main() -> None:
    """Run the module."""
    node_module.execute(
        {
            "folder": {"type": "path", "required": True},
            "drill": {"type": "str", "required": True},
            "wait_for": {"type": "str", "choices": ["start", "loss", "recovery", "end"], "required": True},
            "pods": {"type": "int", "default": 0},
            "lost": {"type": "list", "elements": "str", "default": []},
            "connections": {"type": "bool", "default": False},
            "timeout": {"type": "int", "default": 15},
        },
        run,
    )


if __name__ == "__main__":
    main()
