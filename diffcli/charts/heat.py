"""Numbers as colours: heat maps, colour bars, and matrices with names."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image, ImageDraw

from diffcli.charts.arrange import beside
from diffcli.charts.colours import FRAME, GRID, INK, MUTED, PAPER, ColourMap
from diffcli.charts.scales import Scale, tick_label
from diffcli.charts.text import SMALL, elided, line, line_height, rotated, width_of, write

_BAR, _BAR_WIDTH, _LONGEST_NAME = 14, 62, 110
_SMALLEST_NUMBER, _LARGEST_CELL = 9, 56
_DARK = 330
"""The sum of red, green and blue below which white letters read better than dark ones."""


def heat_map(values: ArrayLike, scale: Scale, colours: ColourMap) -> Image.Image:
    """One pixel per number, the first row at the top; ``scale`` maps numbers to colours."""
    fractions = (np.asarray(values) - scale.low) / (scale.high - scale.low)
    indices = np.rint(fractions * 255).clip(0, 255).astype(np.uint8)
    return Image.fromarray(np.frombuffer(colours.palette(), np.uint8).reshape(256, 3)[indices])


def sampled(count: int, most: int) -> list[int]:
    """The indices ``0 .. count - 1``, or ``most`` of them, evenly spaced, if there are more."""
    return [index * count // most for index in range(most)] if count > most else [*range(count)]


def colour_bar(
    height: int, box: tuple[int, int, int, int], scale: Scale, colours: ColourMap
) -> Image.Image:
    """The legend of a colour map, beside a chart of ``height`` pixels, level with its ``box``."""
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
    values: ArrayLike,
    names: Sequence[str],
    side: int,
    scale: Scale,
    colours: ColourMap,
    title: str,
    diagonal: bool = True,
) -> Image.Image:
    """A square matrix of numbers between named things, about ``side`` pixels wide.

    The numbers are written into the cells; if they do not fit, a colour bar stands beside.
    Names that do not fit are elided, and if there are too many, only some are written.

    Args:
        values: ``(N, N)``.
        names: of the rows and columns.
        side: width in pixels.
        scale: maps numbers to colours.
        colours: the colours.
        title: above the matrix.
        diagonal: whether the numbers on the diagonal mean anything; else it stays grey.
    """
    shown = [elided(name, _LONGEST_NAME, SMALL) for name in names]
    widest = max(width_of(name, SMALL) for name in shown)
    left, top = widest + 8, line_height() + 6
    cell = min(max(1, (side - left) // len(names)), _LARGEST_CELL)
    labels, size = _number_labels(values, cell)
    if size is None:
        cell = min(max(1, (side - left - _BAR_WIDTH) // len(names)), _LARGEST_CELL)
    below = (widest if widest > cell - 4 else line_height(SMALL)) + 8
    extent = cell * len(names)
    picture = Image.new("RGB", (max(side, left + extent + 2), top + extent + below), PAPER)
    write(picture, (left, line_height() / 2), elided(title, picture.width - left - 6), "lm")
    cells = heat_map(values, scale, colours)
    if not diagonal:
        for index in range(len(names)):
            cells.putpixel((index, index), GRID)
    picture.paste(cells.resize((extent, extent), Image.Resampling.NEAREST), (left, top))
    box = (left, top, left + extent - 1, top + extent - 1)
    ImageDraw.Draw(picture).rectangle(
        (box[0] - 1, box[1] - 1, box[2] + 1, box[3] + 1), outline=FRAME
    )
    for index in range(0, len(names), -(-line_height(SMALL) // cell)):
        middle = (index + 0.5) * cell
        write(picture, (left - 6, top + middle), shown[index], "rm", SMALL)
        fits = width_of(shown[index], SMALL) <= cell - 4
        name = (line if fits else rotated)(shown[index], SMALL)
        picture.paste(name, (round(left + middle - name.width / 2), top + extent + 6))
    if size is None:
        bar = colour_bar(picture.height, box, scale, colours)
        return beside([picture.crop((0, 0, left + extent + 2, picture.height)), bar], 4)
    for row, row_labels in enumerate(labels):
        for column, label in enumerate(row_labels):
            if diagonal or row != column:
                place = (left + round((column + 0.5) * cell), top + round((row + 0.5) * cell))
                ground = cells.getpixel((column, row))
                dark = isinstance(ground, tuple) and sum(ground) <= _DARK
                write(picture, place, label, "mm", size, PAPER if dark else INK)
    return picture


def _number_labels(values: ArrayLike, cell: int) -> tuple[list[list[str]], int | None]:
    """All numbers as texts, and the largest size in which they fit into a cell, or None."""
    if width_of("100", _SMALLEST_NUMBER) > cell - 2:  # none fits, and there may be millions
        return [], None
    labels = [[number_label(number) for number in row] for row in np.asarray(values).tolist()]
    longest = max((label for row in labels for label in row), key=len)
    sizes = range(SMALL, _SMALLEST_NUMBER - 1, -1)
    return labels, next((size for size in sizes if width_of(longest, size) <= cell - 2), None)
