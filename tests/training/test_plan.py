import pytest
import torch
from torch import Tensor, nn

from diffcli.core.denoiser import Denoiser
from diffcli.data.images import to_model_range
from diffcli.training.config import RunConfig
from diffcli.training.distribution import World
from diffcli.training.plan import Plan, count_flops, make_plan
from diffcli.training.setup import describe, make_trainer
from tests.training.pictures import tiny_digits


def plan(config: RunConfig) -> tuple[Plan, Denoiser]:
    data = tiny_digits(40)
    description = describe(config, data)
    trial = make_trainer(config, description, data, torch.device("cpu"), World())
    denoiser = description.build()
    return make_plan(denoiser, data, config, trial), denoiser


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
    got, denoiser = plan(RunConfig(max_steps=1))
    assert got.parameters == sum(param.numel() for param in denoiser.network.parameters())
    assert got.flops_per_image == count_flops(denoiser)
    assert got.final_alpha_bar == float(denoiser.schedule.alphas_cumprod[-1])
    x0 = to_model_range(tiny_digits(40).images)
    a = denoiser.schedule.alphas_cumprod[-1].double()
    divergence = 0.5 * (a * x0.double().square() - a - torch.log1p(-a))
    assert got.prior_mismatch == pytest.approx(float(divergence.sum() / 40), rel=1e-3)
    # The average forgets what it began with after the first step.
    assert got.initialisation_left == 0


def test_a_run_ends_with_the_limit_that_comes_first() -> None:
    by_steps, _ = plan(RunConfig(batch_size=8, max_steps=10, max_seconds=1e6))
    assert by_steps.images_per_second > 0
    assert by_steps.seconds == pytest.approx(80 / by_steps.images_per_second)
    by_epochs, _ = plan(RunConfig(batch_size=8, epochs=3))
    assert by_epochs.seconds == pytest.approx(120 / by_epochs.images_per_second)
    by_time, _ = plan(RunConfig(batch_size=8, max_steps=10**9, max_seconds=7.0))
    assert by_time.seconds == 7.0


def test_only_a_schedule_that_leaves_signal_is_warned_of() -> None:
    classic, denoiser = plan(RunConfig(recipe="ddpm", max_steps=1))
    left = float(denoiser.schedule.alphas_cumprod[-1]) ** 0.5
    assert classic.warning is not None
    assert f"{left:.0%} of the picture" in classic.warning
    assert "--recipe fast" in classic.warning
    assert plan(RunConfig(max_steps=1))[0].warning is None
