"""The inventory plugin kubekeel.ha.cluster."""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import os
import pathlib
import shlex
import subprocess
from collections.abc import Iterable
from typing import Any

from ansible import constants
from ansible.errors import AnsibleParserError
from ansible.plugins.inventory import BaseInventoryPlugin, Cacheable, Constructable
from ansible.utils.path import unfrackpath
from ansible_collections.kubekeel.ha.plugins.plugin_utils import cluster_nodes
from ansible_collections.kubekeel.ha.plugins.plugin_utils.cluster_nodes import ClusterError, Host

DOCUMENTATION = r"""
name: cluster
short_description: Hosts and groups out of the nodes of a K3s or MicroK8s cluster
version_added: 0.1.0
author: the kubekeel authors (@kubekeel)
description:
  - Asks a cluster for its nodes, with C(kubectl get nodes -o json), and makes a host of each. Nobody has to write an
    inventory, and the inventory is the cluster's.
  - The name of a host is the name of its node. Its address is one of the node's own, see O(address_type); a node that
    has told none is reached by its name.
  - Needs C(kubectl) or a file with its output, and no library of Kubernetes.
  - The source is a YAML file with the key O(plugin), whose name ends in C(kubekeel.yml) or C(kubekeel.yaml), for instance
    C(kubekeel.yml) or C(production.kubekeel.yml). Put C(group_vars) beside it.
notes:
  - The groups V(servers), V(agents), V(etcd), V(control_plane), V(k3s), V(microk8s) and V(rke2) are always there, with or
    without members. Each release has a group that is named like V(release_v1_32_3_k3s1).
  - A server is a node with a label C(node-role.kubernetes.io/control-plane), C(node-role.kubernetes.io/master),
    C(node-role.kubernetes.io/etcd) or C(node.kubernetes.io/microk8s-controlplane), whatever its value. All others are
    agents.
  - A server is in V(etcd) and V(control_plane) by these labels. The servers of MicroK8s, whose datastore is Dqlite, are in
    V(control_plane) and never in V(etcd).
  - Hosts have an order. Servers with etcd come first, then other servers, then agents; among themselves they stand by their
    names, V(server2) before V(server10).
  - Host variables are C(ansible_host), C(kubekeel_node_name), C(kubekeel_release) (as in V(v1.32.3+k3s1)),
    C(kubekeel_distribution) (V(k3s), V(microk8s), V(rke2), or absent where none was recognised), C(kubekeel_ready),
    C(kubekeel_labels) and C(kubekeel_internal_ip) (empty where the node has none).
  - What comes from the cluster is data. Ansible never takes it for a template.
  - A node whose name is no DNS name, is C(localhost), or is also the name of a group, is refused, and so is an address that
    is neither an IP address nor a host name. Then no host is made at all.
  - Where a source fails Ansible goes on with a warning and without its hosts. Set E(ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED)
    to make that the end of the run.
requirements:
  - kubectl, unless O(nodes_file) is given
  - jmespath (Python package), for O(query), O(jmespath_groups) and O(jmespath_vars)
extends_documentation_fragment: [constructed, inventory_cache]
options:
  plugin:
    description: Says that the file is for this plugin.
    type: str
    required: true
    choices: [kubekeel.ha.cluster]
  kubectl:
    description:
      - The command, as a list of words. It is run as it is, without a shell.
      - To ask from a server put the way there before it, such as V([ssh, server1, sudo, k3s, kubectl]). The shell at the
        other end takes the words apart again.
    type: list
    elements: str
    default: [kubectl]
  kubeconfig:
    description:
      - A kubeconfig on this machine. A path that is not absolute begins at the folder of the inventory source.
      - Without it C(kubectl) takes its own default, which is the environment variable E(KUBECONFIG) and then
        C(~/.kube/config); C(k3s kubectl) and C(microk8s kubectl) have others.
    type: str
  context:
    description: A context of the kubeconfig, if not its current one.
    type: str
  timeout:
    description: For how many seconds to wait for the nodes.
    type: int
    default: 30
  nodes_file:
    description:
      - A file with the output of C(kubectl get nodes -o json), for where the cluster cannot be asked from here. C(kubectl) is
        not run then, and nothing is cached.
      - A path that is not absolute begins at the folder of the inventory source.
    type: str
  address_type:
    description: The address for C(ansible_host). Where a node has none of this type, the first of the others is taken.
    type: str
    choices: [InternalIP, ExternalIP, Hostname]
    default: InternalIP
  query:
    description: A JMESPath expression on the list of node objects. Hosts are made of the nodes that it returns.
    type: str
  jmespath_groups:
    description:
      - Names of groups, each with a JMESPath expression on a node object. A node is a member where the result is anything
        but null, false, zero or empty.
      - Where a function in it does not take what a node has, the node is no member; with O(strict) that is an error.
    type: dict
    default: {}
  jmespath_vars:
    description:
      - Names of host variables, each with a JMESPath expression on the node object. Where the result is null the host does
        not get the variable. Variables of this plugin that have the same name give way.
      - Where a function in it does not take what a node has, the same; with O(strict) that is an error.
    type: dict
    default: {}
"""

