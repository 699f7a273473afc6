"""Distribution matching against closed forms: all models are exact ones of normal images."""

from collections.abc import Callable
from typing import cast

import pytest
import torch
from torch import Tensor, nn

from diffcli.core.denoiser import Denoiser
from diffcli.core.parameters import SamplingSettings, ScheduleConfig
from diffcli.core.schedule import NoiseSchedule, step_plan
from diffcli.training.objectives import Batch, DiffusionLoss, DistributionMatching, estimate_x0
from tests import tiny
from tests.core.gaussian import Normal, denoiser_with

SCHEDULE = NoiseSchedule.from_config(ScheduleConfig("cosine", 300))
STD = 0.1
MEANS = torch.tensor([-0.1, 0.3, -0.05]).view(3, 1, 1, 1)
"""Of the pixels of two classes, and of all: the last label means "no label"."""
PLAIN = SamplingSettings()
CRITIC_STEP, STUDENT_STEP = 0, 4
COUNT = 32


def normal(means: Tensor = MEANS, std: float = STD) -> Normal:
    return Normal(SCHEDULE, means, std)


class Affine(nn.Module):
    """A student whose images are normal: noise times a scale plus an offset per class."""

    no_label = 2

    def __init__(self, scale: float = STD, offsets: Tensor = MEANS) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(scale))
        self.offsets = nn.Parameter(offsets.clone())

    def forward(
        self, x_t: Tensor, t: Tensor, labels: Tensor, augmentation: Tensor | None = None
    ) -> Tensor:
        return self.scale * x_t + self.offsets[labels]


def model(network: nn.Module) -> Denoiser:
    return denoiser_with(network, SCHEDULE)


def objective(
    critic: nn.Module | None = None, guidance: SamplingSettings = PLAIN, steps: int = 1
) -> DistributionMatching:
    return DistributionMatching(model(normal()), model(critic or normal()), guidance, steps)


