#!/usr/bin/python
"""The module kubekeel.ha.kubelet_configuration."""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

DOCUMENTATION = r"""
module: kubelet_configuration
short_description: Set what the kubelet takes of a configuration file alone
version_added: 0.1.0
description:
  - Writes one file of kubekeel's own (C(kubekeel-kubelet.yaml)) and sets the kubelet's flag C(config) to it, both at once. The
    flag goes where M(kubekeel.ha.component_args) puts flags. Flags of the kubelet win over the file.
  - MicroK8s. The file also states the values that the kubelet has without a file and that no flag gives
    (C(--anonymous-auth), C(--authentication-token-webhook), C(--authorization-mode), C(--read-only-port)). Without that the
    file would change them, too. K3s gives all of them itself.
  - K3s. Since 1.32 K3s copies the file to C(agent/etc/kubelet.conf.d/10-cli-config.conf) below its data and leaves the copy
    there for good. So the module keeps the copy, too, and takes it away with the file. A later file there that says
    something else is a reason in RV(reasons).
  - A kubelet that reads a configuration file of somebody else keeps it. Where that one has the wanted values nothing
    changes, otherwise it is a reason in RV(reasons).
  - Restarts nothing. The result says which units have to; M(kubekeel.ha.unit_restart) or the role
    R(rolling_restart,ansible_collections.kubekeel.ha.rolling_restart_role) does it.
options:
  settings:
    description:
      - Field of C(KubeletConfiguration) to value. V(null) removes a field; the last one takes file and flag with it.
      - Fields with a single value only. A number has to be a number, and not a text.
    type: dict
    required: true
  k3s_config_file:
    description:
      - The main configuration file of K3s. By default the one that the unit names (C(--config), E(K3S_CONFIG_FILE)), else
        V(/etc/rancher/k3s/config.yaml). Another one than the unit reads is refused.
    type: path
  microk8s_args_dir:
    description: Folder of MicroK8s' argument files.
    type: path
    default: /var/snap/microk8s/current/args
extends_documentation_fragment: [kubekeel.ha.attributes, kubekeel.ha.attributes.writes, kubekeel.ha.distribution, kubekeel.ha.run]
seealso:
  - module: kubekeel.ha.component_args
  - module: kubekeel.ha.unit_restart
"""

EXAMPLES = r"""
- name: A sign of life of the node each second
  kubekeel.ha.kubelet_configuration:
    settings:
      nodeLeaseDurationSeconds: 4

- name: Go back to the kubelet's default
  kubekeel.ha.kubelet_configuration:
    settings:
      nodeLeaseDurationSeconds: null
"""

RETURN = r"""
changes:
  description:
    - Each field, and the flag C(config), that was changed, or would be, with C(owner) (V(kubelet)), C(name), C(before),
      C(after), C(path), C(note), C(why), C(source).
  returned: success
  type: list
  elements: dict
effective:
  description: The fields that were named, as the file says that the kubelet reads after the run; null for one that it does not have.
  returned: success
  type: dict
  sample: {nodeLeaseDurationSeconds: "4"}
problems:
  description: Lines that are in the kubelet's argument file after the run and with which it will not start (MicroK8s).
  returned: success
  type: list
  elements: dict
reasons:
  description:
    - Why a field cannot have the wanted value. Where there is one the module changes nothing and fails; in check mode it only
      says so.
  returned: success
  type: list
  elements: str
findings:
  description: What should be mended by hand, as in M(kubekeel.ha.component_args).
  returned: success
  type: list
  elements: str
absent:
  description: V(kubelet), where this node does not run one (K3s).
  returned: success
  type: list
  elements: str
restart:
  description: Units that have to restart, because of this run or of an earlier one that broke off.
  returned: success
  type: list
  elements: str
  sample: [snap.microk8s.daemon-kubelite]
"""

import math
import os
from typing import Any, Dict, Optional

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubekeel.ha.plugins.module_utils import (
    distribution,
    k3s,
    k3s_args,
    kubelet_file,
    kubelite_args,
    microk8s,
    microk8s_args,
    node_change,
    node_files,
    node_module,
    settings,
)
from ansible_collections.kubekeel.ha.plugins.module_utils.args_plan import ArgsPlan
from ansible_collections.kubekeel.ha.plugins.module_utils.k3s_config import merge
from ansible_collections.kubekeel.ha.plugins.module_utils.node_change import Change, FileChange
from ansible_collections.kubekeel.ha.plugins.module_utils.node_files import NodeError

