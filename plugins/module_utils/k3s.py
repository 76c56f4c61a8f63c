"""A node of K3s: its unit, its configuration files and its command line, read."""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import contextlib
import os
import re
import socket
from typing import TYPE_CHECKING

from ansible_collections.kubekeel.ha.plugins.module_utils import (
    addresses,
    config_yaml,
    environment_file,
    etcd_client,
    k3s_config,
    k3s_keys,
    node_files,
    registration,
    settings,
    systemd,
    unit_file,
)
from ansible_collections.kubekeel.ha.plugins.module_utils.k3s_config import Argument, File
from ansible_collections.kubekeel.ha.plugins.module_utils.node_files import NodeError

if TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule

CONFIG_FILE = "/etc/rancher/k3s/config.yaml"
DATA_DIR = "/var/lib/rancher/k3s"
KUBECONFIG = "/etc/rancher/k3s/k3s.yaml"
NODE_ID = "/etc/rancher/node/id"
"""What with-node-id appends to the node's name."""
PORT = 6443
ETCD_PORT = etcd_client.PORT
FIRST_WITH_DROP_INS = (1, 21, 0)
"""Older releases read config.yaml alone (docs.k3s.io, Configuration: multiple config files)."""
UNITS = {"k3s": k3s_keys.SERVER, "k3s-agent": k3s_keys.AGENT}
"""As the official installer names them."""

_SHORT = {"c": "config", "d": "data-dir", "i": "node-ip", "o": "write-kubeconfig", "s": "server", "t": "token"}
# What an environment variable says counts where neither a file nor the command line says it.
_VARIABLES = {
    "K3S_DATASTORE_ENDPOINT": "datastore-endpoint",
    "K3S_DATA_DIR": "data-dir",
    "K3S_NODE_NAME": "node-name",
    "K3S_URL": "server",
}


def unit_of(module: AnsibleModule) -> str | None:
    """Return the unit that runs K3s on this node, None where there is none; of two the one that runs."""
    states = {}
    for unit in UNITS:
        with contextlib.suppress(NodeError):
            states[unit] = systemd.show(module, unit, "ActiveState").get("ActiveState")
    running = [unit for unit, state in states.items() if state != "inactive"]
    return next(iter(running or states), None)


def require_unit(module: AnsibleModule) -> str:
    """Return the unit that runs K3s on this node.

    Raises:
        NodeError: there is none.
    """
    unit = unit_of(module)
    if not unit:
        raise NodeError(
            "systemd knows no unit %s here (others of INSTALL_K3S_NAME are not supported). Is the node in the right inventory?"
            % " or ".join(UNITS)
        )
    return unit


def etcd_credentials(data_dir: str) -> etcd_client.Credentials:
    """Return the certificate with which a server asks etcd."""
    folder = os.path.join(data_dir, "server/tls/etcd")
    return etcd_client.Credentials(*(os.path.join(folder, name) for name in ("server-ca.crt", "client.crt", "client.key")))


