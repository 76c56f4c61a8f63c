"""What kube-proxy puts into the kernel in each of its modes, and what of it a mode that is no longer in force left behind. Reads nothing.

The names are those of kubernetes/kubernetes pkg/proxy: cleanup.go and proxier.go of iptables and ipvs, ipset.go of ipvs, proxier.go of
nftables, from 1.20 on. Only these names count, no prefix alone: K3s' network policies are chains such as KUBE-NWPLCY-* and KUBE-POD-FW-*
and sets such as KUBE-SRC-* (cloudnativelabs/kube-router pkg/controllers/netpol), which no kube-proxy would put back.
"""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from typing import Iterable, Mapping, Sequence, Tuple, Union

Network = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]

DUMMY = "kube-ipvs0"
"""The interface that holds the addresses of Services in mode ipvs."""
NFT_TABLE = "kube-proxy"

_IPTABLES, _IPVS = frozenset({"iptables"}), frozenset({"ipvs"})
_BOTH = _IPTABLES | _IPVS

ChainKey = Tuple[str, str]
"""Table and chain."""

CHAINS: Mapping[ChainKey, frozenset[str]] = {
    ("nat", "KUBE-SERVICES"): _BOTH,
    ("nat", "KUBE-POSTROUTING"): _BOTH,
    ("nat", "KUBE-MARK-MASQ"): _BOTH,
    ("nat", "KUBE-NODEPORTS"): _IPTABLES,
    ("nat", "KUBE-PROXY-CANARY"): _IPTABLES,
    ("nat", "KUBE-NODE-PORT"): _IPVS,
    ("nat", "KUBE-LOAD-BALANCER"): _IPVS,
    # Until 1.24 (kubernetes#110628), and with two hyphens until 1.10 (kubernetes#62712). That of the table filter is the kubelet's.
    ("nat", "KUBE-FIREWALL"): _IPVS,
    ("nat", "KUBE-FIRE-WALL"): _IPVS,
    ("filter", "KUBE-FORWARD"): _BOTH,
    # In both since 1.25 (kubernetes#110289, #110628), with jumps of their own.
    ("filter", "KUBE-PROXY-FIREWALL"): _BOTH,
    # With rules that reject what goes to a Service without endpoints: left behind, they would reject it for ever.
    ("filter", "KUBE-SERVICES"): _IPTABLES,
    ("filter", "KUBE-EXTERNAL-SERVICES"): _IPTABLES,
    # For health checks, since 1.21.
    ("filter", "KUBE-NODEPORTS"): _IPTABLES,
    ("filter", "KUBE-PROXY-CANARY"): _IPTABLES,
    # For health checks, too (kubernetes#109286).
    ("filter", "KUBE-NODE-PORT"): _IPVS,
    # Since 1.25 (kubernetes#110628).
    ("filter", "KUBE-SOURCE-RANGES-FIREWALL"): _IPVS,
    # Later ones (kubernetes#108460, #119656).
    ("filter", "KUBE-IPVS-FILTER"): _IPVS,
    ("filter", "KUBE-IPVS-OUT-FILTER"): _IPVS,
    ("mangle", "KUBE-PROXY-CANARY"): _IPTABLES,
}
"""Which modes use a chain. The kubelet's are not here: KUBE-KUBELET-CANARY, KUBE-IPTABLES-HINT, KUBE-MARK-DROP, filter/KUBE-FIREWALL."""

# Of one Service or endpoint each, with 16 digits of base 32: SVC and SEP always, FW for source ranges, XLB until 1.23, since then EXT
# and SVL (kubernetes#109060).
_OF_SERVICES = re.compile(r"KUBE-(?:SVC|SEP|FW|XLB|EXT|SVL)-[A-Z2-7]{16}")

COMMENTS: Mapping[str, frozenset[str]] = {
    "kubernetes service portals": _BOTH,
    "kubernetes postrouting rules": _BOTH,
    "kubernetes forwarding rules": _BOTH,
    "kubernetes externally-visible service portals": _IPTABLES,
    "kubernetes health check service ports": _IPTABLES,
    "kubernetes load balancer firewall": _IPTABLES,
    "kubernetes health check rules": _IPVS,
    "kube-proxy firewall rules": _IPVS,
    "kubernetes ipvs access filter": _IPVS,
}
"""What kube-proxy writes to a jump from a chain of the kernel's own to one of these, and in which modes."""

