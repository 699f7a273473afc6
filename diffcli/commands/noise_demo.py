"""``diffcli noise-demo``: add noise to a picture as training does, and remove it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from diffcli.commands.console import say
from diffcli.commands.options import (
    OUTPUT_PANEL,
    USUAL_MODEL,
    ForceOption,
    JsonOption,
    QuietOption,
    TimestepOption,
    Timesteps,
    check_output,
    chosen_timesteps,
    option,
    write_output,
)
from diffcli.core.parameters import MAX_SEED, MAX_TIMESTEPS, ScheduleConfig
from diffcli.errors import DiffcliError, UsageError

if TYPE_CHECKING:
    from PIL.Image import Image

    from diffcli.core.denoiser import Denoiser
    from diffcli.core.schedule import NoiseSchedule
    from diffcli.figures.noise_data import ForwardProcess, Noising
    from diffcli.files.checkpoint import ModelDescription

_SCHEDULE_PANEL, _REVERSE_PANEL = "Schedule", "Reverse process"
_DEFAULT_FRAMES, _DEFAULT_COUNT = 60, 5
_FRAME_MILLISECONDS, _LAST_MILLISECONDS = 80, 2000


def noise_demo(
    image: Annotated[Path, typer.Argument(help="Picture to add noise to.", show_default=False)],
    timestep: TimestepOption = None,
    size: Annotated[
        int, option("Longest side; larger pictures are reduced.", min=1, max=4096)
    ] = 256,
    seed: Annotated[int, option("Seed of the noise.", min=0, max=MAX_SEED)] = 0,
    schedule: Annotated[
        str | None,
        option(
            "Noise schedule: linear, linear-rescaled, cosine, rectified-flow, or several "
            "separated by commas.",
            _SCHEDULE_PANEL,
            shown="linear, or that of --model",
        ),
    ] = None,
    timesteps: Annotated[
        int | None,
        option(
            "Number of timesteps T.",
            _SCHEDULE_PANEL,
            shown=f"{ScheduleConfig().num_timesteps}, or that of --model",
            min=1,
            max=MAX_TIMESTEPS,
        ),
    ] = None,
    model: Annotated[
        Path | None,
        option(
            "Model (file, run's folder or name, mnist or mnist-2step) that estimates the picture "
            "from the noisy one. The picture is resized to fit the model.",
            _REVERSE_PANEL,
            "--model",
            "-m",
            shown=f"{USUAL_MODEL}, if the picture fits",
        ),
    ] = None,
    denoise: Annotated[
        bool,
        option(
            "Also denoise the picture in many steps from each timestep.",
            _REVERSE_PANEL,
            "--denoise",
        ),
    ] = False,
    output: Annotated[
        Path | None,
        option(
            "PNG to write, or GIF for an animation.",
            OUTPUT_PANEL,
            "--output",
            "-o",
            shown="noise.png, or noise.gif with --frames",
        ),
    ] = None,
    frames: Annotated[
        int | None,
        option("Frames of the GIF.", OUTPUT_PANEL, shown=str(_DEFAULT_FRAMES), min=2, max=1000),
    ] = None,
    force: ForceOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Draw what the forward process does to a picture, with all numbers.

    The default is the classic process: linear betas from 0.0001 to 0.02, T = 300. With --json,
    numbers are printed and no figure is drawn.
    """
    if as_json and output:
        raise UsageError("--json prints numbers and draws no figure; leave --output out")
    target = output or Path("noise.png" if frames is None else "noise.gif")
    if not as_json:
        check_output(target, (".png", ".gif"))
    animated = target.suffix.lower() == ".gif"
    if frames is not None and not animated:
        raise UsageError(f"--frames makes a GIF, and the output is {target}; name a .gif")
    if animated and (timestep or denoise or model or as_json):
        raise UsageError(
            "a GIF shows all timesteps; leave out --timestep, --model, --denoise and --json, or "
            "name a .png"
        )

    from diffcli.figures.noise_data import Noising
    from diffcli.figures.noise_figure import noise_figure
    from diffcli.files.pictures import encode_png, fitted
    from diffcli.files.reading import open_picture

    picture = open_picture(image)
    picture.thumbnail((size, size), reducing_gap=3)
    described, denoiser, note = None, None, ""
    if not animated:
        described, denoiser, note = _find_denoiser(model, picture, denoise)
    if model and described:
        picture = fitted(picture, *described.architecture.image_shape)
    schedules = _schedules(schedule, timesteps, described.schedule if model and described else None)
    noising = Noising(picture, seed)
    if animated:
        content = _gif(noising, schedules, frames or _DEFAULT_FRAMES)
        target = write_output(target, content, force, quiet)
    else:
        total = next(iter(schedules.values())).num_timesteps
        chosen = chosen_timesteps(timestep or [_evenly_spaced(total)], total)
        if note and not quiet:
            say(note)
        processes = [
            noising.process(name, process, chosen, denoiser, denoise)
            for name, process in schedules.items()
        ]
        if as_json:
            numbers = {"schedules": [_numbers(process) for process in processes]}
            print(json.dumps(numbers, allow_nan=False))
            return
        content = encode_png(noise_figure(image.name, noising, processes))
        target = write_output(target, content, force, quiet)
        if not quiet:
            _print_tables(processes)
    print(target)


