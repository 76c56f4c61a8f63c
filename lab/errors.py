"""What ends a command with a message instead of a traceback."""


class LabError(Exception):
    """What went wrong and what the user can do about it, in words for the terminal."""

    exit_code = 1


class UsageError(LabError):
    """The user asked for something that cannot be meant."""

    exit_code = 2
