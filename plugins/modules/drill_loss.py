#!/usr/bin/python
"""The module kubekeel.ha.drill_loss."""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

DOCUMENTATION = r"""
module: drill_loss
short_description: Take a node away for a drill, with a dead man's switch that gives it back
version_added: 0.1.0
description:
  - Takes a node away, or gives it back. Before it is taken away something is started that gives it back after
    O(return_after) seconds, whatever becomes of the playbook.
  - With O(method=services) its units are stopped, and a timer of systemd starts them again. Runs on the node.
  - With O(method=isolation) a table of nftables drops all that comes from other nodes and goes to them, but for the SSH session
    of the one who runs this, and a timer of systemd deletes the table. The node and its pods go on. Runs on the node.
  - With O(method=command) a command of the operator's does it, and a process on the controller that outlives the playbook
    runs O(return_command) until it succeeds. It needs a controller that stays up. Runs on the controller (C(delegate_to)).
options:
  state:
    description: Whether to take the node away or to give it back.
    type: str
    choices: [lost, returned]
    required: true
  method:
    description: How.
    type: str
    choices: [services, isolation, command]
    required: true
  node:
    description: Its Kubernetes name.
    type: str
    required: true
  return_after:
    description: After how many seconds it comes back in any case.
    type: int
    default: 300
  units:
    description: What to stop, with O(method=services).
    type: list
    elements: str
    default: []
  peers:
    description: Addresses of other nodes. With O(method=isolation) the interfaces that lead to them are closed.
    type: list
    elements: str
    default: []
  loss_command:
    description: Takes the node away, with O(method=command). No shell reads it.
    type: str
  return_command:
    description: Gives it back. Has to succeed where the node is back already.
    type: str
  chdir:
    description: Folder in which the commands run.
    type: path
extends_documentation_fragment: [kubekeel.ha.attributes]
attributes:
  check_mode:
    description: Does nothing.
    support: full
  diff_mode:
    description: No file changes.
    support: none
"""

EXAMPLES = r"""
- name: Cut the node off for at most five minutes
  kubekeel.ha.drill_loss:
    state: lost
    method: isolation
    node: "{{ preflight_node }}"
    peers: [10.0.0.2, 10.0.0.3]
    return_after: 300

- name: Take its power by the board's management controller
  kubekeel.ha.drill_loss:
    state: lost
    method: command
    node: "{{ preflight_node }}"
    loss_command: ipmitool -H bmc-{{ inventory_hostname }} power off
    return_command: ipmitool -H bmc-{{ inventory_hostname }} power on
  delegate_to: localhost
  become: false
"""

RETURN = r"""#"""

import fcntl
import hashlib
import os
import re
import shlex
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from typing import Any, Sequence

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubekeel.ha.plugins.module_utils import node_files, node_module
from ansible_collections.kubekeel.ha.plugins.module_utils.node_files import NodeError

TABLE = "kubekeel_drill"
TIMER = "kubekeel-drill-return"
COMMAND_TIMEOUT = 120
RETRY_SECONDS = 10
# As long as the file is there the node is owed. A management controller may be busy at the moment when it is asked.
WATCHMAN = """
import os, subprocess, sys, time
path, seconds, retry, folder, *command = sys.argv[1:]
until = time.time() + float(seconds)
while os.path.exists(path):
    if time.time() >= until:
        try:
            if subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, timeout=120).returncode == 0:
                os.unlink(path)
                break
        except (OSError, subprocess.TimeoutExpired):
            pass
        until = time.time() + float(retry)
    time.sleep(0.5)
"""


@dataclass(frozen=True)
class Session:
    """The SSH session that this module is run by."""

    peer: str
    port: int


