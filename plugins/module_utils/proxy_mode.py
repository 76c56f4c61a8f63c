"""Which modes of kube-proxy a node can run, by release, kernel and tools. Reads nothing."""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from typing import Mapping, Sequence

from ansible_collections.kubekeel.ha.plugins.module_utils.release import Release, parse_release, show_release

MODES = ("iptables", "ipvs", "nftables")

# kube-proxy asks for these whatever the scheduler is (pkg/util/ipvs, GetRequiredIPVSModules).
_IPVS_MODULES = ("ip_vs", "ip_vs_rr", "ip_vs_wrr", "ip_vs_sh", "nf_conntrack")

TOOLS: Mapping[str, Mapping[str, str]] = {
    "iptables": {},
    # kube-proxy needs ipset; ipvsadm is needed to look, and to go back.
    "ipvs": {"ipset": "ipset", "ipvsadm": "ipvsadm"},
    "nftables": {"nft": "nftables"},
}
"""The tools that a mode needs, each with the package that brings it."""


@dataclass(frozen=True)
class Range:
    """In which releases a mode can be used."""

    begins: Release | None = None
    """The first release with the mode."""
    on: Release | None = None
    """The first one in which it is on by default; between both the feature gate decides."""
    warns: Release | None = None
    """The first one in which it is deprecated."""
    off: Release | None = None
    """The first one in which it is off by default."""
    ends: Release | None = None
    """The first one without it."""
    gate: str = ""
    """The feature gate of kube-proxy."""
    source: str = ""


RELEASES: Mapping[str, Range] = {
    "iptables": Range(),
    "ipvs": Range(
        warns=(1, 35, 0),
        off=(1, 40, 0),
        ends=(1, 43, 0),
        gate="KubeProxyIPVS",
        source="KEP-5495: off by default from 1.40, gone in 1.43",
    ),
    "nftables": Range(
        begins=(1, 29, 0), on=(1, 31, 0), gate="NFTablesProxyMode", source="KEP-3866: alpha in 1.29, on by default from 1.31"
    ),
}
NFTABLES_KERNEL = (5, 13, 0)
NFT_TOOL = (1, 0, 1)


@dataclass(frozen=True)
class Packages:
    """What can be done about a tool that is missing."""

    wanted: bool = True
    """Whether kubekeel may install packages."""
    manager: str = ""
    """The program that was asked; empty where the node has none that kubekeel knows."""
    known: Mapping[str, str] = field(default_factory=dict)
    """The version of each package that it could install; one that it does not know is missing."""


@dataclass(frozen=True)
class Node:
    """What was read from a node."""

    release: Release | None
    kernel: Release | None
    modules: frozenset[str]
    """Kernel modules that are loaded, built in or can be loaded."""
    tools: Mapping[str, str]
    """Tools that are installed, with their paths."""
    nft: Release | None = None
    packages: Packages | None = None
    """None where nobody asked."""
    flags: Mapping[str, str] = field(default_factory=dict)
    """Of kube-proxy, as it is going to have them."""
    strict_snap: bool = False
    """Whether kube-proxy runs in a strictly confined snap, which sees no tool of the node."""
    foreign: tuple[tuple[str, str], ...] = ()
    """Virtual services of ipvs that are not kube-proxy's: how to name one, and its address, which is empty for one of marked packets."""
    unsure: tuple[str, ...] = ()
    """Virtual services that are either kube-proxy's or somebody else's, since ipsets cannot be read."""


@dataclass
class Support:
    """The answer."""

    reasons: list[str] = field(default_factory=list)
    """Why the mode cannot be used; empty where it can."""
    warnings: list[str] = field(default_factory=list)
    modules: list[str] = field(default_factory=list)
    """Kernel modules that have to be loaded, now and at each boot."""
    packages: list[str] = field(default_factory=list)
    """Packages that are missing."""


def missing(mode: str, tools: Mapping[str, str]) -> dict[str, str]:
    """Return the tools that a mode needs and a node lacks, each with its package."""
    return {tool: package for tool, package in TOOLS[mode].items() if tool not in tools}


def check(mode: str, scheduler: str, node: Node, accept_flush: bool = False) -> Support:
    """Tell whether a node can run kube-proxy in C(mode).

    Args:
        mode: one of C(MODES).
        scheduler: of mode ipvs.
        node: what was read.
        accept_flush: whether virtual services that are somebody else's may be lost.
    """
    support = Support()
    _check_release(mode, node, support)
    if mode == "ipvs":
        _check_modules(scheduler, node, support)
    if mode == "nftables":
        _check_version("the kernel is", node.kernel, NFTABLES_KERNEL, support)
        if "nft" in node.tools:
            _check_version("nft is", node.nft, NFT_TOOL, support)
    _check_tools(mode, node, support)
    _check_foreign(mode, node, accept_flush, support)
    return support


def feature_gates(flags: Mapping[str, str]) -> dict[str, bool]:
    """Return what the flag feature-gates says (C(A=true,B=false))."""
    pairs = (pair.partition("=") for pair in flags.get("feature-gates", "").split(","))
    return {name.strip(): value.strip().lower() in ("true", "1", "t") for name, _, value in pairs if name.strip()}


