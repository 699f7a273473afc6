"""Samplers that add noise, against closed forms.

For Gaussian data every sampler is a chain of affine maps: what it makes of noise can be worked
out with a few scalars.
"""

import math
from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from diffcli.core.denoiser import Estimate
from diffcli.core.parameters import SamplingSettings, ScheduleConfig, Variance
from diffcli.core.samplers import Step, consistency, ddpm, dpmpp, dpmpp_sde
from diffcli.core.schedule import NoiseSchedule, StepPlan, step_pairs, step_plan
from tests.core.gaussian import SCHEDULES, START, STEP_COUNTS, Gaussian, end, short


def ancestral_mean_and_variance(
    data: Gaussian, plan: StepPlan, variance: Variance
) -> tuple[float, float]:
    """Mean and variance of DDPM's output if ``x_T`` is N(0, 1), by scalar arithmetic."""
    mean, square = 0.0, 1.0
    # The last entry is that of timestep -1.
    alphas_cumprod = [*data.schedule.alphas_cumprod.tolist(), 1.0]
    for t, s in plan:
        before, alpha_bar = alphas_cumprod[s], alphas_cumprod[t]
        beta = 1 - alpha_bar / before
        # In terms of x_0: Ho et al. 2020, eq. 7.
        to_x0 = math.sqrt(before) * beta / (1 - alpha_bar)
        to_x = math.sqrt(1 - beta) * (1 - before) / (1 - alpha_bar)
        gain = data.gain(t)
        offset = to_x0 * data.mean * (1 - gain * math.sqrt(alpha_bar))
        slope = to_x + to_x0 * gain
        added = beta if variance == "beta" else beta * (1 - before) / (1 - alpha_bar)
        mean, square = slope * mean + offset, slope**2 * square + (added if s >= 0 else 0.0)
    return mean, square


class Impulses:
    """Noise that is one for image ``k`` in the ``k``-th draw, and zero in all the others.

    The sampler being affine, the images that come of it, less the one of no noise at all, are
    the responses to unit noise of each step; the sum of their squares is the variance of what
    comes of standard normal noise, exactly.
    """

    def __init__(self, count: int) -> None:
        self._rows = iter(torch.eye(count, dtype=torch.float64))

    def __call__(self) -> Tensor:
        return next(self._rows).view(-1, 1, 1, 1)


def responses(
    sampler: Callable[..., Iterator[Step]],
    data: Gaussian,
    plan: StepPlan,
    settings: SamplingSettings,
) -> tuple[list[float], float]:
    """How much ``x_T`` and each noise count in what a sampler makes, and what it makes of zeros."""
    # A draw for the start and for every step but the last: the last image has had no noise.
    draw = Impulses(len(plan) + 1)
    steps = sampler(data, data.schedule, draw(), plan, draw, settings)
    *drawn, still = end(steps).flatten().tolist()
    return [image - still for image in drawn], still


@pytest.mark.parametrize("variance", ["beta", "beta-tilde"])
@pytest.mark.parametrize("config", [ScheduleConfig(num_timesteps=1), *SCHEDULES], ids=short)
def test_ddpm_has_the_mean_and_variance_of_its_recursion(
    config: ScheduleConfig, variance: Variance
) -> None:
    data = Gaussian(NoiseSchedule.from_config(config))
    plans = [step_plan(config.num_timesteps, n) for n in STEP_COUNTS if n <= config.num_timesteps]
    if config.num_timesteps == 300:
        plans.append(step_pairs([290, 288, 130, 129, 40, 39, 2]))
    for plan in plans:
        factors, still = responses(ddpm, data, plan, SamplingSettings(variance=variance))
        mean, square = ancestral_mean_and_variance(data, plan, variance)
        assert still == pytest.approx(mean, abs=1e-9)
        assert math.hypot(*factors) == pytest.approx(math.sqrt(square), rel=1e-9)


@pytest.mark.parametrize("variance", ["beta", "beta-tilde"])
def test_ddpm_without_gaps_is_the_published_algorithm(variance: Variance) -> None:
    """Ho et al. 2020, algorithm 2, which is in terms of epsilon and of beta as it is given."""
    config = ScheduleConfig()
    data = Gaussian(NoiseSchedule.from_config(config))
    steps = ddpm(
        data,
        data.schedule,
        START,
        step_plan(300, 300),
        lambda: torch.ones_like(START),
        SamplingSettings(variance=variance),
    )
    x, betas = START, data.schedule.betas
    alphas_cumprod = (1 - betas).cumprod(0)
    for step in steps:
        t, beta, alpha_bar = step.t, betas[step.t], alphas_cumprod[step.t]
        epsilon = data(x, t).epsilon
        expected = (x - beta / (1 - alpha_bar).sqrt() * epsilon) / (1 - beta).sqrt()
        if t > 0:
            shrink = (1 - alphas_cumprod[t - 1]) / (1 - alpha_bar) if variance != "beta" else 1
            expected = expected + (beta * shrink).sqrt()
        assert torch.allclose(step.x, expected, rtol=1e-9, atol=1e-9), t
        x = step.x