def isolation(session: Session, uplinks: Sequence[str]) -> str:
    """Return a table of nftables that closes a node's way to others but for one SSH session.

    Its hooks come before those of every other table, so that nobody else has to be touched. The node's own pods are not
    behind an uplink: their probes go on. Without neighbour discovery there is no IPv6, and so no session.

    Args:
        session: what stays open.
        uplinks: interfaces that lead to other nodes.
    """
    family = "ip6" if ":" in session.peer else "ip"
    links = "{ %s }" % ", ".join('"%s"' % name for name in uplinks)
    neighbours = "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-advert } accept"
    rules = {
        "input": [neighbours, "%s saddr %s tcp dport %d accept" % (family, session.peer, session.port), "iifname %s drop" % links],
        "output": [neighbours, "%s daddr %s tcp sport %d accept" % (family, session.peer, session.port), "oifname %s drop" % links],
        "forward": ["iifname %s drop" % links, "oifname %s drop" % links],
    }
    chains = ["\n".join(["chain %s {" % hook, "type filter hook %s priority -310;" % hook, *lines, "}"]) for hook, lines in rules.items()]
    return "\n".join(["table inet %s {" % TABLE, *chains, "}", ""])


def ssh_session() -> Session:
    """Return the SSH session that this module is run by, as the processes above it were told.

    Raises:
        NodeError: it is not run by SSH.
    """
    pid = os.getpid()
    while pid > 1:
        try:
            with open("/proc/%d/environ" % pid, "rb") as file:
                variables = file.read().split(b"\0")
            with open("/proc/%d/stat" % pid, encoding="ascii", errors="replace") as file:
                pid = int(file.read().rpartition(")")[2].split()[1])
        except OSError:
            break
        for variable in variables:
            if variable.startswith(b"SSH_CONNECTION="):
                peer, _peer_port, _address, port = variable.partition(b"=")[2].decode("ascii").split()
                return Session(peer, int(port))
    raise NodeError("nobody could give this node back: it is not reached by SSH. Use the method 'services' or 'command'")


class OnNode:
    """The methods whose dead man's switch is a timer of systemd on the node."""

    def __init__(self, module: AnsibleModule) -> None:
        """Prepare."""
        self.module, self.params = module, module.params

    def _run(self, *command: str, data: str | None = None, check: bool = True) -> int:
        code, _output, error = self.module.run_command(list(command), data=data)
        if check and code:
            raise NodeError("'%s' failed: %s" % (" ".join(command), (error.strip().splitlines() or ["no reason given"])[0]))
        return int(code)

    def _give_back(self) -> list[str]:
        if self.params["method"] == "isolation":
            return [self.module.get_bin_path("nft", required=True), "delete", "table", "inet", TABLE]
        if not self.params["units"]:
            raise NodeError("units: the method 'services' needs to know what to stop")
        return [self.module.get_bin_path("systemctl", required=True), "--no-block", "start", *self.params["units"]]

    def lose(self) -> None:
        """Start the timer, then take the node away.

        Raises:
            NodeError: one of them fails.
        """
        back = self._give_back()
        # Before anything is started: without a session nobody could be let through.
        table = self._isolation() if self.params["method"] == "isolation" else ""
        self._stop_timer()
        when = "--on-active=%ds" % self.params["return_after"]
        self._run("systemd-run", "--collect", "--unit", TIMER, when, "--timer-property=AccuracySec=1s", "--", *back)
        if table:
            self._run(back[0], "-f", "-", data=table)
        else:
            self._run(back[0], "stop", *self.params["units"])

    def _isolation(self) -> str:
        session = ssh_session()
        uplinks = set()
        for address in [session.peer, *self.params["peers"]]:
            _code, route, _error = self.module.run_command(["ip", "-o", "route", "get", address])
            found = re.search(r"\bdev (\S+)", route)
            if found and found.group(1) != "lo":
                uplinks.add(found.group(1))
        if not uplinks:
            raise NodeError("no interface leads to any other node")
        return isolation(session, sorted(uplinks))

    def give_back(self) -> None:
        """Give the node back; where the timer did it already only the timer's unit goes.

        Raises:
            NodeError: it does not come back.
        """
        if self.params["method"] != "isolation" or self._run("nft", "list", "table", "inet", TABLE, check=False) == 0:
            self._run(*self._give_back())
        self._stop_timer()

    def _stop_timer(self) -> None:
        self._run("systemctl", "stop", TIMER + ".timer", check=False)


