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
restart:
  description: Always empty.
  returned: success
  type: list
  elements: str
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubekeel.ha.plugins.module_utils import node_change, node_files, node_module, running_kernel
from ansible_collections.kubekeel.ha.plugins.module_utils.node_files import NodeError


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
    missing = [name for name in wanted if name.replace("-", "_") not in there]
    if not module.check_mode:
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
    return {"changed": bool(files or missing), "changes": changes, "diff": [change.as_diff() for change in files], "restart": []}


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
