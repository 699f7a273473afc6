import json
import math
from dataclasses import replace
from typing import Any

import pytest

from diffcli.core.parameters import UNetConfig
from diffcli.training.config import Budget, RunConfig
from diffcli.training.recipe import RECIPES


@pytest.mark.parametrize(
    ("budget", "steps", "seconds", "progress"),
    [
        (Budget(steps=10), 0, 0.0, 0.0),
        (Budget(steps=10), 5, 1e9, 0.5),
        (Budget(steps=10), 10, 0.0, 1.0),
        (Budget(seconds=60.0), 10**9, 15.0, 0.25),
        (Budget(seconds=60.0), 0, 90.0, 1.5),
        (Budget(10, 60.0), 5, 15.0, 0.5),
        (Budget(10, 60.0), 1, 45.0, 0.75),
    ],
)
def test_progress_is_that_of_the_nearer_end(
    budget: Budget, steps: int, seconds: float, progress: float
) -> None:
    assert budget.progress(steps, seconds) == pytest.approx(progress)


@pytest.mark.parametrize(
    ("steps", "seconds"), [(None, None), (0, None), (-1, None), (None, 0.0), (5, -1.0)]
)
def test_a_run_needs_an_end_that_lies_ahead(steps: int | None, seconds: float | None) -> None:
    with pytest.raises(ValueError, match=r"needs an end|must be positive"):
        Budget(steps, seconds)


@pytest.mark.parametrize("limit", ["epochs", "max_steps", "max_seconds"])
@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf])
def test_a_limit_that_ends_nothing_is_refused(limit: str, value: float) -> None:
    limits: dict[str, Any] = {limit: value}
    with pytest.raises(ValueError, match=f"{limit} must be positive"):
        RunConfig(**limits)


def test_an_end_never_reached_is_no_division_by_zero() -> None:
    assert Budget(seconds=math.inf).progress(10**9, 1e9) == 0


@pytest.mark.parametrize(
    "config",
    [
        RunConfig(epochs=1.0),
        RunConfig(
            recipe=replace(RECIPES["ddpm"], batch_size=3, learning_rate=0.5),
            image_size=(8, 12),
            epochs=0.5,
            max_seconds=3.0,
            architecture=UNetConfig(3, 8, 12, 7),
        ),
    ],
)
def test_a_configuration_survives_json(config: RunConfig) -> None:
    assert RunConfig.from_document(json.loads(json.dumps(config.document()))) == config


OLD: dict[str, Any] = {
    "data": "pictures",
    "image_size": [8, 12],
    "flip": True,
    "recipe": "ddpm",
    "batch_size": 7,
    "seed": 5,
    "compiled": True,
    "learning_rate": None,
    "epochs": 2.0,
    "max_steps": None,
    "max_seconds": 60.0,
}


def test_configurations_of_version_0_1_are_read() -> None:
    config = RunConfig.from_document(dict(OLD))
    assert config.recipe == replace(RECIPES["ddpm"], batch_size=7, detail=1.0)
    assert (config.data, config.image_size, config.flip) == ("pictures", (8, 12), True)
    assert (config.seed, config.compile, config.epochs, config.max_seconds) == (5, True, 2.0, 60.0)
    faster = RunConfig.from_document({**OLD, "learning_rate": 0.004})
    assert faster.recipe.learning_rate == 0.004
    usual = RunConfig.from_document({**OLD, "batch_size": None})
    assert usual.recipe.batch_size == 64


def test_reading_a_document_leaves_it_as_it_is() -> None:
    for document in (dict(OLD), RunConfig(epochs=1.0).document()):
        before = dict(document)
        RunConfig.from_document(document)
        assert document == before


@pytest.mark.parametrize(
    "change", [{"recipe": "other"}, {"batch_size": 0}, {"unknown": 1}, {"image_size": [8]}]
)
def test_other_documents_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"recipe|batch_size|unknown|image_size"):
        RunConfig.from_document({**OLD, **change})


@pytest.mark.parametrize(
    "change",
    [{"batch_size": 0}, {"learning_rate": 0.0}, {"learning_rate": 1.1}, {"label_dropout": -0.1}],
)
def test_recipes_out_of_range_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(change))):
        replace(RECIPES["fast"], **change)


def test_the_first_limit_ends_a_run() -> None:
    config = RunConfig(epochs=2, max_steps=100, max_seconds=9.0)
    assert config.budget(64 * 10) == Budget(20, 9.0)
    assert config.budget(64 * 1000) == Budget(100, 9.0)
