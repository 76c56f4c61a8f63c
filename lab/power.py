"""Power and standstill of one machine."""

import signal

from . import podman
from .cache import Cache
from .errors import LabError
from .topology import Node

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def switch_off(node: Node) -> None:
    """Cut a machine's power: nothing in it gets a chance to say good-bye. One that is off stays so."""
    try:
        podman.kill(node.container)
    except LabError:
        if podman.is_on(node.container):
            raise


def switch_on(cache: Cache, node: Node) -> bool:
    """Start a machine that is off, let one that is frozen go on; tell whether that was needed."""
    with cache.lock("network"), podman.host_forwarding_kept():
        if not podman.is_on(node.container):
            podman.start(node.container)
            return True
    return thaw(node)


def thaw(node: Node) -> bool:
    """Let a frozen machine go on; tell whether it was frozen."""
    if not podman.is_frozen(node.container):
        return False
    try:
        podman.unpause(node.container)
    except LabError:
        # Somebody else was quicker.
        if podman.is_frozen(node.container):
            raise
        return False
    return True


def require_running(node: Node) -> None:
    """Check that a machine is on and not frozen.

    Raises:
        LabError: it is not
    """
    status = podman.status(node.container)
    if status != "running":
        raise LabError(f"{node.name} does not run: podman calls it {status}")


def freeze(node: Node, seconds: float) -> int | None:
    """Stop everything in a machine for a while; return the signal that ended it early, if any.

    Raises:
        LabError: the machine is off, or frozen already
    """
    # Blocked, a signal waits until the machine goes on again; it cannot come between, and podman inherits that.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        podman.pause(node.container)
        try:
            came = signal.sigtimedwait(ENDING, seconds)
        finally:
            thaw(node)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return came.si_signo if came else None
