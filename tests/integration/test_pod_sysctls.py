"""What reaches pods: real pods on a real node, with the CNI plugin tuning in its chain and without it.

The tests share one cluster of one server and build on each other.
"""

import json
import re
from collections.abc import Iterator

import pytest

from .conftest import Cluster, Run, options, standing

FOLDERS = {"microk8s": "/var/snap/microk8s/current/args/cni-network", "k3s": "/etc/cni/net.d"}
IMAGE = "docker.io/kubekeel/pod:lab"
TUNING = "/usr/lib/cni/tuning"
NAMES = ("tcp_retries2", "tcp_keepalive_time", "tcp_keepalive_intvl", "tcp_keepalive_probes")
KERNEL, WANTED = ["15", "7200", "75", "9"], ["8", "60", "10", "6"]
# A cluster of one server has none to spare.
ALONE = {"preflight_spare": False}


@pytest.fixture(scope="module", params=["microk8s", pytest.param("k3s", marks=pytest.mark.thorough("k3s"))])
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    with standing("pods", "--servers", "1", "--distribution", request.param) as found:
        yield found


@pytest.fixture(scope="module")
def chain(cluster: Cluster) -> str:
    """What the node's CNI chain was before the tests."""
    return read_chain(cluster)


def node(cluster: Cluster) -> str:
    return cluster.servers[0]


def path(cluster: Cluster) -> str:
    return f"{FOLDERS[cluster.distribution]}/10-lab.conflist"


def read_chain(cluster: Cluster) -> str:
    return cluster.on(node(cluster), "cat", path(cluster))


def kubectl(cluster: Cluster, *arguments: str) -> str:
    return cluster.on(node(cluster), cluster.distribution, "kubectl", *arguments)


def values_in(cluster: Cluster, pod: str) -> list[str]:
    """Read the sysctls as a process of the pod sees them."""
    return kubectl(cluster, "exec", pod, "--", "cat", *(f"/proc/sys/net/ipv4/{name}" for name in NAMES)).split()


def new_pod(cluster: Cluster, name: str) -> list[str]:
    """Start a pod and read its sysctls."""
    kubectl(cluster, "run", name, f"--image={IMAGE}", "--image-pull-policy=Never", "--restart=Never")
    kubectl(cluster, "wait", "--for=condition=Ready", f"pod/{name}", "--timeout=90s")
    return values_in(cluster, name)


def web_pods(cluster: Cluster) -> list[tuple[str, str, int]]:
    """Name, start and restarts of the pods that were there before."""
    pods = cluster.kubectl(node(cluster), "get", "pods", "--selector", "app=web")["items"]
    return [(pod["metadata"]["name"], pod["status"]["startTime"], pod["status"]["containerStatuses"][0]["restartCount"]) for pod in pods]


def remediate(cluster: Cluster, **variables: object) -> Run:
    return cluster.play("remediate", "--tags tcp_timeouts", options(**ALONE, **variables))


def test_the_audit_tells_what_is_not_reached(cluster: Cluster, chain: str) -> None:
    run = cluster.play("audit", options(**ALONE))
    assert run.code == 0
    shown = " ".join(run.output.split())
    assert re.search(rf"{node(cluster)}, \d+ pods? with tcp_retries2=15, tcp_keepalive_time=7200", shown)
    assert "cannot be looked at" not in shown
    assert read_chain(cluster) == chain


def test_a_plugin_that_is_missing_is_refused_before_anything_changes(cluster: Cluster, chain: str) -> None:
    before = cluster.state()
    cluster.on(node(cluster), "mv", TUNING, "/root/tuning")
    try:
        run = remediate(cluster, tcp_timeouts_pods="cni")
    finally:
        cluster.on(node(cluster), "mv", "/root/tuning", TUNING)
    assert run.code != 0
    assert run.says("the CNI plugin tuning is not in")
    assert run.says("with it in the chain no new pod would start")
    assert (cluster.state(), read_chain(cluster)) == (before, chain)