FLAG = "config"
K3S_FILE = "/etc/rancher/k3s/" + kubelet_file.NAME
COPY = "10-cli-config.conf"
"""K3s' copy of the file that C(config) names (k3s-io/k3s pkg/daemons/agent/agent.go, extractConfigArgs)."""

Wanted = Dict[str, Optional[kubelet_file.Value]]


def wanted_fields(given: dict[str, Any]) -> Wanted:
    """Return the option O(settings), after everything in it was checked.

    Raises:
        NodeError: a field or a value cannot be meant.
    """
    for name, value in given.items():
        if not kubelet_file.FIELD.fullmatch(name):
            raise NodeError("settings: '%s' is not the name of a field such as nodeLeaseDurationSeconds" % name)
        if name in kubelet_file.OWN_FIELDS:
            raise NodeError("settings: %s stands in the file already, with what counts without it; set the kubelet's flag" % name)
        is_number = isinstance(value, float) and math.isfinite(value)
        if value is not None and not is_number and not isinstance(value, (bool, int, str)):
            raise NodeError("settings.%s: one value is needed, not %r" % (name, value))
        if isinstance(value, str) and not value.isprintable():
            raise NodeError("settings.%s: the value holds a character that cannot be printed" % name)
    return given


class MicroK8sKubelet:
    """The kubelet of a node of MicroK8s."""

    absent = False

    def __init__(self, module: AnsibleModule) -> None:
        """Read its flags.

        Raises:
            NodeError: they are missing or damaged.
        """
        self.args_dir = module.params["microk8s_args_dir"]
        self.path = os.path.join(self.args_dir, kubelet_file.NAME)
        # A variable of the snap: after a refresh the same flag names the folder of the new revision.
        usual = self.args_dir.rstrip("/") == microk8s.ARGS_DIR
        self.flag = "${SNAP_DATA}/args/" + kubelet_file.NAME if usual else self.path
        self.copies: list[str] = []
        _path, text = microk8s_args.read_args(self.args_dir, settings.KUBELET)
        self.flags = kubelite_args.parse(text).effective()
        said = self.flags.get(FLAG)
        self.is_set = said is not None and expand(said) == expand(self.flag)
        self.foreign = None if self.is_set else said
        self.stated = kubelet_file.legacy(self.flags)

    def plan(self, flag: str | None) -> ArgsPlan:
        """Return what sets the flag C(config); the operator's own stays as it is, also where it stands twice."""
        return microk8s_args.plan(self.args_dir, {settings.KUBELET: {} if self.foreign else {FLAG: flag}})

    def overriding(self) -> list[str]:
        """Return the files that the kubelet reads after the one that the flag names."""
        return []


class K3sKubelet:
    """The kubelet of a node of K3s."""

    stated = ""

    def __init__(self, module: AnsibleModule, unit: str) -> None:
        """Read what K3s is told.

        Raises:
            NodeError: that cannot be read.
        """
        self.node = k3s.K3sNode(module, unit, module.params["k3s_config_file"])
        self.absent = settings.KUBELET in self.node.absent
        self.path = self.flag = K3S_FILE
        self.drop_ins = os.path.join(self.node.data_dir, "agent/etc/kubelet.conf.d")
        # The folder is there since 1.32.
        self.copies = [os.path.join(self.drop_ins, COPY)] if os.path.isdir(self.drop_ins) else []
        self.is_set = self.node.merged.effective(settings.KUBELET).get(FLAG) == self.flag
        theirs = merge([file for file in self.node.files if file.path != self.node.drop_in], self.node.command_line)
        said = theirs.effective(settings.KUBELET).get(FLAG)
        self.foreign = None if said == self.flag else said

    def plan(self, flag: str | None) -> ArgsPlan:
        """Return what sets the flag C(config)."""
        return k3s_args.plan(self.node, {settings.KUBELET: {FLAG: flag}})

    def overriding(self) -> list[str]:
        """Return the files that the kubelet reads after the one that the flag names."""
        found = [os.path.join(folder, name) for folder, _folders, names in os.walk(self.drop_ins) for name in names]
        return sorted(path for path in found if path.endswith(".conf") and path > os.path.join(self.drop_ins, COPY))


def expand(path: str) -> str:
    """Return a path of an argument file with the variables of the snap expanded."""
    known = {"SNAP_DATA": microk8s.DATA, "SNAP_COMMON": microk8s.COMMON, "SNAP": microk8s.SNAP}
    for name, value in known.items():
        path = path.replace("${%s}" % name, value)
    return path


