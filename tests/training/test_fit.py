from dataclasses import dataclass, replace

import pytest
import torch

from diffcli.core.parameters import SamplingSettings, ScheduleConfig
from diffcli.training import fit
from diffcli.training.config import RunConfig
from diffcli.training.distributed import Distributed
from diffcli.training.fit import choose, fitted
from diffcli.training.recipe import RECIPES, fine_tuning_recipe
from diffcli.training.trainer import Trainer
from tests import tiny
from tests.training.pictures import tiny_digits

CPU = torch.device("cpu")
MINUTE = RunConfig(max_seconds=60.0)
SLOW, FAST = 190.0, 600.0  # images/s of two cores: AVX2 alone, AVX-512 with bfloat16


def test_more_time_or_speed_means_wider_networks_larger_batches_and_less_guidance() -> None:
    order = [choose(replace(MINUTE, max_seconds=30.0 * 2**i), 60_000, SLOW) for i in range(13)]
    for name in ("width", "batch_size"):
        values = [choices[name] for choices in order]
        assert values == sorted(values)
        assert values[0] < values[-1]
    guidance = [choices["sampling"].guidance_scale for choices in order]
    assert guidance == sorted(guidance, reverse=True)
    assert guidance[:2] == [2.25, 1.75] > guidance[4:5]
    assert order[4] == choose(MINUTE, 60_000, 8 * SLOW)


def test_pictures_in_colour_are_drawn_with_more_guidance(monkeypatch: pytest.MonkeyPatch) -> None:
    grey, colour = (choose(MINUTE, 1_000, FAST, colour) for colour in (False, True))
    assert (grey["sampling"].guidance_scale, colour["sampling"].guidance_scale) == (1.75, 2.5)
    assert {**grey, "sampling": colour["sampling"]} == colour
    data = tiny_digits(20)
    coloured = replace(data, images=data.images.expand(-1, 3, -1, -1))
    monkeypatch.setattr(fit, "measure_speed", lambda _: FAST)
    found = fitted(replace(MINUTE, epochs=1), coloured, CPU, Distributed(), set())
    assert found["sampling"].guidance_scale == 2.5


@pytest.mark.parametrize("seconds", [20.0, 60.0, 300.0, 1800.0, 7200.0])
@pytest.mark.parametrize("speed", [SLOW / 3, SLOW, FAST])
@pytest.mark.parametrize("error", [0.5, 2.0])
def test_a_speed_that_is_wrong_by_two_changes_little(
    seconds: float, speed: float, error: float
) -> None:
    config = RunConfig(max_seconds=seconds)
    right, wrong = choose(config, 60_000, speed), choose(config, 60_000, speed * error)
    assert 0.49 <= wrong["batch_size"] / right["batch_size"] <= 2
    assert abs(wrong["width"] - right["width"]) <= 16


def test_without_a_limit_in_time_the_network_is_the_default_one() -> None:
    short, long = (choose(RunConfig(epochs=n), 60_000, 0.0) for n in (0.5, 10))
    assert set(short) == set(long)
    assert "width" not in short
    assert short["batch_size"] < long["batch_size"] == RECIPES["fast"].batch_size


def test_the_first_limit_decides() -> None:
    by_time = choose(MINUTE, 60_000, SLOW)
    assert choose(replace(MINUTE, epochs=100), 60_000, SLOW) == by_time
    assert choose(replace(MINUTE, epochs=100, max_steps=10**6), 60_000, SLOW) == by_time
    assert choose(replace(MINUTE, epochs=0.01), 60_000, SLOW) == choose(
        RunConfig(epochs=0.01), 60_000, 0.0
    )
    assert choose(replace(MINUTE, max_steps=5), 60_000, SLOW) == {"augmentation": 0.0}
    assert choose(RunConfig(max_steps=5), 60_000, 0.0) == {"augmentation": 0.0}


