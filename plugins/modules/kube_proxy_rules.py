#!/usr/bin/python
"""The module kubekeel.ha.kube_proxy_rules."""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

DOCUMENTATION = r"""
module: kube_proxy_rules
short_description: Remove what a mode of kube-proxy left behind in the kernel
version_added: 0.1.0
description:
  - Asks kube-proxy itself for the mode that is in force, whatever its flags say, and removes what other modes left in the kernel.
    That is virtual services, the interface C(kube-ipvs0), chains and ipsets of C(ipvs), chains of C(iptables), with IPv4 and IPv6
    and with both backends of iptables, and tables of C(nftables).
  - Removes nothing that is not kube-proxy's, such as virtual services of keepalived, chains of the kubelet, of a CNI plugin or of
    K3s' network policies. A chain or an ipset that somebody else's rule uses stays, and a finding says so.
  - Removes nothing as long as kube-proxy does not answer, or has not written its own rules yet, and nothing of a family (IPv4, IPv6) of
    which that cannot be seen.
  - Works with the node's own C(iptables-restore), C(ipset), C(ip), C(ipvsadm) and C(nft). Where one is missing that is needed, or
    refuses, a finding says so, and the rest is removed. It does not fail for that.
  - What it removes does not come back with a rollback. kube-proxy writes its rules itself when it starts.
options:
  wait:
    description: For how many seconds to wait until kube-proxy says its mode and has written its rules.
    type: int
    default: 0
requirements:
  - iptables, ipset, iproute2, ipvsadm and nft, each where there is something of its kind
extends_documentation_fragment: [kubekeel.ha.attributes, kubekeel.ha.attributes.writes, kubekeel.ha.distribution]
"""

EXAMPLES = r"""
- name: After kube-proxy restarted with another mode
  kubekeel.ha.kube_proxy_rules:
    wait: 60
"""

RETURN = r"""
mode:
  description:
    - The mode that is in force; where the kernel's rules cannot be read, the one that kube-proxy says.
    - Empty where kube-proxy does not answer or has not written its rules yet, and where the node runs none.
  returned: success
  type: str
  sample: iptables
says:
  description: The mode that kube-proxy says it is in, whether or not it has written its rules. Empty where it does not answer.
  returned: success
  type: str
  sample: iptables
silent:
  description:
    - Whether kube-proxy does not answer, or has not written its rules yet. Without O(wait) only where there is something of it in the
      kernel.
  returned: success
  type: bool
changes:
  description:
    - Each kind of thing that was removed, or would be, with C(owner), C(name), C(before), C(after), C(path), C(note), C(why),
      C(source).
  returned: success
  type: list
  elements: dict
  sample:
    - {owner: kube-proxy, name: ipvs ipsets, before: 15 left behind, after: null, path: kernel, note: the mode in force is iptables}
foreign:
  description: Virtual services of ipvs that are not kube-proxy's, and stay. Of these nothing is said while the mode in force is C(ipvs).
  returned: success
  type: list
  elements: str
  sample: ["TCP 192.0.2.10:443"]
findings:
  description: What is left and cannot be removed, with what to do about it.
  returned: success
  type: list
  elements: str
restart:
  description: Always empty.
  returned: success
  type: list
  elements: str
"""

import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubekeel.ha.plugins.module_utils import (
    distribution,
    node_change,
    node_module,
    proxy_mode,
    proxy_node,
    proxy_rules,
)
from ansible_collections.kubekeel.ha.plugins.module_utils.node_files import NodeError
from ansible_collections.kubekeel.ha.plugins.module_utils.proxy_rules import Leftovers, Removal, VirtualService

WHY = "rules of a mode that is not in force go on to answer, reject or masquerade requests, with the endpoints of the day of the change"
SOURCE = "kubernetes/kubernetes#109286; pkg/proxy/ipvs/cleanup.go"
# For so long rules that are gone may still hold an ipset: the kernel takes them apart later.
_SET_PAUSE = 0.5
_SET_TRIES = 6


