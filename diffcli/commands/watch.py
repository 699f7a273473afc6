"""``diffcli watch``: draw a picture in the terminal, step by step."""

from typing import TYPE_CHECKING, Annotated

from diffcli.commands.console import say
from diffcli.commands.options import (
    DeviceOption,
    GuidanceOption,
    ModelOption,
    SamplerOption,
    StepsOption,
    option,
)
from diffcli.commands.preview import HalfBlocks
from diffcli.core.parameters import MAX_SEED
from diffcli.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Group

    from diffcli.core.samplers import Step
    from diffcli.core.schedule import NoiseSchedule


def watch(
    label: Annotated[
        str | None,
        option(
            "Label to draw: a name or a number.", None, "--label", "-l", shown="chosen by the seed"
        ),
    ] = None,
    seed: Annotated[
        int | None, option("Seed of the picture.", shown="random", min=0, max=MAX_SEED)
    ] = None,
    fps: Annotated[
        float, option("Maximum number of steps shown per second.", min=0.1, max=120)
    ] = 8.0,
    model: ModelOption = None,
    device: DeviceOption = "auto",
    sampler: SamplerOption = None,
    steps: StepsOption = None,
    guidance: GuidanceOption = None,
) -> None:
    """Draw a picture in the terminal: after each step, the picture and the estimate of x0.

    Without a terminal, every step is one line of text.
    """
    import math
    import secrets
    import time

    from rich.console import Console
    from rich.live import Live

    from diffcli.device import open_device
    from diffcli.files.locations import find_model, model_text
    from diffcli.sampling.labels import label_text
    from diffcli.sampling.model import Model

    if not math.isfinite(fps):
        raise UsageError(f"--fps must be a number, not {fps}")
    path = find_model(model)
    drawer = Model.load(path, open_device(device))
    if seed is None:
        seed = secrets.randbelow(2**31)
    settings = drawer.settings(sampler=sampler, steps=steps, guidance_scale=guidance)
    wanted = label or seed % len(drawer.class_names)
    request = drawer.request([wanted], 1, seed, settings)
    if len(request) != 1:
        raise UsageError(f"--label {label!r} is more than one class; watch draws one picture")
    names = [drawer.class_names[number] for number in request.labels]
    say(f"{model_text(path)}  class: {label_text(names, request.weights)}  seed: {seed}")
    schedule = drawer.denoiser.schedule
    console = Console(highlight=False)
    if not console.is_interactive:
        for number, step in enumerate(drawer.trace(request), start=1):
            print(_caption(schedule, step, number, settings.steps), flush=True)
        return
    with Live(console=console, auto_refresh=False) as live:
        for number, step in enumerate(drawer.trace(request), start=1):
            shown = time.monotonic()
            caption = _caption(schedule, step, number, settings.steps)
            live.update(_frame(step, caption), refresh=True)
            if step.s >= 0:
                time.sleep(max(0.0, shown + 1 / fps - time.monotonic()))


def _caption(schedule: "NoiseSchedule", step: "Step", number: int, count: int) -> str:
    if step.s < 0:
        return f"step {number}/{count}   t = {step.t} -> clean"
    alpha, sigma = schedule.alpha_sigma(step.s)
    return f"step {number}/{count}   t = {step.t} -> {step.s}   SNR {(alpha / sigma) ** 2:.3g}"


def _frame(step: "Step", caption: str) -> "Group":
    import torch
    from rich.console import Group
    from rich.text import Text

    from diffcli.data.images import to_pixels
    from diffcli.figures.grid import tile
    from diffcli.files.pictures import to_pillow

    both = tile(to_pixels(torch.cat([step.x, step.x0])).cpu(), columns=2, ground=0)
    title = f"{'x':<{both.shape[2] // 2}} estimate of x0"
    lines = [Text(line, no_wrap=True, overflow="ellipsis") for line in (title, caption)]
    return Group(lines[0], HalfBlocks(to_pillow(both), spare_rows=3), lines[1])
