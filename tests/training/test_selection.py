"""Which average of the weights becomes the model of a run."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from diffcli.figures.grid import grid
from diffcli.files.pictures import encode_png
from diffcli.sampling.model import Model
from diffcli.training.validation import Validation
from tests.training.runs import create, distilling_config, reopen, tiny_config

pytestmark = pytest.mark.long


def losses_on_held_out(monkeypatch: pytest.MonkeyPatch, *values: float) -> None:
    """Make these the losses of one check after another, the last one of all others."""
    left = iter(values)
    monkeypatch.setattr(Validation, "quarters", lambda *_: (next(left, values[-1]),) * 4)


def test_the_last_grid_is_of_the_average_that_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses_on_held_out(monkeypatch, 0.1, 0.4)
    folder = tmp_path / "run"
    run = create(folder, tiny_config(max_steps=30))
    list(run.train(lambda: False))
    assert run.kept_step < 30
    model = Model.load(folder / "model.safetensors")
    pixels = model.sample(range(len(model.class_names)), 8, seed=0)
    assert (folder / "samples.png").read_bytes() == encode_png(grid(pixels, 8))


def test_of_equal_losses_the_later_average_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses_on_held_out(monkeypatch, 0.2)
    run = create(tmp_path / "run", tiny_config(max_steps=30))
    list(run.train(lambda: False))
    weights = {
        name: tensor.clone() for name, tensor in run.trainer.ema.network.state_dict().items()
    }
    assert run.kept_step == 30
    losses_on_held_out(monkeypatch, 0.3)
    longer = reopen(tmp_path / "run", max_steps=31)
    list(longer.train(lambda: False))
    assert longer.kept_step == 30
    found = load_file(tmp_path / "run" / "model.safetensors")
    assert all(torch.equal(found[name], tensor) for name, tensor in weights.items())


def test_a_student_is_kept_as_it_is_last_whatever_its_critic_loses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses_on_held_out(monkeypatch, 0.1, 0.4)
    run = create(tmp_path / "run", replace(distilling_config(), max_steps=30))
    list(run.train(lambda: False))
    assert run.kept_step == 30
