"""The verification: what is wanted, what is found wrong, and what becomes of it; see kubekeel/verify."""

import configparser
import copy
import functools
import json
import os
import pathlib
import socket
import subprocess
import sys
import threading
import types
from collections.abc import Callable
from typing import Any

import jsonschema
import pytest
import yaml

from kubekeel import verify
from kubekeel.errors import KubekeelError
from kubekeel.verify import checks, collector, facts, wanted
from kubekeel.verify.checks import Node

ROOT = pathlib.Path(__file__).parents[2]
NOW = 1_790_000_000.0
FRESH, OLD = "2026-09-21T14:13:18.000000Z", "2026-09-21T14:10:00.000000Z"
PROFILE = {name: yaml.safe_load((ROOT / f"profiles/{name}.yml").read_text())["values"] for name in ("balanced", "fast")}
DROP_IN = "/etc/rancher/k3s/config.yaml.d/zz-kubekeel.yaml"


@functools.cache
def _wanted(inventory: str, variables: str = "{}") -> dict[str, wanted.Wanted]:
    return wanted.read(inventory, variables=[variables])


def example(distribution: str, **variables: object) -> dict[str, wanted.Wanted]:
    """What is wanted of the nodes of an example inventory."""
    return _wanted(str(ROOT / "inventories" / distribution), json.dumps(variables))


def write(folder: pathlib.Path, document: dict[str, Any]) -> str:
    path = folder / "hosts.yml"
    path.write_text(yaml.safe_dump({"all": document}))
    return str(path)


def words(component: str, values: dict[str, str | None]) -> list[str]:
    return [
        "--profiling=false",
        *(f"--{name}={value}" for name, value in values.items() if value is not None),
        f"--kubeconfig=/{component}",
    ]


def lease(duration: int, renewed: str = FRESH, holder: str = "node-a_4711") -> dict[str, Any]:
    return {"leaseDurationSeconds": duration, "renewTime": renewed, "holderIdentity": holder}


def node(distribution: str, name: str = "node-a", **variables: object) -> Node:
    """A node with everything as it should be."""
    asked = example(distribution, **{"kube_proxy_mode": "iptables", **variables})[name]
    values = asked[distribution]
    components = {component: {"words": words(component, flags)} for component, flags in values["flags"].items()}
    api = {
        "now": NOW,
        "nodes": {
            one: {"conditions": {"Ready": "True", "EtcdIsVoter": "True"}, "has_etcd": one != "node-d", "release": "v1.32.3"}
            for one in ("node-a", "node-b", "node-c", "node-d")
        },
        "leases": {one: lease(values["node_lease"], holder=one) for one in ("node-a", "node-b", "node-c", "node-d")},
        "leaders": {one: lease(15) for one in checks.LEADERS},
    }
    found = {
        "distribution": distribution,
        "unit": "k3s" if distribution == "k3s" else "snap.microk8s.daemon-kubelite",
        "host_name": name.upper(),
        "now": NOW,
        "state": {"ActiveState": "active", "SubState": "running", "NRestarts": "0"},
        "started": 5_000_000,
        "started_at": NOW - 600,
        "components": components,
        "log_problem": "",
        "environment": dict(values["environment"]),
        # As the kernel prints it.
        "sysctls": {one: value + "\n" for one, value in values["sysctls"].items()},
        "boot": {"/etc/sysctl.d/99-zz-kubekeel.conf": "".join(f"{one} = {value}\n" for one, value in values["sysctls"].items())},
        "proxy_mode": "iptables",
        "files": {DROP_IN: {"owner": 0, "group": 0, "mode": 0o600}, "/etc/default/k3s": None},
        "leftovers": [],
        "runs": [
            {
                "run": "20260921T140000Z",
                "readable": True,
                "state": "done",
                "began": "2026-09-21T14:00:00Z",
                "files": {DROP_IN: None},
                "places": {"/var/lib/kubekeel/runs/20260921T140000Z": {"owner": 0, "group": 0, "mode": 0o700}},
            }
        ],
        "mark": {"moment": 4_000_000, "runs": ["20260921T140000Z"]},
        "api": api if name != "node-d" else None,
    }
    return Node(name, values, found, api)


def look(name: str, one: Node) -> list[str]:
    return next(check for check in checks.ALL if check.name == name).look(one)