def _evenly_spaced(num_timesteps: int) -> Timesteps:
    last = _DEFAULT_COUNT - 1
    return Timesteps(i * (num_timesteps - 1) // last for i in range(_DEFAULT_COUNT))


def _find_denoiser(
    wanted: Path | None, picture: "Image", needed: bool
) -> "tuple[ModelDescription | None, Denoiser | None, str]":
    """The wanted model, or the default one if the picture fits it; and a line to print."""
    from diffcli.files.checkpoint import load_model, read_description
    from diffcli.files.locations import find_model, model_text

    path = find_model(wanted)
    if wanted is None:
        try:
            channels, height, width = read_description(path).architecture.image_shape
        except DiffcliError as error:
            if needed:
                raise
            return None, None, f"no reverse process: {error}"
        if picture.size != (width, height) or (picture.mode == "RGB") != (channels == 3):
            if needed:
                colours = "grey" if channels == 1 else "colour"
                raise UsageError(
                    f"--denoise needs a {colours} picture of {width}x{height} pixels for {path}; "
                    "name a model with --model, and the picture is resized to fit"
                )
            return None, None, ""
    return *load_model(path), model_text(path)


def _schedules(
    names: str | None, timesteps: int | None, own: ScheduleConfig | None
) -> "dict[str, NoiseSchedule]":
    """The given schedules and T; else those of a model, or else the classic ones."""
    from diffcli.core.schedule import SCHEDULES, NoiseSchedule

    usual = own or ScheduleConfig()
    total = timesteps or usual.num_timesteps
    if names is None:
        title = "the model's schedule" if own and timesteps is None else usual.name
        return {title: NoiseSchedule.from_config(replace(usual, num_timesteps=total))}
    known = {str(name): name for name in SCHEDULES}
    schedules = {}
    for name in [part.strip() for part in names.split(",")]:
        if name not in known:
            raise UsageError(f"there is no schedule {name!r}; known are {', '.join(known)}")
        schedules[name] = NoiseSchedule.from_config(ScheduleConfig(known[name], total))
    return schedules


def _gif(noising: "Noising", schedules: "dict[str, NoiseSchedule]", count: int) -> bytes:
    from diffcli.figures.noise_figure import animation
    from diffcli.files.pictures import encode_animation

    frames = list(animation(noising, schedules, count))
    durations = [_FRAME_MILLISECONDS] * (count - 1) + [_LAST_MILLISECONDS]
    return encode_animation(frames, durations)


def _numbers(process: "ForwardProcess") -> dict[str, object]:
    """All numbers of the figure, for JSON."""
    return {
        "name": process.name,
        "prior_kl": process.prior_kl,
        "timesteps": [
            {
                "t": step.t,
                "alphas_cumprod": step.alphas_cumprod,
                "alpha": step.alpha,
                "sigma": step.sigma,
                "snr": step.snr,
                "log_snr": step.log_snr,
                "one_step_mse": step.estimate and step.estimate.mse,
                "final_mse": step.denoised and step.denoised.mse,
            }
            for step in process.steps
        ],
    }


def _print_tables(processes: "list[ForwardProcess]") -> None:
    from rich.console import Console
    from rich.table import Table

    from diffcli.figures.noise_figure import remark

    console = Console(stderr=True, highlight=False)
    for process in processes:
        columns = ["t", "ᾱ", "signal √ᾱ", "noise σ", "SNR", "log-SNR"]
        columns += ["1-step MSE"] if process.steps[0].estimate else []
        columns += ["final MSE"] if process.steps[0].denoised else []
        table = Table(*columns, title=process.name, title_justify="left", padding=(0, 1, 0, 0))
        for column in table.columns:
            # A number that does not fit goes on in the next line: without its end, it is another.
            column.justify, column.overflow = "right", "fold"
        for step in process.steps:
            row = [
                str(step.t),
                f"{step.alphas_cumprod:.4g}",
                f"{step.alpha:.4f}",
                f"{step.sigma:.4f}",
                f"{step.snr:.3g}",
                f"{step.log_snr:.2f}",
            ]
            row += [f"{found.mse:.3g}" for found in (step.estimate, step.denoised) if found]
            table.add_row(*row)
        console.print(table)
        console.print(remark(process))
