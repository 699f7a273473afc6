import math
from fractions import Fraction
from itertools import pairwise
from typing import Any, get_args

import pytest
import torch
from diffusers import DDPMScheduler
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from diffcli.core.generate import generate
from diffcli.core.parameters import SamplingSettings, ScheduleConfig, ScheduleName
from diffcli.core.samplers import SAMPLERS
from diffcli.core.schedule import SCHEDULES, NoiseSchedule, StepPlan, step_pairs, step_plan
from tests import tiny

CONFIGS = [
    ScheduleConfig(),
    ScheduleConfig("linear", 1000),
    ScheduleConfig("linear-rescaled", 100),
    ScheduleConfig("cosine", 300),
    ScheduleConfig("rectified-flow", 300),
]
PEER_SCHEDULE = {
    "linear": "linear",
    "linear-rescaled": "linear",
    "cosine": "squaredcos_cap_v2",
}


def peer(config: ScheduleConfig) -> DDPMScheduler:
    """The scheduler of diffusers with the same betas, which makes the tables itself."""
    if config.name == "rectified-flow":
        return DDPMScheduler(config.num_timesteps, trained_betas=betas(config.name, 300).numpy())
    scale = 1000 / config.num_timesteps if config.name == "linear-rescaled" else 1
    return DDPMScheduler(
        num_train_timesteps=config.num_timesteps,
        beta_start=config.beta_start * scale,
        beta_end=config.beta_end * scale,
        beta_schedule=PEER_SCHEDULE[config.name],
    )


def images(count: int, seed: int = 0) -> Tensor:
    return torch.randn(count, 1, 4, 4, generator=torch.Generator().manual_seed(seed))


def test_the_plain_defaults_are_the_classic_ones() -> None:
    schedule = NoiseSchedule.from_config(ScheduleConfig())
    assert schedule.num_timesteps == 300
    betas = [1e-4 + (0.02 - 1e-4) * t / 299 for t in range(300)]
    assert torch.allclose(schedule.betas, torch.tensor(betas, dtype=torch.float64), rtol=1e-12)
    alpha_bar = math.prod(1 - beta for beta in betas)
    assert float(schedule.alphas_cumprod[-1]) == pytest.approx(alpha_bar, rel=1e-12)
    # So much of the image is left at the end that sampling from pure noise starts wrong.
    assert math.sqrt(alpha_bar) == pytest.approx(0.219, abs=5e-4)


def betas(name: ScheduleName, num_timesteps: int) -> Tensor:
    return NoiseSchedule.from_config(ScheduleConfig(name, num_timesteps)).betas


def test_the_table_has_every_schedule() -> None:
    assert set(SCHEDULES) == set(get_args(ScheduleName))


def test_linear_rescaled_ends_in_as_much_noise_as_a_thousand_linear_steps() -> None:
    assert torch.allclose(betas("linear-rescaled", 250), 4 * betas("linear", 250))
    assert torch.equal(betas("linear-rescaled", 1000), betas("linear", 1000))
    assert betas("linear-rescaled", 5).max() < 1


@pytest.mark.parametrize("num_timesteps", [2, 10, 300])
def test_rectified_flow_is_the_straight_path_scaled_to_unit_power(num_timesteps: int) -> None:
    schedule = NoiseSchedule.from_config(ScheduleConfig("rectified-flow", num_timesteps))
    for t in range(num_timesteps - 1):  # the last beta is clamped
        u = (t + 1) / num_timesteps
        alpha, sigma = schedule.alpha_sigma(t)
        norm = math.hypot(1 - u, u)
        assert alpha == pytest.approx((1 - u) / norm, rel=1e-9)
        assert sigma == pytest.approx(u / norm, rel=1e-9)


def test_cosine_is_the_square_of_a_cosine() -> None:
    schedule = NoiseSchedule.from_config(ScheduleConfig("cosine", 300))

    def f(t: int) -> float:
        return math.cos((t / 300 + 0.008) / 1.008 * math.pi / 2) ** 2

    # Without the last one, whose beta meets the ceiling.
    expected = torch.tensor([f(t + 1) / f(0) for t in range(299)], dtype=torch.float64)
    assert torch.allclose(schedule.alphas_cumprod[:-1], expected, rtol=1e-9)
    assert float(schedule.betas[-1]) == 0.999


@pytest.mark.parametrize("name", ["linear", "linear-rescaled", "cosine"])
@pytest.mark.parametrize("num_timesteps", [25, 100, 300, 999, 1000])
def test_diffusers_has_the_same_tables(name: ScheduleName, num_timesteps: int) -> None:
    config = ScheduleConfig(name, num_timesteps)
    schedule, other = NoiseSchedule.from_config(config), peer(config)
    assert torch.allclose(schedule.betas, other.betas.double(), rtol=1e-5, atol=1e-7)
    # float32, as diffusers has them, loses a little in a product of hundreds of factors.
    assert torch.allclose(
        schedule.alphas_cumprod, other.alphas_cumprod.double(), rtol=2e-4, atol=1e-6
    )


