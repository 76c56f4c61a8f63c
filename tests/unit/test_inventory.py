"""The inventory plugin: from node objects to hosts and groups, and the ways to the node objects."""

import copy
import json
import os
import pathlib
import re
import subprocess
import sys
from typing import Any

import pytest
import yaml
from ansible_collections.kubekeel.ha.plugins.plugin_utils import cluster_nodes
from ansible_collections.kubekeel.ha.plugins.plugin_utils.cluster_nodes import ClusterError
from hypothesis import given, settings
from hypothesis import strategies as st

ROOT = pathlib.Path(__file__).parents[2]
Node = dict[str, Any]

CONTROL_PLANE = {"node-role.kubernetes.io/control-plane": "true", "node-role.kubernetes.io/master": "true"}
ETCD = {"node-role.kubernetes.io/etcd": "true"}
MICROK8S_SERVER = {"microk8s.io/cluster": "true", "node.kubernetes.io/microk8s-controlplane": "microk8s-controlplane"}
MICROK8S_WORKER = {"microk8s.io/cluster": "true", "node.kubernetes.io/microk8s-worker": "microk8s-worker"}


def node(name: str, release: str, labels: dict[str, str] | None = None, ready: str = "True", **addresses: str) -> Node:
    """A node object with what the API has in it; addresses by their types."""
    listed = [{"type": kind, "address": address} for kind, address in (addresses or {"InternalIP": "192.0.2.1"}).items()]
    program = next((program for program in ("k3s", "rke2") if "+" + program in release), None)
    annotations = {"node.alpha.kubernetes.io/ttl": "0"}
    if program:
        annotations |= {f"{program}.io/hostname": name, f"{program}.io/node-args": '["server"]'}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "uid": "0d7ed0e1-5f0d-4d4d-8d0f-3e1f8a6f7a11",
            "annotations": annotations,
            "labels": {"kubernetes.io/arch": "amd64", "kubernetes.io/hostname": name, "kubernetes.io/os": "linux", **(labels or {})},
        },
        "spec": {"podCIDR": "10.42.0.0/24", "podCIDRs": ["10.42.0.0/24"]},
        "status": {
            "addresses": [*listed, {"type": "Hostname", "address": name}] if "Hostname" not in addresses else listed,
            "conditions": [
                {"type": "MemoryPressure", "status": "False", "reason": "KubeletHasSufficientMemory"},
                {"type": "Ready", "status": ready, "reason": "KubeletReady"},
            ],
            "nodeInfo": {
                "kubeletVersion": release,
                "kubeProxyVersion": release,
                "kernelVersion": "6.1.0-28-amd64",
                "architecture": "amd64",
            },
        },
    }


K3S = "v1.32.3+k3s1"
K3S_HA = [
    node("agent1", K3S, InternalIP="192.0.2.21"),
    node("server10", K3S, {**CONTROL_PLANE, **ETCD}, InternalIP="192.0.2.10"),
    node("server2", K3S, {**CONTROL_PLANE, **ETCD}, ready="Unknown", InternalIP="192.0.2.12", ExternalIP="198.51.100.12"),
    node("server1", K3S, {**CONTROL_PLANE, **ETCD}, InternalIP="192.0.2.11"),
]


def groups(nodes: list[Node]) -> dict[str, list[str]]:
    """The members of each group that has some, in their order."""
    found: dict[str, list[str]] = {}
    for host in cluster_nodes.to_hosts(nodes, "InternalIP"):
        for group in host.groups:
            found.setdefault(group, []).append(host.name)
    return found


