"""``diffcli train``: train a model."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from diffcli.commands.options import (
    JsonOption,
    QuietOption,
    Size,
    option,
    parse_size,
)
from diffcli.commands.run_options import (
    DATA_PANEL,
    TRAINING_PANEL,
    DataDirOption,
    DryRunOption,
    EpochsOption,
    Limits,
    MaxStepsOption,
    MaxTimeOption,
    NameOption,
    ReplaceOption,
    SeedOption,
    TrainingDeviceOption,
    check_range,
    new_folder,
    setting_sources,
)
from diffcli.commands.training import Job, Manner, carry_out
from diffcli.core.parameters import CHANNELS_PER_GROUP
from diffcli.errors import UsageError
from diffcli.training.config import Origin, RunConfig
from diffcli.training.recipe import RECIPES, Recipe, RecipeName, fine_tuning_recipe

if TYPE_CHECKING:
    from diffcli.training.run_folder import RunFolder

_MAX_WIDTH, _MAX_BATCH = 512, 65_536
# What decides the course of a run, and cannot change when it is resumed; by parameter.
_FIXED = {
    "origin": "--from",
    "data": "--data",
    "image_size": "--image-size",
    "flip": "--flip",
    "recipe": "--recipe",
    "batch_size": "--batch-size",
    "width": "--width",
    "learning_rate": "--learning-rate",
    "augmentation": "--augmentation",
    "seed": "--seed",
}


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
    origin: Annotated[
        Path | None,
        option(
            "Model to go on from, on other pictures: file, run, or mnist.",
            None,
            "--from",
            shown=False,
        ),
    ] = None,
    name: NameOption = None,
    force: ReplaceOption = False,
    epochs: EpochsOption = None,
    max_steps: MaxStepsOption = None,
    max_time: MaxTimeOption = None,
    data: Annotated[
        str,
        option(
            "Data set: mnist, fashion-mnist, kmnist, emnist-letters, emnist-balanced, cifar10, a "
            "folder of class folders, or an IDX file.",
            DATA_PANEL,
        ),
    ] = "mnist",
    image_size: Annotated[
        Size | None,
        option(
            "Size to resize pictures to: 32, or 48x32.",
            DATA_PANEL,
            shown="their own",
            parser=parse_size,
            metavar="<size>",
        ),
    ] = None,
    flip: Annotated[bool, option("Mirror half of the pictures.", DATA_PANEL, "--flip")] = False,
    data_dir: DataDirOption = None,
    recipe: Annotated[
        RecipeName,
        option(
            "Recipe: fast, or ddpm (the classic: T = 300).",
            TRAINING_PANEL,
            metavar="<name>",
        ),
    ] = "fast",
    batch_size: Annotated[
        int | None,
        option(
            "Pictures per step.",
            TRAINING_PANEL,
            shown="fitted",
            min=1,
            max=_MAX_BATCH,
        ),
    ] = None,
    width: Annotated[
        int | None,
        option(
            "Channels of the first level, a multiple of 16.",
            TRAINING_PANEL,
            shown="fitted",
        ),
    ] = None,
    learning_rate: Annotated[
        float | None, option("Peak learning rate.", TRAINING_PANEL, shown="the recipe's")
    ] = None,
    augmentation: Annotated[
        float | None,
        option(
            "Probability of each random change of a picture; 0 is none.",
            TRAINING_PANEL,
            shown="fitted",
        ),
    ] = None,
    seed: SeedOption = 0,
    device: TrainingDeviceOption = "auto",
    compile: Annotated[  # noqa: A002 - the plan finds the source of a setting by its name
        bool,
        option("Compile the network, for faster steps.", TRAINING_PANEL, "--compile"),
    ] = False,
    dry_run: DryRunOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train a model and save it in runs/, with samples, metrics and a loss chart."""
    sources = setting_sources(context)
    limits = Limits(epochs, max_steps, max_time)
    check_range("--learning-rate", learning_rate, 1)
    check_range("--augmentation", augmentation, 1, zero=True)
    _check_width(width)
    if run and not resume:
        raise UsageError(f"to go on with the run {run}, add --resume; for a new run, use --name")

    source = None
    if resume:
        folder, config = _resumed(run, sources), None
    else:
        folder = new_folder(name, force)
        config = RunConfig(
            recipe=RECIPES[recipe],
            data=data,
            image_size=image_size,
            flip=flip,
            seed=seed,
            compile=compile,
        )
        if origin:
            source, config = _going_on(origin, config, sources)
        changed = _changed(config.recipe, batch_size, width, learning_rate, augmentation)
        config = replace(config, recipe=changed)
    carry_out(
        Job(folder, sources, limits, config, compile, force, source),
        Manner(device, data_dir, dry_run, quiet, as_json),
    )


