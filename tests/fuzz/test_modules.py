"""Modules, on files that are nearly right and with arguments that are."""

import json
import re
from collections import Counter
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import yaml
from ansible_collections.kubekeel.ha.plugins.module_utils import (
    go_duration,
    k3s,
    k3s_keys,
    kubelet_file,
    lb_state,
    registration,
    sysctl_files,
)
from ansible_collections.kubekeel.ha.plugins.modules import (
    component_args,
    k3s_lb_state,
    k3s_registration,
    kernel_modules,
    kubelet_configuration,
    node_info,
    restore,
    service_environment,
    sysctl_profile,
)
from hypothesis import strategies as st

from ..unit.test_kubelite_args import ENVIRONMENT
from . import independent, seeds
from .inputs import broken, fuzz, wrecked
from .node import ROOM, Node, refusal_names_a_file, settle

Wish = tuple[str, dict[str, Any]]


def as_text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


# -- Argument files of MicroK8s ----------------------------------------------------------------------------------------

WISHES: tuple[Wish, ...] = (
    ("kube-scheduler", {"leader-elect-lease-duration": "15s", "leader-elect-retry-period": "2s"}),
    ("kube-scheduler", {"leader-elect-lease-duration": None}),
    ("kube-controller-manager", {"leader-elect-lease-duration": "60s", "node-monitor-grace-period": "20s", "profiling": "false"}),
    ("kube-apiserver", {"default-not-ready-toleration-seconds": 30, "profiling": None}),
    ("kube-proxy", {"proxy-mode": "ipvs", "cluster-cidr": "10.1.0.0/16,fd00::/64"}),
    ("kubelet", {"node-status-update-frequency": "5s", "cert-dir": "${SNAP_DATA}/certs", "anonymous-auth": "true"}),
)


def check_args(before: str, after: str, wanted: Mapping[str, Any]) -> None:
    """The component takes what was wanted, once, and all else as before."""
    old, new = independent.kubelite(before), independent.kubelite(after)
    # A value like that the reader might take for a flag.
    if old is not None and not any(value is not None and re.match("-|$", as_text(value)) for value in wanted.values()):
        assert new is not None
        for name, value in wanted.items():
            expected = None if value is None else as_text(value).replace("${SNAP_DATA}", ENVIRONMENT["SNAP_DATA"])
            found = new.pop(name, None)
            assert (found is None) if expected is None else len(found or ()) == 1 and go_duration.same_value(found[0], expected)
            old.pop(name, None)
        assert new == old
    # Also in a file that does not work somebody's line stays as it is.
    names = [name for flag in wanted for name in (flag, flag.replace("-", "_"))]
    plain = re.compile(r"#|--[a-z-]+=[\w./,-]+$", re.ASCII)
    kept = [line for line in before.split("\n") if plain.match(line) and not any(name in line for name in names)]
    remaining = (line.rstrip("\r") for line in after.split("\n"))
    assert all(line.rstrip("\r") in remaining for line in kept)


@fuzz(1800, wish=st.sampled_from(WISHES), data=st.data(), room=ROOM)
def test_argument_files(node: Node, wish: Wish, data: st.DataObject, room: int | None) -> None:
    component, flags = wish
    name, arguments = "args/" + component, {"components": {component: flags}, "microk8s_args_dir": "@/args"}
    files = {name: data.draw(broken(seeds.ARGS[component]))}
    done = settle(node, component_args, files, room, look=lambda: node.text(name), **arguments)
    if done:
        check_args(done[1], done[2], flags)
    else:
        refusal_names_a_file(node, component_args, **arguments)


@fuzz(700, components=wrecked(*(dict([wish]) for wish in WISHES)))
def test_wanted_flags(node: Node, components: Any) -> None:
    files = {"args/" + component: text for component, text in seeds.ARGS.items()}

    def look() -> dict[str, str]:
        return {component: node.text("args/" + component) for component in seeds.ARGS}

    done = settle(node, component_args, files, look=look, components=components, microk8s_args_dir="@/args")
    for component, flags in components.items() if done and isinstance(components, dict) else ():
        check_args(done[1][component], done[2][component], flags)


# -- Configuration of K3s ----------------------------------------------------------------------------------------------

