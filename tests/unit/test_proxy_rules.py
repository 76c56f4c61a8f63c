"""What a mode of kube-proxy leaves behind: found, told apart from what is somebody else's, and removed in one go.

The texts are what iptables-save printed on a node where kube-proxy 1.20.2 and a kubelet ran, what iptables-save and ipset print after
rules of mode ipvs, and what the kernel writes to /proc/net/ip_vs.
"""

import http.server
import os
import pathlib
import shutil
import subprocess
import threading
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubekeel.ha.plugins.module_utils import (
    distribution,
    modprobe_files,
    node_files,
    proxy_mode,
    proxy_node,
    proxy_rules,
    running_kernel,
    systemd,
)
from ansible_collections.kubekeel.ha.plugins.module_utils.node_files import NodeError
from ansible_collections.kubekeel.ha.plugins.module_utils.proxy_rules import Kernel, Ruleset, VirtualService
from ansible_collections.kubekeel.ha.plugins.modules import kernel_modules, kube_proxy_rules, kube_proxy_support

from .conftest import RunModule

IPTABLES = """\
*mangle
:PREROUTING ACCEPT [0:0]
:KUBE-KUBELET-CANARY - [0:0]
:KUBE-PROXY-CANARY - [0:0]
COMMIT
*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:KUBE-EXTERNAL-SERVICES - [0:0]
:KUBE-FIREWALL - [0:0]
:KUBE-FORWARD - [0:0]
:KUBE-KUBELET-CANARY - [0:0]
:KUBE-PROXY-CANARY - [0:0]
:KUBE-SERVICES - [0:0]
-A INPUT -m conntrack --ctstate NEW -m comment --comment "kubernetes externally-visible service portals" -j KUBE-EXTERNAL-SERVICES
-A INPUT -j KUBE-FIREWALL
-A FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD
-A FORWARD -m conntrack --ctstate NEW -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A FORWARD -m conntrack --ctstate NEW -m comment --comment "kubernetes externally-visible service portals" -j KUBE-EXTERNAL-SERVICES
-A OUTPUT -m conntrack --ctstate NEW -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A OUTPUT -j KUBE-FIREWALL
-A KUBE-FIREWALL -m comment --comment "kubernetes firewall for dropping marked packets" -m mark --mark 0x8000/0x8000 -j DROP
-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
-A KUBE-FORWARD -m comment --comment "kubernetes forwarding rules" -m mark --mark 0x4000/0x4000 -j ACCEPT
COMMIT
*nat
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:KUBE-KUBELET-CANARY - [0:0]
:KUBE-MARK-DROP - [0:0]
:KUBE-MARK-MASQ - [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-PROXY-CANARY - [0:0]
:KUBE-SEP-2AZOFNXQK6EXHBXM - [0:0]
:KUBE-SEP-KMN56NS3WUQ3F5BI - [0:0]
:KUBE-SERVICES - [0:0]
:KUBE-SVC-LOLE4ISW44XBNF3G - [0:0]
-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING
-A KUBE-MARK-DROP -j MARK --set-xmark 0x8000/0x8000
-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000
-A KUBE-NODEPORTS -p tcp -m comment --comment "default/web" -m tcp --dport 30080 -j KUBE-SVC-LOLE4ISW44XBNF3G
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0
-A KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully
-A KUBE-SEP-2AZOFNXQK6EXHBXM -s 10.1.1.2/32 -m comment --comment "default/web" -j KUBE-MARK-MASQ
-A KUBE-SEP-2AZOFNXQK6EXHBXM -p tcp -m comment --comment "default/web" -m tcp -j DNAT --to-destination 10.1.1.2:8080
-A KUBE-SEP-KMN56NS3WUQ3F5BI -s 10.1.3.2/32 -m comment --comment "default/web" -j KUBE-MARK-MASQ
-A KUBE-SEP-KMN56NS3WUQ3F5BI -p tcp -m comment --comment "default/web" -m tcp -j DNAT --to-destination 10.1.3.2:8080
-A KUBE-SERVICES ! -s 10.1.0.0/16 -d 10.152.183.80/32 -p tcp -m comment --comment "default/web cluster IP" -m tcp --dport 80 -j KUBE-MARK-MASQ
-A KUBE-SERVICES -d 10.152.183.80/32 -p tcp -m comment --comment "default/web cluster IP" -m tcp --dport 80 -j KUBE-SVC-LOLE4ISW44XBNF3G
-A KUBE-SERVICES -m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule in this chain" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS
-A KUBE-SVC-LOLE4ISW44XBNF3G -m comment --comment "default/web" -m statistic --mode random --probability 0.50000000000 -j KUBE-SEP-2AZOFNXQK6EXHBXM
-A KUBE-SVC-LOLE4ISW44XBNF3G -m comment --comment "default/web" -j KUBE-SEP-KMN56NS3WUQ3F5BI
COMMIT
"""  # noqa: E501

IPVS = """\
*nat
:PREROUTING ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:KUBE-FIREWALL - [0:0]
:KUBE-LOAD-BALANCER - [0:0]
:KUBE-MARK-DROP - [0:0]
:KUBE-MARK-MASQ - [0:0]
:KUBE-NODE-PORT - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-SERVICES - [0:0]
-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING
-A KUBE-FIREWALL -j KUBE-MARK-DROP
-A KUBE-LOAD-BALANCER -j KUBE-MARK-MASQ
-A KUBE-MARK-DROP -j MARK --set-xmark 0x8000/0x8000
-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000
-A KUBE-NODE-PORT -p tcp -m comment --comment "Kubernetes nodeport TCP port for masquerade purpose" -m set --match-set KUBE-NODE-PORT-TCP dst -j KUBE-MARK-MASQ
-A KUBE-POSTROUTING -m comment --comment "Kubernetes endpoints dst ip:port, source ip for solving hairpin purpose" -m set --match-set KUBE-LOOP-BACK dst,dst,src -j MASQUERADE
-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODE-PORT
-A KUBE-SERVICES -m set --match-set KUBE-CLUSTER-IP dst,dst -j ACCEPT
COMMIT
*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:KUBE-FORWARD - [0:0]
:KUBE-NODE-PORT - [0:0]
-A INPUT -m comment --comment "kubernetes health check rules" -j KUBE-NODE-PORT
-A FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD
-A KUBE-NODE-PORT -m comment --comment "Kubernetes health check node port" -m set --match-set KUBE-HEALTH-CHECK-NODE-PORT dst -j ACCEPT
COMMIT
"""  # noqa: E501

