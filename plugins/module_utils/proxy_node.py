"""What a node has of kube-proxy: its flags, the mode that it says it is in, and what is in the kernel."""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import contextlib
import errno
import http.client
import os
import re
import shutil
import socket
import struct
import time
from typing import TYPE_CHECKING, Mapping

from ansible.module_utils.urls import open_url
from ansible_collections.kubekeel.ha.plugins.module_utils import (
    addresses,
    distribution,
    k3s,
    kubelite_args,
    microk8s,
    node_files,
    proxy_mode,
    proxy_rules,
    settings,
)
from ansible_collections.kubekeel.ha.plugins.module_utils.node_files import NodeError
from ansible_collections.kubekeel.ha.plugins.module_utils.proxy_rules import Kernel, Ruleset, VirtualService

if TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule

METRICS_ADDRESS = "127.0.0.1:10249"
"""Where kube-proxy says its mode, unless its flags name another place (kubernetes.io, kube-proxy reference)."""
SERVICES = "/proc/net/ip_vs"
_LEGACY_TABLES = {"iptables": "/proc/net/ip_tables_names", "ip6tables": "/proc/net/ip6_tables_names"}
# What iptables-nft calls its tables.
_TABLES = frozenset({"filter", "nat", "mangle", "raw", "security"})
_POLL = 1.0
# Not 'contains incompatible base-chains', where those of iptables are shown all the same.
_HIDDEN = re.compile(r"^# Table `(\S+)' is incompatible", re.MULTILINE)

# sudo may hand over a PATH without the folders of administration.
_FOLDERS = (
    *("/usr/local/sbin", "/usr/sbin", "/sbin"),
    # What K3s brings with it.
    *("/var/lib/rancher/k3s/data/current/bin", "/var/lib/rancher/k3s/data/current/bin/aux"),
)
_SNAP_FOLDERS = tuple("/snap/microk8s/current/" + folder for folder in ("usr/sbin", "usr/bin", "sbin", "bin"))

_NETFILTER, _GET_TABLE, _DUMP = 12, 10 << 8 | 1, 0x301
_ERROR, _DONE, _NAME = 2, 3, 1


def tool(name: str) -> str | None:
    """Return the path of a program that can be run, None where there is none: the node's own before that of K3s."""
    return shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), *_FOLDERS]))


def snap_tool(name: str) -> str | None:
    """Return the path of a program of MicroK8s' snap, which finds its libraries only when the snap itself runs it."""
    return shutil.which(name, path=os.pathsep.join(_SNAP_FOLDERS))


def flags(module: AnsibleModule, found: distribution.Distribution) -> Mapping[str, str] | None:
    """Return the flags of kube-proxy by what the node's files say, None where the node runs none.

    Raises:
        NodeError: a file cannot be read.
    """
    if found.name == distribution.K3S:
        node = k3s.K3sNode(module, found.unit)
        return None if settings.PROXY in node.absent else node.merged.effective(settings.PROXY)
    text = node_files.read(os.path.join(microk8s.ARGS_DIR, settings.PROXY))
    return None if text is None else kubelite_args.parse(text).effective()


def metrics_address(given: Mapping[str, str]) -> str:
    """Return where kube-proxy can be asked from its own node, an empty text where its flags switch that off, or leave it to the kernel."""
    text = given.get("metrics-bind-address", METRICS_ADDRESS)
    host, port = addresses.split(text)
    if not host or text.endswith(":0"):
        return ""
    local = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    return addresses.join(local, port or addresses.split(METRICS_ADDRESS)[1])


def mode(address: str) -> str:
    """Return the mode that kube-proxy says it is in, an empty text where it does not answer, or not with one that kubekeel knows."""
    try:
        answer = open_url("http://%s/proxyMode" % address, timeout=2, use_proxy=False).read(100).decode("ascii", "replace").strip()
    except (OSError, ValueError, http.client.HTTPException):
        return ""
    return answer if answer in proxy_mode.MODES else ""


def wait_for_mode(address: str, seconds: float) -> str:
    """Wait until kube-proxy says its mode; return an empty text where it does not within the time."""
    end = time.monotonic() + seconds
    while True:
        said = mode(address)
        if said or time.monotonic() >= end:
            return said
        time.sleep(_POLL)


