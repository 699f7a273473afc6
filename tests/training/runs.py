"""The smallest runs: their configurations, data, beginning and end."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file

from diffcli.core.parameters import SamplingSettings
from diffcli.data.sources import DataSet
from diffcli.files.checkpoint import fingerprint, save_model
from diffcli.training.config import Distillation, RunConfig
from diffcli.training.distributed import Distributed
from diffcli.training.recipe import RECIPES, RecipeName, distillation_recipe
from diffcli.training.run import Run
from diffcli.training.run_folder import (
    RunFolder,
)
from tests import tiny
from tests.training.pictures import CLASSES, tiny_digits

# 50 images in batches of 4: epochs end within batches, and step 50 is an ordinary record.
BATCH = 4
STEPS = 53
CPU = torch.device("cpu")


def tiny_config(
    recipe: RecipeName = "fast", batch_size: int = BATCH, max_steps: int = STEPS, seed: int = 3
) -> RunConfig:
    """A smaller network and fewer sampling steps than by default, to be quick."""
    return RunConfig(
        recipe=replace(
            RECIPES[recipe], batch_size=batch_size, sampling=SamplingSettings("ddim", 3)
        ),
        max_steps=max_steps,
        seed=seed,
        flip=True,
        architecture=tiny.config(),
    )


def distilling_config() -> RunConfig:
    """With guidance, so that the teacher takes part."""
    recipe = distillation_recipe(tiny.COSINE, "v_prediction", steps=2, width=16)
    return replace(
        tiny_config(),
        recipe=replace(recipe, batch_size=BATCH),
        distillation=Distillation("tiny", "0" * 64, 1.5, None),
    )


def data(count: int = 50) -> DataSet:
    digits = tiny_digits()
    return DataSet(digits.subset(torch.arange(count)), digits.subset(torch.arange(50, 60)))


def create(path: Path, config: RunConfig) -> Run:
    teacher = None
    if config.distillation:
        teacher = path.with_name("tiny.safetensors")
        description = replace(tiny.description(), class_names=CLASSES)
        save_model(teacher, description, tiny.network().state_dict())
        told = replace(config.distillation, sha256=fingerprint(teacher))
        config = replace(config, distillation=told)
    run = Run.create(path, config, data(), CPU, Distributed(), source=teacher)
    if teacher:
        teacher.unlink()  # the run has a copy of its own
    return run


def reopen(path: Path, max_steps: int | None = None) -> Run:
    """The run in a folder, possibly with another end."""
    folder = RunFolder(path)
    config = folder.config()
    if max_steps is not None:
        config = replace(config, max_steps=max_steps)
    return Run.open(folder, config, data(), CPU, Distributed())


def stop_after(steps: int) -> Callable[[], bool]:
    calls = iter(range(steps + 1))
    return lambda: next(calls) == steps


def results(folder: Path) -> dict[str, bytes]:
    """All that a run leaves; of the model, the weights, since its summary holds the time."""
    found = {
        path.name: path.read_bytes()
        for path in folder.iterdir()
        if path.suffix in (".png", ".jsonl")
    }
    for name, tensor in load_file(folder / "model.safetensors").items():
        found[name] = tensor.numpy().tobytes()
    return found
