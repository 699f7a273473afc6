"""A chart: a frame with two scales, and what is drawn inside it."""

from collections.abc import Sequence

from PIL import Image, ImageDraw

from diffcli.charts.colours import FRAME, GRID, MARK, MUTED, PAPER, Colour
from diffcli.charts.scales import Scale, tick_label
from diffcli.charts.text import (
    NORMAL,
    SMALL,
    elided,
    line_height,
    rotated,
    width_of,
    write,
)

_GAP = 6
_PIXELS_PER_X_TICK, _PIXELS_PER_Y_TICK = 48, 34
_SWATCH = 14
_FINER = 4
"""Curves are drawn larger by this factor and then reduced, which makes their edges smooth."""

Legend = Sequence[tuple[str, Colour]]


class Chart:
    """A frame with scales and labels; curves, marks and cells are added to it.

    Space for all that surrounds the frame is reserved at once, and what is added stays inside
    the frame, but for half of a dot on its edge, so that nothing overlaps.

    Args:
        size: width and height in pixels, all included.
        x: the horizontal scale.
        y: the vertical scale.
        title: the first line; elided if it does not fit.
        x_label: below the horizontal axis.
        y_label: beside the vertical axis, reading upwards.
        legend: names of colours, on a line below the title.
        marked: whether ``mark`` is going to write above the frame.
        y_ticks: whether the vertical axis has numbers.
        y_names: what to write instead of the numbers 0, 1, ... of the vertical axis.
        gutter: the least space left of the frame, so that charts below each other align.

    Attributes:
        picture: the chart.
        box: left, top, right and bottom pixel of the inside of the frame, all inclusive.
    """

    def __init__(
        self,
        size: tuple[int, int],
        x: Scale,
        y: Scale,
        *,
        title: str = "",
        x_label: str = "",
        y_label: str = "",
        legend: Legend = (),
        marked: bool = False,
        y_ticks: bool = True,
        y_names: Sequence[str] = (),
        gutter: int = 0,
    ) -> None:
        self.x, self.y = x, y
        width, height = size
        self.picture = Image.new("RGB", size, PAPER)
        above = [bool(title), bool(legend), marked]
        tick_height = line_height(SMALL)
        top = sum(above) * line_height(NORMAL) + (_GAP if any(above) else tick_height // 2)
        bottom = height - tick_height - (line_height(SMALL) if x_label else 0) - 4
        spacing = line_height(SMALL) if y_names else _PIXELS_PER_Y_TICK
        y_values = y.ticks(max(2, (bottom - top) // spacing)) if y_ticks else []
        y_labels = [y_names[round(v)] if y_names else tick_label(v) for v in y_values]
        left = max((width_of(label, SMALL) for label in y_labels), default=0)
        left = max(left + _GAP + (line_height(SMALL) if y_label else 0), gutter)
        x_values = x.ticks(max(2, (width - left) // _PIXELS_PER_X_TICK))
        left = max(left, width_of(tick_label(x_values[0]), SMALL) // 2 + 1)
        right = width - 1 - max(_GAP, width_of(tick_label(x_values[-1]), SMALL) // 2 + 1)
        self.box = (left, top, right, bottom)
        self._frame(x_values, dict(zip(y_values, y_labels, strict=True)))
        if title:
            write(self.picture, (left, line_height() / 2), elided(title, width - left - _GAP), "lm")
        if legend:
            self._legend(legend, line_height() * (bool(title) + 0.5))
        if x_label:
            write(
                self.picture,
                ((left + right) / 2, height - line_height(SMALL) / 2),
                x_label,
                "mm",
                SMALL,
                MUTED,
            )
        if y_label:
            label = rotated(y_label, SMALL, MUTED)
            self.picture.paste(label, (0, max(0, (top + bottom - label.height) // 2)))

    def column(self, value: float) -> int:
        """The pixel column of ``value``."""
        left, _, right, _ = self.box
        return round(left + self.x.fraction(value) * (right - left))

    def row(self, value: float) -> int:
        """The pixel row of ``value``."""
        _, top, _, bottom = self.box
        return round(bottom - self.y.fraction(value) * (bottom - top))

    def curve(
        self, xs: Sequence[float], ys: Sequence[float], colour: Colour, thickness: float = 2
    ) -> None:
        """Join points by a smooth-edged line."""
        left, top, right, bottom = self.box
        width, height = right - left + 1, bottom - top + 1
        mask = Image.new("L", (width * _FINER, height * _FINER))
        points = [
            (
                (self.x.fraction(x) * (width - 1) + 0.5) * _FINER,
                ((1 - self.y.fraction(y)) * (height - 1) + 0.5) * _FINER,
            )
            for x, y in zip(xs, ys, strict=True)
        ]
        ImageDraw.Draw(mask).line(points, 255, round(thickness * _FINER), joint="curve")
        self.picture.paste(colour, (left, top), mask.reduce(_FINER))

    def bars(self, edges: Sequence[float], heights: Sequence[float], colour: Colour) -> None:
        """A histogram: ``len(heights) + 1`` edges, bars from 0 up."""
        draw = ImageDraw.Draw(self.picture)
        _, top, _, bottom = self.box
        for left, right, height in zip(edges, edges[1:], heights, strict=False):
            row = max(top, self.row(height))
            if row < bottom:
                draw.rectangle(
                    (self.column(left), row, self.column(right) - 1, bottom), fill=colour
                )

    def dots(self, xs: Sequence[float], ys: Sequence[float], colour: Colour) -> None:
        """Small discs at points; those outside the frame are left out."""
        draw = ImageDraw.Draw(self.picture)
        left, top, right, bottom = self.box
        for x, y in zip(xs, ys, strict=True):
            column, row = self.column(x), self.row(y)
            if left <= column <= right and top <= row <= bottom:
                draw.ellipse((column - 2, row - 2, column + 2, row + 2), fill=colour)

    def cells(self, picture: Image.Image) -> None:
        """Fill the frame with a picture that has one pixel per cell."""
        left, top, right, bottom = self.box
        size = (right - left + 1, bottom - top + 1)
        self.picture.paste(picture.resize(size, Image.Resampling.NEAREST), (left, top))

    def shade(self, x_from: float, x_to: float, colour: Colour) -> None:
        """Colour the background between two values, before anything else is drawn on it."""
        _, top, _, bottom = self.box
        box = (self.column(x_from), top, self.column(x_to), bottom)
        ImageDraw.Draw(self.picture).rectangle(box, fill=colour)

    def level(self, y: float, text: str, colour: Colour = MUTED) -> None:
        """A horizontal line across the frame, and its name."""
        left, _, right, _ = self.box
        row = self.row(y)
        ImageDraw.Draw(self.picture).line((left, row, right, row), colour)
        write(self.picture, (left + _GAP, row - 2), text, "ls", SMALL, colour)

    def mark(self, values: Sequence[float]) -> None:
        """Dashed vertical lines, with their values above the frame if there is space."""
        draw = ImageDraw.Draw(self.picture)
        _, top, _, bottom = self.box
        free = 0.0
        for value in sorted(values):
            column = self.column(value)
            for row in range(top, bottom, 6):
                draw.line((column, row, column, min(row + 3, bottom)), MARK)
            half = width_of(tick_label(value), SMALL) / 2
            if column - half >= free and column + half < self.picture.width:
                write(self.picture, (column, top - _GAP), tick_label(value), "ms", SMALL, MARK)
                free = column + half + _GAP

    def _frame(self, x_values: Sequence[float], y_labels: dict[float, str]) -> None:
        draw = ImageDraw.Draw(self.picture)
        left, top, right, bottom = self.box
        for value in x_values:
            column = self.column(value)
            draw.line((column, top, column, bottom), GRID)
            draw.line((column, bottom, column, bottom + 4), FRAME)
            write(self.picture, (column, bottom + 6), tick_label(value), "mt", SMALL, MUTED)
        for value, label in y_labels.items():
            row = self.row(value)
            draw.line((left, row, right, row), GRID)
            write(self.picture, (left - _GAP, row), label, "rm", SMALL, MUTED)
        draw.rectangle((left - 1, top - 1, right + 1, bottom + 1), outline=FRAME)

    def _legend(self, legend: Legend, middle: float) -> None:
        left = self.box[0]
        draw = ImageDraw.Draw(self.picture)
        room = self.picture.width - _GAP - left - len(legend) * (_SWATCH + 3 * _GAP)
        if sum(width_of(name, SMALL) for name, _ in legend) > room:
            legend = [(elided(name, room // len(legend), SMALL), colour) for name, colour in legend]
        for name, colour in legend:
            draw.rectangle((left, middle - 1, left + _SWATCH, middle + 1), fill=colour)
            left += _SWATCH + _GAP
            write(self.picture, (left, middle), name, "lm", SMALL)
            left += width_of(name, SMALL) + 2 * _GAP
