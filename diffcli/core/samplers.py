"""Samplers: from noise to images along a plan of timesteps.

Each is a generator over the pairs ``(t, s)`` of a plan (see ``schedule.step_plan``) that yields
after every step, so that a caller can show the intermediate images as well as the last ones.
"""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

from torch import Tensor

from diffcli.core.denoiser import Estimate
from diffcli.core.parameters import SamplerName, SamplingSettings
from diffcli.core.schedule import NoiseSchedule, StepPlan

Denoise = Callable[[Tensor, int], Estimate]
"""``(x_t, t)`` to an estimate, with labels and guidance already given."""

DrawNoise = Callable[[], Tensor]
"""Returns fresh standard normal noise of the shape of the images."""


class Step(NamedTuple):
    """One step of a sampler: from timestep ``t`` to ``s``, -1 meaning clean."""

    t: int
    s: int
    x: Tensor
    """The images at ``s``, ``(B, C, H, W)``."""
    x0: Tensor
    """The denoiser's estimate of the clean images at ``t``, of the same shape."""


def ddpm(
    denoise: Denoise,
    schedule: NoiseSchedule,
    x: Tensor,
    plan: StepPlan,
    draw_noise: DrawNoise,
    settings: SamplingSettings,
) -> Iterator[Step]:
    """Ancestral sampling (Ho et al. 2020, algorithm 2), of all timesteps or of some.

    A process that visits only some timesteps is again such a process, of fewer and larger
    steps (Nichol & Dhariwal 2021, section 4).  From ``t`` to ``s``, with
    ``beta = 1 - alphas_cumprod_t / alphas_cumprod_s`` (Ho et al. 2020, eq. 7)::

        mean = (alpha_s * beta * x_0 + sqrt(1 - beta) * sigma_s^2 * x_t) / sigma_t^2

    The variance is ``beta`` or ``beta_tilde = beta * (sigma_s / sigma_t)^2``, the two choices
    of section 3.2.  They differ little if there are many steps; with few, ``beta`` is too
    large.  The last step adds no noise.

    Args:
        denoise: the denoiser.
        schedule: the process that it was trained on.
        x: noise ``(B, C, H, W)`` at the first timestep of the plan.
        plan: the steps.
        draw_noise: source of noise.
        settings: the variance of the noise that a step adds; the rest is in the other arguments.
    """
    for t, s in plan:
        x0 = denoise(x, t).x0
        (alpha_t, sigma_t), (alpha_s, sigma_s) = schedule.alpha_sigma(t), schedule.alpha_sigma(s)
        beta = 1 - (alpha_t / alpha_s) ** 2
        x = (alpha_s * beta * x0 + math.sqrt(1 - beta) * sigma_s**2 * x) / sigma_t**2
        if s >= 0:
            std = math.sqrt(beta) * (1 if settings.variance == "beta" else sigma_s / sigma_t)
            x = x + std * draw_noise()
        yield Step(t, s, x, x0)


def ddim(
    denoise: Denoise, schedule: NoiseSchedule, x: Tensor, plan: StepPlan, *_unused: object
) -> Iterator[Step]:
    """Deterministic sampling (Song et al. 2021, eq. 12 with sigma = 0).

    ``x_s = alpha_s * x_0 + sigma_s * epsilon``
    """
    for t, s in plan:
        x0, epsilon = denoise(x, t)
        alpha_s, sigma_s = schedule.alpha_sigma(s)
        x = alpha_s * x0 + sigma_s * epsilon
        yield Step(t, s, x, x0)


def dpmpp(
    denoise: Denoise, schedule: NoiseSchedule, x: Tensor, plan: StepPlan, *_unused: object
) -> Iterator[Step]:
    """DPM-Solver++(2M) (Lu et al. 2022, algorithm 2): second order, one evaluation per step.

    With ``lambda = log(alpha / sigma)`` and ``h = lambda_s - lambda_t``::

        x_s = sigma_s / sigma_t * x_t - alpha_s * (exp(-h) - 1) * D

    where D is the estimate of ``x_0``, extrapolated from the previous step's.
    """
    extrapolate = _Extrapolation()
    for t, s in plan:
        x0 = denoise(x, t).x0
        (_, sigma_t), (alpha_s, sigma_s) = schedule.alpha_sigma(t), schedule.alpha_sigma(s)
        h = _step_size(schedule, t, s)
        x = sigma_s / sigma_t * x - alpha_s * math.expm1(-h) * extrapolate(x0, h)
        yield Step(t, s, x, x0)


