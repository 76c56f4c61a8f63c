"""The CNI chain: which file counts, the entry of tuning in it and out of it, and what is refused before anything changes."""

import json
import pathlib
from typing import Any

import hypothesis
import pytest
from ansible_collections.kubekeel.ha.plugins.module_utils import cni_config, node_files, run_record, running_kernel, systemd
from ansible_collections.kubekeel.ha.plugins.modules import cni_tuning, restore
from hypothesis import strategies as st

from .conftest import Result, RunModule

WANTED = {"net.ipv4.tcp_retries2": "8", "net.ipv4.tcp_keepalive_time": "60"}
# As calico's install-cni writes it on MicroK8s, shortened.
CALICO = """{
  "name": "k8s-pod-network",
  "cniVersion": "0.3.1",
  "plugins": [
    {
      "type": "calico",
      "log_level": "info",
      "log_file_path": "/var/snap/microk8s/common/var/log/calico/cni/cni.log",
      "datastore_type": "kubernetes",
      "mtu": 0,
      "ipam": {
          "type": "calico-ipam"
      },
      "policy": {
          "type": "k8s"
      },
      "kubernetes": {
          "kubeconfig": "/var/snap/microk8s/current/args/cni-network/calico-kubeconfig"
      }
    },
    {
      "type": "portmap",
      "snat": true,
      "capabilities": {"portMappings": true}
    },
    {
      "type": "bandwidth",
      "capabilities": {"bandwidth": true}
    }
  ]
}
"""
# As K3s writes it (pkg/agent/flannel/setup.go).
FLANNEL = """{
  "name":"cbr0",
  "cniVersion":"1.0.0",
  "plugins":[
    {
      "type":"flannel",
      "delegate":{
        "hairpinMode":true,
        "forceAddress":true,
        "isDefaultGateway":true
      }
    },
    {
      "type":"portmap",
      "capabilities":{
        "portMappings":true
      }
    },
    {
      "type":"bandwidth",
      "capabilities":{
        "bandwidth":true
      }
    }
  ]
}
"""
LAB = (pathlib.Path(__file__).parents[2] / "lab/node/etc/cni/net.d/10-lab.conflist.j2").read_text()
ONE_LINE = '{"cniVersion":"0.4.0","name":"x","plugins":[{"type":"bridge"},{"type":"portmap"}]}'
ONE_PLUGIN = '{\n\t"cniVersion": "0.4.0",\n\t"name": "x",\n\t"plugins": [{"type": "bridge"}]\n}'
CHAINS = {
    "calico": CALICO,
    "flannel": FLANNEL,
    "lab": LAB,
    "one line": ONE_LINE,
    "one plugin": ONE_PLUGIN,
    "crlf": CALICO.replace("\n", "\r\n"),
}


def put_in(text: str, wanted: dict[str, str] = WANTED) -> str:
    return cni_config.with_ours(cni_config.parse(text), wanted)


@pytest.mark.parametrize("text", CHAINS.values(), ids=CHAINS)
def test_the_entry_comes_last_and_goes_without_a_trace(text: str) -> None:
    after = put_in(text)
    before, plugins = (json.loads(each)["plugins"] for each in (text, after))
    assert plugins == [*before, {"type": "tuning", "kubekeel": "tcp_timeouts", "sysctl": WANTED}]
    assert put_in(after) == after
    changed = put_in(after, {"net.ipv4.tcp_retries2": "6"})
    assert json.loads(changed)["plugins"][-1]["sysctl"] == {"net.ipv4.tcp_retries2": "6"}
    assert [put_in(each, {}) for each in (text, after, changed)] == [text] * 3


def test_the_entry_looks_like_those_before_it() -> None:
    assert put_in(CALICO).endswith(
        """\
      "capabilities": {"bandwidth": true}
    },
    {
      "type": "tuning",
      "kubekeel": "tcp_timeouts",
      "sysctl": {
        "net.ipv4.tcp_keepalive_time": "60",
        "net.ipv4.tcp_retries2": "8"
      }
    }
  ]
}
"""
    )
    assert "\n" not in put_in(ONE_LINE)