@pytest.mark.thorough
def test_a_value_that_the_kernel_refuses_a_pod_is_refused(cluster: Cluster) -> None:
    before = cluster.state()
    run = remediate(cluster, tcp_timeouts_pods="cni", tcp_timeouts_keepalive_probes=100_000)
    assert run.code != 0
    assert run.says("was tried and failed, so that no new pod would start: write /proc/sys/net/ipv4/tcp_keepalive_probes: invalid argument")
    assert cluster.state() == before


@pytest.mark.thorough
def test_a_file_that_counts_more_at_the_next_boot_is_refused(cluster: Cluster) -> None:
    later = "/etc/sysctl.d/99-zzz-mine.conf"
    cluster.on(node(cluster), "sh", "-c", f"echo 'net.ipv4.tcp_retries2 = 15' > {later}")
    before = cluster.state()
    run = remediate(cluster)
    assert cluster.state() == before
    cluster.on(node(cluster), "rm", later)
    assert run.code != 0
    assert run.says(f"{later} sets net.ipv4.tcp_retries2 = 15, and counts more than /etc/sysctl.d/99-zz-kubekeel.conf")


@pytest.mark.thorough
def test_the_choice_of_safe_sysctls_is_refused_by_an_old_release(cluster: Cluster) -> None:
    run = remediate(cluster, tcp_timeouts_pods="safe-sysctls")
    refused = run.says("the kubelet refuses a pod that sets tcp_keepalive_* (SysctlForbidden)")
    # The stand-in for K3s may say that it is a release that can.
    assert (run.code != 0, refused) == ((True, True) if cluster.distribution == "microk8s" else (run.code != 0, run.code != 0))


def test_new_pods_have_the_values_and_those_that_run_are_left_alone(cluster: Cluster, chain: str) -> None:
    pods, started = web_pods(cluster), cluster.started()
    assert pods
    run = remediate(cluster, tcp_timeouts_pods="cni")
    assert run.code == 0
    plugins = json.loads(read_chain(cluster))["plugins"]
    assert plugins[:-1] == json.loads(chain)["plugins"]
    assert plugins[-1]["type"] == "tuning"
    assert new_pod(cluster, "with-tuning") == WANTED
    assert (web_pods(cluster), cluster.started()) == (pods, started)
    assert values_in(cluster, pods[0][0]) == KERNEL
    audit = cluster.play("audit", options(**ALONE, tcp_timeouts_pods="cni"))
    assert audit.says("1 pod with tcp_retries2=15")
    again = remediate(cluster, tcp_timeouts_pods="cni")
    assert again.code == 0
    assert not any(again.changed.values())


@pytest.mark.thorough
def test_an_entry_that_was_taken_out_since_is_found_and_put_in_again(cluster: Cluster, chain: str) -> None:
    with_entry = read_chain(cluster)
    cluster.on(node(cluster), "sh", "-c", 'printf %s "$1" > "$2"', "sh", chain, path(cluster))
    assert new_pod(cluster, "in-between") == KERNEL
    assert cluster.play("audit", options(**ALONE, tcp_timeouts_pods="cni")).says("had put it there, and it was taken out since")
    assert remediate(cluster, tcp_timeouts_pods="cni").code == 0
    assert read_chain(cluster) == with_entry


def test_without_the_choice_the_entry_goes_and_new_pods_have_the_kernel_s_values(cluster: Cluster, chain: str) -> None:
    assert remediate(cluster).code == 0
    assert read_chain(cluster) == chain
    assert new_pod(cluster, "without-tuning") == KERNEL


def test_a_rollback_takes_it_out(cluster: Cluster, chain: str) -> None:
    run = remediate(cluster, tcp_timeouts_pods="cni")
    (run_id,) = re.findall(r"rollback_run=(\S+)", run.output)
    assert read_chain(cluster) != chain
    back = cluster.play("rollback", options(rollback_run=run_id, rolling_restart_spare=False, **ALONE))
    assert back.code == 0
    assert read_chain(cluster) == chain
    assert new_pod(cluster, "after-rollback") == KERNEL
