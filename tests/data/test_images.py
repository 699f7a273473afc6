"""Measures of images, and images of another size."""

import math

import pytest
import torch
from PIL import Image

from diffcli.data.images import LabelledImages, detail, resized, to_pixels
from diffcli.data.mnist import load_mnist
from diffcli.files.pictures import from_pillow, to_pillow


def waves(cycles: float, side: int = 32) -> torch.Tensor:
    """A picture of stripes of so many cycles per pixel, uint8 ``(1, 1, side, side)``."""
    row = torch.cos(2 * math.pi * cycles * torch.arange(side))
    return to_pixels(row.expand(1, 1, side, side))


@pytest.mark.parametrize(("cycles", "expected"), [(1 / 32, 0), (0.25, 0), (0.375, 1), (0.5, 1)])
def test_detail_is_the_share_of_high_frequencies(cycles: float, expected: float) -> None:
    assert detail(waves(cycles)) == pytest.approx(expected, abs=0.01)
    assert detail(waves(cycles).repeat(5, 3, 1, 1)) == pytest.approx(expected, abs=0.01)


def test_detail_of_both_is_their_mean_and_of_nothing_is_none() -> None:
    both = torch.cat([waves(1 / 16), waves(0.4375)])
    assert detail(both) == pytest.approx(0.5, abs=0.01)
    assert detail(torch.full((3, 1, 8, 8), 7, dtype=torch.uint8)) == 0


def test_digits_have_little_and_noise_has_much() -> None:
    assert 0.02 < detail(load_mnist("test").images) < 0.06
    noise = torch.randint(256, (50, 1, 32, 32), generator=torch.Generator().manual_seed(0))
    # Of the square of frequencies, what lies outside the circle.
    assert detail(noise.to(torch.uint8)) == pytest.approx(1 - math.pi * 0.35**2, abs=0.03)


def unlabelled(images: torch.Tensor) -> LabelledImages:
    return LabelledImages(images, torch.zeros(len(images), dtype=torch.long), ("all",))


@pytest.mark.parametrize("lying", [False, True])
def test_other_shapes_are_cropped_at_the_centre(lying: bool) -> None:
    images = torch.zeros(1, 1, 4, 8, dtype=torch.uint8)
    images[..., 2:6] = 200
    found = resized(unlabelled(images if lying else images.mT), (4, 4))
    assert torch.equal(found.images, torch.full((1, 1, 4, 4), 200, dtype=torch.uint8))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("before", "box", "after"),
    [
        # Boxes are (left, top, right, bottom).
        ((28, 28), (0, 0, 28, 28), (12, 12)),
        ((28, 28), (7, 0, 21, 28), (20, 10)),
        ((28, 28), (0, 7, 28, 21), (10, 20)),
        ((12, 20), (4, 0, 16, 12), (24, 24)),
        ((21, 8), (0, 8, 8, 12), (12, 24)),
    ],
)
def test_pictures_are_those_of_pillow(
    channels: int,
    before: tuple[int, int],
    box: tuple[int, int, int, int],
    after: tuple[int, int],
) -> None:
    # Of less contrast than there could be: Pillow clips what the first of its two passes gives.
    shape, generator = (3, channels, *before), torch.Generator().manual_seed(0)
    images = torch.randint(64, 192, shape, generator=generator).to(torch.uint8)
    found = resized(unlabelled(images), after).images
    assert found.shape == (3, channels, *after)
    for image, other in zip(images, found, strict=True):
        part = to_pillow(image).crop(box)
        expected = from_pillow(part.resize(after[::-1], Image.Resampling.BICUBIC))
        # It rounds between the passes, too.
        assert (other.int() - expected.int()).abs().max() <= 1


def test_many_pictures_stay_in_their_order() -> None:
    shades = torch.arange(2100) % 256
    labels = torch.arange(2100) % 3
    images = shades.to(torch.uint8).view(-1, 1, 1, 1).expand(-1, -1, 4, 4)
    found = resized(LabelledImages(images, labels, ("a", "b", "c")), (2, 2))
    assert torch.equal(found.images, images[..., :2, :2])
    assert torch.equal(found.labels, labels)


def test_pictures_of_the_size_that_is_asked_for_are_the_same() -> None:
    data = unlabelled(waves(0.25).mT)
    assert resized(data, (32, 32)) is data
