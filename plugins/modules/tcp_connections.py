#!/usr/bin/python
"""The module kubekeel.ha.tcp_connections."""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

DOCUMENTATION = r"""
module: tcp_connections
short_description: Tell when TCP connections to a dead peer end, on a node and in its pods
version_added: 0.1.0
description:
  - Reads the sysctls of the host's network namespace and of those of its pods, and what C(ss -o) says of the connections that are
    established there.
  - A pod has a network namespace of its own, which starts with the kernel's values; the host's sysctls do not reach it. Pods in the
    host's network are the host here.
  - Enters the namespaces from outside, so that pods need no tools; nothing is changed.
options:
  wanted:
    description: Sysctl name to value. C(lines) says of the pods what differs.
    type: dict
    default: {}
  pods:
    description: What is to reach pods, see the role P(kubekeel.ha.tcp_timeouts#role).
    type: str
    choices: [none, cni, safe-sysctls, init-container]
    default: none
requirements:
  - ss of iproute2
extends_documentation_fragment: [kubekeel.ha.attributes, kubekeel.ha.attributes.reads, kubekeel.ha.distribution]
seealso:
  - module: kubekeel.ha.cni_tuning
"""

EXAMPLES = r"""
- name: When do connections of this node end?
  kubekeel.ha.tcp_connections:
    wanted:
      net.ipv4.tcp_retries2: 8
  register: connections
"""

RETURN = r"""
host:
  description: The host, and the pods in its network. Empty where it could not be looked at, see C(lines).
  returned: success
  type: dict
  contains: &connections
    values:
      description: The sysctls there.
      type: dict
      sample: {net.ipv4.tcp_retries2: 15}
    connections: {description: How many are established., type: int}
    keepalive: {description: How many of these are idle and will be probed., type: int}
    keepalive_within: {description: Seconds until the last of these is probed for the first time., type: int}
    without_keepalive:
      description: How many are idle and are never probed; where such a peer dies nobody notices.
      type: int
    unanswered: {description: How many have sent data again or a probe and still wait for an answer., type: int}
    unanswered_for: {description: For how many seconds one of these has waited at least., type: float}
    peers:
      description: Their peers, address and port, those that do not answer for the longest time first; not more than five.
      type: list
      elements: str
pods:
  description: The network namespaces of pods, those with the same sysctls together.
  returned: success
  type: list
  elements: dict
  contains:
    count: {description: How many there are., type: int}
    <<: *connections
lines:
  description: What of it is worth a line, and what could not be looked at.
  returned: success
  type: list
  elements: str
manifest:
  description: What workloads have to say themselves with this choice of O(pods), as YAML.
  returned: success
  type: str
reasons:
  description: Why the release cannot do what O(pods) says.
  returned: success
  type: list
  elements: str
"""

import os
import subprocess
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubekeel.ha.plugins.module_utils import distribution, node_module, running_kernel, tcp_timers
from ansible_collections.kubekeel.ha.plugins.module_utils.node_files import NodeError
from ansible_collections.kubekeel.ha.plugins.module_utils.release import parse_release

SS = ("ss", "-tnoH", "state", "established")
FOLDERS = ("/usr/sbin", "/sbin", "/usr/bin", "/bin")
SECONDS = 20
"""So long all namespaces together may take."""


def look(program: str, deadline: float) -> dict[str, Any]:
    """Return the sysctls of the network namespace that this process is in, and what ss prints there.

    Args:
        program: ss.
        deadline: by time.monotonic().

    Raises:
        NodeError: one of them cannot be read, or the time is up.
    """
    left = deadline - time.monotonic()
    if left <= 0:
        raise NodeError("%d seconds were not enough" % SECONDS)
    # With COLUMNS an old ss breaks its lines there.
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    values = {name: int(running_kernel.sysctl(name)) for name in tcp_timers.SYSCTLS}
    try:
        done = subprocess.run([program, *SS[1:]], capture_output=True, timeout=left, check=False, env=environment)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NodeError("%s cannot be run: %s" % (program, error)) from error
    if done.returncode:
        raise NodeError("%s failed: %s" % (program, done.stderr.decode("utf-8", "replace").strip()))
    return {"values": values, "text": done.stdout.decode("utf-8", "replace")}


def network(seen: dict[str, Any]) -> tcp_timers.Network:
    """Return a network namespace by what C(look) saw there."""
    return tcp_timers.Network(seen["values"], tcp_timers.parse(seen["text"]))


def wanted_values(module: AnsibleModule) -> dict[str, int]:
    """Return the option O(wanted).

    Raises:
        NodeError: it names another sysctl, or a value is no number.
    """
    wanted = {}
    for name, value in module.params["wanted"].items():
        if name not in tcp_timers.SYSCTLS or not str(value).isdecimal():
            raise NodeError("wanted.%s: %r: one of %s, and a number are needed" % (name, value, ", ".join(tcp_timers.SYSCTLS)))
        wanted[name] = int(value)
    return wanted


def run(module: AnsibleModule) -> dict[str, Any]:
    """Do the module's work and return its result.

    Raises:
        NodeError: the operator has to know.
    """
    choice, wanted = module.params["pods"], wanted_values(module)
    reasons = []
    if choice == tcp_timers.SAFE_SYSCTLS:
        release = distribution.release(module, distribution.find(module))
        reasons = tcp_timers.refusals(choice, parse_release(release))
    result: dict[str, Any] = {"changed": False, "host": {}, "pods": [], "lines": [], "reasons": reasons}
    result["manifest"] = "" if reasons else tcp_timers.manifest(choice, wanted)
    program = module.get_bin_path(SS[0], opt_dirs=list(FOLDERS))
    if not program:
        result["lines"] = ["cannot be looked at: ss is missing; install iproute2"]
        return result
    deadline = time.monotonic() + SECONDS
    try:
        host = network(look(program, deadline))
    except NodeError as error:
        result["lines"] = ["cannot be looked at: %s" % error]
        return result
    seen, failed = [], []
    paths = running_kernel.pod_networks()
    for path in paths:
        try:
            seen.extend(running_kernel.in_networks([path], lambda: look(program, deadline)))
        except NodeError as error:
            failed.append(str(error))
    result["host"] = {"values": dict(host.values), **tcp_timers.summary([host])}
    result["pods"] = tcp_timers.by_values(map(network, seen))
    result["lines"] = tcp_timers.lines(result["host"], result["pods"], wanted)
    if failed:
        result["lines"].append("cannot be looked at in %d of %d pods: %s" % (len(failed), len(paths), failed[0]))
    return result


def main() -> None:
    """Run the module."""
    node_module.execute(
        {
            "distribution": distribution.OPTION,
            "wanted": {"type": "dict", "default": {}},
            "pods": {"type": "str", "choices": list(tcp_timers.CHOICES), "default": tcp_timers.NONE},
        },
        run,
    )


if __name__ == "__main__":
    main()
