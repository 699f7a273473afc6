"""The figure of a training run: losses over the images seen."""

from collections.abc import Sequence
from typing import NamedTuple

from PIL import Image

from diffcli.charts.arrange import padded, stack
from diffcli.charts.chart import Chart
from diffcli.charts.colours import MUTED, SERIES
from diffcli.charts.scales import Scale

_SIZE = (900, 320)
_MARGIN, _GAP, _GUTTER = 24, 20, 64
_ROOM = 0.05

# The quarters of the timesteps, the least noisy first.
_QUARTERS = ("least noise", "second quarter", "third quarter", "most noise")


class Check(NamedTuple):
    """Losses on held-out images."""

    images_seen: int
    """Images trained on before."""
    loss: float
    quarters: Sequence[float]
    """The loss in each quarter of the timesteps, the least noisy first."""


def loss_chart(
    images_seen: Sequence[int], losses: Sequence[float], checks: Sequence[Check]
) -> Image.Image:
    """The training loss, the loss on held-out images, and the latter by quarter of timesteps.

    Args:
        images_seen: images trained on at each record, increasing; at least one.
        losses: the training loss of each record.
        checks: losses on held-out images, in order.
    """
    charts = [_losses(images_seen, losses, checks)]
    if checks:
        charts.append(_quarters(images_seen[-1], checks))
    return padded(stack([chart.picture for chart in charts], _GAP), _MARGIN)


def _losses(images_seen: Sequence[int], losses: Sequence[float], checks: Sequence[Check]) -> Chart:
    # The first records are of an untrained network, and would flatten all that follows.
    settled = sorted(losses)[: len(losses) - len(losses) // 20]
    held_out = [check.loss for check in checks]
    lowest, highest = min([settled[0], *held_out]), max([settled[-1], *held_out])
    chart = _chart(
        "Loss: on training batches, and on held-out images with fixed noise",
        [("training", MUTED), ("held out", SERIES[0])],
        images_seen[-1],
        # From 0, all but the first minutes of a run would look flat.
        Scale(lowest - _ROOM * highest, highest + _ROOM * highest),
    )
    chart.curve(images_seen, losses, MUTED, 1)
    if checks:
        xs = [check.images_seen for check in checks]
        chart.curve(xs, held_out, SERIES[0])
        chart.dots(xs, held_out, SERIES[0])
    return chart


def _quarters(last: int, checks: Sequence[Check]) -> Chart:
    quarters = [check.quarters for check in checks]
    chart = _chart(
        "Loss on held-out images, by quarter of the timesteps",
        list(zip(_QUARTERS, SERIES, strict=False)),
        last,
        Scale(0, max(map(max, quarters)) * (1 + _ROOM)),
    )
    xs = [check.images_seen for check in checks]
    for ys, colour in zip(zip(*quarters, strict=True), SERIES, strict=False):
        chart.curve(xs, ys, colour)
        chart.dots(xs, ys, colour)
    return chart


def _chart(
    title: str, legend: Sequence[tuple[str, tuple[int, int, int]]], last: int, scale: Scale
) -> Chart:
    return Chart(
        _SIZE,
        Scale(0, last),
        scale,
        title=title,
        x_label="images seen",
        gutter=_GUTTER,
        legend=legend,
    )
