"""How long connections wait for a peer that is gone: by the sysctls, by what ss prints, and in network namespaces of their own."""

import pathlib
import shutil
import socket
import subprocess
import sys
import time
from typing import Any

import pytest
import yaml
from ansible_collections.kubekeel.ha.plugins.module_utils import distribution, node_files, running_kernel, sysctl_files, tcp_timers
from ansible_collections.kubekeel.ha.plugins.module_utils.tcp_timers import Connection, Network
from ansible_collections.kubekeel.ha.plugins.modules import sysctl_profile, tcp_connections

from .conftest import RunModule

KERNEL = {tcp_timers.RETRIES: 15, tcp_timers.TIME: 7200, tcp_timers.INTERVAL: 75, tcp_timers.PROBES: 9}
WANTED = {tcp_timers.RETRIES: 8, tcp_timers.TIME: 60, tcp_timers.INTERVAL: 10, tcp_timers.PROBES: 6}
# Printed by 'ss -tnoH state established' of iproute2 6.1.0: idle, and then with packets to port 8080 dropped for 13 seconds.
IDLE = """\
0      0      127.0.0.1:8080  127.0.0.1:43282                           
0      0      127.0.0.1:43282 127.0.0.1:8080  timer:(keepalive,119min,0)
0      0      127.0.0.1:43284 127.0.0.1:8080  timer:(keepalive,29sec,0) 
0      0          [::1]:41322     [::1]:8081                            
"""  # noqa: W291
UNANSWERED = """\
0      0       127.0.0.1:8080  127.0.0.1:43282                          
0      5       127.0.0.1:43282 127.0.0.1:8080  timer:(on,1.468ms,4)     
0      0       127.0.0.1:43284 127.0.0.1:8080  timer:(keepalive,23sec,0)
0      3862376     [::1]:41322     [::1]:8081  timer:(on,1.468ms,0)     
32732  0           [::1]:8081      [::1]:41322                          
"""  # noqa: W291
# The same two connections, and an idle one whose probes are lost, with lines as an ss before iproute2 5.6 breaks them.
BROKEN = """\
0      0                                          127.0.0.1:8080
              127.0.0.1:43282
0      5           [2001:db8:0:1:2:3:4:5]:
43282        [2001:db8:0:1:2:3:4:6]:8080
      timer:(on,1.468ms,4)
0      0       127.0.0.1:43284 127.0.0.1:8080
timer:(keepalive,9.5ms,3)
"""
LATER = "0      5       127.0.0.1:43282 127.0.0.1:8080  timer:(on,024ms,5)       \n"


# The numbers of Linux' Documentation/networking/ip-sysctl.rst, and of RFC 1122's 100 s.
@pytest.mark.parametrize(("retries", "seconds"), [(5, 12.6), (6, 25.4), (8, 102.2), (9, 204.6), (10, 324.6), (15, 924.6), (255, 29724.6)])
def test_when_a_connection_is_given_up(retries: int, seconds: float) -> None:
    assert tcp_timers.given_up_after(retries) == pytest.approx(seconds)


def test_when_an_idle_connection_is_given_up() -> None:
    assert [tcp_timers.idle_given_up_after(values) for values in (KERNEL, WANTED)] == [7875, 120]


def test_what_ss_prints() -> None:
    assert tcp_timers.parse(IDLE) == [
        Connection("127.0.0.1:43282", "", 0.0, 0),
        Connection("127.0.0.1:8080", "keepalive", 7140.0, 0),
        Connection("127.0.0.1:8080", "keepalive", 29.0, 0),
        Connection("[::1]:8081", "", 0.0, 0),
    ]
    assert tcp_timers.parse(UNANSWERED)[1] == Connection("127.0.0.1:8080", "on", 1.468, 4)
    assert tcp_timers.parse(LATER)[0] == Connection("127.0.0.1:8080", "on", 0.024, 5)


