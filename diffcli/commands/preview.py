"""Pictures in the terminal."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image
    from rich.console import Console, ConsoleOptions
    from rich.segment import Segment

# By the halves of the character that are lit: none, the upper, the lower, both.
_BLOCKS, _ASCII = " ▀▄█", " '.:"


class HalfBlocks:
    """A picture that a Rich console can print.

    Every character shows two pixels, one above the other, in the colours of the terminal (24 bits,
    256 or 16); without colours the picture is dithered.  It is never enlarged, and reduced if the
    terminal is too small.

    Args:
        picture: of any mode.
        spare_rows: rows of the terminal to leave free.
    """

    def __init__(self, picture: "Image", spare_rows: int = 1) -> None:
        self._picture = picture.convert("RGB")
        self._spare_rows = spare_rows

    def __rich_console__(
        self, console: "Console", options: "ConsoleOptions"
    ) -> Iterator["Segment"]:
        rows = max(1, console.height - self._spare_rows)
        picture = _reduced(self._picture, options.max_width, rows)
        if console.color_system is None or console.no_color:
            yield from _dithered(picture, _ASCII if options.ascii_only else _BLOCKS)
        else:
            yield from _coloured(picture)


def preview(picture: "Image") -> None:
    """Show a picture on stderr."""
    from rich.console import Console

    Console(stderr=True).print(HalfBlocks(picture))


def _reduced(picture: "Image", columns: int, rows: int) -> "Image":
    scale = min(1, columns / picture.width, 2 * rows / picture.height)
    if scale == 1:
        return picture
    size = (max(1, int(picture.width * scale)), max(1, int(picture.height * scale)))
    return picture.resize(size, reducing_gap=2)


def _coloured(picture: "Image") -> Iterator["Segment"]:
    from rich.color import Color
    from rich.segment import Segment
    from rich.style import Style

    width, height = picture.size
    pixels = picture.tobytes()
    colours = [Color.from_rgb(*pixels[i : i + 3]) for i in range(0, len(pixels), 3)]
    for top in range(0, width * height, 2 * width):
        for upper in range(top, top + width):
            lower = colours[upper + width] if upper + width < width * height else None
            yield Segment(_BLOCKS[1], Style(color=colours[upper], bgcolor=lower))
        yield Segment.line()


def _dithered(picture: "Image", characters: str) -> Iterator["Segment"]:
    from rich.segment import Segment

    width, height = picture.size
    lit = [value > 0 for value in picture.convert("1").convert("L").tobytes()]
    lit += [False] * (width * (height % 2))
    for top in range(0, width * height, 2 * width):
        row = zip(lit[top : top + width], lit[top + width : top + 2 * width], strict=True)
        yield Segment("".join(characters[upper + 2 * lower] for upper, lower in row))
        yield Segment.line()
