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
    run_record,
    sysctl_files,
)
from ansible_collections.kubekeel.ha.plugins.modules import (
    cluster_health,
    cluster_lock,
    component_args,
    k3s_lb_state,
    k3s_registration,
    kernel_modules,
    kubelet_configuration,
    node_info,
    restore,
    run_info,
    service_environment,
    sysctl_profile,
)
from ansible_collections.kubekeel.ha.plugins.modules import run_record as run_record_module
from hypothesis import strategies as st

from ..unit.test_kubelite_args import ENVIRONMENT
from . import independent, seeds
from .inputs import broken, fuzz, is_countable, wrecked
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
            found = new.pop(name, [])
            assert (not found) if expected is None else len(found) == 1 and go_duration.same_value(found[0], expected)
            old.pop(name, None)
        assert new == old
    # Also in a file that does not work somebody's line stays as it is.
    names = [name for flag in wanted for name in (flag, flag.replace("-", "_"))]
    plain = re.compile(r"#|--[a-z-]+=[\w./,-]+$", re.ASCII)
    kept = [line for line in before.split("\n") if plain.match(line) and not any(name in line for name in names)]
    remaining = (line.rstrip("\r") for line in after.split("\n"))
    assert all(line.rstrip("\r") in remaining for line in kept)


@fuzz(1200, wish=st.sampled_from(WISHES), data=st.data(), room=ROOM)
def test_argument_files(node: Node, wish: Wish, data: st.DataObject, room: int | None) -> None:
    component, flags = wish
    name = "args/" + component
    arguments: dict[str, Any] = {"components": {component: flags}, "microk8s_args_dir": "@/args"}
    files = {name: data.draw(broken(seeds.ARGS[component]))}
    done = settle(node, component_args, files, room, look=lambda: node.text(name), **arguments)
    if done:
        check_args(done[1], done[2], flags)
    else:
        refusal_names_a_file(node, component_args, **arguments)


@fuzz(500, components=wrecked(*(dict([wish]) for wish in WISHES)))
def test_wanted_flags(node: Node, components: Any) -> None:
    files = {"args/" + component: text for component, text in seeds.ARGS.items()}

    def look() -> dict[str, str]:
        return {component: node.text("args/" + component) for component in seeds.ARGS}

    done = settle(node, component_args, files, look=look, components=components, microk8s_args_dir="@/args")
    if done and isinstance(components, dict):
        for component, flags in components.items():
            check_args(done[1][component], done[2][component], flags)


# -- Configuration of K3s ----------------------------------------------------------------------------------------------

K3S_WISHES: tuple[Wish, ...] = (
    ("kube-scheduler", {"leader-elect-lease-duration": "15s", "leader-elect-retry-period": "2s"}),
    ("kubelet", {"node-status-update-frequency": "5s", "max-pods": None}),
    ("kube-controller-manager", {"node-monitor-grace-period": "20s", "leader-elect-lease-duration": None}),
    ("etcd", {"heartbeat-interval": 100, "election-timeout": None}),
)


@st.composite
def k3s_files(draw: st.DrawFn, /, role: str = "server", more: Mapping[str, st.SearchStrategy[str]] = {}) -> dict[str, str]:
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


@fuzz(1200, role=st.sampled_from(["server", "server", "agent"]), wish=st.sampled_from(K3S_WISHES), room=ROOM, data=st.data())
def test_configurations_of_k3s(node: Node, role: str, wish: Wish, room: int | None, data: st.DataObject) -> None:
    component, flags = wish
    arguments: dict[str, Any] = {"components": {component: flags}, "distribution": "k3s"}
    files = data.draw(k3s_files(role))
    done = settle(node, component_args, files, room, look=lambda: independent.k3s(node.etc / "config.yaml"), **arguments)
    if done and (done[1] is not None or not independent.is_finicky(*files.values())):
        check_k3s(component, flags, done[1], done[2], done[0]["absent"])
    elif not done:
        refusal_names_a_file(node, component_args, **arguments)


@fuzz(500, components=wrecked(*(dict([wish]) for wish in K3S_WISHES)))
def test_wanted_flags_of_k3s(node: Node, components: Any) -> None:
    files = {"k3s.service": seeds.UNITS["server"], "config.yaml": seeds.MINE, "config.yaml.d/zz-kubekeel.yaml": seeds.OURS[0]}
    look = lambda: independent.k3s(node.etc / "config.yaml")  # noqa: E731
    done = settle(node, component_args, files, look=look, components=components, distribution="k3s")
    if done and isinstance(components, dict) and len(components) == 1:
        ((component, flags),) = components.items()
        check_k3s(component, flags, done[1], done[2], done[0]["absent"])