K3S_WISHES: tuple[Wish, ...] = (
    ("kube-scheduler", {"leader-elect-lease-duration": "15s", "leader-elect-retry-period": "2s"}),
    ("kubelet", {"node-status-update-frequency": "5s", "max-pods": None}),
    ("kube-controller-manager", {"node-monitor-grace-period": "20s", "leader-elect-lease-duration": None}),
    ("etcd", {"heartbeat-interval": 100, "election-timeout": None}),
)


@st.composite
def k3s_files(draw: Any, role: str = "server", **more: st.SearchStrategy[str]) -> dict[str, str]:
    """The files of a node of K3s, most of them whole."""
    unit = next(name for name, its in k3s.UNITS.items() if its == role)
    files = {f"{unit}.service": seeds.UNITS[role], "mine.yaml": seeds.KUBELET_FILES[1]}
    files["config.yaml"] = draw(broken(*(seeds.CONFIGS if role == "server" else (seeds.AGENT_CONFIG,))))
    for name, texts in {
        "10-user.yaml": (seeds.MINE, "kubelet-arg: v=3\n"),
        "zz-kubekeel.yaml": seeds.OURS,
        "zzz.yml": ("kubelet-arg+: v=4\n", "debug: true\n"),
    }.items():
        if draw(st.integers(0, 2)) == 0:
            files["config.yaml.d/" + name] = draw(st.sampled_from(texts) | broken(*texts))
    return {**files, **{name: draw(text) for name, text in more.items()}}


def check_k3s(component: str, wanted: Mapping[str, Any], before: list[str] | None, after: list[str] | None, absent: list[str]) -> None:
    """The component takes what was wanted, and K3s all else as before."""
    assert before is not None
    assert after is not None
    known = k3s_keys.COMPONENTS[component]

    def split(arguments: list[str]) -> tuple[dict[str, str], Counter[object]]:
        its: dict[str, str] = {}
        others: Counter[object] = Counter()
        for argument in arguments:
            key, _, value = argument.removeprefix("--").partition("=")
            flag = independent.flag(value) if key.endswith("-arg") else None
            if key in (known.key, *known.other_keys) and flag and flag[0] in wanted:
                its[flag[0]] = flag[1]
            elif value or not flag:
                # An item that says nothing goes when something is appended.
                others[(key, flag or value)] += 1
        return its, others

    its, others = split(after)
    if component in absent:
        # What an earlier run wrote goes: it would keep K3s from starting.
        assert others <= split(before)[1]
        return
    assert others == split(before)[1]
    for name, value in wanted.items():
        if value is not None:
            assert go_duration.same_value(its[name], as_text(value))
        else:
            assert known.tuned or name not in its


@fuzz(1800, role=st.sampled_from(["server", "server", "agent"]), wish=st.sampled_from(K3S_WISHES), room=ROOM, data=st.data())
def test_configurations_of_k3s(node: Node, role: str, wish: Wish, room: int | None, data: st.DataObject) -> None:
    component, flags = wish
    arguments = {"components": {component: flags}, "distribution": "k3s"}
    files = data.draw(k3s_files(role))
    done = settle(node, component_args, files, room, look=lambda: independent.k3s(node.etc / "config.yaml"), **arguments)
    if done and (done[1] is not None or not independent.is_finicky(*files.values())):
        check_k3s(component, flags, done[1], done[2], done[0]["absent"])
    elif not done:
        refusal_names_a_file(node, component_args, **arguments)


@fuzz(700, components=wrecked(*(dict([wish]) for wish in K3S_WISHES)))
def test_wanted_flags_of_k3s(node: Node, components: Any) -> None:
    files = {"k3s.service": seeds.UNITS["server"], "config.yaml": seeds.MINE, "config.yaml.d/zz-kubekeel.yaml": seeds.OURS[0]}
    look = lambda: independent.k3s(node.etc / "config.yaml")  # noqa: E731
    done = settle(node, component_args, files, look=look, components=components, distribution="k3s")
    if done and isinstance(components, dict) and len(components) == 1:
        ((component, flags),) = components.items()
        check_k3s(component, flags, done[1], done[2], done[0]["absent"])


@fuzz(
    900, unit=broken(*seeds.UNIT_TEXTS), variables=broken(*seeds.VARIABLES), config=st.sampled_from(seeds.CONFIGS) | broken(*seeds.CONFIGS)
)
def test_units_of_k3s(node: Node, unit: str, variables: str, config: str) -> None:
    files = {"k3s.service": unit, "default/k3s": variables, "config.yaml": config}
    done = settle(node, component_args, files, components={"kubelet": {"max-pods": 7}}, distribution="k3s")
    assert done is None or "msg" not in node.run(node_info)


