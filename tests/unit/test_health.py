"""Is the cluster well, and may a server go: from observations to the answer."""

import pytest
from ansible_collections.kubekeel.ha.plugins.module_utils import api_objects
from ansible_collections.kubekeel.ha.plugins.module_utils.health import (
    Expectation,
    Member,
    Observation,
    epoch,
    evaluate,
    members_of_status,
    moment,
)
from ansible_collections.kubekeel.ha.plugins.modules import cluster_health
from hypothesis import assume, given
from hypothesis import strategies as st

NOW = epoch("2026-11-21T03:00:00.000000Z")
STATUS = """microk8s:
  running: True
high-availability:
  enabled: True
  nodes:
    - address: 10.0.0.1:19001
      role: voter
    - address: "[fd00::2]:19001"
      role: standby
addons:
  - name: x
    address: 10.9.9.9:1
    role: voter
"""


def a_node(number, ready="True", host=None):
    addresses = [{"type": "Hostname", "address": "x"}, {"type": "InternalIP", "address": host or f"10.0.0.{number}"}]
    return {"metadata": {"name": f"n{number}"}, "status": {"addresses": addresses, "conditions": [{"type": "Ready", "status": ready}]}}


def a_lease(number, renewed="2026-11-21T02:59:55.500000Z"):
    return {"metadata": {"name": f"n{number}"}, "spec": {"renewTime": renewed, "leaseDurationSeconds": 40}}


def seen(count=3, roles=(), readyz=None, nodes=None, leases=None):
    numbers = range(1, count + 1)
    roles = roles or ["voter"] * count
    members = [Member(f"10.0.0.{number}", role) for number, role in zip(numbers, roles, strict=True)]
    ready = {member.host: "" for member in members} | (readyz or {})
    nodes = [a_node(number) for number in numbers] if nodes is None else nodes
    leases = [a_lease(number) for number in numbers] if leases is None else leases
    return Observation(members, ready, nodes, leases, NOW)


def test_reads_the_status_of_microk8s():
    assert members_of_status(STATUS.replace('"', "")) == [Member("10.0.0.1", "voter"), Member("fd00::2", "standby")]
    assert members_of_status("microk8s:\n  running: False\n") == []


@pytest.mark.parametrize(
    ("text", "roles"),
    [
        (STATUS.replace("role: voter", "role: voter?"), ["voter?", "standby"]),
        (STATUS.replace("    - address: 10.0.0.1", "#    - address: 10.0.0.1"), ["standby"]),
        (STATUS.replace("addons:", "datastore:"), ["voter", "standby"]),
    ],
)
def test_a_member_is_what_the_status_says_and_no_more(text, roles):
    assert [member.role for member in members_of_status(text)] == roles


@pytest.mark.parametrize("text", ["", "soon", None, 5, "2026-11-21T03:00:00.1e9Z", "2026-11-21T03:00:00.-1Z", "2026-13-21T03:00:00Z"])
def test_no_moments(text):
    assert moment(text) is None


def test_three_servers_that_are_well_may_lose_one():
    answer = evaluate(seen(), Expectation(["n1", "n2", "n3"]))
    assert (answer["healthy"], answer["safe_to_disrupt"], answer["servers_to_spare"], answer["reasons"]) == (True, True, 1, [])
    assert [node["lease_age"] for node in answer["nodes"]] == [4.5] * 3


@pytest.mark.parametrize(("count", "spare"), [(1, 0), (2, 0), (3, 1), (4, 1), (5, 2)])
def test_how_many_servers_may_be_lost(count, spare):
    answer = evaluate(seen(count), Expectation())
    assert (answer["servers_to_spare"], answer["safe_to_disrupt"], answer["healthy"]) == (spare, spare > 0, True)


