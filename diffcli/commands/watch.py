"""``diffcli watch``: a picture appearing in the terminal."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from diffcli.commands.options import (
    DeviceOption,
    GuidanceOption,
    ModelOption,
    SamplerOption,
    StepsOption,
)
from diffcli.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Group

    from diffcli.core.denoiser import Denoiser
    from diffcli.core.samplers import Step


def watch(
    label: Annotated[
        str | None,
        typer.Option(
            "--label",
            "-l",
            help="Class to draw: a name or a number.",
            show_default="one that the seed picks",
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(min=0, max=2**32 - 1, help="Seed of the picture.", show_default="random"),
    ] = None,
    fps: Annotated[
        float, typer.Option(min=0.1, max=120, help="Steps shown per second, at most.")
    ] = 8.0,
    model: ModelOption = None,
    device: DeviceOption = "auto",
    sampler: SamplerOption = None,
    steps: StepsOption = None,
    guidance: GuidanceOption = None,
) -> None:
    """Watch a picture appear, step by step: what it is now, and what it is going to be.

    Where stdout is no terminal, every step is one line of text.
    """
    import secrets
    import time

    import torch
    from rich.console import Console
    from rich.live import Live

    from diffcli.commands.devices import find_device
    from diffcli.core.generate import generate
    from diffcli.files.models import find_model
    from diffcli.labels import parse_labels
    from diffcli.model import Model

    path = find_model(model)
    drawer = Model.load(path, find_device(device))
    first_seed = secrets.randbelow(2**31) if seed is None else seed
    labels = parse_labels([label or str(first_seed % len(drawer.class_names))], drawer.class_names)
    if len(labels) != 1:
        raise UsageError(f"--label {label!r} is more than one class; watch draws one picture")
    settings = drawer.settings(sampler.value if sampler else None, steps, guidance)
    print(
        f"model: {path}  class: {drawer.class_names[labels[0]]}  seed: {first_seed}",
        file=sys.stderr,
    )
    way = generate(drawer.denoiser, torch.tensor(labels), [first_seed], settings)
    console = Console(highlight=False)
    if not console.is_terminal:
        for number, step in enumerate(way, start=1):
            print(_caption(drawer.denoiser, step, number, settings.steps), flush=True)
        return
    with Live(console=console, auto_refresh=False) as live:
        for number, step in enumerate(way, start=1):
            shown = time.monotonic()
            caption = _caption(drawer.denoiser, step, number, settings.steps)
            live.update(_frame(step, caption), refresh=True)
            if step.s >= 0:
                time.sleep(max(0.0, shown + 1 / fps - time.monotonic()))


def _caption(denoiser: "Denoiser", step: "Step", number: int, count: int) -> str:
    signal, noise = denoiser.schedule.amplitudes(step.s)
    if step.s < 0:
        return f"step {number}/{count}   t = {step.t} -> clean"
    return f"step {number}/{count}   t = {step.t} -> {step.s}   SNR {(signal / noise) ** 2:.3g}"


def _frame(step: "Step", caption: str) -> "Group":
    import torch
    from rich.console import Group
    from rich.text import Text

    from diffcli.commands.terminal import HalfBlocks
    from diffcli.data.images import to_pixels
    from diffcli.files.pictures import tile, to_pillow

    both = tile(to_pixels(torch.cat([step.x, step.x0])).cpu(), columns=2, ground=0)
    title = f"{'now':<{both.shape[2] // 2}} estimate of the end"
    lines = [Text(line, no_wrap=True, overflow="ellipsis") for line in (title, caption)]
    return Group(lines[0], HalfBlocks(to_pillow(both), spare_rows=3), lines[1])
