"""Measures of images."""

import math

import pytest
import torch

from diffcli.data.images import detail, to_pixels
from diffcli.data.mnist import load_mnist


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
