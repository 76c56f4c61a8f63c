"""The lab's virtual machine, without QEMU: what lies in it, how it is found and reached, and its stand-ins."""

import contextlib
import importlib
import importlib.machinery
import importlib.util
import os
import pathlib
import platform
import signal
import socket
import subprocess
import sys
import threading
import time
import types
from collections.abc import Iterator

import pytest
import yaml

from lab import cli, inventory, lifecycle, podman, requirements
from lab.archive import File, Link
from lab.cache import Cache
from lab.distributions import find
from lab.errors import LabError, UsageError
from lab.secrets import Secrets
from lab.state import State, load
from lab.topology import Role, Topology, plan
from lab.vm import accelerator, check_counts, guest, image, machine
from lab.vm.accelerator import QEMU
from lab.vm.lifecycle import ssh_command, with_ports
from lab.vm.machine import Machine

FILES = pathlib.Path(__file__).parents[2] / "lab/node/vm"
SNAP = FILES / "snap/microk8s/current"
STAND_INS = FILES / "usr/local/lib/kubekeel-lab/vm"
PACKAGE = "kubekeel_lab_vm"


def stand_in(name: str) -> types.ModuleType:
    """Import a part of the stand-ins, which lie where no import would look."""
    if PACKAGE not in sys.modules:
        spec = importlib.util.spec_from_file_location(PACKAGE, STAND_INS / "__init__.py", submodule_search_locations=[str(STAND_INS)])
        assert spec is not None
        sys.modules[PACKAGE] = importlib.util.module_from_spec(spec)
    return importlib.import_module(f"{PACKAGE}.{name}")


nftables_proxy, node_agent = stand_in("nftables_proxy"), stand_in("node_agent")


@pytest.fixture
def topology() -> Topology:
    return with_ports(plan("x", "10.89.0.0/24", find("vm").pod_network, check_counts("plain", None, None)))


@pytest.fixture
def lab(topology: Topology, tmp_path: pathlib.Path) -> State:
    return State(tmp_path / "labs" / "x", topology, "vm", "v1.20.2", tmp_path / "inventory", 16443)


# What is in the machine


def test_the_machine_has_each_file_once_and_nothing_for_pods(topology: Topology) -> None:
    secrets = Secrets.create(topology)
    files = list(guest.entries(topology, topology.find("node1"), secrets, "v1.20.2"))
    paths = [entry.path for entry in files]
    assert len(paths) == len(set(paths))
    assert not [path for path in paths if "containerd.service" in path or "pod-image" in path or path.endswith("kubekeel-lab/init")]
    found = {entry.path: entry for entry in files}

    def text(path: str) -> str:
        entry = found[path]
        assert isinstance(entry, File)
        return entry.content.decode()

    # Links of MicroK8s to programs that a machine does not have gave way.
    assert "nftables" in text("snap/microk8s/2074/kube-proxy")
    assert "containerd.sock" not in text("snap/microk8s/2074/run-kubelite-with-args")
    assert "version: v1.32" in text("snap/microk8s/2074/meta/snap.yaml")
    assert text("etc/kubekeel-lab/kubelet-version") == "v1.20.2\n"
    assert text("etc/hostname") == "node1\n"
    assert "address replace 10.0.2.15/24 dev eth0" in text("etc/kubekeel-lab/network")
    assert "address replace 10.1.7.3/32 dev backends" in text("etc/kubekeel-lab/network")
    assert text("srv/kubekeel-lab/10.1.7.2/index.html") == "10.1.7.2\n"
    assert "10.89.0.11:16443" in text("var/snap/microk8s/2074/args/apiserver-proxy-config")
    assert text("etc/ssh/ssh_host_ed25519_key.pub").strip() == secrets.host_keys["node1"].public
    enabled = {pathlib.Path(path).name for path in paths if ".wants/" in path}
    assert {"snap.microk8s.daemon-kubelite.service", "snap.microk8s.daemon-apiserver-proxy.service"} < enabled
    wants = {path: entry for path, entry in found.items() if "kubekeel-lab-web@" in path and ".wants/" in path}
    assert len(wants) == 2
    for entry in wants.values():
        assert isinstance(entry, Link)
        assert entry.target.lstrip("/") in found
    assert "-p %i:8080" in text("etc/systemd/system/kubekeel-lab-web@.service")


def test_the_server_beside_it_knows_no_route_through_it(topology: Topology) -> None:
    assert [node.name for node in topology.containers.nodes] == ["server1"]
    assert [node.name for node in topology.guests] == ["node1"]
    assert [node.name for node in topology.agents] == ["node1"]


