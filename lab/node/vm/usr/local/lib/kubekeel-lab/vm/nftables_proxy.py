"""Stand-in for kube-proxy in its mode nftables, for a Service of type ClusterIP; no real one of that mode can be had here.

It writes the tables ``ip kube-proxy`` and ``ip6 kube-proxy`` with the names of kube-proxy 1.31 and later (kubernetes
pkg/proxy/nftables/proxier.go, README.md there), so that what looks for them finds what it would find on a real node. It
asks the API every two seconds instead of watching it, and knows no node ports, load balancers or session affinity.

Unlike the real one it removes nothing that other modes left, when it starts; as that does it leaves its own tables when it ends.
"""

import argparse
import base64
import hashlib
import http.server
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import NoReturn

from .kube_client import ApiError, Client, Json

MODE = "nftables"
TABLE = "kube-proxy"
FAMILIES = {4: "ip", 6: "ip6"}
POLL_SECONDS = 2.0
MARK = "0x4000"
HEALTHZ = "0.0.0.0:10256"
METRICS = "127.0.0.1:10249"
NO_CLUSTER_IP = frozenset({"", "None"})

# The frame of a table, which depends on no Service. Priorities: dstnat is -100, srcnat 100.
FRAME = """\
 comment "rules for kube-proxy"
 set cluster-ips {{
  type {address}
  comment "Active ClusterIPs"
{cluster_ips} }}
 map no-endpoint-services {{
  type {address} . inet_proto . inet_service : verdict
  comment "vmap to drop or reject packets to services with no endpoints"
{no_endpoint_services} }}
 map no-endpoint-nodeports {{
  type inet_proto . inet_service : verdict
  comment "vmap to drop or reject packets to service nodeports with no endpoints"
 }}
 map firewall-ips {{
  type {address} . inet_proto . inet_service : verdict
  comment "destinations that are subject to LoadBalancerSourceRanges"
 }}
 map service-ips {{
  type {address} . inet_proto . inet_service : verdict
  comment "ClusterIP, ExternalIP and LoadBalancer IP traffic"
{service_ips} }}
 map service-nodeports {{
  type inet_proto . inet_service : verdict
  comment "NodePort traffic"
 }}
 chain reject-chain {{ reject; }}
 chain mark-for-masquerade {{ mark set mark or {mark}; }}
 chain masquerading {{ mark and {mark} == 0 return; mark set mark xor {mark}; masquerade fully-random; }}
 chain firewall-check {{ {family} daddr . meta l4proto . th dport vmap @firewall-ips; }}
 chain service-endpoints-check {{ {family} daddr . meta l4proto . th dport vmap @no-endpoint-services; }}
 chain nodeport-endpoints-check {{ fib daddr type local meta l4proto . th dport vmap @no-endpoint-nodeports; }}
 chain cluster-ips-check {{ {family} daddr @cluster-ips reject; }}
{chains} chain services {{
  {family} daddr . meta l4proto . th dport vmap @service-ips
  fib daddr type local meta l4proto . th dport vmap @service-nodeports
 }}
 chain filter-prerouting {{ type filter hook prerouting priority -110; ct state new jump firewall-check; }}
 chain filter-input {{ type filter hook input priority -110
  ct state new jump nodeport-endpoints-check
  ct state new jump service-endpoints-check
 }}
 chain filter-forward {{ type filter hook forward priority -110
  ct state new jump service-endpoints-check
  ct state new jump cluster-ips-check
 }}
 chain filter-output {{ type filter hook output priority -110
  ct state new jump service-endpoints-check
  ct state new jump firewall-check
 }}
 chain filter-output-post-dnat {{ type filter hook output priority -90; ct state new jump cluster-ips-check; }}
 chain nat-prerouting {{ type nat hook prerouting priority -100; jump services; }}
 chain nat-output {{ type nat hook output priority -100; jump services; }}
 chain nat-postrouting {{ type nat hook postrouting priority 100; jump masquerading; }}
"""


@dataclass(frozen=True)
class ServicePort:
    """One port of a Service, and who serves it; endpoints are addresses and ports."""

    name: str
    """``namespace/service/protocol/port``, as chains are named."""
    protocol: str
    address: str
    port: int
    endpoints: tuple[tuple[str, int], ...]

    @property
    def version(self) -> int:
        """4 or 6."""
        return ip_address(self.address).version


def service_ports(services: Sequence[Json], endpoints: Sequence[Json]) -> Iterator[ServicePort]:
    """Yield the ports of all Services with a cluster address, out of the items of the API's two lists."""
    subsets = {(each["metadata"]["namespace"], each["metadata"]["name"]): each.get("subsets") or [] for each in endpoints}
    for service in services:
        place = (service["metadata"]["namespace"], service["metadata"]["name"])
        spec = service["spec"]
        address = spec.get("clusterIP", "")
        if address in NO_CLUSTER_IP:
            continue
        for port in spec.get("ports") or []:
            protocol, port_name = port.get("protocol", "TCP").lower(), port.get("name", "")
            serving = sorted(serving_ports(subsets.get(place, []), port_name))
            yield ServicePort("/".join([*place, protocol, port_name]), protocol, address, port["port"], tuple(serving))


def serving_ports(subsets: Sequence[Json], name: str) -> Iterator[tuple[str, int]]:
    """Yield address and port of what serves the port of a Service with that name."""
    for subset in subsets:
        for port in subset.get("ports") or []:
            if port.get("name", "") == name:
                yield from ((each["ip"], port["port"]) for each in subset.get("addresses") or [])


