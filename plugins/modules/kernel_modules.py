#!/usr/bin/python
"""The module kubekeel.ha.kernel_modules."""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

DOCUMENTATION = r"""
module: kernel_modules
short_description: Load kernel modules now and at every boot, all in one call
version_added: 0.1.0
description:
  - Writes the modules to a file of its own in C(/etc/modules-load.d) and loads those that are not loaded.
  - Looks for what would keep a module from being loaded, now or at the next boot, and refuses where it cannot be loaded at all.
options:
  modules:
    description: The modules.
    type: list
    elements: str
    required: true
  path:
    description: The file. It names these modules and no others.
    type: path
    default: /etc/modules-load.d/kubekeel.conf
extends_documentation_fragment: [kubekeel.ha.attributes, kubekeel.ha.attributes.writes, kubekeel.ha.run]
"""

EXAMPLES = r"""
- name: What kube-proxy needs for ipvs
  kubekeel.ha.kernel_modules:
    modules: [ip_vs, ip_vs_rr, ip_vs_wrr, ip_vs_sh, nf_conntrack]
"""

RETURN = r"""
changes:
  description:
    - Each module that was loaded or is loaded at boot from now on, or would be, with C(owner), C(name), C(before),
      C(after), C(path).
  returned: success
  type: list
  elements: dict
reasons:
  description:
    - Why a module cannot be loaded, with the cure. Where there is one the module changes nothing and fails; in check mode it only
      says so.
  returned: success
  type: list
  elements: str
findings:
  description: Why a module will not be loaded at boot, although it can be loaded, with the cure.
  returned: success
  type: list
  elements: str
restart:
  description: Always empty.
  returned: success
  type: list
  elements: str
"""

import os
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubekeel.ha.plugins.module_utils import modprobe_files, node_change, node_files, node_module, running_kernel
from ansible_collections.kubekeel.ha.plugins.module_utils.node_files import NodeError

LOADER = "systemd-modules-load.service"
DISABLED = "/proc/sys/kernel/modules_disabled"


def find_obstacles(wanted: list[str], missing: list[str]) -> modprobe_files.Obstacles:
    """Return what keeps modules from being loaded.

    Args:
        wanted: all modules but those that are built in.
        missing: those that are not loaded.

    Raises:
        NodeError: a file cannot be read.
    """
    files = {}
    for folder in modprobe_files.FOLDERS:
        for name in os.listdir(folder) if os.path.isdir(folder) else ():
            path = os.path.join(folder, name)
            # A link to /dev/null masks the file of that name in the folders that follow.
            files[path] = node_files.read(path, follow=True) or "" if os.path.isfile(path) else ""
    found = modprobe_files.obstacles(wanted, files, node_files.read("/proc/cmdline", follow=True) or "")
    if missing and (node_files.read(DISABLED, follow=True) or "").strip() == "1":
        found.reasons.append(
            "this kernel loads no module any more (kernel.modules_disabled is 1), and %s is not loaded: let it be loaded at boot, before "
            "that is set, and reboot" % ", ".join(missing)
        )
    if any(os.path.realpath(folder + "/" + LOADER) == "/dev/null" for folder in ("/etc/systemd/system", "/run/systemd/system")):
        found.findings.append("%s is masked, so no kernel module is loaded at boot: 'systemctl unmask %s'" % (LOADER, LOADER))
    return found


def run(module: AnsibleModule) -> dict[str, Any]:
    """Do the module's work and return its result.

    Raises:
        NodeError: the operator has to know.
    """
    wanted, path = module.params["modules"], module.params["path"]
    text = node_files.read(path)
    after = "# Written by kubekeel.\n" + "".join(name + "\n" for name in wanted)
    files = [node_change.FileChange(path, text, after)] if after != text else []
    persistent = (text or "").split()
    there = running_kernel.modules("modules.builtin")
    missing = [name for name in wanted if modprobe_files.normalize(name) not in there]
    # What is built in needs nobody to load it. Only one that was loaded has a state.
    loadable = [name for name in wanted if name in missing or os.path.exists("/sys/module/%s/initstate" % modprobe_files.normalize(name))]
    found = find_obstacles(loadable, missing)
    if not module.check_mode:
        if found.reasons:
            raise NodeError("; ".join(found.reasons), reasons=found.reasons)
        for name in missing:
            code, _dummy, err = module.run_command(["modprobe", "--", name])
            if code:
                raise NodeError("the kernel module %s cannot be loaded: %s" % (name, err.strip()))
        node_change.keep(module.params["run_id"], files)
        node_change.write(files)
    changes = [
        node_change.Change("kernel module", name, None if name in missing else "loaded", "loaded, also at boot", path).as_result()
        for name in wanted
        if name in missing or name not in persistent
    ]
    return {
        "changed": bool(files or missing),
        "changes": changes,
        "diff": [change.as_diff() for change in files],
        "reasons": found.reasons,
        "findings": found.findings,
        "restart": [],
    }


def main() -> None:
    """Run the module."""
    node_module.execute(
        {
            "modules": {"type": "list", "elements": "str", "required": True},
            "path": {"type": "path", "default": "/etc/modules-load.d/kubekeel.conf"},
            "run_id": {"type": "str"},
        },
        run,
    )


if __name__ == "__main__":
    main()