@pytest.mark.parametrize("variance", ["beta", "beta-tilde"])
def test_ddpm_of_random_noise_has_that_mean_and_variance(variance: Variance) -> None:
    data = Gaussian(NoiseSchedule.from_config(ScheduleConfig("cosine", 50)))
    generator = torch.Generator().manual_seed(0)
    count = 40_000

    def draw() -> Tensor:
        return torch.randn(count, 1, 1, 1, generator=generator)

    plan = step_plan(50, 20)
    ends = end(ddpm(data, data.schedule, draw(), plan, draw, SamplingSettings(variance=variance)))
    mean, square = ancestral_mean_and_variance(data, plan, variance)
    # Four standard errors.
    assert float(ends.mean()) == pytest.approx(mean, abs=4 * math.sqrt(square / count))
    assert float(ends.var()) == pytest.approx(square, rel=4 * math.sqrt(2 / count))


@pytest.mark.parametrize("variance", ["beta", "beta-tilde"])
def test_ddpm_draws_the_data_if_steps_are_many(variance: Variance) -> None:
    data = Gaussian(NoiseSchedule.from_config(ScheduleConfig("cosine", 1000)))
    settings = SamplingSettings(variance=variance)
    factors, still = responses(ddpm, data, step_plan(1000, 1000), settings)
    assert still == pytest.approx(data.mean, abs=1e-3)
    assert math.hypot(*factors) == pytest.approx(data.std, rel=5e-3)


def responses_of_dpmpp_sde(data: Gaussian, plan: StepPlan, eta: float) -> Tensor:
    """What SDE-DPM-Solver++(2M) makes of ``x_T`` and of each noise: by how much each counts.

    From the published form, in terms of lambda and of D0 and D1, which is that of eta 1.

    Returns:
        float64 ``(len(plan) + 1,)``: the factors of ``x_T`` and of the noises of all steps but
        the last, and what there is without any.
    """

    def log_ratio(t: int) -> float:
        alpha_bar = float(data.schedule.alphas_cumprod[t])
        return 0.5 * math.log(alpha_bar / (1 - alpha_bar))

    unit = torch.eye(len(plan) + 1, dtype=torch.float64)
    x, noises, constant = unit[0], unit[1:-1], unit[-1]
    before, h = constant, 0.0
    for number, (t, s) in enumerate(plan):
        alpha_bar_t = float(data.schedule.alphas_cumprod[t])
        k = data.gain(t)
        d0 = k * x + data.mean * (1 - k * math.sqrt(alpha_bar_t)) * constant
        if s < 0:
            return d0
        h_before, h = h, log_ratio(s) - log_ratio(t)
        d1 = (d0 - before) * (h / h_before) if number else 0 * d0
        alpha_bar_s = float(data.schedule.alphas_cumprod[s])
        signal, noise = math.sqrt(alpha_bar_s), math.sqrt(1 - alpha_bar_s)
        x = (
            noise / math.sqrt(1 - alpha_bar_t) * math.exp(-eta * h) * x
            + signal * (1 - math.exp(-(1 + eta) * h)) * (d0 + 0.5 * d1)
            + noise * math.sqrt(1 - math.exp(-2 * eta * h)) * noises[number]
        )
        before = d0
    raise AssertionError("a plan ends clean")


@pytest.mark.parametrize("eta", [0.0, 0.35, 1.0])
@pytest.mark.parametrize("config", SCHEDULES, ids=short)
def test_dpmpp_sde_is_its_recursion_at_every_number_of_steps(
    config: ScheduleConfig, eta: float
) -> None:
    data = Gaussian(NoiseSchedule.from_config(config))
    plans = [step_plan(config.num_timesteps, count) for count in STEP_COUNTS]
    for plan in [*plans, step_pairs([290, 288, 130, 129, 40, 39, 2])]:
        factors, still = responses(dpmpp_sde, data, plan, SamplingSettings(eta=eta))
        *expected, constant = responses_of_dpmpp_sde(data, plan, eta).tolist()
        assert still == pytest.approx(constant, rel=1e-9)
        assert factors == pytest.approx(expected, rel=1e-8, abs=1e-9)


def test_dpmpp_sde_comes_closer_to_the_data_than_ddpm() -> None:
    data = Gaussian(NoiseSchedule.from_config(ScheduleConfig("cosine", 3000)))
    errors = []
    for count in (8, 32, 128, 512):
        plan = step_plan(3000, count)
        factors, still = responses(dpmpp_sde, data, plan, SamplingSettings())
        ancestral, _ = responses(ddpm, data, plan, SamplingSettings())
        second = abs(math.hypot(*factors) - data.std)
        assert second < 0.5 * abs(math.hypot(*ancestral) - data.std)
        assert still == pytest.approx(data.mean, abs=5e-3)
        errors.append(second)
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 2e-4