@pytest.mark.parametrize(("left", "seconds"), [("1min58sec", 118.0), ("200ms", 0.2), ("", 0.0), ("9.007ms", 9.007), ("?", 0.0)])
def test_the_time_that_a_timer_has_left(left: str, seconds: float) -> None:
    # print_ms_timer of iproute2.
    assert tcp_timers.parse(f"0 0 10.0.0.1:1 10.0.0.2:2 timer:(persist,{left},3)")[0] == Connection("10.0.0.2:2", "persist", seconds, 3)


def test_records_of_several_lines() -> None:
    assert tcp_timers.parse(BROKEN) == [
        Connection("127.0.0.1:43282", "", 0.0, 0),
        Connection("[2001:db8:0:1:2:3:4:6]:8080", "on", 1.468, 4),
        Connection("127.0.0.1:8080", "keepalive", 9.005, 3),
    ]


def test_texts_that_ss_does_not_print() -> None:
    assert tcp_timers.parse("timer:(on,1sec,1)\n\n0 0 a:1\n") == []


def test_what_a_network_comes_to() -> None:
    found = tcp_timers.summary([Network(KERNEL, tcp_timers.parse(UNANSWERED)), Network(KERNEL, tcp_timers.parse(LATER))])
    assert found == {
        "connections": 6,
        "keepalive": 1,
        "keepalive_within": 23,
        "without_keepalive": 2,
        "unanswered": 2,
        # 0.2 + 0.4 + 0.8 + 1.6 + 3.2 s: it was there for 13 s.
        "unanswered_for": 6.2,
        "peers": ["127.0.0.1:8080"],
    }
    probed = [Connection("10.0.0.1:80", "keepalive", 5.0, 3), Connection("10.0.0.2:80", "persist", 5.0, 4)]
    seen = tcp_timers.summary([Network(KERNEL, probed), Network(WANTED, [Connection("10.0.0.3:80", "keepalive", 5.0, 1)])])
    assert [seen[name] for name in ("keepalive", "keepalive_within", "without_keepalive", "unanswered")] == [2, 0, 0, 3]
    # Three probes of 75 s, one of 10 s; 0.2 + 0.4 + 0.8 + 1.6 s.
    assert (seen["unanswered_for"], seen["peers"]) == (225.0, ["10.0.0.1:80", "10.0.0.3:80", "10.0.0.2:80"])
    many = [Connection(f"10.0.0.{number}:80", "on", 1.0, number) for number in range(1, 9)]
    assert tcp_timers.summary([Network(KERNEL, many)])["peers"] == [f"10.0.0.{number}:80" for number in (8, 7, 6, 5, 4)]


def lines(host: list[Connection], *pods: Network, wanted: dict[str, int] = WANTED) -> list[str]:
    return tcp_timers.lines({"values": WANTED, **tcp_timers.summary([Network(WANTED, host)])}, tcp_timers.by_values(pods), wanted)


def test_what_is_worth_a_line() -> None:
    assert lines([]) == []
    assert lines(tcp_timers.parse(LATER)) == ["host: 1 connection; 1 without an answer, for 6.2 s or longer: 127.0.0.1:8080"]
    assert lines(tcp_timers.parse(IDLE)) == []
    (line,) = lines(tcp_timers.parse(IDLE + LATER))
    assert line.startswith("host: 5 connections, 2 without keepalive; one is probed in 1 h 59 min only: it is older than")
    kernel = [Network(KERNEL, tcp_timers.parse(IDLE + LATER))]
    assert "is probed" not in "".join(tcp_timers.lines({"values": KERNEL, **tcp_timers.summary(kernel)}, [], WANTED))


