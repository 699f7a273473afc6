"""``diffcli sample``: draw pictures with a trained model."""

from pathlib import Path
from typing import Annotated

import typer

from diffcli.commands.options import (
    DeviceOption,
    ForceOption,
    GuidanceOption,
    ModelOption,
    SamplerOption,
    StepsOption,
)

_WAY, _LAYOUT, _OUTPUT = "Way of sampling", "Layout", "Output"


def sample(
    label: Annotated[
        list[str] | None,
        typer.Option(
            "--label",
            "-l",
            help="Class: a name, a number, a range (0-4,7) or all. May be repeated.",
            show_default="all",
        ),
    ] = None,
    n: Annotated[
        int | None,
        typer.Option("--n", "-n", help="Pictures per label.", show_default="8; strip, sheet: 1"),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(help="Of the first picture; the next has seed + 1.", show_default="random"),
    ] = None,
    again: Annotated[
        Path | None,
        typer.Option("--from", help="Draw this picture again; options given here win."),
    ] = None,
    model: ModelOption = None,
    device: DeviceOption = "auto",
    sampler: SamplerOption = None,
    steps: StepsOption = None,
    guidance: GuidanceOption = None,
    guidance_interval: Annotated[
        str | None,
        typer.Option(
            help="Timesteps to guide at, low-high.",
            show_default="the model's; with --guidance all",
            rich_help_panel=_WAY,
        ),
    ] = None,
    init: Annotated[
        Path | None,
        typer.Option(help="Start from this picture, not from noise.", rich_help_panel=_WAY),
    ] = None,
    strength: Annotated[
        float | None,
        typer.Option(
            help="How far to go from --init, up to 1.", show_default="0.6", rich_help_panel=_WAY
        ),
    ] = None,
    strip: Annotated[
        bool | None,
        typer.Option(
            "--strip/--no-strip",
            help="The way from noise, with the x0 estimates.",
            rich_help_panel=_LAYOUT,
            show_default=False,
        ),
    ] = None,
    sheet: Annotated[
        str | None,
        typer.Option(
            help="Rows that differ: guidance=0,1,2,4 or steps=2,4,8.", rich_help_panel=_LAYOUT
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            help="A .png, .npz, .gif, .webp or .apng; '{label}_{seed}.png'; - is stdout.",
            show_default="grid.png",
            rich_help_panel=_OUTPUT,
        ),
    ] = None,
    out_dir: Annotated[
        Path | None,
        typer.Option(help="One PNG per picture, a folder per class.", rich_help_panel=_OUTPUT),
    ] = None,
    force: ForceOption = False,
    metadata: Annotated[
        bool,
        typer.Option(
            "--metadata/--no-metadata",
            help="Keep settings in pictures.",
            rich_help_panel=_OUTPUT,
        ),
    ] = True,
    preview: Annotated[
        bool | None,
        typer.Option(
            "--preview/--no-preview",
            help="Show the result here.",
            show_default="on a terminal",
            rich_help_panel=_OUTPUT,
        ),
    ] = None,
) -> None:
    """Draw pictures of the labels you ask for, as a grid with one row per label."""
    from diffcli.commands.sample_output import Destination, write
    from diffcli.commands.sample_plan import Wishes, make_plan, say

    destination = Destination.of(output, out_dir, force)
    plan = make_plan(
        Wishes(
            labels=label,
            n=n,
            seed=seed,
            again=again,
            model=model,
            device=device,
            sampler=sampler.value if sampler else None,
            steps=steps,
            guidance=guidance,
            guidance_interval=guidance_interval,
            init=init,
            strength=strength,
            strip=strip,
            sheet=sheet,
        ),
        destination.form,
        metadata,
    )
    say(f"model: {plan.model.path}")
    say(f"seed: {plan.request.seed}")
    write(plan, destination, preview)