SPACE = st.sampled_from(["", " ", "\n  ", "\r\n\t", "\n\n"])


@st.composite
def chains(draw: st.DrawFn) -> str:
    """A chain with spaces and keys of any kind."""
    values = st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
    plugins = draw(
        st.lists(st.fixed_dictionaries({"type": st.sampled_from(["ptp", "tuning", "x"])}, optional={"more": values}), min_size=1)
    )
    words = [draw(SPACE) + json.dumps(plugin, ensure_ascii=draw(st.booleans())) + draw(SPACE) for plugin in plugins]
    more = draw(st.dictionaries(st.text().filter(lambda name: name != "plugins"), values, max_size=2))
    pairs = [json.dumps(name) + draw(SPACE) + ":" + json.dumps(value) for name, value in more.items()]
    pairs.insert(
        draw(st.integers(0, len(pairs))), draw(SPACE) + '"plugins"' + draw(SPACE) + ":" + draw(SPACE) + "[" + ",".join(words) + "]"
    )
    return "{" + (draw(SPACE) + ",").join(pairs) + draw(SPACE) + "}" + draw(SPACE)


@hypothesis.settings(deadline=None)
@hypothesis.given(chains())
def test_any_chain_is_changed_and_restored(text: str) -> None:
    after = put_in(text)
    assert json.loads(after) == {**json.loads(text), "plugins": json.loads(after)["plugins"]}
    assert json.loads(after)["plugins"][:-1] == json.loads(text)["plugins"]
    assert put_in(after, {}) == text


def with_entry(sysctl: dict[str, Any], **more: Any) -> str:
    known = json.loads(LAB)
    known["plugins"].insert(1, {"type": "tuning", "sysctl": sysctl, **more})
    return json.dumps(known, indent=4)


def test_somebody_else_s_entry_stays_and_is_not_repeated() -> None:
    text = with_entry({"net.ipv4.tcp_retries2": "8", "net.core.somaxconn": "500"}, mtu=1400)
    after = put_in(text)
    assert json.loads(after)["plugins"][-1]["sysctl"] == {"net.ipv4.tcp_keepalive_time": "60"}
    assert put_in(after, {}) == text
    whole = with_entry(WANTED)
    assert put_in(whole) == whole


def test_a_contradiction_is_found() -> None:
    chain = cni_config.parse(with_entry({"net/ipv4/tcp_retries2": "5"}))
    assert cni_config.conflicts(chain, WANTED) == ["net.ipv4.tcp_retries2 = 5"]


def test_an_entry_that_stands_first_or_alone_goes_too() -> None:
    ours: dict[str, Any] = {"type": "tuning", "kubekeel": "tcp_timeouts", "sysctl": {}}
    first, last = {"type": "ptp"}, {"type": "portmap"}
    for plugins in ([ours, last], [first, ours, last], [ours, ours, last], [first, last, ours, ours]):
        text = put_in(json.dumps({"name": "x", "plugins": plugins}, indent=2), {})
        assert [plugin["type"] for plugin in json.loads(text)["plugins"]] == [plugin["type"] for plugin in plugins if plugin != ours]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no JSON"),
        ("{", "no JSON"),
        ("[" * 100_000, "nested"),
        ("[]", "no list 'plugins'"),
        ('{"type": "bridge"}', "no list 'plugins'"),
        ('{"plugins": []}', "is empty"),
        ('{"plugins": ["bridge"]}', "something else"),
        ('{"plugins": {"type": "bridge"}}', "something else"),
    ],
)
def test_what_is_no_chain(text: str, why: str) -> None:
    with pytest.raises(cni_config.ChainError, match=why):
        cni_config.parse(text)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["10-calico.conflist", "calico-kubeconfig", "cni.yaml"], "10-calico.conflist"),
        (["87-podman-bridge.conflist", "05-cilium.conflist", "00-multus.conf"], "00-multus.conf"),
        (["10-flannel.conflist.bak", ".10-x.conflist.kubekeel"], None),
        (["b.json", "c.conf"], "b.json"),
        ([], None),
    ],
)
def test_the_file_that_the_runtime_takes(names: list[str], expected: str | None) -> None:
    assert cni_config.chosen(names) == expected


