"""When is a cluster up, and if it is not, which node and which unit is to blame."""

import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from . import podman
from .api import Api, ApiError, Json
from .distribution import Distribution
from .errors import LabError
from .topology import Node, Topology
from .workload import NAME, NAMESPACE

PATIENCE_SECONDS = 240.0
POLL_SECONDS = 0.5
# How often to look for a reason to give up early.
LOOK_SECONDS = 5.0
MANY_RESTARTS = 3
JOURNAL_LINES = 12
# Information and warnings of Kubernetes (klog's I1121 04:25:20.1) and of K3s would hide the one line that matters.
NOISE = re.compile(r"^(\S+: )?[IW]\d{4} | level=(info|warning) ")
ASK_SERVICE = "until curl -fsS --max-time 1 http://{address}/ >/dev/null 2>&1; do sleep 0.2; done"


@dataclass(frozen=True)
class Cluster:
    """What readiness asks about."""

    topology: Topology
    distribution: Distribution
    apis: dict[str, Api]


def wait_until(missing: Callable[[], list[str]], what: str, cluster: Cluster) -> None:
    """Poll until ``missing`` returns nothing.

    Raises:
        LabError: the patience is over, a node went away or a unit dies again and again
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
    next_look = time.monotonic() + LOOK_SECONDS
    while names := missing():
        hopeless: list[str] = []
        if time.monotonic() > next_look:
            hopeless = stopped(cluster.topology) or crashing(cluster)
            next_look = time.monotonic() + LOOK_SECONDS
        if hopeless or time.monotonic() > deadline:
            blamed = hopeless or names
            raise LabError(f"{what}: given up because of {', '.join(blamed)}\n{diagnosis(cluster, blamed)}")
        time.sleep(POLL_SECONDS)


def stopped(topology: Topology) -> list[str]:
    """Return the names of nodes whose container does not run."""
    running = {container["Names"][0] for container in podman.containers(topology.lab) if container["State"] == "running"}
    return [node.name for node in topology.nodes if node.container not in running]


def crashing(cluster: Cluster) -> list[str]:
    """Return the names of nodes with a unit that systemd has had to restart too often."""

    def restarts(node: Node) -> int:
        units = cluster.distribution.units(node)
        _, counts = podman.try_execute(node.container, "systemctl", "show", "--property=NRestarts", "--value", *units)
        return max((int(count) for count in counts.split() if count.isdigit()), default=0)

    nodes = cluster.topology.nodes
    with ThreadPoolExecutor(len(nodes)) as pool:
        return [node.name for node, count in zip(nodes, pool.map(restarts, nodes), strict=True) if count >= MANY_RESTARTS]


def unready_servers(cluster: Cluster) -> list[str]:
    """Return servers whose API server does not say that it is ready."""
    return [name for name, api in cluster.apis.items() if not api.ready()]


def unready_nodes(cluster: Cluster) -> list[str]:
    """Return nodes that the API does not know or does not call Ready."""
    ready = {node["metadata"]["name"] for node in listing(cluster, "/api/v1/nodes") if is_ready(node)}
    return [node.name for node in cluster.topology.nodes if node.name not in ready]


def nodes_without_web(cluster: Cluster) -> list[str]:
    """Return nodes without a ready pod of the web workload."""
    pods = listing(cluster, f"/api/v1/namespaces/{NAMESPACE}/pods?labelSelector=app%3D{NAME}")
    serving = {pod["spec"].get("nodeName") for pod in pods if is_ready(pod)}
    return [node.name for node in cluster.topology.nodes if node.name not in serving]


def listing(cluster: Cluster, path: str) -> list[Json]:
    """Return the items of a list from the first API server that answers, or nothing."""
    for api in cluster.apis.values():
        try:
            items: list[Json] = api.get(path)["items"]
        except ApiError:
            continue
        return items
    return []


def is_ready(item: Json) -> bool:
    """Tell whether a node or a pod has the condition Ready=True."""
    conditions = item.get("status", {}).get("conditions", [])
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


def unserved(cluster: Cluster) -> list[str]:
    """Return nodes from which the web Service cannot be reached within a while."""
    command = ASK_SERVICE.format(address=cluster.distribution.web_address)

    def answers(node: Node) -> bool:
        return podman.try_execute(node.container, "timeout", "20", "sh", "-c", command, timeout=30)[0] == 0

    nodes = cluster.topology.nodes
    with ThreadPoolExecutor(len(nodes)) as pool:
        return [node.name for node, served in zip(nodes, pool.map(answers, nodes), strict=True) if not served]


def missing_voters(cluster: Cluster) -> list[str]:
    """Return one placeholder for each voter that the datastore lacks."""
    members = cluster.topology.datastore
    try:
        voters = cluster.distribution.voters(lambda *words: podman.execute(members[0].container, *words))
    except LabError as error:
        return [str(error)]
    lacking = len(members) - voters
    return [f"{lacking} of {len(members)} voters of the datastore"] if lacking > 0 else []


def diagnosis(cluster: Cluster, names: list[str]) -> str:
    """Return the last journal lines of what does not run on the nodes in question."""
    nodes = [node for node in cluster.topology.nodes if node.name in names] or list(cluster.topology.nodes)
    return "\n".join(line for node in nodes for line in node_diagnosis(cluster.distribution, node))


def node_diagnosis(distribution: Distribution, node: Node) -> Iterator[str]:
    """Yield lines about one node: how its units are, and what those said that do not run or had to be restarted."""
    units = distribution.units(node)
    code, answer = podman.try_execute(node.container, "systemctl", "show", "--property=ActiveState,NRestarts", "--value", *units)
    words = answer.split()
    if code or len(words) != 2 * len(units):
        yield f"{node.name}: {answer.strip() or 'no answer'} (code {code}); see 'podman logs {node.container}'"
        return
    states = {unit: (words[2 * place + 1], words[2 * place]) for place, unit in enumerate(units)}
    troubled = [unit for unit, (state, restarts) in states.items() if state != "active" or restarts != "0"]
    # A unit may run and yet fail at its work: then the last one, which runs Kubernetes, has the story.
    for unit in troubled or units[-1:]:
        state, restarts = states[unit]
        yield f"{node.name}: {unit} is {state}, restarted {restarts} times; the errors that it told last:"
        _, journal = podman.try_execute(node.container, "journalctl", f"--unit={unit}", "--lines=2000", "--no-pager", "--output=cat")
        yield from [f"  {line}" for line in journal.splitlines() if not NOISE.match(line)][-JOURNAL_LINES:]