def test_pods_are_told_by_what_they_have() -> None:
    idle = tcp_timers.parse(IDLE)[:1]
    kernel, wanted, calm = Network(KERNEL, idle), Network(WANTED, tcp_timers.parse(LATER)), Network(WANTED, [])
    assert lines([], calm, calm) == []
    assert lines([], calm, kernel, kernel, kernel, wanted) == [
        "3 pods with tcp_retries2=15, tcp_keepalive_time=7200, tcp_keepalive_intvl=75, tcp_keepalive_probes=9: a dead peer is noticed "
        "after 15 min 25 s with unanswered data, after 2 h 11 min 15 s where idle with keepalive; 3 connections, 3 without keepalive",
        "2 pods as wanted; 1 connection; 1 without an answer, for 6.2 s or longer: 127.0.0.1:8080",
    ]
    assert "1 pod with tcp_retries2=15: " in lines([], Network({**WANTED, tcp_timers.RETRIES: 15}, []))[0]


@pytest.mark.parametrize(("seconds", "text"), [(25.4, "25.4 s"), (102.2, "102 s"), (924.6, "15 min 25 s"), (7200, "2 h"), (0.2, "0.2 s")])
def test_durations(seconds: float, text: str) -> None:
    assert tcp_timers.duration(seconds) == text


@pytest.mark.parametrize(
    ("choice", "release", "refused"),
    [
        ("safe-sysctls", (1, 28, 15), True),
        ("safe-sysctls", None, True),
        ("safe-sysctls", (1, 29, 0), False),
        ("init-container", (1, 20, 2), False),
        ("cni", (1, 20, 2), False),
    ],
)
def test_safe_sysctls_by_release(choice: str, release: tuple[int, int, int] | None, refused: bool) -> None:
    assert bool(tcp_timers.refusals(choice, release)) is refused


def test_manifests() -> None:
    safe = yaml.safe_load(tcp_timers.manifest("safe-sysctls", WANTED))
    assert safe["spec"]["securityContext"]["sysctls"] == [
        {"name": "net.ipv4.tcp_keepalive_time", "value": "60"},
        {"name": "net.ipv4.tcp_keepalive_intvl", "value": "10"},
        {"name": "net.ipv4.tcp_keepalive_probes", "value": "6"},
    ]
    (init,) = yaml.safe_load(tcp_timers.manifest("init-container", WANTED))["spec"]["initContainers"]
    assert init["command"] == ["sysctl", "-w", *(f"{name}={value}" for name, value in WANTED.items())]
    assert init["securityContext"] == {"privileged": True}
    assert [tcp_timers.manifest(choice, WANTED) for choice in ("none", "cni")] == ["", ""]


def test_the_documentation_shows_these_manifests() -> None:
    text = (pathlib.Path(__file__).parents[2] / "docs/tcp.md").read_text()
    for choice in ("safe-sysctls", "init-container"):
        assert tcp_timers.manifest(choice, WANTED) in text


# -- The module --------------------------------------------------------------------------------------------------------


def can_look() -> bool:
    try:
        with running_kernel.new_network() as path:
            return shutil.which("ss") is not None and running_kernel.in_networks([path], lambda: 1) == [1]
    except node_files.NodeError:
        return False


LOOKS = pytest.mark.skipif(not can_look(), reason="needs ss, and network namespaces, which only root may make")
CLIENT = """
import socket, subprocess, sys
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
server = socket.create_server(("127.0.0.1", 8080))
ends = []
for keepalive in (0, 0, 1):
    client = socket.create_connection(("127.0.0.1", 8080))
    client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, keepalive)
    ends += [client, server.accept()[0]]
print("ready", flush=True)
sys.stdin.read()
"""


