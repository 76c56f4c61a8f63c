"""CNI configuration: which file the runtime takes, and the entry of the plugin C(tuning) in its chain. Pure.

A chain is a file C(*.conflist) with a list C(plugins), run in order for each new pod. C(tuning) writes sysctls in the network
namespace of that pod (containernetworking/plugins plugins/meta/tuning). Nothing but the entry of ours is touched, so that taking it
out leaves the bytes that were there.
"""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from typing import Any, Iterable, Mapping

PLUGIN = "tuning"
MARK = "kubekeel"
"""A key of our entry that tells it from others. C(tuning) skips keys that it does not know (encoding/json of Go)."""
MARKED_AS = "tcp_timeouts"
CHAIN = ".conflist"
ALLOWLIST = "/etc/cni/tuning/allowlist.conf"
"""Patterns of the sysctls that C(tuning) may set, where the file is there (plugins/meta/tuning/tuning.go, readAllowlist)."""
K3S_FLANNEL = "10-flannel.conflist"
"""K3s writes it at each start, or copies the file that C(flannel-cni-conf) names over it (k3s pkg/agent/flannel/setup.go)."""

WRITERS = {
    "calico": "calico-node writes the file anew when it starts: put the entry into cni_network_config of its ConfigMap"
    " (kube-system/calico-config), too (canonical/microk8s#1989)",
    "cilium-cni": "cilium-agent writes the file anew when it starts: give it a file of your own (cni.customConf, cni.configMap)",
    "flannel": "the DaemonSet of flannel copies the file from its ConfigMap (kube-flannel-cfg) when it starts: put the entry there, too",
}
"""Who writes a chain with this plugin again, so that the entry goes, and what to do for good."""

_EXTENSIONS = (".conf", CHAIN, ".json")
_SPACE = " \t\r\n"
_CNI_TABLE = re.compile(r"\[\s*plugins\s*\.\s*(?:\"[^\"]*\"|'[^']*'|cri)\s*\.\s*cni\s*\]")
_DECODER = json.JSONDecoder()


@dataclass(frozen=True)
class Folders:
    """Where a container runtime looks."""

    conf: str
    bins: tuple[str, ...]
    """It searches all of them."""
    one_of: bool = False
    """Whether it searches one of C(bins) only, and which one is not known."""


DEFAULTS = Folders("/etc/cni/net.d", ("/opt/cni/bin",))
"""Of containerd (internal/cri/config/config_unix.go), which K3s and MicroK8s build without another one."""
DEFAULTS_OF_ANY = Folders(DEFAULTS.conf, ("/opt/cni/bin", "/usr/lib/cni"), one_of=True)
"""Of a containerd that somebody else built: Debian's has the second folder."""


class ChainError(ValueError):
    """A file is no chain that can be changed; the text says why."""


def folders(toml: str, variables: Mapping[str, str], defaults: Folders = DEFAULTS) -> Folders:
    """Return where containerd looks, by its configuration: C(conf_dir), C(bin_dir) or C(bin_dirs) of the CRI plugin's table C(cni).

    Args:
        toml: config.toml, of version 1, 2 or 3.
        variables: values of C(${NAME}), which stand in the template of MicroK8s.
        defaults: where it looks without a word in its configuration.
    """
    found: dict[str, list[str]] = {}
    inside = False
    for line in map(str.strip, toml.splitlines()):
        if line.startswith("["):
            inside = bool(_CNI_TABLE.fullmatch(line.partition("#")[0].strip()))
        elif inside:
            name, equals, value = line.partition("=")
            if equals and not name.startswith("#"):
                found[name.strip()] = [first or second for first, second in re.findall(r"\"([^\"]*)\"|'([^']*)'", value)]
    conf = found.get("conf_dir") or [defaults.conf]
    bins = found.get("bin_dirs") or found.get("bin_dir")
    one_of = defaults.one_of and not bins
    return Folders(_expanded(conf[0], variables), tuple(_expanded(path, variables) for path in bins or defaults.bins), one_of)


