"""Pictures to score: their labels, as people and as this program name their folders."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from diffcli.core.parameters import SamplingSettings
from diffcli.errors import UsageError
from diffcli.sampling.outputs import PictureFiles
from diffcli.sampling.pictures import UNKNOWN, read_pictures
from diffcli.sampling.request import SampleRequest

NAMES = ("cats & dogs", "a/b", "a_b", "zero", "con")


def test_drawn_pictures_have_the_labels_that_they_were_drawn_of(tmp_path: Path) -> None:
    asked = SampleRequest(tuple(range(len(NAMES))), 1, 0, SamplingSettings())
    pattern = f"{tmp_path}/{{label}}/{{seed}}.png"
    output = PictureFiles(asked, pattern, NAMES, False, None, lambda _: None)
    shades = torch.arange(len(NAMES), dtype=torch.uint8)
    output.add(shades.view(-1, 1, 1, 1).expand(-1, 1, 8, 8).contiguous())
    read = read_pictures([tmp_path], (1, 8, 8), NAMES)
    assert read.labels == read.pixels[:, 0, 0, 0].tolist()
    assert sorted(read.labels) == list(range(len(NAMES)))


def test_folders_go_by_the_names_of_classes(tmp_path: Path) -> None:
    for name in ("zero", "a_b", "cats", "cats & dogs"):
        (tmp_path / name).mkdir()
        Image.new("L", (8, 8)).save(tmp_path / name / "1.png")
    read = read_pictures([tmp_path], (1, 8, 8), NAMES)
    assert dict(zip((Path(name).parent.name for name in read.names), read.labels, strict=True)) == {
        "zero": 3,
        "a_b": 2,
        "cats": UNKNOWN,
        "cats & dogs": 0,
    }


def test_pictures_beside_folders_are_refused(tmp_path: Path) -> None:
    (tmp_path / "zero").mkdir()
    for place in (tmp_path, tmp_path / "zero"):
        Image.new("L", (8, 8)).save(place / "1.png")
    with pytest.raises(UsageError, match="without a class"):
        read_pictures([tmp_path], (1, 8, 8), NAMES)
