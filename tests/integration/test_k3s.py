"""Audit and remediation of real clusters laid out as K3s lays itself out: with servers that do all, and with split roles.

The tests share a cluster and build on each other, as in test_microk8s.py.
"""

import json
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
import yaml

from kubekeel import verify

from .conftest import ENVIRONMENT, ROOT, Cluster, options, standing, wait_for, without_records

CONFIG = "/etc/rancher/k3s/config.yaml"
FIXED = "https://registration:6443"
STATE = "/var/lib/rancher/k3s/agent/etc/k3s-agent-load-balancer.json"
BEFORE, AFTER = "v1.31.3+k3s1", "v1.32.3+k3s1"
"""Releases that have, and that have not, k3s#11349 and k3s#11333."""
PLAIN = ("--servers", "3", "--agents", "1")
SPLIT = ("--topology", "split")
LONG_ENOUGH = 120
"""Seconds after which a silent node is NotReady for certain: a new leader (lease 15s) begins to count its grace period (40s)."""


@pytest.fixture(scope="module", params=[(PLAIN, AFTER), (SPLIT, BEFORE)], ids=["plain", "split"])
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A cluster as the installer of K3s leaves it, where every node joined at the first one."""
    topology, release = request.param
    with standing("test-k3s", "--distribution", "k3s", *topology, LAB_K3S_RELEASE=release) as found:
        yield found


@pytest.fixture
def split(cluster: Cluster) -> Cluster:
    """The same where roles are split: three nodes with etcd, two with the control plane, an agent."""
    if not is_split(cluster):
        pytest.skip("roles are not split here")
    return cluster


@pytest.fixture
def plain(cluster: Cluster) -> Cluster:
    """The same where every server does all, for what has nothing to do with roles."""
    if is_split(cluster):
        pytest.skip("roles are split here")
    return cluster


def is_split(cluster: Cluster) -> bool:
    return not set(cluster.hosts("etcd")) & set(cluster.hosts("control_plane"))


def has_the_bugs(cluster: Cluster) -> bool:
    return BEFORE in cluster.on(cluster.servers[0], "k3s", "--version")


def test_audit_names_what_differs_and_the_single_join_server_and_changes_nothing(cluster: Cluster) -> None:
    before = cluster.state()
    run = cluster.play("audit")
    assert cluster.state() == before
    assert run.code == 0
    assert not any(run.changed.values())
    assert run.says(f"AUDIT of {len(cluster.nodes)} nodes: {len(cluster.nodes)} differ")
    assert run.says("kube-controller-manager leader-elect-lease-duration - 15s")
    assert run.says("all nodes Ready, 3 voters up, 1 server may be lost")
    first = cluster.hosts("servers")[cluster.servers[0]]["ansible_host"]
    assert run.says(f"server: https://{first}:6443 ({CONFIG}:3) names the single node {first}")
    for bug in ("#11349", "#11333"):
        assert run.says(f"{BEFORE} has k3s-io/k3s{bug}") is has_the_bugs(cluster)


@pytest.mark.parametrize(
    ("path", "text", "message", "alone"),
    [
        (f"{CONFIG}.d/50-mine.yaml", "token: 'K10leak", f"{CONFIG}.d/50-mine.yaml:1: a quote is not closed", False),
        (f"{CONFIG}.d/50-mine.YML", "kubelet-arg: [max-pods=60\n", f"{CONFIG}.d/50-mine.YML:2: a list is not closed", True),
        (
            f"{CONFIG}.d/zzz.yaml",
            "# mine\nkubelet-arg: max-pods=50\n",
            f"{CONFIG}.d/zzz.yaml:2 comes after kubekeel's drop-in and replaces it",
            True,
        ),
        (
            f"{CONFIG}.d/zzz.yaml",
            "kubelet-arg+: node-status-update-frequency=9s\n",
            f"{CONFIG}.d/zzz.yaml:1 comes after kubekeel's drop-in",
            True,
        ),
        (
            "/etc/systemd/system/k3s.service.d/mine.conf",
            "[Service]\nExecStart=\nExecStart=/usr/local/bin/k3s server \\\n  --kubelet-arg=node-status-update-frequency=9s\n",
            "mine.conf:4 comes after kubekeel's drop-in and says 9s",
            True,
        ),
    ],
    ids=["quote", "list", "plain key wipes", "append wins", "command line wins"],
)
@pytest.mark.thorough("list", "plain key wipes", "command line wins")
def test_a_configuration_that_speaks_against_it_ends_the_run_before_any_change(
    plain: Cluster, path: str, text: str, message: str, alone: bool
) -> None:
    victim = plain.servers[1]
    started = plain.started()
    plain.on(victim, "sh", "-c", 'mkdir -p "$(dirname "$1")"; printf %s "$2" > "$1"; systemctl daemon-reload', "sh", path, text)
    try:
        before = plain.state()
        run = plain.play("remediate", *(["--limit", victim] if alone else []))
        assert plain.state() == before
    finally:
        plain.on(victim, "sh", "-c", 'rm "$1"; rmdir "$(dirname "$1")" 2>/dev/null; systemctl daemon-reload', "sh", path)
    assert run.code != 0
    assert run.says(message)
    assert run.touched == set()
    assert not run.says("K10leak")
    assert plain.started() == started


def test_odd_files_are_read_as_k3s_reads_them_and_typos_are_told(plain: Cluster) -> None:
    victim = plain.servers[0]
    files = {
        "10-scalar.yaml": "kubelet-arg+: node-status-update-frequency=7s\n",
        "20-typo.yml": "# note\nkublet-arg: max-pods=1\n",
        "30-ignored.txt": "kubelet-arg: [",
        "40-empty.yaml": "",
    }
    folder = f"{CONFIG}.d"
    plain.on(victim, "mkdir", "-p", folder)
    for name, text in files.items():
        plain.on(victim, "sh", "-c", 'printf %s "$2" > "$1"', "sh", f"{folder}/{name}", text)
    try:
        run = plain.play("audit", "--limit", victim)
    finally:
        plain.on(victim, "rm", "-r", folder)
    assert run.says("kubelet node-status-update-frequency 7s 5s")
    assert run.says(f"--node-status-update-frequency is also set in {folder}/10-scalar.yaml:1; remove it there")
    assert run.says(f"{folder}/20-typo.yml:2: 'kublet-arg': K3s knows no such key and ignores it; is 'kubelet-arg' meant?")


def test_a_server_only_key_on_an_agent_is_refused_before_any_change(plain: Cluster) -> None:
    (agent,) = plain.hosts("agents")
    plain.on(agent, "sh", "-c", f"mkdir {CONFIG}.d; echo 'tls-san: x' > {CONFIG}.d/mine.yaml")
    try:
        run = plain.play("remediate", "--limit", agent)
    finally:
        plain.on(agent, "rm", "-r", f"{CONFIG}.d")
    assert run.code != 0
    assert run.says(f"{CONFIG}.d/mine.yaml:1: tls-san: it is a key of servers, and keeps k3s-agent from starting")
    assert run.touched == set()


def test_an_address_of_a_single_node_is_no_registration_address(plain: Cluster) -> None:
    second = plain.hosts("servers")[plain.servers[1]]["ansible_host"]
    # The first server joins nowhere.
    run = plain.play("remediate", "--limit", plain.servers[1], options(k3s_registration_address=second))
    assert run.code != 0
    assert run.says(f"https://{second}:6443 is the node {second}, and no fixed registration address")
    assert run.touched == set()


def remembered(cluster: Cluster, node: str) -> list[str]:
    """The API servers in the state of a node's load balancer."""
    found: list[str] = json.loads(cluster.on(node, "cat", STATE))["ServerAddresses"]
    return found


