"""Text on pictures, in DejaVu Sans, which has the Greek letters of the formulas."""

import io
import re
from bisect import bisect
from collections.abc import Sequence
from functools import cache
from importlib import resources

from PIL import Image, ImageDraw, ImageFont

from diffcli.charts.colours import INK, PAPER, Colour
from diffcli.errors import printable

SMALL, NORMAL, LARGE = 11, 12, 16


@cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """The font, ``size`` pixels high."""
    path = resources.files("diffcli.charts").joinpath("font", "DejaVuSans.ttf")
    # The basic layout places letters alike, whichever libraries Pillow has.
    content = io.BytesIO(path.read_bytes())
    return ImageFont.truetype(content, size, layout_engine=ImageFont.Layout.BASIC)


def width_of(text: str, size: int = NORMAL) -> int:
    """Width of ``text`` in pixels, rounded up."""
    return -int(-font(size).getlength(printable(text)) // 1)


def elided(text: str, width: int, size: int = NORMAL) -> str:
    """``text``, or as much of its beginning as fits ``width`` pixels, and an ellipsis."""
    # No more letters than pixels: a name from a file can have millions, which take seconds.
    beginning = text[:width]
    if beginning == text and width_of(text, size) <= width:
        return text
    ends = range(1, len(beginning) + 1)
    end = bisect(ends, width, key=lambda end: width_of(beginning[:end].rstrip() + "…", size))
    return beginning[:end].rstrip() + "…"


def line_height(size: int = NORMAL) -> int:
    """Pixels from one line of text to the next."""
    return round(size * 1.5)


def write(
    picture: Image.Image,
    place: tuple[float, float],
    text: str,
    anchor: str = "lm",
    size: int = NORMAL,
    colour: Colour = INK,
) -> None:
    """Write one line, with Pillow's ``anchor`` of it at ``place``."""
    ImageDraw.Draw(picture).text(
        place, printable(text), fill=colour, font=font(size), anchor=anchor
    )


def line(text: str, size: int = NORMAL, colour: Colour = INK) -> Image.Image:
    """One line of text as a picture."""
    return _joined([text], size, colour)


def formula(text: str, size: int = NORMAL, colour: Colour = INK) -> Image.Image:
    """One line as a picture; what is in braces, as in ``x{0}``, is a subscript."""
    return _joined(re.split(r"\{(.*?)\}", text), size, colour)


def _joined(parts: Sequence[str], size: int, colour: Colour) -> Image.Image:
    """Text and subscripts in turn."""
    sizes = [size if index % 2 == 0 else round(size * 0.75) for index in range(len(parts))]
    widths = [width_of(part, part_size) for part, part_size in zip(parts, sizes, strict=True)]
    picture = Image.new("RGB", (max(1, sum(widths)), line_height(size)), PAPER)
    left, baseline = 0, round(size * 1.1)
    for index, (part, part_size, width) in enumerate(zip(parts, sizes, widths, strict=True)):
        below = round(size * 0.2) if index % 2 else 0
        write(picture, (left, baseline + below), part, "ls", part_size, colour)
        left += width
    return picture


def paragraph(text: str, width: int, size: int = NORMAL, colour: Colour = INK) -> Image.Image:
    """Text as a picture of ``width`` pixels, on as many lines as it needs."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if width_of(longer, size) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    picture = Image.new("RGB", (width, line_height(size) * len(lines)), PAPER)
    for index, content in enumerate(lines):
        place = (0, (index + 0.5) * line_height(size))
        write(picture, place, elided(content, width, size), "lm", size, colour)
    return picture


def rotated(text: str, size: int = NORMAL, colour: Colour = INK) -> Image.Image:
    """One line of text that reads upwards, as a picture."""
    return line(text, size, colour).rotate(90, expand=True)
