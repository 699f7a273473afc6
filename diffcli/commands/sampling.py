"""What ``diffcli sample`` does: from its options to a request, and from that to files."""

import re
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import typer

from diffcli.errors import UsageError

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from diffcli.core.samplers import SamplerName
    from diffcli.files.outputs import Output
    from diffcli.files.provenance import Layout, Provenance
    from diffcli.model import Model
    from diffcli.request import SampleRequest, Sheet

Form = Literal["picture", "animation", "arrays", "files"]

_INTERRUPTED = 130
_DEFAULT_OUTPUT = "grid.png"
_DEFAULT_STRENGTH = 0.6
_FORMS: dict[str, Form] = {
    ".png": "picture",
    ".npz": "arrays",
    ".gif": "animation",
    ".webp": "animation",
    ".apng": "animation",
}


@dataclass(frozen=True)
class Wishes:
    """The options that say what to draw; None where the user has said nothing."""

    labels: list[str] | None
    n: int | None
    seed: int | None
    again: Path | None
    model: Path | None
    device: str
    sampler: "SamplerName | None"
    steps: int | None
    guidance: float | None
    guidance_interval: str | None
    init: Path | None
    strength: float | None
    strip: bool | None
    sheet: str | None


@dataclass(frozen=True)
class Destination:
    """The options that say where it goes, checked.

    Args:
        form: what is written.
        path: of the file, or of the folder for ``files``; none is stdout.
        pattern: of the names of files.
        overwrite: whether what exists may be.
    """

    form: Form
    path: Path | None
    pattern: str
    overwrite: bool

    @classmethod
    def of(cls, output: str | None, out_dir: Path | None, overwrite: bool) -> "Destination":
        """The destination that ``-o`` or ``--out-dir`` names.

        Raises:
            UsageError: if nothing can be written there.
        """
        from diffcli.files.outputs import check_pattern

        if out_dir is not None:
            if output is not None:
                raise UsageError("-o and --out-dir are two places; choose one")
            if out_dir.exists() and not out_dir.is_dir():
                raise UsageError(f"--out-dir {out_dir} is a file; name a folder")
            root = _free(out_dir, overwrite)
            return cls("files", root, _literal(root) + "/{label}/{seed}.png", overwrite)
        name = _DEFAULT_OUTPUT if output is None else output
        if name == "-":
            if sys.stdout.isatty():
                raise UsageError("-o - writes a PNG's bytes, and stdout is a terminal; pipe it on")
            return cls("picture", None, "", overwrite)
        path = Path(name)
        form = _FORMS.get(path.suffix.lower())
        if form is None:
            raise UsageError(f"-o {name} must end in {', '.join(_FORMS)}, or be -")
        if "{" in name:
            if form != "picture":
                raise UsageError(f"-o {name}: only .png can be one file per picture")
            check_pattern(name)
            return cls("files", None, name, overwrite)
        if not path.parent.is_dir():
            raise UsageError(f"the folder {path.parent} does not exist; create it or change -o")
        if path.is_dir():
            raise UsageError(f"-o {path} is a folder; name a file in it, or use --out-dir")
        return cls(form, _free(path, overwrite), "", overwrite)


def _free(path: Path, overwrite: bool) -> Path:
    from diffcli.files.outputs import unused_path

    free = path if overwrite else unused_path(path)
    if free != path:
        _say(f"{path} exists and stays; writing {free} (--force overwrites)")
    return free


def _literal(path: Path) -> str:
    return str(path).replace("{", "{{").replace("}", "}}")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


class Plan(NamedTuple):
    """Everything that a drawing needs."""

    model: "Model"
    request: "SampleRequest"
    layout: "Layout"
    sheet: "Sheet | None"
    init: "Tensor | None"
    provenance: "Provenance | None"


def carry_out(
    wishes: Wishes, destination: Destination, metadata: bool, preview: bool | None
) -> None:
    """Draw, write, and say where to."""
    plan = make_plan(wishes, destination.form, metadata)
    _say(f"model: {plan.model.path}")
    _say(f"seed: {plan.request.seed}")
    if destination.form in ("files", "arrays"):
        _write_many(plan, destination)
    else:
        _write_one(plan, destination, preview)


