"""What the inputs are made of: files of the lab, and such as somebody may have written. ``@`` stands for the node's folder."""

import base64
from types import SimpleNamespace
from typing import Any

from ansible_collections.kubekeel.ha.plugins.module_utils import kubelet_file, unit_environment

from lab import pki
from lab.templates import content

from .independent import BALANCER

SECRET = "K10secret"  # noqa: S105
A_NODE = SimpleNamespace(name="node-a", address="10.89.0.11", is_server=True, runs_api=True, runs_datastore=True)
OTHER = SimpleNamespace(name="node-b", address="10.89.0.12", is_server=True, runs_api=True, runs_datastore=True)
ETCD_ONLY = SimpleNamespace(**{**vars(OTHER), "runs_api": False})
LAB: dict[str, Any] = {
    "node": A_NODE,
    "topology": SimpleNamespace(lab="lab", servers=[A_NODE, OTHER], registration=SimpleNamespace(name="lb.lab", address="10.89.0.9")),
    "distribution": SimpleNamespace(api_port=16443, datastore_client_port=12379),
    "secrets": SimpleNamespace(token=SECRET),
    "pod_image": "localhost/lab",
    "type": "notify",
    "unit": "k3s.service",
}


def lab_file(path: str, **values: Any) -> str:
    """A file as the lab puts it on a node."""
    return content(path, **{**LAB, **values}).decode()


ARGS = {
    name: lab_file("var/snap/microk8s/current/args/" + name)
    for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "kubelet")
}
ARGS["kubelet"] += f"--bootstrap-token {SECRET}\n"

CONFIG = "etc/rancher/k3s/config.yaml"
MINE = """# mine
token: &t K10secret
agent-token: *t
kubelet-arg+: [max-pods=60, 'v=2']
kube-scheduler-arg: leader-elect-lease-duration=60s
tls-san: |
  lb.lab
https-listen-port: 6443
write-kubeconfig-mode: 0644
"""
CONFIGS = (lab_file(CONFIG), lab_file(CONFIG, node=OTHER), lab_file(CONFIG, node=ETCD_ONLY), MINE)
AGENT_CONFIG = """server: https://10.89.0.11:6443
token: K10secret
kubelet-arg:
- node-status-update-frequency=10s
- config=@/mine.yaml
"""
OURS = (
    '# Written by kubekeel.\nserver: "https://10.89.0.12:6443"\nkube-scheduler-arg+:\n  - "leader-elect-lease-duration=15s"\n',
    'kubelet-arg+:\n  - "node-status-update-frequency=5s"\n  - "max-pods=70"\n',
    "token: |\n  K10secret\nkubelet-arg+: [max-pods=70]\n",
)
UNITS = {
    role: lab_file("etc/systemd/system/k3s.service", command=f"{role} \\\n    --config \\\n    @/config.yaml")
    for role in ("server", "agent")
}
UNIT_TEXTS = (UNITS["server"], UNITS["server"].replace("@/config.yaml", "@/config.yaml $MORE --token ${K3S_TOKEN} 'a b'"))
VARIABLES = (
    "# mine\nK3S_TOKEN=K10secret\nNO_PROXY=10.0.0.0/8,.lab\nHTTP2_PING_TIMEOUT_SECONDS=15\n",
    'K3S_TOKEN=\'K10secret\'\nPATH="/usr/bin:/bin"\nX=a\\\n b\n; note\nHTTP2_READ_IDLE_TIMEOUT_SECONDS = "30"\n\n',
)
ENVIRONMENTS: tuple[dict[str, Any], ...] = (
    {"HTTP2_READ_IDLE_TIMEOUT_SECONDS": 8, "HTTP2_PING_TIMEOUT_SECONDS": "4"},
    {"HTTP2_PING_TIMEOUT_SECONDS": None},
    {"X": 'a "b" \\c $d %H', "NEW": ""},
)
DROP_INS = tuple(
    unit_environment.render({name: "" if value is None else str(value) for name, value in environment.items()})
    for environment in ENVIRONMENTS
)
KUBELET_FILES = (
    kubelet_file.render({"nodeLeaseDurationSeconds": 4, "hairpinMode": "none"}, kubelet_file.legacy({})) or "",
    "kind: KubeletConfiguration\nnodeLeaseDurationSeconds: 20 # mine\nevictionHard:\n  memory.available: 1Gi\n",
    '{"kind": "KubeletConfiguration", "nodeLeaseDurationSeconds": 4}',
)
SYSCTLS = lab_file("etc/sysctl.d/10-kubekeel-lab.conf") + "net.ipv4.tcp_retries2 = 5\n-net/ipv4/tcp_keepalive_* = 600\n"
STATES = (
    BALANCER["render"]("https://10.89.0.11:6443", ["10.89.0.11:6443", "10.89.0.12:6443"], listener=True),
    BALANCER["render"]("https://[fd00::1]:6443", ["[fd00::1]:6443", "lb.lab:6443"], listener=False),
    '{"ServerURL": "https://10.89.0.11:6443", "ServerAddresses": []}',
)
ADDRESSES = ("https://lb.lab:6443", "lb.lab", "https://10.89.0.9", "[fd00::9]:6443", "https://k3s.example.org/")

SNAP_CHANGES = """ID    Status  Spawn                   Ready                   Summary
2052  Done    today at 09:34 BST      today at 09:35 BST      Auto-refresh 7 snaps
2053  Error   2026-11-20T02:58:11Z    2026-11-20T03:01:40Z    Auto-refresh snap "microk8s"
"""
DOING = '2054  Doing   today at 16:40 CST      -                       Auto-refresh snap "microk8s"'
SNAPS = "Name      Version  Rev   Tracking       Publisher   Notes\nmicrok8s  v1.32.3  7731  1.32/stable    canonical✓  classic,held\n"
HOLDS = ("forever\n", "2031-04-24T17:22:54+01:00\n", "2019-04-24T12:22:54.123456789-04:00\n", "")

PAIR = pki.Authority("test").issue("admin")
DATA = {name: base64.b64encode(part).decode() for name, part in (("certificate", PAIR.certificate), ("key", PAIR.key))}
KUBECONFIG = f"""clusters:
- cluster:
    certificate-authority-data: {DATA["certificate"]}
    server: https://127.0.0.1:16443
users:
- user:
    client-certificate-data: {DATA["certificate"]}
    client-key-data: {DATA["key"]}
    token: {SECRET}
"""


def field(number: int, value: bytes | str | int) -> bytes:
    """A field of a protobuf message, of fewer than 128 bytes or below 128."""
    if isinstance(value, int):
        return bytes((number << 3, value))
    data = value.encode() if isinstance(value, str) else value
    return bytes((number << 3 | 2, len(data))) + data


def etcd_member(number: int) -> bytes:
    url = f"https://10.89.0.1{number}:"
    return field(2, field(1, number) + field(2, f"node-{number}") + field(3, url + "2380") + field(4, url + "2379"))


MEMBERS = field(1, field(2, 1)) + b"".join(etcd_member(number) for number in (1, 2, 3))
ETCD_STATUS = field(1, field(2, 1)) + field(4, 1)