@fuzz(
    600, unit=broken(*seeds.UNIT_TEXTS), variables=broken(*seeds.VARIABLES), config=st.sampled_from(seeds.CONFIGS) | broken(*seeds.CONFIGS)
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
    1200, text=broken(*seeds.VARIABLES), wanted=st.sampled_from(seeds.ENVIRONMENTS), later=st.none() | broken(*seeds.VARIABLES), room=ROOM
)
def test_environment_files(node: Node, text: str, wanted: dict[str, Any], later: str | None, room: int | None) -> None:
    files = {"default/k3s": text, "k3s.service": seeds.UNITS["server"]} | ({} if later is None else {"k3s.env": later})
    look = lambda: independent.environment_file(node.text("default/k3s"))  # noqa: E731
    done = settle(node, service_environment, files, room, look=look, overridden=True, unit="k3s", environment=wanted)
    if done and not done[0].get("failed"):
        check_variables(wanted, done[1], done[2])


@fuzz(
    600,
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
    found: dict[str, Any] = yaml.load(text, Loader=Numbers) or {}  # noqa: S506
    return found


class Numbers(yaml.SafeLoader):
    """Go's reader takes 1e+300 for a number, too."""


Numbers.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+e[-+]?[0-9]+$"), list("-+0123456789"))


@fuzz(
    1000,
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
    600,
    files=k3s_files(more={"kubekeel-kubelet.yaml": broken(seeds.KUBELET_FILES[0])}),
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
    # What it sets to another value is refused, and then nothing else is seen.
    later=st.just("") | broken(seeds.SYSCTLS),
    room=ROOM,
)
def test_sysctls(node: Node, wanted: Any, ours: str | None, user: str, later: str, room: int | None) -> None:
    files = {"sysctl.d/10-user.conf": user, "lib/99-zzz.conf": later} | ({} if ours is None else {"sysctl.d/99-zz-kubekeel.conf": ours})

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
    800, api=broken(*seeds.STATES), etcd=broken(*seeds.STATES), endpoints=st.sampled_from(SERVERS) | wrecked(*SERVERS), force=st.booleans()
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
        remembered = independent.balancer(node.named(text), file["server_url"] or "")
        assert sorted({one["address"] for one in file["addresses"]}) == remembered
        assert (file["verdict"] == lb_state.ABSENT) is (file["path"].endswith("api-server-agent-load-balancer.json"))
        assert file["to"] != lb_state.ETCD or file["left"] is not None
    assert checked["due"] is any(file["left"] is None for file in checked["files"])


ADDRESS = broken(*seeds.ADDRESSES).map(lambda text: text.encode("utf-8", "ignore").decode())


@fuzz(900, address=st.none() | ADDRESS, files=k3s_files("agent"), room=ROOM)
def test_registration(node: Node, address: str | None, files: dict[str, str], room: int | None) -> None:
    arguments: dict[str, Any] = {"address": address, "nodes": ["node-a", "10.89.0.11"]}
    done = settle(node, k3s_registration, files, room, look=lambda: independent.k3s(node.etc / "config.yaml"), **arguments)
    if done and done[0]["changed"] and not independent.is_finicky(*files.values()):
        servers, others = zip(*(([one for one in found if one.startswith("--server=")], found) for found in done[1:]), strict=True)
        assert servers[1] == ["--server=" + registration.normalize(address or "", registration.PORT)]
        assert Counter(others[1]) - Counter(servers[1]) == Counter(others[0]) - Counter(servers[0])


# -- The record of a run -----------------------------------------------------------------------------------------------

KEPT, MADE = "--a=0\n", "--a=1\n"
RECORD: dict[str, Any] = {
    "run_id": "r1",
    "state": "begun",
    "about": {"operator": "me@here", "began": "2026-11-21T03:00:00Z"},
    "units": ["snap.microk8s.daemon-kubelite"],
    "entries": [
        {
            "kind": "file",
            "name": "@/args/kubelet",
            "kept": "0-kubelet",
            "mode": 0o644,
            "before": run_record.checksum(KEPT),
            "after": [run_record.checksum(MADE)],
        },
        {"kind": "folder", "name": "@/made"},
        {"kind": "file", "name": "@/made/new", "kept": None, "mode": None, "before": None, "after": [run_record.checksum("x\n")]},
        {"kind": "sysctl", "name": "net.ipv4.tcp_retries2", "before": "15", "after": ["8"]},
    ],
    "adopted": ["r0"],
}


@fuzz(
    1000,
    record=broken(json.dumps(RECORD, indent=2)) | wrecked(RECORD).map(json.dumps),
    kept=st.just(KEPT) | st.just(KEPT) | broken(KEPT),
    force=st.booleans(),
)
def test_records(node: Node, record: str, kept: str, force: bool) -> None:
    """What comes back is what was there, all of it or nothing."""
    node.fill({"args/kubelet": MADE, "made/new": "x\n"}, {**KERNEL, "net/ipv4/tcp_retries2": "8\n"})
    folder = node.folder / "runs/r1"
    folder.mkdir(parents=True)
    (folder / "record.json").write_bytes(node.named(record).encode("utf-8", "surrogateescape"))
    (folder / "0-kubelet").write_bytes(kept.encode("utf-8", "surrogateescape"))
    before = node.files()
    told = node.run(run_info)
    node.run(restore, check=True, run_id="r1", force=force)
    assert node.files() == before
    made = node.run(restore, run_id="r1", force=force)
    assert [path.name for path in folder.parent.iterdir()] == ["r1"]
    value = (node.proc / "net/ipv4/tcp_retries2").read_text()
    if made.get("failed") and "cannot be" not in made["msg"] and "the kernel refuses" not in made["msg"]:
        assert (node.files(), value) == (before, "8\n")
    if not made.get("failed") and not force:
        assert not told["runs"][0]["edited"] or told["runs"][0]["state"] == run_record.RESTORED
    assert node.text("args/kubelet") in (MADE, KEPT) or says_missing(record, "@/args/kubelet")
    if json.loads(record if is_json(record) else "{}") == RECORD:
        assert made.get("failed", False) is (kept != KEPT)
        assert kept != KEPT or (node.files(), value) == ({"args/kubelet": KEPT.encode()}, "15\n")
    node.run(run_record_module, run_id="r1", state="done")
    node.run(run_record_module, run_id="r2", keep=1)
    node.run(node_info, distribution="microk8s")


def is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (RecursionError, ValueError):
        return False
    return True


def says_missing(record: str, name: str) -> bool:
    """Whether a record says that there was no such file before."""
    entries = json.loads(record)["entries"]
    return any(entry["name"] == name and entry.get("before") is None for entry in entries)


STEPS = st.one_of(
    st.tuples(st.just("run"), st.sampled_from(["r1", "r2", "r3"]), st.sampled_from(["15s", "20s", None])),
    st.tuples(st.just("run"), st.sampled_from(["r1", "r2", "r3"]), st.sampled_from(["15s", "20s", None])),
    st.tuples(st.sampled_from(["restore", "restore", "force"]), st.sampled_from(["r1", "r2", "r3"]), st.none()),
    st.tuples(st.just("edit"), st.none(), broken(seeds.ARGS["kube-scheduler"])),
    st.tuples(st.just("restart"), st.none(), st.none()),
)


@fuzz(700, steps=st.lists(STEPS, min_size=2, max_size=7))
def test_runs_and_edits_of_others(node: Node, steps: list[tuple[str, str, str | None]]) -> None:
    """A run takes back its own changes alone, and nobody's edit is lost unless it may be."""
    name = "args/kube-scheduler"
    node.fill({name: seeds.ARGS["kube-scheduler"]})
    found: dict[str, str] = {}
    mine: dict[str, set[str]] = {}
    over: set[str] = set()
    for what, run_id, text in steps:
        before = node.text(name)
        if what == "edit":
            (node.etc / name).write_bytes((text or "").encode("utf-8", "surrogateescape"))
        elif what == "restart":
            node.restart()
        elif what == "run" and run_id not in over:
            wish = {"kube-scheduler": {"leader-elect-lease-duration": text}}
            if node.run(component_args, components=wish, microk8s_args_dir="@/args", run_id=run_id).get("changed"):
                found.setdefault(run_id, before)
                mine.setdefault(run_id, {before}).add(node.text(name))
        elif what != "run":
            done = node.run(restore, run_id=run_id, force=what == "force")
            record = run_record.RunRecord(run_id)
            if run_id in over or run_id not in found:
                # Without a change of its own a run may have put another one into force.
                assert node.text(name) in (before, *(found[each] for each in record.adopted if each in found))
            elif what == "force" or before in mine[run_id]:
                assert not done.get("failed")
                assert node.text(name) in (found[run_id], *(found[each] for each in record.adopted if each in found))
                assert record.adopted or node.text(name) == found[run_id]
            else:
                assert done["failed"]
                assert node.text(name) == before
            if not done.get("failed"):
                over |= {run_id, *record.adopted}


# -- Options -----------------------------------------------------------------------------------------------------------

OPTIONS: tuple[tuple[Any, dict[str, Any]], ...] = (
    (run_record_module, {"run_id": "r1", "about": {"operator": "me", "release": "v1"}, "state": "begun", "keep": 3}),
    (run_info, {"run_id": "r1"}),
    (restore, {"run_id": "r1", "force": False}),
    (cluster_lock, {"state": "released", "run_id": "r1", "holder": "r2", "purpose": "x", "operator": "y", "api_servers": ["10.89.0.12"]}),
    (
        cluster_health,
        {
            "expected_servers": ["node-a"],
            "expected_agents": [],
            "ignore_nodes": ["node-b"],
            "losing": ["node-c"],
            "renewed_after": {"node-a": 1795230000.0},
            "lost_lock": "warning",
        },
    ),
    (k3s_registration, {"address": "lb.lab", "nodes": ["node-a"]}),
    (service_environment, {"unit": "x", "environment": {"A": "1"}}),
)


@fuzz(1200, which=st.integers(0, len(OPTIONS) - 1), data=st.data())
def test_options(node: Node, which: int, data: st.DataObject) -> None:
    """What an option cannot be has a sentence; C(node.run) sees to it."""
    module, options = OPTIONS[which]
    wanted = data.draw(wrecked(options))
    node.fill({"k3s.service": seeds.UNITS["server"], "config.yaml": seeds.CONFIGS[0]})
    if isinstance(wanted, dict):
        node.run(module, **{name: value for name, value in wanted.items() if is_countable(value)})