@LOOKS
def test_a_pod_s_connections_are_seen_from_outside(run_module: RunModule, monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        running_kernel.new_network() as other,
        subprocess.Popen(
            ["unshare", "--net", sys.executable, "-c", CLIENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as client,
    ):
        assert client.stdout
        assert client.stdout.readline() == "ready\n"
        running_kernel.in_networks([other], lambda: running_kernel.set_sysctl(tcp_timers.RETRIES, "8"))
        paths = [f"/proc/{client.pid}/ns/net", other, "/proc/999999999/ns/net"]
        monkeypatch.setattr(running_kernel, "pod_networks", lambda: paths)
        result = run_module(tcp_connections, wanted=WANTED)
        client.communicate()
    busy, calm = result["pods"]
    assert (busy["count"], busy["values"]) == (1, KERNEL)
    assert [busy[name] for name in ("connections", "keepalive", "without_keepalive", "unanswered")] == [6, 1, 5, 0]
    assert 7000 < busy["keepalive_within"] <= 7200
    assert (calm["values"], calm["connections"]) == ({**KERNEL, tcp_timers.RETRIES: 8}, 0)
    assert result["host"]["values"] == {name: int(running_kernel.sysctl(name)) for name in tcp_timers.SYSCTLS}
    assert (result["changed"], result["reasons"]) == (False, [])
    assert any("6 connections, 5 without keepalive" in line for line in result["lines"])


@LOOKS
def test_the_time_that_it_takes_is_limited(run_module: RunModule, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcp_connections, "SECONDS", 0)
    assert run_module(tcp_connections)["lines"] == ["cannot be looked at: 0 seconds were not enough"]


@LOOKS
def test_a_failure_in_one_network_leaves_the_others(run_module: RunModule, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(paths: list[str], look: Any) -> list[Any]:
        if paths == ["locked"]:
            raise node_files.NodeError("network namespaces cannot be looked into: Operation not permitted")
        return enter(paths, look)

    enter = running_kernel.in_networks
    monkeypatch.setattr(running_kernel, "in_networks", fail)
    with running_kernel.new_network() as path:
        monkeypatch.setattr(running_kernel, "pod_networks", lambda: ["locked", path])
        result = run_module(tcp_connections, wanted=WANTED)
    assert result["host"]["values"]
    assert [group["count"] for group in result["pods"]] == [1]
    assert result["lines"][-1] == ("cannot be looked at in 1 of 2 pods: network namespaces cannot be looked into: Operation not permitted")


def test_a_pod_whose_network_the_host_entered_is_a_pod(monkeypatch: pytest.MonkeyPatch) -> None:
    networks = {"self": "net:[1]", "1": "net:[1]", "2": "net:[2]", "3": "net:[2]", "4": "net:[2]", "5": "net:[3]"}
    monkeypatch.setattr("os.listdir", lambda _: ["1", "2", "3", "4", "5", "sys"])
    monkeypatch.setattr(running_kernel, "_network_of", lambda path: networks[path.split("/")[2]])
    monkeypatch.setattr(running_kernel, "_is_of_a_pod", lambda process: process in ("3", "4"))
    assert running_kernel.pod_networks() == ["/proc/3/ns/net"]


@LOOKS
def test_networks_of_others_are_no_pods() -> None:
    with running_kernel.new_network() as path:
        assert path not in running_kernel.pod_networks()


@LOOKS
def test_what_fails_in_a_network_is_told() -> None:
    with running_kernel.new_network() as path, pytest.raises(node_files.NodeError, match=r"there is no sysctl net\.ipv4\.x"):
        running_kernel.in_networks([path], lambda: running_kernel.sysctl("net.ipv4.x"))


def test_a_node_without_ss_is_told(run_module: RunModule, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcp_connections, "SS", ("no-such-ss",))
    result = run_module(tcp_connections)
    assert result["lines"] == ["cannot be looked at: ss is missing; install iproute2"]
    # Nothing to be mended: an audit does not fail of it.
    assert "findings" not in result


def test_the_choice_is_refused_where_the_release_cannot(run_module: RunModule, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distribution, "find", lambda _: None)
    monkeypatch.setattr(tcp_connections, "SS", ("no-such-ss",))
    for release, refused in (("v1.28.4+k3s1", True), ("v1.29.0", False)):
        monkeypatch.setattr(distribution, "release", lambda *_, release=release: release)
        result = run_module(tcp_connections, pods="safe-sysctls", wanted=WANTED)
        assert bool(result["reasons"]) is refused
        assert bool(result["manifest"]) is not refused


@pytest.mark.parametrize("wanted", [{"net.core.somaxconn": 1}, {tcp_timers.RETRIES: "many"}, {tcp_timers.RETRIES: None}])
def test_wanted_values_that_cannot_be_meant(run_module: RunModule, wanted: dict[str, Any]) -> None:
    assert "and a number are needed" in run_module(tcp_connections, wanted=wanted)["msg"]


# -- Sysctls at the next boot ------------------------------------------------------------------------------------------

NAME = "net.ipv4.tcp_retries2"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("net.ipv4.tcp_retries2 = 5", "5"),
        ("net/ipv4/tcp_retries2=5", "5"),
        # Only that an error is not complained of.
        ("-net.ipv4.tcp_retries2 = 5", "5"),
        ("net.ipv4.tcp_* = 5", "5"),
        ("net.ipv4.* = 5", "5"),
        ("net.*.tcp_retries2 = 5", "5"),
        # A '*' is no '/': systemd looks for files below /proc/sys.
        ("net.* = 5", None),
        ("*tcp_retries2 = 5", None),
        # The name itself counts more than a glob, whichever comes first, and '-name' alone keeps it from globs.
        ("net.ipv4.tcp_retries2 = 6\nnet.ipv4.* = 5", "6"),
        ("net.ipv4.* = 5\n-net.ipv4.tcp_retries2", None),
        ("-net.ipv4.tcp_retries2\nnet.ipv4.* = 5", None),
        ("-net.ipv4.tcp_retries2\nnet.ipv4.tcp_retries2 = 7", "7"),
        ("# net.ipv4.tcp_retries2 = 5\n; net.ipv4.tcp_retries2 = 5\nnet.ipv4.tcp_retries2", None),
    ],
)
def test_which_line_counts_at_boot(text: str, expected: str | None) -> None:
    path = "/etc/sysctl.d/99-x.conf"
    found = sysctl_files.at_boot(NAME, {path: sysctl_files.parse(text)})
    assert found == (None if expected is None else (expected, path))


def test_an_interface_is_one_part_of_a_name() -> None:
    files = {"/etc/sysctl.d/1.conf": sysctl_files.parse("net.ipv4.conf.*.rp_filter = 2\n-net.ipv4.conf.all.rp_filter\n")}
    found = {name: sysctl_files.at_boot(f"net.ipv4.conf.{name}.rp_filter", files) for name in ("eth0/1", "all")}
    assert found == {"eth0/1": ("2", "/etc/sysctl.d/1.conf"), "all": None}


class Boot:
    """The folders of sysctl.d, a running kernel, and the module's file among them."""

    def __init__(self, folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch, run_module: RunModule) -> None:
        self.folder, self.proc = folder, folder / "proc"
        self.folders = [folder / name for name in ("etc/sysctl.d", "run/sysctl.d", "usr/lib/sysctl.d")]
        for each in (self.proc, *self.folders):
            each.mkdir(parents=True)
        (self.proc / NAME).write_text("15\n")
        monkeypatch.setattr(sysctl_files, "FOLDERS", tuple(map(str, self.folders)))
        monkeypatch.setattr(sysctl_files, "proc_path", lambda name: str(self.proc / name))
        self.ours = self.folders[0] / "99-zz-kubekeel.conf"
        self.run = lambda **more: run_module(sysctl_profile, settings={NAME: 8}, path=str(self.ours), **more)


@pytest.fixture
def boot(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, run_module: RunModule) -> Boot:
    return Boot(tmp_path, monkeypatch, run_module)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("etc/sysctl.d/99-zzz-mine.conf", "net.ipv4.tcp_retries2 = 15"),
        ("run/sysctl.d/zz.conf", "-net/ipv4/tcp_retries2 = 15"),
        ("usr/lib/sysctl.d/99-zzz.conf", "net.ipv4.tcp_retries2=15"),
    ],
)
def test_a_file_that_sorts_later_is_refused_before_anything_changes(boot: Boot, name: str, text: str) -> None:
    (boot.folder / name).write_text(text + "\n")
    checked, made = boot.run(check=True), boot.run()
    assert checked["overridden"] == [{"name": NAME, "value": "15", "path": str(boot.folder / name)}]
    assert f"{boot.folder / name} sets {NAME} = 15, and counts more than {boot.ours}" in checked["reasons"][0]
    assert made["failed"] is True
    assert made["reasons"] == checked["reasons"]
    assert ((boot.proc / NAME).read_text(), boot.ours.exists()) == ("15\n", False)