_SETS = (
    *("KUBE-LOOP-BACK", "KUBE-CLUSTER-IP", "KUBE-EXTERNAL-IP", "KUBE-EXTERNAL-IP-LOCAL"),
    *("KUBE-LOAD-BALANCER", "KUBE-LOAD-BALANCER-LOCAL", "KUBE-LOAD-BALANCER-FW"),
    *("KUBE-LOAD-BALANCER-SOURCE-IP", "KUBE-LOAD-BALANCER-SOURCE-CIDR"),
    *("KUBE-NODE-PORT-TCP", "KUBE-NODE-PORT-LOCAL-TCP", "KUBE-NODE-PORT-UDP", "KUBE-NODE-PORT-LOCAL-UDP"),
    *("KUBE-NODE-PORT-SCTP-HASH", "KUBE-NODE-PORT-LOCAL-SCTP-HASH", "KUBE-HEALTH-CHECK-NODE-PORT"),
    # Together with KUBE-IPVS-FILTER.
    "KUBE-IPVS-IPS",
)
# Those of IPv6, whose names the kernel cuts at 31 characters (pkg/proxy/ipvs/ipset.go, NewIPSet).
IPSETS: frozenset[str] = frozenset(_SETS) | {name.replace("KUBE-", "KUBE-6-", 1)[:31] for name in _SETS}
_PORTS_SET = re.compile(r"KUBE-(?:6-)?NODE-PORT-(?:LOCAL-)?(TCP|UDP|SCTP)")
_SERVICES_SET = re.compile(r"KUBE-(?:6-)?(?:CLUSTER-IP|EXTERNAL-IP(?:-LOCAL)?|LOAD-BALANCER)")

_BUILT_IN = frozenset({"PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"})
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')
_TARGET = re.compile(r" -[jg] (\S+)")
_COMMENT = re.compile(r" --comment (\"(?:[^\"\\]|\\.)*\"|\S+)")
_MATCHED_SET = re.compile(r" --match-set (\S+)")
_SERVICES = ("nat", "KUBE-SERVICES")
_WRITTEN = {
    "iptables": re.compile(r" -j KUBE-(?:NODEPORTS|SVC-|EXT-)"),
    "ipvs": re.compile(r" -j KUBE-NODE-PORT\b| --match-set KUBE-(?:6-)?CLUSTER-IP "),
}
_SERVICE = re.compile(r"(TCP|UDP|SCTP)\s+(?:([0-9A-F]{8})|\[([0-9a-fA-F:]+)\]):([0-9A-F]{4})\s+(\S+)")
_MARK = re.compile(r"FWM\s+([0-9A-F]{8})\s+(\S+)")


@dataclass(frozen=True)
class VirtualService:
    """A virtual service of the kernel's ipvs."""

    protocol: str
    """C(TCP), C(UDP), C(SCTP), or C(FWM) for one of packets with a mark."""
    address: str
    """In its short form; empty for C(FWM)."""
    port: int
    """The mark of C(FWM)."""
    scheduler: str = ""

    @property
    def family(self) -> str:
        """C(ip) or C(ip6), as nftables has it; for one of marked packets C(ip)."""
        return "ip6" if ":" in self.address else "ip"

    @property
    def place(self) -> str:
        """Address and port as ipvsadm takes them."""
        if not self.address:
            return str(self.port)
        return ("[%s]:%d" if ":" in self.address else "%s:%d") % (self.address, self.port)

    def __str__(self) -> str:
        return "%s %s" % (self.protocol, self.place)


@dataclass(frozen=True)
class Ruleset:
    """What one iptables-save says."""

    tool: str
    """The name before -save and -restore, such as C(ip6tables-nft)."""
    chains: Mapping[ChainKey, list[str]]
    """The rules of each chain as they are saved, the kernel's own chains included."""

    @property
    def family(self) -> str:
        """C(ip) or C(ip6)."""
        return "ip6" if self.tool.startswith("ip6") else "ip"