CLUSTERS = {
    "k3s": (
        K3S_HA,
        {
            "servers": ["server1", "server2", "server10"],
            "etcd": ["server1", "server2", "server10"],
            "control_plane": ["server1", "server2", "server10"],
            "agents": ["agent1"],
            "k3s": ["server1", "server2", "server10", "agent1"],
            "release_v1_32_3_k3s1": ["server1", "server2", "server10", "agent1"],
        },
    ),
    "k3s split, in the midst of an upgrade": (
        [
            node("a-control", "v1.33.1+k3s1", CONTROL_PLANE),
            node("b-etcd", K3S, ETCD),
            node("c-agent", K3S),
            node("a-etcd", K3S, {"node-role.kubernetes.io/etcd": ""}),
        ],
        {
            "servers": ["a-etcd", "b-etcd", "a-control"],
            "etcd": ["a-etcd", "b-etcd"],
            "control_plane": ["a-control"],
            "agents": ["c-agent"],
            "k3s": ["a-etcd", "b-etcd", "a-control", "c-agent"],
            "release_v1_32_3_k3s1": ["a-etcd", "b-etcd", "c-agent"],
            "release_v1_33_1_k3s1": ["a-control"],
        },
    ),
    "microk8s, with a label that somebody set": (
        [
            node("mk2", "v1.32.3", {**MICROK8S_SERVER, **ETCD}),
            node("mk1", "v1.32.3", MICROK8S_SERVER),
            node("w1", "v1.32.3", MICROK8S_WORKER),
        ],
        {
            "servers": ["mk1", "mk2"],
            "control_plane": ["mk1", "mk2"],
            "agents": ["w1"],
            "microk8s": ["mk1", "mk2", "w1"],
            "release_v1_32_3": ["mk1", "mk2", "w1"],
        },
    ),
    "rke2": (
        [node("r1", "v1.30.4+rke2r1", {**CONTROL_PLANE, **ETCD})],
        {"servers": ["r1"], "etcd": ["r1"], "control_plane": ["r1"], "rke2": ["r1"], "release_v1_30_4_rke2r1": ["r1"]},
    ),
    "kubeadm": (
        [node("k1", "v1.31.0", {"node-role.kubernetes.io/control-plane": ""}), node("k2", "v1.31.0")],
        {"servers": ["k1"], "control_plane": ["k1"], "agents": ["k2"], "release_v1_31_0": ["k1", "k2"]},
    ),
}


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_groups_of_a_cluster(cluster: str) -> None:
    nodes, expected = CLUSTERS[cluster]
    assert groups(nodes) == expected
    assert groups(nodes[::-1]) == expected


@pytest.mark.parametrize(
    ("release", "change", "distribution"),
    [
        (K3S, {}, "k3s"),
        ("v1.30.4+rke2r1", {}, "rke2"),
        ("v1.32.3", {"annotations": {"k3s.io/internal-ip": "192.0.2.1"}}, "k3s"),
        ("v1.32.3", {"annotations": {"rke2.io/node-args": "[]"}}, "rke2"),
        ("v1.32.3", {"annotations": {"not-k3s.io/x": ""}}, None),
        ("v1.32.3", {"labels": MICROK8S_WORKER}, "microk8s"),
        ("v1.32.3", {}, None),
    ],
)
def test_distribution(release: str, change: dict[str, Any], distribution: str | None) -> None:
    one = node("n", release)
    one["metadata"].update(change)
    (host,) = cluster_nodes.to_hosts([one], "InternalIP")
    assert host.variables.get("kubekeel_distribution") == distribution
    assert ("kubekeel_distribution" in host.variables) == (distribution is not None)


@pytest.mark.parametrize(
    ("addresses", "wanted", "host", "internal"),
    [
        ({"InternalIP": "192.0.2.1", "ExternalIP": "198.51.100.1"}, "InternalIP", "192.0.2.1", "192.0.2.1"),
        ({"InternalIP": "192.0.2.1", "ExternalIP": "198.51.100.1"}, "ExternalIP", "198.51.100.1", "192.0.2.1"),
        ({"InternalIP": "192.0.2.1"}, "ExternalIP", "192.0.2.1", "192.0.2.1"),
        ({"InternalIP": "192.0.2.1", "Hostname": "N.example.com"}, "Hostname", "N.example.com", "192.0.2.1"),
        ({"ExternalIP": "198.51.100.1"}, "InternalIP", "198.51.100.1", ""),
        ({"Hostname": "n"}, "InternalIP", "n", ""),
        ({"InternalIP": "2001:db8::11"}, "InternalIP", "2001:db8::11", "2001:db8::11"),
        ({"InternalDNS": "--not-ours"}, "InternalIP", "n", ""),
    ],
)
def test_address(addresses: Any, wanted: str, host: str, internal: str) -> None:
    (made,) = cluster_nodes.to_hosts([node("n", K3S, **addresses)], wanted)
    assert (made.variables["ansible_host"], made.variables["kubekeel_internal_ip"]) == (host, internal)


