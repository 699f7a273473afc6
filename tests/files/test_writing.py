import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from diffcli.files import writing
from diffcli.files.writing import write_atomically, write_new


def test_it_writes_and_replaces(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    for content in (b"first, and longer", b"second", b""):
        write_atomically(path, content)
        assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "nowhere" / "a.bin"
    with pytest.raises(FileNotFoundError) as error:
        write_atomically(path, b"content")
    assert error.value.filename == str(path), "not that of a temporary file"
    assert list(tmp_path.iterdir()) == []


def test_a_file_instead_of_a_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    with pytest.raises(OSError, match="file"):
        write_atomically(tmp_path / "file" / "a.bin", b"content")
    assert (tmp_path / "file").read_bytes() == b"old"


def test_what_cannot_be_replaced_stays_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    (tmp_path / "a.bin").mkdir()
    (tmp_path / "a.bin" / "inside").write_bytes(b"old")
    with pytest.raises(OSError):  # noqa: PT011 - the platforms differ in the rest
        write_atomically(tmp_path / "a.bin", b"content")
    assert [path.name for path in tmp_path.rglob("*")] == ["a.bin", "inside"]


@pytest.mark.parametrize("failures", [2, 3])
def test_a_file_that_is_read_on_windows_is_replaced_a_moment_later(
    failures: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows refuses with EACCES while another process has the file open."""
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    replace, tries = Path.replace, []

    def refuse(temporary: Path, target: Path) -> Path:
        tries.append(target)
        if len(tries) <= failures:
            raise PermissionError(13, "used by another process")
        return replace(temporary, target)

    monkeypatch.setattr(Path, "replace", refuse)
    monkeypatch.setattr(writing, "_REPLACE_DELAYS", (0.0, 0.0))
    if failures > 2:
        with pytest.raises(PermissionError):
            write_atomically(path, b"new")
    else:
        write_atomically(path, b"new")
    assert path.read_bytes() == (b"old" if failures > 2 else b"new")
    assert list(tmp_path.iterdir()) == [path]


@pytest.fixture(params=[True, False], ids=["links", "no links"])
def _links(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system with hard links, and one without, which exFAT is."""

    def refuse(*_: object) -> None:
        raise OSError(1, "Operation not permitted")

    if not request.param:
        monkeypatch.setattr(os, "link", refuse)


@pytest.mark.usefixtures("_links")
def test_a_new_file_gets_the_first_free_name(tmp_path: Path) -> None:
    wanted = tmp_path / "grid.png"
    (tmp_path / "grid-2.png").mkdir()
    for content, name in ((b"a", "grid.png"), (b"b", "grid-1.png"), (b"c", "grid-3.png")):
        assert write_new(wanted, content) == tmp_path / name
        assert (tmp_path / name).read_bytes() == content
    assert wanted.read_bytes() == b"a"
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "grid-1.png", "grid-2.png", "grid-3.png", "grid.png",
    ]  # fmt: skip


@pytest.mark.usefixtures("_links")
def test_files_that_are_written_at_once_do_not_replace_each_other(tmp_path: Path) -> None:
    contents = [bytes([number]) * 1000 for number in range(40)]
    with ThreadPoolExecutor(8) as pool:
        written = list(
            pool.map(lambda content: write_new(tmp_path / "a.bin", content, False), contents)
        )
    assert [path.read_bytes() for path in written] == contents
    assert sorted(tmp_path.iterdir()) == sorted(written)


@pytest.mark.usefixtures("_links")
def test_a_new_file_in_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as error:
        write_new(tmp_path / "nowhere" / "a.bin", b"content")
    assert error.value.filename == str(tmp_path / "nowhere" / "a.bin")


def test_without_links_a_new_file_that_cannot_be_renamed_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(5, "Input/output error", ".0123456789abcdef.tmp")

    monkeypatch.setattr(os, "link", refuse)
    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(OSError, match="Input/output error") as error:
        write_new(tmp_path / "a.bin", b"content")
    assert error.value.filename == str(tmp_path / "a.bin")
    assert list(tmp_path.iterdir()) == []


WRITER = """
import signal
import sys
from pathlib import Path
from diffcli.files.writing import write_atomically

# Where a shell started the tests in the background, interrupts are ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
print("ready", flush=True)
while True:
    for letter in (b"a", b"b"):
        write_atomically(Path(sys.argv[1]), letter * (4 << 20))
"""


@pytest.mark.process
@pytest.mark.parametrize("seconds", [0.0, 0.013, 0.05, 0.11])
def test_a_killed_writer_leaves_a_whole_file(tmp_path: Path, seconds: float) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE
    ) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(seconds)
        writer.kill()
    assert path.read_bytes() in (b"old", b"a" * (4 << 20), b"b" * (4 << 20))