def dpmpp_sde(
    denoise: Denoise,
    schedule: NoiseSchedule,
    x: Tensor,
    plan: StepPlan,
    draw_noise: DrawNoise,
    settings: SamplingSettings,
) -> Iterator[Step]:
    """SDE-DPM-Solver++(2M) (Lu et al. 2022): ``dpmpp`` that adds noise in every step.

    The added noise reduces the errors of earlier steps.  With ``h`` and D as in ``dpmpp`` and
    standard normal z::

        x_s = sigma_s / sigma_t * exp(-eta * h) * x_t
              - alpha_s * (exp(-(1 + eta) * h) - 1) * D
              + sigma_s * sqrt(1 - exp(-2 * eta * h)) * z

    All these processes have the same marginal distributions (Karras et al. 2022, eq. 6; eta
    multiplies the variance of the noise).  1 is that of Lu et al. 2022, and with ``x_0`` in
    place of D it is ``ddpm`` with the smaller variance; 0 is ``dpmpp``.  The arguments are those
    of ``ddpm``; of the settings, eta is used.
    """
    eta, extrapolate = settings.eta, _Extrapolation()
    for t, s in plan:
        x0 = denoise(x, t).x0
        (_, sigma_t), (alpha_s, sigma_s) = schedule.alpha_sigma(t), schedule.alpha_sigma(s)
        h = _step_size(schedule, t, s)
        decay = math.exp(-eta * h) if eta else 1.0  # h may be infinite
        x = sigma_s / sigma_t * decay * x
        x = x - alpha_s * math.expm1(-(1 + eta) * h) * extrapolate(x0, h)
        if s >= 0:
            x = x + sigma_s * math.sqrt(-math.expm1(-2 * eta * h)) * draw_noise()
        yield Step(t, s, x, x0)


def consistency(
    denoise: Denoise,
    schedule: NoiseSchedule,
    x: Tensor,
    plan: StepPlan,
    draw_noise: DrawNoise,
    *_unused: object,
) -> Iterator[Step]:
    """Sampling from a model that is made for few steps (Song et al. 2023, algorithm 1).

    Such a model's estimate of ``x_0`` is a finished image.  Each step noises it afresh::

        x_s = alpha_s * x_0 + sigma_s * z
    """
    for t, s in plan:
        x0 = denoise(x, t).x0
        alpha_s, sigma_s = schedule.alpha_sigma(s)
        x = alpha_s * x0
        if s >= 0:
            x = x + sigma_s * draw_noise()
        yield Step(t, s, x, x0)


class Sampler(NamedTuple):
    """A sampler and what is said of it."""

    function: Callable[
        [Denoise, NoiseSchedule, Tensor, StepPlan, DrawNoise, SamplingSettings], Iterator[Step]
    ]
    title: str
    """As viewers of generated pictures name it."""
    adds_noise: bool
    """Whether its steps add noise; the others are deterministic."""


SAMPLERS: dict[SamplerName, Sampler] = {
    "ddpm": Sampler(ddpm, "DDPM", adds_noise=True),
    "ddim": Sampler(ddim, "DDIM", adds_noise=False),
    "dpmpp": Sampler(dpmpp, "DPM++ 2M", adds_noise=False),
    "dpmpp-sde": Sampler(dpmpp_sde, "DPM++ 2M SDE", adds_noise=True),
    "consistency": Sampler(consistency, "LCM", adds_noise=True),
}


def _step_size(schedule: NoiseSchedule, t: int, s: int) -> float:
    """The increase of ``log(alpha / sigma)`` from ``t`` to ``s``; infinite if s is clean."""
    (alpha_t, sigma_t), (alpha_s, sigma_s) = schedule.alpha_sigma(t), schedule.alpha_sigma(s)
    return math.log(alpha_s * sigma_t / (alpha_t * sigma_s)) if sigma_s else math.inf


class _Extrapolation:
    """Extrapolates the estimate of ``x_0`` to the middle of a step, from the last two steps.

    The first step has no previous one, and a step to clean has no middle: both use the
    estimate as it is, and are of first order.
    """

    def __init__(self) -> None:
        self._previous: tuple[Tensor, float] | None = None

    def __call__(self, x0: Tensor, h: float) -> Tensor:
        result = x0
        if self._previous is not None and math.isfinite(h):
            x0_before, h_before = self._previous
            result = x0 + (x0 - x0_before) * (h / (2 * h_before))
        self._previous = x0, h
        return result
