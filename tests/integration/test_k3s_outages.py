"""The outages of the articles on a K3s cluster with split roles, with a release that has the bugs and one that has not."""

import json
import os
import time
from collections.abc import Iterator

import pytest

from .conftest import Cluster, options, standing

STATE = "/var/lib/rancher/k3s/agent/etc/k3s-agent-load-balancer.json"
FIXED = "https://registration:6443"
BEFORE, AFTER = "v1.31.3+k3s1", "v1.32.3+k3s1"
LONG_ENOUGH = 120
"""Seconds after which a silent node is NotReady for certain: a new leader (lease 15s) begins to count its grace period (40s)."""


@pytest.fixture(scope="module", params=[BEFORE, AFTER])
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A split cluster of a release: three nodes with etcd, two with the control plane, an agent."""
    with standing("outages", "--distribution", "k3s", "--topology", "split", LAB_K3S_RELEASE=request.param) as found:
        if request.param not in found.on(found.servers[0], "k3s", "--version"):
            pytest.skip(f"this K3s is not {request.param}")
        yield found


def has_the_bugs(cluster: Cluster) -> bool:
    return BEFORE in cluster.on(cluster.servers[0], "k3s", "--version")


def readiness(cluster: Cluster, server: str) -> dict[str, str]:
    """What an API server says of the nodes, by name."""
    listed = json.loads(cluster.on(server, "k3s", "kubectl", "get", "nodes", "-o", "json"))
    return {
        node["metadata"]["name"]: next(one["status"] for one in node["status"]["conditions"] if one["type"] == "Ready")
        for node in listed["items"]
    }


def not_ready(cluster: Cluster, server: str, nodes: list[str]) -> list[str]:
    """Which of the nodes an API server does not call Ready, by name."""
    return sorted(node for node, ready in readiness(cluster, server).items() if ready != "True" and node in nodes)


def wait_for(what: str, holds: object, seconds: float) -> None:
    until = time.monotonic() + seconds
    while not holds():  # type: ignore[operator]
        assert time.monotonic() < until, f"{what} did not come within {seconds} s"
        time.sleep(1)


def test_the_audit_tells_of_bugs_where_they_show(cluster: Cluster) -> None:
    run = cluster.play("audit")
    assert run.says("names the single node")
    for bug in ("#11349", "#11333"):
        assert run.says(f"{BEFORE} has k3s-io/k3s{bug}") is has_the_bugs(cluster)


def test_nodes_that_are_stuck_after_alternating_outages_are_brought_back(cluster: Cluster) -> None:
    first, second = cluster.hosts("control_plane")
    etcd = list(cluster.hosts("etcd"))
    followers = [*etcd, *cluster.hosts("agents")]
    address = cluster.hosts("servers")[second]["ansible_host"]
    cluster.on(first, "systemctl", "stop", "k3s")
    for node in followers:
        wait_for(
            f"{node} to know {second} alone",
            lambda node=node: json.loads(cluster.on(node, "cat", STATE))["ServerAddresses"] == [f"{address}:6443"],
            60,
        )
    cluster.on(second, "systemctl", "stop", "k3s")
    cluster.on(first, "systemctl", "start", "k3s")
    stuck = sorted(followers) if has_the_bugs(cluster) else []
    if stuck:
        wait_for(f"an outage of {stuck}", lambda: not_ready(cluster, first, followers) == stuck, LONG_ENOUGH)
    else:
        time.sleep(LONG_ENOUGH)
        assert not_ready(cluster, first, followers) == []
    started = cluster.started()
    run = cluster.play("recover_k3s_lb")
    assert run.code == 0
    assert run.says(f"{len(stuck)} of {len(cluster.nodes)} nodes are kept from the API servers by what they remember")
    assert not_ready(cluster, first, followers) == []
    assert sorted(node for node in cluster.nodes if cluster.started()[node] != started[node]) == stuck
    for node in stuck:
        assert cluster.on(node, "sh", "-c", f"ls {STATE}.2*").strip().startswith(f"{STATE}.2")
    again = cluster.play("recover_k3s_lb")
    assert again.says("0 of 6 nodes are kept from the API servers")
    assert not any(again.changed.values())
    cluster.on(second, "systemctl", "start", "k3s")
    wait_for("all nodes Ready", lambda: set(readiness(cluster, first).values()) == {"True"}, 120)


def test_nothing_is_cleared_where_the_join_server_is_down(cluster: Cluster) -> None:
    (agent,) = cluster.hosts("agents")
    kept = cluster.on(agent, "cat", STATE)
    stale = json.dumps({**json.loads(kept), "ServerAddresses": ["192.0.2.1:6443"]})
    join = cluster.servers[0]
    cluster.on(agent, "sh", "-c", f"systemctl stop k3s-agent; printf %s '{stale}' > {STATE}")
    cluster.on(join, "systemctl", "stop", "k3s")
    try:
        run = cluster.play("recover_k3s_lb", options(preflight_ignore_nodes=[join]))
        assert run.code != 0
        assert run.says("a node that remembers nothing needs its join server to start")
        assert cluster.on(agent, "cat", STATE) == stale
    finally:
        cluster.on(join, "systemctl", "start", "k3s")
        cluster.on(agent, "sh", "-c", f"printf %s '{kept}' > {STATE}; systemctl start k3s-agent")
    first = next(iter(cluster.hosts("control_plane")))
    wait_for("all nodes Ready", lambda: set(readiness(cluster, first).values()) == {"True"}, 120)


def test_all_nodes_start_while_the_first_one_is_down_once_they_join_at_a_fixed_address(cluster: Cluster) -> None:
    if not has_the_bugs(cluster):
        pytest.skip("this release starts without its join server")
    lost = cluster.servers[0]
    run = cluster.play("remediate", "--tags", "k3s_registration", options(k3s_registration_address=FIXED))
    assert run.code == 0
    assert run.says("server https://")
    assert not cluster.play("audit").says("names the single node")
    cluster.lab("power-off", "--name", cluster.name, lost)
    try:
        refused = cluster.play("restart", "--limit", f"all,localhost,!{lost}", options(preflight_ignore_nodes=[lost]))
        assert refused.code != 0
        assert refused.says("no server may be lost: 3 voters")
        others = [node for node in cluster.nodes if node != lost]
        before = {node: cluster.on(node, "systemctl", "show", cluster.unit(node), "--property=ExecMainStartTimestamp") for node in others}
        run = cluster.play("restart", "--limit", f"all,localhost,!{lost}", options(preflight_ignore_nodes=[lost], preflight_spare=False))
        assert run.code == 0, os.linesep.join(run.output.splitlines()[-40:])
        for node in others:
            assert cluster.on(node, "systemctl", "show", cluster.unit(node), "--property=ExecMainStartTimestamp") != before[node]
        ready = readiness(cluster, next(iter(cluster.hosts("control_plane"))))
        assert {node: ready[node] for node in others} == dict.fromkeys(others, "True")
    finally:
        cluster.lab("power-on", "--name", cluster.name, lost)