MICROK8S_TOML = """version = 2
[plugins."io.containerd.grpc.v1.cri"]
  # 'plugins."io.containerd.grpc.v1.cri".cni' contains config related to cni
  [plugins."io.containerd.grpc.v1.cri".cni]
    # bin_dir is the directory in which the binaries for the plugin is kept.
    bin_dir = "${SNAP_DATA}/opt/cni/bin"

    # conf_dir is the directory in which the admin places a CNI conf.
    conf_dir = "${SNAP_DATA}/args/cni-network"

  [plugins."io.containerd.grpc.v1.cri".registry]
    conf_dir = "/wrong"
"""
# k3d-io/k3d#1572
K3S_TOML = """version = 3
[plugins.'io.containerd.cri.v1.runtime'.cni]
  bin_dir = "/var/lib/rancher/k3s/data/cni"
  conf_dir = "/var/lib/rancher/k3s/agent/etc/cni/net.d"
"""
SEVERAL = "[plugins.'io.containerd.cri.v1.runtime'.cni]\n  bin_dirs = ['/a', \"/b/\"]\n"


@pytest.mark.parametrize(
    ("toml", "conf", "bins"),
    [
        (MICROK8S_TOML, "/data/args/cni-network", ("/data/opt/cni/bin",)),
        (K3S_TOML, "/var/lib/rancher/k3s/agent/etc/cni/net.d", ("/var/lib/rancher/k3s/data/cni",)),
        (SEVERAL, "/etc/cni/net.d", ("/a", "/b")),
        ('[plugins.cri.cni]\nconf_dir = "/c" # mine\n', "/c", ("/opt/cni/bin",)),
        ('version = 2\n[plugins."io.containerd.grpc.v1.cri"]\n  sandbox_image = "x"\n', "/etc/cni/net.d", ("/opt/cni/bin",)),
    ],
)
def test_where_containerd_looks(toml: str, conf: str, bins: tuple[str, ...]) -> None:
    assert cni_config.folders(toml, {"SNAP_DATA": "/data"}) == cni_config.Folders(conf, bins)
    of_any = cni_config.folders(toml, {"SNAP_DATA": "/data"}, cni_config.DEFAULTS_OF_ANY)
    told = bins != ("/opt/cni/bin",)
    assert of_any == cni_config.Folders(conf, bins if told else ("/opt/cni/bin", "/usr/lib/cni"), one_of=not told)


def test_the_allowlist_of_tuning() -> None:
    names = sorted(WANTED)
    assert cni_config.not_allowed(names, None) == []
    assert cni_config.not_allowed(names, "^net.ipv4.conf.IFNAME.[a-z_]*$\n") == names
    assert cni_config.not_allowed(names, "\n^net\\.ipv4\\.tcp_keepalive_.*$\n(\n") == ["net.ipv4.tcp_retries2"]


# What tuning 1.1.1 of Debian printed.
INCOMPATIBLE = """{
    "code": 1,
    "msg": "incompatible CNI versions",
    "details": "config is \\"1.1.0\\", plugin supports [\\"0.1.0\\" \\"0.2.0\\" \\"0.3.0\\" \\"0.3.1\\" \\"0.4.0\\" \\"1.0.0\\"]"
}"""
REFUSED = '{\n    "code": 999,\n    "msg": "write /proc/sys/net/ipv4/tcp_retries2: invalid argument"\n}'


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (INCOMPATIBLE, 'incompatible CNI versions: config is "1.1.0", plugin supports ["0.1.0" "0.2.0" "0.3.0" "0.3.1" "0.4.0" "1.0.0"]'),
        (REFUSED, "write /proc/sys/net/ipv4/tcp_retries2: invalid argument"),
        ("panic: x\n", "panic: x"),
        ("{}", "{}"),
        ("[]", "[]"),
    ],
)
def test_what_a_plugin_complains_of(output: str, expected: str) -> None:
    assert cni_config.complaint(output) == expected


