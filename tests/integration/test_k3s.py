"""Audit and remediation of real clusters laid out as K3s lays itself out: with servers that do all, and with split roles.

The tests share a cluster and build on each other, as in test_microk8s.py.
"""

import pathlib
from collections.abc import Iterator

import pytest

from .conftest import Cluster, options, standing, without_records

CONFIG = "/etc/rancher/k3s/config.yaml"
FIXED = "https://registration:6443"
LAYOUTS = {"plain": ("--servers", "3", "--agents", "1"), "split": ("--topology", "split")}


@pytest.fixture(scope="module", params=LAYOUTS)
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A cluster as the installer of K3s leaves it, where every node joined at the first one."""
    with standing(f"k3s-{request.param}", "--distribution", "k3s", *LAYOUTS[request.param]) as found:
        yield found


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


@pytest.mark.parametrize(
    ("path", "text", "message"),
    [
        (f"{CONFIG}.d/50-mine.yaml", "token: 'K10leak", f"{CONFIG}.d/50-mine.yaml:1: a quote is not closed"),
        (f"{CONFIG}.d/50-mine.YML", "kubelet-arg: [max-pods=60\n", f"{CONFIG}.d/50-mine.YML:2: a list is not closed"),
        (
            f"{CONFIG}.d/zzz.yaml",
            "# mine\nkubelet-arg: max-pods=50\n",
            f"{CONFIG}.d/zzz.yaml:2 comes after kubekeel's drop-in and replaces it",
        ),
        (
            f"{CONFIG}.d/zzz.yaml",
            "kubelet-arg+: node-status-update-frequency=9s\n",
            f"{CONFIG}.d/zzz.yaml:1 comes after kubekeel's drop-in",
        ),
        (
            "/etc/systemd/system/k3s.service.d/mine.conf",
            "[Service]\nExecStart=\nExecStart=/usr/local/bin/k3s server \\\n  --kubelet-arg=node-status-update-frequency=9s\n",
            "mine.conf:4 comes after kubekeel's drop-in and says 9s",
        ),
    ],
    ids=["quote", "list", "plain key wipes", "append wins", "command line wins"],
)
def test_a_configuration_that_speaks_against_it_ends_the_run_before_any_change(
    cluster: Cluster, path: str, text: str, message: str
) -> None:
    victim = cluster.servers[1]
    started = cluster.started()
    cluster.on(victim, "sh", "-c", 'mkdir -p "$(dirname "$1")"; printf %s "$2" > "$1"; systemctl daemon-reload', "sh", path, text)
    try:
        before = cluster.state()
        run = cluster.play("remediate")
        assert cluster.state() == before
    finally:
        cluster.on(victim, "sh", "-c", 'rm "$1"; rmdir "$(dirname "$1")" 2>/dev/null; systemctl daemon-reload', "sh", path)
    assert run.code != 0
    assert run.says(message)
    assert run.touched == set()
    assert not run.says("K10leak")
    assert cluster.started() == started


def test_odd_files_are_read_as_k3s_reads_them_and_typos_are_told(cluster: Cluster) -> None:
    victim = cluster.servers[0]
    files = {
        "10-scalar.yaml": "kubelet-arg+: node-status-update-frequency=7s\n",
        "20-typo.yml": "# note\nkublet-arg: max-pods=1\n",
        "30-ignored.txt": "kubelet-arg: [",
        "40-empty.yaml": "",
    }
    folder = f"{CONFIG}.d"
    cluster.on(victim, "mkdir", "-p", folder)
    for name, text in files.items():
        cluster.on(victim, "sh", "-c", 'printf %s "$2" > "$1"', "sh", f"{folder}/{name}", text)
    try:
        run = cluster.play("audit", "--limit", victim)
    finally:
        cluster.on(victim, "rm", "-r", folder)
    assert run.says("kubelet node-status-update-frequency 7s 5s")
    assert run.says(f"--node-status-update-frequency is also set in {folder}/10-scalar.yaml:1; remove it there")
    assert run.says(f"{folder}/20-typo.yml:2: 'kublet-arg': K3s knows no such key and ignores it; is 'kubelet-arg' meant?")


def test_a_server_only_key_on_an_agent_is_refused_before_any_change(cluster: Cluster) -> None:
    (agent,) = cluster.hosts("agents")
    cluster.on(agent, "sh", "-c", f"mkdir {CONFIG}.d; echo 'tls-san: x' > {CONFIG}.d/mine.yaml")
    try:
        run = cluster.play("remediate")
    finally:
        cluster.on(agent, "rm", "-r", f"{CONFIG}.d")
    assert run.code != 0
    assert run.says(f"{CONFIG}.d/mine.yaml:1: tls-san: it is a key of servers, and keeps k3s-agent from starting")
    assert run.touched == set()


def test_an_address_of_a_single_node_is_no_registration_address(cluster: Cluster) -> None:
    second = cluster.hosts("servers")[cluster.servers[1]]["ansible_host"]
    run = cluster.play("remediate", options(k3s_registration_address=second))
    assert run.code != 0
    assert run.says(f"https://{second}:6443 is the node {second}, and no fixed registration address")
    assert run.touched == set()


def test_remediation_restarts_each_node_once_one_after_the_other_and_nobody_notices(cluster: Cluster, tmp_path: pathlib.Path) -> None:
    cluster.remediate_under_traffic(tmp_path / "traffic.json")


def test_user_s_own_files_stay_and_ours_are_for_root_only(cluster: Cluster) -> None:
    for node in cluster.nodes:
        assert "max-pods=60" in cluster.on(node, "cat", CONFIG)
        assert cluster.on(node, "stat", "-c", "%a %U", f"{CONFIG}.d/zz-kubekeel.yaml").split() == ["600", "root"]
        assert "node-status-update-frequency" not in cluster.on(node, "cat", CONFIG)


def test_a_second_remediation_changes_nothing_and_restarts_nothing(cluster: Cluster) -> None:
    before, started = cluster.state(), cluster.started()
    run = cluster.play("remediate")
    assert run.code == 0
    assert not any(run.changed.values())
    assert (cluster.state(), cluster.started()) == (before, started)
    assert cluster.play("audit").says("nothing differs")


def test_a_flag_that_kills_its_component_is_caught_and_taken_back_on_the_first_node_that_runs_it(cluster: Cluster) -> None:
    first = next(iter(cluster.hosts("control_plane")))
    before, started = cluster.state(), cluster.started()
    run = cluster.play("remediate", options(extra_args_components={"kube-controller-manager": {"node-cidr-mask-size": "abc"}}))
    assert run.code != 0
    assert run.says('invalid argument "abc" for "--node-cidr-mask-size"')
    assert run.says("the node has its previous files back")
    after, restarted = cluster.state(), cluster.started()
    for node in cluster.nodes:
        assert without_records(after[node]) == without_records(before[node])
        assert (restarted[node] != started[node]) is (node == first)
    assert cluster.play("audit", "--limit", first).says("all nodes Ready, 3 voters up, 1 server may be lost")


def test_nothing_that_was_printed_holds_the_token_and_what_is_kept_is_for_root_only(cluster: Cluster) -> None:
    token = cluster.on(cluster.servers[0], "sh", "-c", "cut -d: -f4 /var/lib/rancher/k3s/server/token").strip()
    assert len(token) > 10
    assert token in cluster.on(cluster.servers[0], "cat", CONFIG)
    cluster.play("remediate", "--check", "--diff", "-vvv")
    assert [output for output in cluster.outputs if token in output] == []
    for node in cluster.nodes:
        assert cluster.on(node, "find", "/var/lib/kubekeel/runs", "-mindepth", "1", "-perm", "/077") == ""
