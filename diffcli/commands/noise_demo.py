"""``diffcli noise-demo``: a picture turns into noise, and back."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from diffcli.commands.options import ForceOption
from diffcli.commands.places import check_place, free_place
from diffcli.errors import DiffcliError, UsageError

if TYPE_CHECKING:
    from PIL.Image import Image

    from diffcli.core.denoiser import Denoiser
    from diffcli.core.schedule import NoiseSchedule
    from diffcli.figures.noising import Noising, Process

_SCHEDULE, _BACK, _OUTPUT = "Schedule", "The way back", "Output"
_DEFAULT_TIMESTEPS, _DEFAULT_FRAMES, _EVENLY = 300, 60, 5
_FRAME_MILLISECONDS, _LAST_MILLISECONDS = 80, 2000


def noise_demo(
    image: Annotated[Path, typer.Argument(help="Any picture.", show_default=False)],
    t: Annotated[
        list[str] | None,
        typer.Option(
            "--t",
            help="Timesteps to show, 0 to T - 1: 150 or 0,50,150. May be repeated.",
            show_default="five, evenly spaced",
        ),
    ] = None,
    size: Annotated[
        int, typer.Option(min=1, max=4096, help="Longest side; larger pictures are reduced.")
    ] = 256,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seed of the noise.")] = 0,
    schedule: Annotated[
        str | None,
        typer.Option(
            help="linear, scaled-linear, cosine, or several with commas between, for the same "
            "noise under each.",
            show_default="linear, or the --model's",
            rich_help_panel=_SCHEDULE,
        ),
    ] = None,
    timesteps: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=100_000,
            help="T of the schedule.",
            show_default=f"{_DEFAULT_TIMESTEPS}, or the --model's",
            rich_help_panel=_SCHEDULE,
        ),
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(
            help="A model file, or a run by folder or name, to estimate the picture from the "
            "noise; the picture is fitted to it.",
            show_default="newest run, else the shipped digits, for pictures of their shape",
            rich_help_panel=_BACK,
        ),
    ] = None,
    denoise: Annotated[
        bool,
        typer.Option(
            "--denoise", help="Also go all the way back from each t.", rich_help_panel=_BACK
        ),
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="The PNG to write, or a GIF of the whole way.",
            show_default="noise.png, or noise.gif with --frames",
            rich_help_panel=_OUTPUT,
        ),
    ] = None,
    frames: Annotated[
        int | None,
        typer.Option(
            min=2,
            max=1000,
            help="Pictures in the GIF.",
            show_default=str(_DEFAULT_FRAMES),
            rich_help_panel=_OUTPUT,
        ),
    ] = None,
    force: ForceOption = False,
) -> None:
    """Show what the forward process makes of a picture, with all its numbers.

    The default is the classic process: linear betas from 0.0001 to 0.02, T = 300.
    """
    from diffcli.files.reading import open_picture

    target = output or Path("noise.png" if frames is None else "noise.gif")
    animated = _is_animated(target, frames, bool(t or denoise or model))
    check_place(target)
    picture = open_picture(image)
    picture.thumbnail((size, size), reducing_gap=3)

    from diffcli.commands.timesteps import parse_timesteps
    from diffcli.figures.noise_figure import noise_figure
    from diffcli.figures.noising import Noising
    from diffcli.files.pictures import save_png

    denoiser, note = (None, "") if animated else _find_denoiser(model, picture, denoise)
    if model and denoiser:
        picture = _fitted(picture, denoiser)
    schedules = _schedules(schedule, timesteps, denoiser if model else None)
    noising = Noising(picture, seed)
    if animated:
        target = free_place(target, force)
        _write_gif(target, noising, schedules, frames or _DEFAULT_FRAMES)
    else:
        total = next(iter(schedules.values())).num_timesteps
        chosen = parse_timesteps(t or [",".join(map(str, _evenly(total)))], total)
        print(note, end="", file=sys.stderr)
        processes = [
            noising.process(name, process, chosen, denoiser, denoise)
            for name, process in schedules.items()
        ]
        target = free_place(target, force)
        save_png(target, noise_figure(image.name, noising, processes))
        _print_tables(processes)
    print(target)


def _is_animated(target: Path, frames: int | None, still: bool) -> bool:
    kind = target.suffix.lower()
    if kind not in (".png", ".gif"):
        raise UsageError(f"-o {target} is neither .png nor .gif; name one of these")
    if kind == ".png" and frames is not None:
        raise UsageError(f"--frames makes a GIF, and -o {target} is none; name a .gif")
    if kind == ".gif" and still:
        raise UsageError(
            "a GIF shows the whole way to noise; leave out --t, --model and --denoise, "
            "or name a .png"
        )
    return kind == ".gif"


def _evenly(num_timesteps: int) -> list[int]:
    return [i * (num_timesteps - 1) // (_EVENLY - 1) for i in range(_EVENLY)]


def _find_denoiser(
    named: Path | None, picture: "Image", needed: bool
) -> "tuple[Denoiser | None, str]":
    """The named model; without a name the usual one, if the picture has its shape.

    Also a line to print about it.
    """
    from diffcli.files.checkpoint import load_model, read_description
    from diffcli.files.models import find_model

    path = find_model(named)
    if named is None:
        try:
            architecture = read_description(path).architecture
        except DiffcliError as error:
            if needed:
                raise
            return None, f"no way back: {error}\n"
        shape = (architecture.image_width, architecture.image_height)
        if picture.size != shape or (picture.mode == "RGB") != (architecture.image_channels == 3):
            if needed:
                colours = "grey" if architecture.image_channels == 1 else "colour"
                raise UsageError(
                    f"--denoise needs a {colours} picture of {shape[0]}x{shape[1]} pixels for "
                    f"{path}; name a model with --model, and the picture is fitted to it"
                )
            return None, ""
    return load_model(path)[1], f"model: {path}\n"


def _fitted(picture: "Image", denoiser: "Denoiser") -> "Image":
    from PIL import ImageOps

    config = denoiser.network.config
    coloured = picture.convert("L" if config.image_channels == 1 else "RGB")
    return ImageOps.fit(coloured, (config.image_width, config.image_height))


def _schedules(
    names: str | None, timesteps: int | None, denoiser: "Denoiser | None"
) -> "dict[str, NoiseSchedule]":
    """The schedules that are asked for; if none is, the network's, else the classic one."""
    from typing import get_args

    from diffcli.core.schedule import NoiseSchedule, ScheduleConfig, ScheduleName

    if denoiser and names is None and timesteps is None:
        return {"the model's schedule": denoiser.schedule}
    known: dict[str, ScheduleName] = {name: name for name in get_args(ScheduleName)}
    total = timesteps or _DEFAULT_TIMESTEPS
    schedules = {}
    for name in [part.strip() for part in (names or "linear").split(",")]:
        if name not in known:
            raise UsageError(f"--schedule {name!r} is none of {', '.join(known)}")
        schedules[name] = NoiseSchedule.from_config(ScheduleConfig(known[name], total))
    return schedules