@pytest.mark.parametrize(
    "config", CONFIGS, ids=lambda config: f"{config.name}-{config.num_timesteps}"
)
def test_diffusers_adds_the_same_noise(config: ScheduleConfig) -> None:
    schedule = NoiseSchedule.from_config(config)
    t = torch.arange(config.num_timesteps)
    x0, epsilon = images(len(t), 1), images(len(t), 2)
    x_t = schedule.add_noise(x0, t, epsilon)
    assert torch.allclose(x_t, peer(config).add_noise(x0, epsilon, t), atol=1e-5)


def test_images_at_different_timesteps_are_independent() -> None:
    schedule = NoiseSchedule.from_config(ScheduleConfig())
    t = torch.tensor([0, 299, 1, 150, 0, 7])
    x0, epsilon = images(6, 1), images(6, 2)
    together = schedule.add_noise(x0, t, epsilon)
    alone = [schedule.add_noise(x0[i], int(t[i]), epsilon[i]) for i in range(6)]
    assert torch.allclose(together, torch.stack(alone), atol=1e-6)


@pytest.mark.parametrize(
    "config", CONFIGS, ids=lambda config: f"{config.name}-{config.num_timesteps}"
)
def test_alpha_sigma(config: ScheduleConfig) -> None:
    schedule = NoiseSchedule.from_config(config)
    assert schedule.alpha_sigma(-1) == (1.0, 0.0)
    for t in range(config.num_timesteps):
        signal, noise = schedule.alpha_sigma(t)
        assert signal**2 == pytest.approx(float(schedule.alphas_cumprod[t]), rel=1e-12)
        assert signal**2 + noise**2 == pytest.approx(1, rel=1e-12)
        assert float(schedule.log_snr[t]) == pytest.approx(2 * math.log(signal / noise), abs=1e-9)
    assert (schedule.log_snr.diff() < 0).all()
    alpha, sigma = schedule.alpha_sigma(torch.arange(config.num_timesteps))
    assert alpha.shape == sigma.shape == (config.num_timesteps, 1, 1, 1)
    expected = torch.tensor([schedule.alpha_sigma(t) for t in range(config.num_timesteps)])
    assert torch.equal(torch.stack([alpha, sigma], dim=1).flatten(1), expected)


@pytest.mark.parametrize("t", [-2, 20, 10**6])
def test_there_are_no_other_timesteps(t: int) -> None:
    schedule = NoiseSchedule.from_config(ScheduleConfig("cosine", 20))
    with pytest.raises(ValueError, match=rf"timesteps are -1 \.\. 19, not {t}"):
        schedule.alpha_sigma(t)


def test_noise_of_the_first_timesteps_survives_float32() -> None:
    """Casting alpha_bar before subtracting it from 1 would lose it, most of all in half."""
    schedule = NoiseSchedule(torch.full((3,), 1e-9, dtype=torch.float64))
    x_t = schedule.add_noise(torch.zeros(1, 1, 1, 1), torch.tensor([0]), torch.ones(1, 1, 1, 1))
    assert x_t.item() == pytest.approx(math.sqrt(1e-9), rel=1e-6)


@pytest.mark.parametrize(
    "config", [ScheduleConfig("linear", 100_000), ScheduleConfig("linear", 3000, 0.5, 0.9)], ids=str
)
def test_signal_too_small_for_float64_still_falls(config: ScheduleConfig) -> None:
    schedule = NoiseSchedule.from_config(config)
    assert schedule.log_snr.isfinite().all()
    assert (schedule.log_snr.diff() < 0).all()
    denoiser = tiny.denoiser(config)
    for name in SAMPLERS:
        *_, last = generate(denoiser, torch.tensor([0]), [0], SamplingSettings(name, 100))
        assert last.x.isfinite().all()


@pytest.mark.parametrize("name", ["linear", "linear-rescaled"])
@pytest.mark.parametrize("num_timesteps", [1, 1000, 100_000])
def test_the_least_beta_is_noise(name: ScheduleName, num_timesteps: int) -> None:
    config = ScheduleConfig(name, num_timesteps, 1e-8, 1e-8)
    schedule = NoiseSchedule.from_config(config)
    expected = 1e-8 * (1000 / num_timesteps if name == "linear-rescaled" else 1)
    _, sigma = schedule.alpha_sigma(0)
    assert sigma**2 == pytest.approx(expected, rel=1e-5)
    assert (schedule.log_snr.diff() < 0).all()


