"""Keeps K3s and MicroK8s clusters up when a node dies: audit, remediate node by node, prove, take back.

``run`` does what the command does, for programs.
"""

from . import collection

__version__ = "0.1.0"

collection.importable()

from .result import Result  # noqa: E402
from .runs import run  # noqa: E402

__all__ = ["Result", "__version__", "run"]