def test_a_later_line_that_takes_the_value_back_is_refused(boot: Boot) -> None:
    later = boot.folder / "etc/sysctl.d/99-zzz-mine.conf"
    later.write_text(f"-{NAME}\n")
    made = boot.run(check=True)
    assert made["overridden"] == [{"name": NAME, "value": "the kernel's default", "path": str(later)}]
    assert made["effective"] == {NAME: {"runtime": "8", "boot": None}}
    assert f"{later} has '-{NAME}', and counts more than {boot.ours}" in made["reasons"][0]
    later.rename(later.with_name("10-mine.conf"))
    assert boot.run()["reasons"] == []


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("etc/sysctl.d/10-network.conf", "net.ipv4.tcp_retries2 = 15"),
        ("usr/lib/sysctl.d/50-default.conf", "net.ipv4.tcp_retries2 = 15"),
        ("run/sysctl.d/99-zz-kubekeel.conf", "net.ipv4.tcp_retries2 = 15"),
        ("etc/sysctl.d/99-zzz.conf", "net.ipv4.tcp_* = 15"),
        ("etc/sysctl.d/99-zzz.conf", "net.ipv4.tcp_retries2 = 8"),
        ("etc/sysctl.d/99-zzz.conf.dpkg-old", "net.ipv4.tcp_retries2 = 15"),
    ],
)
def test_a_file_that_counts_less_is_none_of_its_business(boot: Boot, name: str, text: str) -> None:
    (boot.folder / name).write_text(text + "\n")
    assert boot.run()["reasons"] == []
    assert (boot.proc / NAME).read_text() == "8\n"


