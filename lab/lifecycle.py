"""``up`` and ``down``."""

import contextlib
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from . import binaries, common, distributions, host, image, inventory, podman, readiness, requirements, state, watchdog, workload
from .api import ApiError
from .archive import pack
from .binaries import KubeBinaries
from .cache import Cache
from .console import Steps
from .distribution import Distribution
from .errors import LabError, UsageError
from .readiness import Cluster
from .secrets import Secrets
from .state import State
from .topology import Node, Role, Topology, check_name, plan
from .vm import image as vm_image
from .vm import lifecycle as machines

KUBE_MOUNT = "/opt/kubekeel-lab/kube"
KUBECTL_MOUNT = "/opt/kubekeel-lab/kubectl"


def build(cache: Cache, steps: Steps) -> KubeBinaries:
    """Fill the caches.

    Raises:
        LabError: a package is missing or a build failed
    """
    needed = [*requirements.TO_RUN]
    if binaries.needs_build(cache):
        needed += requirements.TO_BUILD_KUBERNETES
    requirements.require(needed, "The lab")
    podman.require_podman()
    kube = binaries.kube_binaries(cache, steps)
    image.node_image(cache, steps)
    return kube


def up(cache: Cache, steps: Steps, *, lab: str, distribution_name: str, wanted: Mapping[Role, int], inventory_folder: Path) -> State:
    """Make a cluster and return when it serves; what stands under that name is replaced.

    Raises:
        LabError: with the node and the unit that failed, and its last words
    """
    check_name(lab)
    chosen = distributions.find(distribution_name)
    chosen.check()
    if not chosen.splits_servers and Role.ETCD in wanted:
        raise UsageError(f"{chosen.name} has no servers without a control plane")
    if inventory_folder.exists() and any(inventory_folder.iterdir()) and not inventory.is_ours(inventory_folder):
        raise LabError(f"{inventory_folder} is not the lab's own; choose another with --inventory")
    kube = build(cache, steps)
    base = vm_image.ensure(cache, steps, kube) if Role.GUEST in wanted else None
    host.allow_many_watchers()
    with cache.lock(f"lab-{lab}"):
        remove(cache, lab, inventory_folder)
        with steps.step("make keys and a network"):
            with cache.lock("network"):
                subnet = podman.create_network(lab)
            topology = machines.with_ports(plan(lab, subnet, chosen.pod_network, wanted, registration=chosen.splits_servers))
            secrets = Secrets.create(topology)
            made = State(cache.state(lab), topology, chosen.name, kube.version, inventory_folder.resolve(), chosen.api_port)
            made.write(secrets)
        with steps.step(f"start {len(topology.machines)} machines"), cache.lock("network"), podman.host_forwarding_kept():
            if base is not None:
                machines.boot(cache, made, base, secrets)
            start_nodes(topology.containers, chosen, secrets, kube)
        cluster = Cluster(topology.containers, chosen, made.apis(made.administrator()))
        if topology.guests:
            machines.wait(steps, made, cluster)
        else:
            wait(steps, cluster)
        inventory.write(made)
    return made


def start_nodes(topology: Topology, chosen: Distribution, secrets: Secrets, kube: KubeBinaries) -> None:
    """Create, fill and start all containers side by side."""
    mounts = {kube.folder: KUBE_MOUNT, kube.kubectl: KUBECTL_MOUNT}

    def start(node: Node) -> None:
        podman.create_node(node, image.NODE_IMAGE, f"/{common.INIT}", mounts)
        files = [
            *common.entries(topology, node, secrets),
            *chosen.entries(topology, node, secrets, kube.version),
        ]
        podman.copy_in(node.container, pack(files, time.time()))
        podman.start(node.container)

    with ThreadPoolExecutor(len(topology.machines)) as pool:
        list(pool.map(start, topology.machines))


def wait(steps: Steps, cluster: Cluster) -> None:
    """Wait until the cluster serves, step by step."""

    def workload_missing() -> list[str]:
        api = cluster.apis[cluster.topology.api_servers[0].name]
        try:
            for path, body in workload.objects(len(cluster.topology.nodes), cluster.distribution.web_address):
                api.ensure(path, body)
        except ApiError as error:
            return [str(error)]
        return []

    for title, missing in (
        ("wait for the API servers", lambda: readiness.unready_servers(cluster)),
        ("deploy the web workload", workload_missing),
        ("wait for the nodes to be Ready", lambda: readiness.unready_nodes(cluster)),
        ("wait for a web pod on each node", lambda: readiness.nodes_without_web(cluster)),
        ("wait for the Service to answer on each node", lambda: readiness.unserved(cluster)),
        ("count the datastore's voters", lambda: readiness.missing_voters(cluster)),
    ):
        with steps.step(title):
            readiness.wait_until(missing, title, cluster)


def remove(cache: Cache, lab: str, inventory_folder: Path) -> None:
    """Remove every trace of a lab but the caches, also of one that never came up.

    Raises:
        LabError: podman would not let something go
    """
    folders = {inventory_folder}
    # A half-finished lab has no readable state; podman's labels still know its parts.
    with contextlib.suppress(LabError):
        folders.add(state.load(cache, lab).inventory)
    watchdog.relieve_all(cache, lab)
    machines.remove(cache, lab)
    podman.remove_lab(lab)
    state.remove(cache, lab)
    for folder in folders:
        inventory.remove(folder)
