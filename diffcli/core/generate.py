"""From labels and seeds to images."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from diffcli.core.denoiser import Denoiser, Estimate, Mixture
from diffcli.core.noise import ImageNoise
from diffcli.core.parameters import SamplingSettings, SeedsBetween
from diffcli.core.samplers import SAMPLERS, Step
from diffcli.core.schedule import step_plan


class Init(NamedTuple):
    """Images that drawing starts from, instead of noise alone."""

    images: Tensor
    """``(B or 1, C, H, W)`` in [-1, 1]."""
    redrawn: Tensor | None = None
    """bool ``(B or 1, 1, H, W)``, true where images are drawn anew; None is everywhere."""


def count_evaluations(settings: SamplingSettings, num_timesteps: int) -> int:
    """How often the network is evaluated for a picture of one label.

    Args:
        settings: how it is drawn.
        num_timesteps: T.
    """
    plan = step_plan(num_timesteps, settings.steps, settings.spacing)
    return sum(1 if settings.guidance_at(t) in (0, 1) else 2 for t, _ in plan)


def count_steps(settings: SamplingSettings, num_timesteps: int, strength: float = 1.0) -> int:
    """How many steps an image takes: at most as many as it is noised by, see ``generate``."""
    return min(settings.steps, _noised_by(strength, num_timesteps))


def _noised_by(strength: float, num_timesteps: int) -> int:
    return max(1, round(strength * num_timesteps))


@torch.inference_mode()
def generate(
    denoiser: Denoiser,
    labels: Tensor | Mixture,
    seeds: Sequence[int | SeedsBetween],
    settings: SamplingSettings,
    init: Init | None = None,
    strength: float = 1.0,
    noise: Tensor | None = None,
) -> Iterator[Step]:
    """Draw one batch of images, yielding after every step of the sampler.

    Estimates of the clean image are clipped to [-1, 1], the range of images.

    Args:
        denoiser: a trained one, on the device to use.
        labels: int64 ``(B,)``, where ``network.no_label`` draws without a label, or a mixture.
        seeds: one per image, see ``ImageNoise``.
        settings: the sampler and its parameters.
        init: images to start from (SDEdit, Meng et al. 2022).  Where they are not to be drawn
            anew, their pixels replace those of each estimate (Wang et al. 2023, eq. 13), so
            that the rest fits to them and they come out as they are.
        strength: with ``init``, the share of the timesteps that they are noised by, in (0, 1].
            At 1, all drawn images keep ``alpha_{T-1}`` of ``init``, but a part that is drawn anew
            beside one that is not starts from noise alone.
        noise: ``(B, C, H, W)`` to start from instead of that of the seeds.

    Raises:
        ValueError: at the first step, if there are more steps than timesteps.  With ``init``,
            there are at most as many as it is noised by.
    """
    schedule, device = denoiser.schedule, denoiser.schedule.device
    labels = labels.to(device)
    known = redrawn = None
    draw_noise = ImageNoise(seeds, denoiser.network.config.image_shape, device)
    x = draw_noise()  # also if it is not used: later steps have noise of their own
    if noise is not None:
        x = noise.to(device)
    if init is None:
        plan = step_plan(schedule.num_timesteps, settings.steps, settings.spacing)
    else:
        start = _noised_by(strength, schedule.num_timesteps)
        plan = step_plan(start, min(settings.steps, start), settings.spacing)
        known = init.images.to(device)
        pure, x = x, schedule.add_noise(known, plan[0][0], x)
        if init.redrawn is not None:
            redrawn = init.redrawn.to(device)
            if start == schedule.num_timesteps:
                x = pure.where(redrawn, x)

    def denoise(x: Tensor, t: int) -> Estimate:
        estimate = denoiser.clipped(x, t, labels, settings.guidance_at(t))
        if known is None or redrawn is None:
            return estimate
        return denoiser.with_image(x, t, estimate.x0.where(redrawn, known))

    sample = SAMPLERS[settings.sampler].function
    yield from sample(denoise, schedule, x, plan, draw_noise, settings)
