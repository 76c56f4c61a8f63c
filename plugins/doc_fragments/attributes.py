"""What the modules say alike about themselves."""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations


class ModuleDocFragment:
    """The fragments kubekeel.ha.attributes.reads and kubekeel.ha.attributes.writes."""

    DOCUMENTATION = r"""
attributes:
  platform:
    description: Where the module runs.
    support: full
    platforms: posix
requirements:
  - Python 3.8 or later on the node
author: the kubekeel authors (@kubekeel)
"""

    READS = r"""
attributes:
  check_mode:
    description: Reads only.
    support: full
  diff_mode:
    description: Nothing changes.
    support: none
"""

    WRITES = r"""
attributes:
  check_mode:
    description: Says what would change and changes nothing.
    support: full
  diff_mode:
    description: Shows what changes.
    support: full
"""
