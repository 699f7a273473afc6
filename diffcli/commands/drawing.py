"""What ``diffcli sample`` writes: the layout of pictures, and the files they go to."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from diffcli.commands.console import Interruption, ProgressDisplay, say
from diffcli.commands.options import ANIMATED, Target, write_output
from diffcli.commands.preview import preview
from diffcli.errors import UsageError
from diffcli.files.naming import pattern_fields
from diffcli.sampling.request import SampleRequest, Sheet

if TYPE_CHECKING:
    from diffcli.core.generate import Init
    from diffcli.sampling.model import Model
    from diffcli.sampling.outputs import Output
    from diffcli.sampling.provenance import Layout, Provenance
    from diffcli.sampling.start import Inversion

_MAX_PICTURES = {"grid": 10_000, "sheet": 1000, "strip": 200, "animation": 1000}
# Pillow reads pictures of up to twice as many.
_MAX_PIXELS = 80_000_000
# Layouts of which what is finished is written, if drawing is interrupted.
_IN_PART = ("picture", "grid")


def check_target(target: Target, still: bool, as_json: bool, show: bool) -> None:
    """Check that a layout and the form of the output go together.

    Args:
        target: the output.
        still: whether the layout is a strip or a sheet.
        as_json: whether stdout is for JSON.
        show: whether the picture is to be shown in the terminal.

    Raises:
        UsageError: if they do not.
    """
    if still and target.form not in ("picture", "stdout"):
        raise UsageError("--strip and --sheet make one PNG; name it with --output, like strip.png")
    if show and target.form not in ("picture", "stdout"):
        raise UsageError("--preview shows one PNG; leave it out, or name a .png with --output")
    if as_json and target.form == "stdout":
        raise UsageError("--json and -o - both write to stdout; choose one")


def choose_layout(
    target: Target,
    request: SampleRequest,
    strip: bool,
    sheet: Sheet | None,
    image_shape: tuple[int, int, int],
) -> "Layout":
    """How the pictures of a request, ``(C, H, W)`` each, are arranged.

    Raises:
        UsageError: if there are too many of them, or they have no class and the output needs one.
    """
    from diffcli.figures.grid import GAP, STRIP_COLUMNS

    of_no_class = request.mixed or request.interpolation
    if (target.form == "arrays" or target.folder) and of_no_class:
        raise UsageError(
            "pictures of several labels have no class, as an .npz and --out-dir need; write a "
            ".png, or one file each: -o 'mixed-{index}.png'"
        )
    if target.form == "files" and not request.told_apart_by(pattern_fields(str(target.path))):
        raise UsageError(f"{target.path} would be the name of several pictures; add {{index}}")
    layout: Layout = "grid"
    if target.form in ("arrays", "files") or len(request) == 1:
        layout = "picture"
    if target.form == "animation":
        layout = "animation"
    elif strip:
        layout = "strip"
    elif sheet:
        layout = "sheet"
    if layout == "picture":
        return layout
    _, height, width = image_shape
    cells = len(sheet.values) if sheet else 2 * STRIP_COLUMNS if strip else 1
    most = min(_MAX_PICTURES[layout], _MAX_PIXELS // (cells * (height + GAP) * (width + GAP)))
    if len(request) > most:
        advice = "write them to a folder with --out-dir, or to one .npz"
        if strip or sheet or of_no_class:
            advice = "choose a smaller --num"
        raise UsageError(
            f"{len(request):,} pictures of {width}x{height} are too many for one {layout}, which "
            f"takes up to {most:,}; {advice}"
        )
    return layout


@dataclass(frozen=True)
class Drawing:
    """Draws what a provenance says, and writes it.

    Args:
        model: to draw with.
        provenance: what to draw.
        init: the picture or pictures to start from, if there are any.
        interruption: ends the drawing; what is finished is written.
        metadata: whether pictures get the provenance as metadata.
        force: whether existing files may be overwritten.
        quiet: whether to print errors only.
        as_json: whether stdout is for JSON.
    """

    model: "Model"
    provenance: "Provenance"
    init: "Init | Inversion | None"
    interruption: Interruption
    metadata: bool
    force: bool
    quiet: bool
    as_json: bool

    def write(self, target: Target, show: bool | None) -> list[Path]:
        """Draw and write; returns the paths, of many files only for JSON."""
        if target.form == "files":
            return self._write_files(target)
        if target.form == "arrays":
            return self._write_arrays(target)
        from diffcli.figures.drawing import draw_animation, draw_still
        from diffcli.files.pictures import encode_png

        request, embedded = self.provenance.request, None
        if self.metadata:
            embedded = self.provenance.embedded()
        picture = content = None
        if target.form == "animation":
            kind = ANIMATED[target.path.suffix.lower()]
            content = draw_animation(
                self.model, request, self.init, kind, embedded, self._draw, self.interruption
            )
        else:
            picture = draw_still(
                self.model, self.provenance, self.init, self._draw, self.interruption
            )
            content = encode_png(picture, embedded) if picture else None
        if content is None:
            if self.provenance.layout not in _IN_PART:
                say("interrupted: nothing is written")
            return []
        paths = []
        if target.form == "stdout":
            sys.stdout.buffer.write(content)
            sys.stdout.buffer.flush()
        else:
            paths = [self._report(write_output(target.path, content, self.force, self.quiet))]
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
        path = write_output(target.path, array.encoded(), self.force, self.quiet)
        return [self._report(path)]

    def _write_files(self, target: Target) -> list[Path]:
        from diffcli.sampling.outputs import PictureFiles

        paths: list[Path] = []

        def written(path: Path) -> None:
            if self.as_json:  # else they are not kept: there can be a thousand million
                paths.append(path)
            elif not target.folder:
                print(path)

        files = PictureFiles(
            self.provenance.request,
            str(target.path),
            self.model.class_names,
            self.force,
            self.provenance if self.metadata else None,
            written,
        )
        try:
            self._draw(files)
        except OSError:  # the disk is full, for one
            say(_finished(files))
            raise
        if files.renamed and not self.quiet:
            say(f"{files.renamed} files existed; the new ones have a suffix (--force overwrites)")
        if target.folder and files.count:
            self._report(target.folder)
        return paths

    def _report(self, path: Path) -> Path:
        if not self.as_json:
            print(path)
        return path

    def _draw(self, output: "Output") -> None:
        """Draw all pictures of an output's request, or until an interruption."""
        total = len(output.request)
        request = output.request
        several = total > self.model.batch_size(request.settings, bool(request.inverted))
        with ProgressDisplay(self.quiet or not several) as display:
            for drawn in self.model.draw(output.request, self.init, self.interruption):
                output.add(drawn.pixels)
                display.show_stage("drawing", output.count, total)
        if self.interruption() and self.provenance.layout in _IN_PART:
            say(f"interrupted: {_finished(output)}")


def _finished(output: "Output") -> str:
    return f"{output.count:,} of {len(output.request):,} pictures are finished"