def test_debian_s_package_without_a_number_names_the_kernel() -> None:
    # apt-cache depends linux-image-cloud-amd64, Debian 12
    printed = "linux-image-cloud-amd64\n  Depends: linux-image-6.1.0-56-cloud-amd64\n"
    assert image.kernel_package(printed) == "linux-image-6.1.0-56-cloud-amd64"
    with pytest.raises(LabError, match="names no kernel"):
        image.kernel_package("linux-image-cloud-amd64\n  Depends: linux-base\n")


# How it is reached


def test_known_hosts_inventory_and_ssh_name_the_same_port(lab: State, tmp_path: pathlib.Path) -> None:
    node = lab.topology.find("node1")
    secrets = Secrets.create(lab.topology)
    lab.write(secrets)
    looked_up = subprocess.run(
        ["ssh-keygen", "-F", f"[127.0.0.1]:{node.ssh_port}", "-f", lab.known_hosts], capture_output=True, text=True, check=True
    )
    assert secrets.host_keys["node1"].public in looked_up.stdout
    assert load(Cache(tmp_path), "x") == lab
    found = yaml.safe_load(inventory.render(lab))["all"]
    (host,) = found["children"]["agents"]["hosts"].values()
    assert host == {"ansible_host": "127.0.0.1", "ansible_port": node.ssh_port}
    assert found["vars"]["kubekeel_distribution"] == "microk8s"
    # The container shares this host's kernel, the machine has its own.
    assert "kube_proxy_mode" not in found["vars"]
    assert found["children"]["servers"]["hosts"]["server1"]["kube_proxy_mode"] == "iptables"
    command = ssh_command(lab, node, ["sh", "-c", "echo a  b"])
    assert command[command.index("-p") + 1] == str(node.ssh_port)
    assert command[-1] == "sudo -- sh -c 'echo a  b'"