def test_the_plugin_is_tried_with_every_version_that_the_runtime_may_take() -> None:
    several = json.dumps({**json.loads(ONE_LINE), "cniVersions": ["0.4.0", "1.1.0"]})
    found = [json.loads(text) for text in cni_config.rehearsals(cni_config.parse(several), WANTED)]
    assert [(one["cniVersion"], one["prevResult"]["cniVersion"]) for one in found] == [("0.4.0", "0.4.0"), ("1.1.0", "1.1.0")]
    assert found[0]["sysctl"] == WANTED


# -- The module --------------------------------------------------------------------------------------------------------


def may_enter_networks() -> bool:
    try:
        with running_kernel.new_network() as path:
            return running_kernel.in_networks([path], lambda: 1) == [1]
    except node_files.NodeError:
        return False


NETWORKS = pytest.mark.skipif(not may_enter_networks(), reason="makes network namespaces, which only root may")


class Node:
    """A node's CNI: its folders, and a stand-in for the plugin that says what it is told to."""

    def __init__(self, folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch, run_module: RunModule) -> None:
        self.conf, self.bin = folder / "net.d", folder / "bin"
        self.conf.mkdir()
        self.bin.mkdir()
        self.file = self.conf / "10-calico.conflist"
        self.file.write_text(CALICO)
        (self.conf / "calico-kubeconfig").write_text("x")
        for name in ("calico", "portmap", "bandwidth", "tuning"):
            self.program(name)
        self.place = cni_tuning.Place(cni_config.Folders(str(self.conf), (str(self.bin),)))
        monkeypatch.setattr(cni_tuning, "place_of", lambda _: self.place)
        monkeypatch.setattr(cni_config, "ALLOWLIST", str(folder / "allowlist.conf"))
        self.allowlist = folder / "allowlist.conf"
        self._run = run_module

    def program(self, name: str, text: str = "cat > /dev/null; echo '{}'", folder: pathlib.Path | None = None) -> None:
        path = (folder or self.bin) / name
        path.write_text("#!/bin/sh\n%s\n" % text)
        path.chmod(0o755)

    def run(self, sysctls: dict[str, Any] = WANTED, module: Any = cni_tuning, **more: Any) -> Result:
        return self._run(module, **({} if module is restore else {"sysctls": sysctls}), **more)


@pytest.fixture
def node(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, run_module: RunModule) -> Node:
    return Node(tmp_path, monkeypatch, run_module)


@NETWORKS
def test_put_in_told_beforehand_and_taken_back(node: Node) -> None:
    checked = node.run(check=True, run_id="r1")
    assert node.file.read_text() == CALICO
    made = node.run(run_id="r1")
    assert {**checked, "invocation": None} == {**made, "invocation": None}
    assert node.file.read_text() == put_in(CALICO)
    assert made["plugins"] == ["calico", "portmap", "bandwidth", "tuning"]
    retries = next(change for change in made["changes"] if change["name"] == "cni:net.ipv4.tcp_retries2")
    # What the kernel gives a new network namespace.
    assert (retries["owner"], retries["before"], retries["after"], retries["path"]) == ("new pods", "15", "8", str(node.file))
    assert "calico-node writes the file anew" in retries["note"]
    assert made["restart"] == []
    again = node.run(run_id="r2")
    assert (again["changed"], again["changes"], again["diff"]) == (False, [], [])
    node.run(module=restore, run_id="r1")
    assert node.file.read_text() == CALICO


