"""A cluster laid out as K3s's installer lays it out."""

from .distribution import K3s

__all__ = ["K3s"]
