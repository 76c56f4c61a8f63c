"""What reads files and answers, and what computes with variables, here and on the controller."""

import contextlib
import json
import pathlib
import re
import struct
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.kubekeel.ha.plugins.filter import (
    drill,
    drill_plan,
    failover_budget,
    findings,
    heartbeat_order,
    profile_value,
    rollback_plan,
    timing_violations,
    write_latency_refusal,
)
from ansible_collections.kubekeel.ha.plugins.module_utils import (
    addresses,
    cluster_guards,
    environment_file,
    etcd_messages,
    failover,
    go_duration,
    guards,
    health,
    k3s,
    known_bugs,
    kube_api,
    kubelet_file,
    lb_state,
    node_change,
    registration,
    release,
    snapd,
    sysctl_files,
    systemd,
    timing,
    unit_environment,
    unit_file,
    unit_log,
)
from ansible_collections.kubekeel.ha.plugins.module_utils.node_files import NodeError
from ansible_collections.kubekeel.ha.plugins.plugin_utils import cluster_nodes
from hypothesis import strategies as st

from . import independent, seeds
from .inputs import LEAVES, broken, fuzz, wrecked
from .node import Node

# -- Files and answers -------------------------------------------------------------------------------------------------


@fuzz(2000, text=broken(*seeds.CONFIGS, *seeds.OURS, seeds.AGENT_CONFIG))
def test_yaml(node: Node, text: str) -> None:
    """What is read is what K3s reads; all else is refused."""
    node.fill({"config.yaml": text})
    path = node.etc / "config.yaml"
    try:
        files = k3s.read_files(str(path))
    except NodeError as refused:
        said = str(refused)
        assert re.match(re.escape(str(path)) + r":[1-9]\d*: \w", said) and seeds.SECRET not in said, said  # noqa: PT018
        return
    entries = [entry for file in files for entry in file.entries]
    try:
        expected = list(independent.CONFIG["pairs"](path))
    except independent.CONFIG["ConfigError"]:
        assert independent.is_finicky(text)
        return
    assert [entry.key for entry in entries] == [key for key, _value in expected]
    for entry, (_key, value) in zip(entries, expected, strict=True):
        ours = [one.text for one in entry.value] if isinstance(entry.value, tuple) else entry.value.text
        # Numbers stay as they are written.
        assert alike(ours) == alike(value)


def alike(value: str | list[str]) -> object:
    return [alike(one) for one in value] if isinstance(value, list) else independent.CONFIG["number"](value) if value else value


STATUS = """microk8s:
  running: True
high-availability:
  enabled: True
  nodes:
    - address: 10.89.0.11:19001
      role: voter
    - address: '[fd00::2]:19001'
      role: standby
addons:
- name: dns
  status: enabled
"""
SHOWN = """LoadState=loaded
ActiveState=active
EnvironmentFiles=/etc/default/k3s (ignore_errors=yes)
Environment=A=1 "B=2 3"
"""
A_NODE: dict[str, Any] = {
    "kind": "Node",
    "metadata": {"name": "node-a", "labels": {"node-role.kubernetes.io/etcd": "true"}, "annotations": {"k3s.io/hostname": "a"}},
    "status": {
        "addresses": [{"type": "InternalIP", "address": "10.89.0.11"}],
        "conditions": [{"type": "Ready", "status": "True"}],
        "nodeInfo": {"kubeletVersion": "v1.31.3+k3s1"},
    },
}
KUBECTL = json.dumps({"kind": "List", "items": [A_NODE]}, indent=1)
LOG = "k3s[1]: E0101 x\nFlag --a has been deprecated\nError: unknown flag: --x\npanic: y\nk3s.service: Failed with result 'exit-code'.\n"


def shown(text: str) -> object:
    found = systemd.show(SimpleNamespace(run_command=lambda *_: (0, text, "")), "k3s")
    return systemd.environment_files(found), systemd.environment(found)


def listed(text: str) -> object:
    return cluster_nodes.to_hosts(cluster_nodes.select(cluster_nodes.read_nodes(text, "kubectl"), "[?metadata.name]"), "InternalIP")


