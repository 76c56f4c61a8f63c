"""Which Kubernetes distribution a node runs, and what the modules have to know of it alike."""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ansible_collections.kubekeel.ha.plugins.module_utils import k3s, microk8s
from ansible_collections.kubekeel.ha.plugins.module_utils.node_files import NodeError

if TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule

MICROK8S = "microk8s"
K3S = "k3s"
CHOICES = ("auto", MICROK8S, K3S)
OPTION = {"type": "str", "choices": list(CHOICES), "default": "auto"}


@dataclass(frozen=True)
class Distribution:
    """The distribution of this node."""

    name: str
    unit: str
    """The unit that runs the components, without C(.service)."""
    kubeconfig: str
    """The administrator's, on a server with an API server."""


def find(module: AnsibleModule, args_dir: str = microk8s.ARGS_DIR) -> Distribution:
    """Return the distribution of this node, after the module's option O(distribution).

    Args:
        module: with the option.
        args_dir: where MicroK8s keeps its argument files.

    Raises:
        NodeError: the node does not run it, or none that kubekeel knows.
    """
    asked = module.params["distribution"]
    if asked != K3S and os.path.isdir(args_dir):
        return Distribution(MICROK8S, microk8s.KUBELITE, microk8s.KUBECONFIG)
    if asked != MICROK8S:
        unit = k3s.require_unit(module) if asked == K3S else k3s.unit_of(module)
        if unit:
            return Distribution(K3S, unit, k3s.KUBECONFIG)
    neither = "" if asked == MICROK8S else ", and no unit of K3s"
    raise NodeError(
        "there is no %s%s: MicroK8s is not installed here, or is damaged. Is the node in the right inventory group? "
        "For files in another place set microk8s_args_dir" % (args_dir, neither)
    )


def release(module: AnsibleModule, found: Distribution) -> str:
    """Return the release of a distribution as it names it, an empty text where it does not say.

    Raises:
        NodeError: the configuration of K3s cannot be read.
    """
    return k3s.K3sNode(module, found.unit).release_text(module) if found.name == K3S else microk8s.release_text()