def _going_on(origin: Path, config: RunConfig, sources: dict[str, str]) -> tuple[Path, RunConfig]:
    """The file of a model, and the configuration of a run that goes on from it.

    Raises:
        DiffcliError: if there is no such model.
        UsageError: if it cannot be trained further in this way.
    """
    from diffcli.files.checkpoint import fingerprint, read_description
    from diffcli.files.locations import find_model

    for fixed in ("recipe", "width"):
        if sources.get(fixed) == "commandline":
            raise UsageError(f"--from keeps the {fixed} of its model; leave --{fixed} out")
    path = find_model(origin)
    description = read_description(path)
    if description.is_distilled:
        raise UsageError(f"{path} is distilled; go on from its teacher, and distill that again")
    architecture = description.architecture
    recipe = fine_tuning_recipe(
        description.schedule,
        description.prediction_type,
        description.sampling,
        architecture.channels[0],
    )
    sources.update(model="commandline", width="model")
    if config.image_size is None:
        sources["image_size"] = "model"
    return path, replace(
        config,
        recipe=recipe,
        image_size=config.image_size or (architecture.image_height, architecture.image_width),
        architecture=architecture,
        origin=Origin(str(origin), fingerprint(path)),
    )


def _changed(
    recipe: Recipe,
    batch_size: int | None,
    width: int | None,
    learning_rate: float | None,
    augmentation: float | None,
) -> Recipe:
    return replace(
        recipe,
        batch_size=batch_size or recipe.batch_size,
        width=width or recipe.width,
        learning_rate=learning_rate or recipe.learning_rate,
        augmentation=recipe.augmentation if augmentation is None else augmentation,
    )


def _resumed(run: str | None, sources: dict[str, str]) -> "RunFolder":
    """The folder of a run to resume.

    Raises:
        UsageError: if there is none, or a setting is given that cannot change.
        DiffcliError: if its configuration cannot be read.
    """
    from diffcli.training.run_folder import find_run

    if sources.get("name") == "commandline":
        raise UsageError("--name is that of a new run; name the run to resume after --resume")
    if sources.get("force") == "commandline":
        raise UsageError("--force replaces a run, and --resume goes on with it; leave one out")
    for fixed, flag in _FIXED.items():
        if sources.get(fixed) == "commandline":
            raise UsageError(f"a resumed run keeps its {flag}; leave it out, or start a new run")
    changeable = ("epochs", "max_steps", "max_time", "compile")
    given = [name for name in changeable if sources.get(name) == "commandline"]
    sources.update({name: "file" for name in sources if name not in given})
    sources.update(dict.fromkeys(("sampling", "model", "guidance"), "file"))
    folder = find_run(run)
    folder.config()  # here, before there is a lock
    return folder


def _check_width(width: int | None) -> None:
    if width is not None and (width % CHANNELS_PER_GROUP or not 0 < width <= _MAX_WIDTH):
        raise UsageError(f"--width must be a multiple of 16 from 16 to {_MAX_WIDTH}, not {width}")
