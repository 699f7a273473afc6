"""The consistency loss against closed forms.

For Gaussian data N(0, s^2) the denoiser and the consistency function are known: a trajectory of
the probability flow keeps its place in units of the marginal's standard deviation.
"""

import math
from typing import Literal, cast

import pytest
import torch
from torch import Tensor, nn

from diffcli.core.denoiser import Denoiser
from diffcli.core.parameters import PredictionType, SamplingSettings, ScheduleConfig
from diffcli.core.schedule import NoiseSchedule
from diffcli.core.unet import ConditionalUNet
from diffcli.training.objectives import ConsistencyLoss, diffusion_loss
from tests import tiny

SCHEDULE = NoiseSchedule.from_config(ScheduleConfig("cosine", 300))
LEVEL = SCHEDULE.sigma / SCHEDULE.alpha
STD = 0.1
MEANS = torch.tensor([0.3, -0.2, 0.05])
"""Of the pixels of two classes, and of all: the last label means "no label"."""
NO_GUIDANCE = SamplingSettings()


class Gaussian(nn.Module):
    """A network that predicts a function of x_t in closed form, as v."""

    no_label = 2

    def __init__(self, what: Literal["posterior mean", "end of trajectory"]) -> None:
        super().__init__()
        self._what = what

    def forward(self, x_t: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        alpha, sigma = SCHEDULE.alpha_sigma(t)
        mean = MEANS[labels][:, None, None, None] if self._what == "posterior mean" else 0.0
        gain = STD / (STD**2 + (sigma / alpha) ** 2).sqrt()
        if self._what == "posterior mean":
            gain = gain**2
        x0 = mean + gain * (x_t / alpha - mean)
        return (alpha * x_t - x0) / sigma


def gaussian(what: Literal["posterior mean", "end of trajectory"]) -> Denoiser:
    return Denoiser(cast("ConditionalUNet", Gaussian(what)), SCHEDULE, "v_prediction")


def batch(t: int, count: int, std: float = STD) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(t)
    x0, epsilon = torch.randn(2, count, 1, 8, 8, generator=generator)
    return std * x0, torch.full((count,), t), torch.zeros(count, dtype=torch.long), epsilon


@pytest.mark.parametrize("progress", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("t", [40, 150, 220, 280])
def test_the_loss_of_the_exact_consistency_function_is_that_of_one_pair(
    t: int, progress: float
) -> None:
    objective = ConsistencyLoss(gaussian("posterior mean"), NO_GUIDANCE)
    x0, times, labels, epsilon = batch(t, 400)
    got = objective(gaussian("end of trajectory"), x0, times, labels, epsilon, progress).mean()
    r = int(objective.earlier(times[:1], progress))
    slope_t, slope_r = (
        STD / math.hypot(STD, level)
        for level in (float(LEVEL[t]), float(LEVEL[r]) if r >= 0 else 0)
    )
    noise_t, noise_r = slope_t * float(LEVEL[t]), slope_r * (float(LEVEL[r]) if r >= 0 else 0)
    _, sigma = SCHEDULE.alpha_sigma(t)
    # The true image of the pair is not what the flow moves along, which is its mean.
    expected = ((slope_t - slope_r) ** 2 * STD**2 + (noise_t - noise_r) ** 2) / sigma**2
    assert float(got) == pytest.approx(expected, rel=0.05)


def test_the_exact_consistency_function_is_a_stationary_point_of_small_gaps() -> None:
    """Scaling it by 1 + h changes the loss by terms of order h^2 only, up to the gap."""
    objective = ConsistencyLoss(gaussian("posterior mean"), NO_GUIDANCE)
    x0, times, labels, epsilon = batch(150, 4000)
    exact = gaussian("end of trajectory")
    r = objective.earlier(times, 1.0)
    assert 0 <= int(r[0]) < 150
    with torch.no_grad():
        x_t, x_r = (SCHEDULE.add_noise(x0, at, epsilon) for at in (times, r))
        end_t, end_r = (
            exact.estimate(x, at, exact.network(x, at, labels)).x0
            for x, at in ((x_t, times), (x_r, r))
        )
    slope = ((end_t - end_r) * end_t).mean() / end_t.square().mean()
    assert abs(float(slope)) < 0.03


@pytest.mark.parametrize("prediction_type", ["v_prediction", "epsilon", "flow"])
def test_a_clean_target_makes_it_the_loss_of_diffusion(prediction_type: PredictionType) -> None:
    """The boundary condition: at noise level 0 the end of the trajectory is the point itself."""
    denoiser = tiny.denoiser(ScheduleConfig("cosine", 300), prediction_type)
    objective = ConsistencyLoss(denoiser, NO_GUIDANCE)
    x0, times, labels, epsilon = batch(100, 6)
    assert bool((objective.earlier(times, 0.0) == -1).all())
    x0 = x0.clamp(-1, 1)
    got = objective(denoiser, x0, times, labels, epsilon, 0.0)
    alpha, sigma = (float(part) for part in SCHEDULE.alpha_sigma(100))
    a, b = {"v_prediction": (-sigma, alpha), "epsilon": (0.0, 1.0), "flow": (-1.0, 1.0)}[
        prediction_type
    ]
    # An error of the prediction is one of x_0, times sigma / (alpha b - sigma a).
    expected = (
        diffusion_loss(denoiser, x0, times, labels, epsilon, 0.0) / (alpha * b - sigma * a) ** 2
    )
    torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-6)


def test_guidance_shifts_the_image_by_what_the_teacher_says() -> None:
    teacher = gaussian("posterior mean")
    guided = SamplingSettings(guidance_scale=1.5, guidance_interval=(90, 110))
    x0, times, labels, epsilon = batch(100, 50)
    x0 = x0 + MEANS[0]
    student = gaussian("end of trajectory")
    got = ConsistencyLoss(teacher, guided)(student, x0, times, labels, epsilon, 0.0)
    level, (_, sigma) = float(LEVEL[100]), SCHEDULE.alpha_sigma(100)
    shift = 0.5 * float(MEANS[0] - MEANS[2]) * level**2 / (STD**2 + level**2)
    x_t = SCHEDULE.add_noise(x0, times, epsilon)
    end = student.estimate(x_t, times, student.network(x_t, times, labels)).x0
    expected = ((end - x0 - shift) / sigma).square().mean(dim=(1, 2, 3))
    torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-6)
    outside = SamplingSettings(guidance_scale=1.5, guidance_interval=(0, 90))
    plain = ConsistencyLoss(teacher, NO_GUIDANCE)(student, x0, times, labels, epsilon, 0.0)
    assert torch.equal(
        ConsistencyLoss(teacher, outside)(student, x0, times, labels, epsilon, 0.0), plain
    )
    assert not torch.allclose(got, plain)


