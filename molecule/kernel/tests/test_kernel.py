"""The kernel's own view of a node: after each switch of kube-proxy's mode, after a reboot, and after what is refused.

The tests build on each other. The first one finds the node as converge.yml left it, in mode ipvs.
"""

import contextlib
import json
import os
import pathlib
import re
import subprocess
import time
from collections.abc import Callable

import pytest
from testinfra.host import Host

WEB, BACKENDS = "10.152.183.80", ("10.1.7.2", "10.1.7.3")
KUBELITE = "snap.microk8s.daemon-kubelite"
ARGS = "/var/snap/microk8s/current/args/kube-proxy"
MODULES = ("ip_vs", "ip_vs_rr", "ip_vs_wrr", "ip_vs_sh", "nf_conntrack")
SYSCTLS = {"tcp_retries2": "8", "tcp_keepalive_time": "60", "tcp_keepalive_intvl": "10", "tcp_keepalive_probes": "6"}
SCENARIO = pathlib.Path(__file__).parents[1]
KEPT = f"/etc/modules-load.d/kubekeel.conf /etc/sysctl.d/99-zz-kubekeel.conf {ARGS}"
"""Files of which none may change where something is refused."""
ASK = (
    "import collections, json, urllib.request;"
    "ask = lambda _: urllib.request.urlopen('http://%s/', timeout=5).read().decode().strip();"
    "print(json.dumps(collections.Counter(map(ask, range(100)))))" % WEB
)
ONLY_PROXY = ("--skip-tags", "tcp_timeouts")
OLD_PYTHON = "/usr/local/bin/python-on-an-old-kernel"
"""An interpreter to which the kernel says that it is a 2.6: no older one than the machine's own can be had."""


def ansible(playbook: str, *options: str, **variables: object) -> subprocess.CompletedProcess[str]:
    """Run one of the scenario's playbooks, with the inventory and the environment of molecule."""
    inventory = os.environ["MOLECULE_PROJECT_DIRECTORY"] + "/inventories/molecule"
    command = ["ansible-playbook", "-i", inventory, str(SCENARIO / playbook), "-e", json.dumps(variables), *options]
    return subprocess.run(command, env={**os.environ, "ANSIBLE_FORCE_COLOR": "0"}, capture_output=True, text=True, check=False)


def switch(mode: str) -> None:
    """Let the role switch kube-proxy to a mode."""
    done = ansible("converge.yml", *ONLY_PROXY, kube_proxy_mode=mode)
    assert done.returncode == 0, done.stdout[-3000:]


def answers(host: Host) -> dict[str, int]:
    """Ask the Service a hundred times, and count how often each backend answers."""
    found: dict[str, int] = json.loads(host.check_output(f'python3 -c "{ASK}"'))
    return found


def mode_in_force(host: Host) -> str:
    return str(host.run("curl --silent --max-time 5 http://127.0.0.1:10249/proxyMode").stdout)


def wait_for(holds: Callable[[], bool], seconds: float) -> None:
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until, f"did not come within {seconds} s"
        time.sleep(1)


def reboot(host: Host) -> None:
    read = "cat /proc/sys/kernel/random/boot_id"
    before = host.check_output(read)

    def is_back() -> bool:
        # Raised by testinfra where SSH does not come to the node.
        with contextlib.suppress(RuntimeError):
            return bool(host.check_output(read) != before)
        return False

    with contextlib.suppress(RuntimeError):
        host.run("systemctl reboot")
    wait_for(is_back, 120)


def chains(host: Host) -> list[str]:
    """Chains of kube-proxy in the tables of iptables, of both families and both backends."""
    saves = (f"{tool}-{backend}-save" for tool in ("iptables", "ip6tables") for backend in ("nft", "legacy"))
    text = host.check_output("; ".join(f"{save} 2>/dev/null" for save in saves) + "; true")
    table, found = "", []
    for line in text.splitlines():
        if line.startswith("*"):
            table = line[1:]
        elif line.startswith(":KUBE-"):
            found.append(f"{table}/{line.split()[0][1:]}")
    return found


def ipvs(host: Host) -> str:
    return str(host.check_output("ipvsadm --list --numeric"))


def has_rules_of_ipvs(host: Host) -> bool:
    sets = [name for name in host.check_output("ipset list -name").split() if name.startswith("KUBE-")]
    return "->" in ipvs(host).partition("RemoteAddress")[2] or host.interface("kube-ipvs0").exists or bool(sets)


def has_rules_of_iptables(host: Host) -> bool:
    return any(re.search(r"/KUBE-(SVC|SEP)-|/KUBE-NODEPORTS$|^filter/KUBE-(EXTERNAL-)?SERVICES$", chain) for chain in chains(host))


def has_rules_of_nftables(host: Host) -> bool:
    return "kube-proxy" in host.check_output("nft list tables")


LOOKS = {"ipvs": has_rules_of_ipvs, "iptables": has_rules_of_iptables, "nftables": has_rules_of_nftables}


