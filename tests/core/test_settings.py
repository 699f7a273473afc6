"""Guidance intervals, starting from a picture, and the range of settings."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from diffcli.core.generate import Init, generate
from diffcli.core.parameters import SamplingSettings
from tests import tiny

DENOISER = tiny.denoiser()
LABELS = torch.tensor([0, 1, 2, 1, 0])
SEEDS = [11, 12, 13, 14, 15]
SETTINGS = SamplingSettings("dpmpp", 4)


def last(
    settings: SamplingSettings = SETTINGS, init: Init | None = None, strength: float = 1.0
) -> Tensor:
    *_, step = generate(DENOISER, LABELS, SEEDS, settings, init, strength)
    return step.x


def test_guidance_applies_within_its_interval_only() -> None:
    plain = last(SETTINGS)
    guided = last(replace(SETTINGS, guidance_scale=4.0))
    # 4 uniform steps of 20 visit 19, 14, 9 and 4.
    everywhere = last(replace(SETTINGS, guidance_scale=4.0, guidance_interval=(4, 19)))
    nowhere = last(replace(SETTINGS, guidance_scale=4.0, guidance_interval=(15, 18)))
    some = last(replace(SETTINGS, guidance_scale=4.0, guidance_interval=(9, 9)))
    assert torch.equal(everywhere, guided)
    assert torch.equal(nowhere, plain)
    assert not torch.allclose(some, plain, atol=1e-3)
    assert not torch.allclose(some, guided, atol=1e-3)


def test_low_strength_keeps_the_picture_and_full_strength_does_not() -> None:
    images = torch.linspace(-1, 1, 64).view(1, 1, 8, 8)
    weak = last(init=Init(images), strength=0.05)
    strong = last(init=Init(images), strength=1.0)

    def distance(a: Tensor) -> float:
        return float((a - images).square().mean().sqrt())

    assert distance(weak) < 0.2 < distance(strong)


def test_strength_is_the_share_of_timesteps() -> None:
    init = Init(torch.zeros(1, 1, 8, 8))
    for strength, first, steps in (
        (0.6, 11, 4),
        (0.29, 5, 4),
        (1.0, 19, 4),
        (0.1, 1, 2),
        (0.001, 0, 1),
    ):
        way = list(generate(DENOISER, LABELS, SEEDS, SETTINGS, init, strength))
        assert (way[0].t, len(way), way[-1].s) == (first, steps, -1)


def test_steps_from_a_picture_have_the_same_spacing() -> None:
    settings = replace(SETTINGS, spacing=2.0)
    way = list(generate(DENOISER, LABELS, SEEDS, settings, Init(torch.zeros(1, 1, 8, 8)), 0.75))
    assert [step.t for step in way] == [14, 13, 11, 6]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"steps": 20}, None),
        ({"steps": 21}, r"steps must be in 1 \.\. 20, not 21"),
        ({"guidance_interval": (19, 19)}, None),
        ({"guidance_interval": (3, 20)}, "interval must be in 0-19"),
    ],
)
def test_settings_are_for_enough_timesteps(fields: dict[str, Any], message: str | None) -> None:
    settings = replace(SETTINGS, **fields)
    if message is None:
        settings.check_timesteps(20)
    else:
        with pytest.raises(ValueError, match=message):
            settings.check_timesteps(20)


@pytest.mark.parametrize(
    "fields",
    [
        {"steps": 0},
        {"guidance_scale": -0.1},
        {"guidance_scale": float("nan")},
        {"guidance_scale": float("inf")},
        {"guidance_interval": (5, 4)},
        {"guidance_interval": (-1, 4)},
        {"guidance_interval": (1, 2, 3)},
        {"spacing": 0.0},
        {"spacing": 10.5},
        {"spacing": float("nan")},
        {"sampler": "euler"},
        {"variance": "gamma"},
        {"eta": -0.1},
        {"eta": 1.1},
        {"eta": float("nan")},
    ],
)
def test_settings_out_of_range_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"steps|guidance|spacing|sampler|variance|eta"):
        replace(SETTINGS, **fields)