@dataclass
class Kernel:
    """What there is of kube-proxy, and beside it, in a node's kernel."""

    rulesets: list[Ruleset] = field(default_factory=list)
    unread: frozenset[str] = frozenset()
    """Families (C(ip), C(ip6)) with rules of iptables that could not be read."""
    services: list[VirtualService] = field(default_factory=list)
    has_dummy: bool = False
    bound: frozenset[str] = frozenset()
    """Addresses on C(DUMMY)."""
    own: frozenset[str] = frozenset()
    """Addresses of the node on other interfaces; one may be on both."""
    sets: Mapping[str, list[str]] = field(default_factory=dict)
    """Members of every ipset that kube-proxy may have made."""
    has_unread_sets: bool = False
    """Whether there may be ipsets that could not be read."""
    families: list[str] = field(default_factory=list)
    """Families of nftables (C(ip), C(ip6)) with a table of kube-proxy."""
    family: str = "ip"
    """Of the node's address. The other one may have next to no rules, and says nothing about whether kube-proxy works."""


@dataclass
class Removal:
    """What has to go of one ruleset."""

    ruleset: Ruleset
    chains: list[ChainKey] = field(default_factory=list)
    jumps: list[tuple[str, str]] = field(default_factory=list)
    """Table and rule: kube-proxy's own rules that lead to these chains, in chains that stay."""
    stale: list[tuple[str, str]] = field(default_factory=list)
    """The same, to chains that stay, too, as another mode writes them."""

    def text(self) -> str:
        """Return what iptables-restore --noflush has to read: all of a table happens at once, or nothing."""
        lines = []
        for table in sorted({table for table, _ in self.chains} | {table for table, _ in self.jumps + self.stale}):
            mine = [name for of, name in self.chains if of == table]
            lines.append("*" + table)
            # A chain that is declared is emptied, so that no chain is in use any more when it goes.
            lines += [":%s - [0:0]" % name for name in mine]
            lines += ["-D" + rule[len("-A") :] for of, rule in self.jumps + self.stale if of == table]
            lines += ["-X " + name for name in mine]
            lines.append("COMMIT")
        return "".join(line + "\n" for line in lines)


@dataclass
class Leftovers:
    """What modes that are not in force left behind."""

    services: list[VirtualService] = field(default_factory=list)
    dummy: bool = False
    removals: list[Removal] = field(default_factory=list)
    sets: list[str] = field(default_factory=list)
    families: list[str] = field(default_factory=list)
    foreign: list[VirtualService] = field(default_factory=list)
    """Virtual services that are somebody else's."""
    findings: list[str] = field(default_factory=list)

    def kinds(self) -> dict[str, list[str]]:
        """Return each kind of what was left, with one line for each thing; a kind with nothing is left out."""
        found: dict[str, list[str]] = {
            "ipvs virtual services": ["%s %s" % (service, service.scheduler) for service in self.services],
            "ipvs interface": [DUMMY] if self.dummy else [],
        }
        for removal in self.removals:
            for key in removal.chains:
                rules = len(removal.ruleset.chains[key])
                line = "%s %s/%s (%d rule%s)" % (removal.ruleset.tool, *key, rules, "" if rules == 1 else "s")
                found.setdefault("%s chains" % " and ".join(sorted(_modes(key))), []).append(line)
            lines = ["%s %s %s" % (removal.ruleset.tool, table, rule) for table, rule in removal.stale]
            found.setdefault("jumps of another mode", []).extend(lines)
        found["ipvs ipsets"] = list(self.sets)
        found["nftables tables"] = ["table %s %s" % (family, NFT_TABLE) for family in self.families]
        return {kind: lines for kind, lines in found.items() if lines}


