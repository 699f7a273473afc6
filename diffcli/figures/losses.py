"""The figure of a training run: how the losses went."""

from collections.abc import Sequence

from PIL import Image

from diffcli.drawing.chart import Chart
from diffcli.drawing.colours import MUTED, SERIES
from diffcli.drawing.layout import padded, stack
from diffcli.drawing.scales import Scale
from diffcli.training.metrics import Metrics

_SIZE = (900, 320)
_MARGIN, _GAP, _GUTTER = 24, 20, 64
_ROOM = 0.05

# Each quarter of the timesteps, from the least noisy.
_QUARTERS = ("least noise", "second quarter", "third quarter", "most noise")


def loss_chart(records: Sequence[Metrics]) -> Image.Image:
    """The training loss, the loss on held-out images, and that per quarter of the timesteps.

    Args:
        records: of a run, from its beginning; at least one.
    """
    checked = _checked(records)
    charts = [_losses(records, checked)]
    if checked:
        charts.append(_quarters(records, checked))
    return padded(stack([chart.picture for chart in charts], _GAP), _MARGIN)


def _checked(records: Sequence[Metrics]) -> list[Metrics]:
    """The records at which held-out images were looked at; those that follow repeat it."""
    found: list[Metrics] = []
    for record in records:
        known = record.validation_quarters
        if known and not (found and found[-1].validation_quarters == known):
            found.append(record)
    return found


def _losses(records: Sequence[Metrics], checked: Sequence[Metrics]) -> Chart:
    # The first records are of an untrained network, and would flatten all that follows.
    settled = sorted(record.loss for record in records)[: len(records) - len(records) // 20]
    held_out = [record.validation_loss or 0.0 for record in checked]
    lowest, highest = min([settled[0], *held_out]), max([settled[-1], *held_out])
    chart = _chart(
        "Loss: on batches while training, and on held-out images with fixed noise",
        [("training", MUTED), ("held out", SERIES[0])],
        records,
        # From 0, all but the first minutes of a run would look flat.
        Scale(lowest - _ROOM * highest, highest + _ROOM * highest),
    )
    chart.curve([r.images_seen for r in records], [r.loss for r in records], MUTED, 1)
    if checked:
        xs = [r.images_seen for r in checked]
        chart.curve(xs, held_out, SERIES[0])
        chart.dots(xs, held_out, SERIES[0])
    return chart


def _quarters(records: Sequence[Metrics], checked: Sequence[Metrics]) -> Chart:
    quarters = [record.validation_quarters or () for record in checked]
    chart = _chart(
        "The loss on held-out images, per quarter of the timesteps",
        list(zip(_QUARTERS, SERIES, strict=False)),
        records,
        Scale(0, max(map(max, quarters)) * (1 + _ROOM)),
    )
    xs = [record.images_seen for record in checked]
    for ys, colour in zip(zip(*quarters, strict=True), SERIES, strict=False):
        chart.curve(xs, ys, colour)
        chart.dots(xs, ys, colour)
    return chart


def _chart(
    title: str,
    legend: Sequence[tuple[str, tuple[int, int, int]]],
    records: Sequence[Metrics],
    scale: Scale,
) -> Chart:
    return Chart(
        _SIZE,
        Scale(0, records[-1].images_seen),
        scale,
        title=title,
        x_label="images seen",
        gutter=_GUTTER,
        legend=legend,
    )
