"""The option that the modules share which change a node."""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations


class ModuleDocFragment:
    """The fragment kubekeel.ha.run."""

    DOCUMENTATION = r"""
options:
  run_id:
    description:
      - Name of the run that this change belongs to. What was there before is kept under it on the node, in
        C(/var/lib/kubekeel/runs), readable by root only, and M(kubekeel.ha.restore) brings it back.
      - Without it nothing is kept.
      - Set it once for a play with C(module_defaults) and the group C(group/kubekeel.ha.run).
    type: str
"""