def parse_save(text: str) -> dict[ChainKey, list[str]]:
    """Return the rules of each chain out of what iptables-save printed."""
    chains: dict[ChainKey, list[str]] = {}
    table = ""
    for line in text.splitlines():
        if line.startswith("*"):
            table = line[1:].strip()
        elif line.startswith(":"):
            chains.setdefault((table, line[1:].split(" ", 1)[0]), [])
        elif line.startswith("-A "):
            chains.setdefault((table, line.split(" ", 2)[1]), []).append(line)
    return chains


def parse_services(text: str) -> list[VirtualService]:
    """Return the virtual services of /proc/net/ip_vs, whose numbers are hexadecimal (net/netfilter/ipvs/ip_vs_ctl.c)."""
    found = []
    for line in text.splitlines():
        service = _SERVICE.match(line)
        if service:
            protocol, short, long, port, scheduler = service.groups()
            address = ipaddress.ip_address(int(short, 16)) if short else ipaddress.ip_address(long)
            found.append(VirtualService(protocol, str(address), int(port, 16), scheduler))
        else:
            mark = _MARK.match(line)
            if mark:
                found.append(VirtualService("FWM", "", int(mark.group(1), 16), mark.group(2)))
    return found


def parse_addresses(text: str) -> dict[str, set[str]]:
    """Return the interfaces of each address out of what C(ip -oneline address) printed."""
    found: dict[str, set[str]] = {}
    for line in text.splitlines():
        words = line.split()
        if len(words) > 3 and words[2] in ("inet", "inet6"):
            found.setdefault(str(ipaddress.ip_address(words[3].split("/")[0])), set()).add(words[1].split("@")[0])
    return found


def parse_sets(text: str) -> dict[str, list[str]]:
    """Return the members of those sets of C(ipset save) that are named as kube-proxy's."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        words = line.split(" ", 3)
        if len(words) > 2 and words[1] in IPSETS:
            members = found.setdefault(words[1], [])
            if words[0] == "add":
                members.append(words[2])
    return found


def is_empty(kernel: Kernel) -> bool:
    """Tell whether there is nothing of kube-proxy at all."""
    return not (kernel.has_dummy or kernel.sets or kernel.families or any(_modes(key) for one in kernel.rulesets for key in one.chains))


def present(kernel: Kernel) -> list[str]:
    """Return the modes of which there is something that no other mode has."""
    found = {mode for one in kernel.rulesets for key in one.chains for mode in _modes(key) if len(_modes(key)) == 1}
    if kernel.has_dummy or kernel.sets:
        found.add("ipvs")
    if kernel.families:
        found.add("nftables")
    return sorted(found)


def works(mode: str, kernel: Kernel) -> bool:
    """Tell whether the rules of a mode are there for the family of the node's address, as far as rules can be read."""
    return kernel.family in written(mode, kernel) or (kernel.family in kernel.unread and mode != "nftables")


def is_settled(mode: str, kernel: Kernel) -> bool:
    """Tell whether the rules of a mode are in force, as far as rules can be read: wherever there are rules for Services.

    kube-proxy says its mode before it has written its first rule (cmd/kube-proxy/app/server.go, Run), and until then those of the mode
    before carry the requests. It writes one family after the other. Where both backends of iptables have rules, those of one may be
    old: kube-proxy will not write there, and only C(works) tells.
    """
    if mode == "nftables":
        waiting = _with_services(kernel) - written(mode, kernel)
    else:
        readable = (one for one in kernel.rulesets if one.family not in kernel.unread)
        waiting = frozenset(one.family for one in readable if one.chains.get(_SERVICES) and not _is_written(mode, one))
    return works(mode, kernel) and not waiting


def pending(mode: str, kernel: Kernel) -> frozenset[str]:
    """Return the families of which nobody can say that the rules of a mode are in force."""
    return (_with_services(kernel) | kernel.unread) - written(mode, kernel)


def _with_services(kernel: Kernel) -> frozenset[str]:
    return frozenset(one.family for one in kernel.rulesets if one.chains.get(_SERVICES))


def _is_written(mode: str, ruleset: Ruleset) -> bool:
    return any(map(_WRITTEN[mode].search, ruleset.chains.get(_SERVICES, ())))


