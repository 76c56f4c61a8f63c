"""What the lab's K3s computes: configuration, component arguments, what a load balancer does, the lab's own layout."""

import importlib
import importlib.util
import json
import pathlib
import sys
import types
from typing import Any

import pytest
import yaml

from lab import inventory
from lab.distributions import find
from lab.errors import UsageError
from lab.k3s.distribution import facts
from lab.k3s.release import Choice
from lab.secrets import Secrets
from lab.state import State
from lab.topology import Role, Topology, counts, plan

STAND_IN = pathlib.Path(__file__).parents[2] / "lab/node/usr/local/lib/kubekeel-lab/k3s"
PACKAGE = "kubekeel_lab_k3s"
SUBNET = "10.89.0.0/24"


def load(name: str) -> types.ModuleType:
    """Import a part of the stand-in, which lies where no import would look."""
    if PACKAGE not in sys.modules:
        spec = importlib.util.spec_from_file_location(PACKAGE, STAND_IN / "__init__.py", submodule_search_locations=[str(STAND_IN)])
        assert spec is not None
        sys.modules[PACKAGE] = importlib.util.module_from_spec(spec)
    return importlib.import_module(f"{PACKAGE}.{name}")


config_file, flags, component_args = load("config_file"), load("flags"), load("component_args")
release, state, node_module, front = load("release"), load("balancer_state"), load("node"), load("front")


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, []),
        ({"config.yaml": ""}, []),
        ({"config.yaml": "# nothing\n"}, []),
        ({"config.yaml": "token: a\nnode-ip: 10.0.0.1\n"}, ["--token=a", "--node-ip=10.0.0.1"]),
        ({"config.yaml": "kubelet-arg:\n- a=1\n- b\n"}, ["--kubelet-arg=a=1", "--kubelet-arg=b"]),
        ({"config.yaml": "cluster-init: true\nselinux: off\nt: x\n"}, ["--cluster-init=true", "--selinux=false", "-t=x"]),
        (
            {"config.yaml": 'a: 0644\nb: "0644"\nc: 1.0\nd: 1e6\ne: ~\nf: 0.00001\n'},
            ["-a=420", "-b=0644", "-c=1", "-d=1e+06", "-e=", "-f=1e-05"],
        ),
        ({"config.yaml": "a: 2026-01-02\nb: 1:30\nc: 1_000\nd: ' x '\n"}, ["-a=2026-01-02", "-b=1:30", "-c=1000", "-d=x"]),
        ({"config.yaml": "a: 1\nb: 2\n", "config.yaml.d/1.yaml": "a: 3\n"}, ["-a=3", "-b=2"]),
        ({"config.yaml": "a: [1, 2]\n", "config.yaml.d/1.yml": "a+: 3\n"}, ["-a=1", "-a=2", "-a=3"]),
        ({"config.yaml": "a: 1\n", "config.yaml.d/1.yaml": "a+: [2]\n"}, ["-a=1", "-a=2"]),
        ({"config.yaml": "a+: 1\n", "config.yaml.d/1.yaml": "a+: ~\n"}, ["-a=1"]),
        ({"config.yaml": "a: 1\n", "config.yaml.d/b.yaml": "a: 4\n", "config.yaml.d/a.yaml": "a+: 3\n"}, ["-a=4"]),
        ({"config.yaml": "a: 1\na: 2\nb: 1\nb+: 2\n"}, ["-a=2", "-b=1", "-b=2"]),
        ({"config.yaml.d/x.YAML": "a: 1\n", "config.yaml.d/x.txt": "a: 2\n", "config.yaml.d/y.yaml/z.yaml": "a: 3\n"}, ["-a=1"]),
        ({"config.yaml": "a: []\nb: [~]\n"}, ["-b="]),
    ],
)
def test_files_become_arguments(tmp_path: pathlib.Path, files: dict[str, str], expected: list[str]) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert config_file.arguments(tmp_path / "config.yaml") == expected


@pytest.mark.parametrize("text", ["- a\n", "a", "a: [\n", "\tb: 1\n"])
def test_a_file_that_is_no_mapping_ends_k3s(tmp_path: pathlib.Path, text: str) -> None:
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(ValueError, match=r"config\.yaml"):
        config_file.arguments(tmp_path / "config.yaml")


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        ([], ["--a=1", "--b=2"]),
        (["a=3"], ["--a=3", "--b=2"]),
        (["--a=3", "a=4", "c"], ["--a=3", "--a=4", "--b=2", "--c=true"]),
        (["a+=3"], ["--a=1", "--a=3", "--b=2"]),
        (["a-=3", "a+=4"], ["--a=3", "--a=1", "--a=4", "--b=2"]),
        (["b=x=y"], ["--a=1", "--b=x=y"]),
    ],
)
def test_a_user_s_items_go_before_defaults(items: list[str], expected: list[str]) -> None:
    assert component_args.join({"a": "1", "b": "2"}, items) == expected


