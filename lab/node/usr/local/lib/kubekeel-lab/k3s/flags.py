"""K3s's own flags, as its documentation lists them, and how a command line is read."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

TRUE = frozenset({"1", "t", "T", "true", "TRUE", "True"})
FALSE = frozenset({"0", "f", "F", "false", "FALSE", "False"})

COMMON_TEXTS = """
    config container-runtime-endpoint data-dir default-runtime flannel-cni-conf flannel-conf flannel-iface
    image-credential-provider-bin-dir image-credential-provider-config image-service-endpoint lb-server-port log
    node-name pause-image private-registry resolv-conf server snapshotter token token-file v vmodule
    vpn-auth vpn-auth-file
"""
COMMON_LISTS = (
    "airgap-extra-registry kubelet-arg kube-proxy-arg node-external-dns node-external-ip node-internal-dns node-ip node-label node-taint"
)
COMMON_SWITCHES = """
    alsologtostderr debug disable-default-registry-endpoint docker nonroot-devices prefer-bundled-bin protect-kernel-defaults rootless
    selinux with-node-id
"""
SERVER_TEXTS = """
    advertise-address advertise-port agent-token agent-token-file bind-address cluster-domain
    cluster-reset-restore-path datastore-cafile datastore-certfile datastore-endpoint datastore-keyfile
    default-local-storage-path egress-selector-mode etcd-s3-access-key etcd-s3-bucket etcd-s3-bucket-lookup-type
    etcd-s3-config-secret etcd-s3-endpoint etcd-s3-endpoint-ca etcd-s3-folder etcd-s3-proxy etcd-s3-region
    etcd-s3-retention etcd-s3-secret-key etcd-s3-session-token etcd-s3-timeout etcd-snapshot-dir etcd-snapshot-name
    etcd-snapshot-reconcile-interval etcd-snapshot-retention etcd-snapshot-schedule-cron flannel-backend
    helm-job-image https-listen-port kine-tls-server-name secrets-encryption-provider service-node-port-range
    servicelb-namespace system-default-registry write-kubeconfig write-kubeconfig-group write-kubeconfig-mode
"""
SERVER_LISTS = """
    cluster-cidr cluster-dns disable etcd-arg kube-apiserver-arg kube-cloud-controller-manager-arg
    kube-controller-manager-arg kube-scheduler-arg service-cidr tls-san
"""
SERVER_SWITCHES = """
    cluster-init cluster-reset disable-agent disable-apiserver disable-cloud-controller disable-controller-manager
    disable-etcd disable-helm-controller disable-kube-proxy disable-network-policy disable-scheduler embedded-registry
    enable-pprof etcd-disable-snapshots etcd-expose-metrics etcd-s3 etcd-s3-insecure etcd-s3-skip-ssl-verify
    etcd-snapshot-compress flannel-external-ip flannel-ipv6-masq kine-tls secrets-encryption supervisor-metrics
    tls-san-security
"""
AGENT_TEXTS = "cluster-secret"
AGENT_SWITCHES = "disable-apiserver-lb disable-selinux no-flannel"

ALIASES = {"c": "config", "d": "data-dir", "i": "node-ip", "l": "log", "o": "write-kubeconfig", "s": "server", "t": "token"}
ALIASES |= {"kube-controller-arg": "kube-controller-manager-arg", "kube-cloud-controller-arg": "kube-cloud-controller-manager-arg"}
# Where neither command line nor file say anything.
ENVIRONMENT = {
    "agent-token": "K3S_AGENT_TOKEN",
    "cluster-init": "K3S_CLUSTER_INIT",
    "cluster-reset": "K3S_CLUSTER_RESET",
    "data-dir": "K3S_DATA_DIR",
    "lb-server-port": "K3S_LB_SERVER_PORT",
    "node-name": "K3S_NODE_NAME",
    "resolv-conf": "K3S_RESOLV_CONF",
    "server": "K3S_URL",
    "token": "K3S_TOKEN",
    "token-file": "K3S_TOKEN_FILE",
    "write-kubeconfig": "K3S_KUBECONFIG_OUTPUT",
    "write-kubeconfig-mode": "K3S_KUBECONFIG_MODE",
}


@dataclass(frozen=True)
class Known:
    """What one command understands."""

    texts: frozenset[str]
    lists: frozenset[str]
    switches: frozenset[str]

    def name(self, word: str) -> str | None:
        """Return a flag's long name, or None where there is no such flag."""
        long = ALIASES.get(word, word)
        return long if long in self.texts | self.lists | self.switches else None


