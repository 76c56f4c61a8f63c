"""Audit and remediation of a real cluster, in the order in which an operator meets them.

The tests share one cluster and build on each other: it is audited, abused with bad input, remediated, and looked at again.
"""

import json
import os
import pathlib
import signal
import subprocess
import time
from collections.abc import Iterator

import jsonschema
import pytest
import yaml

from .conftest import ENVIRONMENT, ROOT, Cluster, options, standing, start_of, wait_for, without_records

ARGS = "/var/snap/microk8s/current/args"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A cluster as MicroK8s leaves it after its installation."""
    with standing("test", "--agents", "2") as found:
        yield found


def test_audit_names_what_differs_and_why_and_changes_nothing(cluster: Cluster) -> None:
    before = cluster.state()
    run = cluster.play("audit")
    assert cluster.state() == before
    assert run.code == 0
    assert run.says(f"AUDIT of {len(cluster.nodes)} nodes: {len(cluster.nodes)} differ")
    assert run.says("leader-elect-lease-duration 60s 15s")
    assert run.says("for this long requests still go to the endpoints of a node that is dead")
    assert not any(run.changed.values())


def test_audit_fails_on_findings_where_asked_to(cluster: Cluster) -> None:
    assert cluster.play("audit", options(audit_fail_on_findings=True)).code != 0


def test_check_mode_shows_the_change_and_makes_none(cluster: Cluster) -> None:
    before = cluster.state()
    run = cluster.play("remediate", "--check", "--diff", "--limit", cluster.servers[0])
    assert cluster.state() == before
    assert run.code == 0
    assert run.says("+--leader-elect-lease-duration=15s")
    assert run.says("-net.ipv4.tcp_retries2 = 15 (running kernel)")


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"leader_election_renew_deadline": "20s"}, "the lease duration must be longer than the renew deadline"),
        ({"leader_election_retry_period": "2 s"}, "'2 s' is not a duration"),
        ({"node_lifecycle_http2_read_idle_timeout": 30}, "longer than HTTP/2 read idle + ping time-out"),
        ({"node_lifecycle_http2_read_idle_timeout": "soon"}, "unable to convert to int"),
        ({"kube_proxy_mode": "ebpf"}, "value of kube_proxy_mode must be one of"),
        ({"kube_proxy_mode": "nftables"}, "Kubernetes 1.20.2 cannot run nftables"),
        ({"extra_args_components": {"kube-controler-manager": {"v": 2}}}, "there is no 'kube-controler-manager'"),
        ({"extra_args_components": {"kubelet": {"--v": 2}}}, "give it without dashes"),
        ({"extra_args_components": {"kubelet": {"node-labels": "a=b # note"}}}, "a space would split it in two"),
        ({"extra_args_components": {"kube-apiserver": {"etcd-request-timeout": "5s"}}}, "--etcd-request-timeout does not exist"),
        ({"kubekeel_distribution": "rke2"}, "value of distribution must be one of"),
    ],
    ids=[
        "renew deadline",
        "duration",
        "time outs",
        "number",
        "choice",
        "release",
        "component",
        "dashes",
        "comment",
        "dead flag",
        "distribution",
    ],
)
@pytest.mark.thorough("duration", "time outs", "number", "choice", "component", "dashes", "comment", "distribution")
def test_bad_variables_are_refused_before_any_change(cluster: Cluster, variables: dict[str, object], message: str) -> None:
    started = cluster.started()
    # Each node is told the same, and one takes a fifth of the time.
    run = cluster.play("remediate", "--limit", cluster.servers[0], options(**variables))
    assert run.code != 0
    assert run.says(message)
    assert run.touched == set()
    assert cluster.started() == started


@pytest.mark.parametrize(
    ("harm", "mend", "message", "alone"),
    [
        (f"mv {ARGS} {ARGS}.away", f"mv {ARGS}.away {ARGS}", f"there is no {ARGS}", True),
        (
            f"cp -p {ARGS}/kube-scheduler /root/keep; : > {ARGS}/kube-scheduler",
            f"cat /root/keep > {ARGS}/kube-scheduler",
            f"{ARGS}/kube-scheduler holds no flags, as after a power cut",
            True,
        ),
        (
            f"mv {ARGS}/kubelet /root/keep; mkdir {ARGS}/kubelet",
            f"rmdir {ARGS}/kubelet; mv /root/keep {ARGS}/kubelet",
            f"{ARGS}/kubelet is not a regular file",
            False,
        ),
        (
            f"cp -p {ARGS}/kube-proxy /root/keep; echo '--v=2 # louder' >> {ARGS}/kube-proxy",
            f"cat /root/keep > {ARGS}/kube-proxy",
            "--v=2 # louder: there are no inline comments",
            True,
        ),
    ],
    ids=["no args folder", "empty file", "folder in place of a file", "inline comment"],
)
@pytest.mark.thorough("no args folder", "inline comment")
def test_a_damaged_node_is_refused_before_any_change(cluster: Cluster, harm: str, mend: str, message: str, alone: bool) -> None:
    victim = cluster.servers[1]
    limit = ["--limit", victim] if alone else []
    started = cluster.started()
    cluster.on(victim, "sh", "-c", harm)
    try:
        before = cluster.state()
        run = cluster.play("remediate", *limit)
        audit = cluster.play("audit", *limit)
        assert cluster.state() == before
    finally:
        cluster.on(victim, "sh", "-c", mend)
    assert audit.says(message)
    assert alone or audit.says(f"AUDIT of {len(cluster.nodes)} nodes")
    assert run.code != 0
    assert run.says(message)
    assert run.says(f"[{victim}]")
    assert cluster.started() == started


def inventory_with(cluster: Cluster, folder: pathlib.Path, servers: dict[str, object]) -> pathlib.Path:
    data = yaml.safe_load((cluster.inventory / "hosts.yml").read_text())
    data["all"]["children"]["servers"]["hosts"] = servers
    path = folder / "hosts.yml"
    path.write_text(yaml.safe_dump(data))
    return path


def test_an_inventory_without_servers_is_refused(cluster: Cluster, tmp_path: pathlib.Path) -> None:
    run = cluster.play("remediate", inventory=inventory_with(cluster, tmp_path, {}))
    assert run.code != 0
    assert run.says("This inventory has no group 'servers', or nobody in it")


def test_an_inventory_that_is_not_the_cluster_s_is_refused(cluster: Cluster, tmp_path: pathlib.Path) -> None:
    servers = cluster.hosts("servers")
    before = cluster.state()
    missing = dict(list(servers.items())[:2])
    run = cluster.play("remediate", inventory=inventory_with(cluster, tmp_path, missing))
    assert run.code != 0
    assert run.says("the cluster's servers server3 are missing in the inventory")
    stranger = inventory_with(cluster, tmp_path, {**servers, "server4": servers["server3"]})
    run = cluster.play("remediate", options(kubekeel_node_name="{{ inventory_hostname }}"), inventory=stranger)
    assert run.code != 0
    assert run.says("servers server4 are no servers of this cluster")
    assert cluster.state() == before


def test_an_unreachable_node_ends_the_run_before_any_change(cluster: Cluster, tmp_path: pathlib.Path) -> None:
    servers = cluster.hosts("servers")
    before = cluster.state()
    gone = {**servers, "server3": {"ansible_host": "127.0.0.1", "ansible_port": 1}}
    run = cluster.play("remediate", inventory=inventory_with(cluster, tmp_path, gone))
    assert run.code != 0
    assert run.says("server3")
    assert run.says("UNREACHABLE")
    assert run.touched == set()
    assert cluster.state() == before
    audit = cluster.play("audit", inventory=inventory_with(cluster, tmp_path, gone))
    assert audit.says("NOT READ, see the errors above server3")
    assert audit.says("1 could not be read")


@pytest.mark.parametrize(
    ("component", "flag"),
    [("kube-controller-manager", "node-cidr-mask-size"), ("kube-apiserver", "max-requests-inflight")],
    ids=["controller manager", "apiserver"],
)
@pytest.mark.thorough("controller manager")
def test_a_flag_that_kills_its_component_is_caught_and_taken_back_on_the_first_node(cluster: Cluster, component: str, flag: str) -> None:
    first, *others = cluster.nodes
    before, started = cluster.state(), cluster.started()
    run = cluster.play("remediate", options(extra_args_components={component: {flag: "abc"}}))
    assert run.code != 0
    assert run.says(f'invalid argument "abc" for "--{flag}"')
    assert run.says("the node has its previous files back")
    assert run.touched == {first}
    after, restarted = cluster.state(), cluster.started()
    for node in others:
        assert (after[node], restarted[node]) == (before[node], started[node])
    assert without_records(after[first]) == without_records(before[first])
    assert "NRestarts=0" in restarted[first]


def test_an_agent_alone_can_be_looked_at(cluster: Cluster) -> None:
    agent = next(iter(cluster.hosts("agents")))
    run = cluster.play("remediate", "--check", "--limit", agent)
    assert run.code == 0
    assert run.says("WOULD REMEDIATE 1 of 1 nodes")


def test_remediation_restarts_each_node_once_one_after_the_other_and_nobody_notices(cluster: Cluster, tmp_path: pathlib.Path) -> None:
    cluster.remediated = cluster.remediate_under_traffic(tmp_path / "traffic.json")


def test_a_second_remediation_changes_nothing_and_restarts_nothing(cluster: Cluster) -> None:
    cluster.remediate_with_nothing_to_do()


def test_audit_afterwards_finds_nothing(cluster: Cluster) -> None:
    run = cluster.play("audit", options(audit_fail_on_findings=True))
    assert run.code == 0
    assert run.says("nothing differs")


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"drill_confirm": "prod"}, "Nothing was changed. A drill takes nodes away for real: confirm it with -e drill_confirm=test"),
        ({"drill_scenario": "first_etcd_loss"}, "this cluster has no server that runs etcd alone"),
        ({"drill_scenario": "sevrer_loss"}, "value of drill_scenario must be one of"),
    ],
    ids=["not confirmed", "not possible", "unknown"],
)
@pytest.mark.thorough("not confirmed", "unknown")
def test_a_drill_nobody_confirmed_or_that_cannot_be_changes_nothing(
    cluster: Cluster, tmp_path: pathlib.Path, variables: dict[str, object], message: str
) -> None:
    started = cluster.started()
    run, result = cluster.drill(tmp_path, **variables)
    assert (run.code != 0, result) == (True, {})
    assert run.says(message)
    assert cluster.started() == started
    assert workload(cluster) == []


def test_a_drill_that_nobody_can_confirm_is_none(cluster: Cluster) -> None:
    command = ["ansible-playbook", "-i", str(cluster.inventory), "kubekeel.ha.drill"]
    done = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "confirm it with -e drill_confirm=test" in " ".join(done.stdout.split())
    assert workload(cluster) == []


def test_the_loss_of_the_leader_costs_what_is_computed_and_no_other_node_suffers(cluster: Cluster, tmp_path: pathlib.Path) -> None:
    run, result = cluster.drill(tmp_path)
    assert run.code == 0, result.get("failures")
    jsonschema.validate(result, json.loads((ROOT / "roles/drill/files/drill.schema.json").read_text()))
    (loss,) = result["losses"]
    steps = {step["name"]: step for step in loss["steps"]}
    for name in ("new_leader", "node_down", "endpoint_gone"):
        assert steps[name]["best"] <= steps[name]["measured"] <= steps[name]["worst"]
    assert result["healthy_not_ready"] == []
    requests = result["requests"]
    assert requests["failed"] > 0
    assert (requests["failed_at_live_backends"], requests["failed_unknown_backend"]) == (0, 0)
    assert loss["last_failed"] <= steps["endpoint_gone"]["measured"] + 1
    assert len(requests["spread"]) >= len(cluster.nodes)
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".svg", ".html"}
    wait_for("the workload to go", lambda: workload(cluster) == [], 60)
    again, _ = cluster.drill(tmp_path, drill_scenario="agent_loss", drill_budget_seconds=5)
    assert again.code != 0
    assert again.says("the budget is 5 s")


@pytest.mark.parametrize(
    ("how", "method", "scenario"), [(signal.SIGKILL, "isolation", "agent_loss"), (signal.SIGINT, "command", "server_loss")], ids=str
)
def test_a_drill_that_is_interrupted_gives_its_node_back(
    cluster: Cluster, tmp_path: pathlib.Path, how: signal.Signals, method: str, scenario: str
) -> None:
    back, patience = 40, 60
    variables: dict[str, object] = {"drill_confirm": cluster.name, "drill_folder": str(tmp_path)}
    variables |= {"drill_method": method, "drill_scenario": scenario, "drill_return_after": back, "drill_timeout": patience}
    command = ["ansible-playbook", "-i", str(cluster.inventory), "kubekeel.ha.drill", "-e", json.dumps(variables)]
    with subprocess.Popen(command, cwd=ROOT, env=ENVIRONMENT, text=True, stdout=subprocess.PIPE, start_new_session=True) as process:
        for line in process.stdout or ():
            if "will be lost" in line:
                server = next(node for node in cluster.servers if node not in line.split())
            if "See that it is gone" in line:
                break
        lost = time.monotonic()
        os.killpg(process.pid, how)
        try:
            process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            # ansible-core may wait for ever for a worker that it had just begun. An operator interrupts again.
            os.killpg(process.pid, signal.SIGKILL)
    wait_for("the loss", lambda: cluster.not_ready(server) != [], 40)
    wait_for("the return", lambda: cluster.not_ready(server) == [], lost + back + 45 - time.monotonic())
    assert time.monotonic() > lost + 20
    wait_for("the workload to go", lambda: workload(cluster) == [], patience + 180)
    assert cluster.play("audit").says("server may be lost")
    dead = holder(cluster)
    assert dead.startswith("20")
    refused = cluster.play("remediate")
    assert (refused.code != 0, refused.touched) == (True, set())
    assert refused.says(f"run {dead} (drill, ")
    assert cluster.play("lock", options(lock_break="another")).code != 0
    assert holder(cluster) == dead
    assert cluster.play("lock", options(lock_break=dead)).says("nobody holds this cluster")


def holder(cluster: Cluster) -> str:
    """The run that holds the cluster."""
    lease = cluster.kubectl(cluster.servers[0], "get", "lease", "--namespace", "kube-system", "kubekeel")
    return str(lease["spec"].get("holderIdentity") or "")


def workload(cluster: Cluster) -> list[str]:
    """The namespace of drills, where it is there."""
    names = [one["metadata"]["name"] for one in cluster.kubectl(cluster.servers[0], "get", "namespaces")["items"]]
    return [name for name in names if name == "kubekeel-drill"]


def test_a_run_that_broke_off_before_the_restart_is_completed_by_one_of_two_that_come_at_once(cluster: Cluster) -> None:
    node = cluster.servers[2]
    started = cluster.started()
    arguments = json.dumps({"components": {"kube-scheduler": {"v": 1}}})
    subprocess.run(
        ["ansible", "-i", str(cluster.inventory), node, "-m", "kubekeel.ha.component_args", "-a", arguments],
        cwd=ROOT,
        env=ENVIRONMENT,
        check=True,
        capture_output=True,
    )
    assert cluster.started() == started
    command = ["ansible-playbook", "-i", str(cluster.inventory), "kubekeel.ha.remediate"]
    both = [subprocess.Popen(command, cwd=ROOT, env=ENVIRONMENT, text=True, stdout=subprocess.PIPE) for _ in range(2)]
    said = {run.communicate(timeout=600)[0]: run.returncode for run in both}
    cluster.outputs += said
    done, refused = sorted(said, key=said.__getitem__)
    assert (said[done], said[refused] != 0) == (0, True)
    assert "REMEDIATED" in done
    assert "holds this cluster since" in refused
    assert "it holds it until" in " ".join(refused.split())
    assert "Remediate the servers" not in refused
    assert holder(cluster) == ""
    restarted = cluster.started()
    assert [name for name in cluster.nodes if restarted[name] != started[name]] == [node]
    assert "\0--v=1\0" in cluster.on(node, "sh", "-c", "cat /proc/$(pidof kube-scheduler)/cmdline")


def test_a_rollback_never_overwrites_what_somebody_else_did_unless_it_is_told_to(cluster: Cluster) -> None:
    edited = f"{cluster.servers[2]}: {ARGS}/kube-scheduler was changed by somebody else since run {cluster.remediated}"
    before, started = cluster.state(), cluster.started()
    run = cluster.play("rollback", options(rollback_run=cluster.remediated))
    assert run.code != 0
    assert run.says(edited)
    assert (cluster.state(), cluster.started()) == (before, started)
    cluster.roll_back(cluster.remediated, rollback_force=True)


def test_a_node_of_a_batch_keeps_its_change_where_another_one_fails(cluster: Cluster, tmp_path: pathlib.Path) -> None:
    failing, other = cluster.hosts("agents")
    before, started = cluster.state(), cluster.started()
    data = yaml.safe_load((cluster.inventory / "hosts.yml").read_text())
    # An agent knows nothing of the cluster: the one that asks it after its restart is told nothing good.
    data["all"]["children"]["agents"]["hosts"][failing].update(
        rolling_restart_gate=False, rolling_restart_witness=other, rolling_restart_timeout=25
    )
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump(data))
    more = {"extra_args_components": {"kubelet": {"max-pods": "70"}}, "remediate_agent_batch": 2}
    run = cluster.play("remediate", "--limit", "agents", options(**more), inventory=tmp_path / "hosts.yml")
    assert run.code != 0
    assert run.says(f"{failing} failed")
    assert not run.says(f"{other} failed")
    after, restarted = cluster.state(), cluster.started()
    assert without_records(after[failing]) == without_records(before[failing])
    assert "--max-pods=70" in cluster.on(other, "cat", f"{ARGS}/kubelet")
    for node in (failing, other):
        assert cluster.starts_since(node, start_of(started[node])) == (2 if node == failing else 1)
    assert [node for node in cluster.nodes if restarted[node] != started[node]] == [failing, other]


def test_nothing_that_runs_leave_behind_holds_a_secret(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> None:
    cluster.assert_keeps_its_secrets(tmp_path_factory.getbasetemp(), pathlib.Path.home() / ".ansible/tmp")
