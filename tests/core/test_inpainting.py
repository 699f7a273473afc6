"""Drawing a part of an image anew, with the rest as it is."""

from types import SimpleNamespace
from typing import cast, get_args

import pytest
import torch
from torch import Tensor

from diffcli.core.denoiser import Denoiser
from diffcli.core.generate import Init, generate
from diffcli.core.noise import ImageNoise
from diffcli.core.parameters import SamplerName, SamplingSettings, ScheduleConfig
from diffcli.core.schedule import NoiseSchedule
from diffcli.core.unet import ConditionalUNet
from tests import tiny

LABELS = torch.tensor([0, 1, 2])
SEEDS = [4, 5, 6]
IMAGE = torch.linspace(-1, 1, 64).view(1, 1, 8, 8)
LEFT = (torch.arange(8) < 4).expand(1, 1, 8, 8)
"""The left half is drawn anew."""


def last(settings: SamplingSettings, init: Init, strength: float = 1.0) -> Tensor:
    *_, step = generate(tiny.denoiser(), LABELS, SEEDS, settings, init, strength)
    return step.x


@pytest.mark.parametrize("sampler", get_args(SamplerName))
@pytest.mark.parametrize("strength", [0.4, 1.0])
def test_what_is_not_drawn_anew_comes_out_as_it_went_in(
    sampler: SamplerName, strength: float
) -> None:
    drawn = last(SamplingSettings(sampler, 5, guidance_scale=2.0), Init(IMAGE, LEFT), strength)
    right = ~LEFT.expand_as(drawn)
    assert torch.allclose(drawn[right], IMAGE.expand_as(drawn)[right], atol=1e-6)
    assert float((drawn - IMAGE)[LEFT.expand_as(drawn)].abs().mean()) > 0.1
    first, second, _ = drawn
    assert not torch.allclose(first, second, atol=1e-2)


def test_nothing_is_left_of_what_is_drawn_anew() -> None:
    settings = SamplingSettings("dpmpp-sde", 5)
    other = IMAGE.where(~LEFT, 0.3)
    assert torch.equal(last(settings, Init(IMAGE, LEFT)), last(settings, Init(other, LEFT)))
    weaker = last(settings, Init(IMAGE, LEFT), 0.5), last(settings, Init(other, LEFT), 0.5)
    assert not torch.allclose(*weaker, atol=1e-2)


def test_with_everything_drawn_anew_the_image_makes_no_difference() -> None:
    settings = SamplingSettings("ddim", 5)
    drawn = last(settings, Init(IMAGE, torch.ones_like(LEFT)))
    *_, plain = generate(tiny.denoiser(), LABELS, SEEDS, settings)
    assert torch.equal(drawn, plain.x)


class _Equal(torch.nn.Module):
    """The exact denoiser of images of two equal, normal pixels, of standard deviation 1/2."""

    no_label = 3
    variance = 0.25

    def __init__(self, schedule: NoiseSchedule) -> None:
        super().__init__()
        self.config = SimpleNamespace(image_shape=(1, 1, 2))
        self.schedule = schedule

    def forward(self, x: Tensor, t: Tensor, _labels: Tensor) -> Tensor:
        alpha, sigma = self.schedule.alpha_sigma(t)
        gain = alpha * self.variance / (2 * alpha**2 * self.variance + sigma**2)
        return (gain * x.sum(-1, keepdim=True)).expand_as(x)


def test_what_is_drawn_fits_to_what_stays() -> None:
    schedule = NoiseSchedule.from_config(ScheduleConfig("cosine", 100))
    denoiser = Denoiser(cast("ConditionalUNet", _Equal(schedule)), schedule, "x0")
    known = torch.linspace(-0.9, 0.9, 64)
    init = Init(
        known[:, None, None, None].repeat(1, 1, 1, 2), torch.tensor([True, False])[None, None, None]
    )
    settings = SamplingSettings("dpmpp-sde", 50)
    *_, step = generate(denoiser, torch.zeros(64).long(), range(64), settings, init)
    drawn = step.x[:, 0, 0, 0]
    # By default the drawn pixel would be independent of the other one.
    assert float(torch.corrcoef(torch.stack([drawn, known]))[0, 1]) > 0.95
    assert float((drawn - known).abs().mean()) < 0.2


def test_the_noise_of_what_stays_is_what_it_was_given() -> None:
    """So that a deterministic sampler leads it straight to the image."""
    denoiser, settings = tiny.denoiser(), SamplingSettings("ddim", 5)
    pure = ImageNoise(SEEDS, (1, 8, 8), torch.device("cpu"))()
    stays = ~LEFT.expand_as(pure)
    for step in generate(denoiser, LABELS, SEEDS, settings, Init(IMAGE, LEFT), 0.5):
        alpha, sigma = denoiser.schedule.alpha_sigma(step.s)
        expected = alpha * IMAGE + sigma * pure
        torch.testing.assert_close(step.x[stays], expected[stays], rtol=0, atol=1e-5)
