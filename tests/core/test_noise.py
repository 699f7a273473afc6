"""Noise on the way from one seed to another."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from diffcli.core.noise import ImageNoise, interpolate_noise
from diffcli.core.parameters import SeedsBetween

CPU = torch.device("cpu")
SHAPE = (1, 16, 16)


def test_the_ends_are_the_noise_of_their_seeds_to_the_bit() -> None:
    plain = ImageNoise([5, 9], SHAPE, CPU)
    between = ImageNoise([SeedsBetween(5, 9, 0.0), SeedsBetween(5, 9, 1.0)], SHAPE, CPU)
    for _ in range(3):
        assert torch.equal(between(), plain())


def test_between_equal_seeds_there_is_nothing_to_interpolate() -> None:
    between = ImageNoise([SeedsBetween(5, 5, 0.3)], SHAPE, CPU)
    assert torch.equal(between(), ImageNoise([5], SHAPE, CPU)())


@given(share=st.floats(0, 1), angle=st.floats(0.1, 3.0), radius=st.floats(0.5, 40))
def test_the_way_is_an_arc_of_even_speed(share: float, angle: float, radius: float) -> None:
    first = radius * torch.tensor([1.0, 0.0], dtype=torch.float64)
    last = radius * torch.tensor([math.cos(angle), math.sin(angle)], dtype=torch.float64)
    place = interpolate_noise(first, last, share)
    expected = [radius * math.cos(share * angle), radius * math.sin(share * angle)]
    assert place.tolist() == pytest.approx(expected, abs=1e-5 * radius)


@pytest.mark.parametrize("share", [0.25, 0.5, 0.9])
def test_the_middle_has_the_power_of_the_ends(share: float) -> None:
    noise = ImageNoise([SeedsBetween(seed, seed + 1, share) for seed in range(50)], SHAPE, CPU)()
    assert float(noise.square().mean()) == pytest.approx(1, abs=0.03)
