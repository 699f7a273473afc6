"""The installed command where a shell, a terminal or a home is not as usual: real processes."""

import errno
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from diffcli import __version__
from diffcli.commands import app
from diffcli.errors import printable
from diffcli.files.checkpoint import save_model
from tests import tiny
from tests.training.pictures import tiny_digits, write_folder

pytestmark = pytest.mark.process


@pytest.fixture
def place(tmp_path: Path) -> Path:
    save_model(tmp_path / "m.safetensors", tiny.description(), tiny.network().state_dict())
    return tmp_path


def run(
    place: Path, *arguments: str | Path, environment: dict[str, str | None] | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run the command with variables set, or taken away if they are None."""
    changed = {**os.environ, **(environment or {})}
    variables = {key: value for key, value in changed.items() if value is not None}
    return subprocess.run(
        [sys.executable, "-m", "diffcli", *map(str, arguments)],
        cwd=place, env=variables, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        encoding="utf-8", check=False,
    )  # fmt: skip


ON_WINDOWS = sys.platform == "win32"
NO_NAME_ON_WINDOWS = pytest.mark.skipif(ON_WINDOWS, reason="Windows allows no such name of a file")

DRAW = ("sample", "-m", "m.safetensors", "-l", "all", "-n", "1", "-o")


@pytest.mark.parametrize(
    "environment",
    [
        {"HOME": None, "XDG_CACHE_HOME": None, "USERPROFILE": None},
        {"TERM": "dumb"},
        {"COLUMNS": "20", "NO_COLOR": None, "TTY_COMPATIBLE": "1", "FORCE_COLOR": "1"},
        {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0"},
        {"OMP_NUM_THREADS": "1"},
        {"CUDA_VISIBLE_DEVICES": "0,1"},
        {"CUDA_VISIBLE_DEVICES": ""},
    ],
    ids="-".join,
)
def test_environments(place: Path, environment: dict[str, str | None]) -> None:
    done = run(place, *DRAW, "a.png", environment=environment)
    assert (done.returncode, done.stdout) == (0, "a.png\n"), done.stderr
    with Image.open(place / "a.png") as picture:
        assert picture.size == (32, 12)
    listed = run(place, "info", "a.png", environment=environment)
    assert listed.returncode == 0, listed.stderr
    assert "Traceback" not in listed.stderr
    wrong = run(place, *DRAW, "a.xyz", environment=environment)
    assert wrong.returncode == 2
    assert "Traceback" not in wrong.stderr


@pytest.mark.parametrize(
    "name",
    [
        "with space.png",
        "quo'te.png",
        pytest.param('quo"te.png', marks=NO_NAME_ON_WINDOWS),
        pytest.param("new\nline.png", marks=NO_NAME_ON_WINDOWS),
        "ünï三.png",
        "-dash.png",
        # With its folder, that is over the 260 characters that a path on Windows has by default.
        pytest.param("x" * 246 + ".png", marks=NO_NAME_ON_WINDOWS),
    ],
)
def test_names_of_files(place: Path, name: str) -> None:
    done = run(place, *DRAW, f"./{name}")
    assert done.returncode == 0, done.stderr
    assert (place / name).is_file()
    again = run(place, "sample", "-m", "m.safetensors", "--from", f"./{name}", "-o", "again.png")
    assert again.returncode == 0, again.stderr
    assert (place / "again.png").read_bytes() == (place / name).read_bytes()


@pytest.mark.skipif(
    sys.platform != "linux", reason="on macOS and Windows, names of files are Unicode, always"
)
def test_names_that_the_encoding_of_files_lacks(place: Path) -> None:
    environment: dict[str, str | None] = {
        "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"
    }  # fmt: skip
    draw = ("sample", "-m", "m.safetensors", "-l", "2", "-n", "1")
    done = run(place, *draw, "--out-dir", "out", environment=environment)
    assert (done.returncode, done.stdout) == (1, "")
    message = done.stderr.splitlines()[-1]
    assert message.startswith("diffcli: the file names of this system, in ascii, cannot have")
    assert "Traceback" not in done.stderr
    numbered = run(place, *draw, "-o", "{index}.png", environment=environment)
    assert (numbered.returncode, numbered.stdout) == (0, "0.png\n"), numbered.stderr


@pytest.mark.skipif(
    sys.platform != "linux", reason="on macOS and Windows, names of files are Unicode, always"
)
@pytest.mark.parametrize("command", ["train --from", "distill", "sample -m", "info"])
def test_a_model_whose_name_is_no_unicode(place: Path, command: str) -> None:
    (place / "m.safetensors").rename(place / "m\udcff.safetensors")
    done = run(place, *command.split(), "m\udcff.safetensors")
    assert done.returncode == 2
    assert done.stderr.startswith(
        r"diffcli: the path m\udcff.safetensors is not valid Unicode; rename it"
    )
    assert done.stderr.count("\n") == 1
    assert [path.name for path in place.iterdir()] == ["m\udcff.safetensors"]


def test_names_of_folders_and_classes(place: Path) -> None:
    quoted, broken = ("'", "") if ON_WINDOWS else ("'\"", "\n")
    odd = place / f"od d{quoted}{broken}ü"
    write_folder(odd / "pictures", tiny_digits(8))
    (odd / "pictures" / "one").rename(odd / "pictures" / f"[red]one{broken}'")
    options = ("--max-steps", "2", "--batch-size", "2", "--width", "16", "--name", "r u'n")
    done = run(odd, "train", "--data", "pictures", *options)
    assert done.returncode == 0, done.stderr
    drawn = run(odd, "sample", "-m", "r u'n", "-n", "1", "--out-dir", "out")
    assert drawn.returncode == 0, drawn.stderr
    assert len(list((odd / "out").rglob("*.png"))) == 3
    told = run(odd, "info", "r u'n")
    assert told.returncode == 0, told.stderr
    assert printable(f"[red]one{broken}'") in told.stdout


@pytest.mark.skipif(ON_WINDOWS, reason="the command is one of a POSIX shell")
@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_streams_that_a_shell_has_closed(place: Path, closed: str) -> None:
    def shell(line: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            ["/bin/sh", "-c", f'"$0" -m diffcli {line} {closed}', sys.executable],
            cwd=place, capture_output=True, text=True, check=False,
        )  # fmt: skip

    told = shell("--version")
    assert (told.returncode, told.stderr) == (0, "")
    assert told.stdout == ("" if closed.startswith(">") else f"diffcli {__version__}\n")
    wrong = shell("sample --nonsense")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "Traceback" not in wrong.stderr


class _Closed(io.StringIO):
    """Stdout on Windows, after its reader has gone."""

    descriptor = -1

    def fileno(self) -> int:
        return self.descriptor

    def flush(self) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")


def test_a_closed_stdout_on_windows(
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    stdout = _Closed()
    stdout.descriptor = os.open(place / "stdout", os.O_CREAT | os.O_WRONLY)
    for answers, code, message in (
        (app._CLOSED_PIPE, 1, "diffcli: Invalid argument\n"),
        ((errno.EPIPE, errno.EINVAL), 1, ""),
    ):
        monkeypatch.setattr(app, "_CLOSED_PIPE", answers)
        monkeypatch.setattr(sys, "stdout", stdout)
        with pytest.raises(SystemExit) as left:
            app.app(["info", str(place / "m.safetensors")], prog_name="diffcli")
        monkeypatch.undo()
        assert (left.value.code, capfd.readouterr().err) == (code, message)
    os.close(stdout.descriptor)


@pytest.mark.skipif(
    ON_WINDOWS, reason="Windows answers with another error, which the test above raises"
)
@pytest.mark.parametrize("options", [[], ["--json"]])
# Buffered, as stdout is by default, it fails when it is flushed, after the command.
@pytest.mark.parametrize("buffering", [{}, {"PYTHONUNBUFFERED": "1"}], ids=["", "unbuffered"])
def test_a_closed_stdout_is_no_error_message(
    place: Path, options: list[str], buffering: dict[str, str]
) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"} | buffering
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "diffcli", "info", "m.safetensors", *options],
            cwd=place, env=environment, stdout=writer, stderr=subprocess.PIPE, text=True,
            check=False,
        )  # fmt: skip
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")