def _expanded(path: str, variables: Mapping[str, str]) -> str:
    return re.sub(r"\$\{(\w+)\}", lambda found: variables.get(found.group(1), found.group(0)), path).rstrip("/")


def chosen(names: Iterable[str]) -> str | None:
    """Return which file of its folder the runtime takes: the first by name (containerd/go-cni, loadFromConfDir)."""
    return min((name for name in names if os.path.splitext(name)[1] in _EXTENSIONS), default=None)


@dataclass(frozen=True)
class _Element:
    start: int
    end: int
    value: Any


@dataclass(frozen=True)
class Chain:
    """A C(*.conflist), with where its plugins stand in its text."""

    text: str
    name: str
    versions: tuple[str, ...]
    """Of the CNI specification: a runtime takes one of them."""
    elements: tuple[_Element, ...]

    @property
    def types(self) -> list[str]:
        """The plugins, in order."""
        return [str(element.value.get("type", "")) for element in self.elements]

    @property
    def ours(self) -> dict[str, str]:
        """The sysctls of our entry, empty where there is none."""
        return next((sysctls_of(element.value) for element in self.elements if is_ours(element.value)), {})

    @property
    def theirs(self) -> dict[str, str]:
        """The sysctls that other entries of C(tuning) set."""
        found: dict[str, str] = {}
        for element in self.elements:
            if element.value.get("type") == PLUGIN and not is_ours(element.value):
                found.update(sysctls_of(element.value))
        return found


def is_ours(entry: Mapping[str, Any]) -> bool:
    """Tell whether kubekeel put a plugin's entry there."""
    return entry.get("type") == PLUGIN and entry.get(MARK) == MARKED_AS


def sysctls_of(entry: Mapping[str, Any]) -> dict[str, str]:
    """Return what an entry of C(tuning) sets, by dotted names."""
    found = entry.get("sysctl")
    return {str(name).replace("/", "."): str(value) for name, value in found.items()} if isinstance(found, dict) else {}


def parse(text: str) -> Chain:
    """Return a chain.

    Raises:
        ChainError: it is none, or no JSON.
    """
    try:
        known = json.loads(text)
        plugins = known["plugins"]
        if not plugins or not all(isinstance(plugin, dict) for plugin in plugins):
            raise ChainError("its list 'plugins' is empty, or holds something else than plugins")
        elements = _elements(text)
    except (KeyError, TypeError) as error:
        raise ChainError("it has no list 'plugins'") from error
    except RecursionError as error:
        raise ChainError("it is nested too deeply") from error
    except ChainError:
        raise
    except ValueError as error:
        raise ChainError("it is no JSON: %s" % error) from error
    several = known.get("cniVersions")
    versions = (known.get("cniVersion", ""), *(several if isinstance(several, list) else ()))
    return Chain(text, str(known.get("name", "")), tuple(dict.fromkeys(map(str, versions))), elements)


def _elements(text: str) -> tuple[_Element, ...]:
    """Return the elements of the list C(plugins); of two lists the last one's, as JSON readers do."""
    found: tuple[_Element, ...] = ()
    at = _skip(text, _skip(text, 0) + 1)
    while text[at] != "}":
        key, at = _DECODER.raw_decode(text, at)
        at = _skip(text, _skip(text, at) + 1)
        value, end = _DECODER.raw_decode(text, at)
        if key == "plugins" and isinstance(value, list):
            found = tuple(_list(text, at + 1))
        at = _skip(text, end)
        if text[at] == ",":
            at = _skip(text, at + 1)
    return found


def _list(text: str, at: int) -> Iterable[_Element]:
    at = _skip(text, at)
    while text[at] != "]":
        value, end = _DECODER.raw_decode(text, at)
        yield _Element(at, end, value)
        at = _skip(text, end)
        if text[at] == ",":
            at = _skip(text, at + 1)


def _skip(text: str, at: int) -> int:
    while text[at] in _SPACE:
        at += 1
    return at


