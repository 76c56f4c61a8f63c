"""What a remediated node looks like, read over SSH: not what was written, but what is in force."""

import json
import pathlib

import pytest
import yaml

PROFILE = yaml.safe_load((pathlib.Path(__file__).parents[2] / "profiles/balanced.yml").read_text())["values"]


def wanted(role, *names):
    """The flags behind variables of a role, with the values of the profile."""
    prefix = {"leader_election": "leader-elect-", "node_lifecycle": "node-", "eviction": "default-"}[role]
    return {f"--{prefix}{name.replace('_', '-')}={PROFILE[f'{role}_{name}']}" for name in names}


LEADER_ELECTION = wanted("leader_election", "lease_duration", "renew_deadline", "retry_period")
WITH_THE_API = {
    "kube-apiserver": wanted("eviction", "not_ready_toleration_seconds", "unreachable_toleration_seconds"),
    "kube-controller-manager": LEADER_ELECTION | wanted("node_lifecycle", "monitor_period", "monitor_grace_period"),
    "kube-scheduler": LEADER_ELECTION,
}
# ipvs is what the role takes; the lab's nodes share the host's kernel, which need not have it.
EVERYWHERE = {"kubelet": wanted("node_lifecycle", "status_update_frequency"), "kube-proxy": {"--proxy-mode=iptables"}}
ENVIRONMENT = {
    f"HTTP2_{name.upper()}_SECONDS": str(PROFILE[f"node_lifecycle_http2_{name}"]) for name in ("read_idle_timeout", "ping_timeout")
}
SYSCTLS = {
    f"net.ipv4.tcp_{name}": PROFILE[f"tcp_timeouts_{name}"]
    for name in ("retries2", "keepalive_time", "keepalive_intvl", "keepalive_probes")
}


class Node:
    """A node of the inventory, and how its distribution shows what runs."""

    def __init__(self, host):
        variables = host.ansible.get_variables()
        groups = variables["group_names"]
        self.host = host
        self.is_k3s = variables["kubekeel_distribution"] == "k3s"
        self.has_api = ("control_plane" if self.is_k3s else "servers") in groups
        self.unit = "snap.microk8s.daemon-kubelite"
        self.kubectl = "microk8s kubectl"
        if self.is_k3s:
            self.unit = "k3s" if "servers" in groups else "k3s-agent"
            self.kubectl = "k3s kubectl"

    def process(self):
        """The main process of the unit."""
        return self.host.check_output(f"systemctl show {self.unit} --property=MainPID --value")

    def flags(self, component):
        """The flags that a component was started with."""
        if self.is_k3s:
            # K3s runs its components within one process, and logs their flags.
            log = self.host.check_output(f"journalctl --unit {self.unit} --output cat --grep 'Running {component} '")
            return set(log.splitlines()[-1].strip('"').split())
        (process,) = self.host.process.filter(comm=component[:15])
        return set(self.host.file(f"/proc/{process.pid}/cmdline").content_string.split("\0"))


@pytest.fixture
def node(host):
    return Node(host)


def test_running_components_have_the_flags(node):
    for component, flags in {**EVERYWHERE, **(WITH_THE_API if node.has_api else {})}.items():
        running = node.flags(component)
        assert flags <= running, f"{component} runs with {sorted(running)}"
        for flag in flags:
            assert len([one for one in running if one.partition("=")[0] == flag.partition("=")[0]]) == 1


def test_the_running_unit_has_the_environment(host, node):
    words = host.file(f"/proc/{node.process()}/environ").content_string.split("\0")
    assert ENVIRONMENT.items() <= dict(word.partition("=")[::2] for word in words).items()


def test_sysctls_are_set_now_and_at_the_next_boot(host):
    persistent = host.file("/etc/sysctl.d/99-zz-kubekeel.conf")
    for sysctl, value in SYSCTLS.items():
        assert host.sysctl(sysctl) == value
        assert f"{sysctl} = {value}" in persistent.content_string.splitlines()


def test_the_unit_runs_and_has_not_died(host, node):
    assert host.service(node.unit).is_running
    assert host.check_output(f"systemctl show {node.unit} --property=NRestarts --value") == "0"


def test_files_keep_owner_and_mode(host, node):
    paths = {"/var/snap/microk8s/current/args/kubelet": 0o660, "/var/snap/microk8s/current/args/kube-proxy": 0o660}
    if node.is_k3s:
        paths = {"/etc/rancher/k3s/config.yaml": 0o600, "/etc/rancher/k3s/config.yaml.d/zz-kubekeel.yaml": 0o600}
    for path, mode in paths.items():
        file = host.file(path)
        assert (file.user, file.group, file.mode) == ("root", "root", mode)


def test_records_are_for_root_only(host):
    runs = host.file("/var/lib/kubekeel/runs")
    for run in runs.listdir():
        assert host.file(f"/var/lib/kubekeel/runs/{run}").mode == 0o700
        assert host.file(f"/var/lib/kubekeel/runs/{run}/record.json").mode == 0o600


def test_every_lease_has_the_new_duration(host, node):
    if not node.has_api:
        pytest.skip("no administrator's kubeconfig here")
    for component in ("kube-controller-manager", "kube-scheduler"):
        found = json.loads(host.check_output(f"{node.kubectl} get lease -n kube-system {component} -o json"))
        assert f"{found['spec']['leaseDurationSeconds']}s" == PROFILE["leader_election_lease_duration"]


def test_every_node_with_etcd_is_a_voter(host, node):
    if not (node.is_k3s and node.has_api):
        pytest.skip("K3s alone tells")
    found = json.loads(host.check_output("k3s kubectl get nodes -l node-role.kubernetes.io/etcd -o json"))
    voters = [one["status"] for item in found["items"] for one in item["status"]["conditions"] if one["type"] == "EtcdIsVoter"]
    assert voters == ["True"] * 3
