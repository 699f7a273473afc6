"""``diffcli train``: train a model."""

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from diffcli.commands.console import (
    ProgressDisplay,
    deferred_interruption,
    list_unreadable,
    say,
    show_plan,
    status_line,
)
from diffcli.commands.options import (
    MAX_SEED,
    OUTPUT_PANEL,
    JsonOption,
    QuietOption,
    Size,
    option,
    parse_duration,
    parse_size,
)
from diffcli.core.parameters import CHANNELS_PER_GROUP
from diffcli.errors import UsageError
from diffcli.training.config import RunConfig
from diffcli.training.recipe import RECIPES, Recipe, RecipeName

if TYPE_CHECKING:
    import torch

    from diffcli.data.images import LabelledImages
    from diffcli.data.sources import DataSet
    from diffcli.training.distributed import Distributed
    from diffcli.training.run import Run
    from diffcli.training.run_folder import RunFolder
    from diffcli.training.trainer import Trainer

_END, _DATA, _TRAINING = "End of the run", "Data", "Training"
_DEFAULT_EPOCHS = 10.0
_MAX_EPOCHS = 1_000_000
_MAX_WIDTH = 512
# What decides the course of a run, and cannot change when it is resumed.
_FIXED = (
    "data",
    "image_size",
    "flip",
    "recipe",
    "batch_size",
    "width",
    "learning_rate",
    "seed",
    "name",
)


