import math

import pytest
import torch
from torch import Tensor, nn

from diffcli.core.denoiser import Denoiser, Estimate, PredictionType
from diffcli.core.schedule import NoiseSchedule, ScheduleConfig
from diffcli.core.unet import ConditionalUNet
from tests import tiny

LINEAR = ScheduleConfig("linear", 20)
KINDS: list[tuple[ScheduleConfig, PredictionType]] = [
    (LINEAR, "epsilon"),
    (LINEAR, "v_prediction"),
    (tiny.COSINE, "v_prediction"),
]


def noisy(count: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(count)
    return (
        torch.randn(count, 1, 8, 8, generator=generator),
        torch.arange(count) * 9 % 20,
        torch.arange(count) % 3,
    )


class Oracle(ConditionalUNet):
    """A network that always answers what it was given."""

    def __init__(self, answer: Tensor) -> None:
        super().__init__(tiny.config())
        self.answer = answer

    def forward(self, x_t: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        return self.answer


@pytest.mark.parametrize(("config", "kind"), KINDS)
def test_the_right_answer_gives_back_the_image_and_the_noise(
    config: ScheduleConfig, kind: PredictionType
) -> None:
    schedule = NoiseSchedule.from_config(config)
    x0, t, labels = noisy()
    x0 = x0.tanh()
    x_t, epsilon = schedule.add_noise(x0, t, torch.randn_like(x0))
    target = Denoiser(tiny.network(), schedule, kind).target(x0, epsilon, t)
    estimate = Denoiser(Oracle(target), schedule, kind)(x_t, t, labels)
    assert torch.allclose(estimate.x0, x0, atol=1e-5)
    assert torch.allclose(estimate.epsilon, epsilon, atol=1e-5)
    clipped = estimate.clipped(schedule, x_t, t)
    assert torch.allclose(clipped.x0, x0, atol=1e-5)
    assert torch.allclose(clipped.epsilon, epsilon, atol=1e-4)


@pytest.mark.parametrize(("config", "kind"), KINDS)
@pytest.mark.parametrize("scale", [0.0, 0.5, 1.0, 3.0])
def test_estimates_add_up_to_the_noisy_image(
    config: ScheduleConfig, kind: PredictionType, scale: float
) -> None:
    denoiser = tiny.denoiser(config, kind)
    x_t, t, labels = noisy()
    estimate = denoiser(x_t, t, labels, scale)
    for made in (estimate, estimate.clipped(denoiser.schedule, x_t, t)):
        again, _ = denoiser.schedule.add_noise(made.x0, t, made.epsilon)
        assert torch.allclose(again, x_t, atol=1e-4)


def test_clipping_keeps_images_in_their_range_and_touches_no_others() -> None:
    schedule = NoiseSchedule.from_config(LINEAR)
    x_t, t, _ = noisy(2)
    x0 = torch.full_like(x_t, 0.25)
    x0[0] = 7.0
    clipped = Estimate(x0, torch.zeros_like(x_t)).clipped(schedule, x_t, t)
    assert torch.equal(clipped.x0[0], torch.ones(1, 8, 8))
    assert torch.equal(clipped.x0[1], x0[1])
    signal, noise = schedule.amplitudes(int(t[0]))
    assert torch.allclose(clipped.epsilon[0], (x_t[0] - signal) / noise, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("config", "kind"), KINDS)
def test_guidance_one_is_plain_conditional_bit_for_bit(
    config: ScheduleConfig, kind: PredictionType
) -> None:
    denoiser = tiny.denoiser(config, kind)
    x_t, t, labels = noisy()
    plain = Denoiser(Oracle(denoiser.network(x_t, t, labels)), denoiser.schedule, kind)
    for guided in (denoiser(x_t, t, labels), denoiser(x_t, t, labels, 1.0)):
        assert torch.equal(guided.x0, plain(x_t, t, labels).x0)
        assert torch.equal(guided.epsilon, plain(x_t, t, labels).epsilon)


@pytest.mark.parametrize(("config", "kind"), KINDS)
def test_guidance_zero_is_unconditional_bit_for_bit(
    config: ScheduleConfig, kind: PredictionType
) -> None:
    denoiser = tiny.denoiser(config, kind)
    x_t, t, labels = noisy()
    none = torch.full_like(labels, denoiser.network.no_label)
    guided, expected = denoiser(x_t, t, labels, 0.0), denoiser(x_t, t, none)
    assert torch.equal(guided.x0, expected.x0)
    assert torch.equal(guided.epsilon, expected.epsilon)


@pytest.mark.parametrize("scale", [-1.0, 0.3, 0.999, 1.001, 2.0, 7.5])
def test_guidance_runs_along_the_line_through_both(scale: float) -> None:
    denoiser = tiny.denoiser()
    x_t, t, labels = noisy()
    with_label, without = denoiser(x_t, t, labels, 1.0), denoiser(x_t, t, labels, 0.0)
    assert (with_label.x0 - without.x0).abs().max() > 1e-3
    guided = denoiser(x_t, t, labels, scale)
    for got, one, zero in zip(guided, with_label, without, strict=True):
        assert torch.allclose(got, zero + scale * (one - zero), atol=1e-5)


@pytest.mark.parametrize("shape", [(3,), (1,)])
@pytest.mark.parametrize(("scale", "cost"), [(1.0, [3]), (0.0, [3]), (2.0, [6])])
def test_both_branches_are_one_batch_and_only_where_needed(
    scale: float, cost: list[int], shape: tuple[int]
) -> None:
    denoiser = tiny.denoiser()
    batches = []

    def count(network: nn.Module, arguments: tuple[Tensor, ...], answer: Tensor) -> None:
        batches.append(len(arguments[0]))

    denoiser.network.register_forward_hook(count)
    x_t, _, labels = noisy()
    denoiser(x_t, torch.full(shape, 5), labels, scale)
    assert batches == cost


def test_targets_have_unit_scale_at_both_ends() -> None:
    """v is the noise where there is none, and the negative image where there is nothing else."""
    schedule = NoiseSchedule.from_config(ScheduleConfig("cosine", 1000))
    denoiser = Denoiser(tiny.network(), schedule, "v_prediction")
    x0, epsilon = torch.full((2, 1, 8, 8), 0.4), torch.full((2, 1, 8, 8), -1.5)
    target = denoiser.target(x0, epsilon, torch.tensor([0, 999]))
    assert torch.allclose(target[0], epsilon[0], atol=0.02)
    assert torch.allclose(target[1], -x0[1], atol=0.02)
    assert math.isclose(float(target[0].mean()), -1.5, abs_tol=0.02)
