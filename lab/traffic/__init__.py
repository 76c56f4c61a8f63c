"""Does the cluster serve while something happens to it?"""

from .run import Request, measure

__all__ = ["Request", "measure"]
