"""One worker in a virtual machine with Debian's own kernel, beside a MicroK8s server in a container."""

from .distribution import VirtualMachine, check_counts

__all__ = ["VirtualMachine", "check_counts"]