@NETWORKS
def test_an_entry_that_somebody_took_out_since_is_told(node: Node) -> None:
    node.run(run_id="r1")
    node.file.write_text(CALICO)
    assert "run r1 had put it there, and it was taken out since" in node.run(check=True)["changes"][0]["note"]
    node.run(run_id="r2")
    node.run({}, run_id="r3")
    assert node.file.read_text() == CALICO
    assert "taken out since" not in node.run(check=True)["changes"][0]["note"]


@NETWORKS
def test_without_sysctls_only_ours_goes_from_whatever_file(node: Node) -> None:
    node.run()
    first = node.conf / "05-cilium.conflist"
    first.write_text(ONE_LINE)
    result = node.run({})
    assert (node.file.read_text(), first.read_text()) == (CALICO, ONE_LINE)
    assert [(change["before"], change["after"]) for change in result["changes"]] == [("60", "the kernel's"), ("8", "the kernel's")]
    node.file.write_text("{ no JSON")
    assert node.run({})["changed"] is False


@NETWORKS
def test_the_file_that_counts_since_gets_it_and_the_other_one_loses_it(node: Node) -> None:
    node.run()
    first = node.conf / "05-x.conflist"
    first.write_text(ONE_LINE)
    node.program("bridge")
    node.run()
    assert (node.file.read_text(), first.read_text()) == (CALICO, put_in(ONE_LINE))


@NETWORKS
def test_a_file_that_k3s_copies_is_changed_too(node: Node, tmp_path: pathlib.Path) -> None:
    node.file.unlink()
    live, source = node.conf / "10-flannel.conflist", tmp_path / "mine.conflist"
    for file in (live, source):
        file.write_text(FLANNEL)
    node.program("flannel")
    node.place.flannel = True
    assert "copy it to /etc/rancher/k3s/flannel.conflist, set flannel-cni-conf" in node.run()["msg"]
    node.place.source = str(source)
    assert len(node.run()["changes"]) == len(WANTED)
    assert live.read_text() == source.read_text() == put_in(FLANNEL)
    node.run({})
    assert live.read_text() == source.read_text() == FLANNEL


@pytest.fixture
def k3s(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, run_module: RunModule) -> pathlib.Path:  # noqa: ARG001
    """The configuration of a K3s server with its data below the test's folder; its systemd comes after the one of run_module."""
    unit, config = tmp_path / "k3s.service", tmp_path / "config.yaml"
    config.write_text(f"data-dir: {tmp_path}/data\n")
    unit.write_text(f"[Service]\nExecStart=/usr/local/bin/k3s server --config {config}\n")
    shown = {"LoadState": "loaded", "ActiveState": "active", "FragmentPath": str(unit)}
    monkeypatch.setattr(systemd, "show", lambda *_: shown)
    (tmp_path / "data/agent/etc/containerd").mkdir(parents=True)
    return config


def place(run_module: RunModule, monkeypatch: pytest.MonkeyPatch) -> cni_tuning.Place | None:
    """Return where the module would look."""
    found: list[cni_tuning.Place | None] = []
    look = cni_tuning.place_of
    with monkeypatch.context() as patched:
        patched.setattr(cni_tuning, "place_of", lambda module: found.append(look(module)))
        run_module(cni_tuning, sysctls={}, distribution="k3s")
    return found[0]