def written(mode: str, kernel: Kernel) -> frozenset[str]:
    """Return the families with rules of a mode. Of the two backends of iptables kube-proxy uses one."""
    if mode == "nftables":
        return frozenset(kernel.families)
    return frozenset(one.family for one in kernel.rulesets if _is_written(mode, one))


def leftovers(mode: str, kernel: Kernel, excluded: Sequence[Network] = ()) -> Leftovers:
    """Return what has to go, but for families in which the mode is not in force yet.

    Args:
        mode: the one that is in force, and has written its rules for the family of the node's address.
        kernel: what there is.
        excluded: networks whose virtual services kube-proxy leaves alone.
    """
    found = Leftovers()
    staying = []
    waiting = pending(mode, kernel)
    if waiting - kernel.unread:
        found.findings.append(
            "kube-proxy says that it works with %s, and has not written rules of that mode for %s. So there those of another mode stay: "
            "look into its log" % (mode, " and ".join({"ip": "IPv4", "ip6": "IPv6"}[family] for family in sorted(waiting - kernel.unread)))
        )
    for ruleset in kernel.rulesets:
        removal = Removal(ruleset)
        if ruleset.family not in waiting:
            removal, findings = removal_of(mode, ruleset)
            found.findings += findings
        if removal.chains or removal.stale:
            found.removals.append(removal)
        going = set(removal.chains)
        staying += [rule for key, rules in ruleset.chains.items() if key not in going for rule in rules]
    if mode != "ipvs":
        ours = set(our_services(kernel, excluded))
        found.services = [service for service in kernel.services if service in ours and service.family not in waiting]
        found.foreign = [service for service in kernel.services if service not in ours]
        # The interface is what tells that there was mode ipvs, until the ipsets can be read.
        found.dummy = kernel.has_dummy and not waiting and not unsure_services(kernel, excluded)
        used = {name for rule in staying for name in _MATCHED_SET.findall(rule)}
        # Rules that cannot be read may use them.
        sets = [name for name in kernel.sets if _family_of_set(name) not in waiting | kernel.unread]
        found.sets = sorted(name for name in sets if name not in used)
        kept = sorted(name for name in sets if name in used)
        if kept:
            found.findings.append(
                "the ipsets %s, which kube-proxy's mode ipvs left behind, stay, since rules that stay use them: "
                "'iptables-save | grep match-set' shows these" % ", ".join(kept)
            )
    if mode != "nftables":
        found.families = [family for family in kernel.families if family not in waiting]
    return found


def our_services(kernel: Kernel, excluded: Sequence[Network] = ()) -> list[VirtualService]:
    """Return the virtual services that kube-proxy has made, and not for instance keepalived.

    These are of an address that kube-proxy has put on its interface, or of a node port at an address of the node. An address may be on
    its interface and on another one, such as a VIP of keepalived's that is an external address of a Service, too: there only the ports
    in kube-proxy's ipsets are its own. Rules of iptables and nftables tell nothing: a Service of these modes may have the address and
    port of a virtual service that is somebody else's.

    Args:
        kernel: what there is.
        excluded: networks whose virtual services kube-proxy leaves alone.
    """
    ports = {
        (named.group(1), member.rsplit(":", 1)[-1])
        for name, members in kernel.sets.items()
        for named in [_PORTS_SET.match(name)]
        if named
        for member in members
    }
    members = {_service_of(member) for name, found in kernel.sets.items() if _SERVICES_SET.fullmatch(name) for member in found}

    def is_ours(service: VirtualService) -> bool:
        if _is_foreign(service, excluded):
            return False
        port = (service.protocol, str(service.port))
        if service.address not in kernel.own:
            return service.address in kernel.bound
        return port in ports or (service.address in kernel.bound and (service.address, *port) in members)

    return [service for service in kernel.services if is_ours(service)]


def unsure_services(kernel: Kernel, excluded: Sequence[Network] = ()) -> list[VirtualService]:
    """Return the virtual services that may be of node ports of mode ipvs, which only the ipsets would tell."""
    is_unsure = kernel.has_dummy and kernel.has_unread_sets
    return [one for one in kernel.services if is_unsure and one.address in kernel.own and not _is_foreign(one, excluded)]


