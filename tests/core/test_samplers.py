"""Deterministic samplers against closed forms.

For Gaussian data every sampler is a chain of affine maps: what it makes of noise can be worked
out with a few scalars.
"""

import math
from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from diffcli.core.parameters import ScheduleConfig
from diffcli.core.samplers import Denoise, Step, ddim, dpmpp
from diffcli.core.schedule import NoiseSchedule, StepPlan, step_pairs, step_plan
from tests.core.gaussian import SCHEDULES, START, STEP_COUNTS, Gaussian, end, short

Solver = Callable[[Denoise, NoiseSchedule, Tensor, StepPlan], Iterator[Step]]


def affine_ddim(data: Gaussian, plan: StepPlan) -> tuple[float, float]:
    """What DDIM makes of ``x_T``: a slope and an offset, by scalar arithmetic."""
    slope, offset = 1.0, 0.0
    for t, s in plan:
        alpha_bar_t = float(data.schedule.alphas_cumprod[t])
        alpha_bar_s = float(data.schedule.alphas_cumprod[s]) if s >= 0 else 1.0
        # x0 = k x + c, and x_s = w x + (sqrt(alpha_bar_s) - w sqrt(alpha_bar_t)) x0.
        k = data.gain(t)
        c = data.mean * (1 - k * math.sqrt(alpha_bar_t))
        w = math.sqrt((1 - alpha_bar_s) / (1 - alpha_bar_t))
        weight = math.sqrt(alpha_bar_s) - w * math.sqrt(alpha_bar_t)
        slope, offset = w * slope + weight * k * slope, w * offset + weight * (k * offset + c)
    return slope, offset


def affine_dpmpp(data: Gaussian, plan: StepPlan) -> tuple[float, float]:
    """What DPM-Solver++(2M) makes of ``x_T``, from its algorithm 2 in terms of lambda."""

    def log_ratio(t: int) -> float:
        alpha_bar = float(data.schedule.alphas_cumprod[t])
        return 0.5 * math.log(alpha_bar / (1 - alpha_bar))

    line, estimate, h = (1.0, 0.0), (0.0, 0.0), 0.0
    for number, (t, s) in enumerate(plan):
        k = data.gain(t)
        c = data.mean * (1 - k * math.sqrt(float(data.schedule.alphas_cumprod[t])))
        before, estimate = estimate, (k * line[0], k * line[1] + c)
        if s < 0:
            return estimate
        h_before, h = h, log_ratio(s) - log_ratio(t)
        r = h_before / h
        ahead = 1 / (2 * r) if number else 0.0
        alpha_bar_t, alpha_bar_s = (float(data.schedule.alphas_cumprod[i]) for i in (t, s))
        keep = math.sqrt((1 - alpha_bar_s) / (1 - alpha_bar_t))
        take = -math.sqrt(alpha_bar_s) * math.expm1(-h)
        slope, offset = (
            keep * line[i] + take * ((1 + ahead) * estimate[i] - ahead * before[i]) for i in (0, 1)
        )
        line = (slope, offset)
    return line


@pytest.mark.parametrize("config", SCHEDULES, ids=short)
@pytest.mark.parametrize(
    ("solver", "affine"), [(ddim, affine_ddim), (dpmpp, affine_dpmpp)], ids=["ddim", "dpmpp"]
)
def test_solvers_are_their_recursion_at_every_number_of_steps(
    solver: Solver,
    affine: Callable[[Gaussian, StepPlan], tuple[float, float]],
    config: ScheduleConfig,
) -> None:
    data = Gaussian(NoiseSchedule.from_config(config))
    for count in STEP_COUNTS:
        plan = step_plan(config.num_timesteps, count)
        slope, offset = affine(data, plan)
        got = end(solver(data, data.schedule, START, plan))
        assert torch.allclose(got, slope * START + offset, rtol=1e-9, atol=1e-9), count


@pytest.mark.parametrize("solver", [ddim, dpmpp])
def test_solvers_follow_uneven_plans_too(solver: Solver) -> None:
    data = Gaussian(NoiseSchedule.from_config(ScheduleConfig("cosine", 300)))
    plan = step_pairs([290, 288, 130, 129, 40, 39, 2])
    slope, offset = (affine_ddim if solver is ddim else affine_dpmpp)(data, plan)
    got = end(solver(data, data.schedule, START, plan))
    assert torch.allclose(got, slope * START + offset, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("solver", "order"), [(ddim, 1), (dpmpp, 2)])
def test_solvers_converge_with_their_order(solver: Solver, order: int) -> None:
    data = Gaussian(NoiseSchedule.from_config(ScheduleConfig("cosine", 4096)))
    first, last = 3600, 400
    exact = data.flow(START, first, last)

    def error(count: int) -> float:
        timesteps = [round(first + (last - first) * i / count) for i in range(count + 1)]
        plan = list(pairwise(timesteps))
        return float((end(solver(data, data.schedule, START, plan)) - exact).abs().max())

    for count in (32, 64, 128):
        assert math.log2(error(count) / error(2 * count)) == pytest.approx(order, abs=0.1)


@pytest.mark.parametrize("solver", [ddim, dpmpp])
def test_solvers_converge_to_the_flow_from_noise_to_clean(solver: Solver) -> None:
    data = Gaussian(NoiseSchedule.from_config(ScheduleConfig("cosine", 2048)))
    exact = data.flow(START, 2047, -1)
    errors = [
        float((end(solver(data, data.schedule, START, step_plan(2048, count))) - exact).abs().max())
        for count in (8, 32, 128, 512, 2048)
    ]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 2e-3


@pytest.mark.parametrize("count", [1, 2, 13, 300])
@pytest.mark.parametrize("solver", [ddim, dpmpp])
def test_a_single_point_is_found_exactly(solver: Solver, count: int) -> None:
    data = Gaussian(NoiseSchedule.from_config(ScheduleConfig()), mean=-0.7, std=0.0)
    got = end(solver(data, data.schedule, START, step_plan(300, count)))
    assert torch.allclose(got, torch.full_like(START, -0.7), atol=1e-12)


@pytest.mark.parametrize("count", [1, 5, 50])
def test_ddim_on_straight_paths_is_eulers_method(count: int) -> None:
    """Liu et al. 2023, eq. 1: ``z_u = (1 - u) x_0 + u epsilon`` moves by ``epsilon - x_0``."""
    data = Gaussian(NoiseSchedule.from_config(ScheduleConfig("rectified-flow", 100)))
    # From the last but one timestep, as the beta of the last one is clamped.
    plan = [(t - 1, s - 1 if s > 0 else -1) for t, s in step_plan(100, count) if t > 0]
    z = None
    for (t, s), step in zip(plan, ddim(data, data.schedule, START, plan), strict=True):
        norms = [math.hypot(1 - u, u) for u in ((t + 1) / 100, (s + 1) / 100)]
        x = START if z is None else z / norms[0]
        x0, epsilon = data(x, t)
        z = x * norms[0] + (s - t) / 100 * (epsilon - x0)
        assert torch.allclose(step.x * norms[1], z, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("solver", [ddim, dpmpp])
def test_every_step_is_reported_as_planned(solver: Solver) -> None:
    data = Gaussian(NoiseSchedule.from_config(ScheduleConfig()))
    plan = step_plan(300, 9)
    x = START
    for (t, s), step in zip(plan, solver(data, data.schedule, START, plan), strict=True):
        assert (step.t, step.s) == (t, s)
        assert torch.equal(step.x0, data.x0(x, t))
        x = step.x
