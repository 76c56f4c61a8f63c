"""Units of a node."""

from .archive import Link


def enable(unit: str, target: str = "multi-user.target") -> Link:
    """Return the link that makes systemd start a unit at boot."""
    return Link(f"etc/systemd/system/{target}.wants/{unit}", f"/etc/systemd/system/{unit}")
