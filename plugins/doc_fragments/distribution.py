"""The option that the modules share which have to know the distribution."""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations


class ModuleDocFragment:
    """The fragment kubekeel.ha.distribution."""

    DOCUMENTATION = r"""
options:
  distribution:
    description:
      - The Kubernetes distribution of the node. With V(auto) the one that is installed.
      - Set it once for a play with C(module_defaults) and the group C(group/kubekeel.ha.node).
    type: str
    choices: [auto, microk8s, k3s]
    default: auto
"""
