"""Samplers: from noise to images along a plan of timesteps.

Each is a generator over the pairs ``(t, s)`` of a plan (see ``schedule.step_plan``) that
yields after every step, so that a caller can show the way as well as the end of it.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from diffcli.core.denoiser import Estimate
from diffcli.core.schedule import NoiseSchedule

SamplerName = Literal["ddpm", "ddim", "dpmpp", "dpmpp-sde"]
Variance = Literal["beta", "beta-tilde"]

DenoiserFunction = Callable[[Tensor, Tensor], Estimate]
"""``(x_t, t)`` to an estimate; ``t`` is ``(1,)``, the same for all images."""

Plan = Sequence[tuple[int, int]]


class Step(NamedTuple):
    """One step of a sampler: from timestep ``t`` to ``s``, -1 meaning clean."""

    t: int
    s: int
    x: Tensor
    """The images at ``s``, ``(B, C, H, W)``."""
    x0: Tensor
    """The estimate of the clean images that the step was made with, like ``x``."""


def ddpm(
    denoise: DenoiserFunction,
    schedule: NoiseSchedule,
    x: Tensor,
    plan: Plan,
    draw_noise: Callable[[], Tensor],
    variance: Variance = "beta-tilde",
) -> Iterator[Step]:
    """Ancestral sampling (Ho et al. 2020, algorithm 2), of all timesteps or of some.

    The process that visits some of the timesteps only is again such a process, of fewer and
    larger steps (Nichol & Dhariwal 2021, section 4).  From ``t`` to ``s``, with
    ``alpha = alpha_bar_t / alpha_bar_s`` and ``beta = 1 - alpha`` (Ho et al. 2020, eq. 7)::

        mean = (signal_s * beta * x_0 + sqrt(alpha) * noise_s ** 2 * x_t) / noise_t ** 2

    and the variance is ``beta``, or ``beta_tilde = beta * (noise_s / noise_t) ** 2``: the two
    choices of section 3.2.  They are alike where steps are many; where they are few, ``beta``
    is too much.  No noise is added on the last step.

    Args:
        denoise: the denoiser, label and guidance already given.
        schedule: the process that it was trained on.
        x: noise ``(B, C, H, W)`` at the first timestep of the plan.
        plan: pairs ``(t, s)``, -1 meaning clean.
        draw_noise: returns fresh standard normal noise like ``x``.
        variance: that of a step.
    """
    for t, s in plan:
        x0 = denoise(x, torch.full((1,), t, device=x.device)).x0
        signal_t, noise_t = schedule.amplitudes(t)
        signal_s, noise_s = schedule.amplitudes(s)
        alpha = (signal_t / signal_s) ** 2
        beta = 1 - alpha
        x = (signal_s * beta * x0 + math.sqrt(alpha) * noise_s**2 * x) / noise_t**2
        if s >= 0:
            shrink = 1 if variance == "beta" else noise_s / noise_t
            x = x + math.sqrt(beta) * shrink * draw_noise()
        yield Step(t, s, x, x0)


def ddim(
    denoise: DenoiserFunction, schedule: NoiseSchedule, x: Tensor, plan: Plan
) -> Iterator[Step]:
    """Deterministic sampling (Song et al. 2021, eq. 12 with sigma = 0).

    ``x_s = sqrt(alpha_bar_s) * x_0 + sqrt(1 - alpha_bar_s) * epsilon``
    """
    for t, s in plan:
        estimate = denoise(x, torch.full((1,), t, device=x.device))
        signal, noise = schedule.amplitudes(s)
        x = signal * estimate.x0 + noise * estimate.epsilon
        yield Step(t, s, x, estimate.x0)


def dpmpp(
    denoise: DenoiserFunction, schedule: NoiseSchedule, x: Tensor, plan: Plan
) -> Iterator[Step]:
    """DPM-Solver++(2M) (Lu et al. 2022, algorithm 2): second order, one evaluation a step.

    With ``lambda = log(signal / noise)`` and ``h = lambda_s - lambda_t``::

        x_s = noise_s / noise_t * x_t - signal_s * (exp(-h) - 1) * D

    where D is the estimate of ``x_0``, extrapolated from the previous step's.
    """
    extrapolate = _Extrapolation()
    for t, s in plan:
        x0 = denoise(x, torch.full((1,), t, device=x.device)).x0
        (_, noise_t), (signal_s, noise_s) = schedule.amplitudes(t), schedule.amplitudes(s)
        h = _step_size(schedule, t, s)
        x = noise_s / noise_t * x - signal_s * math.expm1(-h) * extrapolate(x0, h)
        yield Step(t, s, x, x0)


def dpmpp_sde(
    denoise: DenoiserFunction,
    schedule: NoiseSchedule,
    x: Tensor,
    plan: Plan,
    draw_noise: Callable[[], Tensor],
) -> Iterator[Step]:
    """SDE-DPM-Solver++(2M) (Lu et al. 2022): ``dpmpp`` that adds noise on the way.

    What earlier steps got wrong drowns in fresh noise and is decided anew.  With ``h`` and D
    as in ``dpmpp``, and standard normal z::

        x_s = noise_s / noise_t * exp(-h) * x_t - signal_s * (exp(-2h) - 1) * D
              + noise_s * sqrt(1 - exp(-2h)) * z

    With ``x_0`` in place of D this is ``ddpm``.

    Args:
        denoise: the denoiser, label and guidance already given.
        schedule: the process that it was trained on.
        x: noise ``(B, C, H, W)`` at the first timestep of the plan.
        plan: pairs ``(t, s)``.
        draw_noise: returns fresh standard normal noise like ``x``.
    """
    extrapolate = _Extrapolation()
    for t, s in plan:
        x0 = denoise(x, torch.full((1,), t, device=x.device)).x0
        (_, noise_t), (signal_s, noise_s) = schedule.amplitudes(t), schedule.amplitudes(s)
        h = _step_size(schedule, t, s)
        kept, fresh = math.exp(-h), -math.expm1(-2 * h)
        x = noise_s / noise_t * kept * x + signal_s * fresh * extrapolate(x0, h)
        if s >= 0:
            x = x + noise_s * math.sqrt(fresh) * draw_noise()
        yield Step(t, s, x, x0)


def _step_size(schedule: NoiseSchedule, t: int, s: int) -> float:
    """By how much ``log(signal / noise)`` grows from ``t`` to ``s``; infinite if s is clean."""
    (signal_t, noise_t), (signal_s, noise_s) = schedule.amplitudes(t), schedule.amplitudes(s)
    return math.log(signal_s * noise_t / (signal_t * noise_s)) if noise_s else math.inf


class _Extrapolation:
    """The estimate of ``x_0`` at the middle of a step, from those at its and the last one's start.

    The first step has no previous one, and a step to clean has no middle: both take the
    estimate as it is, and are of first order.
    """

    def __init__(self) -> None:
        self._previous: tuple[Tensor, float] | None = None

    def __call__(self, x0: Tensor, h: float) -> Tensor:
        ahead = x0
        if self._previous is not None and math.isfinite(h):
            x0_before, h_before = self._previous
            ahead = x0 + (x0 - x0_before) * (h / (2 * h_before))
        self._previous = x0, h
        return ahead
