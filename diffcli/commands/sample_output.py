"""Where ``diffcli sample`` puts what it draws, and putting it there."""

import sys
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from diffcli.commands.places import check_place, free_place
from diffcli.commands.sample_plan import Form, Plan, say
from diffcli.errors import UsageError

if TYPE_CHECKING:
    from PIL.Image import Image

    from diffcli.files.outputs import Output

_INTERRUPTED = 130
_DEFAULT_OUTPUT = "grid.png"
_FORMS: dict[str, Form] = {
    ".png": "picture",
    ".npz": "arrays",
    ".gif": "animation",
    ".webp": "animation",
    ".apng": "animation",
}


@dataclass(frozen=True)
class Destination:
    """The options that say where it goes, checked.

    Args:
        form: what is written.
        path: of the file, or of the folder for ``files``; none is stdout.
        pattern: of the names of files, where they are not in a folder per class.
        overwrite: whether what exists may be.
    """

    form: Form
    path: Path | None
    pattern: str | None
    overwrite: bool

    @classmethod
    def of(cls, output: str | None, out_dir: Path | None, overwrite: bool) -> "Destination":
        """The destination that ``-o`` or ``--out-dir`` names.

        Raises:
            UsageError: if nothing can be written there.
        """
        from diffcli.files.naming import check_pattern

        if out_dir is not None:
            if output is not None:
                raise UsageError("-o and --out-dir are two places; choose one")
            if out_dir.exists() and not out_dir.is_dir():
                raise UsageError(f"--out-dir {out_dir} is a file; name a folder")
            return cls("files", out_dir, None, overwrite)
        name = _DEFAULT_OUTPUT if output is None else output
        if name == "-":
            if sys.stdout.isatty():
                raise UsageError("-o - writes a PNG's bytes, and stdout is a terminal; pipe it on")
            return cls("picture", None, None, overwrite)
        path = Path(name)
        form = _FORMS.get(path.suffix.lower())
        if form is None:
            raise UsageError(f"-o {name} must end in {', '.join(_FORMS)}, or be -")
        if "{" in name:
            if form != "picture":
                raise UsageError(f"-o {name}: only .png can be one file per picture")
            check_pattern(name)
            return cls("files", None, name, overwrite)
        if path.is_dir():
            raise UsageError(f"-o {path} is a folder; name a file in it, or use --out-dir")
        check_place(path)
        return cls(form, path, None, overwrite)


def write(plan: Plan, destination: Destination, preview: bool | None) -> None:
    """Draw, write, and print where to.

    Raises:
        typer.Exit: with 130 after Ctrl-C, once what is finished is written.
        OSError: if it cannot be written.
    """
    if destination.path:
        place = free_place(destination.path, destination.overwrite)
        destination = replace(destination, path=place)
    if destination.form in ("files", "arrays"):
        interrupted = _write_many(plan, destination)
    else:
        interrupted = _write_one(plan, destination, preview)
    if interrupted:
        raise typer.Exit(_INTERRUPTED)


def _write_one(plan: Plan, destination: Destination, preview: bool | None) -> bool:
    """Draw, and write one file, or to stdout."""
    from diffcli.files.atomic import write_atomically
    from diffcli.files.pictures import encode_png

    embedded = plan.provenance.embedded() if plan.provenance else None
    interrupted = False
    if plan.layout == "animation" and destination.path:
        from diffcli.files.layouts import ANIMATED, animation
        from diffcli.files.outputs import grid_columns

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
    return interrupted


def _compose(plan: Plan) -> tuple["Image", bool]:
    """The picture asked for, and whether drawing was cut short."""
    from diffcli.files.outputs import Grid

    if plan.layout == "strip":
        from diffcli.files.layouts import strip

        return strip(list(plan.model.trace(plan.request, plan.init))), False
    if plan.layout == "sheet" and plan.sheet:
        from diffcli.files.layouts import sheet

        captions, rows = [], []
        for caption, request in plan.sheet.rows(plan.request):
            grid = Grid(request)
            if _draw_into(grid, plan._replace(request=request)):
                raise KeyboardInterrupt
            captions.append(caption)
            rows.append(grid.pixels())
        return sheet(rows, captions), False
    grid = Grid(plan.request)
    interrupted = _draw_into(grid, plan)
    if not grid.count:
        raise KeyboardInterrupt
    return grid.picture(), interrupted


def _write_many(plan: Plan, destination: Destination) -> bool:
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
            destination.pattern or f"{_literal(destination.path)}/{{label}}/{{seed}}.png",
            plan.model.class_names,
            destination.overwrite,
            plan.provenance,
            print if destination.path is None else lambda _: None,
        )
        interrupted = _draw_into(files, plan)
        if files.renamed:
            say(f"{files.renamed} names were taken and have a suffix (--force overwrites)")
        if files.count and destination.path:
            print(destination.path)
    return interrupted


def _literal(path: Path | None) -> str:
    return str(path).replace("{", "{{").replace("}", "}}")


def _draw_into(output: "Output", plan: Plan) -> bool:
    """Draw everything, or until Ctrl-C; returns whether that was so."""
    from diffcli.commands.interruption import deferred_interruption
    from diffcli.commands.progress import StageDisplay

    total = len(plan.request)
    long = total > plan.model.batch_size(plan.request.settings)
    try:
        with StageDisplay(quiet=False) if long else nullcontext() as display:
            for drawn in plan.model.draw(plan.request, plan.init):
                # Between writing a picture and counting it, an interrupt would miscount.
                with deferred_interruption() as interruption:
                    output.add(drawn.pixels)
                if display:
                    display.show("drawing", output.count, total)
                if interruption():
                    raise KeyboardInterrupt
    except KeyboardInterrupt:
        say(f"interrupted: {output.count:,} of {total:,} pictures are finished")
        return True
    return False


def _show(picture: "Image") -> None:
    from rich.console import Console

    from diffcli.commands.terminal import HalfBlocks

    Console(stderr=True).print(HalfBlocks(picture))