def train(
    context: typer.Context,
    run: Annotated[
        str | None,
        typer.Argument(
            help="Name or folder of the run to resume.",
            show_default="the last one",
        ),
    ] = None,
    resume: Annotated[
        bool, option("Go on with a run from where it was saved.", None, "--resume")
    ] = False,
    name: Annotated[
        str | None, option("Name of the run's folder in runs/.", shown="date and time")
    ] = None,
    force: Annotated[bool, option("Replace a run of that name.", None, "--force")] = False,
    epochs: Annotated[
        float | None, option("Limit in passes over the data.", _END, shown="10, if no limit")
    ] = None,
    max_steps: Annotated[
        int | None, option("Limit in steps.", _END, min=1, metavar="<int>")
    ] = None,
    max_time: Annotated[
        float | None,
        option("Limit in time: 90s, 10m, 1.5h.", _END, parser=parse_duration, metavar="<duration>"),
    ] = None,
    data: Annotated[
        str,
        option(
            "Data set: mnist, fashion-mnist, kmnist, emnist-letters, emnist-balanced, cifar10, a "
            "folder of class folders, or an IDX file.",
            _DATA,
        ),
    ] = "mnist",
    image_size: Annotated[
        Size | None,
        option(
            "Size to resize pictures to: 32, or 48x32.",
            _DATA,
            shown="their own",
            parser=parse_size,
            metavar="<size>",
        ),
    ] = None,
    flip: Annotated[bool, option("Mirror half of the pictures.", _DATA, "--flip")] = False,
    data_dir: Annotated[
        Path | None,
        option("Folder for downloads.", _DATA, shown="cache folder", envvar="DIFFCLI_DATA_DIR"),
    ] = None,
    recipe: Annotated[
        RecipeName,
        option(
            "Recipe: fast, or ddpm (classic: T = 300, linear betas).", _TRAINING, metavar="<name>"
        ),
    ] = "fast",
    batch_size: Annotated[
        int | None,
        option("Pictures per step.", _TRAINING, shown="the recipe's", min=1, metavar="<int>"),
    ] = None,
    width: Annotated[
        int | None,
        option(
            "Channels of the network's first level, a multiple of 16.",
            _TRAINING,
            shown="the recipe's",
            metavar="<int>",
        ),
    ] = None,
    learning_rate: Annotated[
        float | None, option("Peak learning rate.", _TRAINING, shown="the recipe's")
    ] = None,
    seed: Annotated[
        int, option("Seed of all random choices.", _TRAINING, min=0, max=MAX_SEED, metavar="<int>")
    ] = 0,
    device: Annotated[str, option("Device: auto, cpu, cuda, cuda:1 or mps.", _TRAINING)] = "auto",
    compile: Annotated[  # noqa: A002 - the name of the option
        bool,
        option("Compile the network: up to a minute, then faster steps.", _TRAINING, "--compile"),
    ] = False,
    dry_run: Annotated[
        bool, option("Print the plan and stop before training.", OUTPUT_PANEL, "--dry-run")
    ] = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train a model and save it in runs/, with samples, metrics and a loss chart."""
    found = {name: context.get_parameter_source(name) for name in context.params}
    sources = {name: source.name.lower() for name, source in found.items() if source}
    limits = {"epochs": epochs, "max_steps": max_steps, "max_seconds": max_time}
    if not any(limits.values()) and not resume:
        limits["epochs"] = _DEFAULT_EPOCHS
    _check_range("--epochs", epochs, _MAX_EPOCHS)
    _check_range("--learning-rate", learning_rate, 1)
    _check_width(width)
    if run and not resume:
        raise UsageError(f"to go on with the run {run}, add --resume; for a new run, use --name")

    from diffcli.device import open_device
    from diffcli.training.distributed import join_processes
    from diffcli.training.run import Run, resolved
    from diffcli.training.run_folder import RunFolder

    if resume:
        folder, config = _resumed(run, limits, compile, sources)
    else:
        folder = RunFolder(_new_path(name))
        folder.check_free(force)
        config = RunConfig(
            recipe=_recipe(recipe, batch_size, width, learning_rate),
            data=data,
            image_size=image_size,
            flip=flip,
            seed=seed,
            compile=compile,
            epochs=limits["epochs"],
            max_steps=max_steps,
            max_seconds=max_time,
        )
    where = open_device(device)
    with join_processes() as distributed:
        quiet = quiet or not distributed.is_leader
        dataset = _load(config, data_dir, distributed, quiet)
        if not resume:
            config = _fitted(config, dataset.train, where, distributed, sources)
        config = resolved(config, dataset.train)
        if not quiet or (dry_run and distributed.is_leader):
            _foresee(config, dataset.train, where, sources, as_json=dry_run and as_json)
        if dry_run:
            return
        with deferred_interruption() as interruption, ProgressDisplay(quiet) as display:
            if resume:
                training = Run.open(folder, config, dataset, where, distributed)
                _check_end(training, bool(any(limits.values())), quiet)
            else:
                training = Run.create(folder.path, config, dataset, where, distributed, force)
            _compile(training.trainer, config, quiet=True)
            for status in training.train(interruption):
                display.show(status.progress, status_line(status))
        if interruption() and training.progress < 1:
            say(
                f"stopped after {training.trainer.steps_done} steps, all saved; go on with: "
                f"diffcli train --resume {folder.path.name}"
            )
            raise typer.Exit(interruption.exit_code)
        if distributed.is_leader:
            folder.save_loss_chart()
            result = {"folder": str(folder.path), **training.summary()}
            print(json.dumps(result) if as_json else folder.path)


def _recipe(
    name: RecipeName, batch_size: int | None, width: int | None, learning_rate: float | None
) -> Recipe:
    recipe = RECIPES[name]
    return replace(
        recipe,
        batch_size=batch_size or recipe.batch_size,
        width=width or recipe.width,
        learning_rate=learning_rate or recipe.learning_rate,
    )


def _resumed(
    run: str | None, limits: Mapping[str, float | None], compile_it: bool, sources: dict[str, str]
) -> "tuple[RunFolder, RunConfig]":
    """The folder and the configuration of a run, with other limits if some are given."""
    from diffcli.training.run_folder import find_run

    for fixed in _FIXED:
        if sources.get(fixed) == "commandline":
            flag = fixed.replace("_", "-")
            raise UsageError(f"a resumed run keeps its --{flag}; leave it out, or start a new run")
    folder = find_run(run)
    config = folder.config()
    changeable = ("epochs", "max_steps", "max_time", "compile")
    given = [name for name in changeable if sources.get(name) == "commandline"]
    sources.update({name: "file" for name in sources if name not in given})
    if any(limits.values()):
        steps = limits["max_steps"]
        config = replace(
            config,
            epochs=limits["epochs"],
            max_steps=None if steps is None else int(steps),
            max_seconds=limits["max_seconds"],
        )
    return folder, replace(config, compile=config.compile or compile_it)


def _load(
    config: RunConfig, data_dir: Path | None, distributed: "Distributed", quiet: bool
) -> "DataSet":
    """Read the data set; with several processes, the first one downloads it before the others."""
    from diffcli.data.sources import load_data

    with ProgressDisplay(quiet) as display, distributed.leader_first():

        def show(done: int, total: int, size: int) -> None:
            text = f"{done:,} of {total:,} pictures, {size / 1e6:.1f} MB in memory"
            display.show(done / total, text)

        dataset = load_data(config.data, config.image_size, data_dir, show)
    if not quiet:
        list_unreadable(dataset.unreadable)
    return dataset


def _fitted(
    config: RunConfig,
    data: "LabelledImages",
    device: "torch.device",
    distributed: "Distributed",
    sources: dict[str, str],
) -> RunConfig:
    """The configuration with a recipe that is fitted to machine and limits."""
    from diffcli.training.fit import fitted

    given = {name for name, source in sources.items() if source == "commandline"}
    choices = fitted(config, data, device, distributed, given)
    sources.update(dict.fromkeys(choices, "fitted"))
    return replace(config, recipe=replace(config.recipe, **choices))


def _foresee(
    config: RunConfig,
    data: "LabelledImages",
    device: "torch.device",
    sources: Mapping[str, str],
    as_json: bool,
) -> None:
    """Measure the speed of a trial and print the plan of the run."""
    from diffcli.training.distributed import Distributed
    from diffcli.training.plan import make_plan
    from diffcli.training.run import make_trainer

    trial = make_trainer(config, data, device, Distributed())
    _compile(trial, config, quiet=False)
    plan = make_plan(trial)
    if as_json:
        print(json.dumps({"config": config.document(), "plan": asdict(plan)}))
    else:
        show_plan(plan, config, sources)


def _check_range(option: str, value: float | None, most: float) -> None:
    if value is not None and not 0 < value <= most:
        raise UsageError(f"{option} must be above 0 and at most {most:,}, not {value:g}")


def _check_width(width: int | None) -> None:
    if width is not None and (width % CHANNELS_PER_GROUP or not 0 < width <= _MAX_WIDTH):
        raise UsageError(f"--width must be a multiple of 16 from 16 to {_MAX_WIDTH}, not {width}")


def _new_path(name: str | None) -> Path:
    from diffcli.files.locations import RUNS_FOLDER

    if name is None:
        name = datetime.now().strftime("%Y-%m-%d-%H%M%S")
    if not name or Path(name).name != name or name.startswith("."):
        raise UsageError(f"--name {name!r} cannot be the name of a folder in {RUNS_FOLDER}/")
    return RUNS_FOLDER / name


def _compile(trainer: "Trainer", config: RunConfig, quiet: bool) -> None:
    """Compile if requested, or say why it is not possible."""
    if not config.compile:
        return
    if not quiet:
        say("compiling the network, which takes up to a minute the first time")
    # The messages of torch are about the machine, not about this run.
    logging.getLogger("torch").setLevel(logging.ERROR)
    try:
        trainer.compile()
    except RuntimeError as error:
        if not quiet:
            reason = str(error).strip().partition("\n")[0]
            say(f"the network cannot be compiled and runs without it: {reason}")


def _check_end(training: "Run", limited: bool, quiet: bool) -> None:
    """Say so if a resumed run is complete.

    Raises:
        UsageError: if limits were given that the run has already reached.
    """
    if training.progress < 1:
        return
    had = (
        f"{training.folder.path} has had {training.trainer.steps_done:,} steps in "
        f"{training.seconds:.0f} s already"
    )
    if limited:
        raise UsageError(f"{had}; to go on, give a later limit")
    if not quiet:
        say(f"{had} and is complete; to go on, give a later limit")