@pytest.mark.parametrize(("said", "expected"), [(b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n", True), (b"", False), (b"HTTP/1.0 400\r\n", False)])
def test_only_what_sshd_says_counts(tmp_path: pathlib.Path, said: bytes, expected: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            # As QEMU: it takes the connection, whoever is behind it.
            connection, _ = server.accept()
            with connection:
                connection.sendall(said)
                # Until the other side is content, or tired.
                with contextlib.suppress(ConnectionError):
                    connection.recv(1)

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        assert machine.answers(Machine("x", tmp_path, server.getsockname()[1])) is expected
        thread.join(5)


# Its process


def looks_like(name: str, disk: pathlib.Path) -> subprocess.Popen[bytes]:
    """Start a process that is called like a program and has a disk on its command line."""
    words = [name, "-c", "read _", f"if=none,file={disk},cache=unsafe"]
    process = subprocess.Popen(words, executable="/bin/sh", stdin=subprocess.PIPE)
    # A program has begun some moments before the kernel shows its words.
    deadline = time.monotonic() + 10
    while not pathlib.Path(f"/proc/{process.pid}/cmdline").read_bytes() and time.monotonic() < deadline:
        time.sleep(0.01)
    return process


@pytest.fixture
def running(tmp_path: pathlib.Path) -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    """Processes that look like QEMU's, by the folder of their disk, and one that only mentions such a disk."""
    disk = "node1/root.img"
    started = {
        "x": looks_like(QEMU, tmp_path / "x" / disk),
        "x2": looks_like(QEMU, tmp_path / "x2" / disk),
        "tail": looks_like("tail", tmp_path / "x" / disk),
    }
    yield started
    for process in started.values():
        process.kill()
        process.communicate()


def test_a_lab_s_machines_are_found_and_ended_without_a_record(tmp_path: pathlib.Path, running: dict[str, subprocess.Popen[bytes]]) -> None:
    assert [found.pid for found in machine.processes(tmp_path / "x")] == [running["x"].pid]
    # A zombie has no command line any more: nobody has to reap it first.
    machine.cut(tmp_path / "x")
    assert running["x"].wait(5) == -signal.SIGKILL
    assert running["x2"].poll() is None
    assert running["tail"].poll() is None
    assert not machine.is_on(Machine("x", tmp_path / "x" / "node1", 1))


def test_removing_a_lab_that_never_came_up_ends_its_machine(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(podman, "remove_lab", lambda _lab: None)
    cache = Cache(tmp_path)
    cache.state("x").mkdir(parents=True)
    with looks_like(QEMU, cache.state("x") / "node1/root.img") as process:
        lifecycle.remove(cache, "x", tmp_path / "inventory")
        assert process.wait(5) == -signal.SIGKILL
    assert not cache.state("x").exists()


def test_qemu_s_own_words_tell_why_it_does_not_start(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "qemu"
    program.write_text("#!/bin/sh\necho \"qemu: Could not set up host forwarding rule 'tcp:127.0.0.1:1-:22'\" >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setattr(machine, "find_program", lambda _name: str(program))
    base = tmp_path / "base"
    base.mkdir()
    (base / "vmlinuz-6.1.0").touch()
    (tmp_path / "node1").mkdir()
    (tmp_path / "node1" / "base").symlink_to(base)
    with pytest.raises(LabError, match=r"(?s)code 1.*Could not set up host forwarding"):
        machine.start(Machine("x", tmp_path / "node1", 1), "tcg")


# What it runs on


def test_the_accelerator_is_the_user_s_choice_or_what_was_tried(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache, base = Cache(tmp_path), image.Base(tmp_path)
    tried: list[bool] = []

    def probe(*_: object) -> bool:
        tried.append(True)
        return False

    monkeypatch.setattr(accelerator, "probe", probe)
    monkeypatch.setattr(accelerator, "DEVICE", tmp_path)
    assert accelerator.choose(cache, base, {"KUBEKEEL_VM_ACCEL": "kvm"}) == "kvm"
    assert not tried
    # A device that opens is not enough; it is tried once for each boot of the host.
    assert [accelerator.choose(cache, base, {}) for _ in range(2)] == ["tcg", "tcg"]
    assert len(tried) == 1
    boot = tmp_path / "boot_id"
    boot.write_text("another\n")
    monkeypatch.setattr(accelerator, "BOOT_ID", boot)
    assert accelerator.choose(cache, base, {}) == "tcg"
    assert len(tried) == 2
    monkeypatch.setattr(accelerator, "DEVICE", tmp_path / "none")
    boot.write_text("a third\n")
    assert accelerator.choose(cache, base, {}) == "tcg"
    assert len(tried) == 2
    with pytest.raises(UsageError, match="KUBEKEEL_VM_ACCEL=hvf: there are kvm and tcg"):
        accelerator.choose(cache, base, {"KUBEKEEL_VM_ACCEL": "hvf"})


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("echo 'Kernel panic - not syncing: VFS: Unable to mount root fs'", True),
        # Seen within a virtual machine: the device opens, and QEMU dies, or runs for ever without a word.
        ("echo 'error: failed to set MSR 0x10a to 0x69' >&2; exit 134", False),
        ("exec sleep 60", False),
        ("exit 0", False),
    ],
)
def test_kvm_works_where_a_kernel_runs(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, script: str, expected: bool) -> None:
    program = tmp_path / "qemu"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    (tmp_path / "vmlinuz-6.1.0").touch()
    monkeypatch.setattr(accelerator, "find_program", lambda _name: str(program))
    monkeypatch.setattr(accelerator, "PROBE_SECONDS", 1.0)
    assert accelerator.probe(image.Base(tmp_path), tmp_path) is expected


# What is refused


@pytest.mark.parametrize("arguments", [("split", None, None), ("plain", 3, None), ("plain", None, 1)])
def test_nobody_chooses_the_number_of_nodes(arguments: tuple[str, int | None, int | None]) -> None:
    assert check_counts("plain", None, None) == {Role.SERVER: 1, Role.GUEST: 1}
    with pytest.raises(UsageError, match="one server and one virtual machine"):
        check_counts(*arguments)


def test_commands_that_need_containers_say_so(lab: State) -> None:
    with pytest.raises(UsageError, match="'shake' is for labs of containers; 'x' has a virtual machine"):
        cli.without_machines(lab, "shake")


def test_a_missing_package_comes_with_its_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requirements, "find_program", lambda _name: None)
    with pytest.raises(LabError, match=r"(?s)qemu-system-x86 e2fsprogs.*python -m lab requirements --vm"):
        find("vm").check()
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    with pytest.raises(LabError, match="is for x86_64, this host is aarch64"):
        find("vm").check()


# Its stand-ins


@pytest.mark.parametrize(
    ("words", "becomes"),
    [
        (["--kubeconfig=k"], "real"),
        (["--proxy-mode=ipvs"], "real"),
        (["--proxy-mode=nftables"], "stand-in"),
        (["--proxy-mode", "nftables"], "stand-in"),
        # As in kube-proxy itself, the last one counts.
        (["--proxy-mode=nftables", "--proxy-mode=iptables"], "real"),
    ],
)
def test_kube_proxy_is_the_real_one_but_for_nftables(monkeypatch: pytest.MonkeyPatch, words: list[str], becomes: str) -> None:
    monkeypatch.syspath_prepend(STAND_INS.parent)
    loader = importlib.machinery.SourceFileLoader("kubekeel_lab_kube_proxy", str(SNAP / "kube-proxy"))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec is not None
    program = importlib.util.module_from_spec(spec)
    loader.exec_module(program)
    became: list[tuple[str, list[str]]] = []

    def execv(_path: str, arguments: list[str]) -> None:
        became.append(("real", arguments[1:]))
        raise SystemExit

    def main(arguments: list[str]) -> None:
        became.append(("stand-in", arguments))
        raise SystemExit

    monkeypatch.setattr(os, "execv", execv)
    monkeypatch.setattr(program.nftables_proxy, "main", main)
    monkeypatch.setattr(sys, "argv", ["kube-proxy", *words])
    with pytest.raises(SystemExit):
        program.main()
    assert became == [(becomes, words)]


def service(name: str, address: str, *ports: dict[str, object]) -> dict[str, object]:
    return {"metadata": {"namespace": "default", "name": name}, "spec": {"clusterIP": address, "ports": list(ports)}}


def endpoints(name: str, *subsets: dict[str, object]) -> dict[str, object]:
    return {"metadata": {"namespace": "default", "name": name}, "subsets": list(subsets)}


def test_ports_of_services_find_who_serves_them() -> None:
    both = {"addresses": [{"ip": "10.1.7.3"}, {"ip": "10.1.7.2"}], "ports": [{"name": "a", "port": 1}, {"name": "b", "port": 2}]}
    late = {"notReadyAddresses": [{"ip": "10.1.7.9"}], "ports": [{"name": "a", "port": 1}]}
    services = [
        service("web", "10.152.183.80", {"name": "a", "port": 80}, {"name": "b", "port": 81, "protocol": "UDP"}),
        service("headless", "None", {"port": 80}),
        service("empty", "10.152.183.81", {"port": 80}),
    ]
    found = {each.name: each for each in nftables_proxy.service_ports(services, [endpoints("web", both, late)])}
    assert found["default/web/tcp/a"].endpoints == (("10.1.7.2", 1), ("10.1.7.3", 1))
    assert found["default/web/udp/b"].endpoints == (("10.1.7.2", 2), ("10.1.7.3", 2))
    assert found["default/empty/tcp/"].endpoints == ()
    assert len(found) == 3


def rules() -> str:
    services = [
        service("web", "10.152.183.80", {"port": 80}),
        service("six", "fd00::1", {"port": 53, "protocol": "UDP"}),
        service("empty", "10.152.183.81", {"port": 80}),
    ]
    serving = [
        endpoints("web", {"addresses": [{"ip": "10.1.7.2"}, {"ip": "10.1.7.3"}], "ports": [{"port": 8080}]}),
        endpoints("six", {"addresses": [{"ip": "fd00::2"}], "ports": [{"port": 53}]}),
    ]
    text: str = nftables_proxy.ruleset(list(nftables_proxy.service_ports(services, serving)), "10.1.0.0/16")
    return text


def test_the_rules_share_requests_out_and_reject_what_nobody_serves() -> None:
    four, six = rules().split("add table ip6 kube-proxy")
    web = next(line for line in four.splitlines() if "/web/" in line and "chain service-" in line)
    assert "ip saddr != 10.1.0.0/16 jump mark-for-masquerade" in web
    assert web.count("goto endpoint-") == 2
    assert "numgen random mod 2" in web
    assert "10.152.183.81 . tcp . 80 : goto reject-chain" in four
    assert "fd00::" not in four
    assert "udp dnat to [fd00::2]:53" in six
    # Pods are of the other family: nothing could be said about where a request comes from.
    assert "10.1." not in six
    assert nftables_proxy.ruleset([], "") != ""


@pytest.mark.parametrize(("address", "expected"), [("127.0.0.1", "127.0.0.1:10256"), ("0.0.0.0:1", "0.0.0.0:1"), ("[::1]:7", "[::1]:7")])
def test_addresses_without_a_port_get_kube_proxy_s(address: str, expected: str) -> None:
    assert nftables_proxy.with_port(address, nftables_proxy.HEALTHZ) == expected


def test_labels_of_the_node_are_those_of_the_flag_and_a_kubelet_s_own() -> None:
    found = node_agent.labels("microk8s.io/cluster=true,node.kubernetes.io/microk8s-worker=microk8s-worker", "node1")
    assert found["microk8s.io/cluster"] == "true"
    assert found["kubernetes.io/hostname"] == "node1"
    assert node_agent.labels("", "node1").keys() == {"kubernetes.io/hostname", "kubernetes.io/os", "kubernetes.io/arch"}
