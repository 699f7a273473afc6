"""The main job, end to end, on real digits: train, then draw with what was trained."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from diffcli.core.parameters import SamplingSettings
from diffcli.core.schedule import NoiseSchedule
from diffcli.data.images import to_model_range
from diffcli.data.mnist import load_mnist
from diffcli.files.checkpoint import load_model, read_description
from tests.conftest import Command

pytestmark = pytest.mark.process

# The classic recipe draws its grid in 300 steps, which smaller digits make bearable.
OPTIONS = {
    "fast": ("--max-steps", "60", "--batch-size", "32"),
    "ddpm": ("--max-steps", "90", "--batch-size", "32", "--image-size", "12"),
}
STEPS = {"fast": 60, "ddpm": 90}
SIDE = {"fast": 28, "ddpm": 12}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, diffcli_process: Command) -> Path:
    """A working folder with a run of each recipe, trained by processes of their own."""
    folder = tmp_path_factory.mktemp("work")
    for recipe, options in OPTIONS.items():
        done = diffcli_process(
            "train", "--recipe", recipe, "--name", recipe, "--device", "cpu", *options, cwd=folder
        )
        assert done.code == 0, done.err
        assert done.out == f"{Path('runs') / recipe}\n"
        assert "Traceback" not in done.err
        assert "loss" in done.err
        run = Path("runs") / recipe
        assert done.err.endswith(
            f"draw with it: diffcli sample --model {run}; "
            f"look for better sampling settings: diffcli tune {run}\n"
        )
    return folder


def records(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("recipe", OPTIONS)
def test_the_loss_falls_well_under_that_of_predicting_nothing(folder: Path, recipe: str) -> None:
    run = folder / "runs" / recipe
    description = read_description(run / "model.safetensors")
    if description.prediction_type == "epsilon":
        nothing = 1.0
    else:
        # E[v^2] = alpha_bar + (1 - alpha_bar) E[x_0^2], averaged over the timesteps.
        square = float(to_model_range(load_mnist("test").images).square().mean())
        alpha_bar = NoiseSchedule.from_config(description.schedule).alphas_cumprod
        nothing = float((alpha_bar + (1 - alpha_bar) * square).mean())
    first, *_, last = records(run)
    assert last["loss"] < 0.5 * nothing
    assert last["validation_loss"] < 0.5 * nothing
    assert last["loss"] < first["loss"]


@pytest.mark.parametrize("recipe", OPTIONS)
def test_a_run_leaves_all_that_it_promises(folder: Path, recipe: str) -> None:
    run = folder / "runs" / recipe
    steps = [record["step"] for record in records(run)]
    assert steps[-1] == STEPS[recipe]
    assert all(before < after for before, after in pairwise(steps))
    assert json.loads((run / "config.json").read_text())["recipe"]["name"] == recipe
    description, _ = load_model(run / "model.safetensors")
    assert description.dataset == "mnist"
    assert description.class_names == tuple("0123456789")
    assert description.training["steps"] == STEPS[recipe]
    assert description.training["images_seen"] == STEPS[recipe] * 32
    side = SIDE[recipe]
    with Image.open(run / "samples.png") as grid:
        assert grid.size == (2 + 8 * (side + 2), 2 + 10 * (side + 2))
    with Image.open(run / "loss.png") as chart:
        assert chart.mode == "RGB"
        assert len(set(chart.convert("L").tobytes())) > 10  # two curves, their names, a grid
    hidden = [path.name for path in folder.rglob("*") if path.name.startswith(".")]
    assert set(hidden) <= {f".{path.name}.lock" for path in (folder / "runs").glob("[!.]*")}


def test_the_classic_recipe_is_the_classic_system(folder: Path) -> None:
    description = read_description(folder / "runs" / "ddpm" / "model.safetensors")
    classic = torch.linspace(1e-4, 0.02, 300, dtype=torch.float64)
    assert torch.equal(NoiseSchedule.from_config(description.schedule).betas, classic)
    assert description.prediction_type == "epsilon"
    assert description.sampling == SamplingSettings("ddpm", 300, variance="beta")


@pytest.mark.parametrize("recipe", OPTIONS)
def test_what_was_trained_draws(folder: Path, recipe: str, diffcli_process: Command) -> None:
    output = folder / f"{recipe}.png"
    arguments = ("--label", "3", "--n", "16", "--seed", "1", "--model", recipe, "-o", output)
    done = diffcli_process("sample", *arguments, cwd=folder)
    assert done.code == 0, done.err
    assert done.out == f"{output}\n"
    side = SIDE[recipe]
    with Image.open(output) as grid:
        assert grid.size == (2 + 4 * (side + 2), 2 + 4 * (side + 2))
        pixels = np.asarray(grid, dtype=np.float64)[2:, 2:]
    cells = pixels.reshape(4, side + 2, 4, side + 2)[:, :side, :, :side]
    # No digits after so few steps, but no noise either, in which neighbours are strangers.
    left, right = cells[..., :-1].ravel(), cells[..., 1:].ravel()
    assert np.corrcoef(left, right)[0, 1] > 0.3


def test_without_a_name_the_newest_run_draws(folder: Path, diffcli_process: Command) -> None:
    done = diffcli_process("sample", "-l", "0", "-n", "1", "--steps", "1", "--sampler", "ddim",
                           "-o", folder / "newest.png", cwd=folder)  # fmt: skip
    assert done.code == 0, done.err
    assert str(Path("runs", "ddpm", "model.safetensors")) in done.err
