#!/usr/bin/python
"""Documentation of the action kubekeel.ha.result."""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

DOCUMENTATION = r"""
module: result
short_description: Keep what a run found in a file of the controller
version_added: 0.1.0
description:
  - Writes JSON to a file that only its owner may read, for the command kubekeel. Runs on the controller.
options:
  content:
    description: What was found.
    type: dict
    required: true
  path:
    description: The file. Its folder has to be there.
    type: path
    required: true
extends_documentation_fragment: [kubekeel.ha.attributes, kubekeel.ha.attributes.reads]
"""

EXAMPLES = r"""
- name: Keep what was found
  kubekeel.ha.result:
    content: "{{ kubekeel_result }}"
    path: "{{ kubekeel_result_file }}"
  run_once: true
"""

RETURN = r"""#"""
