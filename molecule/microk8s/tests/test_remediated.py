"""What a remediated node looks like, read over SSH: not what was written, but what is in force."""

import json

import pytest

KUBELITE = "snap.microk8s.daemon-kubelite"
ENVIRONMENT = {"HTTP2_READ_IDLE_TIMEOUT_SECONDS": "8", "HTTP2_PING_TIMEOUT_SECONDS": "4"}
LEADER_ELECTION = {"--leader-elect-lease-duration=15s", "--leader-elect-renew-deadline=10s", "--leader-elect-retry-period=2s"}
ON_SERVERS = {
    "kube-apiserver": {"--default-not-ready-toleration-seconds=60", "--default-unreachable-toleration-seconds=60"},
    "kube-controller-manager": LEADER_ELECTION | {"--node-monitor-period=5s", "--node-monitor-grace-period=20s"},
    "kube-scheduler": LEADER_ELECTION,
}
EVERYWHERE = {"kubelet": {"--node-status-update-frequency=5s"}, "kube-proxy": {"--proxy-mode=iptables"}}
SYSCTLS = {
    "net.ipv4.tcp_retries2": 8,
    "net.ipv4.tcp_keepalive_time": 60,
    "net.ipv4.tcp_keepalive_intvl": 10,
    "net.ipv4.tcp_keepalive_probes": 6,
}


@pytest.fixture
def name(host):
    return host.check_output("hostname")


def is_server(name):
    return name.startswith("server")


def test_running_components_have_the_flags(host, name):
    expected = {**EVERYWHERE, **(ON_SERVERS if is_server(name) else {})}
    for component, flags in expected.items():
        (process,) = host.process.filter(comm=component[:15])
        running = set(host.file(f"/proc/{process.pid}/cmdline").content_string.split("\0"))
        assert flags <= running, f"{component} on {name} runs with {sorted(running)}"


def test_running_components_have_the_environment(host):
    for component in EVERYWHERE:
        (process,) = host.process.filter(comm=component)
        running = dict(word.partition("=")[::2] for word in host.file(f"/proc/{process.pid}/environ").content_string.split("\0"))
        assert ENVIRONMENT.items() <= running.items()


def test_sysctls_are_set_now_and_at_the_next_boot(host):
    persistent = host.file("/etc/sysctl.d/99-zz-kubekeel.conf")
    for sysctl, value in SYSCTLS.items():
        assert host.sysctl(sysctl) == value
        assert f"{sysctl} = {value}" in persistent.content_string.splitlines()


def test_kubelite_runs_and_has_not_died(host):
    assert host.service(KUBELITE).is_running
    assert host.check_output(f"systemctl show {KUBELITE} --property=NRestarts --value") == "0"


def test_argument_files_keep_owner_and_mode_and_say_it_once(host):
    for component, flags in EVERYWHERE.items():
        file = host.file(f"/var/snap/microk8s/current/args/{component}")
        assert (file.user, file.group, file.mode) == ("root", "root", 0o660)
        for flag in flags:
            assert [line.partition("=")[0] for line in file.content_string.splitlines()].count(flag.partition("=")[0]) == 1


def test_records_are_for_root_only(host):
    runs = host.file("/var/lib/kubekeel/runs")
    for run in runs.listdir():
        assert host.file(f"/var/lib/kubekeel/runs/{run}").mode == 0o700
        assert host.file(f"/var/lib/kubekeel/runs/{run}/record.json").mode == 0o600


def test_every_lease_has_the_new_duration(host, name):
    if not is_server(name):
        pytest.skip("an agent has no administrator's kubeconfig")
    for component in ("kube-controller-manager", "kube-scheduler"):
        found = json.loads(host.check_output(f"microk8s kubectl get lease -n kube-system {component} -o json"))
        assert found["spec"]["leaseDurationSeconds"] == 15
