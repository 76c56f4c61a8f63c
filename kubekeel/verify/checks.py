"""What is checked, of what was collected on a node and what the inventory wants. Reads nothing."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .. import collection

collection.importable()

from ansible_collections.kubekeel.ha.plugins.module_utils import (  # noqa: E402
    go_duration,
    health,
    kubelite_args,
    settings,
    sysctl_files,
)

Facts = Mapping[str, Any]
"""As collector.py prints them."""
Flags = list[tuple[str, str]]

LEADERS = ("kube-controller-manager", "kube-scheduler")
SECRET_FILES = ("/etc/rancher/k3s/config.yaml.d/zz-kubekeel.yaml",)
"""Of kubekeel's files those that may hold secrets."""
REMEDIATE = "kubekeel remediate"


class DoesNotApplyError(Exception):
    """There is nothing of the kind on this node. The message says why."""


class UnknownError(Exception):
    """It cannot be told whether all is well. The message says why."""


@dataclass(frozen=True)
class Node:
    """A node, as the checks see it."""

    name: str
    """In the inventory."""
    wanted: Mapping[str, Any]
    """C(flags), C(environment), C(sysctls) and C(node_lease), see wanted.py."""
    facts: Facts
    view: Mapping[str, Any] | None = None
    """What an API server says of the cluster: that of this node, or of another one where it has none."""
    node_name: str = ""
    """In Kubernetes, where the inventory says so."""
    ignored: frozenset[str] = field(default_factory=frozenset)
    """Nodes that may be down."""

    @property
    def name_in_kubernetes(self) -> str:
        """The node's name in Kubernetes."""
        given = [value for name, value in running(self, "kubelet") or () if name == "hostname-override"]
        return (self.node_name or (given or [self.facts["host_name"]])[-1]).lower()


def running(node: Node, component: str) -> Flags | None:
    """Return the flags that a component was started with, None where it does not run here."""
    found = node.facts["components"].get(component)
    if found is None:
        return None
    text = found["text"] if "text" in found else "\n".join(found["words"])
    return [(flag.name, "true" if flag.value is None else flag.value) for flag in kubelite_args.parse(text).flags]


def unit_runs(node: Node) -> list[str]:
    """Check that the unit runs, and has not died since it was started."""
    state, unit = node.facts["state"], node.facts["unit"]
    if (state["ActiveState"], state["SubState"]) != ("active", "running"):
        return [f"{unit} is {state['ActiveState']} ({state['SubState']})"]
    return [f"{unit} died {state['NRestarts']} times since it was started"] if state["NRestarts"] not in ("", "0") else []


def flags_in_force(node: Node) -> list[str]:
    """Check the flags of the components that run, each of them there once."""
    found, compared = [], False
    for component, flags in node.wanted["flags"].items():
        actual = running(node, component)
        if actual is None:
            found += _missing(node, component)
            continue
        compared = True
        file = node.facts["components"][component]
        if file.get("written", 0) > node.facts["started_at"]:
            found.append(f"{file['path']} was changed after {node.facts['unit']} started, which runs with what was there before")
        for name, value in flags.items():
            found += _differs(component, name, value, [one for named, one in actual if named == name])
    if not compared and not found:
        raise DoesNotApplyError("none of the components with wanted flags runs here")
    return found


def _missing(node: Node, component: str) -> list[str]:
    """Say what it means that nothing is known of a component; in K3s it may be switched off."""
    if node.facts["distribution"] == "microk8s":
        return [f"{component} does not run"]
    if node.facts["log_problem"]:
        raise UnknownError(f"the flags of {component} cannot be read: {node.facts['log_problem']}")
    return []


def _differs(component: str, name: str, wanted: str | None, actual: list[str]) -> list[str]:
    if wanted is None:
        # Of etcd other files may say what kubekeel leaves alone.
        gone = not actual or component == settings.ETCD
        return [] if gone else [f"{component} runs with --{name}={actual[-1]}, which is to be gone"]
    if not actual:
        return [f"{component} runs without --{name}; wanted is {wanted}"]
    if not go_duration.same_value(actual[-1], wanted):
        return [f"{component} runs with --{name}={actual[-1]}; wanted is {wanted}"]
    return [f"{component} was given --{name} {len(actual)} times"] if len(actual) > 1 else []


def environment_in_force(node: Node) -> list[str]:
    """Check the environment of the process that runs."""
    actual = node.facts["environment"]
    return [
        f"{node.facts['unit']} runs with {_variable(name, actual.get(name))}; wanted is {_variable(name, value)}"
        for name, value in node.wanted["environment"].items()
        if actual.get(name) != value
    ]


def _variable(name: str, value: str | None) -> str:
    return f"no {name}" if value is None else f"{name}={value}"


