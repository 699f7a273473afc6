"""From labels and seeds to images: noise per image, a sampler, a batch at a time."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from diffcli.core.denoiser import Denoiser, Estimate
from diffcli.core.samplers import SamplerName, Step, ddim, ddpm, dpmpp, dpmpp_sde
from diffcli.core.schedule import step_plan

MAX_GUIDANCE_SCALE = 1000.0


@dataclass(frozen=True)
class SamplingSettings:
    """How images are drawn.

    Args:
        sampler: ``ddpm`` (ancestral), ``ddim``, ``dpmpp`` (DPM-Solver++(2M)) or ``dpmpp-sde`` (the
            same with noise added on the way).
        steps: how many of the T timesteps are visited.
        guidance_scale: 1 is plain conditional, 0 unconditional.
        guidance_interval: the first and the last timestep at which guidance applies; at the
            others the scale is 1 (Kynkäänniemi et al. 2024).  All of them if absent.
        spacing: 1 visits timesteps evenly; more, and steps are shorter where there is more
            noise (see ``step_plan``).

    Raises:
        ValueError: if a field is out of range.
    """

    sampler: SamplerName = "dpmpp"
    steps: int = 16
    guidance_scale: float = 1.0
    guidance_interval: tuple[int, int] | None = None
    spacing: float = 1.0

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, not {self.steps}")
        if not 0 <= self.guidance_scale <= MAX_GUIDANCE_SCALE:
            raise ValueError(
                f"guidance must be in 0 .. {MAX_GUIDANCE_SCALE:g}, not {self.guidance_scale:g}"
            )
        interval = self.guidance_interval
        if interval is not None and (len(interval) != 2 or not 0 <= interval[0] <= interval[1]):
            raise ValueError(f"a guidance interval is two timesteps, low-high, not {interval}")
        if not 0.1 <= self.spacing <= 10:
            raise ValueError(f"spacing must be in 0.1 .. 10, not {self.spacing:g}")

    def guidance_at(self, t: int) -> float:
        """The guidance scale at a timestep."""
        if self.guidance_interval is None:
            return self.guidance_scale
        first, last = self.guidance_interval
        return self.guidance_scale if first <= t <= last else 1.0


class Beginning(NamedTuple):
    """Images to start from instead of noise (SDEdit, Meng et al. 2022).

    Args:
        images: ``(B, C, H, W)`` or ``(1, C, H, W)``, in [-1, 1].
        strength: the share of the timesteps that they are noised by, in (0, 1]; the higher,
            the less is left of them.
    """

    images: Tensor
    strength: float


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
    denoiser: Denoiser,
    labels: Tensor,
    seeds: Sequence[int],
    settings: SamplingSettings,
    beginning: Beginning | None = None,
) -> Iterator[Step]:
    """Draw one batch of images, yielding after every step of the sampler.

    Estimates of the clean image are clipped to [-1, 1], where images live.

    Args:
        denoiser: a trained one, on the device to use.
        labels: int64 ``(B,)``; ``network.no_label`` draws without a label.
        seeds: one per image.
        settings: the sampler and what it needs.
        beginning: images to vary; without them, images are drawn from nothing.

    Raises:
        ValueError: if the number of steps does not suit the schedule.
    """
    schedule = denoiser.schedule
    config = denoiser.network.config
    device = schedule.signal.device
    labels = labels.to(device)
    draw_noise = ImageNoise(
        seeds, (config.image_channels, config.image_height, config.image_width), device
    )
    x = draw_noise()
    if beginning is None:
        plan = step_plan(schedule.num_timesteps, settings.steps, settings.spacing)
    else:
        start = max(1, round(beginning.strength * schedule.num_timesteps))
        plan = step_plan(start, min(settings.steps, start), settings.spacing)
        first = torch.full((1,), plan[0][0], device=device)
        x, _ = schedule.add_noise(beginning.images.to(device), first, x)

    def denoise(x: Tensor, t: Tensor) -> Estimate:
        return denoiser(x, t, labels, settings.guidance_at(int(t))).clipped(schedule, x, t)

    match settings.sampler:
        case "ddpm":
            yield from ddpm(denoise, schedule, x, plan, draw_noise)
        case "ddim":
            yield from ddim(denoise, schedule, x, plan)
        case "dpmpp":
            yield from dpmpp(denoise, schedule, x, plan)
        case "dpmpp-sde":
            yield from dpmpp_sde(denoise, schedule, x, plan, draw_noise)