def _write_gif(
    target: Path, noising: "Noising", schedules: "dict[str, NoiseSchedule]", count: int
) -> None:
    from diffcli.figures.noise_figure import animation
    from diffcli.files.atomic import write_atomically
    from diffcli.files.pictures import encode_animation

    frames = list(animation(noising, schedules, count))
    durations = [_FRAME_MILLISECONDS] * (count - 1) + [_LAST_MILLISECONDS]
    write_atomically(target, encode_animation(frames, durations))


def _print_tables(processes: "list[Process]") -> None:
    from rich.console import Console
    from rich.table import Table

    from diffcli.figures.noise_figure import remark

    console = Console(stderr=True, highlight=False)
    for process in processes:
        columns = ["t", "alpha_bar", "signal", "noise", "SNR", "log-SNR"]
        columns += ["1-step MSE"] if process.steps[0].estimate else []
        columns += ["final MSE"] if process.steps[0].denoised else []
        table = Table(*columns, title=process.name, title_justify="left")
        for column in table.columns:
            column.justify = "right"
        for step in process.steps:
            row = [
                str(step.t),
                f"{step.alpha_bar:.4g}",
                f"{step.signal:.4f}",
                f"{step.noise:.4f}",
                f"{step.snr:.3g}",
                f"{step.log_snr:.2f}",
            ]
            row += [f"{one.mse:.3g}" for one in (step.estimate, step.denoised) if one]
            table.add_row(*row)
        console.print(table)
        console.print(remark(process))