class ByCommand:
    """The operator's commands, with a process on the controller as the dead man's switch."""

    def __init__(self, module: AnsibleModule) -> None:
        """Prepare.

        Raises:
            NodeError: a command is missing.
        """
        self.params = module.params
        self.folder = self.params["chdir"] or os.getcwd()
        if not self.params["loss_command"] or not self.params["return_command"]:
            raise NodeError("the method 'command' needs drill_loss_command and drill_return_command")
        # The same when the node comes back, and another one for a node of that name in another cluster.
        digest = hashlib.sha256(self.params["return_command"].encode("utf-8")).hexdigest()[:12]
        name = "kubekeel-drill-%d-%s-%s" % (os.getuid(), self.params["node"], digest)
        self.owed = os.path.join(tempfile.gettempdir(), name)

    def lose(self) -> None:
        """Start the process that gives the node back, then take it away.

        Raises:
            NodeError: the command fails, or a drill of this node is going on.
        """
        # Held by the process: a file that one left behind which was killed is nobody's.
        lock = os.open(self.owed, os.O_CREAT | os.O_WRONLY | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.path.exists(self.owed):
                raise BlockingIOError
        except BlockingIOError as error:
            os.close(lock)
            raise NodeError("%s: another drill of this node is going on, or has not given it back yet" % self.owed) from error
        command = [sys.executable, "-c", WATCHMAN, self.owed, str(self.params["return_after"]), str(RETRY_SECONDS), self.folder]
        command += shlex.split(self.params["return_command"])
        # A session of its own: neither Ctrl-C nor the end of the playbook reaches it.
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        subprocess.Popen(command, start_new_session=True, pass_fds=(lock,), **quiet)  # type: ignore[call-overload]
        os.close(lock)
        self._run("loss_command")

    def give_back(self) -> None:
        """Give the node back, then tell the process that it is not owed any more.

        Raises:
            NodeError: the command fails; the process then tries again.
        """
        self._run("return_command")
        node_files.remove(self.owed)

    def _run(self, name: str) -> None:
        words = shlex.split(self.params[name])
        try:
            done = subprocess.run(words, cwd=self.folder, capture_output=True, timeout=COMMAND_TIMEOUT, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise NodeError("drill_%s: %s" % (name, error)) from error
        if done.returncode:
            said = (done.stderr or done.stdout).decode("utf-8", "replace").strip()
            raise NodeError("drill_%s: '%s' failed with exit code %d: %s" % (name, self.params[name], done.returncode, said))


def run(module: AnsibleModule) -> dict[str, Any]:
    """Do the module's work and return its result.

    Raises:
        NodeError: the operator has to know.
    """
    method = ByCommand(module) if module.params["method"] == "command" else OnNode(module)
    if not module.check_mode:
        if module.params["state"] == "lost":
            method.lose()
        else:
            method.give_back()
    return {"changed": True}


def main() -> None:
    """Run the module."""
    node_module.execute(
        {
            "state": {"type": "str", "choices": ["lost", "returned"], "required": True},
            "method": {"type": "str", "choices": ["services", "isolation", "command"], "required": True},
            "node": {"type": "str", "required": True},
            "return_after": {"type": "int", "default": 300},
            "units": {"type": "list", "elements": "str", "default": []},
            "peers": {"type": "list", "elements": "str", "default": []},
            "loss_command": {"type": "str"},
            "return_command": {"type": "str"},
            "chdir": {"type": "path"},
        },
        run,
    )


if __name__ == "__main__":
    main()