def wait_for(module: AnsibleModule, address: str, seconds: float) -> tuple[str, bool, Kernel, list[str]]:
    """Wait until kube-proxy says its mode and has written its rules.

    Returns:
        The mode that it says, an empty text where it does not answer; whether the kernel has the rules of that mode, as far as they can
        be read, or, where there is no time to wait, none of any; what is in the kernel; and what could not be read of it.

    Raises:
        NodeError: something of it cannot be read.
    """
    end = time.monotonic() + seconds
    kernel, findings = read_kernel(module)
    if not seconds and proxy_rules.is_empty(kernel):
        # After a boot kube-proxy has nothing to clean; and where there is none nobody will answer.
        return mode(address) if address else "", True, kernel, findings
    while True:
        said = mode(address) if address else ""
        settled = bool(said) and proxy_rules.is_settled(said, kernel)
        if said and not settled:
            kernel, findings = read_kernel(module)
            settled = proxy_rules.is_settled(said, kernel)
        if settled or not address or time.monotonic() >= end:
            # Where its address has rules the node works, and what is not settled stays.
            return said, settled or (bool(said) and proxy_rules.works(said, kernel)), kernel, findings
        time.sleep(_POLL)


def read_kernel(module: AnsibleModule) -> tuple[Kernel, list[str]]:
    """Return what there is of kube-proxy in the kernel, and a sentence for each thing that could not be read.

    Raises:
        NodeError: something cannot be read that nothing can be said without.
    """
    findings: list[str] = []
    # Asks the kernel itself, so that it needs no tool.
    tables = _nft_tables()
    kernel = Kernel(families=[family for family in ("ip", "ip6") if (family, proxy_rules.NFT_TABLE) in tables], family=_family())
    read_rulesets(module, kernel, tables, findings)
    read_services(module, kernel, findings)
    return kernel, findings


def _family() -> str:
    """Return the family of the node's address, as a kubelet that was not told one finds it: by a default route, of IPv4 first.

    Source: kubernetes k8s.io/apimachinery pkg/util/net/interface.go, ChooseHostInterface.
    """
    # Destination and mask, or destination and length of its prefix; what is refused (loopback's entry) leads nowhere.
    routes = [line.split() for line in (node_files.read("/proc/net/route", follow=True) or "").splitlines()]
    if any(words[1:2] == ["00000000"] and words[7:8] == ["00000000"] for words in routes):
        return "ip"
    routes = [line.split() for line in (node_files.read("/proc/net/ipv6_route", follow=True) or "").splitlines()]
    return "ip6" if any(words[:2] == ["0" * 32, "00"] and words[-1] != "lo" for words in routes) else "ip"


def read_services(module: AnsibleModule, kernel: Kernel, findings: list[str]) -> None:
    """Fill in what tells which virtual services there are, and whose.

    Raises:
        NodeError: a tool fails.
    """
    kernel.has_dummy = os.path.isdir("/sys/class/net/" + proxy_rules.DUMMY)
    kernel.services = virtual_services()
    if kernel.services or kernel.has_dummy:
        found = proxy_rules.parse_addresses(_output(module, "ip", "-oneline", "address", "show"))
        kernel.bound = frozenset(address for address, interfaces in found.items() if proxy_rules.DUMMY in interfaces)
        kernel.own = frozenset(address for address, interfaces in found.items() if interfaces != {proxy_rules.DUMMY})
    # Asking for sets would load what keeps them.
    has_sets = os.path.isdir("/sys/module/ip_set")
    if has_sets:
        try:
            kernel.sets = proxy_rules.parse_sets(_output(module, "ipset", "save"))
        except NodeError as error:
            kernel.has_unread_sets = True
            if kernel.has_dummy:
                findings.append(
                    "%s. So the ipsets of kube-proxy's mode ipvs cannot be read or removed: install the package ipset, or mend that" % error
                )


def virtual_services() -> list[VirtualService]:
    """Return the virtual services of the kernel, none where it has no ipvs. It needs no tool.

    Raises:
        NodeError: the kernel does not show them.
    """
    try:
        # The kernel calls it a file of no length, and a regular one it is not to everybody.
        with open(SERVICES, encoding="ascii") as file:
            return proxy_rules.parse_services(file.read())
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise NodeError("%s cannot be read: %s" % (SERVICES, error)) from error


