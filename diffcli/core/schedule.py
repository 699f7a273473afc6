"""The noise schedule: how much of the image and how much noise there is at each timestep."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import overload

import torch
from torch import Tensor, nn

from diffcli.core.parameters import ScheduleConfig, ScheduleName

# Nichol & Dhariwal 2021, section 3.2: the offset keeps the first betas from vanishing, the
# maximum keeps the last one below 1, where the process would be singular.
COSINE_OFFSET = 0.008
MAX_BETA = 0.999


def _linear(config: ScheduleConfig) -> Tensor:
    return torch.linspace(
        config.beta_start, config.beta_end, config.num_timesteps, dtype=torch.float64
    )


def _linear_rescaled(config: ScheduleConfig) -> Tensor:
    return _linear(config) * (1000 / config.num_timesteps)


def _cosine(config: ScheduleConfig) -> Tensor:
    time = torch.arange(config.num_timesteps + 1, dtype=torch.float64) / config.num_timesteps
    angles = (time + COSINE_OFFSET) / (1 + COSINE_OFFSET) * math.pi / 2
    return _betas_of(angles.cos().square())


def _rectified_flow(config: ScheduleConfig) -> Tensor:
    """Straight paths ``(1 - u) * x_0 + u * epsilon``, scaled to ``alpha^2 + sigma^2 = 1``."""
    u = torch.arange(config.num_timesteps + 1, dtype=torch.float64) / config.num_timesteps
    return _betas_of((1 - u).square() / ((1 - u).square() + u.square()))


def _betas_of(alphas_cumprod: Tensor) -> Tensor:
    """The betas, ``(T,)``, of a process whose alphas_cumprod, ``(T + 1,)``, begin at clean."""
    return 1 - alphas_cumprod[1:] / alphas_cumprod[:-1]


SCHEDULES: dict[ScheduleName, Callable[[ScheduleConfig], Tensor]] = {
    "linear": _linear,
    "linear-rescaled": _linear_rescaled,
    "cosine": _cosine,
    "rectified-flow": _rectified_flow,
}
"""Each makes betas, float64 ``(T,)``; what exceeds ``MAX_BETA`` is clamped."""


class NoiseSchedule(nn.Module):
    """A discrete diffusion process ``q(x_t | x_0)`` over timesteps ``0 .. T - 1``.

    With ``alphas_cumprod_t = (1 - beta_0) * ... * (1 - beta_t)`` (Ho et al. 2020, eq. 4)::

        x_t     = alpha_t * x_0 + sigma_t * epsilon
        alpha_t = sqrt(alphas_cumprod_t)
        sigma_t = sqrt(1 - alphas_cumprod_t),    alpha_t^2 + sigma_t^2 = 1

    This counts from 0: ``t`` here is ``t + 1`` of Ho et al. 2020, ``-1`` is their 0, the clean
    image, and ``alpha_t`` is their ``sqrt(alpha-bar)``, not their ``alpha = 1 - beta``.

    Tables are computed in float64.  ``alpha`` and ``sigma`` are float32 buffers ``(T,)``, which
    follow the module to its device; ``betas`` and ``alphas_cumprod`` stay on the CPU in float64.

    Args:
        betas: ``(T,)``, each between 0 and 1, and large enough that ``1 - beta`` is less than 1.

    Raises:
        ValueError: if the betas are no such vector.
    """

    alpha: Tensor
    sigma: Tensor

    def __init__(self, betas: Tensor) -> None:
        super().__init__()
        self.betas = betas.double().cpu()
        # A timestep without noise would be divided by.
        good = (1 - self.betas < 1) & (self.betas < 1)
        if betas.ndim != 1 or len(betas) == 0 or not good.all():
            raise ValueError("betas must be a vector of numbers between 0 and 1, and not empty")
        # Tens of thousands of timesteps can leave less than float64 holds.  What stands for it
        # is above 0, so that it has a logarithm, and falls, so that no step has length 0.
        least = torch.linspace(2e-300, 1e-300, len(betas), dtype=torch.float64)
        self.alphas_cumprod = (1 - self.betas).cumprod(0).maximum(least)
        alpha, sigma = self.alphas_cumprod.sqrt(), (1 - self.alphas_cumprod).sqrt()
        self.register_buffer("alpha", alpha.float(), persistent=False)
        self.register_buffer("sigma", sigma.float(), persistent=False)
        # As Python numbers, which can be read without waiting for a device.
        self._scalars = list(zip(alpha.tolist(), sigma.tolist(), strict=True))

    @classmethod
    def from_config(cls, config: ScheduleConfig) -> "NoiseSchedule":
        """The schedule that ``config`` describes."""
        return cls(SCHEDULES[config.name](config).clamp(max=MAX_BETA))

    @property
    def num_timesteps(self) -> int:
        """T."""
        return len(self.betas)

    @property
    def device(self) -> torch.device:
        """Where the buffers are."""
        return self.alpha.device

    @property
    def log_snr(self) -> Tensor:
        """``log(alpha_t^2 / sigma_t^2)``, float64 ``(T,)`` (Kingma et al. 2021)."""
        return self.alphas_cumprod.logit()

    @overload
    def alpha_sigma(self, t: int) -> tuple[float, float]: ...

    @overload
    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]: ...

    def alpha_sigma(self, t: int | Tensor) -> tuple[float, float] | tuple[Tensor, Tensor]:
        """``alpha_t`` and ``sigma_t``.

        Args:
            t: one timestep, -1 meaning clean; or timesteps ``(B,)`` in ``0 .. T - 1`` on the
                buffers' device.

        Returns:
            Two floats, or two float32 tensors ``(B, 1, 1, 1)``.

        Raises:
            ValueError: if there is no such timestep.
        """
        if isinstance(t, int):
            if t == -1:
                return 1.0, 0.0
            if not 0 <= t < self.num_timesteps:
                raise ValueError(f"timesteps are -1 .. {self.num_timesteps - 1}, not {t}")
            return self._scalars[t]
        return self.alpha[t].view(-1, 1, 1, 1), self.sigma[t].view(-1, 1, 1, 1)

    def add_noise(self, x0: Tensor, t: int | Tensor, epsilon: Tensor) -> Tensor:
        """``x_t`` given ``x_0`` and the noise in it (Ho et al. 2020, eq. 4).

        Args:
            x0: images ``(B, C, H, W)``.
            t: one timestep, or one per image ``(B,)``.
            epsilon: standard normal noise, of the shape of ``x0``.
        """
        alpha, sigma = self.alpha_sigma(t)
        return alpha * x0 + sigma * epsilon

    def prior_kl(self, mean_square: float) -> float:
        """KL divergence of ``q(x_{T-1} | x_0)`` from the N(0, 1) that sampling starts from.

        Args:
            mean_square: the mean of ``x_0 ** 2`` over pixels and images.

        Returns:
            Nats per pixel, averaged over images (Ho et al. 2020, eq. 5, first term).
        """
        alphas_cumprod = float(self.alphas_cumprod[-1])
        return 0.5 * (alphas_cumprod * mean_square - alphas_cumprod - math.log1p(-alphas_cumprod))


StepPlan = Sequence[tuple[int, int]]
"""Pairs ``(t, s)``: denoise from ``t`` to ``s``, -1 meaning clean."""


def step_pairs(timesteps: Iterable[int]) -> StepPlan:
    """Pairs ``(t, s)`` of consecutive timesteps; the last one leads to -1, which means clean."""
    steps = list(timesteps)
    return list(zip(steps, [*steps[1:], -1], strict=True))


def step_plan(num_timesteps: int, num_steps: int, spacing: float = 1.0) -> StepPlan:
    """Visit ``num_steps`` of ``num_timesteps`` timesteps, from T - 1 down.

    Step ``i`` starts ``floor(T * (i / N) ** spacing)`` below the first one, or as close to that
    as leaves a timestep of its own to every step: N = T visits all.

    Args:
        num_timesteps: T.
        num_steps: N.
        spacing: 1 is even; above 1, steps are shorter at high noise levels.

    Returns:
        ``num_steps`` pairs.

    Raises:
        ValueError: unless ``1 <= num_steps <= num_timesteps``.
    """
    if not 1 <= num_steps <= num_timesteps:
        raise ValueError(f"steps must be in 1 .. {num_timesteps}, not {num_steps}")

    def below_first(i: int) -> int:
        # The addend is far below 1 / N, so that rounding loses no timestep.
        exact = math.floor(num_timesteps * (i / num_steps) ** spacing + 1e-9)
        return min(max(exact, i), num_timesteps - num_steps + i)

    return step_pairs(num_timesteps - 1 - below_first(i) for i in range(num_steps))
