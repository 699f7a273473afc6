"""Writing files so that a reader, or a crash, never meets half of one."""

import contextlib
import os
import tempfile
from pathlib import Path


def write_atomically(path: Path, content: bytes, durable: bool = True) -> None:
    """Put ``content`` at ``path``, whole or not at all.

    The bytes go to a temporary file beside it, reach the disk, and take its name in one
    step.  The mode is what a plain ``open`` would have given; a symbolic link keeps
    pointing where it did.

    Args:
        path: where to.
        content: what.
        durable: wait for the disk, so that not even a power cut leaves half of it.  For
            thousands of small files that can be made again, the wait is most of the work.

    Raises:
        OSError: if the folder is missing, read-only or full; ``path`` is then untouched.
    """
    target = Path(os.path.realpath(path))
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".tmp")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if durable:
        _sync_folder(target.parent)


def _umask() -> int:
    # There is no way to read it but to set it.
    current = os.umask(0o077)
    os.umask(current)
    return current


def _sync_folder(folder: Path) -> None:
    # Windows cannot open folders; there the rename alone has to do.
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
