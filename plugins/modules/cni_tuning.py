#!/usr/bin/python
"""The module kubekeel.ha.cni_tuning."""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

DOCUMENTATION = r"""
module: cni_tuning
short_description: Give new pods sysctls by the CNI plugin tuning
version_added: 0.1.0
description:
  - Puts the plugin C(tuning) of containernetworking-plugins at the end of the node's CNI chain, or takes it out again. Every pod that
    starts from then on has the sysctls, pods that run are left alone. containerd reads the file anew by itself; nothing restarts.
  - Finds the file as containerd does, the first one by name in the folder that its configuration names, and touches nothing in it but
    an entry of its own.
  - A chain with a plugin that fails starts no pod any more. So the plugin itself is run before anything is changed, in check mode,
    too, with exactly these sysctls in a network namespace made for that; where it fails nothing is changed.
options:
  sysctls:
    description:
      - Sysctl name below C(net.) to value. What somebody else's entry of C(tuning) sets to the same value stays there; another value
        is refused.
      - Without any the module takes out what it put there.
    type: dict
    required: true
requirements:
  - the CNI plugin tuning, where O(sysctls) names any
extends_documentation_fragment:
  - kubekeel.ha.attributes
  - kubekeel.ha.attributes.writes
  - kubekeel.ha.distribution
  - kubekeel.ha.run
seealso:
  - module: kubekeel.ha.tcp_connections
  - module: kubekeel.ha.sysctl_profile
"""

EXAMPLES = r"""
- name: New pods give up a dead TCP connection after 102 instead of 924 seconds
  kubekeel.ha.cni_tuning:
    sysctls:
      net.ipv4.tcp_retries2: 8

- name: New pods have the kernel's own again
  kubekeel.ha.cni_tuning:
    sysctls: {}
"""

RETURN = r"""
file:
  description: The file that the runtime takes; null where there is none.
  returned: success
  type: str
  sample: /var/snap/microk8s/current/args/cni-network/10-calico.conflist
plugins:
  description: The plugins of its chain, as the module leaves it.
  returned: success
  type: list
  elements: str
  sample: [calico, bandwidth, portmap, tuning]
changes:
  description:
    - Each sysctl that new pods get, or get no more, with C(owner), C(name), C(before), C(after), C(path), C(note), C(why), C(source).
  returned: success
  type: list
  elements: dict
reasons:
  description:
    - Why it cannot be done, with the cure. Where there is one the module changes nothing and fails; in check mode it only says so.
  returned: success
  type: list
  elements: str
restart:
  description: Always empty.
  returned: success
  type: list
  elements: str
"""

import contextlib
import dataclasses
import os
import subprocess
from dataclasses import dataclass, field
from typing import Any, Iterator, Mapping

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubekeel.ha.plugins.module_utils import (
    cni_config,
    distribution,
    k3s,
    microk8s,
    node_change,
    node_files,
    node_module,
    run_record,
    running_kernel,
    settings,
    sysctl_files,
)
from ansible_collections.kubekeel.ha.plugins.module_utils.node_change import FileChange
from ansible_collections.kubekeel.ha.plugins.module_utils.node_files import NodeError

OWNER = "new pods"
WHY = "a pod starts with the kernel's sysctls, whatever those of its host are"
SOURCE = "Linux net/ipv4/tcp_ipv4.c, tcp_sk_init; cni.dev, tuning plugin"
FLANNEL_KEY = "flannel-cni-conf"


@dataclass
class Place:
    """Where this node's runtime looks for CNI."""

    folders: cni_config.Folders
    flannel: bool = False
    """Whether the flannel of K3s is in charge of the folder."""
    source: str | None = None
    """The file that K3s copies at each start, where it is told one."""


@dataclass
class Decision:
    """What is to be done."""

    path: str | None = None
    plugins: list[str] = field(default_factory=list)
    files: list[FileChange] = field(default_factory=list)
    changes: list[node_change.Change] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)


