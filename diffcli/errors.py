"""Errors that a user can cause: the command line shows them as one line without a traceback."""


class DiffcliError(Exception):
    """An operation failed.

    Args:
        message: what failed and why, in one line.
        argument: the argument whose value causes the failure, by its name in Python.  The
            command line adds how to change it if the command has an option of that name.
    """

    exit_code = 1

    def __init__(self, message: str, argument: str | None = None) -> None:
        super().__init__(message)
        self.argument = argument


class UsageError(DiffcliError):
    """An argument has a value that cannot be used."""

    exit_code = 2
