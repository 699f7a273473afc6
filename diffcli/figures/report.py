"""The report of an evaluation: samples, the worst of them, confusions, nearest images."""

import torch
from PIL import Image
from torch import Tensor

from diffcli.charts.arrange import beside, enlarged, padded, stack, wrapped
from diffcli.charts.chart import Chart
from diffcli.charts.colours import MUTED, SEQUENTIAL, SERIES
from diffcli.charts.heat import matrix, sampled
from diffcli.charts.scales import Scale
from diffcli.charts.text import SMALL, elided, line, line_height, width_of, write
from diffcli.data.images import LabelledImages
from diffcli.evaluation.judge import Evidence, closest_of_each_label, worst
from diffcli.evaluation.summary import Evaluation
from diffcli.figures.grid import tile
from diffcli.files.arrays import PictureArrays
from diffcli.files.pictures import from_pillow, to_pillow

_PANEL = 460
_ROWS = 10
_WORST = 24
_BINS = 60
_GAP = 24
# Of a picture: smaller ones are enlarged to the first, larger ones reduced to the second.
_PICTURE, _LARGEST = 56, 96


def draw_report(
    samples: PictureArrays, evaluation: Evaluation, train: LabelledImages, title: str
) -> Image.Image:
    """One picture that shows what the figures are computed from.

    Args:
        samples: the set that was evaluated last.
        evaluation: of this set.
        train: the training images.
        title: the first line.
    """
    images, labels, _ = samples
    evidence = evaluation.evidence
    left = stack(
        [
            _titled("The first samples of each label", _rows(images, labels)),
            _titled(
                "Per label, the sample closest to a training image, which is below it",
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
        "Worst errors: requested label → recognised label",
        _worst(images, labels, evidence, train.class_names),
    )
    body = stack([beside([left, right], _GAP), mistaken], _GAP)
    return padded(stack([line(elided(title, body.width)), body], _GAP), _GAP)


def _titled(title: str, picture: Image.Image) -> Image.Image:
    return stack([line(title), picture], 4)


def _rows(images: Tensor, labels: Tensor) -> Image.Image:
    """A row for each label, or of many for ten of them: its first samples, as many as fit."""
    width, height = _reduced(images[0]).size
    factor = max(1, _PANEL // (_ROWS * (max(width, height) + 2)))
    columns = _PANEL // (factor * (width + 2))
    present = labels.unique().tolist()
    chosen: list[Tensor] = []
    for place in sampled(len(present), _ROWS):
        own = (labels == present[place]).nonzero()[:, 0][:columns]
        blank = images.new_full((columns - len(own), *images.shape[1:]), 255)
        chosen += [*images[own], *blank]
    sheet = to_pillow(tile(torch.stack([from_pillow(_reduced(part)) for part in chosen]), columns))
    return sheet.resize((sheet.width * factor, sheet.height * factor), Image.Resampling.NEAREST)


def _pairs(
    images: Tensor, labels: Tensor, evidence: Evidence, train: LabelledImages
) -> Image.Image:
    """The same labels as in ``_rows``."""
    nearest = evidence.nearest
    closest = closest_of_each_label(labels, nearest)
    pairs = [
        stack(
            [
                _thumbnail(images[index]),
                _thumbnail(train.images[nearest.indices[index]]),
                _caption(f"{nearest.distances[index]:.2f}", _width(images)),
            ],
            2,
        )
        for index in (closest[place] for place in sampled(len(closest), _ROWS))
    ]
    return wrapped(pairs, min(_ROWS // 2, _PANEL // (pairs[0].width + 4)), 4)


def _worst(
    images: Tensor, labels: Tensor, evidence: Evidence, names: tuple[str, ...]
) -> Image.Image:
    found = [
        stack(
            [
                _thumbnail(images[index]),
                _mistake(names[labels[index]], names[evidence.recognised[index]], _width(images)),
            ],
            2,
        )
        for index in worst(labels, evidence, _WORST)
    ]
    if not found:
        return line("none", colour=MUTED)
    return wrapped(found, (2 * _PANEL + _GAP) // (found[0].width + 6), 6)


def _thumbnail(image: Tensor) -> Image.Image:
    return enlarged(_reduced(image), _PICTURE)


def _reduced(image: Tensor) -> Image.Image:
    picture = to_pillow(image)
    picture.thumbnail((_LARGEST, _LARGEST))  # smaller ones stay as they are
    return picture


def _width(images: Tensor) -> int:
    """The width of captions: that of the pictures, if these are not narrow."""
    return max(_PICTURE + 2, _thumbnail(images[0]).width)


def _mistake(requested: str, recognised: str, width: int) -> Image.Image:
    """Both names on one line, or on two, so that a long one does not push the other out."""
    text = f"{requested} → {recognised}"
    lines = [text] if width_of(text, SMALL) <= width else [requested, f"→ {recognised}"]
    return stack([_caption(part, width) for part in lines])


def _caption(text: str, width: int) -> Image.Image:
    picture = Image.new("RGB", (width, line_height(SMALL)), "white")
    shown = elided(text, width, SMALL)
    write(picture, ((picture.width - width_of(shown, SMALL)) / 2, 0), shown, "la", SMALL)
    return picture


def _confusion(confusion: Tensor, names: tuple[str, ...]) -> Image.Image:
    shares = 100 * confusion / confusion.sum(dim=1, keepdim=True).clamp(min=1)
    title = "Requested label (rows) and recognised label (columns), %"
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
