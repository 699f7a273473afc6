import pytest
from PIL import Image

from diffcli.charts.colours import DIVERGING, GRID, PAPER, SEQUENTIAL, ColourMap
from diffcli.charts.heat import colour_bar, heat_map, matrix, number_label, sampled
from diffcli.charts.scales import Scale


def test_a_colour_map_passes_its_anchors() -> None:
    colours = ColourMap([(0, 0, 0), (100, 0, 0), (100, 200, 0)])
    assert [colours(f) for f in (-1, 0, 0.25, 0.5, 0.75, 1, 2)] == [
        (0, 0, 0),
        (0, 0, 0),
        (50, 0, 0),
        (100, 0, 0),
        (100, 100, 0),
        (100, 200, 0),
        (100, 200, 0),
    ]


def test_the_sequential_map_only_darkens() -> None:
    brightness = [sum(SEQUENTIAL(i / 100)) for i in range(101)]
    assert brightness == sorted(brightness, reverse=True)


def test_the_diverging_map_is_lightest_in_the_middle() -> None:
    brightness = [sum(DIVERGING(i / 100)) for i in range(101)]
    assert brightness[:51] == sorted(brightness[:51])
    assert brightness[50:] == sorted(brightness[50:], reverse=True)


def test_a_heat_map_has_one_pixel_per_number() -> None:
    picture = heat_map([[-1.0, 0.0, 1.0], [2.0, -2.0, 0.5]], Scale(-1, 1), DIVERGING)
    assert picture.size == (3, 2)
    palette = DIVERGING.palette()
    expected = [0, 128, 255, 255, 0, 191]
    assert picture.tobytes() == b"".join(palette[3 * i : 3 * i + 3] for i in expected)


def test_the_colour_bar_is_level_with_its_chart() -> None:
    bar = colour_bar(200, (50, 20, 300, 170), Scale(-1, 1), DIVERGING)
    assert bar.height == 200
    assert bar.getpixel((7, 20)) == DIVERGING(1)
    assert bar.getpixel((7, 95)) == DIVERGING(0.5)
    assert bar.getpixel((7, 170)) == DIVERGING(0)


def test_sampling_is_even() -> None:
    assert sampled(3, 10) == [0, 1, 2]
    assert sampled(1000, 4) == [0, 250, 500, 750]


@pytest.mark.parametrize(
    ("number", "label"), [(0.5, "0.50"), (-0.001, "0.00"), (12.345, "12.3"), (4321.9, "4322")]
)
def test_numbers_in_cells(number: float, label: str) -> None:
    assert number_label(number) == label


@pytest.mark.long
@pytest.mark.parametrize("count", [1, 3, 11, 60, 1000])
@pytest.mark.parametrize("name", ["7", "Ankle boot", "a very long name of a class, with more"])
def test_matrices_fit_whatever_the_number_and_length_of_names(count: int, name: str) -> None:
    values = [[1.0 if i == j else 0.0 for j in range(count)] for i in range(count)]
    picture = matrix(values, [name] * count, 500, Scale(-1, 1), DIVERGING, "Title " * 40)
    edges = [(0, 0, picture.width, 1), (picture.width - 1, 0, picture.width, picture.height)]
    edges += [(0, 0, 1, picture.height), (0, picture.height - 1, picture.width, picture.height)]
    for edge in edges:
        assert set(picture.crop(edge).tobytes()) == {255} == set(PAPER)


def test_the_cells_of_a_matrix_are_in_order() -> None:
    picture = matrix([[0.0, 1.0], [0.2, 0.4]], ["a", "b"], 500, Scale(0, 1), SEQUENTIAL, "")
    colours = [SEQUENTIAL(v) for v in (0.0, 1.0, 0.2, 0.4)]
    places = [_first(picture, colour) for colour in colours]
    (x0, y0), (x1, y1), (x2, y2), (x3, y3) = places
    assert x0 == x2 < x1 == x3
    assert y0 == y1 < y2 == y3


def _first(picture: Image.Image, colour: tuple[int, int, int]) -> tuple[int, int]:
    """The upper left corner of a cell, told from single pixels of text by its size."""
    for y in range(picture.height - 20):
        for x in range(picture.width - 12):
            if picture.getpixel((x, y)) == colour:
                cell = picture.crop((x, y, x + 12, y + 12))
                if cell.tobytes() == bytes(colour) * 144:
                    return x, y
    raise AssertionError(f"{colour} is not in the picture")


def test_numbers_that_do_not_fit_give_way_to_a_colour_bar() -> None:
    values = [[-0.25 if i == j else 0.75 for j in range(30)] for i in range(30)]
    scale = Scale(-1, 1)
    small = matrix(values, [str(i) for i in range(30)], 400, scale, DIVERGING, "")
    bar = small.crop((small.width - 62, 0, small.width, small.height))
    colours = {bar.getpixel((7, y)) for y in range(bar.height)}
    assert {DIVERGING(0), DIVERGING(1)} <= colours
    assert len(colours) > 100


def test_a_meaningless_diagonal_is_grey_and_has_no_numbers() -> None:
    values = [[1.0, 0.2], [0.4, 1.0]]
    picture = matrix(values, ["a", "b"], 500, Scale(0, 1), SEQUENTIAL, "", diagonal=False)
    x, y = _first(picture, GRID)
    assert picture.crop((x, y, x + 56, y + 56)).tobytes() == bytes(GRID) * 56**2
    with pytest.raises(AssertionError):
        _first(picture, SEQUENTIAL(1.0))
