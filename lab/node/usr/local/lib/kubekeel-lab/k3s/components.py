"""The command lines of the components: K3s's defaults as far as Kubernetes 1.20 knows them, joined with the user's items."""

from collections.abc import Mapping
from pathlib import Path

from . import component_args
from .node import CONTAINERD_SOCKET, ETCD_PEER_PORT, ETCD_PORT, PORT, Node

PROGRAMS = Path("/opt/kubekeel-lab/kube")
# The API server's own address: on the node's address, K3s itself listens at the same port.
API_HOST = "127.0.0.2"
SERVICE_ISSUER = "https://kubernetes.default.svc.cluster.local"


def kube_apiserver(node: Node) -> list[str]:
    """Return the API server's command line."""
    tls = node.tls
    defaults = {
        "advertise-address": node.options.text("advertise-address") or node.address,
        "allow-privileged": "true",
        "anonymous-auth": "false",
        "api-audiences": f"{SERVICE_ISSUER},k3s",
        "authorization-mode": "Node,RBAC",
        "bind-address": API_HOST,
        "cert-dir": tls / "temporary-certs",
        "client-ca-file": tls / "client-ca.crt",
        "enable-admission-plugins": "NodeRestriction",
        "etcd-cafile": tls / "etcd/server-ca.crt",
        "etcd-certfile": tls / "etcd/client.crt",
        "etcd-keyfile": tls / "etcd/client.key",
        "etcd-servers": f"https://127.0.0.1:{ETCD_PORT}",
        "kubelet-certificate-authority": tls / "server-ca.crt",
        "kubelet-client-certificate": tls / "client-kube-apiserver.crt",
        "kubelet-client-key": tls / "client-kube-apiserver.key",
        "kubelet-preferred-address-types": "InternalIP,ExternalIP,Hostname",
        "profiling": "false",
        "proxy-client-cert-file": tls / "client-auth-proxy.crt",
        "proxy-client-key-file": tls / "client-auth-proxy.key",
        "requestheader-allowed-names": "system:auth-proxy",
        "requestheader-client-ca-file": tls / "request-header-ca.crt",
        "requestheader-extra-headers-prefix": "X-Remote-Extra-",
        "requestheader-group-headers": "X-Remote-Group",
        "requestheader-username-headers": "X-Remote-User",
        "secure-port": PORT,
        "service-account-issuer": SERVICE_ISSUER,
        "service-account-key-file": tls / "service.key",
        "service-account-signing-key-file": tls / "service.key",
        "service-cluster-ip-range": node.options.text("service-cidr", "10.43.0.0/16"),
        # K3s has none, but this release stops listening before it has taken itself off the Service's endpoints.
        "shutdown-delay-duration": "1s",
        "service-node-port-range": node.options.text("service-node-port-range", "30000-32767"),
        "storage-backend": "etcd3",
        "tls-cert-file": tls / "serving-kube-apiserver.crt",
        "tls-private-key-file": tls / "serving-kube-apiserver.key",
    }
    return command("kube-apiserver", defaults, node)


def kube_controller_manager(node: Node) -> list[str]:
    """Return the controller-manager's command line."""
    tls = node.tls
    defaults = {
        "bind-address": "127.0.0.1",
        "cluster-signing-cert-file": tls / "client-ca.crt",
        "cluster-signing-key-file": tls / "client-ca.key",
        "controllers": "*,tokencleaner,-service,-route,-cloud-node-lifecycle",
        "kubeconfig": node.server / "cred/controller.kubeconfig",
        "node-monitor-grace-period": node.facts.release.node_monitor_grace_period,
        "profiling": "false",
        "root-ca-file": tls / "server-ca.crt",
        "service-account-private-key-file": tls / "service.key",
        "use-service-account-credentials": "true",
    }
    return command("kube-controller-manager", defaults, node)


def kube_scheduler(node: Node) -> list[str]:
    """Return the scheduler's command line."""
    defaults = {"bind-address": "127.0.0.1", "kubeconfig": node.server / "cred/scheduler.kubeconfig", "profiling": "false"}
    return command("kube-scheduler", defaults, node)


