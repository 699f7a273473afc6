"""What the tests of ``diffcli sample`` share: the smallest model, and pictures taken apart."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffcli.files.checkpoint import save_model
from tests import tiny
from tests.conftest import Command


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "tiny.safetensors"
    save_model(path, tiny.description(), tiny.network().state_dict())
    return path


Draw = Callable[..., tuple[str, str]]
"""Takes options of ``diffcli sample``, returns stdout and stderr."""


@pytest.fixture
def draw(diffcli: Command, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Draw:
    """Sampling that succeeds, with the smallest model, in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str | Path) -> tuple[str, str]:
        result = diffcli("sample", "--model", model, *arguments)
        assert result.code == 0, result.err
        return result.out, result.err

    return run


def cells(path: str, columns: int, rows: int) -> list[bytes]:
    with Image.open(path) as grid:
        assert grid.size == (columns * 10 + 2, rows * 10 + 2)
        return [
            grid.crop((2 + x * 10, 2 + y * 10, 10 + x * 10, 10 + y * 10)).tobytes()
            for y in range(rows)
            for x in range(columns)
        ]


def furthest(a: bytes, b: bytes) -> int:
    return int(np.abs(np.frombuffer(a, np.uint8).astype(int) - np.frombuffer(b, np.uint8)).max())
