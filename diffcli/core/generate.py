"""From labels and seeds to images: noise per image, a sampler, a batch at a time."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from diffcli.core.denoiser import Denoiser, Estimate
from diffcli.core.samplers import SamplerName, Step, ddim, ddpm, dpmpp
from diffcli.core.schedule import step_plan


@dataclass(frozen=True)
class SamplingSettings:
    """How images are drawn.

    Args:
        sampler: ``ddpm`` (ancestral, all T steps), ``ddim`` or ``dpmpp`` (DPM-Solver++(2M)).
        steps: how many of the T timesteps are visited; for ``ddpm`` all of them.
        guidance_scale: 1 is plain conditional, 0 unconditional.
    """

    sampler: SamplerName = "dpmpp"
    steps: int = 16
    guidance_scale: float = 1.0


class ImageNoise:
    """Standard normal noise of which image ``i`` depends on ``seeds[i]`` alone.

    Every image has its own generator, on the CPU, so that neither the batch nor the device
    changes what is drawn for it.
    """

    def __init__(self, seeds: Sequence[int], shape: Sequence[int], device: torch.device) -> None:
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self._shape = tuple(shape)
        self._device = device

    def __call__(self) -> Tensor:
        """Draw the next noise of every image, float32 ``(B, C, H, W)``."""
        noise = torch.stack(
            [torch.randn(self._shape, generator=generator) for generator in self._generators]
        )
        return noise.to(self._device)


@torch.inference_mode()
def generate(
    denoiser: Denoiser, labels: Tensor, seeds: Sequence[int], settings: SamplingSettings
) -> Iterator[Step]:
    """Draw one batch of images, yielding after every step of the sampler.

    Estimates of the clean image are clipped to [-1, 1], where images live.

    Args:
        denoiser: a trained one, on the device to use.
        labels: int64 ``(B,)``; ``network.no_label`` draws without a label.
        seeds: one per image.
        settings: the sampler and what it needs.

    Raises:
        ValueError: if the number of steps does not suit the schedule or the sampler.
    """
    schedule = denoiser.schedule
    config = denoiser.network.config
    device = denoiser.schedule.signal.device
    labels = labels.to(device)
    draw_noise = ImageNoise(
        seeds, (config.image_channels, config.image_height, config.image_width), device
    )
    plan = step_plan(schedule.num_timesteps, settings.steps)

    def denoise(x: Tensor, t: Tensor) -> Estimate:
        return denoiser(x, t, labels, settings.guidance_scale).clipped(schedule, x, t)

    if settings.sampler == "ddpm":
        yield from ddpm(denoise, schedule, draw_noise(), plan, draw_noise)
    else:
        solver = {"ddim": ddim, "dpmpp": dpmpp}[settings.sampler]
        yield from solver(denoise, schedule, draw_noise(), plan)
