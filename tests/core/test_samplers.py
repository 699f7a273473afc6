"""Samplers against closed forms.

For Gaussian data the best denoiser is known exactly, and with it every sampler is a chain of
affine maps: what it makes of noise can be worked out with a few scalars.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from diffcli.core.denoiser import Estimate
from diffcli.core.parameters import ScheduleConfig, Variance
from diffcli.core.samplers import Denoise, Step, StepPlan, consistency, ddim, ddpm, dpmpp, dpmpp_sde
from diffcli.core.schedule import NoiseSchedule, step_pairs, step_plan

Solver = Callable[[Denoise, NoiseSchedule, Tensor, StepPlan], Iterator[Step]]

SCHEDULES = [
    ScheduleConfig("rectified-flow", 300),
    ScheduleConfig(),
    ScheduleConfig("scaled-linear", 300),
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
    data = Gaussian(NoiseSchedule.from_config(), mean=-0.7, std=0.0)
    got = end(solver(data, data.schedule, START, step_plan(300, count)))
    assert torch.allclose(got, torch.full_like(START, -0.7), atol=1e-12)


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
        draw = Impulses(len(plan) + 1)
        ends = end(ddpm(data, data.schedule, draw(), plan, draw, variance)).flatten()
        # A draw per step but the last, and the start: the last image has had no noise.
        *responses, still = ends.tolist()
        mean, square = ancestral_mean_and_variance(data, plan, variance)
        assert still == pytest.approx(mean, abs=1e-9)
        assert sum((end - still) ** 2 for end in responses) == pytest.approx(square, rel=1e-9)


@pytest.mark.parametrize("variance", ["beta", "beta-tilde"])
def test_ddpm_without_gaps_is_the_published_algorithm(variance: Variance) -> None:
    """Ho et al. 2020, algorithm 2, which is in terms of epsilon and of beta as it is given."""
    config = ScheduleConfig()
    data = Gaussian(NoiseSchedule.from_config(config))
    steps = ddpm(
        data, data.schedule, START, step_plan(300, 300), lambda: torch.ones_like(START), variance
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
    ends = end(ddpm(data, data.schedule, draw(), plan, draw, variance))
    mean, square = ancestral_mean_and_variance(data, plan, variance)
    # Four standard errors.
    assert float(ends.mean()) == pytest.approx(mean, abs=4 * math.sqrt(square / count))
    assert float(ends.var()) == pytest.approx(square, rel=4 * math.sqrt(2 / count))


@pytest.mark.parametrize("variance", ["beta", "beta-tilde"])
def test_ddpm_draws_the_data_if_steps_are_many(variance: Variance) -> None:
    data = Gaussian(NoiseSchedule.from_config(ScheduleConfig("cosine", 3000)))
    mean, square = ancestral_mean_and_variance(data, step_plan(3000, 3000), variance)
    assert mean == pytest.approx(data.mean, abs=1e-3)
    assert math.sqrt(square) == pytest.approx(data.std, rel=5e-3)


def responses_of_dpmpp_sde(data: Gaussian, plan: StepPlan) -> Tensor:
    """What SDE-DPM-Solver++(2M) makes of ``x_T`` and of each noise: by how much each counts.

    From the published form, in terms of lambda and of D0 and D1.

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
            noise / math.sqrt(1 - alpha_bar_t) * math.exp(-h) * x
            + signal * (1 - math.exp(-2 * h)) * (d0 + 0.5 * d1)
            + noise * math.sqrt(1 - math.exp(-2 * h)) * noises[number]
        )
        before = d0
    raise AssertionError("a plan ends clean")


@pytest.mark.parametrize("config", SCHEDULES, ids=short)
def test_dpmpp_sde_is_its_recursion_at_every_number_of_steps(config: ScheduleConfig) -> None:
    data = Gaussian(NoiseSchedule.from_config(config))
    plans = [step_plan(config.num_timesteps, count) for count in STEP_COUNTS]
    for plan in [*plans, step_pairs([290, 288, 130, 129, 40, 39, 2])]:
        draw = Impulses(len(plan) + 1)
        *ends, still = end(dpmpp_sde(data, data.schedule, draw(), plan, draw)).flatten().tolist()
        *factors, constant = responses_of_dpmpp_sde(data, plan).tolist()
        assert still == pytest.approx(constant, rel=1e-9)
        assert [end - still for end in ends] == pytest.approx(factors, rel=1e-8, abs=1e-9)


def test_dpmpp_sde_comes_closer_to_the_data_than_ddpm() -> None:
    data = Gaussian(NoiseSchedule.from_config(ScheduleConfig("cosine", 3000)))
    errors = []
    for count in (8, 32, 128, 512):
        plan = step_plan(3000, count)
        *factors, constant = responses_of_dpmpp_sde(data, plan).tolist()
        second = abs(math.hypot(*factors) - data.std)
        _, square = ancestral_mean_and_variance(data, plan, "beta-tilde")
        assert second < 0.5 * abs(math.sqrt(square) - data.std)
        assert constant == pytest.approx(data.mean, abs=5e-3)
        errors.append(second)
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 2e-4


@pytest.mark.parametrize("count", [1, 2])
def test_dpmpp_sde_without_a_middle_step_is_ddpm(count: int) -> None:
    """Where nothing can be extrapolated, both are of first order, and the same."""
    data = Gaussian(NoiseSchedule.from_config())
    plan = step_plan(300, count)
    one = ddpm(data, data.schedule, START, plan, lambda: START.flip(0), "beta-tilde")
    other = dpmpp_sde(data, data.schedule, START, plan, lambda: START.flip(0))
    assert torch.allclose(end(one), end(other), rtol=1e-12, atol=1e-12)


def test_variance_beta_is_exact_for_standard_normal_data() -> None:
    """Ho et al. 2020, section 3.2: noise stays noise, but for the last step's missing share."""
    data = Gaussian(NoiseSchedule.from_config(), mean=0.0, std=1.0)
    draw = Impulses(301)
    ends = end(ddpm(data, data.schedule, draw(), step_plan(300, 300), draw, "beta"))
    assert float(ends.square().sum()) == pytest.approx(1 - 1e-4, rel=1e-5)


def test_variance_beta_tilde_is_exact_for_a_single_point() -> None:
    data = Gaussian(NoiseSchedule.from_config(), mean=-0.7, std=0.0)
    generator = torch.Generator().manual_seed(0)

    def draw() -> Tensor:
        return torch.randn(5, 1, 1, 1, generator=generator, dtype=torch.float64)

    for count in STEP_COUNTS:
        steps = list(ddpm(data, data.schedule, draw(), step_plan(300, count), draw, "beta-tilde"))
        assert torch.allclose(steps[-1].x, torch.full_like(START, -0.7), atol=1e-12)
        # On the way it is the data with as much noise as there should be.
        for step in steps[:-1]:
            signal, noise = data.schedule.alpha_sigma(step.s)
            assert float((step.x + 0.7 * signal).abs().max()) < 5 * noise


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
    data = Gaussian(NoiseSchedule.from_config())
    plan = step_plan(300, 9)
    x = START
    for (t, s), step in zip(plan, solver(data, data.schedule, START, plan), strict=True):
        assert (step.t, step.s) == (t, s)
        assert torch.equal(step.x0, data.x0(x, t))
        x = step.x


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
    steps = list(consistency(denoise, data.schedule, draw_noise(), plan, draw_noise, "beta-tilde"))
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