class K3sNode:
    """What a node's K3s is told by its unit and its files."""

    def __init__(self, module: AnsibleModule, unit: str, config_file: str | None = None) -> None:
        """Read everything.

        Args:
            module: to run systemctl.
            unit: a name of C(UNITS).
            config_file: where the operator says that the main file is.

        Raises:
            NodeError: a file cannot be read; the message names file and line.
        """
        self.unit = unit
        self.role = UNITS[unit]
        shown = systemd.show(module, unit, "FragmentPath", "DropInPaths", "EnvironmentFiles", "Environment")
        self.environment = systemd.environment(shown)
        for path in systemd.environment_files(shown):
            self.environment.update(environment_file.variables(node_files.read(path, follow=True) or ""))
        self.program, self.command_line = self._command(shown)
        self.config_file = self._config_file(config_file)
        self.drop_in = os.path.join(self.config_file + ".d", k3s_config.DROP_IN)
        self.files = read_files(self.config_file)
        self.merged = k3s_config.merge(self.files, self.command_line)

    def _command(self, shown: dict[str, str]) -> tuple[str, list[Argument]]:
        paths = [shown.get("FragmentPath", ""), *shown.get("DropInPaths", "").split()]
        texts = [(path, node_files.read(path, follow=True) or "") for path in paths if path]
        try:
            words = unit_file.expand(unit_file.command(texts), self.environment)
        except ValueError as error:
            raise NodeError("the command of unit %s in %s cannot be read: %s" % (self.unit, paths[0], error)) from error
        # Flags of K3s as a whole, such as --debug, may stand before the command.
        command = next((at for at, word in enumerate(words) if at and not word.text.startswith("-")), 0)
        if not command or words[command].text != self.role:
            raise NodeError(
                "unit %s does not start 'k3s %s' itself, as the installer's units do; see 'systemctl cat %s'"
                % (self.unit, self.role, self.unit)
            )
        return words[0].text.lstrip("-@:+!"), arguments(words[command + 1 :])

    def _config_file(self, asked: str | None) -> str:
        said = self.environment.get("K3S_CONFIG_FILE") or next((one.value for one in self.command_line if one.key == "config"), None)
        if said and not os.path.isabs(said):
            raise NodeError("unit %s reads its configuration from %s; kubekeel needs a file to put a drop-in beside" % (self.unit, said))
        if asked and asked != (said or CONFIG_FILE):
            raise NodeError("k3s_config_file is %s, but unit %s reads %s" % (asked, self.unit, said or CONFIG_FILE))
        return said or CONFIG_FILE

    def value(self, key: str) -> Argument | None:
        """Return what decides a key with a single value: the command line, a file, or the environment."""
        found = self.merged.last(key)
        if found is None:
            name = next((name for name, named in _VARIABLES.items() if named == key and self.environment.get(name)), None)
            if name:
                return Argument(key, self.environment[name], "the environment (%s) of unit %s" % (name, self.unit), 0)
        return found

    @property
    def data_dir(self) -> str:
        """Where K3s keeps its data."""
        found = self.value("data-dir")
        return found.value if found else DATA_DIR

    @property
    def server_url(self) -> str | None:
        """The server that this node joins at, None on one that began a cluster.

        Raises:
            NodeError: it is no URL of a server.
        """
        found = self.value("server")
        if not found or not found.value:
            return None
        try:
            return registration.normalize(found.value)
        except ValueError as error:
            raise NodeError("server in %s: %s" % (found.place, error)) from error

    @property
    def loopback(self) -> str:
        """The address at which K3s listens for its own node (k3s pkg/daemons/config, BindAddressOrLoopback)."""
        bind = self.value("bind-address")
        if bind and bind.value not in ("", "0.0.0.0", "::"):  # noqa: S104
            return bind.value.strip("[]")
        services = self.value("service-cidr")
        return "::1" if services and ":" in services.value.split(",")[0] else "127.0.0.1"

    @property
    def local_url(self) -> str:
        """The supervisor of this node."""
        return "https://" + addresses.join(self.loopback, self.port)

    @property
    def join_url(self) -> str:
        """The server that a load balancer of this node begins with: the configured one, else the supervisor of this node."""
        return self.server_url or ("" if self.role == k3s_keys.AGENT else self.local_url)

    @property
    def port(self) -> int:
        """The port of the supervisor and the API server."""
        found = self.value("https-listen-port")
        return int(found.value) if found and re.fullmatch("[0-9]{1,5}", found.value) else PORT

    @property
    def node_name(self) -> str:
        """The node's name in Kubernetes."""
        found = self.value("node-name")
        name = (found.value if found and found.value else socket.gethostname()).lower()
        if not self.merged.is_on("with-node-id"):
            return name
        suffix = (node_files.read(NODE_ID, follow=True) or "").strip()
        return "%s-%s" % (name, suffix) if suffix else name

    @property
    def has_api(self) -> bool:
        """Whether an API server runs here."""
        return self.role == k3s_keys.SERVER and not self.merged.is_on("disable-apiserver")

    @property
    def uses_etcd(self) -> bool:
        """Whether this server's datastore is the cluster's own etcd, with a member here or on other servers."""
        if self.role == k3s_keys.AGENT or self.value("datastore-endpoint") is not None:
            return False
        # A server of its own with SQLite has the certificates of etcd, too, and nothing else of it.
        member = os.path.join(self.data_dir, "server/db/etcd/member")
        return self.merged.is_on("disable-etcd") or os.path.isdir(member)

    @property
    def absent(self) -> list[str]:
        """The components that this node does not run."""
        return [
            component
            for component in k3s_keys.COMPONENTS
            if not self.merged.runs(component, self.role) or (component == settings.ETCD and not self.uses_etcd)
        ]

    def release_text(self, module: AnsibleModule) -> str:
        """Return the release of K3s (C(v1.32.3+k3s1)), an empty text where it does not say."""
        code, out, _err = module.run_command([self.program, "--version"])
        words = out.split()
        return words[2] if not code and words[:2] == ["k3s", "version"] and len(words) > 2 else ""


def arguments(words: list[unit_file.Word]) -> list[Argument]:
    """Return the flags of a command line of K3s. It takes no words but flags and their values."""
    found = []
    at = 0
    while at < len(words):
        word = words[at]
        at += 1
        name, equals, value = word.text.lstrip("-").partition("=")
        if not equals and at < len(words) and not words[at].text.startswith("-"):
            value = words[at].text
            at += 1
        elif not equals:
            value = "true"
        found.append(Argument(_SHORT.get(name, name), value, word.path, word.line))
    return found


def read_files(config_file: str) -> list[File]:
    """Return the main file and its drop-ins, as K3s reads them.

    Raises:
        NodeError: one cannot be read; the message names file and line.
    """
    folder = config_file + ".d"
    try:
        names = sorted(name for name in os.listdir(folder) if name.lower().endswith((".yaml", ".yml")))
    except FileNotFoundError:
        names = []
    except (OSError, ValueError) as error:
        raise NodeError("%s cannot be read: %s" % (folder, getattr(error, "strerror", error))) from error
    paths = [path for path in (os.path.join(folder, name) for name in names) if not os.path.isdir(path) or os.path.islink(path)]
    found = []
    for path in [config_file, *paths]:
        text = node_files.read(path, follow=True)
        if text is not None:
            try:
                found.append(File(path, config_yaml.parse(text)))
            except config_yaml.YamlError as error:
                raise NodeError("%s:%d: %s" % (path, error.line, error.why)) from error
    return found