def read_rulesets(module: AnsibleModule, kernel: Kernel, tables: set[tuple[str, str]], findings: list[str]) -> None:
    """Fill in what iptables-save says, of each family and of both ways in which the kernel keeps such rules.

    Asks only for what there is: reading old tables with the tool for them would load them.

    Args:
        module: of the caller.
        kernel: to fill in.
        tables: family and name of each table of nftables.
        findings: to add to.
    """
    problems = []
    for name, legacy_tables in _LEGACY_TABLES.items():
        has_legacy = bool((node_files.read(legacy_tables, follow=True) or "").strip())
        family = Ruleset(name, {}).family
        has_nft = any((family, table) in tables for table in _TABLES)
        for backend in [*(["nft"] if has_nft else []), *(["legacy"] if has_legacy else [])]:
            try:
                kernel.rulesets.append(read_ruleset(module, _of_backend(module, name, backend)))
            except NodeError as error:
                kernel.unread |= {family}
                problems.append(str(error))
    if problems:
        findings.append(
            "%s. So rules of kube-proxy's cannot be read, and what another mode left there stays: install the package iptables or mend it"
            % "; ".join(problems)
        )


def read_ruleset(module: AnsibleModule, name: str) -> Ruleset:
    """Return what one iptables-save says.

    Args:
        module: of the caller.
        name: of the tool, without -save.

    Raises:
        NodeError: it fails, or leaves a table out.
    """
    text = _output(module, name + "-save")
    hidden = _HIDDEN.findall(text)
    if hidden:
        raise NodeError(
            "%s-save does not show the table %s, in which somebody wrote rules of nft's own ('nft list ruleset' shows them)"
            % (name, " and ".join(hidden))
        )
    return Ruleset(name, proxy_rules.parse_save(text))


def _of_backend(module: AnsibleModule, name: str, backend: str) -> str:
    """Return the tool for one of the two ways; where it is missing it is the one without a suffix, if that is for this way."""
    wanted = "%s-%s" % (name, backend)
    if not tool(wanted + "-save") and tool(name + "-save"):
        is_nft = "nf_tables" in _output(module, name, "--version")
        if is_nft == (backend == "nft"):
            return name
    return wanted


def _output(module: AnsibleModule, name: str, *words: str) -> str:
    path = tool(name)
    if path is None:
        raise NodeError("%s is missing" % name)
    code, out, err = module.run_command([path, *words])
    if code:
        raise NodeError("%s fails: %s" % (" ".join([name, *words]), err.strip() or "exit code %d" % code))
    return str(out)


def _nft_tables() -> set[tuple[str, str]]:
    """Return family (C(ip), C(ip6)) and name of each table of nftables (linux/netfilter/nf_tables.h, NFT_MSG_GETTABLE)."""
    families: dict[int, str] = {socket.AF_INET: "ip", socket.AF_INET6: "ip6"}
    found: set[tuple[str, str]] = set()
    try:
        with contextlib.closing(socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETFILTER)) as link:
            link.settimeout(5)
            link.bind((0, 0))
            link.send(struct.pack("=IHHIIBBH", 20, _GET_TABLE, _DUMP, 1, 0, 0, 0, 0))
            while True:
                data = link.recv(1 << 16)
                at = 0
                while at < len(data):
                    length, kind = struct.unpack_from("=IH", data, at)
                    if kind == _DONE:
                        return found
                    if kind == _ERROR:
                        code = -struct.unpack_from("=i", data, at + 16)[0]
                        raise OSError(code, os.strerror(code))
                    attributes = _attributes(data[at + 20 : at + length])
                    found.add((families.get(data[at + 16], ""), attributes.get(_NAME, b"").rstrip(b"\0").decode("utf-8", "replace")))
                    at += length + 3 & ~3
    except OSError as error:
        if error.errno in (errno.EPROTONOSUPPORT, errno.EAFNOSUPPORT, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOENT):
            # A kernel without nftables.
            return set()
        raise NodeError("the kernel does not tell its nftables tables: %s" % error) from error


def _attributes(data: bytes) -> dict[int, bytes]:
    found = {}
    at = 0
    while at + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, at)
        found[kind & 0x3FFF] = data[at + 4 : at + length]
        at += max(length, 4) + 3 & ~3
    return found


def strict_snap() -> bool:
    """Tell whether MicroK8s is the strictly confined snap, which cannot run programs of the node."""
    return bool(re.search(r"^confinement:\s*['\"]?strict", node_files.read(microk8s.SNAP_YAML, follow=True) or "", re.MULTILINE))