SETS = """\
create KUBE-LOOP-BACK hash:ip,port,ip family inet hashsize 1024 maxelem 65536 bucketsize 12 initval 0x0a2dd2f5
add KUBE-LOOP-BACK 10.1.7.2,tcp:8080,10.1.7.2
create KUBE-CLUSTER-IP hash:ip,port family inet hashsize 1024 maxelem 65536 bucketsize 12 initval 0x31b8b9c7
add KUBE-CLUSTER-IP 10.152.183.80,tcp:80
create KUBE-NODE-PORT-TCP bitmap:port range 0-65535
add KUBE-NODE-PORT-TCP 30080
create KUBE-NODE-PORT-SCTP-HASH hash:ip,port family inet hashsize 1024 maxelem 65536 bucketsize 12 initval 0x7d9a2d1c
add KUBE-NODE-PORT-SCTP-HASH 10.0.2.15,sctp:30132
create KUBE-6-NODE-PORT-LOCAL-SCTP-HAS hash:ip,port family inet6 hashsize 1024 maxelem 65536 bucketsize 12 initval 0x5f4c8f3c
create KUBE-SRC-4SSVTOOCWTZPB4VQ hash:ip family inet hashsize 1024 maxelem 65536 bucketsize 12 initval 0x4c2b8d27
add KUBE-SRC-4SSVTOOCWTZPB4VQ 10.42.0.7
create allowed hash:net family inet hashsize 1024 maxelem 65536 bucketsize 12 initval 0x2b0a0b5c
"""

# The Service, its node port at two addresses of the node, one of IPv6, and of keepalived: one of an address, one of marked packets.
SERVICES = """\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port Forward Weight ActiveConn InActConn
TCP  0A98B750:0050 rr 
  -> 0A010702:1F90      Masq    1      0          0         
  -> 0A010703:1F90      Masq    1      0          0         
TCP  0A00020F:7580 rr 
UDP  0A00020F:7580 rr 
SCTP  0A00020F:75B4 rr 
TCP  [fd98:0000:0000:0000:0000:0000:0000:0050]:0050 rr persistent 10800 FFFFFFFF
TCP  C000020A:01BB wlc 
FWM  00000001 wrr 
"""  # noqa: W291

ADDRESSES = """\
1: lo    inet 127.0.0.1/8 scope host lo\\       valid_lft forever preferred_lft forever
2: eth0    inet 10.0.2.15/24 brd 10.0.2.255 scope global eth0\\       valid_lft forever preferred_lft forever
2: eth0    inet 192.0.2.10/32 scope global eth0\\       valid_lft forever preferred_lft forever
2: eth0    inet6 fe80::4c2f:7aff:fed2:8e6c/64 scope link \\       valid_lft forever preferred_lft forever
5: kube-ipvs0    inet 10.152.183.80/32 scope global kube-ipvs0\\       valid_lft forever preferred_lft forever
6: kube-ipvs0    inet6 fd98::50/128 scope global \\       valid_lft forever preferred_lft forever
"""

NETWORK_POLICIES = """\
*filter
:INPUT ACCEPT [0:0]
:KUBE-NWPLCY-DEFAULT - [0:0]
:KUBE-POD-FW-4NQZ5MN5URT3RHBX - [0:0]
:KUBE-ROUTER-INPUT - [0:0]
-A INPUT -m comment --comment "kube-router netpol - 4IA2OSFRMVNDXBVV" -j KUBE-ROUTER-INPUT
-A KUBE-ROUTER-INPUT -m set --match-set KUBE-SRC-4SSVTOOCWTZPB4VQ src -j KUBE-POD-FW-4NQZ5MN5URT3RHBX
-A KUBE-POD-FW-4NQZ5MN5URT3RHBX -j KUBE-NWPLCY-DEFAULT
COMMIT
"""


def rules(*texts: str) -> Ruleset:
    """What is there after one text upon the other went to iptables-restore --noflush: a chain of one's own begins anew."""
    chains: dict[tuple[str, str], list[str]] = {}
    for text in texts:
        for key, found in proxy_rules.parse_save(text).items():
            before = [] if key[1].startswith("KUBE-") else chains.get(key, [])
            chains[key] = before + [rule for rule in found if rule not in before]
    return Ruleset("iptables-nft", chains)


def kernel(*texts: str, ipvs: bool = False, families: tuple[str, ...] = ()) -> Kernel:
    made = Kernel([rules(*texts)], families=list(families))
    if ipvs:
        found = proxy_rules.parse_addresses(ADDRESSES)
        made.services, made.sets, made.has_dummy = proxy_rules.parse_services(SERVICES), proxy_rules.parse_sets(SETS), True
        made.bound = frozenset(address for address, names in found.items() if names == {proxy_rules.DUMMY})
        made.own = frozenset(found) - made.bound
    return made


def two(*texts: str, **more: Any) -> Kernel:
    """A kernel with rules of IPv4, and of IPv6 where there is a second text."""
    return Kernel([Ruleset(tool, rules(text).chains) for tool, text in zip(("iptables-nft", "ip6tables-nft"), texts, strict=False)], **more)


def gone(found: proxy_rules.Leftovers) -> set[str]:
    return {"/".join(key) for removal in found.removals for key in removal.chains}


@pytest.mark.parametrize(("mode", "text"), [("iptables", IPTABLES), ("ipvs", IPVS)])
def test_of_the_mode_in_force_nothing_is_left_over(mode: str, text: str) -> None:
    found = proxy_rules.leftovers(mode, kernel(text, NETWORK_POLICIES))
    assert found.kinds() == {}
    assert found.findings == []


def test_iptables_leaves_its_chains_to_ipvs() -> None:
    assert gone(proxy_rules.leftovers("ipvs", kernel(IPTABLES, IPVS, NETWORK_POLICIES))) == {
        *("filter/KUBE-EXTERNAL-SERVICES", "filter/KUBE-PROXY-CANARY", "filter/KUBE-SERVICES", "mangle/KUBE-PROXY-CANARY"),
        *("nat/KUBE-NODEPORTS", "nat/KUBE-PROXY-CANARY", "nat/KUBE-SVC-LOLE4ISW44XBNF3G"),
        *("nat/KUBE-SEP-2AZOFNXQK6EXHBXM", "nat/KUBE-SEP-KMN56NS3WUQ3F5BI"),
    }


def test_to_nftables_both_leave_all_but_what_is_the_kubelet_s() -> None:
    one = kernel(IPTABLES, IPVS, NETWORK_POLICIES, families=("ip",))
    found = proxy_rules.leftovers("nftables", one)
    kept = {"/".join(key) for key in one.rulesets[0].chains if "KUBE" in key[1]} - gone(found)
    assert kept == {
        *(
            "mangle/KUBE-KUBELET-CANARY",
            "filter/KUBE-KUBELET-CANARY",
            "nat/KUBE-KUBELET-CANARY",
            "filter/KUBE-FIREWALL",
            "nat/KUBE-MARK-DROP",
        ),
        *("filter/KUBE-NWPLCY-DEFAULT", "filter/KUBE-POD-FW-4NQZ5MN5URT3RHBX", "filter/KUBE-ROUTER-INPUT"),
    }
    assert found.findings == []


@pytest.mark.parametrize(
    "name", ["KUBE-XLB-LOLE4ISW44XBNF3G", "KUBE-EXT-LOLE4ISW44XBNF3G", "KUBE-SVL-LOLE4ISW44XBNF3G", "KUBE-FW-LOLE4ISW44XBNF3G"]
)
def test_chains_of_services_in_later_and_earlier_releases(name: str) -> None:
    text = IPVS.replace(":KUBE-SERVICES", f":{name} - [0:0]\n:KUBE-SERVICES")
    assert gone(proxy_rules.leftovers("ipvs", kernel(text))) == {f"nat/{name}"}