# -- Variables of units ------------------------------------------------------------------------------------------------


def as_variables(environment: Mapping[str, Any]) -> dict[str, str | None]:
    return {name: None if value is None else str(value) for name, value in environment.items()}


def check_variables(wanted: Mapping[str, Any], before: dict[str, str] | None, after: dict[str, str] | None) -> None:
    """The unit gets what was wanted, and all else as before."""
    assert before is not None
    assert after is not None
    for name, value in as_variables(wanted).items():
        assert after.get(name) == value
    assert {name: value for name, value in after.items() if name not in wanted} == {
        name: value for name, value in before.items() if name not in wanted
    }


@fuzz(
    1800, text=broken(*seeds.VARIABLES), wanted=st.sampled_from(seeds.ENVIRONMENTS), later=st.none() | broken(*seeds.VARIABLES), room=ROOM
)
def test_environment_files(node: Node, text: str, wanted: dict[str, Any], later: str | None, room: int | None) -> None:
    files = {"default/k3s": text, "k3s.service": seeds.UNITS["server"]} | ({} if later is None else {"k3s.env": later})
    look = lambda: independent.environment_file(node.text("default/k3s"))  # noqa: E731
    done = settle(node, service_environment, files, room, look=look, overridden=True, unit="k3s", environment=wanted)
    if done and not done[0].get("failed"):
        check_variables(wanted, done[1], done[2])


@fuzz(
    800,
    unit=st.sampled_from(["x", "k3s.service"]),
    drop_in=st.none() | broken(*seeds.DROP_INS),
    wanted=wrecked(*seeds.ENVIRONMENTS),
    room=ROOM,
)
def test_wanted_variables(node: Node, unit: str, drop_in: str | None, wanted: Any, room: int | None) -> None:
    path = "units/x.service.d/zz-kubekeel.conf"
    files = {"k3s.service": seeds.UNITS["server"], "default/k3s": seeds.VARIABLES[1]} | ({} if drop_in is None else {path: drop_in})

    def look() -> dict[str, str] | None:
        return independent.drop_in(node.text(path)) if unit == "x" else independent.environment_file(node.text("default/k3s"))

    done = settle(node, service_environment, files, room, look=look, overridden=True, unit=unit, environment=wanted)
    if done and not done[0].get("failed") and isinstance(wanted, dict):
        assert not any(isinstance(value, (dict, list)) for value in wanted.values())
        assert all(done[2].get(name) == value for name, value in as_variables(wanted).items())


# -- The kubelet's file ------------------------------------------------------------------------------------------------

FIELDS: tuple[dict[str, Any], ...] = (
    {"nodeLeaseDurationSeconds": 4},
    {"nodeLeaseDurationSeconds": None, "hairpinMode": None},
    {"maxPods": 60, "hairpinMode": "none", "failSwapOn": False},
)


def fields_of(text: str) -> dict[str, Any]:
    """The fields of a configuration file; the kubelet refuses one that has a field twice."""
    names = [key.value for key, _value in (yaml.compose(text) or SimpleNamespace(value=())).value]
    assert len(names) == len(set(names))
    found: dict[str, Any] = yaml.safe_load(text) or {}
    return found


@fuzz(
    1500,
    flags=broken(seeds.ARGS["kubelet"], seeds.ARGS["kubelet"] + "--config=@/mine.yaml\n", "--config=@/args/kubekeel-kubelet.yaml\n"),
    ours=st.none() | broken(seeds.KUBELET_FILES[0]),
    theirs=broken(*seeds.KUBELET_FILES),
    wanted=st.sampled_from(FIELDS) | wrecked(*FIELDS),
    room=ROOM,
)
def test_the_kubelet_s_file(node: Node, flags: str, ours: str | None, theirs: str, wanted: Any, room: int | None) -> None:
    files = {"args/kubelet": flags, "mine.yaml": theirs} | ({} if ours is None else {"args/kubekeel-kubelet.yaml": ours})

    def look() -> tuple[str, str]:
        return node.text("args/kubelet"), node.text("args/kubekeel-kubelet.yaml")

    done = settle(node, kubelet_configuration, files, room, look=look, settings=wanted, microk8s_args_dir="@/args")
    if not done or not done[0]["changed"]:
        return
    (flags_before, before), (flags_after, after) = done[1:]
    path = f"{node.etc}/args/kubekeel-kubelet.yaml"
    understood = independent.kubelite(flags_before)
    if understood is None:
        return
    if understood.get("config", [path])[-1] != path:
        # The kubelet reads another file, so nobody needs ours.
        assert (flags_before, after) == (flags_after, "")
        return
    check_args(flags_before, flags_after, {"config": path if after else None})
    kept = {name: value for name, value in {**kubelet_file.parse(before), **wanted}.items() if value is not None}
    assert bool(after) is bool(kept)
    assert {name: value for name, value in fields_of(after).items() if name in kept} == kept


