"""Options that several commands share, the parsers of all options, and places to write to."""

import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, cast

import typer

from diffcli.commands.console import say
from diffcli.core.parameters import SamplerName
from diffcli.errors import UsageError
from diffcli.files.naming import pattern_fields
from diffcli.files.writing import write_atomically, write_new
from diffcli.sampling.request import Sheet, Varied

MODEL_PANEL, SAMPLING_PANEL, OUTPUT_PANEL = "Model", "Sampling", "Output"
ANIMATED = {".gif": "GIF", ".webp": "WEBP", ".apng": "PNG"}
"""Pillow's formats of animations, by suffix."""

ADVICE = {
    "data": "choose the data set with --data",
    "device": "choose another --device",
    "features": "leave --features out to use the usual network",
    "force": "replace it with --force, choose another --name, or go on with train --resume",
    "image_size": "choose a size with --image-size",
    "learning_rate": "try a lower --learning-rate",
    "model": "name another one with --model",
    "name": "start a new run with another --name",
    "out_dir": "write them to a folder with --out-dir",
    "picture": "name another picture with --from",
    "samples": "name other pictures with --samples",
}
"""How to change the argument that an error names, in commands that have such an option."""


class Size(NamedTuple):
    """Height and width in pixels."""

    height: int
    width: int


class Interval(NamedTuple):
    """The first and the last timestep of an interval."""

    first: int
    last: int


class Timesteps(tuple[int, ...]):
    """Timesteps in the given order."""

    __slots__ = ()


class Seeds(tuple[int, ...]):
    """One seed, or those at both ends of an interpolation."""

    __slots__ = ()


def parse_duration(text: str) -> float:
    """Seconds in ``90``, ``90s``, ``10m`` or ``1.5h``."""
    units = {"": 1, "s": 1, "m": 60, "h": 3600}
    match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)([smh]?)", text.strip())
    seconds = float(match[1]) * units[match[2]] if match else 0.0
    if seconds <= 0:
        raise typer.BadParameter(f"{text!r} is no duration; write it like 90s, 10m or 1.5h")
    return seconds


def parse_size(text: str) -> Size:
    """The size in ``32`` or ``48x32``, which is width x height."""
    match = re.fullmatch(r"([1-9][0-9]{0,3})(?:x([1-9][0-9]{0,3}))?", text.strip())
    if not match:
        raise typer.BadParameter(f"{text!r} is no size; write it like 32 or 48x32")
    return Size(int(match[2] or match[1]), int(match[1]))


def parse_interval(text: str) -> Interval:
    """The interval in ``50-250``."""
    match = re.fullmatch(r"([0-9]{1,6})-([0-9]{1,6})", text.strip())
    if not match or int(match[1]) > int(match[2]):
        raise typer.BadParameter(f"{text!r} is no interval; write it like 50-250")
    return Interval(int(match[1]), int(match[2]))


def parse_timesteps(text: str) -> Timesteps:
    """The timesteps in ``150`` or ``0,50,150``."""
    parts = [part.strip() for part in text.split(",")]
    if not all(re.fullmatch(r"[0-9]{1,9}", part) for part in parts):
        raise typer.BadParameter(f"{text!r} is no timestep; write it like 150 or 0,50,150")
    return Timesteps(map(int, parts))


def parse_seeds(text: str) -> Seeds:
    """The seeds in ``5`` or ``5,9``."""
    if not re.fullmatch(r" *-?[0-9]{1,20}( *, *[0-9]{1,20})? *", text):
        raise typer.BadParameter(f"{text!r} is no seed; write it like 5, or 5,9 with --between")
    return Seeds(map(int, text.split(",")))


def parse_sheet(text: str) -> Sheet:
    """The values in ``guidance=0,1,2,4``, ``steps=2,4,8`` or ``eta=0,0.5,1``."""
    number = r"[0-9]+(?:\.[0-9]+)?"
    match = re.fullmatch(rf"(guidance|steps|eta)=({number}(?:,{number})*)", text)
    if not match:
        raise typer.BadParameter(
            f"{text!r} must be like guidance=0,1,2,4, steps=2,4,8,50 or eta=0,0.5,1"
        )
    values = tuple(float(value) for value in match[2].split(","))
    try:
        return Sheet(cast("Varied", match[1]), values)
    except ValueError as error:
        raise typer.BadParameter(f"{text}: {error}") from error


def chosen_timesteps(given: list[Timesteps], num_timesteps: int) -> list[int]:
    """All timesteps of a repeated option, each once.

    Raises:
        UsageError: if one is not in ``0 .. num_timesteps - 1``.
    """
    timesteps = list(dict.fromkeys(t for part in given for t in part))
    for t in timesteps:
        if t >= num_timesteps:
            raise UsageError(f"timestep {t} is not in 0 .. {num_timesteps - 1}")
    return timesteps


def option(
    text: str, panel: str | None = None, *names: str, shown: str | bool = True, **more: Any
) -> Any:
    """Declare an option; a number within limits is shown as ``<int>`` or ``<float>``, as others.

    Args:
        text: its help.
        panel: the part of the help that it stands in.
        names: on the command line, if not that of the parameter.
        shown: what the help shows as its default, if not the value.
        more: see ``typer.Option``.
    """
    limits = [more[end] for end in ("min", "max") if end in more]
    if limits:
        kind = "<float>" if any(isinstance(end, float) for end in limits) else "<int>"
        more.setdefault("metavar", kind)
    return typer.Option(*names, help=text, rich_help_panel=panel, show_default=shown, **more)


USUAL_MODEL = "newest run, else mnist"
"""The default of all options and arguments that name a model, in words."""