@pytest.mark.parametrize("count", [1, 2])
def test_dpmpp_sde_without_a_middle_step_is_ddpm(count: int) -> None:
    """Where nothing can be extrapolated, both are of first order, and the same."""
    data = Gaussian(NoiseSchedule.from_config(ScheduleConfig()))
    plan = step_plan(300, count)
    one = ddpm(data, data.schedule, START, plan, lambda: START.flip(0), SamplingSettings())
    other = dpmpp_sde(data, data.schedule, START, plan, lambda: START.flip(0), SamplingSettings())
    assert torch.allclose(end(one), end(other), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("count", [1, 5, 16])
def test_dpmpp_sde_without_noise_is_dpmpp(count: int) -> None:
    data = Gaussian(NoiseSchedule.from_config(ScheduleConfig()))
    plan = step_plan(300, count, 1.5)
    one = dpmpp(data, data.schedule, START, plan)
    much = torch.full_like(START, 1e9)
    other = dpmpp_sde(data, data.schedule, START, plan, lambda: much, SamplingSettings(eta=0.0))
    assert torch.equal(end(one), end(other))


@pytest.mark.parametrize("eta", [0.0, 0.3, 0.7, 1.0])
def test_dpmpp_sde_draws_the_data_with_any_eta_if_steps_are_many(eta: float) -> None:
    """All these processes have the same marginals."""
    data = Gaussian(NoiseSchedule.from_config(ScheduleConfig("cosine", 3000)))
    factors, still = responses(dpmpp_sde, data, step_plan(3000, 1000), SamplingSettings(eta=eta))
    assert math.hypot(*factors) == pytest.approx(data.std, rel=1e-3)
    assert still == pytest.approx(data.mean, abs=5e-3)


def test_variance_beta_is_exact_for_standard_normal_data() -> None:
    """Ho et al. 2020, section 3.2: noise stays noise, but for the last step's missing share."""
    data = Gaussian(NoiseSchedule.from_config(ScheduleConfig()), mean=0.0, std=1.0)
    factors, still = responses(ddpm, data, step_plan(300, 300), SamplingSettings(variance="beta"))
    assert still == 0
    assert math.hypot(*factors) ** 2 == pytest.approx(1 - 1e-4, rel=1e-5)


def test_variance_beta_tilde_is_exact_for_a_single_point() -> None:
    data = Gaussian(NoiseSchedule.from_config(ScheduleConfig()), mean=-0.7, std=0.0)
    generator = torch.Generator().manual_seed(0)

    def draw() -> Tensor:
        return torch.randn(5, 1, 1, 1, generator=generator, dtype=torch.float64)

    for count in STEP_COUNTS:
        steps = list(
            ddpm(data, data.schedule, draw(), step_plan(300, count), draw, SamplingSettings())
        )
        assert torch.allclose(steps[-1].x, torch.full_like(START, -0.7), atol=1e-12)
        # On the way it is the data with as much noise as there should be.
        for step in steps[:-1]:
            signal, noise = data.schedule.alpha_sigma(step.s)
            assert float((step.x + 0.7 * signal).abs().max()) < 5 * noise


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("config", SCHEDULES[2:], ids=short)
def test_an_exact_consistency_function_draws_the_data_in_any_number_of_steps(
    config: ScheduleConfig, count: int
) -> None:
    """Every step ends in the data: its estimate is exact, and fresh noise keeps it so."""
    data = Gaussian(NoiseSchedule.from_config(config))
    generator = torch.Generator().manual_seed(count)

    def denoise(x: Tensor, t: int) -> Estimate:
        x0 = data.flow(x, t, -1)
        return Estimate(x0, torch.full_like(x, torch.nan))

    def draw_noise() -> Tensor:
        return torch.randn(20_000, 1, 1, 1, generator=generator, dtype=torch.float64)

    plan = step_plan(300, count)
    steps = list(
        consistency(denoise, data.schedule, draw_noise(), plan, draw_noise, SamplingSettings())
    )
    assert len(steps) == count
    for step in steps:
        # The start is N(0, 1), where the noised data are not quite.
        assert float(step.x0.mean()) == pytest.approx(data.mean, abs=0.02)
        assert float(step.x0.std()) == pytest.approx(data.std, rel=0.02)
    for before, after in pairwise(steps):
        signal, noise = data.schedule.alpha_sigma(before.s)
        added = (before.x - signal * before.x0) / noise
        assert float(added.std()) == pytest.approx(1, rel=0.03)
        assert torch.equal(after.x0, data.flow(before.x, after.t, -1))
    assert torch.equal(steps[-1].x, steps[-1].x0)


def test_consistency_adds_noise_in_all_steps_but_that_to_clean() -> None:
    data = Gaussian(NoiseSchedule.from_config(ScheduleConfig("cosine", 20)))
    drawn = []

    def draw_noise() -> Tensor:
        drawn.append(1)
        return torch.zeros_like(START)

    list(consistency(data, data.schedule, START, step_plan(20, 20), draw_noise))
    assert len(drawn) == 19
