"""Recipes that are made for a model."""

import pytest

from diffcli.core.parameters import SamplingSettings, ScheduleConfig
from diffcli.training.recipe import distillation_recipe, fine_tuning_recipe
from diffcli.training.timesteps import TimestepDensity
from tests import tiny


def test_a_student_is_trained_at_all_timesteps_alike() -> None:
    recipe = distillation_recipe(tiny.COSINE, "x0", steps=2, width=32)
    assert (recipe.schedule, recipe.prediction_type, recipe.width) == (tiny.COSINE, "x0", 32)
    assert recipe.timesteps == TimestepDensity()
    assert recipe.sampling == SamplingSettings("consistency", 2)


@pytest.mark.parametrize(
    ("timesteps", "own", "steps", "scale"),
    [(300, 4, 16, 1.5), (300, 30, 30, 2.0), (10, 4, 10, 1.5)],
)
def test_what_goes_on_draws_in_enough_steps_with_enough_guidance(
    timesteps: int, own: int, steps: int, scale: float
) -> None:
    sampling = SamplingSettings("dpmpp", own, 2.0 if own == 30 else 1.1, (3, 7), spacing=2.0)
    recipe = fine_tuning_recipe(ScheduleConfig("cosine", timesteps), "x0", sampling, 32)
    assert recipe.sampling == SamplingSettings("dpmpp", steps, scale, None, spacing=2.0)
