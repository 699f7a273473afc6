"""Solvers and placements of steps that were tried and are kept for the comparison."""

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from diffcli.core.samplers import Denoise, Step
from diffcli.core.schedule import NoiseSchedule, StepPlan, step_pairs

# Half the log-SNR at which ``log_snr_plan`` begins and ends.  Beyond, an image is almost pure
# noise or almost clean, and steps there would be missing where shapes are decided.
LOG_SNR_RANGE = (-4.0, 4.0)

# Adams-Bashforth coefficients of orders 1 to 4, for even steps, the newest first.
_ADAMS_BASHFORTH = (
    (1.0,),
    (3 / 2, -1 / 2),
    (23 / 12, -16 / 12, 5 / 12),
    (55 / 24, -59 / 24, 37 / 24, -9 / 24),
)


def ipndm(order: int) -> Callable[..., Iterator[Step]]:
    """Improved pseudo linear multistep (Liu et al. 2022; Zhang & Chen 2023, iPNDM).

    A DDIM step with the noise extrapolated from up to ``order`` evaluations; the first
    steps, which lack predecessors, are of lower order.
    """

    def sample(
        denoise: Denoise, schedule: NoiseSchedule, x: Tensor, plan: StepPlan, *_unused: object
    ) -> Iterator[Step]:
        history: list[Tensor] = []
        for t, s in plan:
            estimate = denoise(x, t)
            history = [estimate.epsilon, *history][:order]
            if s == -1:
                x = estimate.x0
            else:
                weights = _ADAMS_BASHFORTH[len(history) - 1]
                epsilon = sum(
                    (w * e for w, e in zip(weights, history, strict=True)), torch.zeros_like(x)
                )
                alpha_t, sigma_t = schedule.alpha_sigma(t)
                alpha_s, sigma_s = schedule.alpha_sigma(s)
                x = alpha_s / alpha_t * (x - sigma_t * epsilon) + sigma_s * epsilon
            yield Step(t, s, x, estimate.x0)

    return sample


def unipc(
    denoise: Denoise, schedule: NoiseSchedule, x: Tensor, plan: StepPlan, *_unused: object
) -> Iterator[Step]:
    """UniPC-2 with B2(h), predicting ``x_0`` (Zhao et al. 2023, algorithms 5 to 8).

    Each evaluation first corrects the step that led to it, then predicts the next one.
    """

    def half_log_snr(t: int) -> float:
        alpha, sigma = schedule.alpha_sigma(t)
        return math.log(alpha / sigma)

    history: list[tuple[int, Tensor, Tensor]] = []
    for t, s in plan:
        x0 = denoise(x, t).x0
        if history:
            p, x0_p, x_p = history[-1]
            h = half_log_snr(t) - half_log_snr(p)
            phi = math.expm1(-h)
            alpha, sigma = schedule.alpha_sigma(t)
            if len(history) > 1:
                q, x0_q, _ = history[-2]
                r = (half_log_snr(q) - half_log_snr(p)) / h
                b1 = (phi / -h - 1) / phi
                b2 = ((phi / -h - 1) / -h - 0.5) * 2 / phi
                rho, rho_new = (b1 - b2) / (1 - r), (b2 - r * b1) / (1 - r)
                change = rho / r * (x0_q - x0_p) + rho_new * (x0 - x0_p)
            else:
                change = 0.5 * (x0 - x0_p)
            x = sigma / schedule.alpha_sigma(p)[1] * x_p - alpha * phi * (x0_p + change)
        history = [*history, (t, x0, x)][-2:]
        if s == -1:
            x = x0
        else:
            h = half_log_snr(s) - half_log_snr(t)
            target = x0
            if len(history) > 1:
                q, x0_q, _ = history[-2]
                target = x0 + 0.5 * h / (half_log_snr(q) - half_log_snr(t)) * (x0_q - x0)
            alpha, sigma = schedule.alpha_sigma(s)
            x = sigma / schedule.alpha_sigma(t)[1] * x - alpha * math.expm1(-h) * target
        yield Step(t, s, x, x0)


def log_snr_plan(schedule: NoiseSchedule, num_steps: int) -> StepPlan:
    """Like ``step_plan``, but even in ``log(alpha / sigma)`` (Lu et al. 2022, section 6)."""
    half_log_snr = schedule.log_snr / 2
    low, high = LOG_SNR_RANGE
    first, last = max(low, float(half_log_snr[-1])), min(high, float(half_log_snr[0]))
    # The last target itself is left out: the step from the one before it leads to clean.
    targets = torch.linspace(first, last, num_steps + 1, dtype=torch.float64)[:-1]
    nearest = (half_log_snr[:, None] - targets).abs().argmin(dim=0).tolist()
    timesteps: list[int] = []
    for index, t in enumerate(nearest):
        # Where targets are closer than timesteps, the next ones down, as long as they last.
        below = timesteps[-1] - 1 if timesteps else schedule.num_timesteps - 1
        timesteps.append(max(min(t, below), num_steps - 1 - index))
    return step_pairs(timesteps)
