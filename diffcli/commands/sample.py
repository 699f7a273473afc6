"""``diffcli sample``: draw pictures with a trained model."""

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from diffcli.commands.console import (
    Interruption,
    ProgressDisplay,
    deferred_interruption,
    preview,
    say,
)
from diffcli.commands.options import (
    ANIMATED,
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
    StepsOption,
    Target,
    option,
    output_path,
    parse_interval,
    parse_sheet,
    parse_target,
)
from diffcli.core.parameters import Variance
from diffcli.errors import UsageError
from diffcli.sampling.request import DEFAULT_STRENGTH, MASKED_STRENGTH, SampleRequest, Sheet

if TYPE_CHECKING:
    from diffcli.core.generate import Init
    from diffcli.sampling.model import Model
    from diffcli.sampling.outputs import Output
    from diffcli.sampling.provenance import Layout, Provenance

_LAYOUT_PANEL = "Layout"
_MAX_PICTURES = {"picture": 10**9, "grid": 10_000, "sheet": 1000, "strip": 200, "animation": 1000}


def sample(
    label: Annotated[
        list[str] | None,
        option(
            "Labels: names, numbers, ranges (0-4,7) or all.",
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
        int | None, option("Seed of the first picture, then one more each.", shown="random")
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
            metavar="<first-last>",
        ),
    ] = None,
    variance: Annotated[
        Variance | None,
        option(
            "Variance of ddpm: beta or beta-tilde.",
            SAMPLING_PANEL,
            shown="the model's",
            metavar="<name>",
        ),
    ] = None,
    init: Annotated[
        Path | None, option("Picture to start from instead of noise.", SAMPLING_PANEL)
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
    _check_target(target, bool(strip or sheet), as_json)

    from diffcli.device import open_device
    from diffcli.files.locations import find_model
    from diffcli.sampling.model import Model
    from diffcli.sampling.provenance import (
        ModelIdentity,
        Provenance,
        find_recorded_model,
        read_provenance,
    )

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
    settings = drawer.settings(
        sampler,
        steps,
        # All rows of a sheet are guided as one scale is, and not in the model's interval only.
        sheet.values[0] if sheet and sheet.varied == "guidance" else guidance,
        guidance_interval,
        variance,
        before.request.settings if before else None,
    )
    old = before.request if before else None
    if num is None:
        num = old.per_label if old else 1 if strip or sheet else 8
    if seed is None and old:
        seed = old.seed
    strength = _strength(init, mask, strength, old, picture)
    request = drawer.request(
        label or (old.labels if old else ["all"]), num, seed, settings, strength, mask is not None
    )
    layout = _layout(target, request, bool(strip), sheet)
    for _, row in sheet.rows(request) if sheet else ():
        drawer.check(row.settings)
    names = tuple(drawer.class_names[number] for number in request.labels)
    provenance = Provenance(identity, names, request, layout, sheet)
    start = drawer.init(init, mask) if init else None
    if not quiet:
        say(f"model: {path}")
        say(f"seed: {request.seed}")
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


def _strength(
    init: Path | None,
    mask: Path | None,
    strength: float | None,
    old: SampleRequest | None,
    picture: Path | None,
) -> float | None:
    if init is None and old and old.strength is not None:
        raise UsageError(f"{picture} was drawn from another picture; name that one with --init")
    if mask is None and old and old.masked:
        raise UsageError(f"{picture} was drawn with a mask; name that one with --mask")
    for name, value in (("--mask", mask), ("--strength", strength)):
        if init is None and value is not None:
            raise UsageError(f"{name} needs a picture to start from; name it with --init")
    if init is None or strength is not None:
        return strength
    if old and old.strength is not None:
        return old.strength
    return MASKED_STRENGTH if mask else DEFAULT_STRENGTH


def _check_target(target: Target, still: bool, as_json: bool) -> None:
    if still and target.form not in ("picture", "stdout"):
        raise UsageError("--strip and --sheet make one PNG; change --output")
    if as_json and target.form == "stdout":
        raise UsageError("--json and -o - both write to stdout; choose one")


def _layout(target: Target, request: SampleRequest, strip: bool, sheet: Sheet | None) -> "Layout":
    layout: Layout = "grid"
    if target.form in ("arrays", "files") or len(request) == 1:
        layout = "picture"
    if target.form == "animation":
        layout = "animation"
    elif strip:
        layout = "strip"
    elif sheet:
        layout = "sheet"
    most = _MAX_PICTURES[layout]
    if len(request) > most:
        raise UsageError(
            f"{len(request):,} pictures are too many for one {layout}, which takes up to {most:,}; "
            "write them to a folder with --out-dir, or to one .npz"
        )
    return layout


@dataclass(frozen=True)
class Drawing:
    """Draws what a provenance says, and writes it.

    Args:
        model: to draw with.
        provenance: what to draw.
        init: the picture to start from, if there is one.
        interruption: ends the drawing; what is finished is written.
        metadata: whether pictures get the provenance as metadata.
        force: whether existing files may be overwritten.
        quiet: whether to print errors only.
        as_json: whether stdout is for JSON.
    """

    model: "Model"
    provenance: "Provenance"
    init: "Init | None"
    interruption: Interruption
    metadata: bool
    force: bool
    quiet: bool
    as_json: bool

    def write(self, target: Target, show: bool | None) -> list[Path]:
        """Draw and write; returns the paths."""
        if target.form == "files":
            return self._write_files(target)
        if target.form == "arrays":
            return self._write_arrays(target)
        from diffcli.figures.drawing import draw_animation, draw_still
        from diffcli.files.pictures import encode_png
        from diffcli.files.writing import write_atomically

        request, embedded = self.provenance.request, None
        if self.metadata:
            embedded = self.provenance.embedded()
        picture = content = None
        if target.form == "animation":
            kind = ANIMATED[target.path.suffix.lower()]
            content = draw_animation(
                self.model, request, self.init, kind, embedded, self.interruption
            )
        else:
            picture = draw_still(
                self.model, self.provenance, self.init, self._draw, self.interruption
            )
            content = encode_png(picture, embedded) if picture else None
        if content is None:
            return []
        paths = []
        if target.form == "stdout":
            sys.stdout.buffer.write(content)
            sys.stdout.buffer.flush()
        else:
            path = output_path(target.path, self.force)
            write_atomically(path, content)
            paths = [self._report(path)]
        if picture and (show or (show is None and sys.stderr.isatty() and not self.quiet)):
            preview(picture)
        return paths

    def _write_arrays(self, target: Target) -> list[Path]:
        from diffcli.sampling.outputs import PictureArray

        shape = self.model.description.architecture.image_shape
        array = PictureArray(self.provenance.request, shape)
        self._draw(array)
        if not array.count:
            return []
        path = output_path(target.path, self.force)
        array.save(path)
        return [self._report(path)]

    def _write_files(self, target: Target) -> list[Path]:
        from diffcli.sampling.outputs import PictureFiles

        paths: list[Path] = []
        files = PictureFiles(
            self.provenance.request,
            str(target.path),
            self.model.class_names,
            self.force,
            self.provenance if self.metadata else None,
            paths.append if target.folder else lambda path: paths.append(self._report(path)),
        )
        self._draw(files)
        if files.renamed:
            say(f"{files.renamed} files existed; the new ones have a suffix (--force overwrites)")
        if target.folder and paths:
            self._report(target.folder)
        return paths

    def _report(self, path: Path) -> Path:
        if not self.as_json:
            print(path)
        return path

    def _draw(self, output: "Output") -> None:
        """Draw all pictures of an output's request, or until an interruption."""
        total = len(output.request)
        several = total > self.model.batch_size(output.request.settings)
        with ProgressDisplay(self.quiet or not several) as display:
            for drawn in self.model.draw(output.request, self.init, self.interruption):
                output.add(drawn.pixels)
                display.show_stage("drawing", output.count, total)
        if self.interruption():
            say(f"interrupted: {output.count:,} of {total:,} pictures are finished")
