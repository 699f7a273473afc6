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
from diffcli.training.objectives import ConsistencyLoss
from tests import tiny

SCHEDULE = NoiseSchedule.from_config(ScheduleConfig("cosine", 300))
LEVEL = SCHEDULE.sigma / SCHEDULE.alpha
STD = 0.1
MEANS = torch.tensor([0.0, 0.3, -0.05])
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


def pair(t: int) -> tuple[int, float, float, float]:
    """The earlier timestep, and the noise levels and the teacher's gain of a pair."""
    objective = ConsistencyLoss(gaussian("posterior mean"), NO_GUIDANCE)
    r = int(objective.earlier(torch.tensor([t])))
    level_t, level_r = float(LEVEL[t]), float(LEVEL[r]) if r >= 0 else 0.0
    return r, level_t, level_r, STD**2 / (STD**2 + level_t**2)


def slope(level: float) -> float:
    """Of the exact consistency function, in units of x_t / alpha_t."""
    return STD / math.hypot(STD, level)


@pytest.mark.parametrize("t", [30, 150, 220, 280])
def test_the_loss_of_the_exact_consistency_function_is_the_error_of_a_step(t: int) -> None:
    """Both maps are linear: what is left is how far a DDIM step is from the flow."""
    objective = ConsistencyLoss(gaussian("posterior mean"), NO_GUIDANCE)
    x0, times, labels, epsilon = batch(t, 400)
    got = objective(gaussian("end of trajectory"), x0, times, labels, epsilon).mean()
    _, level_t, level_r, gain = pair(t)
    stepped = 1 + (level_r / level_t - 1) * (1 - gain)
    error = slope(level_t) - slope(level_r) * stepped
    _, sigma = SCHEDULE.alpha_sigma(t)
    expected = error**2 * (STD**2 + level_t**2) / sigma**2
    assert float(got) == pytest.approx(expected, rel=0.05)
    # Any other slope has a larger loss than this error, which is small.
    assert expected < 0.05 * (slope(level_t) ** 2) * (STD**2 + level_t**2) / sigma**2


def test_guidance_shifts_the_step_by_what_the_teacher_says() -> None:
    teacher = gaussian("posterior mean")
    guided = SamplingSettings(guidance_scale=1.5, guidance_interval=(140, 160))
    t = 150
    x0, times, _, epsilon = batch(t, 50)
    labels = torch.ones(50, dtype=torch.long)
    x0 = x0 + MEANS[1]
    student = gaussian("end of trajectory")
    got = ConsistencyLoss(teacher, guided)(student, x0, times, labels, epsilon)
    _, level_t, level_r, gain = pair(t)
    x = SCHEDULE.add_noise(x0, times, epsilon) / SCHEDULE.alpha_sigma(t)[0]
    conditional, unconditional = (mean + gain * (x - mean) for mean in (MEANS[1], MEANS[2]))
    image = unconditional + 1.5 * (conditional - unconditional)
    stepped = x + (level_r / level_t - 1) * (x - image)
    error = slope(level_t) * x - slope(level_r) * stepped
    expected = (error / SCHEDULE.alpha_sigma(t)[1]).square().mean(dim=(1, 2, 3))
    torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-6)
    outside = SamplingSettings(guidance_scale=1.5, guidance_interval=(0, 90))
    plain = ConsistencyLoss(teacher, NO_GUIDANCE)(student, x0, times, labels, epsilon)
    torch.testing.assert_close(
        ConsistencyLoss(teacher, outside)(student, x0, times, labels, epsilon), plain
    )
    assert not torch.allclose(got, plain)


@pytest.mark.parametrize("prediction_type", ["v_prediction", "epsilon", "flow"])
def test_the_boundary_condition_holds_for_every_network(prediction_type: PredictionType) -> None:
    """At the lowest noise level the end of the trajectory is the point itself, to that level."""
    denoiser = tiny.denoiser(ScheduleConfig("cosine", 300), prediction_type)
    x0, times, labels, epsilon = batch(0, 6)
    x_t = SCHEDULE.add_noise(x0, times, epsilon)
    prediction = denoiser.network(x_t, times, labels)
    end = denoiser.estimate(x_t, times, prediction).x0
    bound = float(LEVEL[0]) * (float(prediction.abs().max()) + float(x_t.abs().max()))
    assert float((end - x_t).abs().max()) < 2 * bound < 0.2


def test_from_the_lowest_level_a_student_that_is_its_teacher_has_no_loss() -> None:
    denoiser = tiny.denoiser(ScheduleConfig("cosine", 300))
    objective = ConsistencyLoss(denoiser, NO_GUIDANCE)
    x0, times, labels, epsilon = batch(0, 6)
    assert objective.earlier(times).tolist() == [-1] * 6
    assert float(objective(denoiser, x0, times, labels, epsilon).max()) < 1e-9


def test_the_target_has_three_fifths_of_the_noise() -> None:
    objective = ConsistencyLoss(tiny.denoiser(ScheduleConfig("cosine", 300)), NO_GUIDANCE)
    times = torch.arange(300)
    earlier = objective.earlier(times)
    assert bool((earlier < times).all())
    assert bool((earlier.diff() >= 0).all())
    ratios = LEVEL[earlier[50:290]] / LEVEL[50:290]
    assert float(ratios.max()) <= 0.6 + 1e-6
    assert float(ratios.min()) > 0.5


def test_only_the_student_learns() -> None:
    student, teacher = (
        tiny.denoiser(ScheduleConfig("cosine", 300)),
        tiny.denoiser(ScheduleConfig("cosine", 300)),
    )
    student.requires_grad_(True)
    teacher.requires_grad_(True)
    objective = ConsistencyLoss(teacher, SamplingSettings(guidance_scale=2.0))
    x0, times, labels, epsilon = batch(200, 4)
    objective(student, x0, times, labels, epsilon).sum().backward()
    assert all(param.grad is None for param in teacher.parameters())
    assert any(bool(param.grad.any()) for param in student.parameters() if param.grad is not None)


def test_the_target_is_a_constant() -> None:
    """The gradient is that of the distance to a target that does not move."""
    student, teacher = (tiny.denoiser(ScheduleConfig("cosine", 300)) for _ in range(2))
    student.requires_grad_(True)
    x0, times, labels, epsilon = batch(150, 4)
    objective = ConsistencyLoss(teacher, NO_GUIDANCE)
    objective(student, x0, times, labels, epsilon).sum().backward()
    got = [param.grad for param in student.parameters()]

    still = tiny.denoiser(ScheduleConfig("cosine", 300))
    still.load_state_dict(student.state_dict())
    alpha, sigma = SCHEDULE.alpha_sigma(times)
    r = objective.earlier(times)
    assert int(r.min()) >= 0
    with torch.no_grad():
        x_t = SCHEDULE.add_noise(x0, times, epsilon)
        image = teacher.estimate(x_t, times, teacher.network(x_t, times, labels)).x0.clamp(-1, 1)
        x_r = SCHEDULE.add_noise(image, r, (x_t - alpha * image) / sigma)
        target = still.estimate(x_r, r, still.network(x_r, r, labels)).x0.clamp(-1, 1)
    student.zero_grad()
    end = student.estimate(x_t, times, student.network(x_t, times, labels)).x0
    ((end - target) / sigma).square().mean(dim=(1, 2, 3)).sum().backward()
    for before, param in zip(got, student.parameters(), strict=True):
        assert (before is None) == (param.grad is None)
        if before is not None and param.grad is not None:
            torch.testing.assert_close(before, param.grad, rtol=1e-3, atol=1e-5)
