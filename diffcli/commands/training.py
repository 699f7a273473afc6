"""What ``diffcli train`` does: from its options to a run, and through it."""

import json
import logging
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from diffcli.errors import UsageError

if TYPE_CHECKING:
    import torch

    from diffcli.data.images import LabelledImages
    from diffcli.files.checkpoint import ModelDescription
    from diffcli.training.config import RunConfig
    from diffcli.training.plan import Plan
    from diffcli.training.recipe import RecipeName
    from diffcli.training.run import Run
    from diffcli.training.trainer import Trainer

_DEFAULT_EPOCHS = 10.0
_MOST_EPOCHS = 1_000_000

_LIMITS = ("epochs", "max_steps", "max_seconds")
# What a run is made of, and cannot change when it goes on.
_FIXED = ("data", "image_size", "flip", "recipe", "batch_size", "learning_rate", "seed")


@dataclass(frozen=True)
class Request:
    """The options that say which run, and what it is made of.

    Raises:
        UsageError: if a number is out of range.
    """

    run: str | None
    resume: bool
    name: str | None
    overwrite: bool
    epochs: float | None
    max_steps: int | None
    max_seconds: float | None
    data: str
    image_size: tuple[int, int] | None
    flip: bool
    recipe: "RecipeName"
    batch_size: int
    learning_rate: float | None
    seed: int
    compiled: bool

    def __post_init__(self) -> None:
        if self.epochs is not None and not 0 < self.epochs <= _MOST_EPOCHS:
            raise UsageError(f"--epochs must be above 0 and at most {_MOST_EPOCHS:,}")
        if self.learning_rate is not None and not 0 < self.learning_rate < 1:
            raise UsageError(
                f"--learning-rate must be above 0 and below 1, not {self.learning_rate:g}"
            )


def start_or_resume(
    request: Request,
    *,
    sources: dict[str, str],
    device: str,
    data_dir: Path | None,
    dry_run: bool,
    quiet: bool,
    json_output: bool,
) -> None:
    """Train, showing how it goes, and say where the result is.

    Args:
        request: which run.
        sources: where each setting comes from: commandline, environment or default.
        device: the name of the device.
        data_dir: where fetched data sets are kept.
        dry_run: whether to stop before training.
        quiet: whether to show errors only.
        json_output: whether to print the summary of the run instead of its folder.

    Raises:
        UsageError: if there cannot be such a run.
        DiffcliError: if the data cannot be read, or training comes apart.
        typer.Exit: if the user, or the system, stopped it.
    """
    from diffcli.commands.devices import find_device
    from diffcli.commands.interruption import deferred_interruption
    from diffcli.commands.progress import ReadingDisplay, TrainingDisplay, show_plan
    from diffcli.data.sources import load_data
    from diffcli.training.distribution import join_world
    from diffcli.training.setup import (
        check_name,
        create_folder,
        describe,
        make_run,
        save_config,
    )

    folder = _folder_to_resume(request.run) if request.resume else _new_folder(request.name)
    config = _resumed_config(folder, request, sources) if request.resume else _new_config(request)
    where = find_device(device)
    with join_world() as world:
        quiet = quiet or not world.leads
        if world.leads and not request.resume:
            check_name(folder, request.overwrite)
        with ReadingDisplay(quiet) as reading:
            dataset = load_data(config.data, config.size, data_dir, reading.show)
        reading.report(dataset.unreadable)
        description = describe(config, dataset.train)
        if not quiet or (dry_run and world.leads):
            plan = _foresee(config, description, dataset.train, where)
            if dry_run and json_output:
                print(json.dumps({"config": asdict(config), "plan": asdict(plan)}))
            else:
                show_plan(plan, config, sources)
        if dry_run:
            return
        # From here on there is something to lose.
        with deferred_interruption() as interruption:
            if world.leads and not request.resume:
                create_folder(folder, config, request.overwrite)
            run = make_run(folder, config, description, dataset, where, world)
            if config.compiled:
                with suppress(RuntimeError):  # a failure was told of, unless all is quiet
                    run.trainer.compile()
            if request.resume:
                _go_back(run, limited=_limited(request), quiet=quiet)
            if world.leads and request.resume:
                save_config(folder, config)
            with TrainingDisplay(quiet) as display:
                for progress in run.train(interruption):
                    display.show(progress)
        if interruption() and run.share < 1:
            print(
                f"stopped after {run.trainer.steps_done} steps; all is saved; go on with: "
                f"diffcli train --resume {folder.name}",
                file=sys.stderr,
            )
            raise typer.Exit(interruption.exit_code)
        if world.leads:
            _draw_losses(folder)
            result = {"folder": str(folder), **run.summary()}
            print(json.dumps(result) if json_output else folder)


