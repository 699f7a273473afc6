"""Writing on pictures, in the one font that comes with Pillow."""

import re
import unicodedata
from collections.abc import Sequence
from functools import cache

from PIL import Image, ImageDraw, ImageFont

from diffcli.drawing.colours import INK, PAPER, Colour

SMALL, NORMAL, LARGE = 13, 14, 18
_BEYOND_ASCII = "±·…°"


@cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """Pillow's own font, ``size`` pixels high."""
    loaded = ImageFont.load_default(size=size)
    assert isinstance(loaded, ImageFont.FreeTypeFont)
    return loaded


def printable(text: str) -> str:
    """``text`` in the letters that the font has: accents go, what is foreign becomes ``?``."""
    if text.isascii():
        return text
    return "".join(
        letter if letter.isascii() or letter in _BEYOND_ASCII else "?"
        for letter in unicodedata.normalize("NFKD", text)
        if letter in _BEYOND_ASCII or not unicodedata.combining(letter)
    )


def width_of(text: str, size: int = NORMAL) -> int:
    """Pixels that ``text`` takes from left to right."""
    return -int(-font(size).getlength(printable(text)) // 1)


def elided(text: str, width: int, size: int = NORMAL) -> str:
    """``text``, or as much of its beginning as fits ``width`` pixels, and an ellipsis."""
    if width_of(text, size) <= width:
        return text
    end = len(text)
    while end and width_of(text[:end].rstrip() + "…", size) > width:
        end -= 1
    return text[:end].rstrip() + "…"


def line_height(size: int = NORMAL) -> int:
    """Pixels from one line of text to the next."""
    return round(size * 1.4)


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
    """One line as a picture; what stands in braces, as in ``x{0}``, is a subscript."""
    return _joined(re.split(r"\{(.*?)\}", text), size, colour)


def _joined(parts: Sequence[str], size: int, colour: Colour) -> Image.Image:
    """Text and subscripts in turn."""
    sizes = [size if index % 2 == 0 else round(size * 0.75) for index in range(len(parts))]
    widths = [width_of(part, part_size) for part, part_size in zip(parts, sizes, strict=True)]
    picture = Image.new("RGB", (max(1, sum(widths)), line_height(size)), PAPER)
    left, baseline = 0, round(size * 1.0)
    for index, (part, part_size, width) in enumerate(zip(parts, sizes, widths, strict=True)):
        below = round(size * 0.2) if index % 2 else 0
        write(picture, (left, baseline + below), part, "ls", part_size, colour)
        left += width
    return picture


def paragraph(text: str, width: int, size: int = NORMAL, colour: Colour = INK) -> Image.Image:
    """Words on as many lines of ``width`` pixels as they need, as a picture."""
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
