"""Augmented training images, and a network that is told how they were augmented."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from diffcli.core.denoiser import Denoiser
from diffcli.core.parameters import AUGMENTATIONS
from diffcli.training.augmentation import augment
from diffcli.training.config import RunConfig
from diffcli.training.distributed import Distributed
from diffcli.training.objectives import Batch, DiffusionLoss
from diffcli.training.recipe import RECIPES
from diffcli.training.setup import make_trainer
from diffcli.training.trainer import Trainer
from tests import tiny
from tests.training.pictures import tiny_digits

CPU = torch.device("cpu")
TOLD = replace(tiny.config(), augmented=True)
MIRRORED, SCALE, STRETCH, RIGHT, DOWN = range(AUGMENTATIONS)


def square() -> Tensor:
    """White from row 12 to 19 and column 8 to 15, on black."""
    image = torch.full((1, 1, 32, 32), -1.0)
    image[:, :, 12:20, 8:16] = 1
    return image


def changed(image: Tensor, **amounts: float) -> Tensor:
    """An image after the changes of these names and sizes."""
    chance, normal = torch.ones(1, AUGMENTATIONS), torch.zeros(1, AUGMENTATIONS)
    for name, amount in amounts.items():
        number = globals()[name.upper()]
        chance[0, number], normal[0, number] = 0, amount
    result, code = augment(image, 1.0, chance, normal)
    expected = [
        amounts.get(name, 0.0) for name in ("mirrored", "scale", "stretch", "right", "down")
    ]
    assert code.tolist() == [pytest.approx(expected)]
    return result


def box(image: Tensor) -> tuple[int, int, int, int]:
    """The first and the last row and column that are rather white."""
    rows, columns = (image[0, 0] > 0).nonzero(as_tuple=True)
    return int(rows.min()), int(rows.max()), int(columns.min()), int(columns.max())


def test_each_change_does_what_its_number_says() -> None:
    assert torch.equal(changed(square()), square())
    assert torch.allclose(changed(square(), mirrored=1.0), square().flip(3), atol=1e-5)
    # A shift of one standard deviation is an eighth of the side, here 4 pixels.
    assert box(changed(square(), right=1.0)) == (12, 19, 12, 19)
    assert box(changed(square(), down=-2.0)) == (4, 11, 8, 15)
    # Five standard deviations of the scale are a factor of two, about the centre.
    assert box(changed(square(), scale=5.0)) == (8, 23, 0, 15)
    # Wider, and lower by the same factor; what comes in from outside is reflected.
    wide = changed(square(), stretch=5.0)[:, :, 8:24]
    assert box(wide) == (6, 9, 0, 15)
    # All at once: mirrored last, shifted by what the numbers say.
    assert box(changed(square(), mirrored=1.0, right=1.0)) == (12, 19, 12, 19)


def test_as_many_are_changed_as_requested() -> None:
    generator = torch.Generator().manual_seed(0)
    count = 20_000
    chance = torch.rand(count, AUGMENTATIONS, generator=generator)
    normal = torch.randn(count, AUGMENTATIONS, generator=generator)
    images = torch.rand(count, 1, 4, 4, generator=generator)
    result, code = augment(images, 0.4, chance, normal)
    assert (code != 0).float().mean(0).tolist() == pytest.approx(
        [0.2, 0.4, 0.4, 0.4, 0.4], abs=0.02
    )
    untouched = (code == 0).all(1)
    assert torch.equal(result[untouched], images[untouched])
    assert untouched.float().mean() == pytest.approx(0.8 * 0.6**4, abs=0.01)


def test_without_a_code_a_network_does_as_with_zeros() -> None:
    network = tiny.network(replace(tiny.config(), augmented=True))
    x, t, labels = torch.randn(2, 1, 8, 8), torch.tensor([3, 9]), torch.tensor([0, 1])
    plain = network(x, t, labels)
    assert torch.equal(network(x, t, labels, torch.zeros(2, AUGMENTATIONS)), plain)
    assert not torch.allclose(network(x, t, labels, torch.ones(2, AUGMENTATIONS)), plain)


def test_a_run_with_augmentation_trains_a_network_that_is_told() -> None:
    recipe = replace(RECIPES["fast"], batch_size=8, augmentation=0.5)
    config = RunConfig(recipe=recipe, max_steps=3)
    trainer = make_trainer(config, tiny_digits(30), CPU, Distributed())
    assert trainer.denoiser.network.config.augmented
    table = trainer.denoiser.network.augmentation_embedding.weight
    assert not table.any()
    for _ in range(3):
        trainer.step(0.1)
    assert table.any()


class Recording(DiffusionLoss):
    """Keeps the images and codes that it is given."""

    def __init__(self) -> None:
        self.given: list[tuple[Tensor, Tensor | None]] = []

    def __call__(self, denoiser: Denoiser, batch: Batch, step: int) -> Tensor:
        self.given.append((batch.x0, batch.augmentation))
        return super().__call__(denoiser, batch, step)


def test_the_images_that_are_trained_on_are_those_that_the_codes_describe() -> None:
    recipe = replace(RECIPES["fast"], batch_size=40, augmentation=0.3)
    config = RunConfig(recipe=recipe, max_steps=3, architecture=TOLD)
    objective = Recording()
    denoiser = replace(tiny.description(), architecture=TOLD).build()
    data = tiny_digits(30)
    trainer = Trainer(denoiser, data, config, Distributed(), objective)
    trainer.step(0.1)
    ((x0, code),) = objective.given
    assert code is not None
    known, _ = data.batch(torch.arange(30))
    plain = torch.tensor([bool((image == known).all(dim=(1, 2, 3)).any()) for image in x0])
    assert torch.equal(plain, (code == 0).all(1))
    assert 0 < plain.sum() < 40
