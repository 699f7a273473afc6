"""``diffcli distill``: train a model that draws in one or two steps."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from diffcli.commands.options import USUAL_MODEL, JsonOption, QuietOption, option
from diffcli.commands.run_options import (
    DATA_PANEL,
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
    new_folder,
    setting_sources,
)
from diffcli.commands.training import Job, Manner, carry_out
from diffcli.core.parameters import SamplingSettings
from diffcli.errors import UsageError, as_usage_error
from diffcli.training.config import Distillation, RunConfig
from diffcli.training.recipe import distillation_recipe

if TYPE_CHECKING:
    from diffcli.files.checkpoint import ModelDescription


def distill(
    context: typer.Context,
    model: Annotated[
        Path | None,
        typer.Argument(
            help="Model to distill: file, run's folder or name, or mnist.",
            show_default=USUAL_MODEL,
        ),
    ] = None,
    steps: Annotated[
        int,
        option("Steps that the new model draws in.", None, min=1),
    ] = 2,
    guidance: Annotated[
        float | None,
        option("Guidance scale that the new model learns: 1 is none.", None, shown="the model's"),
    ] = None,
    name: NameOption = None,
    force: ReplaceOption = False,
    epochs: EpochsOption = None,
    max_steps: MaxStepsOption = None,
    max_time: MaxTimeOption = None,
    data: Annotated[
        str | None,
        option(
            "Data set that the model was trained on: a name or a folder.",
            DATA_PANEL,
            shown="the model's",
        ),
    ] = None,
    data_dir: DataDirOption = None,
    seed: SeedOption = 0,
    device: TrainingDeviceOption = "auto",
    dry_run: DryRunOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train a copy of a model to draw in one or two steps (train --resume goes on with it)."""
    limits = Limits(epochs, max_steps, max_time)

    from diffcli.files.checkpoint import fingerprint, read_description
    from diffcli.files.locations import find_model
    from diffcli.training.run_folder import run_of_model

    folder = new_folder(name, force)
    teacher = find_model(model)
    run = run_of_model(teacher)
    description = read_description(teacher)
    if description.is_distilled:
        raise UsageError(f"{teacher} is distilled already; distill its teacher")
    guided = _guidance(description, guidance)
    _, height, width = description.architecture.image_shape
    with as_usage_error():
        recipe = distillation_recipe(
            description.schedule,
            description.prediction_type,
            steps,
            description.architecture.channels[0],
        )
    config = RunConfig(
        recipe=recipe,
        data=data or description.dataset,
        image_size=(height, width),
        seed=seed,
        architecture=description.architecture,
        distillation=Distillation(
            str(model or (run.path.name if run else teacher.stem)),
            fingerprint(teacher),
            guided.guidance_scale,
            guided.guidance_interval,
        ),
    )
    sources = setting_sources(context)
    sources |= {"sampling": sources["steps"], "width": "model", "image_size": "model"}
    for setting, given in (("guidance", guidance), ("data", data)):
        if given is None:
            sources[setting] = "model"
    carry_out(
        Job(folder, sources, limits, config, force=force, source=teacher),
        Manner(device, data_dir, dry_run, quiet, as_json),
    )


def _guidance(description: "ModelDescription", scale: float | None) -> SamplingSettings:
    """Settings with the guidance to learn.

    Raises:
        UsageError: if there is no such scale.
    """
    if scale is None:
        return description.sampling
    with as_usage_error():
        return SamplingSettings(guidance_scale=scale)
