"""The noise schedule: how an image turns into noise, and what is known of either."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

ScheduleName = Literal["linear", "scaled-linear", "cosine"]

# Nichol & Dhariwal 2021, section 3.2: the offset keeps the first betas from vanishing,
# the ceiling keeps the last one from being a singularity.
COSINE_OFFSET = 0.008
MAX_BETA = 0.999


@dataclass(frozen=True)
class ScheduleConfig:
    """What a schedule is made of; everything in it goes into a checkpoint.

    Args:
        name: ``linear`` (Ho et al. 2020, section 4), ``scaled-linear`` (the same betas
            times ``1000 / num_timesteps``, so that fewer steps end in as much noise) or
            ``cosine`` (Nichol & Dhariwal 2021, eq. 17; the beta range is not used).
        num_timesteps: T.
        beta_start: beta of timestep 0.
        beta_end: beta of timestep T - 1.

    Raises:
        ValueError: if a field is out of range.
    """

    name: ScheduleName = "linear"
    num_timesteps: int = 300
    beta_start: float = 1e-4
    beta_end: float = 0.02

    def __post_init__(self) -> None:
        if self.name not in ("linear", "scaled-linear", "cosine"):
            raise ValueError(f"unknown schedule {self.name!r}")
        if not 1 <= self.num_timesteps <= 100_000:
            raise ValueError(f"num_timesteps must be in 1 .. 100000, not {self.num_timesteps}")
        if not 0 < self.beta_start <= self.beta_end < 1:
            raise ValueError(
                "betas must satisfy 0 < beta_start <= beta_end < 1, "
                f"not {self.beta_start} .. {self.beta_end}"
            )

    def betas(self) -> Tensor:
        """The betas, float64 ``(T,)``."""
        count = self.num_timesteps
        if self.name == "cosine":
            steps = torch.arange(count + 1, dtype=torch.float64) / count
            angles = (steps + COSINE_OFFSET) / (1 + COSINE_OFFSET) * math.pi / 2
            signal = angles.cos().square()
            return (1 - signal[1:] / signal[:-1]).clamp(max=MAX_BETA)
        scale = 1000 / count if self.name == "scaled-linear" else 1.0
        betas = torch.linspace(self.beta_start, self.beta_end, count, dtype=torch.float64)
        return (betas * scale).clamp(max=MAX_BETA)


class NoiseSchedule(nn.Module):
    """A discrete diffusion process ``q(x_t | x_0)`` over timesteps ``0 .. T - 1``.

    With ``alpha_t = 1 - beta_t`` and ``alpha_bar_t = alpha_0 * ... * alpha_t``
    (Ho et al. 2020, eq. 4)::

        x_t = sqrt(alpha_bar_t) * x_0 + sqrt(1 - alpha_bar_t) * epsilon

    Tables are computed in float64 and kept as float32 buffers, which follow the module to
    its device; ``betas`` and ``alphas_cumprod`` stay on the CPU in float64.  Wherever a
    method takes ``t``, it is an integer tensor ``(B,)`` on the device of the images, and may
    differ from image to image.

    Args:
        betas: float64 ``(T,)``, each in (0, 1).

    Raises:
        ValueError: if the betas are no vector of numbers in (0, 1).
    """

    signal: Tensor
    noise: Tensor

    def __init__(self, betas: Tensor) -> None:
        super().__init__()
        if betas.ndim != 1 or len(betas) == 0 or not ((betas > 0) & (betas < 1)).all():
            raise ValueError("betas must be a non-empty vector of numbers strictly between 0 and 1")
        self.betas = betas.double().cpu()
        self.alphas_cumprod = (1 - self.betas).cumprod(0)
        self.register_buffer("signal", self.alphas_cumprod.sqrt().float(), persistent=False)
        self.register_buffer("noise", (1 - self.alphas_cumprod).sqrt().float(), persistent=False)

    @classmethod
    def from_config(cls, config: ScheduleConfig | None = None) -> "NoiseSchedule":
        """The schedule that ``config`` describes; without one, linear with T = 300."""
        return cls((config or ScheduleConfig()).betas())

    @property
    def num_timesteps(self) -> int:
        """T."""
        return len(self.betas)

    @property
    def log_snr(self) -> Tensor:
        """``log(alpha_bar_t / (1 - alpha_bar_t))``, float64 ``(T,)`` (Kingma et al. 2021)."""
        return self.alphas_cumprod.logit()

    def prior_mismatch(self, mean_square: float) -> float:
        """KL divergence from ``q(x_{T-1} | x_0)`` to the N(0, 1) that sampling starts from.

        Args:
            mean_square: the mean of ``x_0 ** 2`` over pixels and images.

        Returns:
            Nats per pixel, averaged over images (Ho et al. 2020, eq. 5, first term).
        """
        alpha_bar = float(self.alphas_cumprod[-1])
        return 0.5 * (alpha_bar * mean_square - alpha_bar - math.log1p(-alpha_bar))

    def amplitudes(self, t: int) -> tuple[float, float]:
        """``sqrt(alpha_bar_t)`` and ``sqrt(1 - alpha_bar_t)``; ``t = -1`` is clean: 1 and 0."""
        alpha_bar = float(self.alphas_cumprod[t]) if t >= 0 else 1.0
        return math.sqrt(alpha_bar), math.sqrt(1 - alpha_bar)

    def add_noise(
        self, x0: Tensor, t: Tensor, epsilon: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Draw ``x_t`` given ``x_0`` (Ho et al. 2020, eq. 4).

        Args:
            x0: images ``(B, C, H, W)``.
            t: timesteps ``(B,)``.
            epsilon: standard normal noise like ``x0``; drawn if absent.

        Returns:
            The noisy images and the noise in them, both like ``x0``.
        """
        if epsilon is None:
            epsilon = torch.randn_like(x0)
        return _per_image(self.signal, t) * x0 + _per_image(self.noise, t) * epsilon, epsilon

    def x0_from_epsilon(self, x_t: Tensor, epsilon: Tensor, t: Tensor) -> Tensor:
        """The image that, with noise ``epsilon``, makes ``x_t``."""
        return (x_t - _per_image(self.noise, t) * epsilon) / _per_image(self.signal, t)

    def epsilon_from_x0(self, x_t: Tensor, x0: Tensor, t: Tensor) -> Tensor:
        """The noise that, with image ``x0``, makes ``x_t``."""
        return (x_t - _per_image(self.signal, t) * x0) / _per_image(self.noise, t)

    def velocity(self, x0: Tensor, epsilon: Tensor, t: Tensor) -> Tensor:
        """``v = sqrt(alpha_bar) * epsilon - sqrt(1 - alpha_bar) * x_0``.

        Source: Salimans & Ho 2022, section 4.
        """
        return _per_image(self.signal, t) * epsilon - _per_image(self.noise, t) * x0

    def x0_from_velocity(self, x_t: Tensor, velocity: Tensor, t: Tensor) -> Tensor:
        """The image behind ``x_t``, given ``v``."""
        return _per_image(self.signal, t) * x_t - _per_image(self.noise, t) * velocity

    def epsilon_from_velocity(self, x_t: Tensor, velocity: Tensor, t: Tensor) -> Tensor:
        """The noise in ``x_t``, given ``v``."""
        return _per_image(self.noise, t) * x_t + _per_image(self.signal, t) * velocity