def sysctls_in_force(node: Node) -> list[str]:
    """Check what the kernel has now."""
    actual = {name: sysctl_files.normalize(value or "") for name, value in node.facts["sysctls"].items()}
    return [
        f"{name} is {actual.get(name) or 'not there'}; wanted is {value}"
        for name, value in node.wanted["sysctls"].items()
        if actual.get(name) != value
    ]


def sysctls_at_boot(node: Node) -> list[str]:
    """Check what the files of sysctl.d say for the next boot, all of them together."""
    entries = {path: sysctl_files.parse(text) for path, text in node.facts["boot"].items()}
    found = []
    for name, value in node.wanted["sysctls"].items():
        actual = sysctl_files.at_boot(name, entries)
        if actual is None:
            found.append(f"no file sets {name} at the next boot; wanted is {value}")
        elif actual[0] != value:
            found.append(f"{actual[1]} sets {name} to {actual[0]} at the next boot; wanted is {value}")
    return found


def files_are_safe(node: Node) -> list[str]:
    """Check owner and mode of the files that kubekeel writes to: what was there before a run keeps its mode."""
    kept: dict[str, int] = {}
    for run in node.facts["runs"]:
        kept.update({path: mode for path, mode in run["files"].items() if mode is not None})
    found = []
    for path, stat in node.facts["files"].items():
        if stat is None:
            continue
        wanted = 0o600 if path in SECRET_FILES else kept.get(path, stat["mode"])
        if stat["owner"] != 0:
            found.append(f"{path} belongs to the user with the id {stat['owner']}, not to root")
        if stat["mode"] & 0o002:
            found.append(f"{path} can be changed by everybody (mode {stat['mode']:04o})")
        if stat["mode"] != wanted:
            found.append(f"{path} has the mode {stat['mode']:04o}; wanted is {wanted:04o}")
    return found


def records_are_private(node: Node) -> list[str]:
    """Check that what kubekeel keeps of its runs is for root only: there may be secrets in it."""
    if not node.facts["runs"]:
        raise DoesNotApplyError("kubekeel has changed nothing on this node")
    return [
        f"{path} is not for root alone (mode {stat['mode']:04o})"
        for run in node.facts["runs"]
        for path, stat in run["places"].items()
        if stat and (stat["owner"] != 0 or stat["mode"] & 0o077)
    ]


def nothing_half_done(node: Node) -> list[str]:
    """Check that no run broke off, that nothing waits for a restart, and that no file is left half written."""
    found = [f"{path} was left half written" for path in node.facts["leftovers"]]
    found += [f"the record of run {run['run']} cannot be read" for run in node.facts["runs"] if not run["readable"]]
    latest = max(node.facts["runs"], key=lambda run: (run["began"], run["run"]), default=None)
    if latest and latest["state"] == "begun":
        found.append(f"run {latest['run']} began on this node and did not come to its end")
    mark = node.facts["mark"]
    if mark and node.facts["started"] <= mark["moment"]:
        found.append(f"{node.facts['unit']} was not restarted since its settings changed{_by(mark['runs'])}")
    return found


def _by(runs: list[str]) -> str:
    return " by run " + ", ".join(runs) if runs else ""


def leaders_leases(node: Node) -> list[str]:
    """Check the Leases of controller-manager and scheduler: how long they last, and that somebody holds them."""
    view = _own_view(node)
    found = []
    for component in LEADERS:
        lease = view["leaders"].get(component)
        if lease is None:
            found.append(f"there is no Lease of {component}")
            continue
        seconds = lease.get("leaseDurationSeconds") or 0
        wanted = node.wanted["flags"].get(component, {}).get("leader-elect-lease-duration")
        if wanted and seconds != int(go_duration.seconds(wanted)):
            found.append(f"the Lease of {component} lasts {seconds} s; wanted is {wanted}")
        if not health.holder({"spec": lease}):
            found.append(f"nobody leads {component}")
        elif _expired(lease, view["now"]):
            found.append(f"the Lease of {component} has run out: {health.holder({'spec': lease})} does not renew it")
    return found


def node_is_ready(node: Node) -> list[str]:
    """Check that the node is Ready, and that its kubelet renews its Lease, which lasts as long as it should."""
    view, name = _view(node), node.name_in_kubernetes
    if name not in view["nodes"]:
        return [f"the cluster has no node {name}"]
    ready = view["nodes"][name]["conditions"].get("Ready", "Unknown")
    found = [] if ready == "True" else [f"node {name} is not Ready ({ready})"]
    lease = view["leases"].get(name)
    if lease is None:
        return [*found, f"node {name} has no Lease"]
    if _expired(lease, view["now"]):
        found.append(f"the kubelet of node {name} has not renewed its Lease since {lease.get('renewTime')}")
    if lease.get("leaseDurationSeconds") != node.wanted["node_lease"]:
        found.append(f"the Lease of node {name} lasts {lease.get('leaseDurationSeconds')} s; wanted is {node.wanted['node_lease']} s")
    return found