def wanted_sysctls(sysctls: Mapping[str, Any]) -> dict[str, str]:
    """Return the option O(sysctls) by dotted names, with every value as text.

    Raises:
        NodeError: a name or a value cannot be meant.
    """
    wanted = {}
    for name, value in sysctls.items():
        dotted, text = sysctl_files.dotted(name), sysctl_files.normalize(str(value))
        # A slash in a dotted name stands for a dot, which tuning would take for a slash.
        if not sysctl_files.is_name(dotted) or not dotted.startswith("net.") or "/" in dotted:
            raise NodeError("sysctls: '%s' is no sysctl of a network namespace, net.ipv4.tcp_retries2 for instance" % name)
        if isinstance(value, bool) or not isinstance(value, (str, int, float)) or not text or not text.isprintable():
            raise NodeError("sysctls.%s: a number or a text is needed, not %r" % (name, value))
        wanted[dotted] = text
    return wanted


def place_of(module: AnsibleModule) -> Place | None:
    """Return where the runtime of this node looks, None on one that runs no pods.

    Raises:
        NodeError: a configuration cannot be read.
    """
    found = distribution.find(module)
    if found.name == distribution.MICROK8S:
        text = first_of(microk8s.ARGS_DIR + "/containerd.toml", microk8s.ARGS_DIR + "/containerd-template.toml")
        folders = cni_config.folders(text, {"SNAP_DATA": microk8s.DATA, "SNAP": microk8s.SNAP})
        usual = microk8s.ARGS_DIR + "/cni-network"
        # The same by the name that outlives a refresh of the snap.
        same = os.path.realpath(folders.conf) == os.path.realpath(usual)
        return Place(dataclasses.replace(folders, conf=usual) if same else folders)
    node = k3s.K3sNode(module, found.unit)
    if settings.KUBELET in node.absent:
        return None
    own = os.path.join(node.data_dir, "agent/etc/containerd/config.toml")
    external = node.value("container-runtime-endpoint") is not None
    defaults = cni_config.DEFAULTS_OF_ANY if external else cni_config.DEFAULTS
    folders = cni_config.folders(first_of("/etc/containerd/config.toml" if external else own), {}, defaults)
    flannel = folders.conf == os.path.join(node.data_dir, "agent/etc/cni/net.d")
    source = node.value(FLANNEL_KEY) if flannel else None
    return Place(folders, flannel, source.value if source and source.value else None)


def first_of(*paths: str) -> str:
    """Return the text of the first file that is there, an empty one where none is.

    Raises:
        NodeError: it cannot be read.
    """
    texts = (node_files.read(path, follow=True) for path in paths)
    return next((text for text in texts if text is not None), "")


def names_in(folder: str) -> list[str]:
    """Return the names of the files in a folder, none where it is not there.

    Raises:
        NodeError: it cannot be read.
    """
    try:
        return sorted(name for name in os.listdir(folder) if os.path.isfile(os.path.join(folder, name)))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise NodeError("%s cannot be read: %s" % (folder, error.strerror)) from error


def decide(place: Place, wanted: Mapping[str, str]) -> Decision:
    """Return what is to be done for new pods to have these sysctls, and no others that kubekeel gave them.

    Raises:
        NodeError: a file cannot be read.
    """
    names = names_in(place.folders.conf)
    name = cni_config.chosen(names)
    path = os.path.join(place.folders.conf, name) if name else None
    made = Decision(path)
    targets = []
    if wanted:
        made.reasons = refusals(place, path)
        targets = [path] if path else []
        if path and place.source and os.path.basename(path) == cni_config.K3S_FLANNEL:
            targets.append(place.source)
    others = [os.path.join(place.folders.conf, each) for each in names if each.endswith(cni_config.CHAIN)]
    for each in dict.fromkeys([*targets, *others, *([place.source] if place.source else [])]):
        if not made.reasons:
            change(made, each, wanted if each in targets else {}, place, each == path)
    if path and place.source in targets and not made.reasons and first_of(path) != first_of(place.source):
        # K3s would make of the one what this run never wrote, and a rollback would take that for somebody else's.
        made.reasons.append(
            "%s (%s) is copied over %s when K3s starts, and differs from it: restart K3s first ('kubekeel restart')"
            % (place.source, FLANNEL_KEY, path)
        )
    return made


