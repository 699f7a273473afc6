from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from diffcli.core.denoiser import Denoiser
from diffcli.data.images import LabelledImages, to_model_range
from diffcli.training.config import RunConfig
from diffcli.training.distributed import Distributed
from diffcli.training.plan import Plan, count_flops, make_plan, measure_speed
from diffcli.training.recipe import RECIPES, RecipeName
from diffcli.training.setup import describe, make_trainer
from tests import tiny
from tests.training.pictures import tiny_digits

pytestmark = pytest.mark.long


def plan(recipe: RecipeName = "fast", batch_size: int = 8, **limits: Any) -> tuple[Plan, Denoiser]:
    chosen = replace(RECIPES[recipe], batch_size=batch_size)
    config = replace(RunConfig(recipe=chosen, max_steps=1), **limits)
    trial = make_trainer(config, tiny_digits(40), torch.device("cpu"), Distributed())
    return make_plan(trial), trial.denoiser


def test_processes_that_share_the_batches_share_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diffcli.training.plan.measure_speed", lambda _trial: 100.0)
    trials = [
        make_trainer(RunConfig(max_steps=50), tiny_digits(40), torch.device("cpu"), Distributed())
        for _ in range(2)
    ]
    alone, shared = make_plan(trials[0]), make_plan(trials[1], processes=2)
    assert (alone.images_per_second, shared.images_per_second) == (100, 200)
    assert shared.seconds == pytest.approx(alone.seconds / 2)


def test_of_a_run_that_goes_on_the_rest_is_expected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diffcli.training.plan.measure_speed", lambda _trial: 100.0)
    config = replace(RunConfig(), max_steps=50)
    trials = [
        make_trainer(config, tiny_digits(40), torch.device("cpu"), Distributed()) for _ in range(2)
    ]
    whole, rest = make_plan(trials[0]), make_plan(trials[1], progress=0.75)
    assert rest.seconds == pytest.approx(whole.seconds / 4)


def test_the_prior_kl_is_of_all_classes() -> None:
    images = torch.zeros(3000, 1, 8, 8, dtype=torch.uint8)
    images[1500:] = 128  # grey, of which hardly anything is left
    labels = (torch.arange(3000) >= 1500).long()
    data = LabelledImages(images, labels, ("black", "grey"))
    config = RunConfig(recipe=RECIPES["ddpm"], max_steps=1, architecture=tiny.config(classes=2))
    denoiser = describe(config, data).build()
    expected = denoiser.schedule.prior_kl(float(to_model_range(images).square().mean())) * 64
    trial = make_trainer(config, data, torch.device("cpu"), Distributed())
    assert make_plan(trial).prior_kl == pytest.approx(expected, rel=1e-6)


def test_operations_are_two_for_each_weight_at_each_position() -> None:
    denoiser = describe(RunConfig(max_steps=1), tiny_digits(10)).build()
    counted = []

    def count(layer: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(layer, nn.Conv2d | nn.Linear)
        counted.append(2 * layer.weight.numel() * output[0, 0].numel())

    for layer in denoiser.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(count)
    assert count_flops(denoiser) == sum(counted) > 1e6


def test_a_plan_is_of_the_model_and_of_the_data() -> None:
    got, denoiser = plan()
    assert got.parameters == sum(param.numel() for param in denoiser.network.parameters())
    assert got.flops_per_image == count_flops(denoiser)
    assert got.final_alphas_cumprod == float(denoiser.schedule.alphas_cumprod[-1])
    x0 = to_model_range(tiny_digits(40).images)
    a = denoiser.schedule.alphas_cumprod[-1].double()
    divergence = 0.5 * (a * x0.double().square() - a - torch.log1p(-a))
    assert got.prior_kl == pytest.approx(float(divergence.sum() / 40), rel=1e-3)


def test_a_run_ends_with_the_limit_that_comes_first() -> None:
    by_steps, _ = plan(max_steps=10, max_seconds=1e6)
    assert by_steps.images_per_second > 0
    assert by_steps.seconds == pytest.approx(80 / by_steps.images_per_second)
    by_epochs, _ = plan(max_steps=None, epochs=3)
    assert by_epochs.seconds == pytest.approx(120 / by_epochs.images_per_second)
    by_time, _ = plan(max_steps=10**9, max_seconds=7.0)
    assert by_time.seconds == 7.0


def test_only_a_schedule_that_leaves_signal_is_warned_of() -> None:
    classic, denoiser = plan("ddpm")
    left = float(denoiser.schedule.alphas_cumprod[-1]) ** 0.5
    assert classic.warning is not None
    assert f"{left:.0%} of the picture" in classic.warning
    assert "--" not in classic.warning
    assert plan()[0].warning is None


@pytest.mark.parametrize(
    ("durations", "expected"),
    [
        ([9.0, 0.1] + [0.2] * 20, 40.0),  # neither the first step nor one that was disturbed counts
        ([9.0, 0.2, 0.2, 5.0, 0.2], 40.0),
        ([9.0, 2.0, 2.0, 2.0], 4.0),  # a slow machine: no more than two steps
    ],
)
def test_speed_is_the_median_of_some_steps_after_the_first(
    durations: list[float], expected: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = replace(RECIPES["fast"], batch_size=8)
    config = RunConfig(recipe=recipe, max_steps=1, architecture=tiny.config())
    trial = make_trainer(config, tiny_digits(40), torch.device("cpu"), Distributed())
    left = iter(durations)
    now = 0.0
    step = trial.step

    def slowed(progress: float) -> Tensor:
        nonlocal now
        now += next(left)
        return step(progress)

    monkeypatch.setattr(trial, "step", slowed)
    monkeypatch.setattr("diffcli.training.plan.time.perf_counter", lambda: now)
    assert measure_speed(trial) == pytest.approx(expected)
