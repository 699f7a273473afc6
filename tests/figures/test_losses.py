"""The chart of a training run says what the records say."""

from PIL import Image

from diffcli.drawing.colours import SERIES
from diffcli.figures.losses import loss_chart
from diffcli.training.metrics import Metrics


def records(held_out: list[float]) -> list[Metrics]:
    return [
        Metrics(step, step, 100 * step, 1.0, loss, (loss, loss, loss, loss))
        for step, loss in enumerate(held_out, start=1)
    ]


def places(picture: Image.Image, colour: tuple[int, int, int]) -> list[tuple[int, int]]:
    """Where a colour is drawn below the legend of the upper chart, as (column, row)."""
    pixels = picture.load()
    assert pixels is not None
    half = picture.height // 2
    return [(x, y) for x in range(picture.width) for y in range(70, half) if pixels[x, y] == colour]


def test_a_falling_loss_is_a_falling_line() -> None:
    drawn = places(loss_chart(records([0.9, 0.7, 0.5, 0.3, 0.1])), SERIES[0])
    columns = sorted({x for x, _ in drawn})
    first = [y for x, y in drawn if x == columns[0]]
    last = [y for x, y in drawn if x == columns[-1]]
    assert max(first) < min(last)
    middle = [y for x, y in drawn if x == columns[len(columns) // 2]]
    assert max(first) < sum(middle) / len(middle) < min(last)


def test_a_constant_loss_is_level() -> None:
    rows = {y for _, y in places(loss_chart(records([0.5] * 6)), SERIES[0])}
    assert max(rows) - min(rows) <= 5


def test_without_held_out_losses_there_is_one_chart() -> None:
    unchecked = [Metrics(step, 0, step, 0.5, None, None) for step in (50, 100)]
    whole = loss_chart(records([0.5, 0.5]))
    assert loss_chart(unchecked).height < whole.height * 0.6
    assert places(loss_chart(unchecked), SERIES[0]) == []


def test_one_record_is_enough() -> None:
    assert places(loss_chart(records([0.5])), SERIES[0])
