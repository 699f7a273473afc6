from PIL import Image

from diffcli.charts.arrange import at_least, beside, enlarged, framed, padded, stack, wrapped
from diffcli.charts.colours import FRAME, PAPER

RED = Image.new("RGB", (4, 2), "red")
BLUE = Image.new("RGB", (2, 4), "blue")


def test_stacked() -> None:
    sheet = stack([RED, BLUE], gap=1, align="centre")
    assert sheet.size == (4, 7)
    assert sheet.getpixel((1, 3)) == (0, 0, 255)
    assert sheet.getpixel((0, 3)) == sheet.getpixel((0, 2)) == PAPER


def test_beside() -> None:
    sheet = beside([RED, BLUE], gap=3)
    assert sheet.size == (9, 4)
    assert [sheet.getpixel((x, 0)) for x in (3, 4, 6, 7)] == [
        (255, 0, 0),
        PAPER,
        PAPER,
        (0, 0, 255),
    ]


def test_beside_with_their_centres_level() -> None:
    sheet = beside([RED, BLUE], align="centre")
    assert [sheet.getpixel((0, y)) for y in range(4)] == [PAPER, (255, 0, 0), (255, 0, 0), PAPER]


def test_enlarged() -> None:
    pixels = Image.new("L", (3, 2))
    pixels.putdata([0, 50, 100, 150, 200, 250])
    large = enlarged(pixels, 10)
    assert large.size == (11, 8)  # three times as large, and the frame
    assert large.getpixel((0, 0)) == FRAME
    found = [large.getpixel((1 + x, 1 + y)) for y in (0, 5) for x in (2, 3, 8)]
    assert found == [(grey,) * 3 for grey in (0, 50, 100, 150, 200, 250)]
    assert enlarged(pixels, 2).size == (5, 4)  # none is made smaller


def test_wrapped() -> None:
    assert wrapped([RED] * 5, columns=2, gap=1).size == (9, 8)


def test_padded_framed_and_widened() -> None:
    assert padded(RED, 3).size == (10, 8)
    assert framed(RED).getpixel((0, 0)) == FRAME
    assert at_least(RED, 10).getpixel((3, 0)) == (255, 0, 0)
    assert at_least(RED, 10, "centre").getpixel((3, 0)) == (255, 0, 0)
    assert at_least(RED, 10, "centre").getpixel((2, 0)) == PAPER
    assert at_least(RED, 1).size == RED.size
