"""``diffcli sample``: draw pictures with a trained model."""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from diffcli.commands.console import deferred_interruption, say
from diffcli.commands.drawing import Drawing, check_target, choose_layout
from diffcli.commands.options import (
    OUTPUT_PANEL,
    SAMPLING_PANEL,
    DeviceOption,
    ForceOption,
    GuidanceOption,
    Interval,
    JsonOption,
    ModelOption,
    QuietOption,
    SamplerOption,
    Seeds,
    StepsOption,
    Target,
    option,
    parse_interval,
    parse_seeds,
    parse_sheet,
    parse_target,
)
from diffcli.core.parameters import Variance
from diffcli.errors import UsageError
from diffcli.sampling.request import DEFAULT_STRENGTH, MASKED_STRENGTH, SampleRequest, Sheet

if TYPE_CHECKING:
    from diffcli.core.generate import Init
    from diffcli.core.parameters import SamplingSettings
    from diffcli.sampling.model import Model
    from diffcli.sampling.start import Inversion

_LAYOUT_PANEL = "Layout"
_ROW, _FRAMES = 10, 31


def sample(
    label: Annotated[
        list[str] | None,
        option(
            "Labels: cat, 3, 0-4,7 or all; as a mixture: 3:0.7,8:0.3 or 3,-8.",
            None,
            "--label",
            "-l",
            shown="all",
        ),
    ] = None,
    num: Annotated[
        int | None,
        option("Pictures per label.", None, "--num", "-n", "--n", shown="8; strip, sheet: 1"),
    ] = None,
    seed: Annotated[
        Seeds | None,
        option(
            "Seed of the first picture, then one more each.",
            shown="random",
            parser=parse_seeds,
            metavar="<int>",
        ),
    ] = None,
    between: Annotated[
        str | None,
        option("Two labels, 3,8, to interpolate, with two --init or --seed 5,9.", shown=False),
    ] = None,
    picture: Annotated[
        Path | None, option("Picture to draw again; other options change it.", None, "--from")
    ] = None,
    model: ModelOption = None,
    device: DeviceOption = "auto",
    sampler: SamplerOption = None,
    steps: StepsOption = None,
    guidance: GuidanceOption = None,
    guidance_interval: Annotated[
        Interval | None,
        option(
            "Timesteps to guide at, like 50-250.",
            SAMPLING_PANEL,
            shown="the model's",
            parser=parse_interval,
            metavar="<a-b>",
        ),
    ] = None,
    variance: Annotated[
        Variance | None,
        option(
            "For ddpm: beta or beta-tilde.",
            SAMPLING_PANEL,
            shown="the model's",
            metavar="<name>",
        ),
    ] = None,
    init: Annotated[
        list[Path] | None,
        option("Picture to start from instead of noise.", SAMPLING_PANEL, shown=False),
    ] = None,
    invert: Annotated[
        str | None,
        option("Label of the --init picture, to draw from its noise.", SAMPLING_PANEL, shown=False),
    ] = None,
    mask: Annotated[
        Path | None,
        option("Picture that is white where --init is drawn anew.", SAMPLING_PANEL, shown=False),
    ] = None,
    strength: Annotated[
        float | None,
        option(
            "How much to change the --init picture, 0 to 1.",
            SAMPLING_PANEL,
            shown=f"{DEFAULT_STRENGTH:g}; with --mask: {MASKED_STRENGTH:g}",
        ),
    ] = None,
    strip: Annotated[
        bool | None,
        option(
            "Draw the pictures after each step, and estimates of x0.",
            _LAYOUT_PANEL,
            "--strip/--no-strip",
            shown=False,
        ),
    ] = None,
    sheet: Annotated[
        Sheet | None,
        option(
            "Rows that compare settings: guidance=0,1,2 or steps=2,4,8.",
            _LAYOUT_PANEL,
            parser=parse_sheet,
            metavar="<values>",
        ),
    ] = None,
    output: Annotated[
        str | None,
        option(
            "File: .png, .npz, .gif, .webp, .apng; pattern; or -.",
            OUTPUT_PANEL,
            "--output",
            "-o",
            shown="grid.png",
        ),
    ] = None,
    out_dir: Annotated[
        Path | None, option("Folder for single pictures, one sub-folder per class.", OUTPUT_PANEL)
    ] = None,
    force: ForceOption = False,
    metadata: Annotated[
        bool, option("Write the settings into pictures.", OUTPUT_PANEL, "--metadata/--no-metadata")
    ] = True,
    show: Annotated[
        bool | None,
        option(
            "Show the picture in the terminal.",
            OUTPUT_PANEL,
            "--preview/--no-preview",
            shown="on a terminal",
        ),
    ] = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Draw pictures of labels, as a grid with one row per label."""
    if strip and sheet:
        raise UsageError("--strip and --sheet are two layouts; choose one")
    target = parse_target(output, out_dir)
    check_target(target, bool(strip or sheet), as_json)

    from diffcli.device import open_device
    from diffcli.files.locations import find_model
    from diffcli.sampling.model import Model
    from diffcli.sampling.provenance import (
        ModelIdentity,
        Provenance,
        find_recorded_model,
        read_provenance,
    )
    from diffcli.sampling.start import Inversion

    before = read_provenance(picture) if picture else None
    if before and output is None and out_dir is None and before.layout == "animation":
        target = Target("animation", Path(f"grid{picture.suffix.lower()}" if picture else ""))
    recorded = find_recorded_model(before.model) if before and model is None else None
    path = recorded or find_model(model)
    drawer = Model.load(path, open_device(device))
    identity = ModelIdentity.of(path, drawer.description)
    if before and before.model.sha256 != identity.sha256:
        say(
            f"warning: {picture} was drawn with another model, {before.model.file} "
            f"({before.model.sha256[:10]}); this one is {path} ({identity.sha256[:10]})"
        )
    if before and target.form in ("picture", "stdout") and strip is None and sheet is None:
        strip, sheet = before.layout == "strip", before.sheet
    old = before.request if before else None
    ends = _ends(between, label, old)
    start = _start(drawer, init or [], invert, ends, mask, strength, old, picture)
    inverted = start.labels if isinstance(start, Inversion) else None
    settings = drawer.settings(
        sampler,
        steps,
        # All rows of a sheet are guided as one scale is, and not in the model's interval only.
        sheet.values[0] if sheet and sheet.varied == "guidance" else guidance,
        guidance_interval,
        variance,
        _base(drawer, inverted, old),
    )
    if num is None and old:
        num = old.per_label
    elif num is None and ends:
        num = _FRAMES if target.form == "animation" else _ROW
    elif num is None:
        num = 1 if strip or sheet else 8
    request = _request(
        drawer,
        settings,
        ends or label,
        num,
        seed,
        bool(ends),
        inverted,
        _strength(start, strength, old),
        mask is not None,
        old,
    )
    layout = choose_layout(target, request, bool(strip), sheet)
    for _, row in sheet.rows(request) if sheet else ():
        drawer.check(row.settings)
    names = tuple(drawer.class_names[number] for number in request.labels)
    provenance = Provenance(identity, names, request, layout, sheet)
    if not quiet:
        say(f"model: {path}")
        last = request.interpolation and request.interpolation.last_seed
        say(f"seed: {request.seed}" + (f",{last}" if last not in (None, request.seed) else ""))
    with deferred_interruption() as interruption:
        drawing = Drawing(
            drawer,
            provenance,
            start,
            interruption,
            metadata,
            force,
            quiet,
            as_json,
        )
        files = drawing.write(target, show)
    if as_json:
        print(json.dumps({"files": [*map(str, files)], **asdict(provenance)}))
    if interruption():
        raise typer.Exit(interruption.exit_code)


def _ends(
    between: str | None, label: list[str] | None, old: SampleRequest | None
) -> Sequence[str | int] | None:
    """The two labels of an interpolation, if it is to be one."""
    if between is None:
        return old.labels if old and old.interpolation and not label else None
    if label:
        raise UsageError("--between names both labels; leave --label out")
    return [between]


def _start(
    model: "Model",
    pictures: list[Path],
    invert: str | None,
    ends: Sequence[str | int] | None,
    mask: Path | None,
    strength: float | None,
    old: SampleRequest | None,
    picture: Path | None,
) -> "Init | Inversion | None":
    """The pictures that drawing starts from, if it does."""
    if not pictures and old and (old.strength is not None or old.inverted):
        raise UsageError(f"{picture} was drawn from another picture; name that one with --init")
    if mask is None and old and old.masked:
        raise UsageError(f"{picture} was drawn with a mask; name that one with --mask")
    noising = {"--mask": mask, "--strength": strength}
    for name, value in {**noising, "--invert": invert}.items():
        if not pictures and value is not None:
            raise UsageError(f"{name} needs a picture to start from; name it with --init")
    if not pictures:
        return None
    found_under: Sequence[str | int] | None = ends
    if ends is None:
        found_under = old.inverted if invert is None and old else invert and [invert]
    if len(pictures) != (2 if ends else 1):
        raise UsageError(
            f"{len(pictures)} --init pictures: --between takes two, all else starts from one"
        )
    if not found_under:
        return model.init(pictures[0], mask)
    for name, value in {**noising, **({"--invert": invert} if ends else {})}.items():
        if value is not None:
            raise UsageError(f"{name} is no part of drawing from the noise of pictures")
    return model.invert(pictures, found_under)


def _base(
    model: "Model", inverted: tuple[int, ...] | None, old: SampleRequest | None
) -> "SamplingSettings | None":
    """The settings that options change, if not the model's own."""
    if inverted and (old is None or old.inverted is None):
        return model.inversion_settings()
    return old.settings if old else None


def _request(
    model: "Model",
    settings: "SamplingSettings",
    labels: Sequence[str | int] | None,
    num: int,
    seed: Seeds | None,
    interpolated: bool,
    inverted: tuple[int, ...] | None,
    strength: float | None,
    masked: bool,
    old: SampleRequest | None,
) -> SampleRequest:
    way = old.interpolation if old and interpolated else None
    if seed is None and old:
        seed = Seeds([old.seed, *([way.last_seed] if way else [])])
    if labels and interpolated:
        seeds = (seed[0], seed[-1]) if seed else None
        place = (way.start, way.end) if way else (0.0, 1.0)
        return model.request_between(labels, num, seeds, settings, inverted, place)
    if seed and len(seed) > 1:
        raise UsageError("two seeds are the ends of an interpolation, which needs --between")
    first = seed[0] if seed else None
    request = model.request(
        labels or (old.labels if old else ["all"]),
        num,
        first,
        settings,
        strength,
        masked,
        inverted,
    )
    return replace(request, weights=old.weights) if old and not labels else request


def _strength(
    start: "Init | Inversion | None", strength: float | None, old: SampleRequest | None
) -> float | None:
    from diffcli.core.generate import Init

    if not isinstance(start, Init) or strength is not None:
        return strength
    if old and old.strength is not None:
        return old.strength
    return DEFAULT_STRENGTH if start.redrawn is None else MASKED_STRENGTH
