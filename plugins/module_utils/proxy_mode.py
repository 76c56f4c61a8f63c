"""Which modes of kube-proxy a node can run, by release, kernel and tools. Reads nothing."""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Mapping

from ansible_collections.kubekeel.ha.plugins.module_utils.release import Release, show_release

MODES = ("iptables", "ipvs", "nftables")

# kube-proxy asks for these whatever the scheduler is (pkg/util/ipvs, GetRequiredIPVSModules).
_IPVS_MODULES = ("ip_vs", "ip_vs_rr", "ip_vs_wrr", "ip_vs_sh", "nf_conntrack")
_IPVS_TOOLS = ("ipset", "ipvsadm")


@dataclass(frozen=True)
class Range:
    """From which release on, and until before which one, a mode can be used."""

    begins: Release | None = None
    ends: Release | None = None
    warns: Release | None = None
    """The release since which the mode is deprecated."""
    source: str = ""


RELEASES: Mapping[str, Range] = {
    "iptables": Range(),
    "ipvs": Range(ends=(1, 40, 0), warns=(1, 35, 0), source="KEP-5495: off by default from 1.40, gone in 1.43"),
    "nftables": Range(begins=(1, 31, 0), source="KEP-3866: on by default from 1.31"),
}
NFTABLES_KERNEL = (5, 13, 0)
NFT_TOOL = (1, 0, 1)


@dataclass(frozen=True)
class Node:
    """What was read from a node."""

    release: Release | None
    kernel: Release | None
    modules: frozenset[str]
    """Kernel modules that are loaded, built in or can be loaded."""
    tools: Mapping[str, str]
    """Tools that are installed, with the text in which they name their version."""
    nft: Release | None = None


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


def check(mode: str, scheduler: str, node: Node) -> Support:
    """Tell whether a node can run kube-proxy in C(mode)."""
    support = Support()
    _check_release(mode, node.release, support)
    if mode == "ipvs":
        wanted = dict.fromkeys((*_IPVS_MODULES, "ip_vs_" + scheduler))
        missing = [name for name in wanted if name not in node.modules]
        if missing:
            support.reasons.append(
                "this kernel has no module %s: install the distribution's package of kernel modules, or choose iptables"
                % ", ".join(missing)
            )
        support.modules = list(wanted)
        support.packages = [tool for tool in _IPVS_TOOLS if tool not in node.tools]
    if mode == "nftables":
        _check_version("the kernel is", node.kernel, NFTABLES_KERNEL, support)
        if "nft" in node.tools:
            _check_version("nft is", node.nft, NFT_TOOL, support)
        else:
            support.packages = ["nftables"]
    return support


def _check_release(mode: str, release: Release | None, support: Support) -> None:
    span = RELEASES[mode]
    if release is None:
        if span.source:
            support.warnings.append("the release of this node is not known; %s needs: %s" % (mode, span.source))
    elif (span.begins and release < span.begins) or (span.ends and release >= span.ends):
        support.reasons.append("Kubernetes %s cannot run %s as it is (%s)" % (show_release(release), mode, span.source))
    elif span.warns and release >= span.warns:
        support.warnings.append("%s is deprecated since %s (%s); nftables follows it" % (mode, show_release(span.warns), span.source))


def _check_version(what: str, found: Release | None, least: tuple[int, int, int], support: Support) -> None:
    if found is not None and found < least:
        shown = ".".join(str(part) for part in found)
        support.reasons.append(
            "%s %s, nftables needs %s or later (kubernetes.io, nftables proxy mode)" % (what, shown, show_release(least))
        )