def test_a_chain_that_somebody_else_uses_stays_with_all_that_it_needs() -> None:
    theirs = "*nat\n:CNI-HOSTPORT-SETMARK - [0:0]\n-A CNI-HOSTPORT-SETMARK -m mark --mark 0x2000/0x2000 -j KUBE-MARK-MASQ\nCOMMIT\n"
    mine = '*nat\n:OUTPUT ACCEPT [0:0]\n-A OUTPUT -p tcp -m comment --comment "my own -j KUBE-SEP" -j KUBE-SVC-LOLE4ISW44XBNF3G\nCOMMIT\n'
    found = proxy_rules.leftovers("nftables", kernel(IPTABLES, theirs, mine, families=("ip",)))
    kept = {
        *("nat/KUBE-MARK-MASQ", "nat/KUBE-POSTROUTING", "nat/KUBE-SVC-LOLE4ISW44XBNF3G"),
        *("nat/KUBE-SEP-2AZOFNXQK6EXHBXM", "nat/KUBE-SEP-KMN56NS3WUQ3F5BI"),
    }
    assert gone(found) == gone(proxy_rules.leftovers("nftables", kernel(IPTABLES, families=("ip",)))) - kept
    jumps = [rule for removal in found.removals for _, rule in removal.jumps]
    assert not [rule for rule in jumps if "KUBE-POSTROUTING" in rule or "my own" in rule]
    assert [text.split(",")[0] for text in found.findings] == [
        "the chain KUBE-MARK-MASQ of the table nat",
        "the chain KUBE-SVC-LOLE4ISW44XBNF3G of the table nat",
    ]
    assert "-A CNI-HOSTPORT-SETMARK" in found.findings[0]


def test_the_jumps_of_another_mode_to_a_chain_that_both_have_go() -> None:
    jumps = (
        '-A INPUT -m comment --comment "kube-proxy firewall rules" -j KUBE-PROXY-FIREWALL\n'
        '-A OUTPUT -m conntrack --ctstate NEW -m comment --comment "kubernetes load balancer firewall" -j KUBE-PROXY-FIREWALL\n'
    )
    text = IPVS.replace("-A INPUT", ":KUBE-PROXY-FIREWALL - [0:0]\n" + jumps + "-A INPUT")
    (removal,) = proxy_rules.leftovers("ipvs", kernel(text)).removals
    assert removal.text() == "*filter\n-D" + jumps.splitlines()[1][2:] + "\nCOMMIT\n"


@pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("iptables-nft-restore"), reason="takes root and iptables, in a network namespace of its own"
)
@pytest.mark.parametrize(("left", "now", "mode"), [(IPTABLES, IPVS, "ipvs"), (IPVS, IPTABLES, "iptables"), (IPTABLES, IPVS, "nftables")])
def test_the_kernel_takes_it_in_one_go(left: str, now: str, mode: str, tmp_path: pathlib.Path) -> None:
    """Rules with ipsets are left out, since the sets would have to be there."""

    def after(*texts: str) -> dict[tuple[str, str], list[str]]:
        steps = []
        for number, text in enumerate(texts):
            path = tmp_path / str(number)
            path.write_text("".join(line + "\n" for line in text.splitlines() if "--match-set" not in line))
            steps.append(f"iptables-nft-restore --noflush {path}")
        command = " && ".join([*steps, "iptables-nft-save"])
        done = subprocess.run(["unshare", "--net", "sh", "-c", command], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return proxy_rules.parse_save(done.stdout)

    there = [left, NETWORK_POLICIES, now]
    before = after(*there)
    (removal,) = proxy_rules.leftovers(mode, Kernel([Ruleset("iptables-nft", before)], families=["ip"])).removals
    jumps = [rule for _, rule in removal.jumps + removal.stale]
    expected = {key: [rule for rule in found if rule not in jumps] for key, found in before.items() if key not in removal.chains}
    assert after(*there, removal.text()) == expected
    assert ("nat", "KUBE-MARK-DROP") in expected


def test_the_kernel_s_list_of_virtual_services() -> None:
    found = proxy_rules.parse_services(SERVICES)
    assert [str(service) for service in found] == [
        *("TCP 10.152.183.80:80", "TCP 10.0.2.15:30080", "UDP 10.0.2.15:30080", "SCTP 10.0.2.15:30132", "TCP [fd98::50]:80"),
        *("TCP 192.0.2.10:443", "FWM 1"),
    ]
    assert found[5].scheduler == "wlc"


def test_virtual_services_of_others_stay() -> None:
    found = proxy_rules.leftovers("iptables", kernel(IPTABLES, ipvs=True))
    # The node port of UDP is in no set and in no rule.
    assert [str(one) for one in found.foreign] == ["UDP 10.0.2.15:30080", "TCP 192.0.2.10:443", "FWM 1"]
    assert len(found.services) == 4
    assert found.dummy


# keepalived's: at the node port and at an external address of the Service that kube-proxy's rules of mode iptables have, too.
BALANCER = """\
TCP  C000020A:7580 wlc 
TCP  C000020A:0050 wlc 
"""  # noqa: W291
EXTERNAL = (
    '-A KUBE-SERVICES -d 192.0.2.10/32 -p tcp -m comment --comment "default/web external IP" -m tcp --dport 80 -j KUBE-SVC-LOLE4ISW44XBNF3G'
)


def test_rules_in_force_say_nothing_about_virtual_services() -> None:
    """The node never had mode ipvs: keepalived's VIP may have the port of a node port, or be an external address of a Service."""
    node = kernel(IPTABLES.replace("-A KUBE-SVC-", EXTERNAL + "\n-A KUBE-SVC-", 1), families=("ip",))
    node.services, node.own = proxy_rules.parse_services(BALANCER), frozenset({"192.0.2.10", "10.0.2.15"})
    for mode in ("iptables", "nftables"):
        found = proxy_rules.leftovers(mode, node)
        assert found.services == []
        assert [str(one) for one in found.foreign] == ["TCP 192.0.2.10:30080", "TCP 192.0.2.10:80"]


SHARED = ADDRESSES + "5: kube-ipvs0    inet 192.0.2.10/32 scope global kube-ipvs0\\       valid_lft forever preferred_lft forever\n"


def test_of_an_address_that_is_not_kube_proxy_s_alone_its_ports_alone_are() -> None:
    """keepalived's VIP is an external address of a Service."""
    node = kernel(IPTABLES, ipvs=True)
    found = proxy_rules.parse_addresses(SHARED)
    assert found["192.0.2.10"] == {"eth0", "kube-ipvs0"}
    node.bound, node.own = node.bound | {"192.0.2.10"}, node.own | {"192.0.2.10"}
    vip = proxy_rules.parse_services("TCP  C000020A:403B wlc\nTCP  C000020A:0050 rr\n")
    node.services += vip
    node.sets = {**node.sets, "KUBE-EXTERNAL-IP": ["192.0.2.10,tcp:80"]}
    ours = proxy_rules.our_services(node)
    assert [service in ours for service in vip] == [False, True]
    assert len(ours) == 5


def test_networks_that_kube_proxy_is_told_to_leave_alone_are_foreign() -> None:
    node = kernel(IPTABLES, ipvs=True)
    found = proxy_rules.leftovers("iptables", node, proxy_mode.networks("10.0.2.0/24,fd98::/64"))
    assert [str(one) for one in found.services] == ["TCP 10.152.183.80:80"]


def test_sets_of_kube_proxy_alone_go_and_those_that_a_rule_uses_stay() -> None:
    node = kernel(IPTABLES, ipvs=True)
    found = proxy_rules.leftovers("iptables", node)
    assert found.sets == sorted(
        ["KUBE-6-NODE-PORT-LOCAL-SCTP-HAS", "KUBE-CLUSTER-IP", "KUBE-LOOP-BACK", "KUBE-NODE-PORT-SCTP-HASH", "KUBE-NODE-PORT-TCP"]
    )
    theirs = "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -m set --match-set KUBE-CLUSTER-IP dst,dst -j DROP\nCOMMIT\n"
    node.rulesets.append(Ruleset("iptables-legacy", proxy_rules.parse_save(theirs)))
    found = proxy_rules.leftovers("iptables", node)
    assert "KUBE-CLUSTER-IP" not in found.sets
    assert "the ipsets KUBE-CLUSTER-IP," in found.findings[0]


@pytest.mark.parametrize(
    ("mode", "node", "settled"),
    [
        ("iptables", kernel(IPTABLES), True),
        ("iptables", kernel(IPVS, ipvs=True), False),
        ("ipvs", kernel(IPVS), True),
        ("ipvs", kernel(IPTABLES), False),
        ("nftables", kernel(IPTABLES), False),
        ("nftables", kernel(IPTABLES, families=("ip",)), True),
        # Of two families one comes first.
        ("iptables", two(IPTABLES, IPVS), False),
        ("iptables", two(IPTABLES, IPTABLES), True),
        ("nftables", two(IPTABLES, IPVS, families=["ip"]), False),
        ("nftables", two(IPTABLES, IPVS, families=["ip", "ip6"]), True),
        # Rules that cannot be read do not hold it up.
        ("iptables", Kernel(unread=frozenset({"ip", "ip6"})), True),
        ("ipvs", two(IPVS, unread=frozenset({"ip6"})), True),
        ("ipvs", two(IPTABLES, unread=frozenset({"ip6"})), False),
        ("nftables", Kernel(unread=frozenset({"ip", "ip6"})), False),
        ("iptables", Kernel(), False),
        # The family of the node's address decides: the other one has next to no rules.
        ("nftables", Kernel(families=["ip6"]), False),
        ("nftables", Kernel(families=["ip6"], family="ip6"), True),
        ("iptables", Kernel([Ruleset("ip6tables-nft", rules(IPTABLES).chains)]), False),
        ("iptables", Kernel([Ruleset("ip6tables-nft", rules(IPTABLES).chains)], unread=frozenset({"ip"})), True),
        # Old rules in the backend that can be read, and kube-proxy's in the one that cannot.
        ("ipvs", Kernel([rules(IPTABLES)], unread=frozenset({"ip"})), True),
    ],
)
def test_a_mode_is_in_force_when_its_rules_are_there(mode: str, node: Kernel, settled: bool) -> None:
    assert proxy_rules.is_settled(mode, node) is settled


def test_of_a_family_whose_rules_are_not_there_yet_nothing_goes() -> None:
    node = two(IPTABLES, IPVS.replace("--match-set KUBE-", "--match-set KUBE-6-"))
    with_ipvs = kernel(ipvs=True)
    node.services, node.sets, node.has_dummy = with_ipvs.services, with_ipvs.sets, True
    node.bound, node.own, node.families = with_ipvs.bound, with_ipvs.own, ["ip", "ip6"]
    node.rulesets[0] = Ruleset("iptables-nft", rules(IPVS, IPTABLES).chains)
    found = proxy_rules.leftovers("iptables", node)
    assert [removal.ruleset.tool for removal in found.removals] == ["iptables-nft"]
    assert "[fd98::50]:80" not in {service.place for service in found.services + found.foreign}
    assert len(found.services) == 3
    assert (found.dummy, found.families) == (False, ["ip"])
    assert not [name for name in found.sets if name.startswith("KUBE-6-")]
    assert "KUBE-CLUSTER-IP" in found.sets
    (finding,) = found.findings
    assert "has not written rules of that mode for IPv6" in finding


def test_where_rules_cannot_be_read_nothing_goes_that_they_may_need() -> None:
    node = kernel(ipvs=True, families=("ip",))
    node.rulesets, node.unread = [], frozenset({"ip", "ip6"})
    found = proxy_rules.leftovers("iptables", node)
    assert (found.kinds(), found.findings) == ({}, [])
    # kube-proxy's table shows that nftables is in force, and that needs no tool.
    node.families = ["ip", "ip6"]
    found = proxy_rules.leftovers("nftables", node)
    assert list(found.kinds()) == ["ipvs virtual services", "ipvs interface"]


def test_without_ipset_what_tells_that_there_was_ipvs_stays() -> None:
    node = kernel(IPTABLES, ipvs=True)
    node.sets, node.has_unread_sets = {}, True
    found = proxy_rules.leftovers("iptables", node)
    assert [str(one) for one in found.services] == ["TCP 10.152.183.80:80", "TCP [fd98::50]:80"]
    assert not found.dummy
    node.services = found.services
    assert proxy_rules.leftovers("iptables", node).dummy


def test_both_backends_of_one_family_are_cleaned() -> None:
    """kube-proxy uses one of them; the other one has what it left there before."""
    node = Kernel([Ruleset("iptables-nft", rules(IPTABLES).chains), Ruleset("iptables-legacy", rules(IPVS).chains)])
    # One of them may be about to be written: nobody can tell before the time is up.
    assert (proxy_rules.works("iptables", node), proxy_rules.is_settled("iptables", node)) == (True, False)
    assert [removal.ruleset.tool for removal in proxy_rules.leftovers("iptables", node).removals] == ["iptables-legacy"]


def test_a_stale_rule_of_kube_proxy_s_own_is_not_somebody_else_s() -> None:
    rule = "-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODE-PORT"
    both = rules(IPVS, IPTABLES)
    both.chains["nat", "KUBE-SERVICES"].append(rule)
    found = proxy_rules.leftovers("iptables", Kernel([both]))
    assert found.findings == []
    assert "nat/KUBE-NODE-PORT" in gone(found)
    assert "-D" + rule[2:] in found.removals[0].text()


@pytest.mark.parametrize(
    ("node", "modes", "empty"),
    [
        (Kernel([rules(NETWORK_POLICIES)]), [], True),
        (kernel(IPTABLES), ["iptables"], False),
        (kernel(IPTABLES, ipvs=True, families=("ip6",)), ["iptables", "ipvs", "nftables"], False),
    ],
)
def test_which_modes_there_is_something_of(node: Kernel, modes: list[str], empty: bool) -> None:
    assert (proxy_rules.present(node), proxy_rules.is_empty(node)) == (modes, empty)


# -- The module --------------------------------------------------------------------------------------------------------


@pytest.fixture
def says() -> Iterator[tuple[list[str], str]]:
    """A kube-proxy that says the mode in the list, and where it can be asked."""
    mode = ["iptables"]

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/proxyMode" else 404)
            self.end_headers()
            self.wfile.write(mode[0].encode())

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield mode, f"127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch, says: tuple[list[str], str]) -> dict[str, Any]:
    """A node of MicroK8s with what is in its kernel, the tools that it lacks, and the commands that were run on it."""
    made: dict[str, Any] = {"kernel": kernel(IPTABLES), "flags": {"metrics-bind-address": says[1]}, "lacks": (), "ran": [], "refuses": ()}

    def run(_module: AnsibleModule, words: list[str], data: str | None = None, **_: object) -> tuple[int, str, str]:
        made["ran"].append((" ".join([os.path.basename(words[0]), *words[1:]]), data))
        return (1, "", "in use\n") if words[-1] in made["refuses"] else (0, "", "")

    monkeypatch.setattr(distribution, "find", lambda *_: distribution.Distribution("microk8s", "unit", ""))
    monkeypatch.setattr(proxy_node, "flags", lambda *_: made["flags"])
    monkeypatch.setattr(proxy_node, "read_kernel", lambda _: (made["kernel"], []))
    monkeypatch.setattr(proxy_node, "tool", lambda name: None if name in made["lacks"] else "/sbin/" + name)
    monkeypatch.setattr(AnsibleModule, "run_command", run)
    monkeypatch.setattr(kube_proxy_rules, "_SET_PAUSE", 0)
    return made


def test_what_uses_goes_before_what_is_used(run_module: RunModule, node: dict[str, Any]) -> None:
    node["kernel"] = kernel(IPVS, IPTABLES, ipvs=True, families=("ip", "ip6"))
    checked = run_module(kube_proxy_rules, check=True)
    assert node["ran"] == []
    made = run_module(kube_proxy_rules)
    assert made["changed"] is checked["changed"] is True
    assert made["changes"] == checked["changes"]
    assert [(change["name"], change["before"]) for change in made["changes"]] == [
        ("ipvs virtual services", "4 left behind"),
        ("ipvs interface", "1 left behind"),
        ("ipvs chains", "4 left behind"),
        ("ipvs ipsets", "5 left behind"),
        ("nftables tables", "2 left behind"),
    ]
    assert "nat/KUBE-NODE-PORT (1 rule)" in made["diff"][0]["before"]
    words = [line for line, _ in node["ran"]]
    assert words[:4] == [
        "ipvsadm --delete-service --tcp-service 10.152.183.80:80",
        "ipvsadm --delete-service --tcp-service 10.0.2.15:30080",
        "ipvsadm --delete-service --sctp-service 10.0.2.15:30132",
        "ipvsadm --delete-service --tcp-service [fd98::50]:80",
    ]
    assert words[4:6] == ["ip link delete kube-ipvs0", "iptables-nft-restore --wait 10 --noflush"]
    assert {line.partition(" destroy ")[0] for line in words[6:-1]} == {"ipset"}
    assert node["ran"][-1] == ("nft --file -", "delete table ip kube-proxy\ndelete table ip6 kube-proxy\n")


def test_a_node_without_leftovers_is_left_alone(run_module: RunModule, node: dict[str, Any]) -> None:
    result = run_module(kube_proxy_rules)
    assert [result[name] for name in ("changed", "mode", "changes", "diff", "findings")] == [False, "iptables", [], [], []]
    assert node["ran"] == []


@pytest.mark.parametrize("told", ["", "userspace", "ipvs"])
def test_nothing_goes_before_the_mode_in_force_is_known(run_module: RunModule, node: dict[str, Any], says: Any, told: str) -> None:
    """The last one is kube-proxy in mode ipvs before it has written its first rule."""
    says[0][0] = told
    node["kernel"] = kernel(IPTABLES, families=("ip",))
    result = run_module(kube_proxy_rules)
    assert [result[name] for name in ("changed", "mode", "silent", "changes")] == [False, "", True, []]
    assert "modes iptables and nftables, and nobody can tell" in result["findings"][0]
    assert ("says that it works with ipvs" if told == "ipvs" else "does not answer") in result["findings"][0]
    assert node["ran"] == []


@pytest.mark.usefixtures("node")
def test_it_waits_until_the_rules_of_the_mode_are_there(run_module: RunModule, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = [kernel(IPVS, ipvs=True), kernel(IPVS, ipvs=True), kernel(IPVS, IPTABLES, ipvs=True)]
    monkeypatch.setattr(proxy_node, "read_kernel", lambda _: (reads.pop(0), []))
    monkeypatch.setattr(proxy_node, "_POLL", 0)
    result = run_module(kube_proxy_rules, wait=60)
    assert [result["mode"], reads] == ["iptables", []]
    assert "ipvs chains" in [change["name"] for change in result["changes"]]


def test_kube_proxy_that_tells_nobody_its_mode(run_module: RunModule, node: dict[str, Any]) -> None:
    node["flags"] = {"metrics-bind-address": ""}
    assert [run_module(kube_proxy_rules)[name] for name in ("mode", "silent", "findings")] == ["", False, []]


@pytest.mark.parametrize(
    ("given", "asked"),
    [
        ({}, "127.0.0.1:10249"),
        ({"metrics-bind-address": "0.0.0.0:9249"}, "127.0.0.1:9249"),
        ({"metrics-bind-address": "[::]:10249"}, "[::1]:10249"),
        ({"metrics-bind-address": "10.0.2.15"}, "10.0.2.15:10249"),
        # The kernel chooses the port.
        ({"metrics-bind-address": "127.0.0.1:0"}, ""),
    ],
)
def test_where_kube_proxy_is_asked(given: dict[str, str], asked: str) -> None:
    assert proxy_node.metrics_address(given) == asked


@pytest.mark.parametrize(
    ("config", "found"),
    [
        ("kube-proxy-arg:\n  - metrics-bind-address=10.0.2.15:9000\n", {"metrics-bind-address": "10.0.2.15:9000"}),
        ("kube-proxy-arg: [proxy-mode=ipvs]\ndisable-kube-proxy: true\n", None),
    ],
)
def test_the_flags_of_k3s(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, config: str, found: dict[str, str] | None) -> None:
    (tmp_path / "config.yaml").write_text(config)
    unit = tmp_path / "k3s.service"
    unit.write_text(f"[Service]\nExecStart=/usr/local/bin/k3s server --config {tmp_path}/config.yaml\n")
    monkeypatch.setattr(systemd, "show", lambda *_: {"LoadState": "loaded", "FragmentPath": str(unit)})
    assert proxy_node.flags(None, distribution.Distribution("k3s", "k3s", "")) == found


def test_a_mode_that_is_not_that_of_the_flag_is_said(run_module: RunModule, node: dict[str, Any]) -> None:
    node["flags"]["proxy-mode"] = "ipvs"
    assert "works with iptables, although --proxy-mode is ipvs" in run_module(kube_proxy_rules)["findings"][0]


def test_without_ipvsadm_what_tells_whose_the_services_are_stays(run_module: RunModule, node: dict[str, Any]) -> None:
    node["kernel"], node["lacks"] = kernel(IPVS, IPTABLES, ipvs=True, families=("ip",)), ("ipvsadm", "nft")
    result = run_module(kube_proxy_rules)
    assert [change["name"] for change in result["changes"]] == ["ipvs chains"]
    assert not [line for line, _ in node["ran"] if "kube-ipvs0" in line or line.startswith("ipset")]
    assert [text.split()[0] for text in result["findings"]] == ["ipvsadm", "nft"]


def test_a_set_that_stays_in_use_is_said_and_not_counted(run_module: RunModule, node: dict[str, Any]) -> None:
    node["kernel"], node["refuses"] = kernel(IPTABLES, ipvs=True), ("KUBE-LOOP-BACK",)
    result = run_module(kube_proxy_rules)
    assert next(change["before"] for change in result["changes"] if change["name"] == "ipvs ipsets") == "4 left behind"
    assert "the ipsets KUBE-LOOP-BACK stay" in result["findings"][0]


@pytest.mark.parametrize(
    ("refused", "removed", "said"),
    [
        (
            "--noflush",
            ["ipvs virtual services", "ipvs interface", "nftables tables"],
            "iptables-nft-restore --wait 10 --noflush refuses: in use",
        ),
        ("kube-ipvs0", ["ipvs virtual services", "ipvs chains", "ipvs ipsets", "nftables tables"], "ip link delete kube-ipvs0 refuses"),
        ("-", ["ipvs virtual services", "ipvs interface", "ipvs chains", "ipvs ipsets"], "nft --file - refuses"),
        # Without the interface and the sets the next run would not know whose it is.
        ("10.0.2.15:30080", ["ipvs virtual services", "ipvs chains", "nftables tables"], "--tcp-service 10.0.2.15:30080 refuses"),
    ],
)
def test_what_a_tool_refuses_stays_and_ends_nothing(
    run_module: RunModule, node: dict[str, Any], monkeypatch: pytest.MonkeyPatch, refused: str, removed: list[str], said: str
) -> None:
    node["kernel"], node["refuses"] = kernel(IPVS, IPTABLES, ipvs=True, families=("ip",)), (refused,)
    monkeypatch.setattr(proxy_node, "virtual_services", lambda: node["kernel"].services)
    monkeypatch.setattr(proxy_node, "read_ruleset", lambda *_: node["kernel"].rulesets[0])
    result = run_module(kube_proxy_rules)
    assert [change["name"] for change in result["changes"]] == removed
    (finding,) = result["findings"]
    assert said in finding
    assert "failed" not in result


def test_what_went_by_itself_is_no_failure(run_module: RunModule, node: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    node["kernel"], node["refuses"] = kernel(IPVS, IPTABLES, ipvs=True), ("10.0.2.15:30080",)
    monkeypatch.setattr(proxy_node, "virtual_services", list)
    result = run_module(kube_proxy_rules)
    assert (result["changes"][0]["before"], result["findings"]) == ("4 left behind", [])


def test_rules_that_changed_meanwhile_are_read_and_tried_once_more(
    run_module: RunModule, node: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    node["kernel"] = kernel(IPVS, IPTABLES)
    now = rules(IPVS.replace(":KUBE-FIREWALL - [0:0]\n", "").replace("-A KUBE-FIREWALL -j KUBE-MARK-DROP\n", ""), IPTABLES)
    given: list[str] = []

    def run(_module: AnsibleModule, _words: list[str], data: str = "", **_: object) -> tuple[int, str, str]:
        given.append(data)
        return (1, "", "line 3 failed\n") if "-X KUBE-FIREWALL" in data else (0, "", "")

    monkeypatch.setattr(AnsibleModule, "run_command", run)
    monkeypatch.setattr(proxy_node, "read_ruleset", lambda *_: now)
    result = run_module(kube_proxy_rules)
    assert (result["changed"], result["findings"], len(given)) == (True, [], 2)
    assert "-X KUBE-LOAD-BALANCER" in given[1]


def test_a_kernel_that_cannot_be_read_is_no_failure(run_module: RunModule, node: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def read(_: object) -> None:
        raise NodeError("ip is missing")

    monkeypatch.setattr(proxy_node, "read_kernel", read)
    result = run_module(kube_proxy_rules, wait=1)
    assert [result[name] for name in ("mode", "silent", "changed")] == ["iptables", False, False]
    assert "ip is missing" in result["findings"][0]
    assert node["ran"] == []


@pytest.mark.usefixtures("node")
def test_a_kernel_without_rules_is_not_settled_after_a_restart(run_module: RunModule, monkeypatch: pytest.MonkeyPatch) -> None:
    """kube-proxy wiped the mode before, and is about to write its own rules."""
    reads = [Kernel(), Kernel(), kernel(IPTABLES)]
    monkeypatch.setattr(proxy_node, "read_kernel", lambda _: (reads.pop(0), []))
    monkeypatch.setattr(proxy_node, "_POLL", 0)
    result = run_module(kube_proxy_rules, wait=60)
    assert [result["mode"], result["silent"], reads] == ["iptables", False, []]


@pytest.mark.parametrize(("wait", "silent", "mode"), [(0, False, "iptables"), (1, True, "")])
def test_a_kube_proxy_that_never_writes_rules_is_silent_where_it_restarted(
    run_module: RunModule, node: dict[str, Any], wait: int, silent: bool, mode: str
) -> None:
    node["kernel"] = Kernel()
    result = run_module(kube_proxy_rules, wait=wait)
    assert [result[name] for name in ("mode", "says", "silent")] == [mode, "iptables", silent]


# -- Reading the kernel ------------------------------------------------------------------------------------------------


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What tools say by their names, and tables of nftables."""
    made: dict[str, Any] = {"says": {}, "tables": {("ip", "nat"), ("ip6", "nat")}}

    class Module:
        def run_command(self, words: list[str], **_: object) -> tuple[int, str, str]:
            said = made["says"][words[0]]
            return (0, said, "") if isinstance(said, str) else (1, "", "cannot load libxtables.so.12\n")

    monkeypatch.setattr(proxy_node, "tool", lambda name: name if name in made["says"] else None)
    monkeypatch.setattr(proxy_node, "_nft_tables", lambda: made["tables"])
    monkeypatch.setattr(proxy_node, "_LEGACY_TABLES", {"iptables": "/nonexistent", "ip6tables": "/nonexistent"})
    monkeypatch.setattr(proxy_node, "read_services", lambda *_: None)
    made["read"] = lambda: proxy_node.read_kernel(Module())
    return made


def test_rules_of_both_families_are_read(reads: dict[str, Any]) -> None:
    reads["says"] = {"iptables-nft-save": IPTABLES, "ip6tables-save": IPVS, "ip6tables": "ip6tables v1.8.9 (nf_tables)\n"}
    found, findings = reads["read"]()
    assert [one.tool for one in found.rulesets] == ["iptables-nft", "ip6tables"]
    assert (found.unread, findings) == (frozenset(), [])


@pytest.mark.parametrize(("says", "why"), [({}, "iptables-nft-save is missing"), ({"iptables-nft-save": 1}, "cannot load libxtables")])
def test_rules_that_cannot_be_read_are_not_taken_for_none(reads: dict[str, Any], says: dict[str, Any], why: str) -> None:
    reads["says"] = says
    found, findings = reads["read"]()
    assert (found.rulesets, found.unread) == ([], frozenset({"ip", "ip6"}))
    (finding,) = findings
    assert why in finding
    assert "install the package iptables" in finding
    reads["tables"] = {("ip", "kube-proxy"), ("", "filter")}
    found, findings = reads["read"]()
    assert (found.families, found.unread, findings) == (["ip"], frozenset(), [])


def test_a_node_whose_rules_cannot_be_read_works_all_the_same(
    run_module: RunModule, node: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    there = kernel(ipvs=True)
    there.rulesets, there.unread = [], frozenset({"ip", "ip6"})
    monkeypatch.setattr(proxy_node, "read_kernel", lambda _: (there, ["install the package iptables"]))
    result = run_module(kube_proxy_rules, wait=60)
    assert [result[name] for name in ("mode", "silent", "changes", "findings")] == ["iptables", False, [], ["install the package iptables"]]
    assert node["ran"] == []


# -- Which modes a node can run ----------------------------------------------------------------------------------------

IPVS_MODULES = frozenset({"ip_vs", "ip_vs_rr", "ip_vs_wrr", "ip_vs_sh", "nf_conntrack"})
TOOLS = {tool: "/sbin/" + tool for tool in ("ipset", "ipvsadm", "nft")}


def a_node(**changed: Any) -> proxy_mode.Node:
    return proxy_mode.Node(
        **{"release": (1, 33, 0), "kernel": (6, 1, 0), "modules": IPVS_MODULES, "tools": TOOLS, "nft": (1, 0, 6), **changed}
    )


@pytest.mark.parametrize(
    ("mode", "release", "gates", "reason"),
    [
        ("ipvs", (1, 39, 0), "", ""),
        ("ipvs", (1, 40, 0), "", "feature-gates: KubeProxyIPVS=true"),
        ("ipvs", (1, 42, 3), "KubeProxyIPVS=false", "feature-gates: KubeProxyIPVS=true"),
        ("ipvs", (1, 42, 3), "A=true,KubeProxyIPVS=true", ""),
        ("ipvs", (1, 36, 0), "KubeProxyIPVS=false", "feature-gates: KubeProxyIPVS=true"),
        ("ipvs", (1, 43, 0), "KubeProxyIPVS=true", "gone since 1.43"),
        ("nftables", (1, 28, 0), "NFTablesProxyMode=true", "came with 1.29"),
        ("nftables", (1, 29, 0), "", "feature-gates: NFTablesProxyMode=true"),
        ("nftables", (1, 30, 1), "NFTablesProxyMode=true", ""),
        ("nftables", (1, 31, 0), "", ""),
        ("nftables", (1, 32, 0), "NFTablesProxyMode=false", "feature-gates: NFTablesProxyMode=true"),
    ],
)
def test_modes_by_release_and_feature_gate(mode: str, release: Any, gates: str, reason: str) -> None:
    support = proxy_mode.check(mode, "rr", a_node(release=release, flags={"feature-gates": gates}))
    assert len(support.reasons) == bool(reason)
    assert reason in "".join(support.reasons)


@pytest.mark.parametrize(
    ("packages", "reason"),
    [
        (proxy_mode.Packages(True, "apt-cache", {"nftables": "1.0.6-2+deb12u2"}), ""),
        (proxy_mode.Packages(True, "apt-cache", {"nftables": "0.9.8-3.1"}), "the nft that apt-cache would install is 0.9.8"),
        (proxy_mode.Packages(True, "apt-cache", {}), "apt-cache knows no package nftables"),
        (proxy_mode.Packages(True), "no package manager"),
        (proxy_mode.Packages(False), "kube_proxy_install_packages is false"),
    ],
)
def test_a_tool_that_cannot_be_installed_is_refused(packages: proxy_mode.Packages, reason: str) -> None:
    support = proxy_mode.check("nftables", "rr", a_node(tools={}, nft=None, packages=packages))
    assert support.packages == ["nftables"]
    assert len(support.reasons) == bool(reason)
    assert reason in "".join(support.reasons)


def test_the_strict_snap_has_no_ipset() -> None:
    (reason,) = proxy_mode.check("ipvs", "rr", a_node(tools={"ipvsadm": "/sbin/ipvsadm"}, strict_snap=True)).reasons
    assert "microk8s#3848" in reason


FOREIGN = (("TCP 192.0.2.10:443", "192.0.2.10"), ("FWM 1", ""))


@pytest.mark.parametrize(
    ("mode", "flags", "named"),
    [
        ("iptables", {}, None),
        ("nftables", {"ipvs-exclude-cidrs": "192.0.2.0/24"}, "TCP 192.0.2.10:443, FWM 1"),
        ("ipvs", {}, "TCP 192.0.2.10:443, FWM 1"),
        ("ipvs", {"ipvs-exclude-cidrs": "10.0.0.0/8,192.0.2.0/24"}, "here FWM 1 "),
    ],
)
def test_virtual_services_of_others_that_kube_proxy_would_remove(mode: str, flags: dict[str, str], named: str | None) -> None:
    found = a_node(foreign=FOREIGN, flags=flags)
    refused = proxy_mode.check(mode, "rr", found)
    assert len(refused.reasons) == bool(named)
    assert (named or "") in "".join(refused.reasons)
    accepted = proxy_mode.check(mode, "rr", found, accept_flush=True)
    assert (accepted.reasons, len(accepted.warnings)) == ([], len(refused.reasons))
    # Nothing is lost by a change where the mode is there already.
    assert proxy_mode.check(mode, "rr", a_node(foreign=FOREIGN, flags={**flags, "proxy-mode": mode})).reasons == []


def test_virtual_services_of_which_nobody_can_tell_whose_they_are() -> None:
    found = a_node(unsure=("TCP 10.0.2.15:30080",))
    (reason,) = proxy_mode.check("nftables", "rr", found).reasons
    assert "TCP 10.0.2.15:30080" in reason
    assert "Install the package ipset" in reason
    assert [proxy_mode.check("nftables", "rr", found, accept_flush=True).reasons, proxy_mode.check("ipvs", "rr", found).reasons] == [[], []]


@pytest.mark.parametrize("has_sets", [True, False])
def test_without_ipset_node_ports_are_not_called_somebody_else_s(monkeypatch: pytest.MonkeyPatch, has_sets: bool) -> None:
    node = kernel(IPVS, ipvs=True)
    if not has_sets:
        node.sets, node.has_unread_sets = {}, True
    monkeypatch.setattr(proxy_node, "virtual_services", lambda: node.services)
    monkeypatch.setattr(proxy_node, "read_kernel", lambda _: (node, []))
    foreign, unsure = kube_proxy_support.read_foreign(None, {"ipvs-exclude-cidrs": "192.0.2.0/24"})
    named = [name for name, _ in foreign]
    if has_sets:
        assert (named, unsure) == (["UDP 10.0.2.15:30080", "TCP 192.0.2.10:443", "FWM 1"], ())
    else:
        assert named == ["TCP 192.0.2.10:443", "FWM 1"]
        assert unsure == ("TCP 10.0.2.15:30080", "UDP 10.0.2.15:30080", "SCTP 10.0.2.15:30132")


@pytest.mark.parametrize("is_strict", [True, False])
def test_which_tools_kube_proxy_has_on_microk8s(monkeypatch: pytest.MonkeyPatch, is_strict: bool) -> None:
    """The strict snap has its own alone, whatever the node has."""

    class Module:
        params: ClassVar = {"mode": "ipvs", "install_packages": True, "flags": {"feature-gates": None, "v": 4}}

    monkeypatch.setattr(distribution, "find", lambda *_: distribution.Distribution("microk8s", "unit", ""))
    monkeypatch.setattr(distribution, "release", lambda *_: "v1.33.0")
    monkeypatch.setattr(proxy_node, "strict_snap", lambda: is_strict)
    monkeypatch.setattr(proxy_node, "tool", lambda name: "/usr/sbin/" + name)
    monkeypatch.setattr(proxy_node, "snap_tool", lambda name: "/snap/" + name)
    monkeypatch.setattr(proxy_node, "flags", lambda *_: {"feature-gates": "KubeProxyIPVS=false", "proxy-mode": "iptables"})
    monkeypatch.setattr(proxy_node, "virtual_services", list)
    monkeypatch.setattr(running_kernel, "modules", lambda *_: frozenset())
    found = kube_proxy_support.read_node(Module())
    assert found.tools == {"ipset": "/snap/ipset" if is_strict else "/usr/sbin/ipset", "ipvsadm": "/usr/sbin/ipvsadm"}
    # A flag without a value goes.
    assert found.flags == {"proxy-mode": "iptables", "v": "4"}


APT = """\
nftables:
  Installed: (none)
  Candidate: 1.0.6-2+deb12u2
  Version table:
     1.0.6-2+deb12u2 500
        500 http://deb.debian.org/debian bookworm/main amd64 Packages
"""


@pytest.mark.parametrize(
    ("said", "known"), [(APT, {"nftables": "1.0.6-2+deb12u2"}), (APT.replace("1.0.6-2+deb12u2\n  V", "(none)\n  V"), {}), ("", {})]
)
def test_what_apt_knows(monkeypatch: pytest.MonkeyPatch, said: str, known: dict[str, str]) -> None:
    class Module:
        def run_command(self, *_: object, **__: object) -> tuple[int, str, str]:
            return 0, said, ""

    monkeypatch.setattr(proxy_node, "tool", lambda name: "/usr/bin/apt-cache" if name == "apt-cache" else None)
    assert kube_proxy_support.read_packages(Module(), ["nftables"], True) == proxy_mode.Packages(True, "apt-cache", known)


@pytest.mark.parametrize(
    ("route", "ipv6_route", "family"),
    [
        ("eth0 00000000 0100000A 0003 0 0 0 00000000 0 0 0\n", "", "ip"),
        ("eth0 0000590A 00000000 0001 0 0 0 00FFFFFF 0 0 0\n", f"{'0' * 32} 00 {'0' * 32} 00 fe80 400 1 0 3 eth0\n", "ip6"),
        ("eth0 0000590A 00000000 0001 0 0 0 00FFFFFF 0 0 0\n", f"{'0' * 32} 00 {'0' * 32} 00 {'0' * 32} ffffffff 1 0 200200 lo\n", "ip"),
        ("", "", "ip"),
    ],
)
def test_the_family_of_the_node_s_address(monkeypatch: pytest.MonkeyPatch, route: str, ipv6_route: str, family: str) -> None:
    texts = {"/proc/net/route": "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n" + route}
    texts["/proc/net/ipv6_route"] = ipv6_route
    monkeypatch.setattr(node_files, "read", lambda path, **_: texts[path])
    assert proxy_node._family() == family


def test_a_table_that_iptables_does_not_show_is_not_taken_for_an_empty_one(monkeypatch: pytest.MonkeyPatch) -> None:
    hidden = "*filter\n:INPUT ACCEPT [0:0]\nCOMMIT\n# Table `nat' is incompatible, use 'nft' tool.\n"
    monkeypatch.setattr(proxy_node, "_output", lambda *_: hidden)
    with pytest.raises(NodeError, match="does not show the table nat"):
        proxy_node.read_ruleset(None, "iptables-nft")


# -- What keeps a module from being loaded -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "command_line", "reasons", "findings"),
    [
        ({"/etc/modprobe.d/cis.conf": "# hardening\ninstall ip_vs /bin/false\n"}, "", 1, 0),
        ({"/etc/modprobe.d/cis.conf": "install ip-vs \\\n  /usr/bin/true\nblacklist ip_vs\n"}, "", 1, 1),
        ({"/etc/modprobe.d/cis.conf": "install ip_vs_rr /bin/false\nblacklist dccp\nalias ip_vs x\n"}, "", 0, 0),
        ({"/etc/modprobe.d/x.conf": "install ip_vs modprobe --ignore-install ip_vs\n"}, "", 0, 0),
        ({"/lib/modprobe.d/x.conf": "blacklist ip_vs\n"}, "", 0, 1),
        ({"/lib/modprobe.d/x.conf": "install ip_vs /bin/false\n", "/etc/modprobe.d/x.conf": ""}, "", 0, 0),
        ({"/etc/modprobe.d/cis.conf.bak": "install ip_vs /bin/false\n"}, "", 0, 0),
        ({}, "root=/dev/sda1 module_blacklist=dccp,ip-vs quiet", 1, 0),
        ({}, "modprobe.blacklist=ip_vs", 0, 1),
    ],
)
def test_what_keeps_a_module_from_being_loaded(files: dict[str, str], command_line: str, reasons: int, findings: int) -> None:
    found = modprobe_files.obstacles(["ip_vs"], files, command_line)
    assert (len(found.reasons), len(found.findings)) == (reasons, findings)


def test_a_module_that_cannot_be_loaded_is_refused_before_anything_changes(
    run_module: RunModule, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "modprobe.d"
    folder.mkdir()
    (folder / "cis.conf").write_text("install ip_vs /bin/false\n")
    monkeypatch.setattr(modprobe_files, "FOLDERS", (str(folder),))
    monkeypatch.setattr(running_kernel, "modules", lambda *_: frozenset())
    path = tmp_path / "kubekeel.conf"
    checked = run_module(kernel_modules, check=True, modules=["ip_vs"], path=str(path))
    assert str(folder / "cis.conf") in checked["reasons"][0]
    made = run_module(kernel_modules, modules=["ip_vs"], path=str(path))
    assert made["msg"] == checked["reasons"][0]
    assert not path.exists()


def test_what_keeps_others_from_being_loaded_is_no_matter_to_what_is_built_in(
    run_module: RunModule, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "modprobe.d"
    folder.mkdir()
    (folder / "cis.conf").write_text("install kubekeel_built_in /bin/false\n")
    monkeypatch.setattr(modprobe_files, "FOLDERS", (str(folder),))
    monkeypatch.setattr(running_kernel, "modules", lambda *_: frozenset({"kubekeel_built_in"}))
    assert run_module(kernel_modules, check=True, modules=["kubekeel_built_in"], path=str(tmp_path / "x.conf"))["reasons"] == []


def test_a_virtual_service_is_named_as_ipvsadm_takes_it() -> None:
    assert VirtualService("TCP", "fd98::50", 80).place == "[fd98::50]:80"
