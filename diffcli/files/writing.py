"""Writing files so that neither a reader nor a crash meets half of one."""

import contextlib
import itertools
import os
import secrets
import stat
import time
from collections.abc import Iterator
from pathlib import Path

TEMPORARY_PATTERN = f".{'[0-9a-f]' * 16}.tmp"
"""Names of temporary files, which stay behind if a process is killed while it writes."""


# Windows replaces no file while another process reads it, which takes milliseconds.
_REPLACE_DELAYS = (0.02, 0.05, 0.1, 0.2, 0.4) if os.name == "nt" else ()


def write_atomically(path: Path, content: bytes, durable: bool = True) -> None:
    """Write a file as a whole or not at all.

    The bytes go to a temporary file in the same folder, which then takes the file's name in one
    step.  A new file gets the mode that ``open`` would give it, an existing one keeps its
    mode; a symbolic link keeps pointing to the same place.

    Args:
        path: the file.
        content: all of its bytes.
        durable: whether to wait until the system has passed the bytes on to the disk.  For
            thousands of small files this takes longer than all the rest.

    Raises:
        OSError: if the folder is missing, read-only or full; ``path`` is then unchanged.
    """
    target = Path(os.path.realpath(path))
    with _named(path), _written(target.parent, content, durable) as temporary:
        if target.exists():
            temporary.chmod(stat.S_IMODE(target.stat().st_mode))
        _replace(temporary, target)


def write_new(path: Path, content: bytes, durable: bool = True) -> Path:
    """Write a file as a whole under a name that is free, whoever else writes there, too.

    Args:
        path: the file; if it exists, the first free one of ``name-1``, ``name-2``, ...
        content: all of its bytes.
        durable: see ``write_atomically``.

    Returns:
        The path that was written.

    Raises:
        OSError: if the folder is missing, read-only or full.
    """
    with _named(path), _written(path.parent, content, durable) as temporary:
        for number in itertools.count():
            name = f"{path.stem}-{number}{path.suffix}" if number else path.name
            if _claim(temporary, path.with_name(name)):
                break
    return path.with_name(name)


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """A block whose errors name a path, and not that of a temporary file."""
    try:
        yield
    except OSError as error:
        error.filename, error.filename2 = os.fspath(path), None
        raise


@contextlib.contextmanager
def _written(folder: Path, content: bytes, durable: bool) -> Iterator[Path]:
    """A temporary file, which the block gives its name."""
    # Short, so that a name of the greatest length allowed can be written too.
    temporary = folder / f".{secrets.token_hex(8)}.tmp"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    handle = os.open(temporary, flags, 0o666)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)
    if durable:
        _sync_folder(folder)


def _claim(temporary: Path, target: Path) -> bool:
    """Give a file a name that no other one has; whether that was so."""
    try:
        target.hardlink_to(temporary)
    except FileExistsError:
        return False
    except OSError:  # exFAT and some network drives have no links
        try:
            os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return False
        try:
            _replace(temporary, target)
        except BaseException:
            target.unlink()
            raise
    return True


def _replace(temporary: Path, target: Path) -> None:
    for delay in _REPLACE_DELAYS:
        try:
            temporary.replace(target)
        except PermissionError:
            time.sleep(delay)
        else:
            return
    temporary.replace(target)


def _sync_folder(folder: Path) -> None:
    # Windows cannot open folders; the rename alone has to do there.
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