def noises(seed: int = 0) -> Callable[[], Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return lambda: torch.randn(COUNT, 1, 8, 8, generator=generator)


X0 = STD * noises(9)()
LABELS = torch.arange(COUNT) % 2
DRAWN = torch.arange(COUNT) * 8 + 20
"""Even timesteps: with one step, the images of a whole batch are drawn from noise."""


def batch(t: Tensor = DRAWN, draw_noise: Callable[[], Tensor] | None = None) -> Batch:
    return Batch(X0, t, LABELS, None, draw_noise or noises())


def losses(
    matching: DistributionMatching, student: nn.Module, step: int = STUDENT_STEP, t: Tensor = DRAWN
) -> Tensor:
    return matching(model(student), batch(t), step)


def expected(real: nn.Module, critic: nn.Module, scale: float = 1.0) -> Tensor:
    """The student's losses by hand, with guidance at all timesteps."""
    draw = noises()
    z, _ = draw(), draw()
    images = Affine()(z, DRAWN, LABELS)
    x_t = SCHEDULE.add_noise(images, DRAWN, draw())
    conditional, unconditional = (
        real(x_t, DRAWN, labels) for labels in (LABELS, torch.full_like(LABELS, 2))
    )
    teachers = unconditional + scale * (conditional - unconditional)
    fake = critic(x_t, DRAWN, LABELS)
    error = (images - teachers).abs().mean((1, 2, 3), keepdim=True)
    return ((fake - teachers) / error).square().mean((1, 2, 3)) / 2


def test_a_student_that_draws_as_its_teacher_does_has_nothing_to_learn() -> None:
    student = Affine()
    loss = losses(objective(), student).sum()
    loss.backward()
    assert float(loss.detach()) < 1e-9
    assert student.scale.grad is not None
    assert float(student.scale.grad.abs()) < 1e-5


@pytest.mark.parametrize("critic", [normal(MEANS + 0.2), normal(std=2 * STD)])
def test_the_loss_is_the_distance_between_the_estimates(critic: Normal) -> None:
    torch.testing.assert_close(
        losses(objective(critic), Affine()), expected(normal(), critic), rtol=1e-3, atol=1e-7
    )


def test_the_teacher_is_guided_where_the_settings_say_so() -> None:
    critic = normal(std=2 * STD)
    guided = losses(objective(critic, SamplingSettings(guidance_scale=1.5)), Affine())
    torch.testing.assert_close(guided, expected(normal(), critic, 1.5), rtol=1e-3, atol=1e-7)
    plain = losses(objective(critic), Affine())
    some = SamplingSettings(guidance_scale=1.5, guidance_interval=(100, 150))
    mixed = losses(objective(critic, some), Affine())
    within = (DRAWN >= 100) & (DRAWN <= 150)
    torch.testing.assert_close(mixed, guided.where(within, plain))
    assert not torch.allclose(guided, plain)


def test_where_hardly_any_noise_or_nothing_else_is_left_the_nearest_timestep_counts() -> None:
    """The outer 2 % of 300 timesteps are compared at 6 and at 293."""
    # A student that does not look at its input, which has the noise of t itself.
    student, matching = Affine(scale=0.0, offsets=-MEANS), objective(normal(std=2 * STD))
    first, sixth, seventh, before, end, last = (
        losses(matching, student, t=torch.full((COUNT,), t)) for t in (0, 6, 7, 292, 293, 299)
    )
    for outer, inner, next_one in ((first, sixth, seventh), (last, end, before)):
        torch.testing.assert_close(outer, inner, rtol=1e-3, atol=1e-9)
        assert not torch.allclose(next_one, inner, rtol=0.05)


def test_students_come_to_draw_as_their_teacher_does() -> None:
    """With a critic that knows the student exactly, and from another mean and spread."""
    student = Affine(scale=0.4, offsets=torch.tensor([0.3, -0.3, 0.0]).view(3, 1, 1, 1))
    optimizer = torch.optim.Adam(student.parameters(), 0.02)
    draw = noises(1)
    for step in range(400):
        for group in optimizer.param_groups:
            group["lr"] = 0.02 * (1 - step / 400)
        critic = normal(student.offsets.detach().clone(), abs(float(student.scale.detach())))
        some = batch(draw_noise=draw)
        objective(critic)(model(student), some, STUDENT_STEP).mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    assert abs(float(student.scale.detach())) == pytest.approx(STD, rel=0.1)
    torch.testing.assert_close(student.offsets[:2].detach(), MEANS[:2], rtol=0, atol=0.02)


def trained(step: int) -> dict[str, bool]:
    """Which models a step gives gradients."""
    models = {name: tiny.denoiser(tiny.COSINE) for name in ("student", "critic", "teacher")}
    for one in models.values():
        one.requires_grad_(True)
    matching = DistributionMatching(
        models["teacher"], models["critic"], SamplingSettings(guidance_scale=2.0), 2
    )
    t = torch.arange(COUNT) % 20
    matching(models["student"], batch(t), step).sum().backward()
    return {
        name: any(param.grad is not None and bool(param.grad.any()) for param in one.parameters())
        for name, one in models.items()
    }


@pytest.mark.parametrize("step", range(10))
def test_the_critic_learns_in_four_steps_of_five_and_then_the_student(step: int) -> None:
    learns = "student" if step % 5 == 4 else "critic"
    assert trained(step) == {name: name == learns for name in ("student", "critic", "teacher")}


def test_the_critic_learns_the_students_images() -> None:
    critic = normal(std=2 * STD)
    got = losses(objective(critic), Affine(), CRITIC_STEP)
    draw = noises()
    z, _ = draw(), draw()
    images = Affine()(z, DRAWN, LABELS)
    torch.testing.assert_close(got, model(critic).loss(images, DRAWN, LABELS, draw()))


class Recorder(nn.Module):
    """A network that records what it is given."""

    no_label = 2

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.given: list[tuple[Tensor, Tensor]] = []

    def forward(
        self, x_t: Tensor, t: Tensor, labels: Tensor, augmentation: Tensor | None = None
    ) -> Tensor:
        self.given.append((x_t, t))
        return cast("Tensor", self.network(x_t, t, labels))


@pytest.mark.parametrize("scale", [STD, 3.0], ids=["within", "out of range"])
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_the_student_is_trained_on_what_it_meets(steps: int, scale: float) -> None:
    plan = [t for t, _ in step_plan(300, steps)]
    t = torch.arange(COUNT) + 130
    recorder = Recorder(Affine(scale))
    objective(steps=steps)(model(recorder), batch(t), STUDENT_STEP)
    x, at = recorder.given[-1]
    kind = t % (steps + 1)
    for number in range(steps):
        assert at[kind == number].unique().tolist() == [plan[number]]
    assert torch.equal(at[kind == steps], t[kind == steps])

    draw = noises()
    z, noise = draw(), draw()
    torch.testing.assert_close(x[kind == 0], z[kind == 0])
    real = SCHEDULE.add_noise(X0, t, noise)
    torch.testing.assert_close(x[kind == steps], real[kind == steps])
    for number in range(1, steps):
        z = SCHEDULE.add_noise(Affine(scale)(z, t, LABELS).clamp(-1, 1), plan[number], draw())
        torch.testing.assert_close(x[kind == number], z[kind == number], rtol=1e-4, atol=1e-5)


def test_diffusion_has_the_loss_of_the_denoiser() -> None:
    denoiser = tiny.denoiser(ScheduleConfig("cosine", 300))
    expected_losses = denoiser.loss(X0, DRAWN, LABELS, noises()())
    got = DiffusionLoss()(denoiser, batch(), 7)
    assert torch.equal(got, expected_losses)
    assert DiffusionLoss().critic is None


def test_images_out_of_range_are_led_back_even_if_teacher_and_critic_agree() -> None:
    student = Affine(scale=3.0)
    got = losses(objective(), student)
    images = student(noises()(), DRAWN, LABELS).detach()
    excess = images - images.clamp(-1, 1)
    assert float(excess.abs().mean()) > 0.5
    torch.testing.assert_close(got.detach(), excess.square().mean((1, 2, 3)) / 2)


def test_estimates_out_of_range_are_clipped_before_they_are_compared() -> None:
    """Those of the student, its teacher and its critic, all of which are."""
    student, teacher, critic = Affine(scale=3.0), normal(MEANS + 1.2, 0.5), normal(MEANS - 1.2, 0.5)
    matching = DistributionMatching(model(teacher), model(critic), PLAIN, 1)
    got = losses(matching, student)
    draw = noises()
    z, _ = draw(), draw()
    images = student(z, DRAWN, LABELS).detach()
    drawn = images.clamp(-1, 1)
    x_t = SCHEDULE.add_noise(drawn, DRAWN, draw())
    real, fake = (network(x_t, DRAWN, LABELS) for network in (teacher, critic))
    assert min(float(part.abs().max()) for part in (images, real, fake)) > 1
    real, fake = real.clamp(-1, 1), fake.clamp(-1, 1)
    error = (drawn - real).abs().mean((1, 2, 3), keepdim=True)
    target = drawn - (fake - real) / error
    expected_losses = (images - target).square().mean((1, 2, 3)) / 2
    torch.testing.assert_close(got.detach(), expected_losses, rtol=1e-3, atol=1e-6)

    got = losses(matching, student, CRITIC_STEP)
    draw = noises()
    draw(), draw()
    torch.testing.assert_close(got, model(critic).loss(drawn, DRAWN, LABELS, draw()))


def test_images_that_are_the_teachers_exactly_leave_no_loss() -> None:
    same = [Affine(scale=0.0) for _ in range(3)]
    matching = DistributionMatching(model(same[0]), model(same[1]), PLAIN, 1)
    assert torch.equal(losses(matching, same[2]).detach(), torch.zeros(COUNT))


def test_estimates_are_not_in_bfloat16() -> None:
    denoiser = tiny.denoiser(ScheduleConfig("cosine", 300))
    plain = estimate_x0(denoiser, X0, DRAWN, LABELS)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(estimate_x0(denoiser, X0, DRAWN, LABELS), plain)
