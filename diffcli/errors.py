"""Errors that a user can cause: shown as one line, never as a traceback."""


class DiffcliError(Exception):
    """Something failed; the message says what, why and what to do, in one line."""

    exit_code = 1


class UsageError(DiffcliError):
    """The command line asks for something that cannot be."""

    exit_code = 2
