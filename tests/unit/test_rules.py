"""The rules, each against a table."""

import pytest
from ansible_collections.kubekeel.ha.plugins.module_utils import (
    go_duration,
    proxy_mode,
    release,
    settings,
    sysctl_files,
    timing,
    unit_environment,
)

GOOD = {
    "lease_duration": "15s",
    "renew_deadline": "10s",
    "retry_period": "2s",
    "election_timeout": "4s",
    "etcd_heartbeat_interval": "500ms",
    "monitor_period": "5s",
    "monitor_grace_period": "20s",
    "status_update_frequency": "5s",
    "node_lease_duration": "40s",
    "http2_read_idle_timeout": "8s",
    "http2_ping_timeout": "4s",
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [("15s", 15), ("1m30s", 90), ("500ms", 0.5), ("0", 0), ("1.5h", 5400), (".5s", 0.5), ("1h1m1s", 3661), ("100us", 1e-4)],
)
def test_durations(text, expected):
    assert go_duration.seconds(text) == expected


@pytest.mark.parametrize("text", ["", "15", "s", "-1s", "15 s", "1d", "15sec", "1,5s", "٣s", "1s\n", "1" * 100_000])
def test_no_durations(text):
    with pytest.raises(ValueError, match="is not a duration"):
        go_duration.seconds(text)


def test_good_set_breaks_no_rule():
    assert timing.violations(GOOD) == []


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"lease_duration": "10s"}, "longer than the renew deadline"),
        ({"renew_deadline": "2400ms", "election_timeout": "200ms", "etcd_heartbeat_interval": "20ms"}, "1.2 x the retry period"),
        ({"retry_period": "0s"}, "retry period must be longer than 0"),
        ({"monitor_period": "20s"}, "longer than the monitor period"),
        ({"monitor_period": "0"}, "monitor period must be longer than 0"),
        ({"monitor_grace_period": "19s"}, "at least 2 heartbeats"),
        ({"node_lease_duration": "41s"}, "at least 2 heartbeats"),
        ({"node_lease_duration": "0s"}, "node lease duration must be longer than 0"),
        ({"election_timeout": "4001ms"}, "within two election time-outs"),
        ({"etcd_heartbeat_interval": "801ms"}, "at least 5 of its heartbeats"),
        ({"status_update_frequency": "0s"}, "status update frequency"),
        ({"http2_read_idle_timeout": "16s"}, "HTTP/2 read idle + ping"),
        ({"http2_read_idle_timeout": "0s"}, "switches the health check off"),
        ({"lease_duration": "15"}, "lease_duration: '15' is not a duration"),
    ],
)
def test_broken_sets_name_rule_values_and_source(change, part):
    (found,) = timing.violations({**GOOD, **change})
    assert part in found
    assert next(iter(change.values())) in found


def test_without_a_node_lease_duration_the_kubelets_own_counts():
    assert timing.violations({"monitor_grace_period": "20s"}) == []
    assert "node_lease_duration=40s" in timing.violations({"monitor_grace_period": "19s"})[0]
    assert timing.violations({"monitor_grace_period": "8s", "node_lease_duration": "4s"}) == []


def test_kubernetes_defaults_with_a_grace_period_of_20s_are_refused():
    article = {"monitor_grace_period": "20s", "http2_read_idle_timeout": "30s", "http2_ping_timeout": "15s"}
    assert "kubernetes/kubernetes#121793" in timing.violations(article)[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("v1.32.3+k3s1", (1, 32, 3)),
        ("version: v1.20.2", (1, 20, 2)),
        ("6.1.0-13-amd64", (6, 1, 0)),
        ("nft v1.0.6", (1, 0, 6)),
        ("x", None),
        ("v1." + "9" * 5000, None),
        ("v\u0661.\u0662", None),
    ],
)
def test_releases(text, expected):
    assert release.parse_release(text) == expected


@pytest.mark.parametrize(
    ("component", "flag", "running", "part"),
    [
        ("kube-controller-manager", "pod-eviction-timeout", (1, 27, 0), "gone since 1.27"),
        ("kube-controller-manager", "pod-eviction-timeout", None, "gone since 1.27"),
        ("kubelet", "container-runtime", (1, 30, 1), "gone since 1.27"),
        ("kube-apiserver", "node-connection-retry", (1, 20, 2), "does not exist"),
        ("kube-controller-manager", "attach-detach-reconcile-max-wait-unmount-duration", (1, 20, 2), "never merged"),
        ("kube-scheduler", "node-monitor-grace-period", (1, 20, 2), "is a flag of kube-controller-manager"),
    ],
)
def test_flags_that_end_a_component(component, flag, running, part):
    with pytest.raises(ValueError, match=part):
        settings.check_flag(component, flag, running)