def all_nodes_ready(node: Node) -> list[str]:
    """Check that every node of the cluster is Ready, as this node's API server sees it, but those that may be down."""
    nodes = _own_view(node)["nodes"]
    return [
        f"node {name} is not Ready" for name, one in nodes.items() if one["conditions"].get("Ready") != "True" and name not in node.ignored
    ]


def etcd_votes(node: Node) -> list[str]:
    """Check that every node with K3s' etcd is a voter."""
    nodes = {name: one for name, one in _own_view(node)["nodes"].items() if one["has_etcd"]}
    if node.facts["distribution"] != "k3s" or not nodes:
        raise DoesNotApplyError("the cluster runs no etcd of K3s")
    return [
        f"node {name} has etcd and is no voter of it"
        for name, one in nodes.items()
        if one["conditions"].get("EtcdIsVoter") != "True" and name not in node.ignored
    ]


def proxy_mode_in_use(node: Node) -> list[str]:
    """Check the mode that kube-proxy itself says it is in: where ipvs cannot be had it may be another one than was asked for."""
    wanted = node.wanted["flags"].get("kube-proxy", {}).get("proxy-mode")
    actual = node.facts["proxy_mode"]
    if not wanted:
        raise DoesNotApplyError("no mode is wanted")
    if actual is None:
        told = running(node, "kube-proxy")
        where = "its flag tells" if told else "it does not run here"
        raise DoesNotApplyError(f"kube-proxy does not answer at /proxyMode; {where}")
    return [] if actual == wanted else [f"kube-proxy works with {actual}; wanted is {wanted}"]


def _view(node: Node) -> Mapping[str, Any]:
    if node.view is None:
        _know_what_runs(node)
        raise DoesNotApplyError("no server was looked at that could say it")
    if "problem" in node.view:
        raise UnknownError(f"the API server does not say: {node.view['problem']}")
    return node.view


def _own_view(node: Node) -> Mapping[str, Any]:
    if node.facts["api"] is None:
        _know_what_runs(node)
        raise DoesNotApplyError("no API server runs here")
    return _view(node)


def _know_what_runs(node: Node) -> None:
    """Tell apart what does not run here from what nobody can tell."""
    if node.facts["log_problem"]:
        raise UnknownError(node.facts["log_problem"])


def _expired(lease: Mapping[str, Any], now: float) -> bool:
    renewed = health.moment(lease.get("renewTime"))
    return renewed is None or now - renewed > (lease.get("leaseDurationSeconds") or health.LEASE_DURATION) + health.CLOCK_SKEW


@dataclass(frozen=True)
class Check:
    """A check, and what is to be said of it."""

    name: str
    title: str
    why: str
    look: Callable[[Node], list[str]] = lambda _node: []
    """Returns what is wrong, a sentence each."""
    remedy: str = REMEDIATE
    source: str = "docs/safety.md"


READ = Check(
    "reached",
    "The node can be read",
    "what is in force on a node that cannot be read nobody knows",
    remedy="look at the node and at how Ansible reaches it, then kubekeel verify once more",
)
"""Fails where nothing else can be checked."""
ALL = (
    READ,
    Check("unit", "The unit of Kubernetes runs", "a unit that dies again and again takes its node with it", unit_runs),
    Check("flags", "Running components have the wanted flags", "what stands in a file counts from the next restart on", flags_in_force),
    Check(
        "environment",
        "The running unit has the wanted environment",
        "what stands in a file counts from the next restart on",
        environment_in_force,
    ),
    Check("sysctls", "The kernel has the wanted values now", "somebody else may have set them since", sysctls_in_force),
    Check("sysctls_at_boot", "The kernel gets the wanted values at the next boot", "a later file may say something else", sysctls_at_boot),
    Check("files", "Files belong to root and kept their mode", "who may write them may stop the cluster", files_are_safe),
    Check("records", "Records of runs are for root alone", "they hold previous files, which may have secrets in them", records_are_private),
    Check("complete", "Nothing was left half done", "files and what runs may differ until the next run", nothing_half_done),
    Check(
        "leaders",
        "Controller-manager and scheduler have leaders and the wanted Leases",
        "until the Lease of a dead leader runs out nobody schedules, evicts or removes endpoints",
        leaders_leases,
    ),
    Check(
        "node",
        "The node is Ready and renews its Lease",
        "the Lease tells how soon its death is noticed",
        node_is_ready,
        remedy="kubekeel audit, then kubekeel remediate",
    ),
    Check(
        "nodes",
        "Every node of the cluster is Ready",
        "what is lost next is one more",
        all_nodes_ready,
        remedy="mend the node, or name it in preflight_ignore_nodes",
    ),
    Check(
        "etcd",
        "Every node with etcd is a voter",
        "a member without a vote does not count when another one is lost",
        etcd_votes,
        remedy="kubekeel audit",
    ),
    Check("proxy_mode", "kube-proxy works in the wanted mode", "it may fall back to another one than its flag says", proxy_mode_in_use),
)
