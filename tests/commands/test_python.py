"""From Python, the pictures are those of ``diffcli sample``."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from diffcli.errors import UsageError
from diffcli.files.pictures import to_pillow
from diffcli.sampling.model import Model, load
from diffcli.sampling.provenance import read_provenance
from tests.commands.conftest import Draw


@pytest.fixture
def files(tmp_path: Path) -> None:
    """Two pictures of different shapes to start from, and a mask of the first."""
    gradient = Image.linear_gradient("L")
    gradient.resize((12, 8)).save(tmp_path / "a.png")
    gradient.rotate(90).resize((8, 8)).save(tmp_path / "b.png")
    mask = Image.new("L", (12, 8))
    mask.paste("white", (0, 0, 12, 3))
    mask.save(tmp_path / "mask.png")


A, B, MASK = Path("a.png"), Path("b.png"), Path("mask.png")


@pytest.mark.parametrize(
    ("options", "drawn"),
    [
        ("-l 0,2", lambda model: model.sample([0, 2], 3, 5)),
        (
            "-l 0 --sampler dpmpp-sde --steps 5 --eta 0.5 --guidance 2 --guidance-interval 3-9",
            lambda model: model.sample(
                0,
                3,
                5,
                sampler="dpmpp-sde",
                steps=5,
                eta=0.5,
                guidance_scale=2.0,
                guidance_interval=(3, 9),
            ),
        ),
        ("-l 0 --init a.png", lambda model: model.sample(0, 3, 5, init=model.init(A))),
        (
            "-l 0 --init a.png --strength 0.3",
            lambda model: model.sample(0, 3, 5, init=model.init(A), strength=0.3),
        ),
        (
            "-l 0 --init a.png --mask mask.png",
            lambda model: model.sample(0, 3, 5, init=model.init(A, MASK)),
        ),
        (
            "-l 0,2 --init a.png --invert 1",
            lambda model: model.sample([0, 2], 3, 5, init=model.invert([A], [1])),
        ),
        (
            "--between 0,2 --seed 5,9",
            lambda model: model.interpolate([0, 2], 3, (5, 9)),
        ),
        (
            "--between 0,2 --init a.png --init b.png",
            lambda model: model.interpolate([0, 2], 3, (5, 5), init=model.invert([A, B], [0, 2])),
        ),
    ],
)
@pytest.mark.usefixtures("files")
def test_python_draws_what_the_command_draws(
    options: str, drawn: Callable[[Model], Tensor], draw: Draw, model: Path, tmp_path: Path
) -> None:
    draw("-n", "3", "--seed", "5", "-o", "command{index}.png", *options.split())
    pictures = drawn(load(model))
    assert len(pictures) == len(list(tmp_path.glob("command*.png")))
    for index, pixels in enumerate(pictures):
        with Image.open(f"command{index}.png") as picture:
            assert picture.tobytes() == to_pillow(pixels).tobytes()


@pytest.mark.usefixtures("files")
def test_a_picture_is_changed_by_six_tenths_and_its_part_wholly(draw: Draw, model: Path) -> None:
    python = load(model)
    for name, mask, strength in (("all.png", None, 0.6), ("part.png", MASK, 1.0)):
        init = python.init(A, mask)
        expected = python.sample(0, 2, 5, steps=20, init=init, strength=strength)
        assert torch.equal(python.sample(0, 2, 5, steps=20, init=init), expected)
        options = ["--mask", mask] if mask else []
        draw("-l", "0", "-n", "1", "--init", A, *options, "-o", name)
        assert read_provenance(Path(name)).request.strength == strength


@pytest.mark.usefixtures("files", "draw")
def test_the_noise_of_pictures_is_drawn_from_with_ddim_alone(model: Path) -> None:
    python = load(model)
    one, two = python.invert([A], [0]), python.invert([A, B], [0, 2])
    with pytest.raises(UsageError, match="with the sampler ddim"):
        python.sample(0, 1, 5, sampler="dpmpp", init=one)
    with pytest.raises(UsageError, match="with the sampler ddim"):
        python.interpolate([0, 2], 3, (5, 9), sampler="dpmpp", init=two)
