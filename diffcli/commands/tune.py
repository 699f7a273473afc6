"""``diffcli tune``: choose how a model draws by default."""

import json
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from diffcli.commands.console import (
    Interruption,
    ProgressDisplay,
    deferred_interruption,
    list_unreadable,
    sampling_text,
    say,
)
from diffcli.commands.options import (
    MODEL_PANEL,
    OUTPUT_PANEL,
    USUAL_MODEL,
    DeviceOption,
    FeaturesOption,
    ForceOption,
    JsonOption,
    QuietOption,
    check_output,
    option,
    parse_duration,
    write_output,
)
from diffcli.errors import UsageError

if TYPE_CHECKING:
    from diffcli.evaluation.tuning import DrawnDistance, Trial, Tuning
    from diffcli.sampling.model import Model

_DEFAULT_SECONDS = 60.0


def tune(
    model: Annotated[
        Path | None,
        typer.Argument(
            help="Model to tune: file, run's folder or name, or mnist (with -o).",
            show_default=USUAL_MODEL,
        ),
    ] = None,
    evaluations: Annotated[
        int | None,
        option(
            "Maximum of network evaluations per picture.",
            shown="the model's",
            min=1,
        ),
    ] = None,
    max_time: Annotated[
        float | None,
        option(
            "Time to search for: 90s, 10m, 1.5h.",
            shown="1m",
            parser=parse_duration,
            metavar="<duration>",
        ),
    ] = None,
    data: Annotated[
        str | None,
        option("Data set to compare with: a name or a folder.", MODEL_PANEL, shown="the model's"),
    ] = None,
    features: FeaturesOption = "main",
    device: DeviceOption = "auto",
    output: Annotated[
        Path | None,
        option(
            "Model file to write instead.", OUTPUT_PANEL, "--output", "-o", shown="the model itself"
        ),
    ] = None,
    force: ForceOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Search for the sampler, steps and guidance with which a model draws best by default.

    Pictures are compared with the training images (Frechet distance). The weights stay the same.
    """
    if output:
        check_output(output, (".safetensors",))

    from diffcli.device import open_device
    from diffcli.files.checkpoint import encode_model
    from diffcli.files.locations import find_model, shipped_name
    from diffcli.sampling.model import Model
    from diffcli.training.run_folder import run_of_model

    path = find_model(model)
    run = run_of_model(output or path)
    # Before the model is read: what a training saves after that would be lost.
    with run.locked() if run else nullcontext():
        config = run.config() if run else None
        drawer = Model.load(path, open_device(device))
        if drawer.description.is_distilled:
            raise UsageError(f"{path} is distilled, and draws in the steps that it was made for")
        if not output and shipped_name(path):
            raise UsageError(f"{path} belongs to the program; name a file to write with --output")
        if not output:
            real = path.resolve()
            check_output(real, (real.suffix.lower(),))
        distance = _distance(drawer, data, features, quiet)
        with deferred_interruption() as interruption:
            seconds = max_time or _DEFAULT_SECONDS
            found = _tuned(drawer, distance, evaluations, seconds, quiet, interruption)
            target, better = path, found.after.settings != drawer.description.sampling
            if not better and not quiet:
                say("nothing better was found; the settings stay as they are")
            if better or output:
                description = replace(drawer.description, sampling=found.after.settings)
                content = encode_model(description, drawer.denoiser.network.state_dict())
                target = write_output(output or path, content, force or output is None, quiet)
                # If the run goes on, it saves its model with the settings in its config.
                if run and config and target == run.model:
                    recipe = replace(config.recipe, sampling=description.sampling)
                    run.save_config(replace(config, recipe=recipe))
    if as_json:
        print(json.dumps({"model": str(target), **_document(found)}))
    else:
        print(target)
    if interruption():
        raise typer.Exit(interruption.exit_code)


def _distance(drawer: "Model", data: str | None, features: str, quiet: bool) -> "DrawnDistance":
    from diffcli.data.sources import load_data
    from diffcli.evaluation.provide import find_features
    from diffcli.evaluation.tuning import DrawnDistance

    description = drawer.description
    dataset = load_data(data or description.dataset, description.architecture.image_shape[1:])
    if not quiet:
        list_unreadable(dataset.unreadable)
    description.check_data(dataset.train.class_names, dataset.train.images.shape[1])
    with ProgressDisplay(quiet) as display:
        network = find_features(
            features,
            dataset.train,
            dataset.held_out,
            drawer.denoiser.schedule.device,
            display.stage("training a feature network"),
        )
        return DrawnDistance(
            drawer, dataset.train, network, display.stage("reading training images")
        )


def _tuned(
    drawer: "Model",
    distance: "DrawnDistance",
    evaluations: int | None,
    seconds: float,
    quiet: bool,
    interruption: Interruption,
) -> "Tuning":
    from diffcli.core.generate import count_evaluations
    from diffcli.evaluation.tuning import CancelledError
    from diffcli.evaluation.tuning import tune as search

    start, num_timesteps = drawer.description.sampling, drawer.num_timesteps
    most = evaluations or count_evaluations(start, num_timesteps)
    with ProgressDisplay(quiet) as display:

        def show(share: float, trial: "Trial") -> None:
            display.show(share, f"{sampling_text(trial.settings)}: {trial.distance:.4f}")

        try:
            found = search(distance, start, num_timesteps, most, seconds, show, interruption)
        except CancelledError as error:
            say("interrupted before anything was tried; the settings stay as they are")
            raise typer.Exit(interruption.exit_code) from error
    if not quiet:
        ended = "interrupted: " if interruption() else ""
        say(f"{ended}{found.trials} settings tried; distances of {found.pictures:,} pictures each:")
        if found.before.settings != start:  # cut to the number of evaluations
            cost = count_evaluations(start, num_timesteps)
            say(f"  until now       {sampling_text(start)}: {cost} evaluations, not compared")
        for when, judged in (("before", found.before), ("after", found.after)):
            say(f"  {when:6}  {judged.distance:.4f}  {sampling_text(judged.settings)}")
    return found


def _document(found: "Tuning") -> dict[str, object]:
    return {
        "trials": found.trials,
        "pictures": found.pictures,
        "before": asdict(found.before.settings) | {"frechet_train": found.before.distance},
        "after": asdict(found.after.settings) | {"frechet_train": found.after.distance},
    }
