"""Gaussian data, of which the best denoiser is known exactly."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from diffcli.core.denoiser import Estimate
from diffcli.core.parameters import ScheduleConfig
from diffcli.core.samplers import Step
from diffcli.core.schedule import NoiseSchedule

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
    mean: float = 0.3
    std: float = 0.5

    def gain(self, t: int) -> float:
        """How much the posterior mean of ``x_0`` moves with ``x_t``."""
        signal, noise = self.schedule.alpha_sigma(t)
        return signal * self.std**2 / (signal**2 * self.std**2 + noise**2)

    def x0(self, x: Tensor, t: int) -> Tensor:
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
