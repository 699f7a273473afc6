from collections.abc import Callable, Iterator, Sequence
from typing import get_args

import pytest
import torch
from torch import Tensor

from diffcli.core.denoiser import Estimate
from diffcli.core.generate import count_evaluations, generate
from diffcli.core.noise import ImageNoise
from diffcli.core.parameters import SamplerName, SamplingSettings, Variance
from diffcli.core.samplers import SAMPLERS, Step, consistency, ddim, ddpm, dpmpp, dpmpp_sde
from diffcli.core.schedule import step_plan
from diffcli.data.images import to_pixels
from tests import tiny

pytestmark = pytest.mark.long

SETTINGS = [
    SamplingSettings("dpmpp", 5),
    SamplingSettings("ddim", 7),
    SamplingSettings("ddpm", 20),
    SamplingSettings("ddpm", 6),
    SamplingSettings("ddpm", 6, variance="beta"),
    SamplingSettings("dpmpp-sde", 6),
    SamplingSettings("dpmpp-sde", 6, spacing=1.5),
    SamplingSettings("dpmpp", 5, guidance_scale=2.5),
]
CPU = torch.device("cpu")


def short(settings: SamplingSettings) -> str:
    return (
        f"{settings.sampler}-{settings.guidance_scale:g}-{settings.spacing:g}-{settings.variance}"
    )


def draw(labels: Sequence[int], seeds: Sequence[int], settings: SamplingSettings) -> list[Step]:
    return list(generate(tiny.denoiser(), torch.tensor(labels), seeds, settings))


def pixels(labels: Sequence[int], seeds: Sequence[int], settings: SamplingSettings) -> Tensor:
    return to_pixels(draw(labels, seeds, settings)[-1].x)


def furthest(a: Tensor, b: Tensor) -> int:
    return int((a.int() - b.int()).abs().max())


def test_the_noise_of_an_image_depends_on_its_seed_alone() -> None:
    shape = (1, 4, 4)
    together = ImageNoise([5, 6, 2**32 - 1], shape, CPU)
    alone = [ImageNoise([seed], shape, CPU) for seed in (5, 6, 2**32 - 1)]
    for _ in range(3):
        assert torch.equal(together(), torch.cat([noise() for noise in alone]))


def test_the_noise_is_that_of_a_plain_generator() -> None:
    noise = ImageNoise([3], (2, 5, 5), CPU)
    generator = torch.Generator().manual_seed(3)
    for _ in range(2):
        assert torch.equal(noise()[0], torch.randn(2, 5, 5, generator=generator))


def test_global_random_numbers_are_left_alone() -> None:
    denoiser = tiny.denoiser()
    before = torch.get_rng_state()
    list(generate(denoiser, torch.tensor([0, 1]), [1, 2], SETTINGS[2]))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("settings", SETTINGS, ids=short)
def test_an_image_is_the_same_in_every_batch(settings: SamplingSettings) -> None:
    labels, seeds = [0, 1, 2, 0, 1, 2, 3], range(100, 107)
    together = pixels(labels, seeds, settings)
    for size in (1, 2, 3):
        for start in range(0, len(labels), size):
            part = slice(start, start + size)
            assert furthest(pixels(labels[part], seeds[part], settings), together[part]) <= 1


@pytest.mark.parametrize("settings", SETTINGS, ids=short)
def test_drawing_again_is_drawing_the_same(settings: SamplingSettings) -> None:
    first, second = draw([0, 1], [7, 8], settings), draw([0, 1], [7, 8], settings)
    assert torch.equal(first[-1].x, second[-1].x)


@pytest.mark.parametrize("settings", SETTINGS, ids=short)
def test_seed_and_label_both_matter(settings: SamplingSettings) -> None:
    one, other_seed, other_label = (
        pixels([label], [seed], settings) for label, seed in ((0, 1), (0, 2), (1, 1))
    )
    assert furthest(one, other_seed) > 1
    assert furthest(one, other_label) > 1


@pytest.mark.parametrize("settings", SETTINGS, ids=short)
def test_every_step_of_the_plan_is_shown_and_images_stay_in_range(
    settings: SamplingSettings,
) -> None:
    steps = draw([0, 1], [1, 2], settings)
    assert [(step.t, step.s) for step in steps] == step_plan(20, settings.steps, settings.spacing)
    assert all(step.x.shape == step.x0.shape == (2, 1, 8, 8) for step in steps)
    assert all(step.x0.abs().max() <= 1 for step in steps)
    assert steps[-1].x.abs().max() <= 1 + 1e-5


