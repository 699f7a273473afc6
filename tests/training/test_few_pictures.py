"""Runs that learn a few pictures by heart: what is kept, and that they know it."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from diffcli.data.sources import DataSet
from diffcli.files.checkpoint import load_model, read_description
from diffcli.training.config import RunConfig
from diffcli.training.distributed import Distributed
from diffcli.training.run import Run
from diffcli.training.validation import Validation
from tests.training.pictures import tiny_digits
from tests.training.runs import CPU, results, stop_after, tiny_config

pytestmark = pytest.mark.long


def test_a_run_that_only_copies_knows_it(tmp_path: Path) -> None:
    def copies(name: str, steps: int) -> float:
        config, few = overfitting(steps)
        run = Run.create(tmp_path / name, config, few, CPU, Distributed())
        list(run.train(lambda: False))
        share = read_description(tmp_path / name / "model.safetensors").training["copies"]
        assert share == run.summary()["copies"]
        return float(share)

    assert copies("long", 1500) > 0.5
    assert copies("short", 2) < 0.1


def overfitting(steps: int = 600) -> tuple[RunConfig, DataSet]:
    """A run that learns six pictures by heart."""
    digits = tiny_digits(56)
    few = DataSet(digits.subset(torch.arange(6)), digits.subset(torch.arange(6, 56)))
    return replace(tiny_config("fast"), max_steps=steps, flip=False), few


def test_the_average_with_the_lowest_held_out_loss_is_kept(tmp_path: Path) -> None:
    config, few = overfitting()
    run = Run.create(tmp_path / "run", config, few, CPU, Distributed())
    list(run.train(lambda: False))
    checks = {m.step: m.validation_loss for m in run.folder.metrics() if m.validation_loss}
    best_step = min(checks, key=lambda step: (checks[step], step))
    description, denoiser = load_model(tmp_path / "run" / "model.safetensors")
    # Metrics repeat the last loss, so that the best step is the first with that loss, or just
    # before it.
    kept = description.training["kept_step"]
    assert kept == run.kept_step
    assert best_step - 50 < kept <= best_step < 560
    found = Validation(few.held_out, 300, CPU).quarters(denoiser)
    assert sum(found) / 4 == pytest.approx(checks[best_step], rel=1e-6)
    assert checks[best_step] < 0.95 * checks[600]


@pytest.mark.parametrize("stops", [(40, 500), (570,)])
def test_a_resumed_run_keeps_the_same_average(stops: tuple[int, ...], tmp_path: Path) -> None:
    config, few = overfitting()
    whole = Run.create(tmp_path / "whole", config, few, CPU, Distributed())
    list(whole.train(lambda: False))
    run = Run.create(tmp_path / "parts", config, few, CPU, Distributed())
    for stop in stops:
        list(run.train(stop_after(stop)))
        run = Run.open(run.folder, config, few, CPU, Distributed())
    list(run.train(lambda: False))
    assert results(tmp_path / "parts") == results(tmp_path / "whole")
    assert run.kept_step == whole.kept_step < 560


def test_a_later_limit_goes_on_from_the_last_step_and_not_from_the_kept_one(
    tmp_path: Path,
) -> None:
    config, few = overfitting()
    run = Run.create(tmp_path / "run", config, few, CPU, Distributed())
    list(run.train(lambda: False))
    longer = Run.open(run.folder, replace(config, max_steps=601), few, CPU, Distributed())
    kept = load_file(run.folder.path / "model.safetensors")
    going_on = longer.trainer.ema.network.state_dict()
    assert run.kept_step < 560
    assert any(not torch.equal(kept[name], tensor) for name, tensor in going_on.items())
