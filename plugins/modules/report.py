#!/usr/bin/python
"""Documentation of the action kubekeel.ha.report."""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

DOCUMENTATION = r"""
module: report
short_description: Print a text as it is
version_added: 0.1.0
description:
  - Prints a text to the screen line by line, where M(ansible.builtin.debug) would print it as YAML or JSON.
  - Runs on the controller.
options:
  text:
    description: The text.
    type: str
    required: true
extends_documentation_fragment: [kubekeel.ha.attributes, kubekeel.ha.attributes.reads]
"""

EXAMPLES = r"""
- name: Show the report
  kubekeel.ha.report:
    text: "{{ lookup('ansible.builtin.template', 'audit.txt.j2') }}"
  run_once: true
"""

RETURN = r"""
msg:
  description: The text.
  returned: success
  type: str
"""