def assert_works_with(host: Host, mode: str) -> dict[str, int]:
    """See that kube-proxy says so, that its rules are in the kernel and no other mode's, and that the Service answers."""
    assert mode_in_force(host) == mode
    assert {name for name, look in LOOKS.items() if look(host)} == {mode}
    found = answers(host)
    assert set(found) == set(BACKENDS)
    assert sum(found.values()) == 100
    return found


def assert_spreads_evenly(host: Host) -> None:
    """See that the Service is balanced by rr, by the kernel's view and by what a hundred requests got."""
    virtual = ipvs(host).partition(f"TCP  {WEB}:80 rr\n")[2].partition("TCP")[0]
    assert re.findall(r"-> (\S+)", virtual) == [f"{backend}:8080" for backend in BACKENDS]
    assert assert_works_with(host, "ipvs") == dict.fromkeys(BACKENDS, 50)


def test_ipvs_took_the_place_of_iptables(host: Host) -> None:
    assert_spreads_evenly(host)


def test_modules_sysctls_and_the_mode_are_there_after_a_reboot(host: Host) -> None:
    # kube-proxy loads modules itself, so it must not run when they are looked for.
    host.check_output(f"systemctl disable {KUBELITE}")
    reboot(host)
    assert not host.service(KUBELITE).is_running
    loaded = host.check_output("cut -d ' ' -f 1 /proc/modules").split()
    assert set(MODULES) <= set(loaded)
    found = {name: host.file(f"/proc/sys/net/ipv4/{name}").content_string.strip() for name in SYSCTLS}
    assert found == SYSCTLS
    host.check_output(f"systemctl enable --now {KUBELITE}")
    wait_for(lambda: mode_in_force(host) == "ipvs" and host.run(f"curl --silent --max-time 2 http://{WEB}/").rc == 0, 60)
    assert_spreads_evenly(host)


@pytest.mark.parametrize("mode", ["nftables", "iptables"])
def test_the_next_mode_takes_the_place_of_the_one_before(host: Host, mode: str) -> None:
    switch(mode)
    assert_works_with(host, mode)


def refused(host: Host, prepare: str, mend: str, *options: str, **variables: object) -> str:
    """Break something on the node, let the roles run, and mend it; return why they refused, with nothing changed."""
    state = f"sha256sum {KEPT}; sysctl -a 2>/dev/null | grep net.ipv4.tcp_; systemctl show {KUBELITE} --property=ExecMainPID; lsmod | sort"
    host.check_output(prepare)
    before = host.check_output(state)
    try:
        done = ansible("converge.yml", *options, **variables)
        assert host.check_output(state) == before
    finally:
        host.check_output(mend)
    assert done.returncode != 0, done.stdout[-3000:]
    return " ".join((done.stdout + done.stderr).split())


def test_ipvs_without_its_modules_and_tools_is_refused_with_the_cure(host: Host) -> None:
    folder = "/lib/modules/$(uname -r)"
    hide = f"modprobe -r ip_vs_rr ip_vs_wrr ip_vs_sh ip_vs && sed -i.all /ip_vs/d {folder}/modules.dep && mv /usr/sbin/ipset /root/"
    mend = f"mv {folder}/modules.dep.all {folder}/modules.dep; mv /root/ipset /usr/sbin/"
    said = refused(host, hide, mend, *ONLY_PROXY, kube_proxy_mode="ipvs", kube_proxy_install_packages=False)
    assert "this kernel has no module ip_vs, ip_vs_rr, ip_vs_wrr, ip_vs_sh: install the distribution's package of kernel modules" in said
    assert "ipset is missing, which ipvs needs, and kube_proxy_install_packages is false: install the package ipset" in said


def test_nftables_without_its_tool_and_on_an_old_kernel_is_refused_with_the_cure(host: Host) -> None:
    known = "/var/lib/dpkg/status"
    hide = (
        f"printf '#!/bin/sh\\nexec setarch --uname-2.6 /usr/bin/python3 \"$@\"\\n' > {OLD_PYTHON}; chmod 755 {OLD_PYTHON};"
        f"mv /usr/sbin/nft {known} /root/; touch {known}"
    )
    mend = f"rm {OLD_PYTHON}; mv /root/nft /usr/sbin/; mv /root/status {known}"
    said = refused(host, hide, mend, *ONLY_PROXY, kube_proxy_mode="nftables", ansible_python_interpreter=OLD_PYTHON)
    assert re.search(r"the kernel is 2\.6\.\d+, nftables needs 5\.13 or later: upgrade it, or choose iptables", said), said
    assert "nft is missing, which nftables needs, and apt-cache knows no package nftables: add the repository that has it" in said


def test_a_file_that_counts_more_at_the_next_boot_is_refused_with_the_cure(host: Host) -> None:
    path = "/etc/sysctl.d/99-zzz-mine.conf"
    said = refused(host, f"echo 'net.ipv4.tcp_retries2 = 15' > {path}", f"rm {path}", kube_proxy_mode="iptables")
    assert f"{path} sets net.ipv4.tcp_retries2 = 15, and counts more than /etc/sysctl.d/99-zz-kubekeel.conf" in said