def remembered(text: str) -> object:
    return lb_state.judge(lb_state.parse(text), ["https://10.89.0.11:6443"], ["10.89.0.11:6443"], {})


def command(text: str) -> object:
    return k3s.arguments(unit_file.expand(unit_file.command([("k3s.service", text)]), {"MORE": "x y"}))


def at_boot(text: str) -> object:
    return sysctl_files.at_boot("net.ipv4.tcp_retries2", {"/etc/sysctl.d/a.conf": sysctl_files.parse(text)})


Reader = tuple[Callable[[str], object], tuple[str, ...], tuple[type[Exception], ...]]
READERS: dict[str, Reader] = {
    "microk8s status": (health.members_of_status, (STATUS,), ()),
    "systemctl show": (shown, (SHOWN,), (NodeError,)),
    "kubectl get nodes": (listed, (KUBECTL,), (cluster_nodes.ClusterError,)),
    "load balancer": (remembered, seeds.STATES, ()),
    "snap changes": (snapd.under_way, (seeds.SNAP_CHANGES,), ()),
    "snap list": (lambda text: snapd.installed(text, "microk8s"), (seeds.SNAPS,), ()),
    "snap hold": (lambda text: snapd.hold_of_all(text, 0.0), seeds.HOLDS, ()),
    "clock": (lambda text: cluster_guards.apart(kube_api.Stamp(text, 0.0, 1.0)), ("Sat, 21 Nov 2026 03:00:00 GMT",), ()),
    "release": (release.parse_release, ("v1.31.3+k3s1", "version: v1.20.2", "6.1.0-13-amd64", "nft v1.0.6"), ()),
    "bugs": (lambda text: known_bugs.findings("k3s", text, known_bugs.AGENT), ("v1.31.3+k3s1", "v1.32.0-rc1+k3s1"), ()),
    "log": (lambda text: unit_log.telling_lines(text.split("\n")), (LOG,), ()),
    "command": (command, seeds.UNIT_TEXTS, (ValueError,)),
    "environment file": (environment_file.variables, seeds.VARIABLES, ()),
    "drop-in": (unit_environment.parse, seeds.DROP_INS, ()),
    "sysctls": (at_boot, (seeds.SYSCTLS,), ()),
    "kubelet": (lambda text: (kubelet_file.parse(text), kubelet_file.stated(text)), seeds.KUBELET_FILES, ()),
    "duration": (go_duration.seconds, ("15s", "1m30s", "1.5h", "500ms", "1h1m1s"), (ValueError,)),
    "registration": (registration.normalize, seeds.ADDRESSES, (ValueError,)),
    "address": (lambda text: (addresses.split(text), addresses.canonical(text)), ("10.0.0.1:6443", "[fd00::1]:6443", "Host"), ()),
    "diff": (node_change.hide_secrets, (*seeds.CONFIGS, *seeds.VARIABLES), ()),
}


@pytest.mark.parametrize("name", READERS)
@fuzz(350, data=st.data())
def test_readers(name: str, data: st.DataObject) -> None:
    """Nothing but what the reader says that it raises."""
    read, texts, refusals = READERS[name]
    with contextlib.suppress(*refusals):
        read(data.draw(broken(*texts)))


@fuzz(500, text=broken(*seeds.ADDRESSES))
def test_an_address_stays_what_it_is(text: str) -> None:
    with contextlib.suppress(ValueError):
        url = registration.normalize(text)
        assert registration.normalize(url) == url
        assert re.fullmatch(r"https://(\[[0-9A-Fa-f:.]+(%[\w.%-]+)?\]|[\w.-]+):[1-9][0-9]{0,4}", url)


@fuzz(600, one=broken("15s", "1m30s", "1.5h", "500ms"), other=broken("15s", "90s", "5400s", "0.5s"))
def test_durations(one: str, other: str) -> None:
    assert go_duration.same_value(one, one)
    assert go_duration.same_value(one, other) is go_duration.same_value(other, one)
    with contextlib.suppress(ValueError):
        length = go_duration.seconds(one)
        assert 0 <= length <= 2**63 / 1e9
        assert not go_duration.same_value(one, "%.9fs" % (length + 1 + length / 1e6))


