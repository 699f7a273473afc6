import math
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn

from diffcli.core.denoiser import PREDICTION_TYPES, Denoiser, Mixture
from diffcli.core.parameters import PredictionType, ScheduleConfig
from diffcli.core.schedule import NoiseSchedule
from diffcli.core.unet import ConditionalUNet
from tests import tiny

SCHEDULES = [
    ScheduleConfig("linear", 20),
    tiny.COSINE,
    ScheduleConfig("rectified-flow", 20),
]
KINDS: list[PredictionType] = ["epsilon", "x0", "v_prediction", "flow"]
# At the last timestep of a cosine or rectified-flow schedule next to nothing is left of the image.
TIMESTEPS = [0, 9, 17]

schedules = pytest.mark.parametrize("config", SCHEDULES, ids=lambda config: config.name)
kinds = pytest.mark.parametrize("kind", KINDS)


def noisy(count: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(count)
    return torch.randn(count, 1, 8, 8, generator=generator), torch.arange(count) % 3


class Oracle(ConditionalUNet):
    """A network that always predicts what it was given."""

    def __init__(self, prediction: Tensor) -> None:
        super().__init__(tiny.config())
        self.prediction = prediction

    def forward(
        self, x_t: Tensor, t: Tensor, labels: Tensor, augmentation: Tensor | None = None
    ) -> Tensor:
        return self.prediction


def test_the_table_has_every_prediction_type() -> None:
    assert set(KINDS) == set(PREDICTION_TYPES) == set(get_args(PredictionType))


def test_unknown_prediction_types_are_refused() -> None:
    unknown: Any = "epsilom"
    with pytest.raises(ValueError, match="unknown prediction type 'epsilom'"):
        Denoiser(tiny.network(), NoiseSchedule.from_config(ScheduleConfig()), unknown)


@schedules
@pytest.mark.parametrize(
    ("kind", "a", "b"),
    [
        ("epsilon", lambda alpha, sigma: 0, lambda alpha, sigma: 1),
        ("x0", lambda alpha, sigma: 1, lambda alpha, sigma: 0),
        ("v_prediction", lambda alpha, sigma: -sigma, lambda alpha, sigma: alpha),
        ("flow", lambda alpha, sigma: -1, lambda alpha, sigma: 1),
    ],
)
def test_targets(config: ScheduleConfig, kind: PredictionType, a: Any, b: Any) -> None:
    schedule = NoiseSchedule.from_config(config)
    x0, epsilon, t = noisy()[0].tanh(), noisy()[0].flip(0), torch.tensor(TIMESTEPS)
    target = Denoiser(tiny.network(), schedule, kind).target(x0, t, epsilon)
    for index, step in enumerate(TIMESTEPS):
        alpha, sigma = schedule.alpha_sigma(step)
        expected = a(alpha, sigma) * x0[index] + b(alpha, sigma) * epsilon[index]
        assert torch.allclose(target[index], expected, atol=1e-6)


@schedules
@kinds
@pytest.mark.parametrize("t", TIMESTEPS)
def test_the_right_prediction_gives_back_the_image_and_the_noise(
    config: ScheduleConfig, kind: PredictionType, t: int
) -> None:
    schedule = NoiseSchedule.from_config(config)
    x0, labels = noisy()
    x0, epsilon = x0.tanh(), noisy(4)[0][:3]
    x_t = schedule.add_noise(x0, t, epsilon)
    target = Denoiser(tiny.network(), schedule, kind).target(x0, torch.tensor([t] * 3), epsilon)
    denoiser = Denoiser(Oracle(target), schedule, kind)
    alpha, sigma = schedule.alpha_sigma(t)
    for estimate in (denoiser(x_t, t, labels), denoiser.clipped(x_t, t, labels)):
        assert torch.allclose(estimate.x0, x0, atol=2e-6 / alpha)
        assert torch.allclose(estimate.epsilon, epsilon, atol=4e-6 / (alpha * sigma))


@schedules
@kinds
@pytest.mark.parametrize("scale", [0.0, 0.5, 1.0, 3.0])
def test_estimates_add_up_to_the_noisy_image(
    config: ScheduleConfig, kind: PredictionType, scale: float
) -> None:
    denoiser = tiny.denoiser(config, kind)
    x_t, labels = noisy()
    for t in TIMESTEPS:
        for estimate in (denoiser(x_t, t, labels, scale), denoiser.clipped(x_t, t, labels, scale)):
            again = denoiser.schedule.add_noise(estimate.x0, t, estimate.epsilon)
            assert torch.allclose(again, x_t, atol=1e-4)


def test_clipping_changes_only_images_outside_the_range() -> None:
    schedule = NoiseSchedule.from_config(SCHEDULES[0])
    x_t, labels = noisy(2)
    x0 = torch.full_like(x_t, 0.25)
    x0[0] = 7.0
    clipped = Denoiser(Oracle(x0), schedule, "x0").clipped(x_t, 9, labels)
    assert torch.equal(clipped.x0[0], torch.ones(1, 8, 8))
    assert torch.equal(clipped.x0[1], x0[1])
    alpha, sigma = schedule.alpha_sigma(9)
    assert torch.allclose(clipped.epsilon[0], (x_t[0] - alpha) / sigma, rtol=1e-4, atol=1e-4)


@kinds
def test_guidance_one_is_plain_conditional_bit_for_bit(kind: PredictionType) -> None:
    denoiser = tiny.denoiser(tiny.COSINE, kind)
    x_t, labels = noisy()
    prediction = denoiser.network(x_t, torch.tensor([9]), labels)
    plain = Denoiser(Oracle(prediction), denoiser.schedule, kind)
    for guided in (denoiser(x_t, 9, labels), denoiser(x_t, 9, labels, 1.0)):
        assert torch.equal(guided.x0, plain(x_t, 9, labels).x0)
        assert torch.equal(guided.epsilon, plain(x_t, 9, labels).epsilon)


@kinds
def test_guidance_zero_is_unconditional_bit_for_bit(kind: PredictionType) -> None:
    denoiser = tiny.denoiser(tiny.COSINE, kind)
    x_t, labels = noisy()
    none = torch.full_like(labels, denoiser.network.no_label)
    guided, expected = denoiser(x_t, 9, labels, 0.0), denoiser(x_t, 9, none)
    assert torch.equal(guided.x0, expected.x0)
    assert torch.equal(guided.epsilon, expected.epsilon)


def test_a_mixture_without_guidance_is_one_evaluation() -> None:
    denoiser = tiny.denoiser()
    x_t, labels = noisy()
    evaluations = []
    denoiser.network.register_forward_hook(lambda *_: evaluations.append(1))
    mixture = Mixture(torch.stack([labels, labels], 1), torch.ones(len(labels), 2))
    mixed = denoiser(x_t, 9, mixture, 0.0)
    assert len(evaluations) == 1
    assert torch.equal(mixed.x0, denoiser(x_t, 9, labels, 0.0).x0)


@pytest.mark.parametrize("scale", [-1.0, 0.3, 0.999, 1.001, 2.0, 7.5])
def test_guidance_is_linear_in_the_scale(scale: float) -> None:
    denoiser = tiny.denoiser()
    x_t, labels = noisy()
    with_label, without = denoiser(x_t, 9, labels, 1.0), denoiser(x_t, 9, labels, 0.0)
    assert (with_label.x0 - without.x0).abs().max() > 1e-3
    guided = denoiser(x_t, 9, labels, scale)
    for got, one, zero in zip(guided, with_label, without, strict=True):
        assert torch.allclose(got, zero + scale * (one - zero), atol=1e-5)


@kinds
@pytest.mark.parametrize("scale", [0.0, 1.0, 2.5])
def test_a_mixture_of_one_label_is_that_label(kind: PredictionType, scale: float) -> None:
    denoiser = tiny.denoiser(tiny.COSINE, kind)
    x_t, labels = noisy()
    mixture = Mixture(labels[:, None], torch.ones(3, 1))
    for mixed, plain in zip(
        denoiser(x_t, 9, mixture, scale), denoiser(x_t, 9, labels, scale), strict=True
    ):
        assert torch.allclose(mixed, plain, atol=1e-5)


@pytest.mark.parametrize("scale", [1.0, 2.0])
@pytest.mark.parametrize("weights", [(0.5, 0.5), (0.9, 0.1), (1.0, -1.0), (0.0, 1.0)])
def test_a_mixture_adds_what_its_labels_change(scale: float, weights: tuple[float, float]) -> None:
    denoiser = tiny.denoiser()
    x_t, _ = noisy()
    mixture = Mixture(torch.tensor([[0, 2]] * 3), torch.tensor([weights] * 3))
    none, first, last = (
        denoiser(x_t, 9, torch.full((3,), label)) for label in (denoiser.network.no_label, 0, 2)
    )
    for mixed, without, a, b in zip(
        denoiser(x_t, 9, mixture, scale), none, first, last, strict=True
    ):
        expected = without + scale * (weights[0] * (a - without) + weights[1] * (b - without))
        assert torch.allclose(mixed, expected, atol=1e-5)


def test_each_image_has_a_mixture_of_its_own() -> None:
    denoiser = tiny.denoiser()
    x_t, _ = noisy()
    numbers = torch.tensor([[0, 1], [1, 2], [2, 0]])
    weights = torch.tensor([[0.5, 0.5], [1.0, -1.0], [0.2, 0.7]])
    together = denoiser(x_t, 9, Mixture(numbers, weights), 1.5).x0
    for index in range(3):
        part = slice(index, index + 1)
        alone = denoiser(x_t[part], 9, Mixture(numbers[part], weights[part]), 1.5).x0
        assert torch.allclose(together[part], alone, atol=1e-5)


@pytest.mark.parametrize("mixed", [False, True])
def test_each_image_has_a_timestep_and_a_scale_of_its_own(mixed: bool) -> None:
    denoiser = tiny.denoiser()
    x_t, numbers = noisy()
    t, scales = torch.tensor([3, 9, 17]), torch.tensor([0.0, 1.0, 2.5])
    labels: list[Tensor | Mixture] = [numbers[index : index + 1] for index in range(3)]
    whole: Tensor | Mixture = numbers
    if mixed:
        whole = Mixture(torch.tensor([[0, 2], [1, 0], [2, 1]]), torch.tensor([[0.7, 0.3]] * 3))
        labels = [Mixture(*(part[index : index + 1] for part in whole)) for index in range(3)]
    together = denoiser(x_t, t, whole, scales)
    for index, label in enumerate(labels):
        alone = denoiser(x_t[index : index + 1], int(t[index]), label, float(scales[index]))
        for got, expected in zip(together, alone, strict=True):
            assert torch.allclose(got[index : index + 1], expected, atol=1e-5)


@pytest.mark.parametrize(("scale", "cost"), [(1.0, [3]), (0.0, [3]), (2.0, [6])])
def test_both_branches_are_one_batch_and_only_if_needed(scale: float, cost: list[int]) -> None:
    denoiser = tiny.denoiser()
    batches = []

    def count(network: nn.Module, arguments: tuple[Tensor, ...], prediction: Tensor) -> None:
        batches.append(len(arguments[0]))

    denoiser.network.register_forward_hook(count)
    x_t, labels = noisy()
    denoiser(x_t, 5, labels, scale)
    assert batches == cost


@kinds
def test_the_loss_is_the_mean_squared_error_of_each_image(kind: PredictionType) -> None:
    denoiser = tiny.denoiser(tiny.COSINE, kind)
    x0, labels = noisy()
    x0, epsilon, t = x0.tanh(), noisy(4)[0][:3], torch.tensor(TIMESTEPS)
    losses = denoiser.loss(x0, t, labels, epsilon)
    for i in range(3):
        x_t = denoiser.schedule.add_noise(x0[i : i + 1], TIMESTEPS[i], epsilon[i : i + 1])
        prediction = denoiser.network(x_t, t[i : i + 1], labels[i : i + 1])
        target = denoiser.target(x0[i : i + 1], t[i : i + 1], epsilon[i : i + 1])
        assert float(losses[i]) == pytest.approx(
            float(((prediction - target) ** 2).mean()), rel=1e-5
        )


def test_v_is_the_noise_at_the_start_and_the_negative_image_at_the_end() -> None:
    schedule = NoiseSchedule.from_config(ScheduleConfig("cosine", 1000))
    denoiser = Denoiser(tiny.network(), schedule, "v_prediction")
    x0, epsilon = torch.full((2, 1, 8, 8), 0.4), torch.full((2, 1, 8, 8), -1.5)
    target = denoiser.target(x0, torch.tensor([0, 999]), epsilon)
    assert torch.allclose(target[0], epsilon[0], atol=0.02)
    assert torch.allclose(target[1], -x0[1], atol=0.02)
    assert math.isclose(float(target[0].mean()), -1.5, abs_tol=0.02)
