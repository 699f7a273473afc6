"""``diffcli train``: teach a new model."""

from enum import StrEnum
from typing import Annotated

import typer

from diffcli.errors import UsageError

_END, _HOW = "End of the run, whichever comes first", "Way of training"
_DEFAULT_EPOCHS = 10.0


class RecipeOption(StrEnum):
    """The recipes, as the command line names them."""

    fast = "fast"
    ddpm = "ddpm"


def train(
    name: Annotated[
        str | None,
        typer.Option(help="Name of the run's folder under runs/.", show_default="date and time"),
    ] = None,
    epochs: Annotated[
        float | None,
        typer.Option(
            help="Times that every picture is seen.",
            show_default="10, if nothing else is given",
            rich_help_panel=_END,
        ),
    ] = None,
    max_steps: Annotated[
        int | None, typer.Option(min=1, help="Training steps.", rich_help_panel=_END)
    ] = None,
    max_time: Annotated[
        str | None,
        typer.Option(help="Time on the clock: 90s, 10m, 1.5h.", rich_help_panel=_END),
    ] = None,
    recipe: Annotated[
        RecipeOption,
        typer.Option(
            help="fast: cosine schedule, v-prediction, Muon. ddpm: the classic, T = 300, linear "
            "betas, epsilon-prediction, ancestral sampling.",
            rich_help_panel=_HOW,
        ),
    ] = RecipeOption.fast,
    batch_size: Annotated[
        int, typer.Option(min=1, help="Pictures per step.", rich_help_panel=_HOW)
    ] = 128,
    seed: Annotated[
        int, typer.Option(min=0, max=2**32 - 1, help="Seed of the run.", rich_help_panel=_HOW)
    ] = 0,
    device: Annotated[
        str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.", rich_help_panel=_HOW)
    ] = "auto",
) -> None:
    """Train a model on MNIST and keep it, with samples and metrics, under runs/."""
    from dataclasses import asdict
    from datetime import datetime

    import torch

    from diffcli.commands.devices import find_device
    from diffcli.commands.durations import parse_duration
    from diffcli.commands.progress import TrainingDisplay
    from diffcli.core.unet import UNetConfig
    from diffcli.data.mnist import load_mnist
    from diffcli.files.checkpoint import ModelDescription
    from diffcli.files.models import RUNS_FOLDER
    from diffcli.training.budget import Budget
    from diffcli.training.recipe import RECIPES
    from diffcli.training.run import Run
    from diffcli.training.trainer import Trainer

    where = find_device(device)
    chosen = RECIPES[recipe.value]
    data, held_out = load_mnist("train"), load_mnist("test")
    if epochs is None and max_steps is None and max_time is None:
        epochs = _DEFAULT_EPOCHS
    budget = Budget(
        min(
            (
                steps
                for steps in (max_steps, epochs and round(epochs * len(data) / batch_size))
                if steps
            ),
            default=None,
        ),
        max_time and parse_duration(max_time),
    )
    _, channels, height, width = data.images.shape
    description = ModelDescription(
        UNetConfig(channels, height, width, len(data.class_names)),
        chosen.schedule,
        chosen.prediction_type,
        chosen.sampling,
        data.class_names,
        "mnist",
        {"recipe": recipe.value},
    )
    folder = RUNS_FOLDER / (name or datetime.now().strftime("%Y-%m-%d-%H%M%S"))
    if folder.exists():
        raise UsageError(f"the run {folder} exists already; give another --name or remove it")
    torch.manual_seed(seed)
    trainer = Trainer(description.build().to(where), data, chosen, batch_size, seed)
    folder.mkdir(parents=True)
    run = Run(folder, trainer, description, budget, held_out)
    run.write_config(
        {
            "recipe": recipe.value,
            **asdict(chosen),
            "architecture": asdict(description.architecture),
            "batch_size": batch_size,
            "budget": asdict(budget),
            "seed": seed,
            "device": str(where),
        }
    )
    with TrainingDisplay() as display:
        for progress in run.train():
            display.show(progress)
    print(folder)