def test_the_first_address_of_a_dual_stack_node() -> None:
    one = node("n", K3S)
    one["status"]["addresses"] = [{"type": "InternalIP", "address": address} for address in ("2001:db8::1", "192.0.2.1")]
    (host,) = cluster_nodes.to_hosts([one], "InternalIP")
    assert host.variables["ansible_host"] == "2001:db8::1"


def test_a_node_that_told_nothing_yet() -> None:
    (host,) = cluster_nodes.to_hosts([{"metadata": {"name": "fresh"}}], "InternalIP")
    assert host.groups == ("agents",)
    assert host.variables == {
        "kubekeel_node_name": "fresh",
        "kubekeel_release": "",
        "kubekeel_ready": False,
        "kubekeel_labels": {},
        "kubekeel_internal_ip": "",
    }


@pytest.mark.parametrize(
    "name", ["", "-oProxyCommand=x", "a b", "Server1", "a..b", "a_b", "server1\n", "a,b", "n[1:9]", "{{ x }}", "x" * 254, 7, None]
)
def test_a_name_that_is_none_is_refused(name: Any) -> None:
    with pytest.raises(ClusterError, match="no Kubernetes node can have"):
        cluster_nodes.to_hosts([{"metadata": {"name": name}}], "InternalIP")


@pytest.mark.parametrize("address", ["-oProxyCommand=touch /tmp/x", "", "fe80::1%$(id)", "root@192.0.2.1", "a b", 3221225985, None])
def test_an_address_that_is_none_is_refused(address: Any) -> None:
    with pytest.raises(ClusterError, match=r"node n has .* for its ExternalIP, which is neither an IP address nor a host name"):
        cluster_nodes.to_hosts([node("n", K3S, InternalIP="192.0.2.1", ExternalIP=address)], "InternalIP")


def test_two_nodes_of_one_name_are_refused() -> None:
    with pytest.raises(ClusterError, match="more than one node n:"):
        cluster_nodes.to_hosts([node("n", K3S), node("n", K3S)], "InternalIP")


def wreck(leaf: st.SearchStrategy[Any], depth: int) -> st.SearchStrategy[Any]:
    """Objects with the keys of a node, and anything behind them."""
    keys = ["addresses", "conditions", "nodeInfo", "kubeletVersion", "type", "status", "address", "k3s.io/hostname"]
    return st.recursive(leaf, lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(keys), inner), max_leaves=depth)


ANYTHING = wreck(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4) | st.sampled_from(["Ready", "True", "InternalIP", K3S]), 12
)


@settings(deadline=None)
@given(ANYTHING, ANYTHING, ANYTHING)
def test_any_object_is_a_host_or_a_sentence(labels: Any, annotations: Any, status: Any) -> None:
    try:
        (host,) = cluster_nodes.to_hosts(
            [{"metadata": {"name": "n", "labels": labels, "annotations": annotations}, "status": status}], "InternalIP"
        )
    except ClusterError:
        return
    assert not host.variables.get("ansible_host", "n").startswith("-")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "gives no JSON"),
        ("[" * 100_000, "gives no JSON"),
        ("No resources found", "gives no JSON .*begins with 'No resources found'"),
        ("[]", "gives JSON, but no list of nodes"),
        ('{"kind": "List"}', "gives JSON, but no list of nodes"),
        ('{"kind": "Node", "items": []}', "gives JSON, but no list of nodes"),
        ('{"kind": "List", "items": [{"kind": "Pod"}]}', "gives JSON, but no list of nodes"),
        ('{"kind": "NodeList", "items": [7]}', "gives JSON, but no list of nodes"),
        ('{"kind": "List", "items": []}', "lists no nodes"),
    ],
)
def test_what_is_no_list_of_nodes(text: str, message: str) -> None:
    with pytest.raises(ClusterError, match=f"^here {message}"):
        cluster_nodes.read_nodes(text, "here")