def test_the_last_of_several_values_counts_and_the_environment_comes_last() -> None:
    words = ["--server=https://a:6443", "--kubelet-arg=a=1", "--kubelet-arg", "b=2", "-s", "https://b:6443", "--selinux", "# note", "--x"]
    options = flags.parse("agent", words, {"K3S_URL": "https://c:6443", "K3S_TOKEN": "t"})
    assert (options.text("server"), options.text("token"), options.switch("selinux")) == ("https://b:6443", "t", True)
    assert options.items("kubelet-arg") == ["a=1", "b=2"]


@pytest.mark.parametrize(
    ("command", "word", "complaint"),
    [
        ("agent", "--kube-apiserver-arg=a", "flag provided but not defined: -kube-apiserver-arg"),
        ("agent", "--tls-san=a", "flag provided but not defined: -tls-san"),
        ("server", "--node-connection-retry=5", "flag provided but not defined: -node-connection-retry"),
        ("server", "--cluster-init=maybe", "invalid boolean value"),
        ("server", "--token", "flag needs an argument: -token"),
    ],
)
def test_an_unknown_flag_ends_k3s(command: str, word: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        flags.parse(command, [word], {})


def test_only_a_server_skips_unknown_keys_of_files() -> None:
    words = ["--kubelet-arg=a=1", "--kubelt-arg=a=1", "-t=x"]
    assert flags.split_unknown("server", words) == (["--kubelet-arg=a=1", "-t=x"], ["--kubelt-arg"])
    assert flags.split_unknown("agent", words) == (words, [])


@pytest.mark.parametrize(
    ("words", "environ", "expected"),
    [
        ([], {}, "default"),
        (["-c", "a"], {}, "a"),
        (["--config=a"], {}, "a"),
        (["--config", "a"], {"K3S_CONFIG_FILE": "b"}, "b"),
    ],
)
def test_where_the_configuration_is(words: list[str], environ: dict[str, str], expected: str) -> None:
    assert flags.config_place(words, environ, "default") == expected


@pytest.mark.parametrize(
    ("text", "relearns", "joins_once"),
    [
        ("v1.28.15+k3s1", False, False),
        ("v1.29.11+k3s1", False, False),
        ("v1.29.12+k3s1", True, False),
        ("v1.29.15+k3s1", True, True),
        ("v1.30.8-rc1+k3s1", False, False),
        ("v1.30.8+k3s1", True, False),
        ("v1.30.11+k3s1", True, True),
        ("v1.31.3+k3s1", False, False),
        ("v1.31.4+k3s1", True, False),
        ("v1.31.7+k3s2", True, True),
        ("v1.32.0-rc1+k3s1", False, False),
        ("v1.32.0+k3s1", True, False),
        ("v1.32.3-rc1+k3s1", True, False),
        ("v1.32.3+k3s1", True, True),
        ("v1.33.0+k3s1", True, True),
    ],
)
def test_which_releases_have_which_bugs(text: str, relearns: bool, joins_once: bool) -> None:
    found = release.Release.parse(text)
    assert (found.relearns_addresses, found.joins_once) == (relearns, joins_once)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"ServerURL": "https://h:6443", "ServerAddresses": ["b:6443", "a:6443", "a:6443"]}', ["a:6443", "b:6443"]),
        ('{"ServerURL": "https://h:6443", "ServerAddresses": ["[::1]:6443"], "Listener": null}', ["[::1]:6443"]),
        ('{"ServerURL": "https://other:6443", "ServerAddresses": ["a:6443"]}', []),
        ('{"ServerURL": "https://h:6443"}', []),
        ('{"ServerURL": "https://h:6443", "ServerAddresses": [1]}', []),
        ('["https://h:6443"]', []),
        ('{"ServerURL"', []),
        ("", []),
    ],
)
def test_what_a_state_file_is_worth(text: str, expected: list[str]) -> None:
    assert state.read(text, "https://h:6443") == expected