def _check_release(mode: str, node: Node, support: Support) -> None:
    span, release = RELEASES[mode], node.release
    if release is None:
        if span.source:
            support.warnings.append("the release of this node is not known; %s needs: %s" % (mode, span.source))
        return
    cannot = "Kubernetes %s cannot run %s" % (show_release(release), mode)
    if span.begins and release < span.begins:
        support.reasons.append(
            "%s, which came with %s (%s): upgrade, or choose iptables" % (cannot, show_release(span.begins), span.source)
        )
    elif span.ends and release >= span.ends:
        support.reasons.append("%s, which is gone since %s (%s): choose nftables" % (cannot, show_release(span.ends), span.source))
    else:
        gate = feature_gates(node.flags).get(span.gate)
        first = span.begins or span.warns
        is_off = (span.on and release < span.on) or (span.off and release >= span.off)
        is_switched_off = gate is False and first and release >= first
        if is_switched_off or (is_off and not gate):
            support.reasons.append(
                "%s as it is (%s): set kube-proxy's feature gate, extra_args_components: {kube-proxy: {feature-gates: %s=true}}, or "
                "choose %s" % (cannot, span.source, span.gate, "nftables" if mode == "ipvs" else "iptables")
            )
        elif span.on and release < span.on:
            support.warnings.append("%s is alpha in %s (%s)" % (mode, show_release(release), span.source))
        elif span.warns and release >= span.warns:
            support.warnings.append("%s is deprecated since %s (%s); nftables follows it" % (mode, show_release(span.warns), span.source))


def _check_modules(scheduler: str, node: Node, support: Support) -> None:
    wanted = list(dict.fromkeys((*_IPVS_MODULES, "ip_vs_" + scheduler)))
    lacking = [name for name in wanted if name not in node.modules]
    if lacking:
        support.reasons.append(
            "this kernel has no module %s: install the distribution's package of kernel modules, or choose iptables" % ", ".join(lacking)
        )
    support.modules = wanted


def _check_tools(mode: str, node: Node, support: Support) -> None:
    for tool, package in missing(mode, node.tools).items():
        support.packages.append(package)
        packages = node.packages or Packages(manager="?", known={package: ""})
        # Which kube-proxy is to run itself; ipvsadm is for people, and for kubekeel.
        if node.strict_snap and tool != "ipvsadm":
            support.reasons.append(
                "the strictly confined snap of MicroK8s brings no %s, and kube-proxy sees none of the node there "
                "(canonical/microk8s#3848): choose iptables, or install the classic snap" % tool
            )
        elif not packages.wanted:
            support.reasons.append(
                "%s is missing, which %s needs, and kube_proxy_install_packages is false: install the package %s, or choose iptables"
                % (tool, mode, package)
            )
        elif not packages.manager:
            support.reasons.append(
                "%s is missing, which %s needs, and this node has no package manager that kubekeel knows: install it, or choose iptables"
                % (tool, mode)
            )
        elif package not in packages.known:
            support.reasons.append(
                "%s is missing, which %s needs, and %s knows no package %s: add the repository that has it and refresh the lists, or "
                "choose iptables" % (tool, mode, packages.manager, package)
            )
        elif tool == "nft":
            _check_version("the nft that %s would install is" % packages.manager, parse_release(packages.known[package]), NFT_TOOL, support)


def _check_foreign(mode: str, node: Node, accept_flush: bool, support: Support) -> None:
    """Say where kube-proxy is going to remove virtual services of others.

    In mode nftables it flushes all of ipvs when it starts (pkg/proxy/ipvs/cleanup.go, CleanupLeftovers); in mode ipvs it removes what is
    no Service's, but for ipvs-exclude-cidrs (pkg/proxy/ipvs/proxier.go, cleanLegacyService).
    """
    if mode == "nftables" and node.unsure:
        text = (
            "in mode nftables kube-proxy removes virtual services of ipvs that are not its own, and nobody can tell whether %s are its own "
            "ones of node ports: its ipsets cannot be read. Install the package ipset, or see that 'ipset save' works" % _few(node.unsure)
        )
        (support.warnings if accept_flush else support.reasons).append(text)
    lost = list(node.foreign)
    cure = ""
    if mode == "ipvs":
        excluded = networks(node.flags.get("ipvs-exclude-cidrs", ""))
        # Those of marked packets are in nobody's network (kubernetes#59507).
        lost = [
            (name, address) for name, address in lost if not address or not any(ipaddress.ip_address(address) in one for one in excluded)
        ]
        cure = "extra_args_components: {kube-proxy: {ipvs-exclude-cidrs: NETWORKS}} keeps it from that; "
    if mode == "iptables" or not lost:
        return
    text = (
        "in mode %s kube-proxy removes virtual services of ipvs that are not its own, here %s (of keepalived, for instance): %schoose "
        "iptables, or accept the loss with kube_proxy_accept_flush: true (kubernetes#59507; pkg/proxy/ipvs/cleanup.go)"
        % (mode, _few([name for name, _ in lost]), cure)
    )
    # Where kube-proxy has the mode already they came after it did that, and nothing is lost by what kubekeel changes.
    if accept_flush or node.flags.get("proxy-mode") == mode:
        support.warnings.append(text)
    else:
        support.reasons.append(text)


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (" and %d more" % (len(names) - 5) if len(names) > 5 else "")


def networks(text: str) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    """Return what the flag ipvs-exclude-cidrs names."""
    found = []
    for part in text.split(","):
        try:
            found.append(ipaddress.ip_network(part.strip(), strict=False))
        except ValueError:
            continue
    return found


def _check_version(what: str, found: Release | None, least: tuple[int, int, int], support: Support) -> None:
    if found is not None and found < least:
        shown = ".".join(str(part) for part in found)
        support.reasons.append(
            "%s %s, nftables needs %s or later: upgrade it, or choose iptables (kubernetes.io, nftables proxy mode)"
            % (what, shown, show_release(least))
        )
