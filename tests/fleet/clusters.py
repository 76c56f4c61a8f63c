"""Small clusters by the dozen: each is one container with systemd and sshd, and the stand-in for K3s of this folder.

Every node has an authority, an identity and a datastore of its own; what kubekeel does to them (files, units, restarts, gates, Leases,
taking back) is real. A cluster of one server cannot spare it, so their inventory has ``preflight_spare: false``.
"""

import contextlib
import dataclasses
import json
import pathlib
import socket
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import yaml

from lab import certificates, common, host, image, lifecycle, podman, requirements, ssh
from lab.archive import EXECUTABLE, SECRET, Entry, File, pack
from lab.cache import Cache
from lab.console import Steps
from lab.kubeconfig import kubeconfig
from lab.pki import Authority
from lab.secrets import ADMINISTRATOR, Secrets
from lab.state import State
from lab.topology import Node, Role, plan
from lab.units import enable

from . import rules, standin_api

ROOT = pathlib.Path(__file__).parents[2]
RELEASE = "v1.32.3+k3s1"
API_PORT, SSH_PORT = 6443, 22
PROGRAMS = "usr/local/lib/kubekeel-fleet"
STARTED_AT_ONCE = 4
PATIENCE = 120.0
UNIT = """\
[Unit]
Description=Stand-in for Lightweight Kubernetes
After=network.target

[Service]
Type=exec
EnvironmentFile=-/etc/default/%N
EnvironmentFile=-/etc/sysconfig/%N
Restart=always
RestartSec=5s
ExecStart=/usr/local/bin/k3s server

[Install]
WantedBy=multi-user.target
"""
PROGRAM = f"""\
#!/bin/sh
case $1 in
--version) echo 'k3s version {RELEASE} (standin)' ;;
server) PYTHONPATH=/{PROGRAMS} exec /usr/bin/python3 -m tests.fleet.standin_api ;;
*) exit 1 ;;
esac
"""
CONFIGURATION = """\
# An external datastore: the servers list no members of it.
datastore-endpoint: postgres://standin
# Nobody would say which mode is in force, or write rules.
disable-kube-proxy: true
"""


@dataclasses.dataclass(frozen=True)
class SmallClusters:
    """What stands."""

    lab: str
    state: State
    nodes: dict[str, Node]
    """The node of each cluster, by the cluster's name."""

    @property
    def names(self) -> list[str]:
        """The clusters."""
        return list(self.nodes)

    def write_inventory(self, path: pathlib.Path, names: Sequence[str] | None = None) -> pathlib.Path:
        """Write an inventory with all clusters, or with some of them, and return its path."""
        path.write_text(yaml.safe_dump(inventory(self, self.names if names is None else names), sort_keys=False, width=1000))
        return path

    def on(self, name: str, *command: str) -> str:
        """Run a command as root on the node of a cluster and return its output."""
        return podman.execute(self.nodes[name].container, *command)

    def spoil(self, name: str, flaw: str) -> None:
        """Give a node a flaw of the stand-in's, or take it away with an empty text."""
        self.on(name, "sh", "-c", f"echo '{flaw}' > {standin_api.FLAW}")

    def stop(self, name: str) -> None:
        """Take a node's power away."""
        podman.kill(self.nodes[name].container)
        # Ansible's next connection would go through one to a node that is no more.
        ssh.end_masters(self.state.control_path)

    def start(self, name: str) -> None:
        """Give it back, and wait until the node serves."""
        with podman.host_forwarding_kept():
            podman.start(self.nodes[name].container)
        wait_for(self.nodes[name])

    def processes(self) -> list[int]:
        """The first process of each node."""
        return [int(podman.podman("container", "inspect", "--format", "{{.State.Pid}}", node.container)) for node in self.nodes.values()]


def inventory(clusters: SmallClusters, names: Sequence[str]) -> dict[str, Any]:
    """Return the inventory of clusters: each is a group below ``clusters``, and its server is in ``servers``, too."""
    state = clusters.state
    return {
        "all": {
            "vars": {
                "ansible_user": image.OPERATOR,
                "ansible_become": True,
                "ansible_ssh_private_key_file": str(state.key),
                "ansible_ssh_common_args": f"-o UserKnownHostsFile={state.known_hosts} -o IdentitiesOnly=yes -o ConnectTimeout=5",
                "ansible_control_path_dir": str(state.control_path),
                "ansible_python_interpreter": "/usr/bin/python3",
                "kubekeel_distribution": "k3s",
                "preflight_spare": False,
            },
            "children": {
                "servers": {"hosts": {clusters.nodes[name].name: {"ansible_host": clusters.nodes[name].address} for name in names}},
                "clusters": {"children": {name: {"hosts": {clusters.nodes[name].name: {}}} for name in names}},
            },
        }
    }