def test_a_state_file_as_k3s_writes_it() -> None:
    text = state.render("https://h:6443", ["a:6443"], listener=True)
    assert text == '{\n  "ServerURL": "https://h:6443",\n  "ServerAddresses": [\n    "a:6443"\n  ],\n  "Listener": null\n}'
    assert "Listener" not in json.loads(state.render("https://h:6443", ["a:6443"], listener=False))


@pytest.mark.parametrize(
    ("addresses", "found", "expected"),
    [
        (["a"], ["a"], None),
        (["a"], [], None),
        (["a", "b"], ["b", "a"], None),
        (["a"], ["b", "a"], ["a", "b"]),
        (["a", "b"], ["b"], ["b"]),
    ],
)
def test_an_empty_list_never_replaces_what_is_known(addresses: list[str], found: list[str], expected: list[str] | None) -> None:
    assert state.changed(addresses, found) == expected


@pytest.mark.parametrize(
    ("addresses", "last", "fallback", "expected"),
    [
        (["a", "b", "c"], "", "a", ["a", "b", "c"]),
        (["a", "b", "c"], "b", "a", ["b", "c", "a"]),
        (["b"], "b", "a", ["b", "a"]),
        (["b", "c"], "gone", "a", ["b", "c", "a"]),
        ([], "", "a", ["a"]),
    ],
)
def test_in_which_order_servers_are_tried(addresses: list[str], last: str, fallback: str, expected: list[str]) -> None:
    assert state.candidates(addresses, last, fallback) == expected


def test_whom_a_mended_release_asks() -> None:
    assert state.to_ask("a", ["b"], {"d", "c", "b"}) == ["a", "b", "c", "d"]


@pytest.mark.parametrize(("url", "expected"), [("https://h:6443", "h:6443"), ("https://[::1]:6443", "[::1]:6443"), ("https://h", "h:443")])
def test_the_address_in_a_url(url: str, expected: str) -> None:
    assert node_module.host_and_port(url) == expected


def test_only_a_certificate_tells_who_somebody_is() -> None:
    options = flags.parse("server", ["--node-name=server1", "--node-ip=10.0.0.1"], {})
    found = release.Release.parse("v1.32.3+k3s1")
    lines = [line.strip() for line in front.config(node_module.Node("server", options, node_module.Facts(found, ()))).splitlines()]
    assert "bind 127.0.0.1:6443,10.0.0.1:6443" in " ".join(lines)
    forgets = lines.index("http-request del-header X-Remote- -m beg")
    assert all(forgets < place for place, line in enumerate(lines) if "set-header" in line or "backend" in line or "return" in line)


def split_lab() -> Topology:
    return plan("x", SUBNET, "10.42.0.0/16", counts("split", None, None), registration=True)


def test_the_split_topology() -> None:
    topology = split_lab()
    assert [node.name for node in topology.nodes] == ["etcd1", "etcd2", "etcd3", "control1", "control2", "agent1"]
    assert [node.name for node in topology.servers] == ["etcd1", "etcd2", "etcd3", "control1", "control2"]
    assert [node.name for node in topology.api_servers] == ["control1", "control2"]
    assert [node.name for node in topology.datastore] == ["etcd1", "etcd2", "etcd3"]
    assert [node.name for node in topology.agents] == ["agent1"]
    assert [node.pod_subnet for node in topology.nodes[:2]] == ["10.42.1.0/24", "10.42.2.0/24"]
    assert [node.address for node in topology.nodes[2:5]] == ["10.89.0.13", "10.89.0.31", "10.89.0.32"]
    assert topology.registration is not None
    assert (topology.registration.name, topology.registration.address) == ("registration", "10.89.0.5")
    assert topology.find("registration").container == "kubekeel-x-registration"


def test_a_plain_topology_has_no_more_than_before() -> None:
    topology = plan("x", SUBNET, find("microk8s").pod_network, counts("plain", 1, 1))
    assert topology.machines == topology.nodes
    assert [(node.name, node.address, node.pod_subnet) for node in topology.nodes] == [
        ("server1", "10.89.0.11", "10.1.1.0/24"),
        ("agent1", "10.89.0.51", "10.1.2.0/24"),
    ]


@pytest.mark.parametrize(
    ("topology", "servers", "agents"), [("split", 3, None), ("star", None, None), ("plain", 0, 0), ("plain", 3, 41), ("split", None, 41)]
)
def test_what_cannot_be_meant(topology: str, servers: int | None, agents: int | None) -> None:
    with pytest.raises(UsageError):
        counts(topology, servers, agents)


def lab_state(topology: Topology, distribution: str, folder: pathlib.Path) -> State:
    return State(folder, topology, distribution, "v1.20.2", folder, find(distribution).api_port)