def test_the_gap_shrinks_and_the_earlier_timestep_is_earlier() -> None:
    objective = ConsistencyLoss(tiny.denoiser(ScheduleConfig("cosine", 300)), NO_GUIDANCE)
    times = torch.arange(300)
    before = torch.full((300,), -1)
    for progress in (0.0, 0.25, 0.5, 0.75, 1.0):
        earlier = objective.earlier(times, progress)
        assert bool((earlier < times).all())
        assert bool((earlier >= before).all())
        before = earlier
    assert bool((objective.earlier(times, 0.0)[:150] == -1).all())
    ratio = float(LEVEL[before[250]] / LEVEL[250])
    assert ratio == pytest.approx(1 - (1 + 8 / (1 + math.exp(float(LEVEL[250])))) / 64, abs=0.02)


def test_only_the_student_learns() -> None:
    student, teacher = (
        tiny.denoiser(ScheduleConfig("cosine", 300)),
        tiny.denoiser(ScheduleConfig("cosine", 300)),
    )
    student.requires_grad_(True)
    teacher.requires_grad_(True)
    objective = ConsistencyLoss(teacher, SamplingSettings(guidance_scale=2.0))
    x0, times, labels, epsilon = batch(200, 4)
    objective(student, x0, times, labels, epsilon, 1.0).sum().backward()
    assert all(param.grad is None for param in teacher.parameters())
    assert any(bool(param.grad.any()) for param in student.parameters() if param.grad is not None)