def refusals(place: Place, path: str | None) -> list[str]:
    """Return what speaks against any entry in the file that the runtime takes."""
    if path is None:
        return ["%s holds no CNI configuration; has the network plugin of this node been installed?" % place.folders.conf]
    if not path.endswith(cni_config.CHAIN):
        return [
            "%s is what the runtime takes, and holds a single plugin, not a chain: a plugin cannot be added. Let its owner write a "
            "*%s, or choose tcp_timeouts_pods=init-container" % (path, cni_config.CHAIN)
        ]
    if place.flannel and os.path.basename(path) == cni_config.K3S_FLANNEL and not place.source:
        return [
            "%s is written by K3s at each start, which would take the entry out: copy it to /etc/rancher/k3s/flannel.conflist, set "
            "%s: /etc/rancher/k3s/flannel.conflist in the configuration of K3s and restart it ('kubekeel restart'); kubekeel changes "
            "both files then" % (path, FLANNEL_KEY)
        ]
    return []


def change(made: Decision, path: str, wanted: Mapping[str, str], place: Place, counts: bool) -> None:
    """Add to a decision what one file needs.

    Args:
        made: the decision.
        path: the file.
        wanted: what its entry of ours is to set.
        place: where the plugin is looked for.
        counts: whether it is the file that the runtime takes.

    Raises:
        NodeError: the allowlist of tuning cannot be read, or a network namespace cannot be made.
    """
    try:
        text = node_files.read(path, follow=True)
        chain = cni_config.parse(text or "")
        after = cni_config.with_ours(chain, wanted)
        left = cni_config.parse(after)
    except (NodeError, cni_config.ChainError) as error:
        # Of files that are nobody's business the ones that hold nothing of ours, or nothing else, are left alone.
        if wanted:
            made.reasons.append("%s cannot be changed: %s" % (path, error))
        return
    contradicts = cni_config.conflicts(chain, wanted)
    if contradicts:
        made.reasons.append(
            "%s has an entry of tuning that sets %s; kubekeel changes no entry but its own. Set it to the wanted value there, or "
            "remove it" % (path, ", ".join(contradicts))
        )
        return
    values = rehearse(made, chain, wanted, place) if wanted else {}
    if made.reasons:
        return
    made.plugins = left.types if counts else made.plugins
    if after == text:
        return
    if os.path.islink(path):
        made.reasons.append("%s is a link, which kubekeel does not follow to write: put a file in its place" % path)
        return
    made.files.append(FileChange(path, text, after))
    before = chain.ours
    note = history(path, chain, wanted)
    known = [one.name for one in made.changes]
    for name in sorted({*before, *left.ours}):
        if before.get(name) != wanted.get(name) and "cni:" + name not in known:
            old, new = before.get(name) or values.get(name), wanted.get(name) or "the kernel's"
            made.changes.append(node_change.Change(OWNER, "cni:" + name, old, new, path, note))


def history(path: str, chain: cni_config.Chain, wanted: Mapping[str, str]) -> str:
    """Return what is to be known of a file that gets an entry which is not there."""
    if not wanted or chain.ours:
        return ""
    writer = next((cni_config.WRITERS[plugin] for plugin in chain.types if plugin in cni_config.WRITERS), "")
    run = ""
    with contextlib.suppress(NodeError):
        run = put_in_by(path)
    return "; ".join(filter(None, ["run %s had put it there, and it was taken out since" % run if run else "", writer]))


def put_in_by(path: str) -> str:
    """Return the latest run that put an entry of ours into a file; empty where the latest one that changed it took it out.

    Raises:
        NodeError: a record cannot be read.
    """
    for record in run_record.all_runs():
        entry = next((one for one in record.entries if (one["kind"], one["name"]) == ("file", path)), None)
        if entry is None or record.state == run_record.RESTORED:
            continue
        try:
            before = cni_config.parse(record.kept_text(entry) or "")
        except cni_config.ChainError:
            return ""
        removed = run_record.checksum(cni_config.with_ours(before, {}))
        return record.run_id if not before.ours or removed not in entry["after"] else ""
    return ""


