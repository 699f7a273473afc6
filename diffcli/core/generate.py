"""From labels and seeds to images."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from diffcli.core.denoiser import Denoiser, Estimate
from diffcli.core.parameters import SamplingSettings
from diffcli.core.samplers import SAMPLERS, Step
from diffcli.core.schedule import step_plan


class ImageNoise:
    """Standard normal noise of which image ``i`` depends on ``seeds[i]`` alone.

    Every image has its own generator, on the CPU, so that neither the size of the batch nor
    the device changes its noise.

    Args:
        seeds: one per image.
        shape: ``(C, H, W)`` of an image.
        device: where the noise is needed.
    """

    def __init__(self, seeds: Sequence[int], shape: Sequence[int], device: torch.device) -> None:
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self._shape = tuple(shape)
        self._device = device

    def __call__(self) -> Tensor:
        """The next noise of every image, float32 ``(B, C, H, W)``."""
        noise = torch.stack(
            [torch.randn(self._shape, generator=generator) for generator in self._generators]
        )
        return noise.to(self._device, non_blocking=True)


class Init(NamedTuple):
    """Images that drawing starts from, instead of noise alone."""

    images: Tensor
    """``(B or 1, C, H, W)`` in [-1, 1]."""
    redrawn: Tensor | None = None
    """bool ``(B or 1, 1, H, W)``, true where images are drawn anew; None is everywhere."""


@torch.inference_mode()
def generate(
    denoiser: Denoiser,
    labels: Tensor,
    seeds: Sequence[int],
    settings: SamplingSettings,
    init: Init | None = None,
    strength: float = 1.0,
) -> Iterator[Step]:
    """Draw one batch of images, yielding after every step of the sampler.

    Estimates of the clean image are clipped to [-1, 1], the range of images.

    Args:
        denoiser: a trained one, on the device to use.
        labels: int64 ``(B,)``; ``network.no_label`` draws without a label.
        seeds: one per image.
        settings: the sampler and its parameters.
        init: images to start from (SDEdit, Meng et al. 2022).  Where they are not to be drawn
            anew, their pixels replace those of each estimate (Wang et al. 2023, eq. 13), so
            that the rest fits to them and they come out as they are.
        strength: with ``init``, the share of the timesteps that they are noised by, in (0, 1];
            the higher, the less is left of what is drawn anew, and nothing at 1 with a part
            that is not.

    Raises:
        ValueError: if the number of steps is not in 1 .. T.
    """
    schedule, device = denoiser.schedule, denoiser.schedule.device
    labels = labels.to(device)
    known = redrawn = None
    draw_noise = ImageNoise(seeds, denoiser.network.config.image_shape, device)
    x = draw_noise()
    if init is None:
        plan = step_plan(schedule.num_timesteps, settings.steps, settings.spacing)
    else:
        start = max(1, round(strength * schedule.num_timesteps))
        plan = step_plan(start, min(settings.steps, start), settings.spacing)
        known = init.images.to(device)
        noise, x = x, schedule.add_noise(known, plan[0][0], x)
        if init.redrawn is not None:
            redrawn = init.redrawn.to(device)
            if start == schedule.num_timesteps:
                x = noise.where(redrawn, x)

    def denoise(x: Tensor, t: int) -> Estimate:
        estimate = denoiser.clipped(x, t, labels, settings.guidance_at(t))
        if known is None or redrawn is None:
            return estimate
        return denoiser.with_image(x, t, estimate.x0.where(redrawn, known))

    sample = SAMPLERS[settings.sampler].function
    yield from sample(denoise, schedule, x, plan, draw_noise, settings.variance)
