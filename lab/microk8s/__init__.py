"""A cluster laid out as MicroK8s lays itself out."""

from .distribution import MicroK8s

__all__ = ["MicroK8s"]