def remove(module: AnsibleModule, found: Leftovers, mode: str) -> None:
    """Remove what was left behind, that which uses other things first.

    What a tool refuses is taken out of C(found), with all that is of use for the next run, and becomes a finding.
    """
    failed = remove_services(module, found)
    if failed:
        keep_evidence(found, failed)
    if found.dummy and not done(module, found, "ip", "link", "delete", proxy_rules.DUMMY):
        found.dummy = False
    removals = [removal for removal in found.removals if remove_rules(module, found, removal, mode)]
    if len(removals) < len(found.removals):
        # Rules that stay may use them.
        found.sets = []
    found.removals = removals
    if found.sets:
        destroy(module, found)
    if found.families:
        text = "".join("delete table %s %s\n" % (family, proxy_rules.NFT_TABLE) for family in found.families)
        if not done(module, found, "nft", "--file", "-", data=text):
            found.families = []


def remove_services(module: AnsibleModule, found: Leftovers) -> list[VirtualService]:
    """Remove virtual services. Return those that are left."""
    failed = {}
    for service in found.services:
        kind = {"TCP": "--tcp-service", "UDP": "--udp-service"}.get(service.protocol, "--sctp-service")
        try:
            run(module, "ipvsadm", "--delete-service", kind, service.place)
        except NodeError as error:
            failed[service] = str(error)
    if failed:
        # One may have gone meanwhile.
        try:
            there = proxy_node.virtual_services()
        except NodeError:
            there = found.services
        failed = {service: text for service, text in failed.items() if service in there}
        found.findings += list(failed.values())[:1]
    return list(failed)


def keep_evidence(found: Leftovers, services: list[VirtualService]) -> None:
    """Leave virtual services out, and what tells whose they are."""
    found.services = [service for service in found.services if service not in services]
    found.dummy, found.sets = False, []


def remove_rules(module: AnsibleModule, found: Leftovers, removal: Removal, mode: str) -> bool:
    """Remove what is in the way of one ruleset, and tell whether it is gone.

    It happens at once or not at all, so that a rule which went or came meanwhile ends it: then what there is now is tried once more.
    """
    words = (removal.ruleset.tool + "-restore", "--wait", "10", "--noflush")
    try:
        run(module, *words, data=removal.text())
        return True
    except NodeError:
        try:
            again, _findings = proxy_rules.removal_of(mode, proxy_node.read_ruleset(module, removal.ruleset.tool))
        except NodeError as error:
            found.findings.append(str(error))
            return False
    text = again.text()
    return not text or done(module, found, *words, data=text)


def destroy(module: AnsibleModule, found: Leftovers) -> None:
    """Remove ipsets; one that is still in use becomes a finding."""
    left = list(found.sets)
    for attempt in range(_SET_TRIES):
        if attempt:
            time.sleep(_SET_PAUSE)
        left = [name for name in left if module.run_command([proxy_node.tool("ipset") or "ipset", "destroy", name])[0]]
        if not left:
            return
    found.sets = [name for name in found.sets if name not in left]
    found.findings.append(
        "the ipsets %s stay: something uses them that kubekeel does not see, such as another set. 'ipset list -terse' shows references"
        % ", ".join(left)
    )


def done(module: AnsibleModule, found: Leftovers, name: str, *words: str, data: str | None = None) -> bool:
    """Run a tool, and tell whether it did it; where not there is a finding."""
    try:
        run(module, name, *words, data=data)
    except NodeError as error:
        found.findings.append(str(error))
        return False
    return True


def run(module: AnsibleModule, name: str, *words: str, data: str | None = None) -> None:
    """Run a tool.

    Raises:
        NodeError: it is missing, or fails.
    """
    path = proxy_node.tool(name)
    code, out, err = module.run_command([path, *words], data=data) if path else (1, "", "it is missing")
    if code:
        raise NodeError(
            "%s refuses: %s. So something that kube-proxy left behind stays; the next run tries it again"
            % (" ".join([name, *words]), (err or out).strip())
        )