def _foresee(
    config: "RunConfig",
    description: "ModelDescription",
    data: "LabelledImages",
    device: "torch.device",
) -> "Plan":
    """Try a run out for a second."""
    from diffcli.training.distribution import World
    from diffcli.training.plan import make_plan
    from diffcli.training.setup import make_trainer

    trial = make_trainer(config, description, data, device, World())
    if config.compiled:
        _compile(trial)
    return make_plan(description.build(), data, config, trial)


def _go_back(run: "Run", limited: bool, quiet: bool) -> None:
    """Take a run up where it was saved, if there is anything left of it to do.

    Raises:
        UsageError: if a limit that was asked for is one that the run is past already.
        DiffcliError: if what was saved cannot be read.
    """
    run.resume()
    if run.share < 1:
        return
    had = f"{run.folder} has had {run.trainer.steps_done:,} steps in {run.seconds:.0f} s already"
    if limited:
        raise UsageError(f"{had}; to go on, give a later limit")
    if not quiet:
        print(f"{had}, and is complete; with a later limit it goes on", file=sys.stderr)


def _compile(trial: "Trainer") -> None:
    """Compile, or say why not; what is compiled serves every trainer of the same network."""
    print("compiling the network, up to a minute the first time", file=sys.stderr)
    # Torch's own remarks are about machines and missing GPUs, not about this run.
    logging.getLogger("torch").setLevel(logging.ERROR)
    try:
        trial.compile()
    except RuntimeError as error:
        reason = str(error).strip().partition("\n")[0]
        print(f"it cannot be compiled, and runs as it is: {reason}", file=sys.stderr)


def _new_folder(name: str | None) -> Path:
    from diffcli.files.models import RUNS_FOLDER

    if name is None:
        name = datetime.now().strftime("%Y-%m-%d-%H%M%S")
    if not name or Path(name).name != name or name.startswith("."):
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
    raise UsageError(
        f"there is no run {run}, which would be a folder with {CONFIG_FILE} in it; --resume takes "
        f"the name of one in {RUNS_FOLDER}/"
    )


def _new_config(request: Request) -> "RunConfig":
    from diffcli.training.config import RunConfig

    return RunConfig(
        data=request.data,
        image_size=request.image_size,
        flip=request.flip,
        recipe=request.recipe,
        batch_size=request.batch_size,
        seed=request.seed,
        compiled=request.compiled,
        learning_rate=request.learning_rate,
        epochs=request.epochs if _limited(request) else _DEFAULT_EPOCHS,
        max_steps=request.max_steps,
        max_seconds=request.max_seconds,
    )


def _resumed_config(folder: Path, request: Request, sources: dict[str, str]) -> "RunConfig":
    """The run's own configuration, with other limits if some are given."""
    from diffcli.training.setup import load_config

    if request.overwrite or request.name is not None:
        raise UsageError("--name and --overwrite are for new runs; leave them out of --resume")
    for option in _FIXED:
        if sources.get(option) == "commandline":
            raise UsageError(
                f"--{option.replace('_', '-')} cannot change within a run; leave it out of "
                "--resume, or start a new run"
            )
    config = load_config(folder)
    changed = {limit: getattr(request, limit) for limit in _LIMITS} if _limited(request) else {}
    if request.compiled:
        changed["compiled"] = True
    own = (field.name for field in fields(config) if field.name not in changed)
    sources.update(dict.fromkeys(own, "file"))
    return replace(config, **changed)


def _limited(request: Request) -> bool:
    return any(getattr(request, limit) is not None for limit in _LIMITS)


def _draw_losses(folder: Path) -> None:
    from diffcli.figures.losses import loss_chart
    from diffcli.files.pictures import save_png
    from diffcli.training.metrics import read_metrics

    if records := read_metrics(folder):
        save_png(folder / "loss.png", loss_chart(records))