@fuzz(500, text=broken(seeds.KUBECONFIG))
def test_kubeconfigs(tmp_path: pathlib.Path, text: str) -> None:
    """There is somebody to ask as, or a sentence that names the file and no secret."""
    path = tmp_path / "admin.config"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    try:
        found = kube_api.Credentials(str(path))
    except NodeError as refused:
        said = str(refused)
        assert str(path) in said and seeds.SECRET not in said, said  # noqa: PT018
        return
    assert found.host
    assert found.port
    assert found.token or found.has_certificate


ETCD = (
    b"\x0a\x02\x08\x05\x12\x26\x08\x07\x12\x06node-a\x1a\x17https://10.89.0.11:2380\x22\x01x",
    b"\x00" + struct.pack("!I", 4) + b"\x0a\x02\x10\x07",
    etcd_messages.request(etcd_messages.STATUS, "10.89.0.11:2379"),
)


@fuzz(800, text=broken(*(data.decode("latin-1") for data in ETCD)), more=st.sampled_from([b""] * 9 + [b"\xff" * 2_000_000]))
def test_answers_of_etcd(text: str, more: bytes) -> None:
    data = text.encode("latin-1", "ignore") + more
    for read in (etcd_messages.members, etcd_messages.leader, etcd_messages.message, etcd_messages.frames):
        with contextlib.suppress(ValueError):
            read(data)


# -- Variables and results ---------------------------------------------------------------------------------------------

LEASE: dict[str, Any] = {"owner": "kubelet", "name": "nodeLeaseDurationSeconds", "before": None, "after": "4", "why": "x", "source": "y"}
GRACE = {**LEASE, "owner": "kube-controller-manager", "name": "node-monitor-grace-period", "before": "40s", "after": "8s"}
RESULTS: list[dict[str, Any]] = [
    {"changes": [LEASE], "effective": {"nodeLeaseDurationSeconds": "4"}, "diff": [{}], "restart": ["k3s"], "absent": []},
    {"changes": [GRACE], "effective": {"kube-controller-manager": {"leader-elect-lease-duration": "15s", "v": "true"}}, "restart": []},
    {"changes": [], "effective": {"net.ipv4.tcp_retries2": {"runtime": "8", "boot": "8"}, "HTTP2_PING_TIMEOUT_SECONDS": None}},
]
SERVER = {"results": RESULTS, "distribution": "k3s", "release": "v1.31.3+k3s1", "election_timeout": "5s", "leads": True}
DURATIONS = {name: f"{number}s" for number, name in enumerate(sorted({name for rule in timing.RULES for name in rule.names}), 1)}
CLUSTER = {
    "names": {"a": "n1", "b": "n2", "c": "n3"},
    "servers": ["a", "b", "c"],
    "agents": [],
    "api_servers": ["a", "b", "c"],
    "etcd_only": [],
    "leaders": {"kube-controller-manager": "n1"},
}
DRILL: dict[str, Any] = {
    "schema": 1,
    "id": "x",
    "cluster": "c",
    "scenario": "leader_loss",
    "profile": "fast",
    "slowest": {"new_leader": 1.0, "endpoint_gone": 2.0},
    "requests": {"failed": 1, "longest_gap": 0.5},
    "passed": True,
}
A_RUN: dict[str, Any] = {
    "run_id": "r1",
    "began": "2026-11-21T03:00:00Z",
    "state": "done",
    "about": {"profile": "fast"},
    "files": [{"name": "/x", "before": "1", "after": "2"}],
    "sysctls": [{"name": "a.b", "before": "1", "after": "2"}],
    "edited": ["/x"],
}
ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "timing_violations": (DURATIONS,),
    "profile_value": ("fast", "leader_election_retry_period"),
    "write_latency_refusal": (12.5, "7s", "500ms"),
    "drill_plan": (CLUSTER, "server_loss", "command"),
    "drill_compared": ({**DRILL, "id": "y"}, [DRILL]),
    "heartbeat_order": ({"a": RESULTS, "b": []}, ["a", "b"]),
    "failover_budget": ({"a": SERVER},),
    "findings_alike": ({"a": [1], "b": [1]},),
    "findings_by_nodes": ({"a": RESULTS},),
    "findings_guards": ({"a": [guards.found("node_cordoned", node="a"), guards.found("snap_hold")], "b": []}, ["clock_skew"]),
    "rollback_plan": ({"a": [A_RUN], "b": [{**A_RUN, "run_id": "r2-2"}, {**A_RUN, "run_id": "r2"}]}, "r2", ["c"], False),
    "findings_reasons": ([{"nodes": ["a"], "changes": [LEASE, GRACE]}],),
}
FILES = (
    *(drill, drill_plan, failover_budget, findings, heartbeat_order),
    *(profile_value, rollback_plan, timing_violations, write_latency_refusal),
)
FILTERS: dict[str, Callable[..., Any]] = {name: made for file in FILES for name, made in file.FilterModule().filters().items()}