def test_where_k3s_looks(k3s: pathlib.Path, run_module: RunModule, monkeypatch: pytest.MonkeyPatch) -> None:
    data = k3s.parent / "data"
    # With flannel-backend: none its config.toml says nothing of CNI.
    assert place(run_module, monkeypatch) == cni_tuning.Place(cni_config.DEFAULTS)
    own = K3S_TOML.replace("/var/lib/rancher/k3s", str(data))
    (data / "agent/etc/containerd/config.toml").write_text(own)
    folders = cni_config.Folders(f"{data}/agent/etc/cni/net.d", (f"{data}/data/cni",))
    assert place(run_module, monkeypatch) == cni_tuning.Place(folders, flannel=True)
    k3s.write_text(k3s.read_text() + "flannel-cni-conf: /etc/rancher/k3s/flannel.conflist\n")
    assert place(run_module, monkeypatch) == cni_tuning.Place(folders, True, "/etc/rancher/k3s/flannel.conflist")
    before = k3s.read_text()
    k3s.write_text(before + "container-runtime-endpoint: unix:///run/nowhere/containerd.sock\n")
    monkeypatch.setattr(cni_tuning, "first_of", lambda *paths: "" if paths == ("/etc/containerd/config.toml",) else own)
    assert place(run_module, monkeypatch) == cni_tuning.Place(cni_config.DEFAULTS_OF_ANY)
    k3s.write_text(before + "disable-agent: true\n")
    assert place(run_module, monkeypatch) is None
    assert run_module(cni_tuning, sysctls=WANTED, distribution="k3s")["changes"] == []


def refuse(node: Node, part: str, sysctls: dict[str, Any] = WANTED) -> None:
    """See that the node is refused, in check mode by a reason, and that no file changes."""
    before = {path: path.read_bytes() for path in node.conf.iterdir()}
    checked, made = node.run(sysctls, check=True), node.run(sysctls)
    assert any(part in reason for reason in checked["reasons"]), checked
    assert (checked["changed"], checked["changes"], checked["diff"]) == (False, [], [])
    assert made["failed"] is True
    assert part in made["msg"]
    assert {path: path.read_bytes() for path in node.conf.iterdir()} == before


@NETWORKS
def test_what_would_start_no_pod_any_more_is_refused(node: Node) -> None:
    refuse(node, "a pod has no sysctl net.ipv4.tcp_no_such_thing", {"net.ipv4.tcp_no_such_thing": 1})
    refuse(node, "a pod has no sysctl net.core.netdev_budget", {"net.core.netdev_budget": 1})
    node.program("tuning", "cat > /dev/null; echo '%s'; exit 1" % REFUSED)
    refuse(node, "tuning was tried and failed, so that no new pod would start: write /proc/sys/net/ipv4/tcp_retries2: invalid argument")
    node.program("tuning", "exit 3")
    refuse(node, "no new pod would start: it ended with 3")
    (node.bin / "tuning").write_text("no program")
    refuse(node, "Exec format error")
    (node.bin / "tuning").unlink()
    refuse(node, f"the CNI plugin tuning is not in {node.bin}, and with it")


@NETWORKS
def test_a_runtime_whose_folder_is_not_known_finds_the_plugin_too(node: Node) -> None:
    elsewhere = node.bin.parent / "elsewhere"
    elsewhere.mkdir()
    (node.bin / "tuning").rename(elsewhere / "tuning")
    node.program("portmap", folder=elsewhere)
    bins = (str(node.bin), str(elsewhere))
    # A plugin of the chain lies in either; only the first holds them all, so only there tuning would be found.
    node.place.folders = cni_config.Folders(str(node.conf), bins, one_of=True)
    refuse(node, f"the CNI plugin tuning is not in {node.bin}, and with it")
    for name in ("calico", "bandwidth"):
        node.program(name, folder=elsewhere)
    refuse(node, f"the CNI plugin tuning is not in {node.bin}, and with it")
    node.program("tuning", "exit 3")
    refuse(node, f"{node.bin}/tuning was tried and failed")
    (node.bin / "tuning").unlink()
    for folder in (node.bin, elsewhere):
        (folder / "calico").unlink()
    refuse(node, f"none of {node.bin}, {elsewhere} holds all plugins of the chain (calico, portmap, bandwidth)")
    # Named by its configuration, all of them are searched.
    node.place.folders = cni_config.Folders(str(node.conf), bins)
    assert node.run()["plugins"] == ["calico", "portmap", "bandwidth", "tuning"]