@pytest.mark.parametrize(
    ("observation", "expected", "part"),
    [
        (seen(0), Expectation(), "no leader"),
        (seen(readyz={"10.0.0.2": "timed out"}), Expectation(), "API server of 10.0.0.2 is not ready: timed out"),
        (seen(nodes=[a_node(1), a_node(2, "Unknown"), a_node(3)]), Expectation(), "node n2 is NotReady"),
        (
            seen(leases=[a_lease(1), a_lease(2, "2026-11-21T02:59:09Z"), a_lease(3)]),
            Expectation(),
            "n2 says Ready, but its Lease was last renewed 51 s",
        ),
        (seen(leases=[a_lease(1), a_lease(3)]), Expectation(), "n2 says Ready, but it has no Lease"),
        (seen(leases=[a_lease(1), a_lease(2, "soon"), a_lease(3)]), Expectation(), "n2 says Ready, but it has no Lease"),
        (seen(nodes=[]), Expectation(), "the API server lists no nodes"),
        (seen(roles=["voter", "voter", "spare"]), Expectation(), "no server may be lost: 2 voters"),
        (seen(), Expectation(["n1", "n2", "n9"]), "inventory's servers n9 are no servers"),
        (seen(), Expectation(["n1", "n2"]), "servers n3 are missing in the inventory"),
        (seen(), Expectation(["n1", "n2", "n3"], ["w1"]), "agents w1 are no agents"),
        (seen(), Expectation(renewed_after={"n1": NOW - 1}), "n1 has not renewed its Lease since its restart"),
    ],
)
def test_reasons_against_a_disruption(observation, expected, part):
    answer = evaluate(observation, expected)
    assert not answer["safe_to_disrupt"]
    assert any(part in reason for reason in answer["reasons"]), answer["reasons"]


@pytest.mark.parametrize(
    ("observation", "reason"),
    [
        (seen(readyz={"10.0.0.2": "timed out"}), "no server may be lost: 3 voters (n2 (10.0.0.2) down), 2 needed"),
        (seen(2), "no server may be lost: 2 voters (all up; join servers until there are three), 2 needed"),
        (
            seen(roles=["voter", "voter", "standby"]),
            "no server may be lost: 2 voters (all up; without a vote: n3 (10.0.0.3), a standby), 2 needed",
        ),
        (
            seen(4, ["voter", "voter", "learner", "spare"], {"10.0.0.1": "refused"}),
            "no server may be lost: 2 voters (n1 (10.0.0.1) down; "
            "without a vote: n3 (10.0.0.3), a learner; n4 (10.0.0.4), a spare), 2 needed",
        ),
        (seen(nodes=[a_node(1), a_node(2)], readyz={"10.0.0.3": "x"}), "no server may be lost: 3 voters (10.0.0.3 down), 2 needed"),
    ],
)
def test_a_refusal_for_want_of_a_quorum_names_who_is_missing(observation, reason):
    assert reason in evaluate(observation, Expectation())["reasons"]