def groups(lab: State) -> dict[str, list[str]]:
    children: dict[str, Any] = yaml.safe_load(inventory.render(lab))["all"]["children"]
    return {name: list(group["hosts"]) for name, group in children.items()}


def test_the_inventory_tells_servers_apart(tmp_path: pathlib.Path) -> None:
    assert groups(lab_state(split_lab(), "k3s", tmp_path)) == {
        "servers": ["etcd1", "etcd2", "etcd3", "control1", "control2"],
        "agents": ["agent1"],
        "etcd": ["etcd1", "etcd2", "etcd3"],
        "control_plane": ["control1", "control2"],
    }
    plain = plan("x", SUBNET, "10.1.0.0/16", {Role.SERVER: 1, Role.AGENT: 0})
    assert groups(lab_state(plain, "microk8s", tmp_path)) == {"servers": ["server1"], "agents": []}


def test_a_lab_s_files(tmp_path: pathlib.Path) -> None:
    topology = split_lab()
    secrets = Secrets.create(topology)
    k3s = find("k3s")

    def files(name: str) -> dict[str, Any]:
        return {entry.path: entry for entry in k3s.entries(topology, topology.find(name), secrets, "v1.20.2")}

    def settings(name: str) -> dict[str, Any]:
        entry = files(name)["etc/rancher/k3s/config.yaml"]
        assert entry.mode == 0o600
        found: dict[str, Any] = yaml.safe_load(entry.content)
        return found

    def role(name: str) -> set[str]:
        return {
            key for key in settings(name) if key.startswith("disable-") and key not in ("disable-network-policy", "disable-helm-controller")
        }

    assert settings("etcd1")["cluster-init"] is True
    assert "server" not in settings("etcd1")
    assert settings("control1")["server"] == "https://10.89.0.11:6443"
    assert role("etcd2") == {"disable-apiserver", "disable-controller-manager", "disable-scheduler"}
    assert role("control2") == {"disable-etcd"}
    assert settings("etcd3")["tls-san"] == ["registration", "10.89.0.5"]
    assert not {"token", "server", "tls-san", "disable"} & set(settings("agent1"))
    agent = files("agent1")
    assert agent["etc/systemd/system/k3s-agent.service.env"].mode == 0o600
    assert b"K3S_URL='https://10.89.0.11:6443'" in agent["etc/systemd/system/k3s-agent.service.env"].content
    assert not any(path.startswith("var/lib/rancher/k3s/server") for path in agent)
    for name in ("etcd1", "control1", "agent1"):
        (tmp_path / f"{name}.yaml").write_bytes(files(name)["etc/rancher/k3s/config.yaml"].content)
        words = config_file.arguments(tmp_path / f"{name}.yaml")
        flags.parse("agent" if name == "agent1" else "server", words, {})
    registration = files("registration")
    assert b"server control2 10.89.0.32:6443" in registration["etc/haproxy/haproxy.cfg"].content
    assert not any("k3s" in path for path in registration)


def test_members_of_etcd_have_names_of_k3s_s_kind() -> None:
    topology = split_lab()
    found = json.loads(facts(topology, Secrets.create(topology), "v1.32.3+k3s1"))
    assert [member["node"] for member in found["members"]] == ["etcd1", "etcd2", "etcd3"]
    assert all(len(member["name"]) == len("etcd1-12345678") for member in found["members"])


@pytest.mark.parametrize("environ", [{"LAB_K3S_RELEASE": "1.32.3"}, {"LAB_K3S_RELEASE": "v1.32.3"}, {"KUBEKEEL_LAB_K3S": "/nonexistent"}])
def test_a_release_that_is_none(environ: dict[str, str]) -> None:
    with pytest.raises(UsageError):
        Choice.from_environment(environ)


def test_a_binary_of_the_user_s_own_makes_its_own_certificates(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    binary = tmp_path / "k3s"
    binary.write_bytes(b"ELF")
    monkeypatch.setenv("KUBEKEEL_LAB_K3S", str(binary))
    topology = split_lab()
    found = {entry.path: entry for entry in find("k3s").entries(topology, topology.find("etcd1"), Secrets.create(topology), "v1.20.2")}
    assert getattr(found["usr/local/bin/k3s"], "content", None) == b"ELF"
    assert {"var/lib/rancher/k3s/server/tls/client-ca.key", "var/lib/rancher/k3s/server/tls/service.key"} <= set(found)
    assert not any(path.endswith("client-admin.crt") or path.startswith("usr/local/lib") for path in found)