def known(texts: str, lists: str, switches: str) -> Known:
    """Return a table out of words."""
    return Known(frozenset(texts.split()), frozenset(lists.split()), frozenset(switches.split()))


KNOWN = {
    "server": known(COMMON_TEXTS + SERVER_TEXTS, COMMON_LISTS + SERVER_LISTS, COMMON_SWITCHES + SERVER_SWITCHES),
    "agent": known(COMMON_TEXTS + AGENT_TEXTS, COMMON_LISTS, COMMON_SWITCHES + AGENT_SWITCHES),
}


class FlagError(ValueError):
    """An argument that ends K3s, in Go's words."""


@dataclass(frozen=True)
class Options:
    """All values of every flag, in their order."""

    values: dict[str, list[str]] = field(default_factory=dict)
    environ: Mapping[str, str] = field(default_factory=dict)

    def text(self, name: str, default: str = "") -> str:
        """Return a flag's last value, else that of its variable, else the default."""
        given = self.values.get(name)
        return given[-1] if given else self.environ.get(ENVIRONMENT.get(name, ""), "") or default

    def items(self, name: str) -> list[str]:
        """Return all values of a flag that may be repeated."""
        return self.values.get(name, [])

    def switch(self, name: str) -> bool:
        """Tell whether a switch is on."""
        return self.text(name, "false") in TRUE


def split_unknown(command: str, arguments: Iterable[str]) -> tuple[list[str], list[str]]:
    """Part arguments out of a file into those that count and the names of those that a server only warns of."""
    kept: list[str] = []
    unknown: list[str] = []
    for argument in arguments:
        name = argument.partition("=")[0]
        if command != "server" or KNOWN[command].name(name.lstrip("-")):
            kept.append(argument)
        else:
            unknown.append(name)
    return kept, unknown


def parse(command: str, arguments: Iterable[str], environ: Mapping[str, str] = os.environ) -> Options:
    """Read a command line as Go's ``flag`` does: it ends at the first word that is no flag.

    Raises:
        FlagError: an unknown flag, or a value that is missing or wrong
    """
    table = KNOWN[command]
    options = Options(environ=environ)
    words = iter(arguments)
    for word in words:
        if len(word) < 2 or not word.startswith("-") or word == "--":
            break
        spelled, given, value = word.removeprefix("-").removeprefix("-").partition("=")
        name = table.name(spelled)
        if name is None:
            raise FlagError(f"flag provided but not defined: -{spelled}")
        if name in table.switches:
            value = value if given else "true"
            if value not in TRUE | FALSE:
                raise FlagError(f'invalid boolean value "{value}" for -{spelled}: parse error')
        elif not given:
            following = next(words, None)
            if following is None:
                raise FlagError(f"flag needs an argument: -{spelled}")
            value = following
        options.values.setdefault(name, []).append(value)
    return options


def config_place(arguments: list[str], environ: Mapping[str, str], default: str) -> str:
    """Return where the configuration file is: the variable goes before the flag."""
    if environ.get("K3S_CONFIG_FILE"):
        return environ["K3S_CONFIG_FILE"]
    for place, word in enumerate(arguments):
        if word in ("--config", "-c"):
            return arguments[place + 1] if place + 1 < len(arguments) else default
        if word.startswith(("--config=", "-c=")):
            return word.partition("=")[2]
    return default
