"""The colours of all charts; the series can be told apart with all kinds of colour vision."""

from collections.abc import Sequence

Colour = tuple[int, int, int]

PAPER: Colour = (255, 255, 255)
INK: Colour = (31, 41, 51)
MUTED: Colour = (91, 103, 112)
GRID: Colour = (228, 232, 236)
FRAME: Colour = (150, 160, 170)
SHADE: Colour = (253, 240, 226)
BARS: Colour = (168, 209, 234)
MARK: Colour = (190, 18, 60)

# Okabe & Ito 2008.
SERIES: tuple[Colour, ...] = (
    (0, 114, 178),
    (213, 94, 0),
    (0, 158, 115),
    (204, 121, 167),
    (230, 159, 0),
    (86, 180, 233),
)


class ColourMap:
    """Maps numbers in [0, 1] to colours, linearly between evenly spaced anchors."""

    def __init__(self, anchors: Sequence[Colour]) -> None:
        self._anchors = tuple(anchors)

    def __call__(self, fraction: float) -> Colour:
        """The colour at ``fraction``, which is clipped to [0, 1]."""
        place = min(max(fraction, 0.0), 1.0) * (len(self._anchors) - 1)
        index = min(int(place), len(self._anchors) - 2)
        red, green, blue = (
            round(low + (high - low) * (place - index))
            for low, high in zip(self._anchors[index], self._anchors[index + 1], strict=True)
        )
        return red, green, blue

    def palette(self) -> bytes:
        """256 colours from one end to the other, as Pillow's ``putpalette`` takes them."""
        return bytes(channel for index in range(256) for channel in self(index / 255))


DIVERGING = ColourMap(
    [
        (0, 58, 110),
        (0, 114, 178),
        (132, 190, 226),
        (248, 248, 248),
        (243, 171, 120),
        (213, 94, 0),
        (128, 48, 0),
    ]
)
SEQUENTIAL = ColourMap([(250, 250, 250), (168, 209, 234), (0, 114, 178), (0, 32, 70)])
