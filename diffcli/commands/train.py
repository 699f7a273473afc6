"""``diffcli train``: teach a new model."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from diffcli.commands.durations import parse_duration
from diffcli.commands.sizes import parse_size
from diffcli.errors import UsageError

_END, _HOW, _WHAT = "End of the run, whichever comes first", "Way of training", "Pictures"
_REPORT = "Report"


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
            help="Passes over the pictures.",
            show_default="10, if no limit",
            rich_help_panel=_END,
        ),
    ] = None,
    max_steps: Annotated[
        int | None,
        typer.Option(min=1, metavar="<int>", help="Training steps.", rich_help_panel=_END),
    ] = None,
    max_time: Annotated[
        str | None,
        typer.Option(help="Time on the clock: 90s, 10m, 1.5h.", rich_help_panel=_END),
    ] = None,
    data: Annotated[
        str,
        typer.Option(
            help="mnist, fashion-mnist, kmnist, emnist-letters, emnist-balanced, cifar10, a "
            "folder of class folders, or an IDX file beside that of its labels.",
            rich_help_panel=_WHAT,
        ),
    ] = "mnist",
    image_size: Annotated[
        str | None,
        typer.Option(
            help="Side, or WIDTHxHEIGHT, in pixels.",
            show_default="their own",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    flip: Annotated[
        bool,
        typer.Option("--flip", help="Mirror half of the pictures.", rich_help_panel=_WHAT),
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
            help="fast, or ddpm: the classic, T = 300, linear betas, epsilon.",
            rich_help_panel=_HOW,
        ),
    ] = RecipeOption.fast,
    batch_size: Annotated[
        int,
        typer.Option(min=1, metavar="<int>", help="Pictures per step.", rich_help_panel=_HOW),
    ] = 64,
    learning_rate: Annotated[
        float | None,
        typer.Option(help="Its peak.", show_default="the recipe's", rich_help_panel=_HOW),
    ] = None,
    seed: Annotated[
        int,
        typer.Option(
            min=0,
            max=2**32 - 1,
            metavar="<int>",
            help="Of all that is drawn.",
            rich_help_panel=_HOW,
        ),
    ] = 0,
    device: Annotated[
        str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.", rich_help_panel=_HOW)
    ] = "auto",
    compiled: Annotated[
        bool,
        typer.Option(
            "--compile",
            help="Compile the network first, for faster steps; up to a minute.",
            rich_help_panel=_HOW,
        ),
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
    from diffcli.commands.training import Request, start_or_resume

    if run and not resume:
        raise UsageError(f"to go on with {run}, add --resume; a new run is named by --name {run}")
    found = {option: context.get_parameter_source(option) for option in context.params}
    sources = {option: source.name.lower() for option, source in found.items() if source}
    sources["max_seconds"] = sources["max_time"]  # as the configuration calls it
    start_or_resume(
        Request(
            run=run,
            resume=resume,
            name=name,
            overwrite=overwrite,
            epochs=epochs,
            max_steps=max_steps,
            max_seconds=parse_duration(max_time) if max_time else None,
            data=data,
            image_size=parse_size(image_size) if image_size else None,
            flip=flip,
            recipe=recipe.value,
            batch_size=batch_size,
            learning_rate=learning_rate,
            seed=seed,
            compiled=compiled,
        ),
        sources=sources,
        device=device,
        data_dir=data_dir,
        dry_run=dry_run,
        quiet=quiet,
        json_output=json_output,
    )