def make_plan(wishes: Wishes, form: Form, metadata: bool) -> Plan:
    """What the options add up to, with those of a picture to draw again beneath them.

    Raises:
        UsageError: if they contradict each other, or the model.
        DiffcliError: if the model or the picture cannot be read.
    """
    from diffcli.commands.devices import find_device
    from diffcli.files.models import find_model
    from diffcli.files.provenance import ModelIdentity, Provenance, read_provenance
    from diffcli.model import Model

    before = read_provenance(wishes.again) if wishes.again else None
    path = find_model(wishes.model)
    model = Model.load(path, find_device(wishes.device))
    identity = ModelIdentity.of(path, model.description)
    if before and before.model.sha256 != identity.sha256:
        _say(
            f"{wishes.again} was drawn by another model, {before.model.file} "
            f"({before.model.sha256[:10]}); this is {path} ({identity.sha256[:10]})"
        )
    layout, sheet = _layout(wishes, form, before)
    request = _request(wishes, model, layout, before)
    if sheet:
        for _, row in sheet.rows(request):
            model.check(row.settings)
    names = tuple(model.class_names[label] for label in request.labels)
    provenance = Provenance(identity, names, request, layout, sheet) if metadata else None
    return Plan(model, request, layout, sheet, _init(wishes, model), provenance)


def _layout(
    wishes: Wishes, form: Form, before: "Provenance | None"
) -> tuple["Layout", "Sheet | None"]:
    if wishes.strip and wishes.sheet:
        raise UsageError("--strip and --sheet are two layouts; choose one")
    if form != "picture":
        if wishes.strip or wishes.sheet:
            raise UsageError("--strip and --sheet make one PNG; change -o")
        return ("animation" if form == "animation" else "picture"), None
    if wishes.sheet:
        return "sheet", _parse_sheet(wishes.sheet)
    if wishes.strip or (wishes.strip is None and before and before.layout == "strip"):
        return "strip", None
    if before and before.sheet and wishes.strip is None:
        return "sheet", before.sheet
    return "grid", None


def _request(
    wishes: Wishes, model: "Model", layout: "Layout", before: "Provenance | None"
) -> "SampleRequest":
    old = before.request if before else None
    settings = model.settings(
        wishes.sampler,
        wishes.steps,
        wishes.guidance,
        _parse_interval(wishes.guidance_interval),
        old.settings if old else None,
    )
    n, seed, strength = wishes.n, wishes.seed, wishes.strength
    if old:
        n = old.per_label if n is None else n
        seed = old.seed if seed is None else seed
        strength = old.strength if strength is None else strength
    if n is None:
        n = 1 if layout in ("strip", "sheet") else 8
    if wishes.init is None and strength is not None:
        raise UsageError("--strength says how far to go from a picture; give it with --init")
    if wishes.init is not None and strength is None:
        strength = _DEFAULT_STRENGTH
    labels: Sequence[str | int] = wishes.labels or (old.labels if old else ["all"])
    return model.request(labels, n, seed, settings, strength)


