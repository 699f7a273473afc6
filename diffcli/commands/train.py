"""``diffcli train``: teach a new model."""

import sys
from dataclasses import fields, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypedDict

import typer

from diffcli.commands.durations import parse_duration
from diffcli.commands.sizes import parse_size
from diffcli.errors import UsageError

if TYPE_CHECKING:
    from diffcli.training.config import RunConfig

_END, _HOW, _WHAT = "End of the run, whichever comes first", "Way of training", "Pictures"
_REPORT = "Report"
_DEFAULT_EPOCHS = 10.0

_MOST_EPOCHS = 1_000_000


class Limits(TypedDict, total=False):
    """The ends of a run, as ``RunConfig`` names them."""

    epochs: float | None
    max_steps: int | None
    max_seconds: float | None


_NO_LIMITS: Limits = {"epochs": None, "max_steps": None, "max_seconds": None}

# What a run is made of, and cannot change when it goes on.
_FIXED = (
    "name", "overwrite", "data", "image_size", "flip",
    "recipe", "batch_size", "learning_rate", "seed",
)  # fmt: skip


class RecipeOption(StrEnum):
    """The recipes, as the command line names them."""

    fast = "fast"
    ddpm = "ddpm"


def train(
    context: typer.Context,
    run: Annotated[
        str | None,
        typer.Argument(help="With --resume: the run, if not the newest one."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a run.")] = False,
    name: Annotated[
        str | None,
        typer.Option(help="Name of the run's folder in runs/.", show_default="date and time"),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a run of that name.")
    ] = False,
    epochs: Annotated[
        float | None,
        typer.Option(
            help="Times that every picture is seen.",
            show_default="10, without other limits",
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
    data: Annotated[
        str,
        typer.Option(
            help="mnist, fashion-mnist, kmnist, emnist-letters, emnist-balanced, cifar10; or a "
            "folder with one sub-folder of pictures per class; or an IDX file of images.",
            rich_help_panel=_WHAT,
        ),
    ] = "mnist",
    image_size: Annotated[
        str | None,
        typer.Option(
            help="Side, or WIDTHxHEIGHT, in pixels.",
            show_default="that of the pictures",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    flip: Annotated[
        bool,
        typer.Option(
            "--flip", help="Mirror half of the pictures, anew each time.", rich_help_panel=_WHAT
        ),
    ] = False,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            help="Where fetched data sets are kept.",
            envvar="DIFFCLI_DATA_DIR",
            show_default="cache folder",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    recipe: Annotated[
        RecipeOption,
        typer.Option(
            help="fast: cosine schedule, v-prediction, Muon. ddpm: the classic, linear betas, "
            "epsilon-prediction, ancestral sampling.",
            rich_help_panel=_HOW,
        ),
    ] = RecipeOption.fast,
    batch_size: Annotated[
        int, typer.Option(min=1, help="Pictures per step.", rich_help_panel=_HOW)
    ] = 64,
    learning_rate: Annotated[
        float | None,
        typer.Option(help="Peak of Adam's.", show_default="the recipe's", rich_help_panel=_HOW),
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, max=2**32 - 1, help="Seed of the run.", rich_help_panel=_HOW)
    ] = 0,
    device: Annotated[
        str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.", rich_help_panel=_HOW)
    ] = "auto",
    compile_network: Annotated[
        bool,
        typer.Option("--compile", help="Compile the network; pays on a GPU.", rich_help_panel=_HOW),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Say what it would cost, and stop.", rich_help_panel=_REPORT
        ),
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Report errors only.", rich_help_panel=_REPORT)
    ] = False,
    json_output: Annotated[
        bool, typer.Option("--json", help="Print the result as JSON.", rich_help_panel=_REPORT)
    ] = False,
) -> None:
    """Train a model and keep it, with samples and metrics, under runs/."""
    import json

    from diffcli.commands.devices import find_device
    from diffcli.commands.interruption import deferred_interruption
    from diffcli.commands.progress import ReadingDisplay, TrainingDisplay, show_plan
    from diffcli.data.sources import load_data
    from diffcli.training.config import RunConfig
    from diffcli.training.distribution import World, join_world
    from diffcli.training.plan import make_plan
    from diffcli.training.setup import (
        create_folder,
        describe,
        make_run,
        make_trainer,
        save_config,
    )

    if learning_rate is not None and not 0 < learning_rate < 1:
        raise UsageError(f"--learning-rate must be above 0 and below 1, not {learning_rate}")
    sources = _sources(context)
    limits = _limits(epochs, max_steps, max_time)
    if resume:
        folder = _folder_to_resume(run)
        config = _resumed_config(folder, limits, sources)
    elif run:
        raise UsageError(f"to go on with {run}, add --resume; a new run is named by --name {run}")
    else:
        folder = _new_folder(name)
        config = RunConfig(
            data=data,
            image_size=parse_size(image_size) if image_size else None,
            flip=flip,
            recipe=recipe.value,
            batch_size=batch_size,
            seed=seed,
            learning_rate=learning_rate,
            **(limits or {"epochs": _DEFAULT_EPOCHS}),
        )
    where = find_device(device)
    with join_world() as world:
        quiet = quiet or not world.leads
        with ReadingDisplay(quiet) as reading:
            dataset = load_data(config.data, config.size, data_dir, reading.show)
        reading.report(dataset.unreadable)
        description = describe(config, dataset.train)
        if dry_run or not quiet:
            trial = make_trainer(config, description, dataset.train, where, World())
            show_plan(make_plan(description.build(), dataset.train, config, trial), config, sources)
        if dry_run:
            return
        if world.leads and resume:
            save_config(folder, config)
        elif world.leads:
            create_folder(folder, config, overwrite)
        training = make_run(folder, config, description, dataset, where, world)
        if compile_network:
            training.trainer.compile()
        if resume:
            training.resume()
        with deferred_interruption() as interruption, TrainingDisplay(quiet) as display:
            for progress in training.train(interruption):
                display.show(progress)
        if interruption() and training.share < 1:
            print(
                f"stopped after {training.trainer.steps_done} steps; all is saved; go on with: "
                f"diffcli train --resume {folder.name}",
                file=sys.stderr,
            )
            raise typer.Exit(interruption.exit_code)
        if world.leads:
            print(json.dumps(training.summary()) if json_output else folder)


def _sources(context: typer.Context) -> dict[str, str]:
    """Where each option's value comes from: commandline, environment or default."""
    found = {name: context.get_parameter_source(name) for name in context.params}
    return {name: source.name.lower() for name, source in found.items() if source}


def _new_folder(name: str | None) -> Path:
    from datetime import datetime

    from diffcli.files.models import RUNS_FOLDER

    name = name or datetime.now().strftime("%Y-%m-%d-%H%M%S")
    if Path(name).name != name or name.startswith("."):
        raise UsageError(f"--name {name!r} cannot be the name of a folder in {RUNS_FOLDER}/")
    return RUNS_FOLDER / name


def _folder_to_resume(run: str | None) -> Path:
    from diffcli.files.models import RUNS_FOLDER
    from diffcli.training.setup import CONFIG_FILE

    if run is None:
        configs = list(RUNS_FOLDER.glob(f"*/{CONFIG_FILE}"))
        if not configs:
            raise UsageError(f"there is no run in {RUNS_FOLDER}/ to go on with; start one")
        return max(configs, key=lambda path: path.parent.stat().st_mtime).parent
    for folder in (RUNS_FOLDER / run, Path(run)):
        if (folder / CONFIG_FILE).is_file():
            return folder
    raise UsageError(f"there is no run {run}; --resume takes the name of one in {RUNS_FOLDER}/")


def _resumed_config(folder: Path, limits: "Limits", sources: dict[str, str]) -> "RunConfig":
    """The run's own configuration, with other limits if some are given."""
    from diffcli.training.setup import load_config

    for name in _FIXED:
        if sources.get(name) == "commandline":
            raise UsageError(
                f"--{name.replace('_', '-')} cannot change within a run; leave it out of --resume, "
                "or start a new run"
            )
    config = load_config(folder)
    sources.update({field.name: "file" for field in fields(config) if field.name not in limits})
    return replace(config, **(_NO_LIMITS | limits)) if limits else config


def _limits(epochs: float | None, max_steps: int | None, max_time: str | None) -> "Limits":
    """Those ends of a run that are asked for."""
    limits: Limits = {}
    if epochs is not None:
        if not 0 < epochs < _MOST_EPOCHS:
            raise UsageError(f"--epochs must be above 0 and below {_MOST_EPOCHS:,}, not {epochs}")
        limits["epochs"] = epochs
    if max_steps is not None:
        limits["max_steps"] = max_steps
    if max_time is not None:
        limits["max_seconds"] = parse_duration(max_time)
    return limits