@fuzz(
    800,
    files=k3s_files(**{"kubekeel-kubelet.yaml": broken(seeds.KUBELET_FILES[0])}),
    later=broken(*seeds.KUBELET_FILES),
    wanted=st.sampled_from(FIELDS),
    room=ROOM,
)
def test_the_kubelet_s_file_of_k3s(node: Node, files: dict[str, str], later: str, wanted: dict[str, Any], room: int | None) -> None:
    folder = "data/agent/etc/kubelet.conf.d/"
    files = {**files, folder + "00-k3s-defaults.conf": "nodeLeaseDurationSeconds: 40\n", folder + "50-mine.conf": later}
    files["config.yaml"] = "data-dir: @/data\n" + files["config.yaml"]
    look = lambda: node.text("kubekeel-kubelet.yaml")  # noqa: E731
    done = settle(node, kubelet_configuration, files, room, look=look, settings=wanted, distribution="k3s")
    if done and done[0]["changed"] and done[2]:
        assert fields_of(done[2]).items() >= {name: value for name, value in wanted.items() if value is not None}.items()


# -- Sysctls and kernel modules ----------------------------------------------------------------------------------------

KERNEL = {"net/ipv4/tcp_retries2": "15\n", "net/ipv4/tcp_keepalive_time": "7200\n", "net/ipv4/ip_local_port_range": "32768\t60999\n"}
PROFILES: tuple[dict[str, Any], ...] = (
    {"net.ipv4.tcp_retries2": 8, "net.ipv4.tcp_keepalive_time": "600"},
    {"net/ipv4/tcp_retries2": "8", "net.ipv4.ip_local_port_range": "1024 2048"},
    {"net/ipv4/../../../node/sysctl.d/10-user.conf": 1},
    {},
)


@fuzz(
    1200,
    wanted=st.sampled_from(PROFILES) | wrecked(*PROFILES),
    ours=st.none() | broken(sysctl_files.render({"net.ipv4.tcp_retries2": "8"})),
    user=broken(seeds.SYSCTLS),
    room=ROOM,
)
def test_sysctls(node: Node, wanted: Any, ours: str | None, user: str, room: int | None) -> None:
    files = {"sysctl.d/10-user.conf": user, "lib/99-zzz.conf": user} | ({} if ours is None else {"sysctl.d/99-zz-kubekeel.conf": ours})

    def look() -> dict[str, str]:
        return {name: " ".join((node.proc / name).read_text().split()) for name in KERNEL}

    done = settle(node, sysctl_profile, files, room, KERNEL, look, settings=wanted, path="@/sysctl.d/99-zz-kubekeel.conf")
    if done and isinstance(wanted, dict):
        values = {name.replace(".", "/"): " ".join(str(value).split()) for name, value in wanted.items()}
        assert done[2] == {**done[1], **values}


MODULES: tuple[list[Any], ...] = (["ip_vs", "ip_vs_rr", "nf-conntrack"], ["ip_vs"], ["-r", "ip_vs"], ["--version"])


@fuzz(500, modules=st.sampled_from(MODULES) | wrecked(*MODULES), ours=st.none() | broken("# Written by kubekeel.\nip_vs\n"), room=ROOM)
def test_modules_of_the_kernel(node: Node, modules: Any, ours: str | None, room: int | None) -> None:
    node.fill({"modules-load.d/other.conf": "x\n"} | ({} if ours is None else {"modules-load.d/kubekeel.conf": ours}))
    before = node.files()
    arguments = {"modules": modules, "path": "@/modules-load.d/kubekeel.conf"}
    node.run(kernel_modules, check=True, **arguments)
    assert node.files() == before
    made = node.run(kernel_modules, run_id="r1", **arguments) if room is None else node.run_with_room(room, kernel_modules, **arguments)
    after = node.files()
    if made.get("failed") and after == before:
        return
    lines = after["modules-load.d/kubekeel.conf"].decode().split("\n")[1:-1]
    assert all(re.fullmatch(r"\w[\w-]*", line, re.ASCII) for line in lines)
    assert not isinstance(modules, list) or len(lines) == len(modules)
    node.run(kernel_modules, run_id="r1", **arguments)
    assert node.files() == after


