"""Gaussian data, of which the best denoiser is known exactly."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

import torch
from torch import Tensor, nn

from diffcli.core.denoiser import Denoiser, Estimate
from diffcli.core.parameters import ScheduleConfig
from diffcli.core.samplers import Step
from diffcli.core.schedule import NoiseSchedule
from diffcli.core.unet import ConditionalUNet

SCHEDULES = [
    ScheduleConfig("rectified-flow", 300),
    ScheduleConfig(),
    ScheduleConfig("linear-rescaled", 300),
    ScheduleConfig("cosine", 300),
]
STEP_COUNTS = [1, 2, 3, 4, 5, 7, 10, 16, 25, 50, 99, 150, 299, 300]
START = torch.tensor([-2.0, -0.5, 0.0, 1.0, 3.0], dtype=torch.float64).view(-1, 1, 1, 1)


def short(value: object) -> str:
    return f"{value.name}-{value.num_timesteps}" if isinstance(value, ScheduleConfig) else ""


def end(steps: Iterator[Step]) -> Tensor:
    *_, last = steps
    return last.x


@dataclass(frozen=True)
class Gaussian:
    """Data of which every pixel is N(mean, std^2), and what follows from that."""

    schedule: NoiseSchedule
    mean: Any = 0.3
    """A number, or a tensor that fits to the images."""
    std: float = 0.5

    def gain(self, t: int | Tensor) -> Any:
        """How much the posterior mean of ``x_0`` moves with ``x_t``: numbers like ``t``."""
        signal, noise = self.schedule.alpha_sigma(t)
        return signal * self.std**2 / (signal**2 * self.std**2 + noise**2)

    def x0(self, x: Tensor, t: int | Tensor) -> Tensor:
        """The posterior mean: a Gaussian prior times a Gaussian likelihood."""
        signal, _ = self.schedule.alpha_sigma(t)
        return self.mean + self.gain(t) * (x - signal * self.mean)

    def __call__(self, x: Tensor, t: int) -> Estimate:
        signal, noise = self.schedule.alpha_sigma(t)
        x0 = self.x0(x, t)
        return Estimate(x0, (x - signal * x0) / noise)

    def flow(self, x: Tensor, t: int, s: int) -> Tensor:
        """The exact solution of the probability flow from ``t`` to ``s``.

        It keeps every point at its place in units of the marginal's standard deviation.
        """
        (signal_t, noise_t), (signal_s, noise_s) = map(self.schedule.alpha_sigma, (t, s))
        before = math.hypot(signal_t * self.std, noise_t)
        after = math.hypot(signal_s * self.std, noise_s)
        return signal_s * self.mean + (x - signal_t * self.mean) * (after / before)


class Normal(nn.Module):
    """Predicts the image, in place of a network, if images are normal around one of each label.

    Args:
        schedule: of the noise.
        means: ``(K + 1, C, H, W)`` or what broadcasts to it, of K labels and of none.
        std: of every pixel.
    """

    def __init__(self, schedule: NoiseSchedule, means: Tensor, std: float) -> None:
        super().__init__()
        self.schedule, self.means, self.std = schedule, means, std
        self.no_label = len(means) - 1
        self.config = SimpleNamespace(num_classes=self.no_label, image_shape=means.shape[1:])

    def forward(
        self, x_t: Tensor, t: Tensor, labels: Tensor, augmentation: Tensor | None = None
    ) -> Tensor:
        return Gaussian(self.schedule, self.means[labels], self.std).x0(x_t, t)


def denoiser_with(network: nn.Module, schedule: NoiseSchedule) -> Denoiser:
    """A denoiser whose network predicts the image, as ``Normal`` does."""
    return Denoiser(cast("ConditionalUNet", network), schedule, "x0")
