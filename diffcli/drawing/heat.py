"""Numbers as colours: heat maps, their colour bars, and matrices with names."""

from collections.abc import Sequence

from PIL import Image, ImageDraw

from diffcli.drawing.colours import FRAME, INK, MUTED, PAPER, ColourMap
from diffcli.drawing.scales import Scale, tick_label
from diffcli.drawing.text import SMALL, elided, line, line_height, rotated, width_of, write

_BAR, _BAR_WIDTH, _LONGEST_NAME = 14, 58, 110
_LEAST_CELL_WITH_NUMBER, _LARGEST_CELL = 36, 56
_DARK = 330
"""The sum of red, green and blue below which white letters read better than dark ones."""


def heat_map(rows: Sequence[Sequence[float]], scale: Scale, colours: ColourMap) -> Image.Image:
    """One pixel per number, the first row at the top; ``scale`` maps numbers to colours."""
    slope, start = 255 / (scale.high - scale.low), scale.low
    content = bytes(
        min(max(round((value - start) * slope), 0), 255) for row in rows for value in row
    )
    picture = Image.frombytes("P", (len(rows[0]), len(rows)), content)
    picture.putpalette(colours.palette())
    return picture.convert("RGB")


def sampled(count: int, most: int) -> list[int]:
    """Indices ``0 .. count - 1``, or ``most`` of them evenly spaced if there are more."""
    return [index * count // most for index in range(most)] if count > most else [*range(count)]


def colour_bar(
    height: int, box: tuple[int, int, int, int], scale: Scale, colours: ColourMap
) -> Image.Image:
    """What the colours mean: a bar beside a chart of ``height`` pixels, level with its ``box``."""
    _, top, _, bottom = box
    values = scale.ticks(max(2, (bottom - top) // 34))
    picture = Image.new("RGB", (_BAR_WIDTH, height), PAPER)
    draw = ImageDraw.Draw(picture)
    for row in range(top, bottom + 1):
        draw.line((1, row, _BAR, row), colours((bottom - row) / (bottom - top)))
    draw.rectangle((0, top - 1, _BAR + 1, bottom + 1), outline=FRAME)
    for value in values:
        row = round(bottom - scale.fraction(value) * (bottom - top))
        draw.line((_BAR + 2, row, _BAR + 4, row), FRAME)
        write(picture, (_BAR + 7, row), tick_label(value), "lm", SMALL, MUTED)
    return picture


def number_label(number: float) -> str:
    """A number in up to five characters, for a cell of a matrix."""
    decimals = 2 if abs(number) < 10 else 1 if abs(number) < 100 else 0
    return f"{round(number, decimals) + 0.0:.{decimals}f}"


def matrix(
    values: Sequence[Sequence[float]],
    names: Sequence[str],
    side: int,
    scale: Scale,
    colours: ColourMap,
    title: str,
) -> Image.Image:
    """A square matrix between things that have names, in up to about ``side`` pixels.

    The numbers are written into the cells if they fit; names that do not fit are elided, and
    where there are more than there is room for, only some are written.
    """
    shown = [elided(name, _LONGEST_NAME, SMALL) for name in names]
    widest = max(width_of(name, SMALL) for name in shown)
    top = line_height() + 6
    cell = min(max(1, (side - widest - 8) // len(names)), _LARGEST_CELL)
    below = (widest if widest > cell - 4 else line_height(SMALL)) + 8
    extent = cell * len(names)
    left = widest + 8
    picture = Image.new("RGB", (max(side, left + extent + 2), top + extent + below), PAPER)
    write(picture, (left, line_height() / 2), elided(title, picture.width - left - 6), "lm")
    cells = heat_map(values, scale, colours).resize((extent, extent), Image.Resampling.NEAREST)
    picture.paste(cells, (left, top))
    box = (left - 1, top - 1, left + extent, top + extent)
    ImageDraw.Draw(picture).rectangle(box, outline=FRAME)
    for index in range(0, len(names), -(-line_height(SMALL) // cell)):
        middle = (index + 0.5) * cell
        write(picture, (left - 6, top + middle), shown[index], "rm", SMALL)
        fits = width_of(shown[index], SMALL) <= cell - 4
        name = (line if fits else rotated)(shown[index], SMALL)
        place = (round(left + middle - name.width / 2), top + extent + 6)
        picture.paste(name, place)
    if cell >= _LEAST_CELL_WITH_NUMBER:
        for row, numbers in enumerate(values):
            for column, number in enumerate(numbers):
                place = (left + round((column + 0.5) * cell), top + round((row + 0.5) * cell))
                ground = colours(scale.fraction(number))
                colour = INK if sum(ground) > _DARK else PAPER
                write(picture, place, number_label(number), "mm", SMALL, colour)
    return picture
