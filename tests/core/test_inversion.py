"""The noise of given images."""

import pytest
import torch

from diffcli.core.generate import generate
from diffcli.core.inversion import invert
from diffcli.core.parameters import SamplingSettings, ScheduleConfig
from diffcli.core.schedule import NoiseSchedule, step_plan
from diffcli.data.images import to_model_range
from diffcli.data.mnist import load_mnist
from diffcli.files.checkpoint import load_model
from diffcli.files.locations import shipped_file
from tests.core.gaussian import Gaussian, Normal, denoiser_with

SCHEDULE = NoiseSchedule.from_config(ScheduleConfig("cosine", 300))
SETTINGS = SamplingSettings("ddim", 50)


@pytest.mark.parametrize("std", [0.05, 0.2, 0.3])
def test_the_noise_is_the_one_that_gives_the_last_but_one_image(std: float) -> None:
    data = Gaussian(SCHEDULE, mean=0.1, std=std)
    denoiser = denoiser_with(Normal(SCHEDULE, torch.full((2, 1, 4, 4), data.mean), std), SCHEDULE)
    images = 0.1 + std * torch.linspace(-1.5, 1.5, 16).view(1, 1, 4, 4)
    labels = torch.zeros(1).long()
    noise = invert(denoiser, images, labels, [3], SETTINGS)
    *_, before, last = generate(denoiser, labels, [0], SETTINGS, noise=noise)
    epsilon = torch.randn(1, 4, 4, generator=torch.Generator().manual_seed(3))
    assert torch.allclose(before.x, SCHEDULE.add_noise(images, last.t, epsilon), atol=2e-3)
    # The steps are short enough for the exact solution of the probability flow.
    first_t = step_plan(300, 50)[0][0]
    assert torch.allclose(noise, data.flow(before.x, last.t, first_t), rtol=0.15, atol=0.05)


def test_each_image_has_the_noise_of_its_own_seed_and_label() -> None:
    _, denoiser = load_model(shipped_file("mnist.safetensors"))
    data = load_mnist("test")
    images, settings = to_model_range(data.images[:1]), SamplingSettings("ddim", 5)
    labels = torch.tensor([7, 7, 1])
    together = invert(denoiser, images.expand(3, -1, -1, -1), labels, [1, 2, 1], settings)
    for index, (label, seed) in enumerate([(7, 1), (7, 2), (1, 1)]):
        alone = invert(denoiser, images, torch.tensor([label]), [seed], settings)
        assert torch.allclose(together[index], alone[0], atol=1e-3)
    assert all((together[0] - other).abs().max() > 0.1 for other in together[1:])


@pytest.mark.long
def test_real_digits_come_back_and_their_noise_has_the_power_of_noise() -> None:
    _, denoiser = load_model(shipped_file("mnist.safetensors"))
    data = load_mnist("test")
    images, labels = to_model_range(data.images[:8]), data.labels[:8]
    noise = invert(denoiser, images, labels, range(8), SETTINGS)
    *_, last = generate(denoiser, labels, range(8), SETTINGS, noise=noise)
    assert float((last.x - images).square().mean()) < 5e-4
    # A single iteration, which is the usual way, gives 0.53.
    assert float(noise.square().mean()) > 0.85