ModelOption = Annotated[
    Path | None,
    option(
        "Model: file, run's folder or name, mnist or mnist-2step.",
        MODEL_PANEL,
        "--model",
        "-m",
        shown=USUAL_MODEL,
    ),
]
DeviceOption = Annotated[str, option("Device: auto, cpu, cuda, cuda:1 or mps.", MODEL_PANEL)]
FeaturesOption = Annotated[
    str, option("Feature network: main, check (a second one) or a file.", MODEL_PANEL)
]
SamplerOption = Annotated[
    SamplerName | None,
    option(
        "Sampler: ddpm, ddim, dpmpp, dpmpp-sde or consistency.",
        SAMPLING_PANEL,
        shown="the model's",
        metavar="<name>",
    ),
]
StepsOption = Annotated[
    int | None, option("Number of sampling steps, up to T.", SAMPLING_PANEL, shown="the model's")
]
GuidanceOption = Annotated[
    float | None,
    option("Guidance scale: 1 is none, 0 ignores the label.", SAMPLING_PANEL, shown="the model's"),
]
EtaOption = Annotated[
    float | None,
    option(
        "Noise of dpmpp-sde: 1 all, 0 none.",
        SAMPLING_PANEL,
        shown="the model's",
    ),
]
TimestepOption = Annotated[
    list[Timesteps] | None,
    option(
        "Timesteps to show: 150 or 0,50,150. May be repeated.",
        None,
        "--timestep",
        "-t",
        "--t",
        shown=False,
        parser=parse_timesteps,
        metavar="<timesteps>",
    ),
]
ForceOption = Annotated[bool, option("Overwrite existing files.", OUTPUT_PANEL, "--force")]
QuietOption = Annotated[
    bool, option("Print results and errors only.", OUTPUT_PANEL, "--quiet", "-q")
]
JsonOption = Annotated[bool, option("Print one JSON object.", OUTPUT_PANEL, "--json")]


def check_output(path: Path, suffixes: tuple[str, ...] = (".png",)) -> None:
    """Check that a file can be written, before there is work to lose.

    Raises:
        UsageError: if the path is a folder or a device, or has another suffix; or if its folder
            cannot be made or written.
    """
    if path.suffix.lower() not in suffixes:
        raise UsageError(f"the output {path} must end in {' or '.join(suffixes)}")
    if path.exists() and not path.is_file():
        kind = "a folder" if path.is_dir() else "not a regular file"
        raise UsageError(f"the output {path} is {kind}; name a file")
    _check_folder(path.absolute().parent, path)


def _check_folder(folder: Path, output: Path) -> None:
    """Check that a folder is there or can be made, and that it can be written to.

    Raises:
        UsageError: if not.
    """
    there = next((place for place in (folder, *folder.parents) if place.exists()), None)
    if there is None:
        raise UsageError(f"there is no {folder.anchor}, and so no {output}; name another place")
    if not there.is_dir():
        raise UsageError(f"{there} is a file; the output {output} cannot be in it")
    effective = os.access in os.supports_effective_ids
    if not os.access(there, os.W_OK, effective_ids=effective):
        raise UsageError(f"the folder {there} cannot be written, and so not {output}; name another")


def write_output(wanted: Path, content: bytes, force: bool, quiet: bool) -> Path:
    """Write a file, under a free name if it exists and must not be replaced; make its folder.

    Args:
        wanted: the file.
        content: all of its bytes.
        force: whether it may be replaced.
        quiet: whether to say nothing of another name.

    Returns:
        The path that was written.

    Raises:
        OSError: if it cannot be written.
    """
    wanted.parent.mkdir(parents=True, exist_ok=True)
    if force:
        write_atomically(wanted, content)
        return wanted
    path = write_new(wanted, content)
    if path != wanted and not quiet:
        say(f"{wanted} exists; writing {path} instead (--force overwrites)")
    return path


@dataclass(frozen=True)
class Target:
    """Where drawn pictures go.

    Args:
        form: one still picture in a file or on stdout, an animation, an npz, or one file per
            picture.
        path: of the file; for ``files``, the pattern of the paths.
        folder: of single pictures, if they go to a folder per class.
    """

    form: Literal["picture", "stdout", "animation", "arrays", "files"]
    path: Path
    folder: Path | None = None


def parse_target(output: str | None, out_dir: Path | None) -> Target:
    """The target of ``--output`` or ``--out-dir``.

    Raises:
        UsageError: if nothing can be written there.
    """
    if out_dir is not None:
        if output is not None:
            raise UsageError("--output and --out-dir are two targets; choose one")
        if out_dir.exists() and not out_dir.is_dir():
            raise UsageError(f"--out-dir {out_dir} is a file; name a folder")
        _check_folder(out_dir.absolute(), out_dir)
        literal = str(out_dir).replace("{", "{{").replace("}", "}}")
        return Target("files", Path(literal, "{label}", "{seed}.png"), out_dir)
    name = "grid.png" if output is None else output
    path = Path(name)
    if name == "-":
        if sys.stdout.isatty():
            raise UsageError("-o - writes the bytes of a PNG, and stdout is a terminal; pipe them")
        return Target("stdout", path)
    check_output(path, (".png", ".npz", *ANIMATED))
    if "{" in name:
        if path.suffix.lower() != ".png":
            raise UsageError(f"the output {name} is one file per picture, which must be .png")
        pattern_fields(name)
        return Target("files", path)
    suffix = path.suffix.lower()
    if suffix == ".npz":
        return Target("arrays", path)
    return Target("animation" if suffix in ANIMATED else "picture", path)