def _is_foreign(service: VirtualService, excluded: Sequence[Network]) -> bool:
    return not service.address or any(ipaddress.ip_address(service.address) in network for network in excluded)


def _service_of(member: str) -> tuple[str, str, str]:
    """Return address, protocol and port of C(192.0.2.10,tcp:80)."""
    address, _, rest = member.partition(",")
    protocol, _, port = rest.partition(":")
    return address, protocol.upper(), port


def _family_of_set(name: str) -> str:
    return "ip6" if name.startswith("KUBE-6-") else "ip"


def _modes(key: ChainKey) -> frozenset[str]:
    """Return the modes that use a chain, none where it is not kube-proxy's."""
    found = CHAINS.get(key)
    if found is None:
        found = _IPTABLES if key[0] == "nat" and _OF_SERVICES.fullmatch(key[1]) else frozenset()
    return found


def _target(rule: str) -> str:
    found = _TARGET.search(_QUOTED.sub('""', rule))
    return found.group(1) if found else ""


def _jump_of(rule: str) -> frozenset[str]:
    """Return the modes in which kube-proxy writes this jump, none where it does not."""
    found = _COMMENT.search(rule)
    return COMMENTS.get(found.group(1).strip('"'), frozenset()) if found else frozenset()


def removal_of(mode: str, ruleset: Ruleset) -> tuple[Removal, list[str]]:
    """Return what has to go of one ruleset, and what somebody else's rules keep."""
    going = {key for key in ruleset.chains if _modes(key) and mode not in _modes(key)}
    jumps: dict[ChainKey, list[str]] = {}
    stale: list[tuple[str, str]] = []
    users: dict[ChainKey, str] = {}
    for (table, chain), rules in ruleset.chains.items():
        for rule in rules if (table, chain) not in going else ():
            target = (table, _target(rule))
            modes = _jump_of(rule) if chain in _BUILT_IN else frozenset()
            if target in going:
                # In a chain of its own kube-proxy itself wrote it, in the mode before.
                if modes or _modes((table, chain)):
                    jumps.setdefault(target, []).append(rule)
                else:
                    users.setdefault(target, rule)
            elif modes and mode not in modes and _modes(target):
                stale.append((table, rule))
    kept = _kept(ruleset, going, set(users))
    removal = Removal(ruleset, sorted(going - kept), stale=stale)
    removal.jumps = [(key[0], rule) for key in removal.chains for rule in jumps.get(key, ())]
    findings = [
        "the chain %s of the table %s, which a mode of kube-proxy left behind, stays: the rule '%s' uses it, and is not kube-proxy's. "
        "Remove that rule, or point it elsewhere" % (key[1], key[0], rule)
        for key, rule in sorted(users.items())
    ]
    return removal, findings


def _kept(ruleset: Ruleset, going: Iterable[ChainKey], used: Iterable[ChainKey]) -> frozenset[ChainKey]:
    """Return the chains that stay since somebody else uses them, and those that they use themselves."""
    candidates = set(going)
    kept, waiting = set(), list(used)
    while waiting:
        key = waiting.pop()
        if key not in kept and key in candidates:
            kept.add(key)
            waiting += [(key[0], _target(rule)) for rule in ruleset.chains[key]]
            if key == ("nat", "KUBE-MARK-MASQ"):
                # Whoever marks a packet there wants it masqueraded here (portmap of the CNI plugins, externalSetMarkChain).
                waiting.append(("nat", "KUBE-POSTROUTING"))
    return frozenset(kept)


def as_lines(kinds: Mapping[str, list[str]], most: int = 20) -> str:
    """Return the text of a diff: each thing on a line, of each kind so many at most."""
    lines = []
    for kind, found in kinds.items():
        lines += ["%s: %s" % (kind, line) for line in found[:most]]
        if len(found) > most:
            lines.append("%s: and %d more" % (kind, len(found) - most))
    return "".join(line + "\n" for line in lines)