@pytest.mark.parametrize("name", ARGUMENTS)
@fuzz(400, data=st.data())
def test_filters(name: str, data: st.DataObject) -> None:
    arguments = [data.draw(wrecked(argument)) for argument in ARGUMENTS[name]]
    with contextlib.suppress(AnsibleFilterError):
        json.dumps(FILTERS[name](*arguments))


VALUES = st.sampled_from(["15s", "0s", "1ms", "4", 4, "0", 0, 255, "9" * 18, "2562047h", None, ""]) | LEAVES
OWNERS = {source.owner for source in failover.SOURCES.values()}
SOURCES = {
    owner: st.fixed_dictionaries({}, optional={source.name: VALUES for source in failover.SOURCES.values() if source.owner == owner})
    for owner in OWNERS
}


@fuzz(900, effective=st.fixed_dictionaries({}, optional=SOURCES), said=broken("v1.31.3+k3s1"))
def test_budgets(effective: dict[str, Any], said: str) -> None:
    budget = failover.budget(failover.from_flags(effective, "k3s", said))
    json.dumps(budget.as_dict(), allow_nan=False)
    for step in (step for steps in budget.losses.values() for step in steps):
        best, typical, worst = step.seconds
        slack = 1e-6 * max(1.0, worst)
        assert -slack <= best <= typical + slack
        assert typical <= worst + slack


@fuzz(600, values=st.fixed_dictionaries({}, optional=dict.fromkeys(DURATIONS, VALUES)))
def test_rules(values: dict[str, Any]) -> None:
    found = timing.violations(values)
    for name, value in values.items():
        try:
            go_duration.seconds(str(value))
        except ValueError:
            assert any(sentence.startswith(name + ": ") for sentence in found)


KUBE: dict[str, Any] = {
    "nodes": [A_NODE],
    "leases": [{"metadata": {"name": "node-a"}, "spec": {"renewTime": "2026-11-21T02:59:55.500000Z", "leaseDurationSeconds": 40}}],
    "leaders": [{"metadata": {"name": "kube-scheduler"}, "spec": {"holderIdentity": "node-a_1"}}],
}


@fuzz(
    800,
    names=st.lists(broken("node-a", "10.89.0.11", "node-a.example.org"), max_size=3),
    host=broken("10.89.0.11"),
    role=broken("voter"),
    problem=broken(""),
)
def test_health(names: list[str], host: str, role: str, problem: str) -> None:
    """A server may go only where nothing speaks against it."""
    seen = health.Observation(
        [health.Member(host, role)], {host: problem}, KUBE["nodes"], KUBE["leases"], 1795230000.0, leaders=KUBE["leaders"]
    )
    answer = health.evaluate(seen, health.Expectation(names, ignore=names[:1], losing=names[1:]))
    assert answer["safe_to_disrupt"] is (not answer["reasons"])
    assert all(reason.strip() for reason in answer["reasons"])
