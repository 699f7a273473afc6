"""``diffcli sample``: draw pictures with a trained model."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from diffcli.commands.asking import Asked, arrange
from diffcli.commands.console import deferred_interruption, say
from diffcli.commands.drawing import Drawing, choose_layout
from diffcli.commands.options import (
    OUTPUT_PANEL,
    SAMPLING_PANEL,
    DeviceOption,
    EtaOption,
    ForceOption,
    GuidanceOption,
    Interval,
    JsonOption,
    ModelOption,
    QuietOption,
    SamplerOption,
    Seeds,
    StepsOption,
    option,
    parse_interval,
    parse_seeds,
    parse_sheet,
)
from diffcli.core.parameters import Variance
from diffcli.errors import UsageError
from diffcli.sampling.request import DEFAULT_STRENGTH, MASKED_STRENGTH, Sheet

_LAYOUT_PANEL = "Layout"
_ROW, _FRAMES = 10, 31


def sample(
    label: Annotated[
        list[str] | None,
        option(
            "Labels: cat, 0-4,7, all; mixed: 3:0.7,8:0.3 or 3,-8.",
            None,
            "--label",
            "-l",
            shown="all",
        ),
    ] = None,
    num: Annotated[
        int | None,
        option(
            "Pictures per label.",
            None,
            "--num",
            "-n",
            "--n",
            shown="8; strip, sheet: 1; between: 10",
        ),
    ] = None,
    seed: Annotated[
        Seeds | None,
        option(
            "Seed of the first picture; then one more each.",
            shown="random",
            parser=parse_seeds,
            metavar="<int>",
        ),
    ] = None,
    between: Annotated[
        str | None,
        option("Interpolate between two labels (3,8), two --seed or two --init.", shown=False),
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
            shown="the model's; with --guidance: all",
            parser=parse_interval,
            metavar="<a-b>",
        ),
    ] = None,
    variance: Annotated[
        Variance | None,
        option(
            "Noise of ddpm: beta or beta-tilde.",
            SAMPLING_PANEL,
            shown="the model's",
            metavar="<name>",
        ),
    ] = None,
    eta: EtaOption = None,
    init: Annotated[
        list[Path] | None,
        option("Picture to start from instead of noise.", SAMPLING_PANEL, shown=False),
    ] = None,
    invert: Annotated[
        str | None,
        option(
            "Draw from the noise of --init, found under this label.",
            SAMPLING_PANEL,
            shown=False,
        ),
    ] = None,
    mask: Annotated[
        Path | None,
        option(
            "Inpaint: a picture, white where --init is drawn anew.", SAMPLING_PANEL, shown=False
        ),
    ] = None,
    strength: Annotated[
        float | None,
        option(
            "How much to change the --init picture, up to 1.",
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
            "Rows that compare: guidance=0,1,2, steps=2,4 or eta=0,0.5.",
            _LAYOUT_PANEL,
            parser=parse_sheet,
            metavar="<values>",
        ),
    ] = None,
    output: Annotated[
        str | None,
        option(
            "File: .png .npz .gif .webp .apng; {label}.png; or -.",
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
    before = None
    if picture:
        from diffcli.sampling.provenance import read_provenance

        before = read_provenance(picture)
    arranged = arrange(
        output,
        out_dir,
        strip,
        sheet,
        as_json,
        {"guidance": guidance, "steps": steps, "eta": eta},
        show,
        picture,
        before,
    )

    from diffcli.device import open_device
    from diffcli.files.locations import find_model, model_text
    from diffcli.sampling.provenance import Provenance, find_recorded_model, load_identified

    recorded = find_recorded_model(before.model) if before and model is None else None
    path = recorded or find_model(model)
    drawer, identity = load_identified(path, open_device(device))
    if before and before.model.sha256 != identity.sha256 and not quiet:
        say(
            f"warning: {picture} was drawn with another model, {before.model.file} "
            f"({before.model.sha256[:10]}); this one is {path} ({identity.sha256[:10]})"
        )
    old = before.request if before else None
    asked = Asked(label, seed, between, init or [], invert, mask, strength, picture, old)
    start = asked.start(drawer)
    settings = drawer.settings(
        asked.base(
            drawer, start, before.sheet if before and before.sheet != arranged.sheet else None
        ),
        sampler=sampler,
        steps=steps,
        # All rows of a new sheet are guided as one scale is, and not in an interval that was
        # there before.  A sheet that is drawn again keeps its own.
        guidance_scale=(sheet.values[0] if sheet and sheet.varied == "guidance" else guidance),
        guidance_interval=guidance_interval,
        variance=variance,
        eta=arranged.sheet.values[0] if arranged.sheet and arranged.sheet.varied == "eta" else eta,
    )
    if num is None and old:
        num = old.per_label
    elif num is None and asked.ends:
        num = _FRAMES if arranged.target.form == "animation" else _ROW
    elif num is None:
        num = 1 if arranged.strip or arranged.sheet else 8
    if guidance_interval and settings.guidance_scale == 1 and not arranged.sheet:
        raise UsageError(
            "--guidance-interval has no effect at guidance 1; choose another --guidance"
        )
    request = asked.request(drawer, settings, num, start)
    layout = choose_layout(
        arranged.target,
        request,
        arranged.strip,
        arranged.sheet,
        drawer.description.architecture.image_shape,
    )
    for _, row in arranged.sheet.rows(request) if arranged.sheet else ():
        drawer.check(row.settings)
    names = tuple(drawer.class_names[number] for number in request.labels)
    provenance = Provenance(identity, names, request, layout, arranged.sheet)
    if not quiet:
        if before and before.sheet and not arranged.sheet:
            say(f"{picture} is a sheet of {before.sheet.varied}; its rows are left out")
        say(model_text(path))
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
        files = drawing.write(arranged.target, show)
    if as_json:
        print(json.dumps({"files": [*map(str, files)], **asdict(provenance)}))
    if interruption():
        raise typer.Exit(interruption.exit_code)
