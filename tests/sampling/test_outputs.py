"""Where pictures go: written as they come, and readable by other programs."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.datasets import ImageFolder

from diffcli.core.parameters import SamplingSettings
from diffcli.files.pictures import encode_png
from diffcli.sampling import outputs
from diffcli.sampling.outputs import PictureArray, PictureFiles
from diffcli.sampling.request import Interpolation, SampleRequest

NAMES = ("zero", "../up", "two")


def request(labels: tuple[int, ...] = (2, 0), per_label: int = 3) -> SampleRequest:
    return SampleRequest(labels, per_label, seed=40, settings=SamplingSettings())


def pictures(count: int, channels: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (count, channels, 4, 6), dtype=torch.uint8, generator=generator)


def files(root: Path, asked: SampleRequest, force: bool = False) -> PictureFiles:
    return PictureFiles(asked, f"{root}/{{label}}/{{seed}}.png", NAMES, force, None, lambda _: None)


def test_each_picture_is_a_file_as_soon_as_it_comes(tmp_path: Path) -> None:
    pixels = pictures(6)
    output = files(tmp_path, request())
    output.add(pixels[:4])
    assert sorted(path.name for path in tmp_path.rglob("*.png")) == [
        "40.png",
        "41.png",
        "42.png",
        "43.png",
    ]
    output.add(pixels[4:])
    for index, (folder, seed) in enumerate(
        [("two", 40), ("two", 41), ("two", 42), ("zero", 43), ("zero", 44), ("zero", 45)]
    ):
        with Image.open(tmp_path / folder / f"{seed}.png") as picture:
            assert (picture.mode, picture.size) == ("L", (6, 4))
            assert picture.tobytes() == pixels[index].numpy().tobytes()


@pytest.mark.parametrize(
    ("asked", "apart"),
    [
        (request(), ("index", "seed")),
        (request(per_label=1), ("index", "seed", "label")),
        (request(labels=(2, 2), per_label=1), ("index", "seed")),
        (request(labels=(2,), per_label=1), ("index", "seed", "label", "none")),
        (replace(request(per_label=1), weights=(1.0, 0.5)), ("index", "seed", "label", "none")),
        (replace(request(), weights=(1.0, 0.5)), ("index", "seed")),
        (replace(request(), interpolation=Interpolation(40)), ("index",)),
    ],
)
def test_what_tells_pictures_apart(asked: SampleRequest, apart: tuple[str, ...]) -> None:
    fields = ("index", "seed", "label", "none")
    assert tuple(field for field in fields if asked.told_apart_by({field})) == apart
    for field in fields[:-1]:  # the names are those that are written
        names = {_name(asked, index)[field] for index in range(len(asked))}
        assert (len(names) == len(asked)) == (field in apart)


def _name(asked: SampleRequest, index: int) -> dict[str, object]:
    return {"label": asked.labels_of(index), "seed": asked.one(index).seed, "index": index}


def test_one_picture_of_each_label_is_named_by_it(tmp_path: Path) -> None:
    asked = request(per_label=1)
    output = PictureFiles(asked, f"{tmp_path}/{{label}}.png", NAMES, False, None, lambda _: None)
    output.add(pictures(2))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["two.png", "zero.png"]
    assert output.renamed == 0


def test_torchvision_reads_the_folder(tmp_path: Path) -> None:
    files(tmp_path, request()).add(pictures(6))
    found = ImageFolder(str(tmp_path))
    assert found.classes == ["two", "zero"]
    assert [label for _, label in found.samples] == [0, 0, 0, 1, 1, 1]


def test_a_class_name_leads_to_no_other_folder(tmp_path: Path) -> None:
    root = tmp_path / "inside"
    files(root, request(labels=(1,), per_label=1)).add(pictures(1))
    assert [path.relative_to(tmp_path) for path in tmp_path.rglob("*.png")] == [
        Path("inside/_up/40.png")
    ]


def test_taken_names_get_a_suffix_unless_they_may_be_overwritten(tmp_path: Path) -> None:
    asked = request(labels=(0,), per_label=1)
    files(tmp_path, asked).add(pictures(1))
    before = (tmp_path / "zero/40.png").read_bytes()
    again = files(tmp_path, asked)
    again.add(255 - pictures(1))
    assert again.renamed == 1
    assert (tmp_path / "zero/40.png").read_bytes() == before
    over = files(tmp_path, asked, force=True)
    over.add(255 - pictures(1))
    assert over.renamed == 0
    assert (tmp_path / "zero/40.png").read_bytes() != before


def test_files_of_another_process_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It writes the same names while a picture is encoded."""
    theirs = tmp_path / "zero/40.png"
    theirs.parent.mkdir()

    def encode(*arguments: Any) -> bytes:
        theirs.write_bytes(b"theirs")
        return encode_png(*arguments)

    monkeypatch.setattr(outputs, "encode_png", encode)
    output = files(tmp_path, request(labels=(0,), per_label=1))
    output.add(pictures(1))
    assert output.renamed == 1
    assert theirs.read_bytes() == b"theirs"
    with Image.open(tmp_path / "zero/40-1.png") as picture:
        assert picture.tobytes() == pictures(1).numpy().tobytes()


@pytest.mark.parametrize("channels", [1, 3])
def test_numpy_reads_the_arrays(tmp_path: Path, channels: int) -> None:
    pixels = pictures(6, channels)
    output = PictureArray(request(), (channels, 4, 6))
    output.add(pixels[:5])
    output.add(pixels[5:])
    (tmp_path / "a.npz").write_bytes(output.encoded())
    with np.load(tmp_path / "a.npz") as arrays:
        expected = pixels[:, 0] if channels == 1 else pixels.permute(0, 2, 3, 1)
        assert (arrays["images"] == expected.numpy()).all()
        assert arrays["images"].dtype == np.uint8
        assert arrays["labels"].tolist() == [2, 2, 2, 0, 0, 0]
        assert arrays["seeds"].tolist() == [40, 41, 42, 43, 44, 45]
        assert arrays["labels"].dtype == arrays["seeds"].dtype == np.int64


def test_after_an_interruption_arrays_hold_what_is_finished(tmp_path: Path) -> None:
    output = PictureArray(request(), (1, 4, 6))
    output.add(pictures(2))
    (tmp_path / "a.npz").write_bytes(output.encoded())
    with np.load(tmp_path / "a.npz") as arrays:
        assert arrays["images"].shape == (2, 4, 6)
        assert arrays["seeds"].tolist() == [40, 41]