@pytest.mark.parametrize(
    "config", CONFIGS, ids=lambda config: f"{config.name}-{config.num_timesteps}"
)
def test_prior_kl_is_the_divergence_of_two_normals(config: ScheduleConfig) -> None:
    schedule = NoiseSchedule.from_config(config)
    signal, noise = schedule.alpha_sigma(config.num_timesteps - 1)
    x0 = torch.linspace(-1, 1, 101, dtype=torch.float64)
    last = torch.distributions.Normal(signal * x0, noise)
    expected = torch.distributions.kl_divergence(last, torch.distributions.Normal(0.0, 1.0)).mean()
    got = schedule.prior_kl(float(x0.square().mean()))
    assert got == pytest.approx(float(expected), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "quadratic"}, "quadratic"),
        ({"num_timesteps": 0}, "num_timesteps"),
        ({"num_timesteps": 100_001}, "num_timesteps"),
        ({"beta_start": 0.0}, "betas"),
        ({"beta_start": 0.99e-8}, "betas must satisfy 1e-08 <= beta_start"),
        ({"beta_start": 1e-17, "beta_end": 1e-17}, "betas"),
        ({"beta_start": 0.5, "beta_end": 0.4}, "betas"),
        ({"beta_end": 1.0}, "betas"),
        ({"beta_end": math.nan}, "betas"),
    ],
)
def test_impossible_configs_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ScheduleConfig(**fields)


@pytest.mark.parametrize(
    "betas",
    [
        *(torch.empty(0), torch.zeros(3), torch.ones(3), torch.full((2, 2), 0.5)),
        torch.tensor([1e-17, 0.1], dtype=torch.float64),
    ],
    ids=str,
)
def test_impossible_betas_are_refused(betas: Tensor) -> None:
    with pytest.raises(ValueError, match="betas"):
        NoiseSchedule(betas)


def assert_is_a_plan(plan: StepPlan, num_timesteps: int, num_steps: int) -> None:
    timesteps = [t for t, _ in plan]
    assert len(plan) == num_steps
    assert timesteps[0] == num_timesteps - 1
    assert all(t > s for t, s in plan)
    assert [s for _, s in plan] == [*timesteps[1:], -1]


@pytest.mark.parametrize("num_timesteps", [1, 2, 3, 7, 299, 300, 301])
def test_every_number_of_steps_has_its_plan(num_timesteps: int) -> None:
    for num_steps in range(1, num_timesteps + 1):
        plan = step_plan(num_timesteps, num_steps)
        assert_is_a_plan(plan, num_timesteps, num_steps)
        assert plan[-1][0] == num_timesteps - 1 - (num_steps - 1) * num_timesteps // num_steps
        gaps = {t - s for t, s in plan}
        assert max(gaps) - min(gaps) <= 1


@given(st.data())
def test_every_plan_of_every_length(data: st.DataObject) -> None:
    num_timesteps = data.draw(st.integers(1, 5000))
    num_steps = data.draw(st.integers(1, num_timesteps))
    spacing = data.draw(st.floats(0.1, 10))
    plan = step_plan(num_timesteps, num_steps, spacing)
    assert_is_a_plan(plan, num_timesteps, num_steps)
    gaps = [t - s for t, s in plan]
    if spacing >= 1:  # to rounding, each is at least as long as the one before
        assert all(later >= earlier - 1 for earlier, later in pairwise(gaps))
    else:
        assert all(later <= earlier + 1 for earlier, later in pairwise(gaps))


@pytest.mark.parametrize("spacing", [0.5, 1.0, 1.5, 2.0])
@pytest.mark.parametrize("num_steps", [1, 2, 5, 16])
def test_steps_start_at_powers_of_their_share(num_steps: int, spacing: float) -> None:
    """With T so large that nothing has to make room."""
    total = 10_000
    for i, (t, _) in enumerate(step_plan(total, num_steps, spacing)):
        square = Fraction(i, num_steps) ** int(2 * spacing) * total**2  # without rounding
        below = total - 1 - t
        assert below**2 <= square < (below + 1) ** 2


@pytest.mark.parametrize("spacing", [0.3, 1.5, 10.0])
def test_the_full_plan_visits_every_timestep(spacing: float) -> None:
    assert step_plan(300, 300, spacing) == [(t, t - 1) for t in range(299, -1, -1)]


@pytest.mark.parametrize("num_steps", [-1, 0, 301])
def test_impossible_numbers_of_steps_are_refused(num_steps: int) -> None:
    with pytest.raises(ValueError, match=f"1 .. 300, not {num_steps}"):
        step_plan(300, num_steps)


def test_step_pairs_lead_to_clean() -> None:
    assert step_pairs([9, 4, 1]) == [(9, 4), (4, 1), (1, -1)]
    assert all(s == t for (_, s), (t, _) in pairwise(step_pairs(range(20, -1, -3))))
