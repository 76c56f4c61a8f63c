#!/usr/bin/python
"""The module kubekeel.ha.sysctl_profile."""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

DOCUMENTATION = r"""
module: sysctl_profile
short_description: Set sysctls now and for every boot, all in one call
version_added: 0.1.0
description:
  - Writes the settings to a file of its own and sets them in the running kernel.
  - Tells the value of the running kernel and the one of the next boot apart. Where another file would override a setting at the next
    boot nothing is changed, see C(reasons); in check mode it is only said.
options:
  settings:
    description: Sysctl name to value.
    type: dict
    required: true
  path:
    description:
      - The file. It holds these settings and no others.
      - Of several files that set the same sysctl the one counts whose name sorts last.
    type: path
    default: /etc/sysctl.d/99-zz-kubekeel.conf
extends_documentation_fragment: [kubekeel.ha.attributes, kubekeel.ha.attributes.writes, kubekeel.ha.run]
"""

EXAMPLES = r"""
- name: Give up a dead TCP connection after 102 instead of 924 seconds
  kubekeel.ha.sysctl_profile:
    settings:
      net.ipv4.tcp_retries2: 8
"""

RETURN = r"""
changes:
  description:
    - Each setting that was changed, or would be, with C(owner) (V(sysctl)), C(name), C(before), C(after), C(path),
      C(note) (which of the two values differs), C(why), C(source).
  returned: success
  type: list
  elements: dict
effective:
  description: For each setting the value of the running kernel and the one of the next boot, after the run.
  returned: success
  type: dict
  sample: {net.ipv4.tcp_retries2: {runtime: "8", boot: "8"}}
overridden:
  description: Settings that another file overrides at the next boot.
  returned: success
  type: list
  elements: dict
  contains:
    name: {description: The sysctl., type: str}
    value: {description: "What the other file sets, V(the kernel's default) where a line C(-NAME) sets nothing.", type: str}
    path: {description: The other file., type: str}
reasons:
  description: A sentence for each of them, with the cure. Where there is one the module changes nothing and fails.
  returned: success
  type: list
  elements: str
restart:
  description:
    - Always empty; running connections and processes see the change at once. A keepalive timer that runs already is not made shorter.
  returned: success
  type: list
  elements: str
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubekeel.ha.plugins.module_utils import node_change, node_files, node_module, running_kernel, sysctl_files
from ansible_collections.kubekeel.ha.plugins.module_utils.node_files import NodeError

DEFAULT = "the kernel's default"


def wanted_settings(settings: dict[str, Any]) -> dict[str, str]:
    """Return the option O(settings) by dotted names, with every value as text.

    Raises:
        NodeError: a name or a value cannot be meant.
    """
    wanted: dict[str, str] = {}
    for name, value in settings.items():
        dotted, text = sysctl_files.dotted(name), sysctl_files.normalize(str(value))
        if not sysctl_files.is_name(dotted) or dotted in wanted:
            raise NodeError("settings: '%s' is no name of a sysctl, or stands there twice" % name)
        if isinstance(value, bool) or not isinstance(value, (str, int, float)) or not text.isprintable():
            raise NodeError("settings.%s: a number or a text is needed, not %r" % (name, value))
        wanted[dotted] = text
    return wanted


def run(module: AnsibleModule) -> dict[str, Any]:
    """Do the module's work and return its result.

    Raises:
        NodeError: the operator has to know.
    """
    path = module.params["path"]
    wanted = wanted_settings(module.params["settings"])
    runtime = {name: running_kernel.sysctl(name) for name in wanted}
    text = node_files.read(path)
    rendered = sysctl_files.render(wanted) if wanted else None
    entries = running_kernel.boot_sysctls()
    boot_before = {name: sysctl_files.deciding(name, entries) for name in wanted}
    entries[path] = sysctl_files.parse(rendered or "")
    boot_after = {name: sysctl_files.deciding(name, entries) for name in wanted}
    overridden = [
        {"name": name, "value": DEFAULT if found[0] is None else found[0], "path": found[1]}
        for name, found in boot_after.items()
        if found and found[0] != wanted[name]
    ]
    changes = []
    for name, value in wanted.items():
        at_boot = (boot_before[name] or (None,))[0]
        if runtime[name] != value:
            changes.append(node_change.Change("sysctl", name, runtime[name], value, path))
        elif at_boot != value and boot_after[name] != boot_before[name]:
            note = "now; at the next boot it would be %s" % (at_boot or DEFAULT)
            changes.append(node_change.Change("sysctl", name, runtime[name], value, path, note))
    reasons = [
        "{path} {what}, and counts more than {ours}: at the next boot the wanted value would be gone. Remove the line "
        "there, or set it to the wanted value".format(
            path=found["path"], what=("has '-{name}'" if found["value"] == DEFAULT else "sets {name} = {value}").format(**found), ours=path
        )
        for found in overridden
    ]
    files = [node_change.FileChange(path, text, rendered)] if rendered != text else []
    stale = [name for name in wanted if runtime[name] != wanted[name]]
    if not module.check_mode:
        if reasons:
            raise NodeError("; ".join(reasons), reasons=reasons)
        node_change.keep(module.params["run_id"], files, sysctls={name: (runtime[name], wanted[name]) for name in stale})
        # The kernel first: a value that it refuses must not wait for the next boot.
        for name in stale:
            running_kernel.set_sysctl(name, wanted[name])
        node_change.write(files)
    shown = ["%s = %s (running kernel)\n" % (name, runtime[name]) for name in stale]
    diff = [change.as_diff() for change in files]
    if stale:
        target = ["%s = %s (running kernel)\n" % (name, wanted[name]) for name in stale]
        diff.append({"before_header": "/proc/sys", "after_header": "/proc/sys", "before": "".join(shown), "after": "".join(target)})
    return {
        "changed": bool(files or stale),
        "changes": [change.as_result() for change in changes],
        "diff": diff,
        "effective": {name: {"runtime": wanted[name], "boot": (boot_after[name] or (None,))[0]} for name in wanted},
        "overridden": overridden,
        "reasons": reasons,
        "restart": [],
    }


def main() -> None:
    """Run the module."""
    node_module.execute(
        {
            "settings": {"type": "dict", "required": True},
            "path": {"type": "path", "default": "/etc/sysctl.d/99-zz-kubekeel.conf"},
            "run_id": {"type": "str"},
        },
        run,
    )


if __name__ == "__main__":
    main()