class Kubelet:
    """What the kubelet reads, and what it has to read."""

    def __init__(self, side: MicroK8sKubelet | K3sKubelet, wanted: Wanted) -> None:
        """Read kubekeel's own file.

        Raises:
            NodeError: it cannot be read.
        """
        self.side, self.wanted = side, wanted
        self.text = node_files.read(side.path)
        self.before = kubelet_file.parse(self.text or "")
        merged = {**self.before, **wanted}
        self.after = {} if side.foreign or side.absent else {name: value for name, value in merged.items() if value is not None}
        self.said = {name: kubelet_file.as_text(value) for name, value in self.after.items()}
        if side.foreign:
            text = node_files.read(expand(side.foreign), follow=True)
            self.said = {name: value for name, (value, _line) in kubelet_file.stated(text or "").items()}

    def plan(self) -> ArgsPlan:
        """Return what has to change.

        Raises:
            NodeError: a file is missing or damaged, or a value cannot be written.
        """
        if self.side.absent:
            return ArgsPlan(absent=[settings.KUBELET])
        made = self.side.plan(self.side.foreign or (self.side.flag if self.after else None))
        made.reasons += self._reasons()
        text = kubelet_file.render(self.after, self.side.stated)
        own = [FileChange(path, self._read(path), text) for path in (self.side.path, *self.side.copies) if self._is_ours(path, text)]
        own = [change for change in own if change.before != change.after]
        # The flag never names a file that is not there, also where the power fails in between.
        made.files = own + made.files if text else made.files + own
        now = self.before if self.side.is_set else {}
        for name in self.wanted:
            before, after = now.get(name), self.after.get(name)
            if before != after:
                made.changes.append(Change(settings.KUBELET, name, _shown(before), _shown(after), self.side.path))
        return made

    def effective(self) -> dict[str, str | None]:
        """Return the fields that were named, as the file says that counts."""
        return {name: self.said.get(name) for name in self.wanted}

    def _read(self, path: str) -> str | None:
        return self.text if path == self.side.path else node_files.read(path)

    def _is_ours(self, path: str, text: str | None) -> bool:
        """Tell whether kubekeel may write a file, or take it away."""
        there = self._read(path)
        return path == self.side.path or (text is not None if there is None else there.startswith(kubelet_file.HEAD))

    def _reasons(self) -> list[str]:
        """Say which file keeps a field from its value."""
        wanted = {name: kubelet_file.as_text(value) for name, value in self.wanted.items() if value is not None}
        if self.side.foreign:
            return [
                "kubelet already reads %s: set %s: %s there" % (expand(self.side.foreign), name, value)
                for name, value in wanted.items()
                if self.said.get(name) != value
            ]
        if not wanted:
            return []
        found = [
            "%s was left by an earlier kubelet-arg config=, and K3s would replace it; rename or remove it" % path
            for path in self.side.copies
            if not self._is_ours(path, "")
        ]
        for path in self.side.overriding():
            for name, (value, line) in kubelet_file.stated(node_files.read(path, follow=True) or "").items():
                if name in wanted and wanted[name] != value:
                    found.append(
                        "kubelet: %s: %s is wanted, but %s:%d comes later and says %s; remove it there"
                        % (name, wanted[name], path, line, value)
                    )
        return found


def _shown(value: kubelet_file.Value | None) -> str | None:
    return None if value is None else kubelet_file.as_text(value)


def run(module: AnsibleModule) -> dict[str, Any]:
    """Do the module's work and return its result.

    Raises:
        NodeError: the operator has to know, and nothing was changed.
    """
    found = distribution.find(module, module.params["microk8s_args_dir"])
    wanted = wanted_fields(module.params["settings"])
    side = K3sKubelet(module, found.unit) if found.name == distribution.K3S else MicroK8sKubelet(module)
    kubelet = Kubelet(side, wanted)
    return {**node_change.carry_out(module, kubelet.plan(), found.unit), "effective": kubelet.effective()}


def main() -> None:
    """Run the module."""
    node_module.execute(
        {
            "distribution": distribution.OPTION,
            "settings": {"type": "dict", "required": True},
            "k3s_config_file": {"type": "path"},
            "microk8s_args_dir": {"type": "path", "default": microk8s.ARGS_DIR},
            "run_id": {"type": "str"},
        },
        run,
    )


if __name__ == "__main__":
    main()
