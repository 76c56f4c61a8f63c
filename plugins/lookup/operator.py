"""The lookup kubekeel.ha.operator."""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Sequence
from typing import Any

from ansible.plugins.lookup import LookupBase

DOCUMENTATION = r"""
name: operator
short_description: Who runs Ansible, and where
version_added: 0.1.0
author: the kubekeel authors (@kubekeel)
description:
  - The user and the host of the controller, for M(kubekeel.ha.cluster_lock). Behind C(sudo) the user who called it.
  - What cannot be told is V(unknown).
"""

EXAMPLES = r"""
- name: Take the cluster
  kubekeel.ha.cluster_lock:
    run_id: 20261121T055642Z-41873
    operator: "{{ lookup('kubekeel.ha.operator') }}"
"""

RETURN = r"""
_raw:
  description: User and host, such as V(alice@bastion).
  type: list
  elements: str
"""


def operator() -> str:
    """Return the user and the host."""
    try:
        user = os.environ.get("SUDO_USER") or getpass.getuser()
    # Python 3.12 and earlier raise KeyError, or ImportError, for a user without a name.
    except (ImportError, KeyError, OSError):
        user = ""
    return "%s@%s" % (user or "unknown", socket.gethostname() or "unknown")


class LookupModule(LookupBase):
    """The lookup."""

    def run(self, terms: Sequence[Any], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[str]:  # noqa: ARG002
        """Return it; there are no terms."""
        return [operator()]
