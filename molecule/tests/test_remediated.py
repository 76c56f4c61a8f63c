"""What a remediated node looks like, read over SSH: not what was written, but what is in force."""

import json

import pytest

LEADER_ELECTION = {"--leader-elect-lease-duration=15s", "--leader-elect-renew-deadline=10s", "--leader-elect-retry-period=2s"}
WITH_THE_API = {
    "kube-apiserver": {"--default-not-ready-toleration-seconds=60", "--default-unreachable-toleration-seconds=60"},
    "kube-controller-manager": LEADER_ELECTION | {"--node-monitor-period=5s", "--node-monitor-grace-period=20s"},
    "kube-scheduler": LEADER_ELECTION,
}
EVERYWHERE = {"kubelet": {"--node-status-update-frequency=5s"}, "kube-proxy": {"--proxy-mode=iptables"}}
ENVIRONMENT = {"HTTP2_READ_IDLE_TIMEOUT_SECONDS": "8", "HTTP2_PING_TIMEOUT_SECONDS": "4"}
SYSCTLS = {
    "net.ipv4.tcp_retries2": 8,
    "net.ipv4.tcp_keepalive_time": 60,
    "net.ipv4.tcp_keepalive_intvl": 10,
    "net.ipv4.tcp_keepalive_probes": 6,
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
        assert found["spec"]["leaseDurationSeconds"] == 15


def test_every_node_with_etcd_is_a_voter(host, node):
    if not (node.is_k3s and node.has_api):
        pytest.skip("K3s alone tells")
    found = json.loads(host.check_output("k3s kubectl get nodes -l node-role.kubernetes.io/etcd -o json"))
    voters = [one["status"] for item in found["items"] for one in item["status"]["conditions"] if one["type"] == "EtcdIsVoter"]
    assert voters == ["True"] * 3