def hashed(name: str) -> str:
    """Return a name behind a hash of itself, as the chains of Services and endpoints begin."""
    return base64.b32encode(hashlib.sha256(name.encode()).digest()).decode()[:8] + "-" + name


def chains(ports: Sequence[ServicePort], cluster_cidr: str) -> Iterator[str]:
    """Yield a chain for each endpoint, and one for each port, which shares its requests out among them."""
    for port in ports:
        family = FAMILIES[port.version]
        names = []
        for address, number in port.endpoints:
            names.append("endpoint-" + hashed(f"{port.name}__{address.replace(':', '.')}/{number}"))
            target = f"[{address}]:{number}" if port.version == 6 else f"{address}:{number}"
            masquerade = f"{family} saddr {address} jump mark-for-masquerade"
            yield f" chain {names[-1]} {{ {masquerade}; meta l4proto {port.protocol} dnat to {target}; }}\n"
        if names:
            verdicts = ", ".join(f"{number} : goto {name}" for number, name in enumerate(names))
            masquerade = f"{family} daddr {port.address} {port.protocol} dport {port.port} {outside(family, cluster_cidr)}"
            choice = f"numgen random mod {len(names)} vmap {{ {verdicts} }}"
            yield f" chain service-{hashed(port.name)} {{ {masquerade}jump mark-for-masquerade; {choice}; }}\n"


def outside(family: str, cluster_cidr: str) -> str:
    """Return the match of what does not come from a pod; nothing where the pods' network is of another family."""
    for network in cluster_cidr.split(","):
        if network and FAMILIES[ip_network(network).version] == family:
            return f"{family} saddr != {network} "
    return ""


def elements(items: Sequence[str]) -> str:
    """Return a set's or a map's elements; without any there is no such line."""
    return f"  elements = {{ {', '.join(items)} }}\n" if items else ""


def ruleset(ports: Sequence[ServicePort], cluster_cidr: str) -> str:
    """Return what ``nft --file`` reads: both tables, in place of what is there, in one transaction."""
    text = ""
    for version, family in FAMILIES.items():
        mine = [port for port in ports if port.version == version]

        def key(port: ServicePort) -> str:
            return f"{port.address} . {port.protocol} . {port.port}"

        body = FRAME.format(
            family=family,
            address=f"ipv{version}_addr",
            mark=MARK,
            cluster_ips=elements(sorted({port.address for port in mine})),
            no_endpoint_services=elements([f"{key(port)} : goto reject-chain" for port in mine if not port.endpoints]),
            service_ips=elements([f"{key(port)} : goto service-{hashed(port.name)}" for port in mine if port.endpoints]),
            chains="".join(chains(mine, cluster_cidr)),
        )
        # There has to be a table before it can be deleted.
        text += f"add table {family} {TABLE}\ndelete table {family} {TABLE}\ntable {family} {TABLE} {{\n{body}}}\n"
    return text


def apply(text: str) -> None:
    """Give the rules to the kernel.

    Raises:
        subprocess.CalledProcessError: nft refused them, and nothing changed
    """
    subprocess.run(["nft", "--file", "-"], input=text, text=True, capture_output=True, check=True)


def serve(address: str, answers: Mapping[str, str]) -> None:
    """Answer HTTP in the background; ``answers`` are texts by path."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            """Answer one request."""
            text = answers.get(self.path)
            self.send_response(HTTPStatus.NOT_FOUND if text is None else HTTPStatus.OK)
            self.end_headers()
            self.wfile.write((text or "404 page not found\n").encode())

        def log_message(self, *_: object) -> None:
            """Say nothing: the journal is for what goes wrong."""

    host, _, port = address.rpartition(":")
    server = http.server.ThreadingHTTPServer((host.strip("[]"), int(port)), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()


def with_port(address: str, default: str) -> str:
    """Return an address with the default's port where it has none, as kube-proxy completes its flags."""
    return address if address.rpartition(":")[2].isdigit() and ":" in address else f"{address}:{default.rpartition(':')[2]}"


def main(words: Sequence[str]) -> NoReturn:
    """Keep the rules as the API wants them, for ever."""
    parser = argparse.ArgumentParser(prog="kube-proxy", allow_abbrev=False, add_help=False)
    parser.add_argument("--kubeconfig", type=Path, required=True)
    parser.add_argument("--cluster-cidr", default="")
    parser.add_argument("--healthz-bind-address", default=HEALTHZ)
    parser.add_argument("--metrics-bind-address", default=METRICS)
    options = parser.parse_known_args(words)[0]
    client = Client(options.kubeconfig)
    serve(with_port(options.metrics_bind_address, METRICS), {"/proxyMode": MODE})
    applied, served = "", False
    while True:
        try:
            services, endpoints = (client.request("GET", f"/api/v1/{kind}")["items"] for kind in ("services", "endpoints"))
            wanted = ruleset(list(service_ports(services, endpoints)), options.cluster_cidr)
            if wanted != applied:
                apply(wanted)
                applied = wanted
                print("nftables_proxy: rules written", file=sys.stderr, flush=True)
            if not served:
                serve(with_port(options.healthz_bind_address, HEALTHZ), {"/healthz": "ok"})
                served = True
        except ApiError as error:
            print(f"nftables_proxy: {error}", file=sys.stderr, flush=True)
        except subprocess.CalledProcessError as error:
            print(f"nftables_proxy: nft refused the rules: {error.stderr}", file=sys.stderr, flush=True)
        time.sleep(POLL_SECONDS)