# -- Load balancer and registration ------------------------------------------------------------------------------------

SERVERS: tuple[Any, ...] = (["10.89.0.11:6443", "10.89.0.12:6443"], ["[fd00::1]:6443"], [], None)


@fuzz(
    1200, api=broken(*seeds.STATES), etcd=broken(*seeds.STATES), endpoints=st.sampled_from(SERVERS) | wrecked(*SERVERS), force=st.booleans()
)
def test_states_of_the_load_balancer(node: Node, api: str, etcd: str, endpoints: Any, force: bool) -> None:
    names = ("agent/etc/k3s-agent-load-balancer.json", "server/etc/k3s-etcd-server-load-balancer.json")
    files = {"k3s-agent.service": seeds.UNITS["agent"], "config.yaml": seeds.AGENT_CONFIG}
    node.fill({**files, **{f"data/{name}": text for name, text in zip(names, (api, etcd), strict=True)}})
    before = node.files()
    arguments = {"data_dir": "@/data", "endpoints": endpoints, "force": force}
    checked = node.run(k3s_lb_state, **arguments)
    cleared = node.run(k3s_lb_state, check=True, state="cleared", **arguments)
    assert node.files() == before
    if checked.get("failed"):
        assert cleared["failed"]
        return
    for file, text in zip(checked["files"], (api, "", etcd), strict=True):
        remembered = independent.balancer(text, file["server_url"] or "")
        assert sorted({one["address"] for one in file["addresses"]}) == remembered
        assert (file["verdict"] == lb_state.ABSENT) is (file["path"].endswith("api-server-agent-load-balancer.json"))
        assert file["to"] != lb_state.ETCD or file["left"] is not None
    assert checked["due"] is any(file["left"] is None for file in checked["files"])


ADDRESS = broken(*seeds.ADDRESSES).map(lambda text: text.encode("utf-8", "ignore").decode())


@fuzz(900, address=st.none() | ADDRESS, files=k3s_files("agent"), room=ROOM)
def test_registration(node: Node, address: str | None, files: dict[str, str], room: int | None) -> None:
    arguments = {"address": address, "nodes": ["node-a", "10.89.0.11"]}
    done = settle(node, k3s_registration, files, room, look=lambda: independent.k3s(node.etc / "config.yaml"), **arguments)
    if done and done[0]["changed"] and not independent.is_finicky(*files.values()):
        servers, others = zip(*(([one for one in found if one.startswith("--server=")], found) for found in done[1:]), strict=True)
        assert servers[1] == ["--server=" + registration.normalize(address or "", registration.PORT)]
        assert Counter(others[1]) - Counter(servers[1]) == Counter(others[0]) - Counter(servers[0])


# -- The record of a run -----------------------------------------------------------------------------------------------

RECORD: dict[str, Any] = {
    "run_id": "r1",
    "units": ["snap.microk8s.daemon-kubelite"],
    "entries": [
        {"kind": "file", "path": "@/args/kubelet", "kept": "0-kubelet"},
        {"kind": "sysctl", "name": "net.ipv4.tcp_retries2", "value": "15"},
    ],
    "adopted": ["r0"],
}


@fuzz(700, record=broken(json.dumps(RECORD, indent=2)) | wrecked(RECORD).map(json.dumps), kept=broken(seeds.ARGS["kubelet"]))
def test_records(node: Node, record: str, kept: str) -> None:
    node.fill({"args/kubelet": "--a=1\n"}, KERNEL)
    folder = node.folder / "runs/r1"
    folder.mkdir(parents=True)
    (folder / "record.json").write_bytes(node.named(record).encode("utf-8", "surrogateescape"))
    (folder / "0-kubelet").write_bytes(kept.encode("utf-8", "surrogateescape"))
    node.run(restore, check=True, run_id="r1")
    node.run(restore, run_id="r1")
    assert node.text("args/kubelet") in ("--a=1\n", kept, "")