def _parse_interval(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    match = re.fullmatch(r"(\d{1,6})-(\d{1,6})", text)
    if not match:
        raise UsageError(f"--guidance-interval {text!r} is no interval; write it like 50-250")
    return int(match[1]), int(match[2])


def _parse_sheet(text: str) -> "Sheet":
    from diffcli.request import Sheet

    match = re.fullmatch(r"(guidance|steps)=(\d+(?:\.\d+)?(?:,\d+(?:\.\d+)?)*)", text)
    if not match:
        raise UsageError(f"--sheet {text!r} must be like guidance=0,1,2,4 or steps=2,4,8,50")
    try:
        return Sheet(
            "steps" if match[1] == "steps" else "guidance",
            tuple(float(value) for value in match[2].split(",")),
        )
    except ValueError as error:
        raise UsageError(f"--sheet {text}: {error}") from error


def _init(wishes: Wishes, model: "Model") -> "Tensor | None":
    if wishes.init is None:
        return None
    from diffcli.data.images import to_model_range
    from diffcli.files.pictures import from_pillow
    from diffcli.files.reading import open_picture

    shape = model.description.architecture
    picture = open_picture(wishes.init)
    pixels = from_pillow(picture, shape.image_channels, shape.image_height, shape.image_width)
    return to_model_range(pixels[None])


def _write_one(plan: Plan, destination: Destination, preview: bool | None) -> None:
    """Draw, and write one file, or to stdout."""
    from diffcli.files.atomic import write_atomically
    from diffcli.files.layouts import ANIMATED, animation
    from diffcli.files.outputs import grid_columns
    from diffcli.files.pictures import encode_png

    embedded = plan.provenance.embedded() if plan.provenance else None
    interrupted = False
    if plan.layout == "animation" and destination.path:
        steps = list(plan.model.trace(plan.request, plan.init))
        kind = ANIMATED[destination.path.suffix.lower()]
        content = animation(steps, grid_columns(plan.request), kind, embedded)
        picture = None
    else:
        picture, interrupted = _compose(plan)
        content = encode_png(picture, embedded)
    if destination.path:
        write_atomically(destination.path, content)
        print(destination.path)
    else:
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
    if picture and (preview or (preview is None and sys.stderr.isatty())):
        _show(picture)
    if interrupted:
        raise typer.Exit(_INTERRUPTED)


def _compose(plan: Plan) -> tuple["Image", bool]:
    """The picture asked for, and whether drawing was cut short."""
    from diffcli.files.layouts import sheet, strip
    from diffcli.files.outputs import Grid

    if plan.layout == "strip":
        return strip(list(plan.model.trace(plan.request, plan.init))), False
    if plan.layout == "sheet" and plan.sheet:
        captions, rows = [], []
        for caption, request in plan.sheet.rows(plan.request):
            grid = Grid(request)
            _draw_into(grid, plan._replace(request=request))
            captions.append(caption)
            rows.append(grid.pixels())
        return sheet(rows, captions), False
    grid = Grid(plan.request)
    interrupted = _draw_into(grid, plan)
    if not grid.count:
        raise KeyboardInterrupt
    return grid.picture(), interrupted


def _write_many(plan: Plan, destination: Destination) -> None:
    """Draw, and write pictures as they come, or all in one array."""
    from diffcli.files.outputs import ArraysFile, PictureFiles

    if destination.form == "arrays" and destination.path:
        shape = plan.model.description.architecture
        arrays = ArraysFile(
            plan.request,
            destination.path,
            (shape.image_channels, shape.image_height, shape.image_width),
        )
        interrupted = _draw_into(arrays, plan)
        if arrays.count:
            arrays.write()
            print(destination.path)
    else:
        files = PictureFiles(
            plan.request,
            destination.pattern,
            plan.model.class_names,
            destination.overwrite,
            plan.provenance,
            print if destination.path is None else lambda _: None,
        )
        interrupted = _draw_into(files, plan)
        if files.renamed:
            _say(f"{files.renamed} names were taken and have a suffix (--force overwrites)")
        if files.count and destination.path:
            print(destination.path)
    if interrupted:
        raise typer.Exit(_INTERRUPTED)


def _draw_into(output: "Output", plan: Plan) -> bool:
    """Draw everything, or until Ctrl-C; returns whether that was so."""
    from diffcli.commands.progress import StageDisplay

    total = len(plan.request)
    long = total > plan.model.batch_size(plan.request.settings)
    try:
        with StageDisplay(quiet=False) if long else nullcontext() as display:
            for drawn in plan.model.draw(plan.request, plan.init):
                output.add(drawn.pixels)
                if display:
                    display.show("drawing", output.count, total)
    except KeyboardInterrupt:
        _say(f"interrupted: {output.count:,} of {total:,} pictures are finished")
        return True
    return False


def _show(picture: "Image") -> None:
    from rich.console import Console

    from diffcli.commands.terminal import HalfBlocks

    Console(stderr=True).print(HalfBlocks(picture))