def test_a_link_is_followed_to_read_and_never_to_write(node: Node, tmp_path: pathlib.Path) -> None:
    target = tmp_path / "calico.conflist"
    node.file.rename(target)
    node.file.symlink_to(target)
    looked = node.run({})
    assert (looked.get("failed"), looked["changed"], looked["reasons"], looked["plugins"][0]) == (None, False, [], "calico")
    target.write_text(put_in(CALICO))
    refuse(node, "10-calico.conflist is a link", {})
    assert target.read_text() == put_in(CALICO)


@NETWORKS
def test_a_link_takes_no_entry(node: Node, tmp_path: pathlib.Path) -> None:
    node.file.rename(tmp_path / "calico.conflist")
    node.file.symlink_to(tmp_path / "calico.conflist")
    refuse(node, "10-calico.conflist is a link")


def test_a_chain_of_nothing_but_our_entry(node: Node) -> None:
    alone = json.dumps({"name": "x", "plugins": json.loads(put_in(CALICO))["plugins"][-1:]})
    node.file.write_text(alone)
    assert node.run({})["changed"] is False
    assert node.file.read_text() == alone
    refuse(node, "10-calico.conflist cannot be changed: its list 'plugins' is empty", {"net.ipv4.tcp_retries2": 6})


@NETWORKS
def test_a_file_that_k3s_has_not_copied_yet_is_refused(node: Node, tmp_path: pathlib.Path) -> None:
    node.file.unlink()
    live, source = node.conf / "10-flannel.conflist", tmp_path / "mine.conflist"
    live.write_text(FLANNEL)
    source.write_text(FLANNEL.replace("true", "false"))
    node.program("flannel")
    node.place.flannel, node.place.source = True, str(source)
    refuse(node, f"{source} (flannel-cni-conf) is copied over {live} when K3s starts, and differs from it: restart K3s first")
    source.unlink()
    refuse(node, f"{source} cannot be changed")


@NETWORKS
def test_a_damaged_record_does_not_keep_from_a_change(node: Node) -> None:
    node.run(run_id="r1")
    node.file.write_text(CALICO)
    pathlib.Path(run_record.RUNS, "r1", "record.json").write_text("{")
    made = node.run(run_id="r2")
    assert made["changed"] is True
    assert "taken out since" not in made["changes"][0]["note"]


def test_files_that_cannot_take_an_entry_are_refused(node: Node) -> None:
    node.allowlist.write_text("^net.ipv4.conf.IFNAME.*$\n")
    refuse(node, "keeps tuning from setting net.ipv4.tcp_keepalive_time, net.ipv4.tcp_retries2")
    node.allowlist.unlink()
    node.file.write_text(with_entry({"net.ipv4.tcp_retries2": "5"}))
    refuse(node, "has an entry of tuning that sets net.ipv4.tcp_retries2 = 5")
    node.file.write_text("{")
    refuse(node, "10-calico.conflist cannot be changed: it is no JSON")
    (node.conf / "00-multus.conf").write_text("{}")
    refuse(node, "00-multus.conf is what the runtime takes, and holds a single plugin")
    for path in node.conf.iterdir():
        path.unlink()
    refuse(node, "holds no CNI configuration")


@pytest.mark.parametrize(
    ("sysctls", "part"),
    [
        ({"kernel.pid_max": 1}, "is no sysctl of a network namespace"),
        ({"net.ipv4.conf.eth0/1.x": 1}, "is no sysctl of a network namespace"),
        ({"net/../kernel/x": 1}, "is no sysctl of a network namespace"),
        ({"net.ipv4.tcp_retries2": None}, "a number or a text is needed"),
        ({"net.ipv4.tcp_retries2": True}, "a number or a text is needed"),
        ({"net.ipv4.tcp_retries2": [8]}, "a number or a text is needed"),
    ],
)
def test_sysctls_that_cannot_be_meant(node: Node, sysctls: dict[str, Any], part: str) -> None:
    result = node.run(sysctls)
    assert result["failed"] is True
    assert part in result["msg"]
