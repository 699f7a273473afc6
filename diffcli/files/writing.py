"""Writing files so that neither a reader nor a crash meets half of one."""

import contextlib
import os
import secrets
import stat
import time
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
        durable: whether to wait until the bytes are on the disk, so that they survive a power
            cut.  For thousands of small files this takes longer than all the rest.

    Raises:
        OSError: if the folder is missing, read-only or full; ``path`` is then unchanged.
    """
    target = Path(os.path.realpath(path))
    # Short, so that a name of the greatest length allowed can be written too.
    temporary = target.with_name(f".{secrets.token_hex(8)}.tmp")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    try:
        handle = os.open(temporary, flags, 0o666)
    except OSError as error:
        error.filename = os.fspath(path)
        raise
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        if target.exists():
            temporary.chmod(stat.S_IMODE(target.stat().st_mode))
        _replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if durable:
        _sync_folder(target.parent)


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
