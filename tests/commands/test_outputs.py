import os
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from PIL import Image

from tests.conftest import Command
from tests.rights import unprivileged

FIGURES = [
    (("inspect-embedding",), "embedding.png"),
    (("noise-demo", "grey.png"), "noise.png"),
    (("noise-demo", "grey.png", "--frames", "2"), "noise.gif"),
    (("inspect-embedding", "-o", "own.png"), "own.png"),
]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Image.new("L", (9, 9), 90).save("grey.png")


@pytest.mark.parametrize(("arguments", "name"), FIGURES)
def test_existing_files_are_kept(diffcli: Command, arguments: tuple[str, ...], name: str) -> None:
    stem, kind = name.split(".")
    Path(name).write_bytes(b"mine")
    for number in (1, 2):
        result = diffcli(*arguments)
        beside = f"{stem}-{number}.{kind}"
        assert (result.code, result.out) == (0, f"{beside}\n")
        assert f"{name} exists; writing {beside} instead (--force overwrites)\n" in result.err
        with Image.open(beside) as picture:
            picture.load()
    assert Path(name).read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("command", "drawer"),
    [
        ("inspect-embedding -o a.png", "embedding_figure.embedding_figure"),
        ("noise-demo grey.png -o a.png", "noise_figure.noise_figure"),
    ],
)
def test_a_file_that_is_written_while_a_figure_is_drawn_stays(
    diffcli: Command, command: str, drawer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def draw(*_: object) -> Image.Image:
        Path("a.png").write_bytes(b"theirs")
        return Image.new("L", (8, 8))

    monkeypatch.setattr(f"diffcli.figures.{drawer}", draw)
    result = diffcli(*command.split())
    assert (result.code, result.out) == (0, "a-1.png\n")
    assert "a.png exists; writing a-1.png instead (--force overwrites)\n" in result.err
    assert Path("a.png").read_bytes() == b"theirs"


@pytest.mark.parametrize(("arguments", "name"), FIGURES)
def test_force_overwrites(diffcli: Command, arguments: tuple[str, ...], name: str) -> None:
    Path(name).write_bytes(b"mine")
    result = diffcli(*arguments, "--force")
    assert (result.code, result.out) == (0, f"{name}\n")
    assert "exists" not in result.err
    with Image.open(name) as picture:
        picture.load()
    assert {path.name for path in Path().iterdir()} == {"grey.png", name}


@pytest.mark.parametrize(
    "command", ["inspect-embedding", "noise-demo grey.png", "sample", "evaluate"]
)
def test_a_folder_is_no_file(diffcli: Command, command: str) -> None:
    Path("here.png").mkdir()
    result = diffcli(*command.split(), "-o", "here.png")
    assert result.is_one_line_error(2, "here.png is a folder")


def test_no_message_about_a_file_that_is_not_written(diffcli: Command) -> None:
    Path("noise.png").write_bytes(b"mine")
    result = diffcli("noise-demo", "grey.png", "--t", "1000")
    assert result.is_one_line_error(2, "1000")


@pytest.mark.skipif(not Path("/dev/null").exists(), reason="this system has no /dev/null")
@pytest.mark.parametrize("command", ["inspect-embedding", "noise-demo grey.png", "sample"])
def test_a_device_is_no_file(diffcli: Command, command: str) -> None:
    for link in ("null.png", "null.npz"):
        Path(link).symlink_to("/dev/null")
    assert diffcli(*command.split(), "-o", "null.png").is_one_line_error(2, "not a regular file")
    assert diffcli("sample", "-o", "null.npz").is_one_line_error(2, "not a regular file")


@pytest.mark.parametrize("command", ["inspect-embedding", "noise-demo grey.png", "sample -n 1"])
def test_folders_of_outputs_are_made(diffcli: Command, command: str) -> None:
    result = diffcli(*command.split(), "-o", "new/folder/x.png")
    assert (result.code, result.out) == (0, f"{Path('new/folder/x.png')}\n")
    with Image.open("new/folder/x.png") as picture:
        picture.load()


@pytest.mark.skipif(
    not hasattr(os, "seteuid"), reason="Windows folders do not have the rights of chmod"
)
@pytest.mark.parametrize("command", ["score grey.png", "evaluate", "page", "sample", "out-dir"])
def test_a_folder_that_cannot_be_written_is_found_before_the_work(
    diffcli: Command, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The folders of pytest cannot even be entered without the rights of root.
    with TemporaryDirectory() as place, monkeypatch.context() as context:
        Path(place).chmod(0o555)
        context.chdir(place)
        name = Path("new") / ("x.html" if command == "page" else "x.png")
        line = [*command.split(), "-m", "mnist", "-o", name]
        if command == "out-dir":
            line = ["sample", "-m", "mnist", "--out-dir", "new"]
        with unprivileged():
            result = diffcli(*line)
        Path(place).chmod(0o755)
    assert result.is_one_line_error(2, f"the folder {place} cannot be written")


def test_a_folder_in_a_file_is_found_before_the_work(diffcli: Command) -> None:
    for folder in ("grey.png/sub", "grey.png/sub/more"):
        result = diffcli("sample", "-m", "mnist", "--out-dir", folder)
        assert result.is_one_line_error(2, f"grey.png is a file; the output {folder} cannot be in")


@pytest.mark.parametrize(
    "command", ["inspect-embedding", "noise-demo grey.png", "sample", "evaluate"]
)
def test_other_formats_are_refused(diffcli: Command, command: str) -> None:
    result = diffcli(*command.split(), "-o", "x.jpg")
    assert result.is_one_line_error(2, "x.jpg must end in .png")
    assert not Path("x.jpg").exists()
