"""``diffcli distill``: train a model that draws in one or two steps."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from diffcli.commands.options import (
    MAX_SEED,
    OUTPUT_PANEL,
    JsonOption,
    QuietOption,
    option,
    parse_duration,
)
from diffcli.commands.training import (
    DATA_PANEL,
    END_PANEL,
    TRAINING_PANEL,
    Job,
    Limits,
    Manner,
    carry_out,
    new_folder,
    setting_sources,
)
from diffcli.core.parameters import SamplingSettings
from diffcli.errors import UsageError
from diffcli.training.config import Distillation, RunConfig
from diffcli.training.recipe import distillation_recipe

if TYPE_CHECKING:
    from diffcli.files.checkpoint import ModelDescription


def distill(
    context: typer.Context,
    model: Annotated[
        Path | None,
        typer.Argument(
            help="Model to distill: file, run folder, name of a run, or mnist.",
            show_default="newest run, else digits",
        ),
    ] = None,
    steps: Annotated[
        int,
        option("Steps that the new model draws in.", None, min=1, metavar="<int>"),
    ] = 2,
    guidance: Annotated[
        float | None,
        option("Guidance scale that the new model learns: 1 is none.", None, shown="the model's"),
    ] = None,
    name: Annotated[
        str | None, option("Name of the run's folder in runs/.", shown="date and time")
    ] = None,
    force: Annotated[bool, option("Replace a run of that name.", None, "--force")] = False,
    epochs: Annotated[
        float | None, option("Limit in passes over the data.", END_PANEL, shown="10, if no limit")
    ] = None,
    max_steps: Annotated[
        int | None, option("Limit in training steps.", END_PANEL, min=1, metavar="<int>")
    ] = None,
    max_time: Annotated[
        float | None,
        option(
            "Limit in time: 90s, 10m, 1.5h.",
            END_PANEL,
            parser=parse_duration,
            metavar="<duration>",
        ),
    ] = None,
    data: Annotated[
        str | None,
        option(
            "Data set that the model was trained on: a name or a folder.",
            DATA_PANEL,
            shown="the model's",
        ),
    ] = None,
    data_dir: Annotated[
        Path | None,
        option(
            "Folder for downloads.", DATA_PANEL, shown="cache folder", envvar="DIFFCLI_DATA_DIR"
        ),
    ] = None,
    seed: Annotated[
        int,
        option("Seed of all random choices.", TRAINING_PANEL, min=0, max=MAX_SEED, metavar="<int>"),
    ] = 0,
    device: Annotated[
        str, option("Device: auto, cpu, cuda, cuda:1 or mps.", TRAINING_PANEL)
    ] = "auto",
    dry_run: Annotated[
        bool, option("Print the plan and stop before training.", OUTPUT_PANEL, "--dry-run")
    ] = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train a copy of a model to draw in one or two steps (train --resume goes on with it)."""
    limits = Limits(epochs, max_steps, max_time)

    from diffcli.files.checkpoint import fingerprint, read_description
    from diffcli.files.locations import find_model

    folder = new_folder(name, force)
    teacher = find_model(model)
    description = read_description(teacher)
    guided = _guidance(description, guidance)
    _, height, width = description.architecture.image_shape
    try:
        recipe = distillation_recipe(description.schedule, description.prediction_type, steps)
    except ValueError as error:
        raise UsageError(str(error)) from error
    config = RunConfig(
        recipe=recipe,
        data=data or description.dataset,
        image_size=(height, width),
        seed=seed,
        architecture=description.architecture,
        distillation=Distillation(
            str(model or teacher.name),
            fingerprint(teacher),
            guided.guidance_scale,
            guided.guidance_interval,
        ),
    )
    config = limits.or_default().applied(config)
    sources = setting_sources(context)
    sources["sampling"] = sources["steps"]
    if guidance is None:
        sources["guidance"] = "model"
    carry_out(
        Job(folder, config, sources, force=force, teacher=teacher),
        Manner(device, data_dir, dry_run, quiet, as_json),
    )


def _guidance(description: "ModelDescription", scale: float | None) -> SamplingSettings:
    """Settings with the guidance to learn.

    Raises:
        UsageError: if there is no such scale.
    """
    if scale is None:
        return description.sampling
    try:
        return SamplingSettings(guidance_scale=scale)
    except ValueError as error:
        raise UsageError(str(error)) from error
