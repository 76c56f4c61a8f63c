"""What the roles would set on each node, as ansible-core resolves it of their own tasks, their defaults and the inventory.

By a program of its own: ansible-core hooks into how Python imports, which is nothing for somebody else's process.
"""

import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from .. import jobs
from ..errors import KubekeelError

PATIENCE = 120
"""Seconds for the inventory; plugins may ask somebody else."""

Wanted = dict[str, Any]
"""Of one node: C(kind) (server or agent), C(node_name), C(ignored), C(python), C(distribution), and for each distribution
that it may run C(flags), C(environment), C(sysctls) and C(node_lease). Or C(problem), where the inventory does not tell."""


def read(inventory: str, limit: str = "", variables: Sequence[str] = ()) -> dict[str, Wanted]:
    """Return what is wanted of the nodes of an inventory.

    Args:
        inventory: file or folder.
        limit: a pattern of Ansible; empty for all nodes.
        variables: they count more than those of the inventory, each a text as C(ansible-playbook -e) takes it.

    Raises:
        KubekeelError: the inventory or its variables cannot be read.
    """
    # -P: what lies beside it is not imported.
    program = [sys.executable, "-P", str(pathlib.Path(__file__).with_name("resolver.py"))]
    question = json.dumps({"inventory": os.path.abspath(inventory), "limit": limit, "variables": list(variables)})
    try:
        done = subprocess.run(
            program,
            input=question,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            env=jobs.environment(),
            check=False,
        )
        answer = json.loads(done.stdout) if done.returncode == 0 else {}
    except subprocess.TimeoutExpired as error:
        raise KubekeelError(f"the inventory {inventory} did not answer within {PATIENCE} s") from error
    except ValueError as error:
        raise KubekeelError(f"the inventory {inventory} cannot be read: {error}") from error
    if "nodes" not in answer:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise KubekeelError(f"the inventory {inventory} cannot be read: {answer.get('problem') or (lines or ['nobody knows why'])[-1]}")
    nodes: dict[str, Wanted] = answer["nodes"]
    return nodes