def test_debian_s_sysctl_conf_counts_by_its_link_only(boot: Boot) -> None:
    debian = boot.folder / "etc/sysctl.conf"
    debian.write_text("net.ipv4.tcp_retries2 = 15\n")
    assert boot.run()["reasons"] == []
    # Debian's own 99-sysctl.conf sorts before ours.
    (boot.folders[0] / "99-sysctl.conf").symlink_to("../sysctl.conf")
    assert boot.run()["reasons"] == []
    (boot.folders[0] / "99-zz-sysctl.conf").symlink_to("../sysctl.conf")
    assert f"{boot.folders[0]}/99-zz-sysctl.conf sets" in boot.run(check=True)["reasons"][0]
    (boot.folders[0] / "99-zz-sysctl.conf").unlink()
    (boot.folders[2] / "99-zz-sysctl.conf").write_text("net.ipv4.tcp_retries2 = 15\n")
    assert boot.run(check=True)["reasons"] != []
    (boot.folders[0] / "99-zz-sysctl.conf").symlink_to("/dev/null")
    assert boot.run(check=True)["reasons"] == []


def test_the_kernel_keeps_a_timer_that_runs() -> None:
    """What docs/tcp.md says of keepalive: see that it is still so on the kernel of the tests."""
    if not can_look():
        pytest.skip("needs ss, and network namespaces, which only root may make")

    def left() -> list[float]:
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        with socket.create_server(("127.0.0.1", 8080)) as server, socket.create_connection(("127.0.0.1", 8080)) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            with server.accept()[0] as other:
                running_kernel.set_sysctl(tcp_timers.TIME, "60")
                client.send(b"x")
                assert other.recv(1) == b"x"
                text: str = tcp_connections.look("ss", time.monotonic() + 30)["text"]
        return [one.left for one in tcp_timers.parse(text) if one.timer == "keepalive"]

    with running_kernel.new_network() as path:
        ((seconds,),) = running_kernel.in_networks([path], left)
    assert seconds > 7000
