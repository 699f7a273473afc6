"""``diffcli sample``: draw pictures with a trained model."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from diffcli.errors import UsageError

_MODEL, _WAY, _OUTPUT = "Model", "Way of sampling", "Output"


class SamplerOption(StrEnum):
    """The samplers, as the command line names them."""

    ddpm = "ddpm"
    ddim = "ddim"
    dpmpp = "dpmpp"


def sample(
    label: Annotated[
        list[str] | None,
        typer.Option(
            "--label",
            "-l",
            help="Class to draw: a name, a number, a range (0-9) or 'all'. May be repeated; "
            "each is a row of the grid.",
            show_default="all",
        ),
    ] = None,
    n: Annotated[int, typer.Option("--n", "-n", min=1, help="Pictures per label.")] = 8,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="The PNG to write.", rich_help_panel=_OUTPUT),
    ] = Path("grid.png"),
    model: Annotated[
        Path | None,
        typer.Option(
            help="A model file, or a run by folder or name.",
            show_default="newest run, else the shipped digits",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    device: Annotated[
        str,
        typer.Option(help="auto, cpu, cuda, cuda:1 or mps.", rich_help_panel=_MODEL),
    ] = "auto",
    sampler: Annotated[
        SamplerOption | None,
        typer.Option(
            help="ddpm is ancestral and takes all T steps.",
            show_default="the model's",
            rich_help_panel=_WAY,
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(
            help="Network evaluations per picture, 1 to T.",
            show_default="the model's",
            rich_help_panel=_WAY,
        ),
    ] = None,
    guidance: Annotated[
        float | None,
        typer.Option(
            help="Classifier-free guidance: 1 is plain conditional, 0 ignores the label.",
            show_default="the model's",
            rich_help_panel=_WAY,
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=2**32 - 1,
            help="Seed of the first picture; the next one has seed + 1.",
            show_default="drawn",
            rich_help_panel=_WAY,
        ),
    ] = None,
) -> None:
    """Draw pictures of the labels you ask for, as a grid with one row per label."""
    import secrets

    from diffcli.commands.devices import find_device
    from diffcli.commands.labels import parse_labels
    from diffcli.files.models import find_model
    from diffcli.files.pictures import save_png, tile, to_pillow
    from diffcli.model import Model

    if not output.parent.is_dir():
        raise UsageError(f"the folder {output.parent} does not exist; create it or change -o")
    path = find_model(model)
    drawer = Model.load(path, find_device(device))
    labels = parse_labels(label or ["all"], drawer.class_names)
    settings = drawer.settings(sampler and sampler.value, steps, guidance)
    count = len(labels) * n
    first_seed = secrets.randbelow(2**31) if seed is None else seed
    print(f"model: {path}", file=sys.stderr)
    print(f"seed: {first_seed}", file=sys.stderr)
    pixels = drawer.sample(
        [label for label in labels for _ in range(n)],
        seeds=range(first_seed, first_seed + count),
        settings=settings,
    )
    save_png(output, to_pillow(tile(pixels, columns=n)))
    print(output)
