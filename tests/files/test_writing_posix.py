"""Modes, links and limits, as POSIX has them."""

import errno
import io
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from diffcli.files.writing import write_atomically
from tests.files.test_writing import WRITER
from tests.rights import unprivileged

if sys.platform == "win32":
    pytest.skip("Windows has other modes, links and limits", allow_module_level=True)

import resource


@contextmanager
def umask(value: int) -> Iterator[None]:
    before = os.umask(value)
    try:
        yield
    finally:
        os.umask(before)


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Let the system refuse to write more, as it does on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o027, 0o077])
def test_the_mode_is_what_open_would_give(tmp_path: Path, mask: int) -> None:
    with umask(mask):
        write_atomically(tmp_path / "ours", b"content")
        (tmp_path / "plain").write_bytes(b"content")
        assert os.umask(mask) == mask, "the mask itself is as it was"
    ours, plain = (stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("ours", "plain"))
    assert ours == plain == 0o666 & ~mask


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664])
def test_an_existing_file_keeps_its_mode(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    path.chmod(mode)
    write_atomically(path, b"new")
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert path.read_bytes() == b"new"


def test_a_name_of_the_greatest_length_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 255)
    write_atomically(path, b"content")
    assert list(tmp_path.iterdir()) == [path]


def test_a_symbolic_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    target = tmp_path / "elsewhere" / "target.bin"
    target.write_bytes(b"old")
    link = tmp_path / "link.bin"
    link.symlink_to(Path("elsewhere") / "target.bin")
    write_atomically(link, b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"
    assert list(target.parent.iterdir()) == [target]


def test_a_link_to_nothing_gets_its_file(tmp_path: Path) -> None:
    link = tmp_path / "link.bin"
    link.symlink_to("target.bin")
    write_atomically(link, b"new")
    assert link.is_symlink()
    assert (tmp_path / "target.bin").read_bytes() == b"new"


def test_a_write_that_fails_halfway_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    write_atomically(path, b"old")
    with files_of_at_most(1000), pytest.raises(OSError, match="too large"):
        write_atomically(path, bytes(100_000))
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_unwritable_folder_is_an_error(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a.bin").write_bytes(b"old")
    folder.chmod(0o555)
    with unprivileged(), pytest.raises(PermissionError):
        write_atomically(folder / "a.bin", b"new")
    folder.chmod(0o755)
    assert [path.read_bytes() for path in folder.iterdir()] == [b"old"]


@pytest.mark.process
def test_an_interrupted_write_leaves_nothing_beside_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(0.05)
        writer.send_signal(signal.SIGINT)
    assert list(tmp_path.iterdir()) == [path]


def failing(name: str, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make one system call of a save fail, as the system itself would."""

    def fail(*_arguments: object, **_named: object) -> None:
        raise OSError(number, os.strerror(number))

    if name == "write":
        monkeypatch.setattr(os, "fdopen", lambda handle, _mode: Unwritable(handle, fail))
    else:
        monkeypatch.setattr(os, name, fail)


class Unwritable(io.BufferedWriter):
    """A file that is opened and takes nothing."""

    def __init__(self, handle: int, fail: Callable[..., None]) -> None:
        super().__init__(io.FileIO(handle, "w"))
        self._fail = fail

    def write(self, content: object) -> int:
        self._fail(content)
        return 0


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EACCES, errno.EINTR])
@pytest.mark.parametrize("call", ["open", "write", "fsync", "chmod", "replace"])
def test_whichever_call_fails_the_old_file_stays(
    call: str, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with monkeypatch.context() as patch:
        failing(call, number, patch)
        with pytest.raises(OSError, match=os.strerror(number)) as error:
            write_atomically(path, b"new, and longer")
    assert error.value.filename == str(path), "not that of a temporary file"
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