def rehearse(made: Decision, chain: cni_config.Chain, wanted: Mapping[str, str], place: Place) -> dict[str, str]:
    """Run the plugin as the runtime will, in a network namespace of its own; return the values that the kernel has there before.

    What speaks against it is added to the decision's reasons.
    """
    forbidden = cni_config.not_allowed(sorted(wanted), node_files.read(cni_config.ALLOWLIST, follow=True))
    if forbidden:
        made.reasons.append(
            "%s keeps tuning from setting %s, and no new pod would start: add them there, each on a line of its own"
            % (cni_config.ALLOWLIST, ", ".join(forbidden))
        )
        return {}
    searched = searched_by(place.folders, chain)
    if not searched:
        made.reasons.append(
            "none of %s holds all plugins of the chain (%s), so it cannot be told where the runtime looks: set bin_dir in the "
            "configuration of containerd" % (", ".join(place.folders.bins), ", ".join(chain.types))
        )
        return {}
    found = [next((folder for folder in folders if is_program(folder, cni_config.PLUGIN)), "") for folders in searched]
    missing_in = [" or ".join(folders) for folders, folder in zip(searched, found) if not folder]
    if missing_in:
        made.reasons.append(
            "the CNI plugin %s is not in %s, and with it in the chain no new pod would start: put the program of "
            "containernetworking-plugins there" % (cni_config.PLUGIN, " and not in ".join(missing_in))
        )
        return {}
    with running_kernel.new_network() as network:
        values: dict[str, str] = running_kernel.in_networks([network], lambda: dict(present(wanted)))[0]
        missing = sorted(set(wanted) - set(values))
        if missing:
            made.reasons.append("a pod has no sysctl %s: the kernel knows it for the host only, or not at all" % ", ".join(missing))
            return {}
        for folder in found:
            program = os.path.join(folder, cni_config.PLUGIN)
            said = next(filter(None, (run_plugin(program, text, network) for text in cni_config.rehearsals(chain, wanted))), "")
            if said:
                made.reasons.append("%s was tried and failed, so that no new pod would start: %s" % (program, said))
    return values


def searched_by(folders: cni_config.Folders, chain: cni_config.Chain) -> list[tuple[str, ...]]:
    """Return the folders that the runtime searches for plugins, for each way in which it may have been built.

    Where that is not known it is a folder with all plugins of the chain but ours; none, where there is no such folder.
    """
    if not folders.one_of:
        return [folders.bins]
    theirs = [str(element.value.get("type", "")) for element in chain.elements if not cni_config.is_ours(element.value)]
    return [(folder,) for folder in folders.bins if all(is_program(folder, plugin) for plugin in theirs)]


def is_program(folder: str, name: str) -> bool:
    """Tell whether a plugin is in a folder."""
    return bool(name) and os.access(os.path.join(folder, os.path.basename(name)), os.X_OK)


def present(names: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Give the sysctls that the network namespace of this process has, with their values."""
    for name in names:
        with contextlib.suppress(NodeError):
            yield name, running_kernel.sysctl(name)


def run_plugin(program: str, configuration: str, network: str) -> str:
    """Run a plugin for a network namespace, and return what it complains of, an empty text where it does not."""
    environment = {"CNI_COMMAND": "ADD", "CNI_CONTAINERID": "kubekeel", "CNI_NETNS": network, "CNI_IFNAME": "lo"}
    environment.update(CNI_PATH=os.path.dirname(program), PATH=os.environ.get("PATH", ""))
    try:
        done = subprocess.run([program], input=configuration.encode(), capture_output=True, env=environment, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    said = (done.stdout or done.stderr).decode("utf-8", "replace")
    return (cni_config.complaint(said) or "it ended with %d" % done.returncode) if done.returncode else ""


def run(module: AnsibleModule) -> dict[str, Any]:
    """Do the module's work and return its result.

    Raises:
        NodeError: the operator has to know, and nothing was changed; or a file cannot be written.
    """
    wanted, place = wanted_sysctls(module.params["sysctls"]), place_of(module)
    made = decide(place, wanted) if place else Decision()
    if not module.check_mode:
        if made.reasons:
            raise NodeError("; ".join(made.reasons), reasons=made.reasons)
        node_change.keep(module.params["run_id"], made.files)
        node_change.write(made.files)
    return {
        "changed": bool(made.files) and not made.reasons,
        "file": made.path,
        "plugins": made.plugins,
        "changes": [] if made.reasons else [dict(change.as_result(), why=WHY, source=SOURCE) for change in made.changes],
        "diff": [] if made.reasons else [change.as_diff() for change in made.files],
        "reasons": made.reasons,
        "restart": [],
    }


def main() -> None:
    """Run the module."""
    node_module.execute(
        {"distribution": distribution.OPTION, "sysctls": {"type": "dict", "required": True}, "run_id": {"type": "str"}},
        run,
    )


if __name__ == "__main__":
    main()