def kubelet(node: Node) -> list[str]:
    """Return the kubelet's command line."""
    agent = node.agent
    defaults = {
        "anonymous-auth": "false",
        "authentication-token-webhook": "true",
        "authorization-mode": "Webhook",
        "client-ca-file": agent / "client-ca.crt",
        "cluster-dns": "10.43.0.10",
        "cluster-domain": "cluster.local",
        "container-runtime": "remote",
        "container-runtime-endpoint": f"unix://{CONTAINERD_SOCKET}",
        "containerd": CONTAINERD_SOCKET,
        "eviction-hard": "imagefs.available<5%,nodefs.available<5%",
        "eviction-minimum-reclaim": "imagefs.available=10%,nodefs.available=10%",
        "fail-swap-on": "false",
        "healthz-bind-address": "127.0.0.1",
        "hostname-override": node.name,
        "kubeconfig": agent / "kubelet.kubeconfig",
        "node-ip": node.address,
        # In K3s it is the cloud controller that sets this label.
        "node-labels": ",".join(["node.kubernetes.io/instance-type=k3s", *node.options.items("node-label")]),
        "read-only-port": "0",
        "register-with-taints": ",".join(node.options.items("node-taint")),
        "resolv-conf": node.options.text("resolv-conf", "/etc/resolv.conf"),
        "serialize-image-pulls": "false",
        "tls-cert-file": agent / "serving-kubelet.crt",
        "tls-private-key-file": agent / "serving-kubelet.key",
    }
    return command("kubelet", {name: value for name, value in defaults.items() if value}, node)


def kube_proxy(node: Node) -> list[str]:
    """Return the proxy's command line."""
    defaults = {
        "cluster-cidr": node.options.text("cluster-cidr", "10.42.0.0/16"),
        "conntrack-max-per-core": "0",
        "conntrack-tcp-timeout-close-wait": "0s",
        "conntrack-tcp-timeout-established": "0s",
        "healthz-bind-address": "127.0.0.1",
        "hostname-override": node.name,
        "kubeconfig": node.agent / "kubeproxy.kubeconfig",
        "proxy-mode": "iptables",
    }
    return command("kube-proxy", defaults, node)


def command(name: str, defaults: Mapping[str, object], node: Node) -> list[str]:
    """Return a component of Kubernetes with its arguments."""
    items = node.options.items(f"{name}-arg")
    return [str(PROGRAMS / name), *component_args.join({key: str(value) for key, value in defaults.items()}, items)]


def etcd(node: Node) -> list[str]:
    """Return etcd's command line; its members never change in the lab."""
    tls = node.tls / "etcd"
    own = next(member for member in node.facts.members if member.node == node.name)
    defaults = {
        "name": own.name,
        "data-dir": node.server / "db/etcd",
        "initial-cluster": ",".join(f"{member.name}=https://{member.address}:{ETCD_PEER_PORT}" for member in node.facts.members),
        "initial-cluster-token": "k3s",
        "initial-advertise-peer-urls": f"https://{node.address}:{ETCD_PEER_PORT}",
        "listen-peer-urls": f"https://127.0.0.1:{ETCD_PEER_PORT},https://{node.address}:{ETCD_PEER_PORT}",
        "listen-client-urls": f"https://127.0.0.1:{ETCD_PORT},https://{node.address}:{ETCD_PORT}",
        "advertise-client-urls": f"https://{node.address}:{ETCD_PORT}",
        "listen-metrics-urls": "http://127.0.0.1:2381",
        "cert-file": tls / "server-client.crt",
        "key-file": tls / "server-client.key",
        "trusted-ca-file": tls / "server-ca.crt",
        "client-cert-auth": "true",
        "peer-cert-file": tls / "peer-server-client.crt",
        "peer-key-file": tls / "peer-server-client.key",
        "peer-trusted-ca-file": tls / "peer-ca.crt",
        "peer-client-cert-auth": "true",
        "heartbeat-interval": "500",
        "election-timeout": "5000",
        # As in etcd 3.5, which K3s brings. Without it a member with a shorter time-out than its leader's can keep all from electing one.
        "pre-vote": "true",
        "snapshot-count": "10000",
        "logger": "zap",
        "log-level": "warn",
    }
    return ["/usr/bin/etcd", *component_args.join({key: str(value) for key, value in defaults.items()}, node.options.items("etcd-arg"))]


def containerd(node: Node) -> list[str]:
    """Return containerd's command line."""
    return [
        "/usr/bin/containerd",
        f"--config={node.agent / 'etc/containerd/config.toml'}",
        f"--address={CONTAINERD_SOCKET}",
        f"--state={CONTAINERD_SOCKET.parent}",
        f"--root={node.agent / 'containerd'}",
        "--log-level=warn",
    ]


def containerd_config(node: Node) -> str:
    """Return containerd's configuration."""
    return f"""# File generated by k3s. DO NOT EDIT.
version = 2
oom_score = 0

[plugins."io.containerd.grpc.v1.cri"]
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
  sandbox_image = "{node.options.text("pause-image", "rancher/mirrored-pause:3.6")}"
  # A host without CAP_SYS_RESOURCE lets nobody lower the score.
  restrict_oom_score_adj = true

  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "{node.options.text("snapshotter", "overlayfs")}"
    default_runtime_name = "runc"

    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
"""