@contextlib.contextmanager
def standing(lab: str, count: int) -> Iterator[SmallClusters]:
    """Make clusters and remove them in the end; what stands under that name is replaced.

    Args:
        lab: name of containers and network.
        count: how many.
    """
    cache, steps = Cache.from_environment(), Steps()
    requirements.require(requirements.TO_RUN, "A fleet of small clusters")
    podman.require_podman()
    image.node_image(cache, steps)
    host.allow_many_watchers()
    # No inventory of the lab's: that of a fleet is written where a test wants it.
    nowhere = cache.state(lab) / "inventory"
    with cache.lock(f"lab-{lab}"):
        lifecycle.remove(cache, lab, nowhere)
        try:
            with steps.step(f"make {count} small clusters"):
                clusters = made(cache, lab, count)
            yield clusters
        finally:
            with steps.step(f"remove {count} small clusters"):
                lifecycle.remove(cache, lab, nowhere)


def made(cache: Cache, lab: str, count: int) -> SmallClusters:
    """Make clusters and return when all of them serve."""
    with cache.lock("network"):
        subnet = podman.create_network(lab)
    topology = plan(lab, subnet, "10.42.0.0/16", {Role.SERVER: count})
    secrets = Secrets.create(topology)
    state = State(cache.state(lab), topology, "k3s", RELEASE, cache.state(lab) / "inventory", API_PORT)
    state.write(secrets)

    def start(node: Node) -> None:
        podman.create_node(node, image.NODE_IMAGE, f"/{common.INIT}", {})
        podman.copy_in(node.container, pack([*common.entries(topology, node, secrets), *entries(node)], time.time()))
        podman.start(node.container)

    with cache.lock("network"), podman.host_forwarding_kept(), ThreadPoolExecutor(STARTED_AT_ONCE) as pool:
        list(pool.map(start, topology.nodes))
    for node in topology.nodes:
        wait_for(node)
    return SmallClusters(lab, state, {f"small{node.number}": node for node in topology.nodes})


def entries(node: Node) -> Iterator[Entry]:
    """Yield the files that make a node a small cluster."""
    authority = Authority(f"{node.name}-ca")
    serving = authority.issue("kube-apiserver", names=[*certificates.API_NAMES, node.name, node.address])
    administrator = authority.issue(ADMINISTRATOR, "system:masters")
    facts = rules.Facts(node.name, node.address, str(uuid.uuid4()), RELEASE, API_PORT)
    place = str(standin_api.SERVER / "tls").lstrip("/")
    local = f"https://127.0.0.1:{API_PORT}"
    for name in ("rules.py", "standin_api.py"):
        yield File(f"{PROGRAMS}/tests/fleet/{name}", (pathlib.Path(__file__).parent / name).read_bytes())
    yield File("usr/local/bin/k3s", PROGRAM.encode(), EXECUTABLE)
    yield File("etc/systemd/system/k3s.service", UNIT.encode())
    yield enable("k3s.service")
    yield File(str(standin_api.FACTS).lstrip("/"), json.dumps(dataclasses.asdict(facts)).encode())
    yield File(f"{place}/server.crt", serving.certificate)
    yield File(f"{place}/server.key", serving.key, SECRET)
    yield File(f"{place}/client-ca.crt", authority.pair.certificate)
    yield File("etc/rancher/k3s/config.yaml", CONFIGURATION.encode(), SECRET)
    yield File("etc/rancher/k3s/k3s.yaml", kubeconfig(local, authority.pair.certificate, ADMINISTRATOR, administrator), SECRET)


def wait_for(node: Node) -> None:
    """Wait until a node lets people in and its API listens.

    Raises:
        TimeoutError: it does not.
    """
    until = time.monotonic() + PATIENCE
    for port in (SSH_PORT, API_PORT):
        while True:
            try:
                socket.create_connection((node.address, port), 2).close()
                break
            except OSError as error:
                if time.monotonic() > until:
                    raise TimeoutError(f"{node.container} does not listen at port {port}: {error}") from error
                time.sleep(0.2)
