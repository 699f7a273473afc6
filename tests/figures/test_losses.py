from typing import NamedTuple

import pytest
from PIL import Image

from diffcli.charts.colours import SERIES, Colour
from diffcli.figures.losses import Check, loss_chart


class Record(NamedTuple):
    """The losses after some images."""

    images_seen: int
    loss: float
    held_out: float | None


def record(step: int, loss: float, held_out: float | None = None) -> Record:
    return Record(64 * step, loss, held_out)


def drawn(records: list[Record]) -> Image.Image:
    checks = [
        Check(seen, held_out, (2 * held_out, held_out, held_out, held_out / 2))
        for seen, _, held_out in records
        if held_out is not None
    ]
    return loss_chart([r.images_seen for r in records], [r.loss for r in records], checks)


def falling(count: int = 50) -> list[Record]:
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
    chart = drawn([record(n, 1.0, 1 - n / 20) for n in range(1, 20)])
    upper = chart.crop((0, 0, chart.width, chart.height // 2))
    (first_x, first_y), *_, (last_x, last_y) = places(upper, SERIES[0])
    assert last_x - first_x > 0.8 * chart.width
    assert last_y - first_y > 0.4 * upper.height


def test_quarters_are_drawn_once_they_are_known() -> None:
    without = drawn([record(n, 1.0) for n in range(1, 5)])
    assert not places(without, SERIES[0])
    both = drawn([record(n, 1.0, 0.5) for n in range(1, 5)])
    assert both.width == without.width
    assert both.height > 1.8 * without.height
    lower = both.crop((0, both.height // 2, both.width, both.height))
    # The noisiest quarter has half the loss of the one before it, and so stands below it.
    assert min(y for _, y in places(lower, SERIES[3])) > max(y for _, y in places(lower, SERIES[2]))


def test_losses_of_an_untrained_network_do_not_flatten_the_rest() -> None:
    usual = falling()
    outlier = [record(50, 1000.0), *usual[1:]]
    assert places(drawn(usual), SERIES[0]) == places(drawn(outlier), SERIES[0])


def test_held_out_losses_are_inside_the_frame_where_they_are_above_those_of_training() -> None:
    chart = drawn([record(n, 0.1, 0.5 - n / 50) for n in range(1, 11)])
    found = places(chart.crop((0, 0, chart.width, chart.height // 2)), SERIES[0])
    assert max(y for _, y in found) - min(y for _, y in found) > 50


def test_checks_are_joined_by_straight_lines() -> None:
    chart = loss_chart(
        [64 * n for n in range(1, 20)],
        [1.0] * 19,
        [Check(64 * n, loss, (loss,) * 4) for n, loss in ((1, 1.0), (10, 0.8))],
    )
    upper = chart.crop((0, 0, chart.width, chart.height // 2))
    columns = sorted({x for x, _ in places(upper, SERIES[0])})
    assert columns[-1] - columns[0] == pytest.approx(9 / 19 * chart.width * 0.9, rel=0.1)
    falls: dict[int, list[int]] = {}
    for x, y in places(upper, SERIES[0]):
        falls.setdefault(x, []).append(y)
    middle = sum(falls[columns[len(columns) // 2]]) / len(falls[columns[len(columns) // 2]])
    ends = min(falls[columns[0]]), max(falls[columns[-1]])
    assert middle == pytest.approx(sum(ends) / 2, abs=8)


def test_one_record_is_enough() -> None:
    assert places(drawn([record(1, 0.5, 0.5)]), SERIES[0])