EXAMPLES = r"""
# kubekeel.yml: the cluster of your kubeconfig, with a context of its own.
plugin: kubekeel.ha.cluster
context: production

---
# edge.kubekeel.yml: K3s, asked on one of its servers, at most every five minutes. Servers of one zone only, reached by
# their public addresses.
plugin: kubekeel.ha.cluster
kubectl: [ssh, server1.example.com, sudo, k3s, kubectl]
address_type: ExternalIP
query: "[?metadata.labels.\"topology.kubernetes.io/zone\"=='a']"
cache: true
cache_plugin: ansible.builtin.jsonfile
cache_connection: ~/.cache/kubekeel/inventory
cache_timeout: 300

---
# saved.kubekeel.yml: nodes that somebody sent; groups and variables out of the node objects, by JMESPath and by Jinja.
plugin: kubekeel.ha.cluster
nodes_file: nodes.json
jmespath_groups:
  cordoned: spec.unschedulable
  tainted: length(spec.taints || `[]`)
jmespath_vars:
  kernel: status.nodeInfo.kernelVersion
  pod_cidrs: spec.podCIDRs
compose:
  ansible_user: "'ubuntu' if kubekeel_distribution == 'microk8s' else 'root'"
groups:
  not_ready: not kubekeel_ready
keyed_groups:
  - prefix: zone
    key: kubekeel_labels['topology.kubernetes.io/zone']
"""


