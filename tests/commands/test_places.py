from pathlib import Path

import pytest
from PIL import Image

from tests.conftest import Command

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
def test_what_exists_stays(diffcli: Command, arguments: tuple[str, ...], name: str) -> None:
    stem, kind = name.split(".")
    Path(name).write_bytes(b"mine")
    for number in (1, 2):
        result = diffcli(*arguments)
        beside = f"{stem}-{number}.{kind}"
        assert (result.code, result.out) == (0, f"{beside}\n")
        assert f"{name} exists and stays; writing {beside} (--force overwrites)\n" in result.err
        with Image.open(beside) as picture:
            picture.load()
    assert Path(name).read_bytes() == b"mine"


@pytest.mark.parametrize(("arguments", "name"), FIGURES)
def test_force_overwrites(diffcli: Command, arguments: tuple[str, ...], name: str) -> None:
    Path(name).write_bytes(b"mine")
    result = diffcli(*arguments, "--force")
    assert (result.code, result.out) == (0, f"{name}\n")
    assert "exists" not in result.err
    with Image.open(name) as picture:
        picture.load()
    assert {path.name for path in Path().iterdir()} == {"grey.png", name}


@pytest.mark.parametrize("command", ["inspect-embedding", "noise-demo grey.png", "features"])
def test_a_folder_is_no_file(diffcli: Command, command: str) -> None:
    Path("here.png").mkdir()
    result = diffcli(*command.split(), "-o", "here.png")
    assert result.is_one_line_error(2, "-o here.png", "is a folder")


def test_nothing_is_said_of_places_where_nothing_is_written(diffcli: Command) -> None:
    Path("noise.png").write_bytes(b"mine")
    result = diffcli("noise-demo", "grey.png", "--t", "1000")
    assert result.is_one_line_error(2, "1000")