def leave_out(found: Leftovers) -> None:
    """Take out of a plan what cannot be done since a tool is missing, and say so."""
    if found.services and not proxy_node.tool("ipvsadm"):
        found.findings.append(
            "ipvsadm is missing, so %d virtual services of kube-proxy's mode ipvs stay and may go on to answer for a Service, and with "
            "them what tells whose they are: install the package ipvsadm" % len(found.services)
        )
        keep_evidence(found, found.services)
    if found.families and not proxy_node.tool("nft"):
        found.findings.append("nft is missing, so the nftables tables of kube-proxy stay and go on to answer: install the package nftables")
        found.families = []


def changes(found: dict[str, list[str]], mode: str) -> list[dict[str, Any]]:
    """Return each kind of what was left behind as a change."""
    made = [
        node_change.Change("kube-proxy", kind, "%d left behind" % len(lines), None, "kernel", "the mode in force is %s" % mode).as_result()
        for kind, lines in found.items()
    ]
    return [dict(change, why=WHY, source=SOURCE) for change in made]


def run_module(module: AnsibleModule) -> dict[str, Any]:
    """Do the module's work and return its result.

    Raises:
        NodeError: the operator has to know.
    """
    result: dict[str, Any] = {
        "changed": False,
        "mode": "",
        "says": "",
        "silent": False,
        "foreign": [],
        "changes": [],
        "diff": [],
        "restart": [],
    }
    flags = proxy_node.flags(module, distribution.find(module))
    if flags is None:
        return dict(result, findings=[])
    address = proxy_node.metrics_address(flags)
    wait = module.params["wait"]
    try:
        mode, settled, kernel, findings = proxy_node.wait_for(module, address, wait)
    except NodeError as error:
        # That it works is for kube-proxy to say; that nothing can be removed says nothing about it.
        said = proxy_node.wait_for_mode(address, wait) if address else ""
        text = "%s. So what another mode of kube-proxy left behind cannot be found: mend that" % error
        return dict(result, mode=said, says=said, silent=bool(address and wait and not said), findings=[text])
    if not mode or not settled:
        is_silent = bool(address) and (wait > 0 or not proxy_rules.is_empty(kernel))
        return dict(result, says=mode, silent=is_silent, findings=silence(address, mode, kernel))
    found = proxy_rules.leftovers(mode, kernel, proxy_mode.networks(flags.get("ipvs-exclude-cidrs", "")))
    leave_out(found)
    kinds = found.kinds()
    # Worth a line where there is something of another mode, or, as that of iptables, it could not be seen.
    if kinds or set(proxy_rules.present(kernel)) - {mode} or (kernel.unread and mode != "iptables"):
        found.findings += findings
    asked = flags.get("proxy-mode") or mode
    if asked != mode:
        found.findings.append(
            "kube-proxy works with %s, although --proxy-mode is %s: it has not restarted since, or something is missing that %s needs; "
            "it logged what" % (mode, asked, asked)
        )
    if kinds and not module.check_mode:
        remove(module, found, mode)
        kinds = found.kinds()
    before = proxy_rules.as_lines(kinds)
    header = "kernel: left behind by kube-proxy"
    return dict(
        result,
        changed=bool(kinds),
        mode=mode,
        says=mode,
        foreign=[str(service) for service in found.foreign],
        changes=changes(kinds, mode),
        diff=[{"before_header": header, "after_header": header, "before": before, "after": ""}] if kinds else [],
        findings=found.findings,
    )


def silence(address: str, mode: str, kernel: proxy_rules.Kernel) -> list[str]:
    """Return what is to be said where kube-proxy does not say its mode: something only where rules of several modes are there."""
    modes = proxy_rules.present(kernel)
    if len(modes) < 2:
        return []
    why = "kube-proxy does not answer at http://%s/proxyMode" % address
    if mode:
        why = "kube-proxy says that it works with %s, and has not written rules of that mode" % mode
    elif not address:
        why = "its flag metrics-bind-address keeps kube-proxy from telling its mode"
    return [
        "the kernel has rules of kube-proxy's modes %s, and nobody can tell which are in force: %s. They are left as they are"
        % (" and ".join(modes), why)
    ]


def main() -> None:
    """Run the module."""
    node_module.execute({"distribution": distribution.OPTION, "wait": {"type": "int", "default": 0}}, run_module)


if __name__ == "__main__":
    main()
