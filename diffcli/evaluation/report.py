"""The picture of a verdict: samples, the worst of them, confusions, and how near copies are."""

import torch
from PIL import Image
from torch import Tensor

from diffcli.data.images import LabelledImages
from diffcli.drawing.chart import Chart
from diffcli.drawing.colours import MUTED, SEQUENTIAL, SERIES
from diffcli.drawing.heat import matrix, sampled
from diffcli.drawing.layout import beside, framed, padded, stack, wrapped
from diffcli.drawing.scales import Scale
from diffcli.drawing.text import SMALL, elided, line, line_height, width_of, write
from diffcli.evaluation.judge import Evidence, closest_of_each_label, worst
from diffcli.evaluation.summary import Evaluation
from diffcli.files.arrays import PictureArrays
from diffcli.files.pictures import tile, to_pillow

_PANEL = 460
_ROWS = 10
_WORST = 24
_BINS = 60
_GAP = 24
_PICTURE = 56


def draw_report(
    samples: PictureArrays, evaluation: Evaluation, train: LabelledImages, title: str
) -> Image.Image:
    """One picture that shows what the figures are made of.

    Args:
        samples: the set that was judged last.
        evaluation: which judged it.
        train: the training images.
        title: stands above it all.
    """
    images, labels, _ = samples
    evidence = evaluation.evidence
    left = stack(
        [
            _titled("Samples, not picked: the first of each label", _rows(images, labels)),
            _titled(
                "Closest to a training image, of each label: sample above, training image below",
                _pairs(images, labels, evidence, train),
            ),
        ],
        _GAP,
    )
    right = stack(
        [
            _confusion(evidence.confusion, train.class_names),
            _distances(evidence.nearest.distances, evaluation.real_evidence.nearest.distances),
        ],
        _GAP,
    )
    mistaken = _titled(
        "Worst disagreements: asked for > recognised as",
        _worst(images, labels, evidence, train.class_names),
    )
    return padded(stack([line(title), beside([left, right], _GAP), mistaken], _GAP), _GAP)


def _titled(title: str, picture: Image.Image) -> Image.Image:
    return stack([line(title), picture], 4)


def _enlarged(picture: Image.Image, side: int) -> Image.Image:
    factor = max(1, side // max(picture.size))
    size = (picture.width * factor, picture.height * factor)
    return picture.resize(size, Image.Resampling.NEAREST)


def _rows(images: Tensor, labels: Tensor) -> Image.Image:
    """A row for each of up to ten labels: its first samples, as many as fit."""
    width = images.shape[3]
    factor = max(1, _PANEL // (_ROWS * (width + 2)))
    columns = max(1, _PANEL // (factor * (width + 2)))
    present = labels.unique().tolist()
    chosen = []
    for place in sampled(len(present), _ROWS):
        own = (labels == present[place]).nonzero()[:, 0][:columns]
        blank = images.new_full((columns - len(own), *images.shape[1:]), 255)
        chosen.append(torch.cat([images[own], blank]))
    sheet = to_pillow(tile(torch.cat(chosen), columns))
    return sheet.resize((sheet.width * factor, sheet.height * factor), Image.Resampling.NEAREST)


def _pairs(
    images: Tensor, labels: Tensor, evidence: Evidence, train: LabelledImages
) -> Image.Image:
    nearest = evidence.nearest
    pairs = [
        stack(
            [
                _thumbnail(images[index]),
                _thumbnail(train.images[nearest.indices[index]]),
                _caption(f"{nearest.distances[index]:.2f}"),
            ],
            2,
        )
        for index in closest_of_each_label(labels, nearest)[:_ROWS]
    ]
    return wrapped(pairs, min(_ROWS // 2, _PANEL // (pairs[0].width + 4)), 4)


def _worst(
    images: Tensor, labels: Tensor, evidence: Evidence, names: tuple[str, ...]
) -> Image.Image:
    found = [
        stack(
            [
                _thumbnail(images[index]),
                _caption(f"{names[labels[index]]} > {names[evidence.recognised[index]]}"),
            ],
            2,
        )
        for index in worst(labels, evidence, _WORST)
    ]
    if not found:
        return line("none", colour=MUTED)
    return wrapped(found, (2 * _PANEL + _GAP) // (found[0].width + 6), 6)


def _thumbnail(image: Tensor) -> Image.Image:
    return framed(_enlarged(to_pillow(image), _PICTURE))


def _caption(text: str) -> Image.Image:
    picture = Image.new("RGB", (_PICTURE + 2, line_height(SMALL)), "white")
    shown = elided(text, picture.width, SMALL)
    write(picture, ((picture.width - width_of(shown, SMALL)) / 2, 0), shown, "la", SMALL)
    return picture


def _confusion(confusion: Tensor, names: tuple[str, ...]) -> Image.Image:
    shares = 100 * confusion / confusion.sum(dim=1, keepdim=True).clamp(min=1)
    title = "Asked for (rows) and recognised as (columns), %"
    return matrix(shares.tolist(), names, _PANEL, Scale(0, 100), SEQUENTIAL, title)


def _distances(samples: Tensor, real: Tensor) -> Image.Image:
    most = max(float(samples.max()), float(real.max()), 1e-3)
    shares = [torch.histc(part, _BINS, 0, most) / len(part) * 100 for part in (samples, real)]
    chart = Chart(
        (_PANEL, 260),
        Scale(0, most),
        Scale(0, 1.05 * max(float(share.max()) for share in shares)),
        title="Distance to the nearest training image",
        x_label="Euclidean, pixels from 0 to 1",
        y_label="% of images",
        legend=[("samples", SERIES[0]), ("test images", SERIES[1])],
    )
    middles = [(index + 0.5) * most / _BINS for index in range(_BINS)]
    for share, colour in zip(shares, SERIES, strict=False):
        chart.curve(middles, share.tolist(), colour)
    return chart.picture