def all_wrong(one: Node) -> dict[str, list[str]]:
    """What is wrong, by check; those that do not apply left out."""
    found = {}
    for check in checks.ALL:
        try:
            found[check.name] = check.look(one)
        except checks.DoesNotApplyError:
            continue
    return {name: wrong for name, wrong in found.items() if wrong}


@pytest.mark.parametrize(("distribution", "name"), [("k3s", "node-a"), ("k3s", "node-d"), ("microk8s", "node-a")])
def test_a_remediated_node_passes(distribution: str, name: str) -> None:
    assert all_wrong(node(distribution, name)) == {}


Change = Callable[[dict[str, Any]], object]
BROKEN: dict[str, tuple[str, Change, str]] = {
    "a dead unit": ("unit", lambda f: f["state"].update(ActiveState="failed", SubState="failed"), "k3s is failed (failed)"),
    "one that died": ("unit", lambda f: f["state"].update(NRestarts="3"), "k3s died 3 times since it was started"),
    "a flag that is not there": (
        "flags",
        lambda f: f["components"].update({"kubelet": {"words": ["--v=2"]}}),
        "kubelet runs without --node-status-update-frequency; wanted is 5s",
    ),
    "another value": (
        "flags",
        lambda f: f["components"]["kube-proxy"].update(words=["--proxy-mode", "ipvs"]),
        "kube-proxy runs with --proxy-mode=ipvs; wanted is iptables",
    ),
    "a flag that is to be gone": (
        "flags",
        lambda f: f["components"]["kube-proxy"]["words"].append("--ipvs-scheduler=rr"),
        "kube-proxy runs with --ipvs-scheduler=rr, which is to be gone",
    ),
    "a flag that comes twice": (
        "flags",
        lambda f: f["components"]["kube-scheduler"]["words"].insert(0, "--leader_elect_retry_period=2s"),
        "kube-scheduler was given --leader-elect-retry-period 2 times",
    ),
    "a variable of old": (
        "environment",
        lambda f: f["environment"].update(HTTP2_PING_TIMEOUT_SECONDS="15"),
        "k3s runs with HTTP2_PING_TIMEOUT_SECONDS=15; wanted is HTTP2_PING_TIMEOUT_SECONDS=4",
    ),
    "no variable": (
        "environment",
        lambda f: f["environment"].update(HTTP2_PING_TIMEOUT_SECONDS=None),
        "k3s runs with no HTTP2_PING_TIMEOUT_SECONDS; wanted is HTTP2_PING_TIMEOUT_SECONDS=4",
    ),
    "a sysctl now": (
        "sysctls",
        lambda f: f["sysctls"].update({"net.ipv4.tcp_retries2": "15\n"}),
        "net.ipv4.tcp_retries2 is 15; wanted is 8",
    ),
    "a sysctl at the next boot": (
        "sysctls_at_boot",
        lambda f: f["boot"].update({"/etc/sysctl.d/99-zzz-mine.conf": "net.ipv4.tcp_retries2=15"}),
        "/etc/sysctl.d/99-zzz-mine.conf sets net.ipv4.tcp_retries2 to 15 at the next boot; wanted is 8",
    ),
    "a file for everybody": (
        "files",
        lambda f: f["files"][DROP_IN].update(mode=0o644),
        f"{DROP_IN} has the mode 0644; wanted is 0600",
    ),
    "somebody else's file": (
        "files",
        lambda f: f["files"][DROP_IN].update(owner=1000),
        f"{DROP_IN} belongs to the user with the id 1000, not to root",
    ),
    "a record for everybody": (
        "records",
        lambda f: f["runs"][0]["places"].update({"/r/record.json": {"owner": 0, "group": 0, "mode": 0o644}}),
        "/r/record.json is not for root alone (mode 0644)",
    ),
    "half a file": ("complete", lambda f: f["leftovers"].append("/x/.y.kubekeel"), "/x/.y.kubekeel was left half written"),
    "a run that broke off": (
        "complete",
        lambda f: f["runs"][0].update(state="begun"),
        "run 20260921T140000Z began on this node and did not come to its end",
    ),
    "a restart that is missing": (
        "complete",
        lambda f: f.update(started=3_000_000),
        "k3s was not restarted since its settings changed by run 20260921T140000Z",
    ),
    "a Lease of old": (
        "leaders",
        lambda f: f["api"]["leaders"].update({"kube-scheduler": lease(60)}),
        "the Lease of kube-scheduler lasts 60 s; wanted is 15s",
    ),
    "nobody who leads": (
        "leaders",
        lambda f: f["api"]["leaders"].update({"kube-scheduler": lease(15, holder="")}),
        "nobody leads kube-scheduler",
    ),
    "a leader that is gone": (
        "leaders",
        lambda f: f["api"]["leaders"].update({"kube-scheduler": lease(15, OLD)}),
        "the Lease of kube-scheduler has run out: node-a does not renew it",
    ),
    "a kubelet that is silent": (
        "node",
        lambda f: f["api"]["leases"].update({"node-a": lease(40, OLD)}),
        f"the kubelet of node node-a has not renewed its Lease since {OLD}",
    ),
    "a kubelet's Lease of old": (
        "node",
        lambda f: f["api"]["leases"].update({"node-a": lease(4)}),
        "the Lease of node node-a lasts 4 s; wanted is 40 s",
    ),
    "another name": ("node", lambda f: f.update(host_name="gone"), "the cluster has no node gone"),
    "another node": ("nodes", lambda f: f["api"]["nodes"]["node-d"]["conditions"].update(Ready="False"), "node node-d is not Ready"),
    "no vote": (
        "etcd",
        lambda f: f["api"]["nodes"]["node-b"]["conditions"].update(EtcdIsVoter="False"),
        "node node-b has etcd and is no voter of it",
    ),
    "another mode": ("proxy_mode", lambda f: f.update(proxy_mode="ipvs"), "kube-proxy works with ipvs; wanted is iptables"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_wrong_is_said(case: str) -> None:
    check, change, sentence = BROKEN[case]
    one = node("k3s")
    found = dict(copy.deepcopy(one.facts))
    change(found)
    broken = Node(one.name, one.wanted, found, found["api"])
    assert all_wrong(broken) == {check: [sentence]}


def with_components(one: Node, **changes: Any) -> Node:
    return Node(one.name, one.wanted, {**one.facts, **changes}, one.view)


def test_a_node_that_may_be_down_is_not_missed() -> None:
    one = node("k3s")
    one.facts["api"]["nodes"]["node-d"]["conditions"]["Ready"] = "Unknown"
    assert look("nodes", one) == ["node node-d is not Ready"]
    assert look("nodes", Node(one.name, one.wanted, one.facts, one.view, ignored=frozenset({"node-d"}))) == []


def test_a_node_that_is_not_ready_is_missed_by_itself_and_by_the_others() -> None:
    one = node("k3s")
    one.facts["api"]["nodes"]["node-a"]["conditions"]["Ready"] = "Unknown"
    assert all_wrong(one) == {"node": ["node node-a is not Ready (Unknown)"], "nodes": ["node node-a is not Ready"]}


def test_components_that_k3s_does_not_run_are_no_fault_and_those_of_microk8s_are() -> None:
    """An etcd-only server of K3s has no API server."""
    one = node("k3s")
    without = {name: found for name, found in one.facts["components"].items() if not name.startswith("kube-")}
    assert look("flags", with_components(one, components=without)) == []
    with pytest.raises(checks.DoesNotApplyError):
        look("leaders", Node(one.name, one.wanted, {**one.facts, "api": None}, one.view))
    assert "kube-apiserver does not run" in look("flags", with_components(node("microk8s"), components={}))


def test_flags_that_the_journal_no_longer_has_are_unknown() -> None:
    with pytest.raises(checks.UnknownError, match="the flags of kubelet cannot be read: nobody logged them"):
        look("flags", with_components(node("k3s", "node-d"), components={}, log_problem="nobody logged them"))


def test_a_file_that_changed_after_kubelite_read_it_is_not_in_force() -> None:
    """MicroK8s' own kubelite runs all components in one process, so that their files have to tell."""
    one = node("microk8s")
    components = {
        name: {"text": "\n".join(found["words"]) + "\n", "path": f"/args/{name}", "written": NOW - 700}
        for name, found in one.facts["components"].items()
    }
    assert look("flags", with_components(one, components=components)) == []
    components["kubelet"]["written"] = NOW - 1
    unit = "snap.microk8s.daemon-kubelite"
    assert look("flags", with_components(one, components=components)) == [
        f"/args/kubelet was changed after {unit} started, which runs with what was there before"
    ]


def test_what_was_there_before_a_run_keeps_its_mode() -> None:
    one = node("microk8s")
    path = "/var/snap/microk8s/current/args/kubelet"
    runs = [{**one.facts["runs"][0], "files": {path: 0o660}}]
    assert look("files", with_components(one, runs=runs, files={path: {"owner": 0, "group": 4711, "mode": 0o660}})) == []
    assert look("files", with_components(one, runs=runs, files={path: {"owner": 0, "group": 0, "mode": 0o644}})) == [
        f"{path} has the mode 0644; wanted is 0660"
    ]


def test_an_api_server_that_does_not_answer_leaves_it_unknown() -> None:
    one = node("k3s")
    silent = {"problem": "connection refused"}
    with pytest.raises(checks.UnknownError, match="the API server does not say: connection refused"):
        look("nodes", Node(one.name, one.wanted, {**one.facts, "api": silent}, silent))


def test_durations_are_compared_as_such() -> None:
    one = node("k3s", node_lifecycle_monitor_grace_period="60s")
    flags = one.facts["components"]["kube-controller-manager"]["words"]
    assert "--node-monitor-grace-period=60s" in flags
    flags[flags.index("--node-monitor-grace-period=60s")] = "--node-monitor-grace-period=1m0s"
    assert look("flags", one) == []


@pytest.mark.parametrize("profile", ["balanced", "fast"])
@pytest.mark.parametrize("distribution", ["k3s", "microk8s"])
def test_wanted_is_what_the_roles_make_of_a_profile(distribution: str, profile: str) -> None:
    variables: dict[str, object] = {} if profile == "balanced" else {"kubekeel_profile": profile}
    found = example(distribution, **variables)
    values = PROFILE[profile]
    server = found["node-a"][distribution]
    assert found["node-a"]["kind"] == "server"
    assert server["flags"]["kube-scheduler"]["leader-elect-lease-duration"] == values["leader_election_lease_duration"]
    assert server["flags"]["kube-controller-manager"]["node-monitor-grace-period"] == values["node_lifecycle_monitor_grace_period"]
    assert server["flags"]["kube-proxy"] == {"proxy-mode": "ipvs", "ipvs-scheduler": "rr"}
    assert ("etcd" in server["flags"]) is (distribution == "k3s")
    assert server["environment"]["HTTP2_PING_TIMEOUT_SECONDS"] == str(values["node_lifecycle_http2_ping_timeout"])
    assert server["sysctls"]["net.ipv4.tcp_retries2"] == str(values["tcp_timeouts_retries2"])
    assert server["node_lease"] == values["node_lifecycle_node_lease_duration"]


def test_of_an_agent_less_is_wanted() -> None:
    found = example("k3s")["node-d"]
    assert found["kind"] == "agent"
    assert set(found["k3s"]["flags"]) == {"kubelet", "kube-proxy"}


def test_the_inventory_counts_more_than_the_profile_and_a_host_more_than_its_group(tmp_path: pathlib.Path) -> None:
    inventory = write(
        tmp_path,
        {
            "vars": {
                "kubekeel_distribution": "k3s",
                "kube_proxy_mode": "iptables",
                "leader_election_retry_period": "{{ lookup('ansible.builtin.env', 'NOT_THERE') | default('3s', true) }}",
                "extra_args_components": {"kubelet": {"v": 2, "fail-swap-on": False, "max-pods": None}},
            },
            "children": {
                "servers": {"hosts": {"one": {}, "two": {"kube_proxy_mode": "nftables", "kubekeel_profile": "fast"}}},
                "others": {"hosts": {"three": {}}},
            },
        },
    )
    found = wanted.read(inventory)
    assert set(found) == {"one", "two"}
    one, two = found["one"]["k3s"], found["two"]["k3s"]
    assert one["flags"]["kube-proxy"] == {"proxy-mode": "iptables", "ipvs-scheduler": None}
    assert two["flags"]["kube-proxy"]["proxy-mode"] == "nftables"
    assert one["flags"]["kube-scheduler"]["leader-elect-retry-period"] == "3s"
    assert (one["node_lease"], two["node_lease"]) == (40, 4)
    assert {"v": "2", "fail-swap-on": "false", "max-pods": None}.items() <= one["flags"]["kubelet"].items()
    assert set(wanted.read(inventory, limit="all,!one")) == {"two"}
    assert wanted.read(inventory, variables=["kube_proxy_mode=ipvs"])["two"]["k3s"]["flags"]["kube-proxy"]["proxy-mode"] == "ipvs"


def test_variables_that_cannot_be_resolved_are_said_of_their_node_alone(tmp_path: pathlib.Path) -> None:
    vaulted = "!vault |\n            $ANSIBLE_VAULT;1.1;AES256\n            3830623731\n"
    path = tmp_path / "hosts.yml"
    path.write_text(
        "all:\n  vars: {kubekeel_distribution: k3s}\n  children:\n    servers:\n      hosts:\n        well: {}\n"
        "        undefined: {kube_proxy_mode: '{{ nobody_says }}'}\n        unknown: {kubekeel_profile: swift}\n"
        f"        vaulted:\n          tcp_timeouts_retries2: {vaulted}"
    )
    found = wanted.read(str(path))
    assert "problem" not in found["well"]
    assert "'nobody_says' is undefined" in found["undefined"]["problem"]
    assert "there is no profile 'swift'; there are balanced, conservative, fast" in found["unknown"]["problem"]
    assert "vault" in found["vaulted"]["problem"].lower()


def test_an_inventory_that_is_none_is_an_error(tmp_path: pathlib.Path) -> None:
    broken = tmp_path / "hosts.yml"
    broken.write_text("all: {children: {servers: [1, 2")
    with pytest.raises(KubekeelError, match=r"cannot be read: it has no node in its groups servers and agents$"):
        wanted.read(str(broken))
    done, found = verify_it(str(broken), tmp_path, [])
    assert (done.returncode, found) == (2, [])
    assert "it has no node in its groups servers and agents" in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("variables", "needed"),
    [
        ({"ansible_host": "192.0.2.1", "ansible_become": True}, False),
        ({"ansible_become_password": {"__ansible_vault": "x"}}, True),
        ({"ansible_become_method": "su"}, True),
        ({"ansible_host": "{{ address }}"}, True),
        ({"ansible_host": {"__ansible_unsafe": "192.0.2.1"}}, True),
    ],
)
def test_what_testinfra_cannot_do_ansible_does(variables: dict[str, Any], needed: bool) -> None:
    assert facts.needs_ansible(variables) is needed


def test_a_password_of_sudo_is_for_ansible(monkeypatch: pytest.MonkeyPatch) -> None:
    given = ["--forks", "5", "--become-password-file", "/run/x", "--vault-password-file=/y", "-e", "a=b", "-u"]
    found = verify.in_environment(given)
    assert found == {"ANSIBLE_BECOME_PASSWORD_FILE": "/run/x", "ANSIBLE_VAULT_PASSWORD_FILE": "/y", "ANSIBLE_REMOTE_USER": ""}
    assert verify.extra_variables(given) == ["a=b"]
    assert (verify.extra_variables([]), verify.in_environment([])) == ([], {})
    for name in ("ANSIBLE_HOST_KEY_CHECKING", "ANSIBLE_PRIVATE_KEY_FILE"):
        monkeypatch.delenv(name, raising=False)
    settings = configparser.ConfigParser()
    assert not facts.settings_need_ansible(settings)
    monkeypatch.setenv("ANSIBLE_BECOME_PASSWORD_FILE", "/run/x")
    assert facts.settings_need_ansible(settings)


def verify_it(inventory: str, folder: pathlib.Path, nodes: list[str]) -> tuple[subprocess.CompletedProcess[str], list[dict[str, Any]]]:
    """Run the suite; return how it ended and its findings, each of them valid."""
    report = folder / "report.jsonl"
    # A project with settings of its own does not matter.
    (folder / "pytest.ini").write_text("[pytest]\naddopts = --not-an-option\n")
    environment = {**os.environ, "PYTEST_ADDOPTS": "--neither-an-option", "PYTEST_PLUGINS": "no_such_plugin"}
    junit = folder / "junit.xml"
    done = subprocess.run(
        verify.command(inventory, report=report, junit_path=junit), cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    found = verify.findings(report, nodes)
    schema = json.loads((ROOT / "kubekeel/result.schema.json").read_text())
    jsonschema.validate(found, schema["properties"]["findings"])
    return done, found


def test_a_node_that_cannot_be_reached_is_unknown_once_and_soon(tmp_path: pathlib.Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        host = {"ansible_host": "127.0.0.1", "ansible_port": closed.getsockname()[1], "ansible_connection": "ssh"}
        arguments = {"ansible_ssh_common_args": "-o ConnectTimeout=2 -o BatchMode=yes"}
        hosts = {"gone": host, "ignored": {**host, "preflight_ignore_nodes": ["ignored"]}, "puzzling": {"kubekeel_profile": "swift"}}
        inventory = write(tmp_path, {"vars": arguments, "children": {"servers": {"hosts": hosts}}})
        done, found = verify_it(inventory, tmp_path, ["gone", "puzzling", "other"])
    assert done.returncode == 1, done.stdout + done.stderr
    assert {one["status"] for one in found if one["node"] == "ignored"} == {"skip"}
    found = [one for one in found if one["node"] != "ignored"]
    assert {(one["node"], one["id"], one["status"], one["severity"]) for one in found} == {
        (name, "verify.reached", "unknown", "critical") for name in ("gone", "puzzling", "other")
    }
    evidence = {one["node"]: one["evidence"] for one in found}
    assert evidence["gone"].startswith("it could not be reached: ")
    assert "Connection refused" in evidence["gone"]
    assert "there is no profile 'swift'" in evidence["puzzling"]
    assert evidence["other"] == "the verification ended before it came to this node"
    assert 'name="kubekeel_node" value="gone"' in (tmp_path / "junit.xml").read_text()


def fake(folder: pathlib.Path, answer: object) -> None:
    """Let the collector be a program that gives an answer, for a node that is this host."""
    python = folder / "python"
    python.write_text(f"#!{sys.executable}\nimport sys\nprint('a banner')\nprint({json.dumps(answer)!r})\n")
    python.chmod(0o755)


def test_findings_tell_what_is_wrong_and_where(tmp_path: pathlib.Path) -> None:
    one = node("k3s")
    fake(tmp_path, {**one.facts, "proxy_mode": "ipvs", "api": None, "state": {**one.facts["state"], "NRestarts": "2"}})
    host = {"ansible_connection": "local", "ansible_python_interpreter": str(tmp_path / "python"), "kube_proxy_mode": "iptables"}
    inventory = write(tmp_path, {"children": {"servers": {"hosts": {"node-a": host}}}})
    done, found = verify_it(inventory, tmp_path, ["node-a"])
    assert done.returncode == 1, done.stdout + done.stderr
    by_status: dict[str, dict[str, str]] = {}
    for finding in found:
        by_status.setdefault(finding["status"], {})[finding["id"]] = finding["evidence"]
        assert finding["kind"] == "verification"
    assert by_status["fail"] == {
        "verify.unit": "k3s died 2 times since it was started",
        "verify.proxy_mode": "kube-proxy works with ipvs; wanted is iptables",
    }
    assert by_status["skip"]["verify.node"] == "no server was looked at that could say it"
    assert {"verify.reached", "verify.flags", "verify.sysctls"} <= set(by_status["pass"])
    assert "unknown" not in by_status
    assert len(found) == len(checks.ALL)


def test_a_run_says_which_nodes_there_are_and_takes_variables_and_passwords(tmp_path: pathlib.Path) -> None:
    one = node("k3s")
    fake(tmp_path, one.facts)
    host = {"ansible_connection": "local", "ansible_python_interpreter": str(tmp_path / "python")}
    inventory = write(tmp_path, {"children": {"servers": {"hosts": {"node-a": host, "node-b": host}}}})
    asked = types.SimpleNamespace(limit="node-a", variables={}, options=("-e", "kube_proxy_mode=iptables"))
    ended, told, found = verify.run(pathlib.Path(inventory), asked, tmp_path)  # type: ignore[arg-type]
    assert (ended.status, ended.code) == ("successful", 0), ended.output
    assert told == {"nodes": {"node-a": {"role": "server", "info": {"distribution": "k3s", "release": "v1.32.3"}}}}
    assert {one["status"] for one in found} == {"pass"}
    cancel = threading.Event()
    cancel.set()
    ended, _told, found = verify.run(pathlib.Path(inventory), asked, tmp_path, cancel)  # type: ignore[arg-type]
    assert (ended.status, found) == ("canceled", [])


def test_a_report_that_is_cut_off_says_so_of_the_rest(tmp_path: pathlib.Path) -> None:
    report = tmp_path / "report.jsonl"
    line = json.dumps({"node": "a", "check": "unit", "status": "pass", "evidence": ""})
    report.write_text(f'{line}\n{{"node": "b", "che')
    assert [(one["node"], one["status"]) for one in verify.findings(report, ["a", "b"])] == [("a", "pass"), ("b", "unknown")]
    assert [one["status"] for one in verify.findings(tmp_path / "none", ["a"])] == ["unknown"]


def test_the_collector_says_where_it_is_and_finds_nothing_here(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    """A machine that runs neither distribution."""
    monkeypatch.setattr(collector, "MICROK8S_DATA", str(tmp_path))
    monkeypatch.setattr(collector, "show", lambda _unit: {"LoadState": "not-found"})
    found = collector.collect({"distribution": "auto", "sysctls": [], "environment": []})
    assert (found["distribution"], found["unit"]) == ("", "")


LOG = """\
time="2026-09-21T14:00:01Z" level=info msg="Starting k3s v1.32.3+k3s1 (079ffa8d)"
time="2026-09-21T14:00:04Z" level=info msg="Running kube-scheduler --kubeconfig=/a --leader-elect-lease-duration=15s --profiling=false"
time="2026-09-21T14:00:05Z" level=info msg="Running kubelet --client-ca-file=DATA/agent/client-ca.crt --node-labels=a=\\"b\\""
Running kube-proxy --proxy-mode=ipvs
"""


def test_flags_of_k3s_are_read_of_its_journal_and_of_etcd_s_file(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    (tmp_path / "server/db/etcd").mkdir(parents=True)
    (tmp_path / "server/db/etcd/config").write_text('client-transport-security:\n  cert-file: /x\nelection-timeout: 2000\nname: "a-1"\n')
    log = LOG.replace("DATA", str(tmp_path))
    monkeypatch.setattr(collector, "run", lambda *_words, **_options: (0, log, ""))
    found, problem = collector.k3s_components({"InvocationID": "1"})
    assert problem == ""
    assert found["kube-scheduler"]["words"] == ["--kubeconfig=/a", "--leader-elect-lease-duration=15s", "--profiling=false"]
    assert found["kubelet"]["words"][1] == '--node-labels=a="b"'
    assert found["kube-proxy"]["words"] == ["--proxy-mode=ipvs"]
    assert found["etcd"]["words"] == ["--election-timeout=2000", "--name=a-1"]
    monkeypatch.setattr(collector, "run", lambda *_words, **_options: (1, "", "Compiled without pattern matching support"))
    assert collector.k3s_components({"InvocationID": "1"})[1] == "Compiled without pattern matching support"
    monkeypatch.setattr(collector, "run", lambda *_words, **_options: (1, "", ""))
    assert collector.k3s_components({"InvocationID": "1"})[1] == "the journal no longer holds what K3s logged as it started"


def test_kubelite_in_one_process_leads_to_its_files(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    for name in collector.COMPONENTS:
        (tmp_path / name).write_text(f"--of={name}\n")
    main = ["/snap/microk8s/1/kubelite", f"--kubelet-args-file={tmp_path}/kubelet", f"--proxy-args-file={tmp_path}/kube-proxy"]
    monkeypatch.setattr(collector, "words_of", lambda _pid, _name: [*main, "--start-control-plane=false"])
    monkeypatch.setattr(collector, "processes", lambda _pid: {})
    found = collector.microk8s_components({"MainPID": "1"})
    assert {name: one["text"] for name, one in found.items()} == {"kubelet": "--of=kubelet\n", "kube-proxy": "--of=kube-proxy\n"}


def test_ids_of_findings_are_those_that_are_explained() -> None:
    assert set(verify.CHECKS) == {f"verify.{check.name}" for check in checks.ALL}
    assert all(check.title and check.why and check.remedy and check.source for check in verify.CHECKS.values())