class InventoryModule(BaseInventoryPlugin, Constructable, Cacheable):
    """Make hosts of the nodes of a cluster."""

    NAME = "kubekeel.ha.cluster"

    def verify_file(self, path: str) -> bool:
        """Tell by its name whether a file is for this plugin."""
        return bool(super().verify_file(path)) and path.endswith(("kubekeel.yml", "kubekeel.yaml"))

    def parse(self, inventory: Any, loader: Any, path: str, cache: bool = True) -> None:
        """Add hosts, their variables and groups; nothing is added before everything was looked at.

        Raises:
            AnsibleParserError: the operator has to know.
        """
        super().parse(inventory, loader, path, cache)
        self._read_config_data(path)
        try:
            nodes = self._nodes(path, cache)
            if self.get_option("query"):
                nodes = cluster_nodes.select(nodes, self.get_option("query"))
            hosts = cluster_nodes.to_hosts(nodes, self.get_option("address_type"))
            groups = {host.name: [*host.groups, *self._searched_groups(host)] for host in hosts}
            variables = {host.name: {**host.variables, **self._searched_variables(host)} for host in hosts}
            standing = [*cluster_nodes.GROUPS, *map(self._sanitize_group_name, self.get_option("jmespath_groups"))]
            self._refuse_names(groups, {*standing, *self.inventory.groups})
        except ClusterError as error:
            # Ansible prints the causes as well, and the message has what they say.
            raise AnsibleParserError(str(error)) from None
        if not any("servers" in names for names in groups.values()):
            self.display.warning(
                "%s: no node has a label of a server (%s), so the group servers is empty" % (path, ", ".join(cluster_nodes.SERVER_LABELS))
            )
        for group in standing:
            self.inventory.add_group(group)
        self._add_hosts(groups, variables)

    def _add_hosts(self, groups: dict[str, list[str]], variables: dict[str, dict[str, Any]]) -> None:
        """Add what was found, then what Ansible's own options make of it."""
        strict = self.get_option("strict")
        for name, values in variables.items():
            self.inventory.add_host(name)
            for group in groups[name]:
                self.inventory.add_host(name, self.inventory.add_group(group))
            for variable, value in values.items():
                self.inventory.set_variable(name, variable, value)
            self._set_composite_vars(self.get_option("compose"), self.inventory.get_host(name).get_vars(), name, strict=strict)
        # A group of these may have the name of a node, whose variables would then be the group's: hence all of those first.
        for name in variables:
            known = self.inventory.get_host(name).get_vars()
            self._add_host_to_composed_groups(self.get_option("groups"), known, name, strict=strict)
            self._add_host_to_keyed_groups(self.get_option("keyed_groups"), known, name, strict=strict)

    def _refuse_names(self, names: Iterable[str], groups: set[str]) -> None:
        """Refuse a node that Ansible would take for a group, so that all of its hosts had the node's address, or for this machine."""
        for name in names:
            if name in groups or name in constants.LOCALHOST:
                meaning = "an inventory group" if name in groups else "this machine"
                raise ClusterError("node %s has a name that means %s to Ansible: leave it out with the option query" % (name, meaning))

    def _searched_groups(self, host: Host) -> list[str]:
        found = self._searched("jmespath_groups", host)
        return [self._sanitize_group_name(group) for group, result in found.items() if result]

    def _searched_variables(self, host: Host) -> dict[str, Any]:
        return {name: result for name, result in self._searched("jmespath_vars", host).items() if result is not None}

    def _searched(self, option: str, host: Host) -> dict[str, Any]:
        """Return the result of each expression of an option."""
        found = {}
        for name, expression in self.get_option(option).items():
            try:
                found[name] = cluster_nodes.search(expression, host.node, "%s.%s" % (option, name))
            except cluster_nodes.UnfitError as error:
                if self.get_option("strict"):
                    raise ClusterError("%s, for node %s" % (error, host.name)) from error
        return found

    def _nodes(self, path: str, cache: bool) -> list[Any]:
        """Return the node objects out of the file, the cache or the cluster."""
        if self.get_option("nodes_file"):
            file = unfrackpath(self.get_option("nodes_file"), follow=False, basedir=path)
            try:
                return cluster_nodes.read_nodes(pathlib.Path(file).read_text("utf-8", "replace"), file)
            except OSError as error:
                raise ClusterError("nodes_file %s cannot be read: %s" % (file, error.strerror)) from error
        command = self._command(path)
        source = "'%s'" % shlex.join(command)
        if not self.get_option("cache"):
            return cluster_nodes.read_nodes(self._ask(command, source), source)
        # The nodes of another cluster must not be taken for those of this one.
        key = self.get_cache_key("\n".join([path, *command, os.environ.get("KUBECONFIG", "")]))
        text = self.cache.get(key) if cache else None
        # Kept as a text: a cache may read structures in a way of its own, which makes more than data of them.
        if not isinstance(text, str):
            text = self._ask(command, source)
        nodes = cluster_nodes.read_nodes(text, source)
        self.cache[key] = text
        return nodes

    def _command(self, path: str) -> list[str]:
        words = [str(word) for word in self.get_option("kubectl")]
        if not words:
            raise ClusterError("the option kubectl is empty: give the words of a command, such as [k3s, kubectl]")
        if self.get_option("kubeconfig"):
            words.append("--kubeconfig=" + unfrackpath(self.get_option("kubeconfig"), follow=False, basedir=path))
        if self.get_option("context"):
            words.append("--context=" + self.get_option("context"))
        return [*words, "get", "nodes", "-o", "json", "--request-timeout=%ds" % self.get_option("timeout")]

    def _ask(self, command: list[str], source: str) -> str:
        """Run kubectl and return what it prints."""
        timeout = self.get_option("timeout")
        try:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout, check=False)
        except FileNotFoundError as error:
            raise ClusterError(
                "there is no program '%s' here: install it, name another one in the option kubectl as a list of words, such as"
                " [k3s, kubectl], or give the nodes with nodes_file" % command[0]
            ) from error
        except OSError as error:
            raise ClusterError("%s cannot be run: %s" % (source, error.strerror)) from error
        except subprocess.TimeoutExpired as error:
            raise ClusterError(
                "%s gives no answer within %d s: is the API server up, and reachable from here? Otherwise raise the option timeout"
                % (source, timeout)
            ) from error
        if done.returncode != 0:
            # kubectl says what it tried first and what is wrong last.
            lines = done.stderr.decode("utf-8", "replace").split("\n")
            said = [line.strip() for line in lines if line.strip()] or ["nothing"]
            raise ClusterError("%s fails (exit code %d) and says: %s" % (source, done.returncode, said[-1]))
        return done.stdout.decode("utf-8", "replace")