def _per_image(table: Tensor, t: Tensor) -> Tensor:
    return table[t].view(-1, 1, 1, 1)


def step_pairs(timesteps: Iterable[int]) -> list[tuple[int, int]]:
    """Pair each timestep with the next one of a decreasing plan; the last leads to -1, clean."""
    steps = list(timesteps)
    return list(zip(steps, [*steps[1:], -1], strict=True))


def step_plan(num_timesteps: int, num_steps: int, spacing: float = 1.0) -> list[tuple[int, int]]:
    """Visit ``num_steps`` of ``num_timesteps`` timesteps, from T - 1 down.

    Step ``i`` starts ``floor(T * (i / N) ** spacing)`` below the first, or as close to that as
    leaves a timestep of its own to every step: N = T visits them all.

    Args:
        num_timesteps: T.
        num_steps: N.
        spacing: 1 is even; more makes steps shorter where there is more noise.

    Returns:
        ``num_steps`` pairs ``(t, s)``: denoise from ``t`` to ``s``, ``s = -1`` meaning clean.

    Raises:
        ValueError: unless ``1 <= num_steps <= num_timesteps``.
    """
    if not 1 <= num_steps <= num_timesteps:
        raise ValueError(f"steps must be in 1 .. {num_timesteps}, not {num_steps}")

    def below_first(i: int) -> int:
        # Far less than 1 / N is added, so that no rounding loses a timestep.
        wanted = math.floor(num_timesteps * (i / num_steps) ** spacing + 1e-9)
        return min(max(wanted, i), num_timesteps - num_steps + i)

    return step_pairs(num_timesteps - 1 - below_first(i) for i in range(num_steps))