def alternate(cluster: Cluster) -> tuple[str, list[str]]:
    """Stop one control plane, then the other while the first comes back. Return the first, and the nodes that follow both."""
    first, second = cluster.hosts("control_plane")
    followers = sorted([*cluster.hosts("etcd"), *cluster.hosts("agents")])
    alone = [f"{cluster.hosts('servers')[second]['ansible_host']}:6443"]
    cluster.on(first, "systemctl", "stop", "k3s")
    wait_for(f"everybody to know {second} alone", lambda: all(remembered(cluster, node) == alone for node in followers), 60)
    cluster.on(second, "systemctl", "stop", "k3s")
    cluster.on(first, "systemctl", "start", "k3s")
    return first, followers


def test_nodes_that_are_stuck_after_alternating_outages_are_brought_back(split: Cluster) -> None:
    if not has_the_bugs(split):
        pytest.skip(f"this K3s is not {BEFORE}")
    first, followers = alternate(split)
    wait_for("the outage", lambda: split.not_ready(first, followers) == followers, LONG_ENOUGH)
    started = split.started()
    run = split.play("recover_k3s_lb")
    assert run.code == 0
    assert run.says(
        f"4 of 6 nodes are kept from the API servers by what they remember: {', '.join(n for n in split.nodes if n in followers)}"
    )
    assert split.not_ready(first, followers) == []
    restarted = split.started()
    assert sorted(node for node in split.nodes if restarted[node] != started[node]) == followers
    for node in followers:
        assert split.on(node, "sh", "-c", f"ls {STATE}.2*").strip().startswith(f"{STATE}.2")
    again = split.play("recover_k3s_lb")
    assert again.says("0 of 6 nodes are kept from the API servers")
    assert not any(again.changed.values())
    split.on(list(split.hosts("control_plane"))[1], "systemctl", "start", "k3s")
    wait_for("all nodes Ready", lambda: set(split.readiness(first).values()) == {"True"}, LONG_ENOUGH)


