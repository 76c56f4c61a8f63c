"""The keys of a K3s configuration, and which component reads which: data."""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import difflib
from dataclasses import dataclass

from ansible_collections.kubekeel.ha.plugins.module_utils import settings

SERVER = "server"
AGENT = "agent"


@dataclass(frozen=True)
class Component:
    """How K3s takes the flags of a component."""

    key: str
    """The key whose items are its flags."""
    roles: tuple[str, ...]
    off: tuple[str, ...]
    """Keys that switch the component off."""
    other_keys: tuple[str, ...] = ()
    """Older names of the key. K3s appends their items to the same list."""
    tuned: bool = False
    """Whether its flags are tuned by hand: where none is wanted, those of other files are left alone."""


# docs.k3s.io, CLI tools: k3s server and k3s agent. The keys of split roles are hidden flags (k3s pkg/cli/cmds/server.go).
COMPONENTS = {
    settings.APISERVER: Component("kube-apiserver-arg", (SERVER,), ("disable-apiserver",)),
    settings.CONTROLLER_MANAGER: Component(
        "kube-controller-manager-arg", (SERVER,), ("disable-controller-manager",), ("kube-controller-arg",)
    ),
    settings.SCHEDULER: Component("kube-scheduler-arg", (SERVER,), ("disable-scheduler",)),
    settings.PROXY: Component("kube-proxy-arg", (SERVER, AGENT), ("disable-kube-proxy", "disable-agent")),
    settings.KUBELET: Component("kubelet-arg", (SERVER, AGENT), ("disable-agent",)),
    # Whether a datastore of another kind is used, K3sNode knows.
    settings.ETCD: Component("etcd-arg", (SERVER,), ("disable-etcd",), tuned=True),
}

_SHARED = """
alsologtostderr bind-address config container-runtime-endpoint c d data-dir debug default-runtime disable-apiserver-lb
disable-default-registry-endpoint
disable-selinux docker enable-pprof flannel-cni-conf flannel-conf flannel-iface i image-credential-provider-bin-dir
image-credential-provider-config image-service-endpoint kube-proxy-arg kubelet-arg lb-server-port log l no-flannel node-external-dns
node-external-ip node-internal-dns node-ip node-label node-name node-taint nonroot-devices pause-image prefer-bundled-bin
private-registry protect-kernel-defaults resolv-conf rootless s selinux server snapshotter t token token-file v vmodule vpn-auth
vpn-auth-file with-node-id airgap-extra-registry cluster-secret
"""
_SERVER_ONLY = """
advertise-address advertise-port agent-token agent-token-file apiserver-bind-address apiserver-port cluster-cidr cluster-dns
cluster-domain cluster-init cluster-reset cluster-reset-restore-path datastore-cafile datastore-certfile datastore-endpoint
datastore-keyfile datastore-reconcile-interval default-local-storage-path disable disable-agent disable-apiserver
disable-cloud-controller disable-controller-manager disable-etcd disable-helm-controller disable-kube-proxy disable-network-policy
disable-scheduler egress-selector-mode embedded-registry etcd-arg etcd-disable-snapshots etcd-expose-metrics etcd-s3 etcd-s3-access-key
etcd-s3-bucket etcd-s3-bucket-lookup-type etcd-s3-config-secret etcd-s3-endpoint etcd-s3-endpoint-ca etcd-s3-folder etcd-s3-insecure
etcd-s3-proxy etcd-s3-region etcd-s3-retention etcd-s3-secret-key etcd-s3-session-token etcd-s3-skip-ssl-verify etcd-s3-timeout
etcd-snapshot-compress etcd-snapshot-dir etcd-snapshot-name etcd-snapshot-reconcile-interval etcd-snapshot-retention
etcd-snapshot-schedule-cron flannel-backend flannel-external-ip flannel-ipv6-masq helm-job-image https-listen-port kine-tls
kube-apiserver-arg kube-cloud-controller-arg kube-cloud-controller-manager-arg kube-controller-arg kube-controller-manager-arg
kube-scheduler-arg multi-cluster-cidr o secrets-encryption secrets-encryption-provider service-cidr service-node-port-range
servicelb-namespace supervisor-metrics supervisor-port system-default-registry tls-san tls-san-security write-kubeconfig
write-kubeconfig-group write-kubeconfig-mode
"""
SERVER_ONLY = frozenset(_SERVER_ONLY.split())
SERVER_KEYS = SERVER_ONLY | frozenset(_SHARED.split())
AGENT_KEYS = frozenset(_SHARED.split())


def known_keys(role: str) -> frozenset[str]:
    """Return the keys that C(k3s server) or C(k3s agent) takes."""
    return SERVER_KEYS if role == SERVER else AGENT_KEYS


def likely_spelling(key: str, role: str) -> str | None:
    """Return the key that was likely meant, None where none comes near."""
    near = difflib.get_close_matches(key.replace("_", "-").lower(), sorted(known_keys(role)), n=1, cutoff=0.75)
    return near[0] if near else None
