from typing import Any

import pytest
from PIL import Image

from diffcli.charts.chart import Chart
from diffcli.charts.colours import FRAME, MARK, MUTED, PAPER, SERIES
from diffcli.charts.scales import Scale

BLACK = (0, 0, 0)


def colours_of(picture: Image.Image) -> set[tuple[int, int, int]]:
    return set(zip(*[iter(picture.tobytes())] * 3, strict=True))


def inside(chart: Chart) -> Image.Image:
    left, top, right, bottom = chart.box
    return chart.picture.crop((left, top, right + 1, bottom + 1))


def outside(chart: Chart) -> bytes:
    """All but what is inside the frame."""
    left, top, right, bottom = chart.box
    picture = chart.picture.copy()
    picture.paste(PAPER, (left, top, right + 1, bottom + 1))
    return picture.tobytes()


def columns_of(chart: Chart, colour: tuple[int, int, int]) -> list[int]:
    """Where, between the sides of the frame, ``colour`` stands."""
    left, top, _, bottom = chart.box
    return [
        left + column
        for column in range(inside(chart).width)
        if any(
            chart.picture.getpixel((left + column, row)) == colour for row in range(top, bottom + 1)
        )
    ]


def chart(**options: Any) -> Chart:
    return Chart((400, 200), Scale.of_cells(300), Scale(0, 1), **options)


def test_dots_outside_of_the_frame_are_left_out() -> None:
    dotted = chart()
    dotted.dots([-5, 100, 200, 200, 303], [0.5, 1.05, -0.05, 0.5, 0.5], MARK)
    assert outside(dotted) == outside(chart())
    assert columns_of(dotted, MARK) == [dotted.column(200) + shift for shift in range(-2, 3)]


@pytest.mark.parametrize("t", [0, 1, 150, 298, 299])
def test_a_mark_stands_in_the_middle_of_its_cell(t: int) -> None:
    marked = chart(marked=True)
    marked.mark([t])
    left, _, right, _ = marked.box
    assert columns_of(marked, MARK) == [round(left + (t + 0.5) / 300 * (right - left))]


def test_marks_close_together_are_all_drawn_and_their_numbers_do_not_collide() -> None:
    apart, close = chart(marked=True), chart(marked=True)
    apart.mark([10])
    close.mark([10, 11, 12])
    assert len(columns_of(close, MARK)) == len({close.column(t) for t in (10, 11, 12)}) > 1
    above = (0, 0, 400, apart.box[1] - 1)
    assert close.picture.crop(above).tobytes() == apart.picture.crop(above).tobytes()


def test_the_frame_surrounds_the_box() -> None:
    framed = chart(title="Title", x_label="x", y_label="y", legend=[("a", SERIES[0])])
    left, top, right, bottom = framed.box
    for place in [(left - 1, top - 1), (right + 1, bottom + 1), (right + 1, top - 1)]:
        assert framed.picture.getpixel(place) == FRAME


def test_a_curve_goes_through_its_points_and_stays_inside() -> None:
    drawn = chart()
    before = outside(drawn)
    drawn.curve([0, 100, 299], [0.5, 0.5, 5.0], BLACK)
    assert drawn.picture.getpixel((drawn.column(50), drawn.row(0.5))) == BLACK
    assert outside(drawn) == before


def test_bars_have_their_heights_and_are_cut_at_the_top() -> None:
    drawn = Chart((300, 200), Scale(0, 3), Scale(0, 1), y_ticks=False)
    before = outside(drawn)
    drawn.bars([0, 1, 2, 3], [0.5, 7.0, 0.0], BLACK)
    assert outside(drawn) == before
    _, top, _, bottom = drawn.box
    tall = []
    for middle in (0.5, 1.5, 2.5):
        column = [
            drawn.picture.getpixel((drawn.column(middle), row)) for row in range(top, bottom + 1)
        ]
        tall.append(column.count(BLACK) / (bottom - top))
    assert tall == pytest.approx([0.5, 1, 0], abs=0.02)


def test_cells_fill_the_frame_in_order() -> None:
    drawn = Chart((300, 200), Scale.of_cells(3), Scale.of_cells(2, downwards=True))
    cells = Image.new("RGB", (3, 2))
    content = [(10 * i, 0, 0) for i in range(6)]
    cells.putdata(content)
    drawn.cells(cells)
    assert [
        drawn.picture.getpixel((drawn.column(x), drawn.row(y))) for y in range(2) for x in range(3)
    ] == content
    assert colours_of(inside(drawn)) == set(content)


def test_a_level_is_a_line_with_its_name_above() -> None:
    drawn = Chart((300, 200), Scale(0, 3), Scale(1, 100, log=True))
    drawn.level(10, "ten")
    left, top, right, bottom = drawn.box
    assert drawn.row(10) == round((top + bottom) / 2)
    assert all(
        drawn.picture.getpixel((column, drawn.row(10))) == MUTED for column in range(left, right)
    )


def test_a_gutter_aligns_charts() -> None:
    few = Chart((400, 200), Scale(0, 1), Scale(0, 1), gutter=64)
    many = Chart((400, 200), Scale(0, 1), Scale(0, 100_000), y_label="y", gutter=64)
    assert few.box[0] == many.box[0] == 64


@pytest.mark.parametrize("name", ["short", "a long name of something " * 9])
def test_nothing_touches_the_edges(name: str) -> None:
    drawn = Chart(
        (400, 240),
        Scale.of_cells(100_000),
        Scale(-1e6, 1e6),
        title=name,
        x_label="timestep",
        y_label="something",
        legend=[(name, SERIES[0]), (name, SERIES[1]), (name, SERIES[2])],
        marked=True,
    )
    drawn.mark([0, 50_000, 99_999])
    edges = [(0, 0, 400, 1), (0, 239, 400, 240), (0, 0, 1, 240), (399, 0, 400, 240)]
    assert all(colours_of(drawn.picture.crop(edge)) == {PAPER} for edge in edges)


def test_names_instead_of_numbers() -> None:
    plain = Chart((300, 200), Scale(0, 1), Scale.of_cells(2, downwards=True))
    named = Chart(
        (300, 200), Scale(0, 1), Scale.of_cells(2, downwards=True), y_names=["first", "second"]
    )
    assert named.box[0] > plain.box[0]
    # The first one stands at the upper cell: written alone, it is all that is there.
    left, top, _, bottom = named.box
    middle = (top + bottom) // 2
    for cell, name in (((0, 0, left, middle), "first"), ((0, middle, left, bottom), "second")):
        names = [name if name == other else "" for other in ("first", "second")]
        alone = Chart(
            (300, 200), Scale(0, 1), Scale.of_cells(2, downwards=True), y_names=names, gutter=left
        )
        assert alone.box == named.box
        assert alone.picture.crop(cell).tobytes() == named.picture.crop(cell).tobytes()
        assert alone.picture.tobytes() != named.picture.tobytes()
