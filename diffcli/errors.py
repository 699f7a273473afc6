"""Errors that a user can cause: the command line shows them as one line without a traceback."""

from collections.abc import Iterator
from contextlib import contextmanager

_LONGEST = 1200


class DiffcliError(Exception):
    """An operation failed.

    Args:
        message: what failed and why, in one line.  It may quote names and texts from files:
            what a terminal might obey is escaped, and the middle of a long message left out.
        argument: the argument whose value causes the failure, by its name in Python.  The
            command line adds how to change it if the command has an option of that name.
    """

    exit_code = 1

    def __init__(self, message: str, argument: str | None = None) -> None:
        super().__init__(_shortened(printable(message)))
        self.argument = argument


def printable(text: str) -> str:
    r"""A text from a stranger as one line that no terminal obeys: with escapes, as ``\x1b``."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _shortened(text: str) -> str:
    half = _LONGEST // 2
    return text if len(text) <= _LONGEST else f"{text[:half]} ... {text[-half:]}"


def reason_of(error: OSError) -> str:
    """What the system refused and of which file, like ``Permission denied: runs/a``."""
    where = f": {error.filename}" if error.filename else ""
    return f"{error.strerror or error}{where}"


class UsageError(DiffcliError):
    """An argument has a value that cannot be used."""

    exit_code = 2


@contextmanager
def as_usage_error(argument: str | None = None) -> Iterator[None]:
    """A block whose ``ValueError``, of a value out of range, is raised as a ``UsageError``.

    Args:
        argument: whose value it is, see ``DiffcliError``.
    """
    try:
        yield
    except ValueError as error:
        raise UsageError(str(error), argument) from error