@pytest.mark.parametrize(
    ("settings", "cost"),
    [
        (SamplingSettings("dpmpp", 5), 5),
        (SamplingSettings("ddim", 5, guidance_scale=0.0), 5),
        (SamplingSettings("ddpm", 5, guidance_scale=2.0), 10),
        # Timesteps 19, 15, 11, 7 and 3, and with that spacing 19, 18, 14, 10 and 5.
        (SamplingSettings("dpmpp-sde", 5, 2.0, (7, 15)), 8),
        (SamplingSettings("dpmpp-sde", 5, 2.0, (7, 15), spacing=1.5), 7),
        (SamplingSettings("dpmpp", 5, 0.0, (7, 15)), 5),
    ],
)
def test_a_picture_costs_as_many_evaluations_as_the_network_makes(
    settings: SamplingSettings, cost: int
) -> None:
    denoiser = tiny.denoiser()
    seen: list[int] = []
    denoiser.network.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    list(generate(denoiser, torch.tensor([0, 2, 1]), [1, 2, 3], settings))
    assert sum(seen) == 3 * cost
    assert count_evaluations(settings, 20) == cost


def test_the_table_has_every_sampler_and_says_which_add_noise() -> None:
    assert set(SAMPLERS) == set(get_args(SamplerName))
    denoiser, labels = tiny.denoiser(), torch.tensor([0])
    for name, sampler in SAMPLERS.items():
        drawn: list[int] = []

        def draw_noise(drawn: list[int] = drawn) -> Tensor:
            drawn.append(1)
            return torch.zeros(1, 1, 8, 8)

        steps = sampler.function(
            lambda x, t: denoiser(x, t, labels),
            denoiser.schedule,
            torch.zeros(1, 1, 8, 8),
            step_plan(20, 4),
            draw_noise,
            SamplingSettings(name),
        )
        assert len(list(steps)) == 4
        assert len(drawn) == (3 if sampler.adds_noise else 0), name


@pytest.mark.parametrize("variance", ["beta", "beta-tilde"])
@pytest.mark.parametrize(
    ("name", "sampler"),
    [
        ("ddpm", ddpm),
        ("ddim", ddim),
        ("dpmpp", dpmpp),
        ("dpmpp-sde", dpmpp_sde),
        ("consistency", consistency),
    ],
)
def test_the_requested_sampler_draws(
    name: SamplerName, sampler: Callable[..., Iterator[Step]], variance: Variance
) -> None:
    denoiser, labels, seeds = tiny.denoiser(), torch.tensor([0, 2]), [7, 8]
    noise = ImageNoise(seeds, (1, 8, 8), CPU)
    start = noise()

    def denoise(x: Tensor, t: int) -> Estimate:
        return denoiser.clipped(x, t, labels)

    plan, settings = step_plan(20, 6), SamplingSettings(name, 6, variance=variance, eta=0.4)
    with torch.inference_mode():
        *_, last = sampler(denoise, denoiser.schedule, start, plan, noise, settings)
    drawn = draw(labels.tolist(), seeds, settings)
    assert torch.equal(drawn[-1].x, last.x)


def test_the_caller_is_not_left_in_inference_mode() -> None:
    steps = generate(tiny.denoiser(), torch.tensor([0]), [1], SETTINGS[0])
    for _ in steps:
        assert not torch.is_inference_mode_enabled()


@pytest.mark.parametrize(
    ("sampler", "steps"), [("dpmpp", 21), ("dpmpp-sde", 21), ("ddim", 21), ("ddpm", 21)]
)
def test_steps_that_do_not_suit_are_refused(sampler: SamplerName, steps: int) -> None:
    settings = SamplingSettings(sampler, steps)
    with pytest.raises(ValueError, match="steps"):
        draw([0], [1], settings)


def test_given_noise_is_not_added_again_by_the_steps() -> None:
    """Those of ``ddpm`` add the second and later noises of each seed, wherever they start."""
    denoiser, labels, seeds = tiny.denoiser(), torch.tensor([0, 1]), [4, 5]
    settings = SamplingSettings("ddpm", 3)
    noise = ImageNoise(seeds, (1, 8, 8), CPU)()
    given = list(generate(denoiser, labels, seeds, settings, noise=noise))
    own = list(generate(denoiser, labels, seeds, settings))
    assert torch.equal(given[-1].x, own[-1].x)
