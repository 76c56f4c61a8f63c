"""What keeps a command from its work, as sentences for people."""


class KubekeelError(Exception):
    """Something that could not be done. The message says what, and what to do about it."""

    exit_code = 3


class UsageError(KubekeelError):
    """A mistake in what was asked for."""

    exit_code = 2