@given(
    st.lists(st.tuples(st.sampled_from(["voter", "learner", "standby", "spare"]), st.booleans()), min_size=1, max_size=7),
    st.sampled_from([None, 0, 1, 2]),
)
def test_who_has_no_vote_never_counts_for_the_quorum(members, losing):
    """Members beside the voters, up or down, change nothing that the datastore decides."""
    servers = {f"10.0.0.{number}": member for number, member in enumerate(members, 1)}
    voters = {host: member for host, member in servers.items() if member[0] == "voter"}

    def answer(chosen):
        # API servers on others, so that only the datastore decides.
        api = [k3s_node(number, etcd=False) for number in (8, 9)]
        etcd = [k3s_node(int(host.rpartition(".")[2]), api=False) for host in servers]
        found = Observation(
            [Member(host, role) for host, (role, _up) in chosen.items()],
            {"10.0.0.8": "", "10.0.0.9": ""},
            [*api, *etcd],
            [a_lease(number) for number in range(1, 10)],
            NOW,
            down={host: "" if up else "refused" for host, (_role, up) in chosen.items()},
        )
        return evaluate(found, Expectation(losing=[] if losing is None else [f"n{losing + 1}"] if losing < len(members) else []))

    assume(voters)
    with_all, alone = answer(servers), answer(voters)
    assert (with_all["keeps_quorum"], with_all["servers_to_spare"]) == (alone["keeps_quorum"], alone["servers_to_spare"])
    up = len([host for host in voters if voters[host][1]])
    assert with_all["servers_to_spare"] == max(min(up - len(voters) // 2 - 1, 1), 0)


WELL = {**a_node(1), "spec": {}}
WELL["metadata"] = {**WELL["metadata"], "labels": {}, "annotations": {}}
WELL["status"] = {**WELL["status"], "nodeInfo": {}}


@pytest.mark.parametrize(
    ("shape", "value", "expected"),
    [
        (api_objects.NODES, {"items": [a_node(1)]}, {"items": [WELL]}),
        (api_objects.NODES, {"items": [{**a_node(1), "spec": None}], "kind": None}, {"items": [WELL]}),
        (api_objects.NODES, {"items": []}, {"items": []}),
        (api_objects.NODES, {"items": None}, "it.items is no list"),
        (api_objects.NODES, {}, "it.items is no list"),
        (api_objects.NODES, [], "it is no object"),
        (api_objects.NODES, None, "it is no object"),
        (api_objects.NODES, {"items": [{"metadata": {"name": "n"}}, {}]}, r"it.items\[1\].metadata is no object"),
        (api_objects.NODES, {"items": [{"metadata": {"name": None}}]}, r"it.items\[0\].metadata.name is no str"),
        (api_objects.NODES, {"items": [{"metadata": {"name": "n", "labels": {"x": 1}}}]}, "metadata.labels.x is no str"),
        (api_objects.LEASES, {"items": [{"metadata": {"name": "n"}, "spec": {"leaseDurationSeconds": "4"}}]}, "Seconds is no int"),
        (api_objects.DAEMON_SETS, {"items": [{"metadata": {"name": "n", "annotations": {"x": [1]}}}]}, "annotations.x is no str"),
        (api_objects.PLANS, {"items": [{"metadata": {"name": "p"}, "status": {"applying": "n1"}}]}, "status.applying is no list"),
        (api_objects.NAMESPACE, {"metadata": {}}, "it.metadata.uid is no str"),
        (api_objects.ENDPOINTS, {"subsets": None}, {"subsets": []}),
        (api_objects.ENDPOINTS, {"subsets": [{"addresses": [{}]}]}, "ip is no str"),
    ],
)
def test_objects_of_the_api_are_of_their_types_or_refused(shape, value, expected):
    if isinstance(expected, str):
        with pytest.raises(ValueError, match=expected):
            api_objects.fitting(value, shape)
    else:
        assert api_objects.fitting(value, shape) == expected


def test_a_node_that_takes_no_pods_is_told_and_may_be_well() -> None:
    cordoned = {**a_node(2), "spec": {"unschedulable": True}}
    answer = evaluate(seen(nodes=[a_node(1), cordoned, a_node(3)]), Expectation())
    assert [node["cordoned"] for node in answer["nodes"]] == [False, True, False]
    assert answer["safe_to_disrupt"]


def test_a_lease_from_the_future_means_that_clocks_differ() -> None:
    answer = evaluate(seen(leases=[a_lease(1), a_lease(2, "2026-11-21T03:10:00Z"), a_lease(3)]), Expectation())
    assert answer["reasons"] == ["the clock of node n2 is 600 s ahead of this one: set the time on both"]


def test_a_restarted_node_that_the_cluster_does_not_know_is_never_well() -> None:
    answer = evaluate(seen(), Expectation(renewed_after={"m1.example": NOW - 60}))
    assert "there is no node m1.example" in answer["reasons"][0]


@pytest.mark.parametrize("names", [["n1", "n2", "n3"], ["10.0.0.1", "10.0.0.2", "10.0.0.3"], ["n1.example", "n2.example", "n3"]])
def test_an_inventory_may_name_servers_by_name_or_address(names: list[str]) -> None:
    assert evaluate(seen(), Expectation(names))["safe_to_disrupt"]


def test_a_server_is_known_by_its_label_where_the_datastore_uses_another_address() -> None:
    alone = a_node(1, host="192.0.2.1")
    alone["metadata"]["labels"] = {"node.kubernetes.io/microk8s-controlplane": "microk8s-controlplane"}
    observation = Observation([Member("127.0.0.1", "voter")], {"127.0.0.1": ""}, [alone], [a_lease(1)], NOW)
    answer = evaluate(observation, Expectation(["n1"]))
    assert (answer["healthy"], answer["reasons"]) == (
        True,
        ["no server may be lost: 1 voters (all up; join servers until there are three), 1 needed"],
    )


def test_of_five_servers_one_may_be_known_to_be_down() -> None:
    nodes = [a_node(number, "Unknown" if number == 5 else "True") for number in range(1, 6)]
    down = seen(5, readyz={"10.0.0.5": "timed out"}, nodes=nodes)
    assert not evaluate(down, Expectation())["safe_to_disrupt"]
    assert evaluate(down, Expectation(ignore=["n5"]))["safe_to_disrupt"]


def k3s_node(number, etcd=True, api=True, voter="True", **more):
    node = a_node(number)
    labels = {"node-role.kubernetes.io/etcd": "true"} if etcd else {}
    labels |= {"node-role.kubernetes.io/control-plane": "true"} if api else {}
    node["metadata"] |= {"labels": labels} | more
    node["status"]["conditions"].append({"type": "EtcdIsVoter", "status": voter})
    return node


def k3s_seen(nodes, down=(), unready=(), roles=None, endpoints=None, external=False):
    hosts = {f"10.0.0.{number}": node for number, node in enumerate(nodes, 1)}
    etcd = [host for host, node in hosts.items() if "node-role.kubernetes.io/etcd" in node["metadata"]["labels"]]
    api = [host for host, node in hosts.items() if "node-role.kubernetes.io/control-plane" in node["metadata"]["labels"]]
    return Observation(
        [] if external else [Member(host, (roles or {}).get(host, "voter")) for host in etcd],
        {host: "refused" if host in unready else "" for host in api},
        nodes,
        [a_lease(number) for number in range(1, len(nodes) + 1)],
        NOW,
        down={} if external else {host: "refused" if host in down else "" for host in etcd},
        external=external,
        endpoints=[f"{host}:6443" for host in api if host not in unready] if endpoints is None else endpoints,
    )


SPLIT = [k3s_node(1, api=False), k3s_node(2, api=False), k3s_node(3, api=False), k3s_node(4, etcd=False), k3s_node(5, etcd=False)]


def test_a_split_cluster_may_lose_one_of_each():
    answer = evaluate(k3s_seen(SPLIT), Expectation(["n1", "n2", "n3", "n4", "n5"]))
    assert (answer["reasons"], answer["servers_to_spare"]) == ([], 1)


@pytest.mark.parametrize(
    ("observation", "part"),
    [
        (k3s_seen([k3s_node(1, voter="False"), k3s_node(2), k3s_node(3)]), "n1 is no voting member of etcd (EtcdIsVoter=False)"),
        (k3s_seen([k3s_node(1), k3s_node(2), k3s_node(3)], roles={"10.0.0.2": "learner"}), "n2 is a learner of etcd yet"),
        (k3s_seen([k3s_node(1), k3s_node(2), k3s_node(3)], down=["10.0.0.3"]), "etcd of 10.0.0.3 is not up: refused"),
        (k3s_seen(SPLIT, unready=["10.0.0.4"]), "the API server of 10.0.0.4 is not ready"),
        (k3s_seen(SPLIT, endpoints=["10.0.0.5:6443"]), "10.0.0.4 is not among the endpoints"),
        (k3s_seen([k3s_node(1)], external=True), "no API server would be left"),
    ],
)
def test_reasons_that_k3s_alone_knows(observation, part):
    answer = evaluate(observation, Expectation())
    assert not answer["safe_to_disrupt"]
    assert any(part in reason for reason in answer["reasons"]), answer["reasons"]


@pytest.mark.parametrize(
    ("losing", "keeps"),
    [
        (["n1"], True),
        (["n1.example.org"], True),
        (["10.0.0.1"], True),
        (["n5"], False),
        ([], False),
        (["n1", "n2"], False),
        (["n9"], False),
    ],
)
def test_the_quorum_is_judged_for_the_node_that_is_to_go(losing, keeps):
    one_control_plane_away = k3s_seen(SPLIT, unready=["10.0.0.4"])
    assert evaluate(one_control_plane_away, Expectation(losing=losing))["keeps_quorum"] is keeps


def test_a_node_to_lose_that_nobody_knows_is_a_reason():
    answer = evaluate(k3s_seen(SPLIT), Expectation(losing=["n9"]))
    assert not answer["safe_to_disrupt"]
    assert "there is no node n9" in answer["reasons"][0]


def test_an_api_server_may_be_an_endpoint_by_another_of_its_addresses():
    nodes = [k3s_node(number, annotations={"k3s.io/external-ip": f"192.0.2.{number}"}) for number in (1, 2, 3)]
    assert evaluate(k3s_seen(nodes, endpoints=[f"192.0.2.{number}:6443" for number in (1, 2, 3)]), Expectation())["healthy"]
    assert not evaluate(k3s_seen(nodes, endpoints=["192.0.2.1:6443"]), Expectation())["healthy"]
    advertised = [f"198.51.100.{number}:6443" for number in (1, 2, 3)]
    assert evaluate(k3s_seen(nodes, endpoints=advertised), Expectation())["healthy"]
    assert not evaluate(k3s_seen(nodes, endpoints=advertised[:2]), Expectation())["healthy"]


def test_with_an_external_datastore_the_api_servers_count():
    answer = evaluate(k3s_seen([k3s_node(1, etcd=False), k3s_node(2, etcd=False)], external=True), Expectation())
    assert (answer["safe_to_disrupt"], answer["servers_to_spare"]) == (True, 1)


def test_a_node_that_is_known_to_be_down_is_no_reason():
    agent_down = seen(nodes=[a_node(1), a_node(2), a_node(3), a_node(4, "Unknown")])
    assert not evaluate(agent_down, Expectation())["safe_to_disrupt"]
    assert evaluate(agent_down, Expectation(ignore=["n4"]))["safe_to_disrupt"]


@pytest.mark.parametrize(
    ("script", "leader"),
    [
        ('[ "$*" = "-s file://{0}/cluster.yaml -c {0}/cluster.crt -k {0}/cluster.key k8s .leader" ] && echo 10.0.0.2:19001', "10.0.0.2"),
        ("echo '[fd00::2]:19001'", "fd00::2"),
        ("echo 10.0.0.2:19001; exit 1", ""),
        ("true", ""),
        ("exec sleep 60", ""),
        (None, ""),
    ],
)
def test_who_leads_dqlite_as_far_as_it_tells(tmp_path, monkeypatch, script, leader):
    tool = tmp_path / "dqlite"
    if script is not None:
        tool.write_text("#!/bin/sh\n" + script.format(tmp_path) + "\n")
        tool.chmod(0o755)
    monkeypatch.setattr(cluster_health, "DQLITE", str(tool))
    monkeypatch.setattr(cluster_health, "BACKEND", str(tmp_path))
    monkeypatch.setattr(cluster_health, "LEADER_TIMEOUT", 0.5 if script and "sleep" in script else 10)
    assert cluster_health.dqlite_leader() == leader