@pytest.mark.thorough
def test_nothing_is_cleared_where_the_join_server_is_down(split: Cluster) -> None:
    (agent,) = split.hosts("agents")
    kept = split.on(agent, "cat", STATE)
    stale = json.dumps({**json.loads(kept), "ServerAddresses": ["192.0.2.1:6443"]})
    join, first = split.servers[0], next(iter(split.hosts("control_plane")))
    split.on(agent, "sh", "-c", f"systemctl stop k3s-agent; printf %s '{stale}' > {STATE}")
    split.on(join, "systemctl", "stop", "k3s")
    try:
        wait_for("the agent to be NotReady", lambda: split.not_ready(first, [agent]) == [agent], LONG_ENOUGH)
        run = split.play("recover_k3s_lb", options(preflight_ignore_nodes=[join]))
        assert run.code != 0
        assert run.says("a node that remembers nothing needs its join server to start")
        assert split.on(agent, "cat", STATE) == stale
    finally:
        split.on(join, "systemctl", "start", "k3s")
        split.on(agent, "sh", "-c", f"printf %s '{kept}' > {STATE}; systemctl start k3s-agent")
    wait_for("all nodes Ready", lambda: set(split.readiness(first).values()) == {"True"}, LONG_ENOUGH)


def test_remediation_restarts_each_node_once_one_after_the_other_and_nobody_notices(cluster: Cluster, tmp_path: pathlib.Path) -> None:
    """Moves them to the fixed registration address, too: all but the first server, which began the cluster, join there."""
    address = f"k3s_registration_address={FIXED}"
    cluster.remediated = cluster.remediate_under_traffic(tmp_path / "traffic.json", "-e", address)
    assert not cluster.play("audit").says("names the single node")


def test_user_s_own_files_stay_and_ours_are_for_root_only(cluster: Cluster) -> None:
    for node in cluster.nodes:
        assert "max-pods=60" in cluster.on(node, "cat", CONFIG)
        assert cluster.on(node, "stat", "-c", "%a %U", f"{CONFIG}.d/zz-kubekeel.yaml").split() == ["600", "root"]
        assert "node-status-update-frequency" not in cluster.on(node, "cat", CONFIG)


def test_a_second_remediation_changes_nothing_and_restarts_nothing(plain: Cluster) -> None:
    plain.remediate_with_nothing_to_do()
    assert plain.play("audit").says("nothing differs")