def test_the_list_of_the_api_itself() -> None:
    assert cluster_nodes.read_nodes('{"kind": "NodeList", "items": [{"metadata": {"name": "n"}}]}', "here") == [{"metadata": {"name": "n"}}]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("[?metadata.name==", "query: the JMESPath expression .* fails: .*Incomplete"),
        ("nonsense(@)", "query: the JMESPath expression nonsense.@. fails: Unknown function"),
        ("[?starts_with(metadata.absent, 'a')]", "query: the JMESPath expression .* fails"),
        ("[].metadata.name", "gives no list of node objects"),
        ("[0]", "gives no list of node objects"),
        ("[?metadata.name=='x']", "leaves none of the 4 nodes"),
        (7, "7 is no JMESPath expression"),
    ],
)
def test_queries_that_do_not_work(query: Any, message: str) -> None:
    with pytest.raises(ClusterError, match=message):
        cluster_nodes.select(K3S_HA, query)


def test_expressions_without_jmespath(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jmespath", None)
    with pytest.raises(ClusterError, match=r"^jmespath_vars\.kernel needs the Python package jmespath: run '.* -m pip install jmespath'$"):
        cluster_nodes.search("a", {}, "jmespath_vars.kernel")


# -- As Ansible runs it ------------------------------------------------------------------------------------------------


class Ansible:
    """A folder with inventory sources, and Ansible's programs run in it."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.source = folder / "kubekeel.yml"
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_") and name != "KUBECONFIG"}
        self.environment |= {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1", "COLUMNS": "1000"}
        # A failing source is an error here, where Ansible else only warns.
        self.environment |= {"ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "1", "PATH": f"{folder / 'bin'}:{os.environ['PATH']}"}

    def write(self, nodes: list[Node] | None = None, **options: Any) -> None:
        """Write the source, and the nodes into its nodes_file."""
        if nodes is not None:
            (self.folder / "nodes.json").write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": nodes}))
            options["nodes_file"] = "nodes.json"
        self.source.write_text(yaml.safe_dump({"plugin": "kubekeel.ha.cluster", **options}))

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, cwd="/", env=self.environment, text=True, capture_output=True, check=False)

    def listed(self, *arguments: str) -> dict[str, Any]:
        done = self.run("ansible-inventory", "-i", str(self.source), "--list", *arguments)
        assert done.returncode == 0, done.stderr
        # The mark of a text that is no template.
        listed: dict[str, Any] = json.loads(done.stdout, object_hook=lambda value: value.get("__ansible_unsafe", value))
        return listed

    def failure(self) -> str:
        done = self.run("ansible-inventory", "-i", str(self.source), "--list")
        assert done.returncode != 0, done.stdout
        return done.stderr

    def kubectl(self, script: str, name: str = "kubectl") -> None:
        """Put a program on the PATH that notes how it was called, and goes on with a script."""
        program = self.folder / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(f'#!/bin/sh\necho "$KUBECONFIG|$*" >> {self.folder}/calls\n{script}\n')
        program.chmod(0o755)

    @property
    def calls(self) -> list[str]:
        file = self.folder / "calls"
        return file.read_text().splitlines() if file.exists() else []


@pytest.fixture
def ansible(tmp_path: pathlib.Path) -> Ansible:
    return Ansible(tmp_path)


@pytest.fixture
def cluster(ansible: Ansible) -> Ansible:
    """With a kubectl that lists the nodes of a K3s cluster."""
    ansible.write(K3S_HA)
    ansible.kubectl(f"cat {ansible.folder}/nodes.json")
    ansible.write()
    return ansible


def members(listed: dict[str, Any]) -> dict[str, list[str]]:
    return {name: group.get("hosts", []) for name, group in listed.items() if name not in ("_meta", "all")}


def test_inventory_of_a_file(ansible: Ansible) -> None:
    ansible.write(K3S_HA, address_type="ExternalIP")
    listed = ansible.listed()
    assert members(listed) == CLUSTERS["k3s"][1]
    # Those without members are there as well, only the listing leaves their hosts out.
    assert listed["all"]["children"] == ["ungrouped", *cluster_nodes.GROUPS, "release_v1_32_3_k3s1"]
    server2 = listed["_meta"]["hostvars"]["server2"]
    assert server2.pop("kubekeel_labels") == K3S_HA[2]["metadata"]["labels"]
    assert server2 == {
        "ansible_host": "198.51.100.12",
        "kubekeel_distribution": "k3s",
        "kubekeel_internal_ip": "192.0.2.12",
        "kubekeel_node_name": "server2",
        "kubekeel_ready": False,
        "kubekeel_release": K3S,
    }
    assert listed["_meta"]["hostvars"]["server1"]["kubekeel_ready"] is True


def test_play_order_is_that_of_the_inventory(ansible: Ansible) -> None:
    ansible.write(CLUSTERS["k3s split, in the midst of an upgrade"][0])
    listed = ansible.run("ansible", "-i", str(ansible.source), "servers:agents", "--list-hosts").stdout
    assert listed.split()[2:] == ["a-etcd", "b-etcd", "a-control", "c-agent"]


def test_a_file_of_another_name_is_not_ours(ansible: Ansible) -> None:
    ansible.write(K3S_HA)
    for name, ours in (("production.kubekeel.yaml", True), ("hosts.yml", False)):
        ansible.source = ansible.source.rename(ansible.folder / name)
        assert ours or "could not be verified by inventory plugin 'kubekeel.ha.cluster'" in ansible.failure()
        assert not ours or ansible.listed()["servers"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"nodes_file": "absent.json"}, "nodes_file {folder}/absent.json cannot be read: No such file or directory"),
        ({"nodes_file": "kubekeel.yml"}, "{folder}/kubekeel.yml gives no JSON"),
        ({"kubectl": ["no-such-kubectl"]}, "there is no program 'no-such-kubectl' here: install it, name another one"),
        ({"kubectl": ["/"]}, "cannot be run: Permission denied"),
        ({"kubectl": []}, "the option kubectl is empty: give the words of a command"),
        ({"address_type": "InternalDNS"}, "InternalDNS"),
    ],
)
def test_sources_that_do_not_work(ansible: Ansible, options: dict[str, Any], message: str) -> None:
    ansible.write(**options)
    failure = ansible.failure()
    assert message.format(folder=ansible.folder) in failure
    assert "Traceback" not in failure


@pytest.mark.parametrize(
    ("name", "meaning"),
    [("all", "an inventory group"), ("k3s", "an inventory group"), ("mine", "an inventory group"), ("localhost", "this machine")],
)
def test_a_node_that_ansible_would_take_for_something_else(ansible: Ansible, name: str, meaning: str) -> None:
    nodes = [*K3S_HA, node(name, K3S, InternalIP="192.0.2.66")]
    groups = {"mine": "`false`"}
    ansible.write(nodes, jmespath_groups=groups)
    assert f"node {name} has a name that means {meaning} to Ansible: leave it out with the option query" in ansible.failure()
    ansible.write(nodes, jmespath_groups=groups, query=f"[?metadata.name!='{name}']")
    assert "192.0.2.66" not in json.dumps(ansible.listed())


def test_no_servers_is_a_warning(ansible: Ansible) -> None:
    ansible.write([node("n1", "v1.21.1"), node("n2", "v1.21.1")])
    done = ansible.run("ansible-inventory", "-i", str(ansible.source), "--list")
    assert done.returncode == 0
    assert "no node has a label of a server (node-role.kubernetes.io/etcd, " in done.stderr


# -- kubectl -----------------------------------------------------------------------------------------------------------


def test_asks_kubectl(cluster: Ansible) -> None:
    cluster.environment["KUBECONFIG"] = "/one:/two"
    assert members(cluster.listed()) == CLUSTERS["k3s"][1]
    assert cluster.calls == ["/one:/two|get nodes -o json --request-timeout=30s"]


def test_asks_with_the_words_and_options_of_the_operator(cluster: Ansible) -> None:
    cluster.kubectl('shift 2; exec kubectl "$@"', name="sudo")
    cluster.write(kubectl=["sudo", "-n", "k3s $(id); kubectl"], kubeconfig="admin.conf", context="my context", timeout=5)
    assert cluster.listed()["servers"]
    words = f"--kubeconfig={cluster.folder}/admin.conf --context=my context get nodes -o json --request-timeout=5s"
    assert cluster.calls == [f"|-n k3s $(id); kubectl {words}", f"|{words}"]


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (
            "echo 'E1121 memcache.go:265 refused' >&2; echo 'The connection to the server was refused' >&2; exit 1",
            "'kubectl get nodes -o json --request-timeout=1s' fails (exit code 1) and says: The connection to the server was refused",
        ),
        ("exit 3", "fails (exit code 3) and says: nothing"),
        ("exec sleep 60", "gives no answer within 1 s: is the API server up, and reachable from here? Otherwise raise the option timeout"),
        (
            "echo 'Welcome to server1!'",
            "gives no JSON (Expecting value: line 1 column 1 (char 0)), it begins with 'Welcome to server1!\\n'",
        ),
        ("printf '\\377\\376'", "gives no JSON"),
        ('echo \'{"kind": "PodList", "items": []}\'', "gives JSON, but no list of nodes"),
        ('echo \'{"kind": "List", "items": []}\'', "lists no nodes: is it the right cluster"),
    ],
)
def test_a_kubectl_that_does_not_work(ansible: Ansible, script: str, message: str) -> None:
    ansible.kubectl(script)
    ansible.write(timeout=1)
    failure = ansible.failure()
    assert message in failure
    assert "Traceback" not in failure


def test_the_second_run_takes_the_cache(cluster: Ansible) -> None:
    options: dict[str, Any] = {"cache": True, "cache_plugin": "ansible.builtin.jsonfile", "cache_connection": str(cluster.folder / "cache")}
    cluster.write(**options)
    first = cluster.listed()
    cluster.kubectl("exit 1")
    assert cluster.listed() == first
    assert len(cluster.calls) == 1
    # What is made of the nodes is not cached.
    cluster.write(**options, query="[?metadata.name=='agent1']")
    assert list(cluster.listed()["_meta"]["hostvars"]) == ["agent1"]
    # Nor is another cluster's cache this one's.
    cluster.write(**options, context="other")
    assert "fails (exit code 1)" in cluster.failure()
    assert len(cluster.calls) == 2


def test_the_cache_is_left_out_where_the_operator_says_so(cluster: Ansible) -> None:
    cluster.write(cache=True, cache_plugin="ansible.builtin.jsonfile", cache_connection=str(cluster.folder / "cache"))
    cluster.listed()
    cluster.listed("--flush-cache")
    assert len(cluster.calls) == 2
    cluster.write()
    cluster.listed()
    assert len(cluster.calls) == 3


def test_a_failure_is_not_cached(cluster: Ansible) -> None:
    cluster.write(cache=True, cache_plugin="ansible.builtin.jsonfile", cache_connection=str(cluster.folder / "cache"))
    cluster.kubectl("echo rubbish")
    assert "gives no JSON" in cluster.failure()
    cluster.kubectl(f"cat {cluster.folder}/nodes.json")
    assert cluster.listed()["servers"]


# -- What the operator makes of the nodes ------------------------------------------------------------------------------


def test_query_groups_and_variables(ansible: Ansible) -> None:
    nodes = copy.deepcopy(K3S_HA)
    nodes[0]["metadata"]["labels"]["zone"] = "a"
    nodes[2]["spec"]["unschedulable"] = True
    ansible.write(
        nodes,
        query="[?metadata.name!='server10']",
        jmespath_groups={
            "cordoned": "spec.unschedulable",
            "in-a": "starts_with(metadata.labels.zone, 'a')",
            "empty": "length(spec.taints || `[]`)",
        },
        jmespath_vars={"pod_cidrs": "spec.podCIDRs", "zone": "metadata.labels.zone", "kubekeel_release": "'mine'"},
    )
    listed = ansible.listed()
    assert listed["servers"]["hosts"] == ["server1", "server2"]
    assert listed["cordoned"]["hosts"] == ["server2"]
    assert listed["in_a"]["hosts"] == ["agent1"]
    assert "empty" in listed["all"]["children"]
    known = listed["_meta"]["hostvars"]
    assert (known["agent1"]["zone"], known["agent1"]["pod_cidrs"], known["agent1"]["kubekeel_release"]) == ("a", ["10.42.0.0/24"], "mine")
    assert "zone" not in known["server1"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"query": "[?"}, "query: the JMESPath expression [? fails"),
        ({"jmespath_groups": {"x": "a ||"}}, "jmespath_groups.x: the JMESPath expression a || fails"),
        (
            {"jmespath_vars": {"x": "no_such(@)"}},
            "jmespath_vars.x: the JMESPath expression no_such(@) fails: Unknown function: no_such()",
        ),
        ({"jmespath_vars": {"x": ["a"]}}, "jmespath_vars.x: ['a'] is no JMESPath expression"),
        (
            {"jmespath_groups": {"x": "length(spec.taints)"}, "strict": True},
            "jmespath_groups.x: the JMESPath expression length(spec.taints) fails",
        ),
        ({"compose": {"x": "absent"}, "strict": True}, "Could not set x for host server1"),
    ],
)
def test_expressions_that_do_not_work(ansible: Ansible, options: dict[str, Any], message: str) -> None:
    ansible.write(K3S_HA, **options)
    assert message in ansible.failure()


def test_constructed_groups_and_variables(ansible: Ansible) -> None:
    ansible.write(
        K3S_HA,
        strict=True,
        compose={"ansible_user": "'root' if kubekeel_distribution == 'k3s' else 'ubuntu'"},
        groups={"not_ready": "not kubekeel_ready"},
        keyed_groups=[{"prefix": "arch", "key": "kubekeel_labels['kubernetes.io/arch']"}],
    )
    listed = ansible.listed()
    assert listed["not_ready"]["hosts"] == ["server2"]
    assert listed["arch_amd64"]["hosts"] == ["server1", "server2", "server10", "agent1"]
    assert listed["_meta"]["hostvars"]["agent1"]["ansible_user"] == "root"


def test_what_a_node_says_is_never_a_template(ansible: Ansible) -> None:
    evil = "{{ lookup('ansible.builtin.pipe', 'touch %s') }}" % (ansible.folder / "touched")
    one = node("server1", evil, {**CONTROL_PLANE, "zone": evil})
    one["metadata"]["annotations"]["note"] = evil
    ansible.write(
        [one],
        strict=True,
        jmespath_vars={"note": "metadata.annotations.note"},
        compose={"composed": "'a ' ~ note"},
        groups={"odd": "note != ''"},
        keyed_groups=[{"prefix": "zone", "key": "kubekeel_labels.zone"}],
    )
    assert ansible.listed()["odd"]["hosts"] == ["server1"]
    shown = ansible.run(
        "ansible", "-i", str(ansible.source), "all", "-m", "debug", "-a", "msg={{ [note, composed, kubekeel_labels, kubekeel_release] }}"
    )
    assert shown.stdout.count("lookup(") == 4
    assert not (ansible.folder / "touched").exists()


# -- What is written about it ------------------------------------------------------------------------------------------


def document(ansible: Ansible) -> dict[str, Any]:
    done = ansible.run("ansible-doc", "-t", "inventory", "--json", "kubekeel.ha.cluster")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)["kubekeel.ha.cluster"]
    return found


def test_documentation(ansible: Ansible) -> None:
    options = document(ansible)["doc"]["options"]
    assert {"compose", "groups", "keyed_groups", "strict", "cache", "cache_plugin", "query", "jmespath_groups", "jmespath_vars"} <= set(
        options
    )
    shown = ansible.run("ansible-doc", "-t", "inventory", "kubekeel.ha.cluster")
    assert "EXAMPLES" in shown.stdout
    assert shown.stderr == ""


def test_every_example_works(cluster: Ansible) -> None:
    examples = list(yaml.safe_load_all(document(cluster)["examples"]))
    assert len(examples) == 3
    nodes = copy.deepcopy(K3S_HA)
    for one in nodes:
        one["metadata"]["labels"]["topology.kubernetes.io/zone"] = "a"
    cluster.write(nodes)
    cluster.kubectl('shift 3; exec kubectl "$@"', name="ssh")
    for example in examples:
        if "cache_connection" in example:
            example["cache_connection"] = str(cluster.folder / "cache")
        cluster.source.write_text(yaml.safe_dump(example))
        assert len(cluster.listed()["servers"]["hosts"]) == 3
    assert cluster.listed()["zone_a"]["hosts"]


def test_the_example_of_the_repository(cluster: Ansible) -> None:
    text = (ROOT / "inventories/example.kubekeel.yml").read_text()
    cluster.source.write_text(text)
    assert members(cluster.listed()) == CLUSTERS["k3s"][1]
    known = set(document(cluster)["doc"]["options"])
    named = re.findall(r"^# ([a-z_]+):", text, re.MULTILINE)
    assert len(named) > 8
    assert set(named) <= known
