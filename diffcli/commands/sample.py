"""``diffcli sample``: draw pictures with a trained model."""

import json
import re
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from diffcli.commands.console import (
    Interruption,
    ProgressDisplay,
    deferred_interruption,
    preview,
    say,
)
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
    StepsOption,
    check_output,
    option,
    output_path,
    parse_interval,
)
from diffcli.core.config import Variance
from diffcli.errors import UsageError
from diffcli.files.naming import check_pattern

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from diffcli.core.samplers import Step
    from diffcli.sampling.model import Model
    from diffcli.sampling.outputs import Output
    from diffcli.sampling.provenance import Layout, Provenance
    from diffcli.sampling.request import SampleRequest, Sheet

_LAYOUT_PANEL = "Layout"
_DEFAULT_STRENGTH = 0.6
_ANIMATED = {".gif": "GIF", ".webp": "WEBP", ".apng": "PNG"}
_SUFFIXES = (".png", ".npz", *_ANIMATED)
_MAX_PICTURES = {"picture": 10**9, "grid": 10_000, "sheet": 1000, "strip": 200, "animation": 1000}


def sample(
    label: Annotated[
        list[str] | None,
        option(
            "Labels to draw: names, numbers, ranges (0-4,7) or all.",
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
        int | None, option("Seed of the first picture, one more for each next.", shown="random")
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
    strength: Annotated[
        float | None,
        option(
            "How much to change the --init picture, 0 to 1.",
            SAMPLING_PANEL,
            shown=f"{_DEFAULT_STRENGTH}",
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
        str | None,
        option("Rows that compare settings: guidance=0,1,2 or steps=2,4,8.", _LAYOUT_PANEL),
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
    target = _parse_target(output, out_dir)
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
    rows = _parse_sheet(sheet) if sheet else None
    if before and target.form in ("picture", "stdout") and strip is None and not sheet:
        strip, rows = before.layout == "strip", before.sheet
    settings = drawer.settings(
        sampler,
        steps,
        # All rows of a sheet are guided as one scale is, and not in the model's interval only.
        rows.values[0] if rows and rows.varied == "guidance" else guidance,
        guidance_interval,
        variance,
        before.request.settings if before else None,
    )
    old = before.request if before else None
    if num is None:
        num = old.per_label if old else 1 if strip or rows else 8
    if seed is None and old:
        seed = old.seed
    strength = _strength(init, strength, old, picture)
    request = drawer.request(
        label or (old.labels if old else ["all"]), num, seed, settings, strength
    )
    layout = _layout(target, request, bool(strip), rows)
    for _, row in rows.rows(request) if rows else ():
        drawer.check(row.settings)
    names = tuple(drawer.class_names[number] for number in request.labels)
    provenance = Provenance(identity, names, request, layout, rows)
    start = _read_init(init, drawer) if init else None
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
    init: Path | None, strength: float | None, old: "SampleRequest | None", picture: Path | None
) -> float | None:
    if init is None and old and old.strength is not None:
        raise UsageError(f"{picture} was drawn from another picture; name that one with --init")
    if init is None and strength is not None:
        raise UsageError("--strength needs a picture to start from; name it with --init")
    if init is None or strength is not None:
        return strength
    return (old.strength if old else None) or _DEFAULT_STRENGTH


@dataclass(frozen=True)
class Target:
    """Where the pictures go.

    Args:
        form: one still picture in a file or on stdout, an animation, an npz, or one file per
            picture.
        path: of the file; for ``files``, the pattern of the paths.
        folder: of single pictures, if they go to a folder per class.
    """

    form: Literal["picture", "stdout", "animation", "arrays", "files"]
    path: Path
    folder: Path | None = None


def _parse_target(output: str | None, out_dir: Path | None) -> Target:
    if out_dir is not None:
        if output is not None:
            raise UsageError("--output and --out-dir are two targets; choose one")
        if out_dir.exists() and not out_dir.is_dir():
            raise UsageError(f"--out-dir {out_dir} is a file; name a folder")
        literal = str(out_dir).replace("{", "{{").replace("}", "}}")
        return Target("files", Path(literal, "{label}", "{seed}.png"), out_dir)
    name = "grid.png" if output is None else output
    path = Path(name)
    if name == "-":
        if sys.stdout.isatty():
            raise UsageError("-o - writes the bytes of a PNG, and stdout is a terminal; pipe them")
        return Target("stdout", path)
    check_output(path, _SUFFIXES)
    if "{" in name:
        if path.suffix.lower() != ".png":
            raise UsageError(f"the output {name} is one file per picture, which must be .png")
        check_pattern(name)
        return Target("files", path)
    suffix = path.suffix.lower()
    if suffix == ".npz":
        return Target("arrays", path)
    return Target("animation" if suffix in _ANIMATED else "picture", path)


def _check_target(target: Target, still: bool, as_json: bool) -> None:
    if still and target.form not in ("picture", "stdout"):
        raise UsageError("--strip and --sheet make one PNG; change --output")
    if as_json and target.form == "stdout":
        raise UsageError("--json and -o - both write to stdout; choose one")


def _parse_sheet(text: str) -> "Sheet":
    from diffcli.sampling.request import Sheet

    match = re.fullmatch(r"(guidance|steps)=(\d+(?:\.\d+)?(?:,\d+(?:\.\d+)?)*)", text)
    if not match:
        raise UsageError(f"--sheet {text!r} must be like guidance=0,1,2,4 or steps=2,4,8,50")
    values = tuple(float(value) for value in match[2].split(","))
    try:
        return Sheet("steps" if match[1] == "steps" else "guidance", values)
    except ValueError as error:
        raise UsageError(f"--sheet {text}: {error}") from error


def _layout(
    target: Target, request: "SampleRequest", strip: bool, rows: "Sheet | None"
) -> "Layout":
    layout: Layout = "grid"
    if target.form in ("arrays", "files") or len(request) == 1:
        layout = "picture"
    if target.form == "animation":
        layout = "animation"
    elif strip:
        layout = "strip"
    elif rows:
        layout = "sheet"
    most = _MAX_PICTURES[layout]
    if len(request) > most:
        raise UsageError(
            f"{len(request):,} pictures are too many for one {layout}, which takes up to {most:,}; "
            "write them to a folder with --out-dir, or to one .npz"
        )
    return layout


def _read_init(path: Path, model: "Model") -> "Tensor":
    from diffcli.data.images import to_model_range
    from diffcli.files.pictures import fitted, from_pillow
    from diffcli.files.reading import open_picture

    pixels = from_pillow(fitted(open_picture(path), *model.description.architecture.image_shape))
    return to_model_range(pixels[None])


@dataclass(frozen=True)
class Drawing:
    """Draws what a provenance says, and writes it.

    Args:
        model: to draw with.
        provenance: what to draw.
        init: the picture to start from.
        interruption: ends the drawing; what is finished is written.
        metadata: whether pictures get the provenance as metadata.
        force: whether existing files may be overwritten.
        quiet: whether to print errors only.
        as_json: whether stdout is for JSON.
    """

    model: "Model"
    provenance: "Provenance"
    init: "Tensor | None"
    interruption: Interruption
    metadata: bool
    force: bool
    quiet: bool
    as_json: bool

    def write(self, target: Target, show: bool | None) -> list[Path]:
        """Draw and write; returns the paths."""
        from diffcli.files.pictures import encode_png
        from diffcli.files.writing import write_atomically

        if target.form == "files":
            return self._write_files(target)
        if target.form == "arrays":
            return self._write_arrays(target)
        embedded = self.provenance.embedded() if self.metadata else None
        picture = None
        if target.form == "animation":
            from diffcli.figures.grid import animation

            kind = _ANIMATED[target.path.suffix.lower()]
            content = animation(self._trace(), self._columns, kind, embedded)
        else:
            picture = self._compose()
            content = encode_png(picture, embedded)
        if target.form == "stdout":
            sys.stdout.buffer.write(content)
            sys.stdout.buffer.flush()
            paths = []
        else:
            path = output_path(target.path, self.force)
            write_atomically(path, content)
            paths = [self._report(path)]
        if picture and (show or (show is None and sys.stderr.isatty() and not self.quiet)):
            preview(picture)
        return paths

    @property
    def _columns(self) -> int:
        from diffcli.figures.grid import grid_columns

        request = self.provenance.request
        return grid_columns(len(request.labels), request.per_label)

    def _compose(self) -> "Image":
        """One still picture."""
        from diffcli.figures import grid

        request, sheet = self.provenance.request, self.provenance.sheet
        if self.provenance.layout == "strip":
            return grid.strip(self._trace())
        if sheet:
            captions, rows = [], []
            for caption, row in sheet.rows(request):
                captions.append(caption)
                rows.append(self._draw_all(row))
                if self.interruption():
                    raise typer.Exit(self.interruption.exit_code)
            return grid.sheet(rows, captions)
        return grid.grid(self._draw_all(request), self._columns)

    def _trace(self) -> "list[Step]":
        """All steps of all pictures; after an interruption there is nothing to write."""
        steps = []
        for step in self.model.trace(self.provenance.request, self.init):
            steps.append(step)
            if self.interruption():
                raise typer.Exit(self.interruption.exit_code)
        return steps

    def _draw_all(self, request: "SampleRequest") -> "Tensor":
        """The pictures of a request, or those that are finished after an interruption."""
        from diffcli.sampling.outputs import PictureArray

        array = PictureArray(request, self.model.description.architecture.image_shape)
        self._draw_into(array)
        if not array.count:
            raise typer.Exit(self.interruption.exit_code)
        return array.pixels

    def _write_arrays(self, target: Target) -> list[Path]:
        from diffcli.sampling.outputs import PictureArray

        shape = self.model.description.architecture.image_shape
        array = PictureArray(self.provenance.request, shape)
        self._draw_into(array)
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
        self._draw_into(files)
        if files.renamed:
            say(f"{files.renamed} files existed; the new ones have a suffix (--force overwrites)")
        if target.folder and paths:
            self._report(target.folder)
        return paths

    def _report(self, path: Path) -> Path:
        if not self.as_json:
            print(path)
        return path

    def _draw_into(self, output: "Output") -> None:
        """Draw all pictures of an output's request, or until an interruption."""
        total = len(output.request)
        several = total > self.model.batch_size(output.request.settings)
        with ProgressDisplay(self.quiet or not several) as display:
            for drawn in self.model.draw(output.request, self.init, self.interruption):
                output.add(drawn.pixels)
                display.show_stage("drawing", output.count, total)
        if self.interruption():
            say(f"interrupted: {output.count:,} of {total:,} pictures are finished")
