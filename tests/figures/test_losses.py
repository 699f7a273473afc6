import pytest
from PIL import Image

from diffcli.drawing.colours import SERIES, Colour
from diffcli.figures.losses import loss_chart
from diffcli.training.metrics import Metrics


def record(step: int, loss: float, held_out: float | None = None) -> Metrics:
    quarters = None if held_out is None else (2 * held_out, *(held_out,) * 2, held_out / 2)
    return Metrics(step, 0, 64 * step, loss, held_out, quarters)


def falling(count: int = 50) -> list[Metrics]:
    """Losses from 1 to a twentieth, held-out ones at every tenth record."""
    return [
        record(50 * n, 1 / n + 0.05, 1 / n + 0.05 if n % 10 == 0 else None)
        for n in range(1, count + 1)
    ]


def places(picture: Image.Image, colour: Colour) -> list[tuple[int, int]]:
    """Where the colour stands below the legend, from left to right."""
    return [
        (x, y)
        for x in range(picture.width)
        for y in range(picture.height // 5, picture.height)
        if picture.getpixel((x, y)) == colour
    ]


def test_a_falling_loss_falls() -> None:
    chart = loss_chart([record(n, 1.0, 1 - n / 20) for n in range(1, 20)])
    upper = chart.crop((0, 0, chart.width, chart.height // 2))
    (first_x, first_y), *_, (last_x, last_y) = places(upper, SERIES[0])
    assert last_x - first_x > 0.8 * chart.width
    assert last_y - first_y > 0.4 * upper.height


def test_quarters_are_drawn_once_they_are_known() -> None:
    without = loss_chart([record(n, 1.0) for n in range(1, 5)])
    assert not places(without, SERIES[0])
    drawn = loss_chart([record(n, 1.0, 0.5) for n in range(1, 5)])
    assert drawn.width == without.width
    assert drawn.height > 1.8 * without.height
    lower = drawn.crop((0, drawn.height // 2, drawn.width, drawn.height))
    # The noisiest quarter has half the loss of the one before it, and so stands below it.
    assert min(y for _, y in places(lower, SERIES[3])) > max(y for _, y in places(lower, SERIES[2]))


def test_losses_of_an_untrained_network_do_not_flatten_the_rest() -> None:
    usual = falling()
    outlier = [record(50, 1000.0), *usual[1:]]
    assert places(loss_chart(usual), SERIES[0]) == places(loss_chart(outlier), SERIES[0])


def test_held_out_losses_are_inside_the_frame_where_they_are_above_those_of_training() -> None:
    chart = loss_chart([record(n, 0.1, 0.5 - n / 50) for n in range(1, 11)])
    drawn = places(chart.crop((0, 0, chart.width, chart.height // 2)), SERIES[0])
    assert max(y for _, y in drawn) - min(y for _, y in drawn) > 50


def test_what_held_out_images_said_stands_where_it_was_said() -> None:
    """Every later line of the metrics repeats it."""
    said = [record(n, 1.0, 1.0 if n < 10 else 0.8) for n in range(1, 20)]
    chart = loss_chart(said)
    upper = chart.crop((0, 0, chart.width, chart.height // 2))
    columns = sorted({x for x, _ in places(upper, SERIES[0])})
    # One line from the first record to the tenth of nineteen, and no stairs.
    assert columns[-1] - columns[0] == pytest.approx(9 / 19 * chart.width * 0.9, rel=0.1)
    falls: dict[int, list[int]] = {}
    for x, y in places(upper, SERIES[0]):
        falls.setdefault(x, []).append(y)
    middle = sum(falls[columns[len(columns) // 2]]) / len(falls[columns[len(columns) // 2]])
    ends = min(falls[columns[0]]), max(falls[columns[-1]])
    assert middle == pytest.approx(sum(ends) / 2, abs=8)


def test_one_record_is_enough() -> None:
    assert places(loss_chart([record(1, 0.5, 0.5)]), SERIES[0])