def test_what_was_written_is_in_force(cluster: Cluster) -> None:
    """As Molecule's scenarios verify it, which stand for the same clusters."""
    done = subprocess.run(verify.command(cluster.inventory), cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.thorough("split")
def test_a_flag_that_kills_its_component_is_caught_and_taken_back_on_the_first_node_that_runs_it(cluster: Cluster) -> None:
    # It dies while its restart is watched, or later.
    waiting = {"rolling_restart_watch": 0, "rolling_restart_timeout": 90} if is_split(cluster) else {}
    first = next(iter(cluster.hosts("control_plane")))
    before, started = cluster.state(), cluster.started()
    bad = {"kube-controller-manager": {"node-cidr-mask-size": "abc"}}
    run = cluster.play("remediate", options(extra_args_components=bad, **waiting))
    assert run.code != 0
    assert run.says('invalid argument "abc" for "--node-cidr-mask-size"')
    assert run.says("the node has its previous files back")
    after, restarted = cluster.state(), cluster.started()
    for node in cluster.nodes:
        assert without_records(after[node]) == without_records(before[node])
        assert (restarted[node] != started[node]) is (node == first)
    assert cluster.play("audit", "--limit", first).says("all nodes Ready, 3 voters up, 1 server may be lost")


def test_an_inventory_out_of_kubectl_is_the_lab_s_own(split: Cluster, tmp_path: pathlib.Path) -> None:
    server = next(iter(split.hosts("control_plane")))
    kubectl = ["env", f"--chdir={ROOT}", sys.executable, "-m", "lab", "exec", "--name", split.name, server, "--", "k3s", "kubectl"]
    (tmp_path / "kubekeel.yml").write_text(yaml.safe_dump({"plugin": "kubekeel.ha.cluster", "kubectl": kubectl}))
    variables = yaml.safe_load((split.inventory / "hosts.yml").read_text())["all"]["vars"]
    (tmp_path / "group_vars").mkdir()
    (tmp_path / "group_vars/all.yml").write_text(yaml.safe_dump(variables))
    listed = subprocess.run(
        ["ansible-inventory", "-i", str(tmp_path), "--list"], cwd=ROOT, env=ENVIRONMENT, capture_output=True, check=True, text=True
    )
    found = json.loads(listed.stdout)
    for group in ("servers", "agents", "etcd", "control_plane"):
        assert found[group]["hosts"] == list(split.hosts(group))
    assert found["k3s"]["hosts"] == split.nodes
    hosts = {**split.hosts("servers"), **split.hosts("agents")}
    # What comes from the cluster is no template, and is marked as such.
    assert {node: found["_meta"]["hostvars"][node]["ansible_host"]["__ansible_unsafe"] for node in split.nodes} == {
        node: host["ansible_host"] for node, host in hosts.items()
    }
    assert split.play("audit", inventory=tmp_path).says(f"AUDIT of {len(split.nodes)} nodes: nothing differs")


def test_all_nodes_start_while_the_first_one_is_down_since_they_join_at_a_fixed_address(split: Cluster) -> None:
    lost = split.servers[0]
    split.lab("power-off", "--name", split.name, lost)
    try:
        refused = split.play("restart", "--limit", f"all,localhost,!{lost}", options(preflight_ignore_nodes=[lost]))
        assert refused.code != 0
        assert refused.says("no server may be lost: 3 voters")
        others = [node for node in split.nodes if node != lost]
        before = {node: split.on(node, "systemctl", "show", split.unit(node), "--property=ExecMainStartTimestamp") for node in others}
        run = split.play("restart", "--limit", f"all,localhost,!{lost}", options(preflight_ignore_nodes=[lost], preflight_spare=False))
        assert run.code == 0, os.linesep.join(run.output.splitlines()[-40:])
        for node in others:
            assert split.on(node, "systemctl", "show", split.unit(node), "--property=ExecMainStartTimestamp") != before[node]
        ready = split.readiness(next(iter(split.hosts("control_plane"))))
        assert {node: ready[node] for node in others} == dict.fromkeys(others, "True")
    finally:
        split.lab("power-on", "--name", split.name, lost)
    wait_for("the return of the first one", lambda: split.play("audit").says("server may be lost"), 180)


def test_the_loss_of_the_first_server_with_etcd_alone_costs_no_request_at_a_live_node(split: Cluster, tmp_path: pathlib.Path) -> None:
    run, result = split.drill(tmp_path, drill_scenario="first_etcd_loss")
    assert run.code == 0, result.get("failures")
    assert [loss["node"] for loss in result["losses"]] == split.servers[:1]
    assert result["healthy_not_ready"] == []
    assert result["requests"]["failed_at_live_backends"] == 0


@pytest.mark.thorough
def test_the_loss_of_the_agent_is_measured_by_what_is_computed(split: Cluster, tmp_path: pathlib.Path) -> None:
    run, result = split.drill(tmp_path, drill_scenario="agent_loss", drill_method="services")
    assert run.code == 0, result.get("failures")
    (step,) = [one for one in result["losses"][0]["steps"] if one["name"] == "node_down"]
    assert step["best"] <= step["measured"] <= step["worst"]
    # The units stop, the pods do not.
    assert result["requests"]["failed"] == 0


def test_a_rollback_leaves_every_file_as_the_installer_did(plain: Cluster) -> None:
    plain.roll_back(plain.remediated)


def test_nothing_that_runs_leave_behind_holds_a_secret(plain: Cluster, tmp_path_factory: pytest.TempPathFactory) -> None:
    token = plain.on(plain.servers[0], "sh", "-c", "cut -d: -f4 /var/lib/rancher/k3s/server/token").strip()
    assert token in plain.secrets()
    assert token in plain.on(plain.servers[0], "cat", CONFIG)
    plain.play("remediate", "--check", "--diff", "-vvv", "--limit", f"{plain.servers[0]},agents")
    plain.assert_keeps_its_secrets(tmp_path_factory.getbasetemp(), pathlib.Path.home() / ".ansible/tmp")


@pytest.mark.thorough
def test_a_release_without_the_bugs_leaves_nothing_stale_and_nothing_is_cleared() -> None:
    with standing("test-mended", "--distribution", "k3s", *SPLIT, LAB_K3S_RELEASE=AFTER) as found:
        first, followers = alternate(found)
        time.sleep(LONG_ENOUGH)
        assert found.not_ready(first, followers) == []
        started = found.started()
        run = found.play("recover_k3s_lb")
        assert run.says("0 of 6 nodes are kept from the API servers")
        assert not any(run.changed.values())
        assert found.started() == started