@pytest.mark.parametrize(
    ("component", "flag", "running"),
    [
        ("kube-controller-manager", "pod-eviction-timeout", (1, 26, 9)),
        ("kubelet", "container-runtime", (1, 20, 2)),
        ("kubelet", "container-runtime-endpoint", (1, 30, 0)),
        ("kube-scheduler", "leader-elect-lease-duration", None),
        ("kubelet", "max-pods", None),
    ],
)
def test_flags_that_are_fine(component, flag, running):
    settings.check_flag(component, flag, running)


def node(release=(1, 33, 0), kernel=(6, 1, 0), modules=(), tools=("ipset", "ipvsadm", "nft"), nft=(1, 0, 6)):
    return proxy_mode.Node(release, kernel, frozenset(modules), dict.fromkeys(tools, ""), nft)


IPVS = ("ip_vs", "ip_vs_rr", "ip_vs_wrr", "ip_vs_sh", "nf_conntrack")


@pytest.mark.parametrize(
    ("mode", "seen", "reason"),
    [
        ("ipvs", node(modules=IPVS[1:]), "no module ip_vs:"),
        ("ipvs", node(modules=IPVS, release=(1, 43, 0)), "KEP-5495"),
        ("ipvs", node(modules=IPVS, release=(1, 40, 0)), "KEP-5495"),
        ("nftables", node(release=(1, 30, 9)), "cannot run nftables"),
        ("nftables", node(kernel=(5, 10, 0)), "the kernel is 5.10.0"),
        ("nftables", node(nft=(0, 9, 8)), "nft is 0.9.8"),
    ],
)
def test_modes_that_a_node_cannot_run(mode, seen, reason):
    (found,) = proxy_mode.check(mode, "rr", seen).reasons
    assert reason in found


@pytest.mark.parametrize(
    ("mode", "seen"),
    [
        ("iptables", node(tools=())),
        ("ipvs", node(modules=IPVS, release=(1, 39, 5))),
        ("ipvs", node(modules=IPVS, release=None)),
        ("nftables", node()),
    ],
)
def test_modes_that_it_can(mode, seen):
    assert proxy_mode.check(mode, "rr", seen).reasons == []


def test_what_ipvs_needs():
    support = proxy_mode.check("ipvs", "lc", node(modules=(*IPVS, "ip_vs_lc"), release=(1, 35, 0), tools=()))
    assert support.modules == [*IPVS, "ip_vs_lc"]
    assert support.packages == ["ipset", "ipvsadm"]
    assert "deprecated since 1.35" in support.warnings[0]


def test_sysctl_files_parse():
    text = "# note\n; note\n\nnet.ipv4.tcp_retries2=8\n-kernel/x.y = 1 \nnet/ipv4/conf/eth0.1/rp_filter = 1\nno-value\na.b = 1\t2\n"
    expected = [("net.ipv4.tcp_retries2", "8"), ("kernel/x.y", "1"), ("net.ipv4.conf.eth0/1.rp_filter", "1"), ("a.b", "1 2")]
    assert sysctl_files.parse(text) == [(sysctl_files.dotted(name), value) for name, value in expected]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, None),
        ({"/etc/sysctl.d/10-a.conf": [("k", "1")], "/etc/sysctl.d/20-b.conf": [("k", "2")]}, ("2", "/etc/sysctl.d/20-b.conf")),
        ({"/usr/lib/sysctl.d/99-z.conf": [("k", "1")], "/etc/sysctl.d/10-a.conf": [("k", "2")]}, ("1", "/usr/lib/sysctl.d/99-z.conf")),
        ({"/usr/lib/sysctl.d/50-x.conf": [("k", "1")], "/etc/sysctl.d/50-x.conf": [("other", "2")]}, None),
        ({"/etc/sysctl.d/10-a.conf": [("k", "1")], "/etc/sysctl.d/20-b.conf": [("*", "2")]}, ("1", "/etc/sysctl.d/10-a.conf")),
        ({"/etc/sysctl.d/10-a.conf": [("*", "1")]}, ("1", "/etc/sysctl.d/10-a.conf")),
        ({"/etc/sysctl.d/README": [("k", "1")]}, None),
        ({"/etc/sysctl.d/10-a.conf": [("[" * 100_000, "1"), ("?", "2")]}, ("2", "/etc/sysctl.d/10-a.conf")),
    ],
)
def test_which_file_counts_at_boot(files, expected):
    assert sysctl_files.at_boot("k", files) == expected


def test_a_unit_s_environment_survives_a_round_trip():
    variables = {"A": "1", "B": 'with "quotes", \\ and 100%', "C": ""}
    assert unit_environment.parse(unit_environment.render(variables)) == variables
    assert unit_environment.render({}) == ""


@pytest.mark.parametrize(("name", "value"), [("A B", "1"), ("1A", "1"), ("A", "x\ny"), ("A=", "1")])
def test_variables_that_a_dropin_cannot_carry(name, value):
    with pytest.raises(ValueError, match=r"environment variable|cannot be printed"):
        unit_environment.check(name, value)