def test_few_pictures_are_augmented_if_each_is_seen_often() -> None:
    def augmentation(config: RunConfig, count: int) -> float:
        found = choose(config, count, SLOW)["augmentation"]
        assert isinstance(found, float)
        return found

    assert augmentation(MINUTE, 55_000) == augmentation(MINUTE, 500) == 0
    assert augmentation(MINUTE, 300) == augmentation(RunConfig(epochs=31), 60_000) == 0.4
    assert augmentation(RunConfig(epochs=30), 50) == 0
    assert augmentation(RunConfig(max_steps=100), 300) == 0
    assert augmentation(RunConfig(max_steps=100), 200) == 0.4
    fine_tuning = fine_tuning_recipe(ScheduleConfig(), "epsilon", SamplingSettings(), 64)
    config = RunConfig(recipe=fine_tuning, max_steps=100)
    assert choose(config, 50, 0.0) == {"augmentation": 0.4}


def test_what_the_user_chose_and_the_classic_recipe_are_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    measured: list[Trainer] = []

    def measure(trial: Trainer) -> float:
        measured.append(trial)
        return SLOW

    monkeypatch.setattr(fit, "measure_speed", measure)
    data = tiny_digits(20)
    expected = choose(MINUTE, 20, SLOW)
    assert fitted(MINUTE, data, CPU, Distributed(), set()) == expected
    del expected["width"]
    assert fitted(MINUTE, data, CPU, Distributed(), {"width", "seed"}) == expected
    assert [trial.config.recipe.width for trial in measured] == [64, 64]
    classic = replace(MINUTE, recipe=RECIPES["ddpm"])
    assert fitted(classic, data, CPU, Distributed(), set()) == {}
    assert set(fitted(RunConfig(max_steps=9), data, CPU, Distributed(), set())) == {"augmentation"}
    assert len(measured) == 2, "nothing is measured where nothing depends on it"


@dataclass(frozen=True)
class Two(Distributed):
    """Two processes, of which the leader's speed counts."""

    rank: int = 1
    size: int = 2

    def from_leader(self, *values: float) -> tuple[float, ...]:
        return tuple(SLOW for _ in values)


def test_two_processes_choose_alike_and_for_both(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit, "measure_speed", lambda _trial: FAST)
    got = fitted(MINUTE, tiny_digits(20), CPU, Two(), set())
    assert got == choose(MINUTE, 20, 2 * SLOW) != choose(MINUTE, 20, SLOW)


def test_however_much_time_there_is_batches_stay_at_256() -> None:
    ages = choose(RunConfig(max_seconds=1e7), 60_000, FAST)
    assert (ages["batch_size"], ages["width"]) == (256, 64)
    assert ages["sampling"].guidance_scale < choose(MINUTE, 60_000, SLOW)["sampling"].guidance_scale


def test_the_default_network_is_measured_whatever_is_to_be_trained(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    measured: list[Trainer] = []

    def measure(trial: Trainer) -> float:
        measured.append(trial)
        return SLOW

    monkeypatch.setattr(fit, "measure_speed", measure)
    recipe = replace(RECIPES["fast"], width=16, batch_size=2)
    narrow = replace(MINUTE, recipe=recipe, architecture=tiny.config())
    fitted(narrow, tiny_digits(20), CPU, Distributed(), {"width", "batch_size"})
    (trial,) = measured
    assert trial.denoiser.network.config.channels == (64, 64, 128)
    assert trial.config.recipe.batch_size == 64


@pytest.mark.long
def test_a_real_measurement_ends_in_a_choice() -> None:
    choices = fitted(MINUTE, tiny_digits(20), CPU, Distributed(), set())
    assert choices["batch_size"] % 8 == 0
    assert set(choices) == {"batch_size", "width", "sampling", "augmentation"}


def test_fine_tuning_never_draws_with_less_guidance_than_the_model() -> None:
    def scale(own: float) -> float:
        sampling = SamplingSettings(guidance_scale=own, guidance_interval=(3, 9))
        found = fine_tuning_recipe(ScheduleConfig(), "epsilon", sampling, 64).sampling
        assert found.guidance_interval is None
        return found.guidance_scale

    assert (scale(1.15), scale(2.5)) == (1.5, 2.5)