def conflicts(chain: Chain, wanted: Mapping[str, str]) -> list[str]:
    """Return which sysctls somebody else's entry of C(tuning) sets to something else, as V(name = value)."""
    theirs = chain.theirs
    return ["%s = %s" % (name, theirs[name]) for name in sorted(wanted) if name in theirs and theirs[name] != wanted[name]]


def with_ours(chain: Chain, wanted: Mapping[str, str]) -> str:
    """Return the text of a chain with an entry of ours at its end that sets what no other entry does; without one for nothing.

    Args:
        chain: as it is.
        wanted: by dotted names, without what C(conflicts).
    """
    theirs = chain.theirs
    sysctls = {name: value for name, value in sorted(wanted.items()) if name not in theirs}
    mine = [sysctls_of(element.value) for element in chain.elements if is_ours(element.value)]
    if mine == ([sysctls] if sysctls else []):
        return chain.text
    text = _without_ours(chain)
    if not sysctls:
        return text
    chain = parse(text)
    last = chain.elements[-1]
    # As the last entry is set off from what stands before it: on a line of its own, or on the same one.
    space = text[len(text[: last.start].rstrip(_SPACE)) : last.start] or " "
    entry = {"type": PLUGIN, MARK: MARKED_AS, "sysctl": sysctls}
    return text[: last.end] + "," + space + _rendered(entry, space, text) + text[last.end :]


def _rendered(entry: Mapping[str, Any], space: str, text: str) -> str:
    if "\n" not in space:
        return json.dumps(entry)
    unit = re.match(r"\s*\{[ \t\r]*\n([ \t]+)", text)
    step = unit.group(1) if unit else "  "
    newline = "\r\n" if "\r\n" in space else "\n"
    return json.dumps(entry, indent=step).replace("\n", newline + space.rpartition("\n")[2])


def _without_ours(chain: Chain) -> str:
    pieces, done, follows = [], 0, False
    for at, element in enumerate(chain.elements):
        if not is_ours(element.value):
            follows = True
            continue
        # With the comma before it, or, where none of somebody else's stands before it, with the one after it.
        after = chain.elements[at + 1].start if at + 1 < len(chain.elements) else element.end
        start, end = (chain.elements[at - 1].end, element.end) if follows else (element.start, after)
        pieces.append(chain.text[done:start])
        done = end
    return "".join([*pieces, chain.text[done:]])


def not_allowed(names: Iterable[str], allowlist: str | None) -> list[str]:
    """Return the sysctls that the list of C(ALLOWLIST) keeps C(tuning) from setting: with one of them no new pod would start.

    Args:
        names: dotted.
        allowlist: the file's text, None where there is none: then all are allowed.
    """
    if allowlist is None:
        return []
    patterns = [line.strip() for line in allowlist.splitlines() if line.strip()]
    return [name for name in names if not any(_matches(pattern, name) for pattern in patterns)]


def _matches(pattern: str, name: str) -> bool:
    try:
        return re.search(pattern, name) is not None
    except re.error:
        return False


def rehearsals(chain: Chain, wanted: Mapping[str, str]) -> list[str]:
    """Return the configurations with which C(tuning) may be run for a pod (CNI specification, ADD in a chain)."""
    entry = {"name": chain.name or "kubekeel", "type": PLUGIN, MARK: MARKED_AS, "sysctl": dict(wanted)}
    result: dict[str, Any] = {"interfaces": [], "ips": [], "dns": {}}
    return [json.dumps({"cniVersion": one, **entry, "prevResult": {"cniVersion": one, **result}}) for one in chain.versions]


def complaint(output: str) -> str:
    """Return what a plugin that failed says (CNI specification, Error), its output where that is something else."""
    try:
        found = json.loads(output)
        return ": ".join(str(found[key]) for key in ("msg", "details") if found.get(key)) or output.strip()
    except (AttributeError, TypeError, ValueError):
        return output.strip()
