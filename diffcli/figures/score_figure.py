"""The figure of a score: what the network estimates from a picture under its two best labels."""

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from diffcli.charts.arrange import beside, enlarged, padded, stack
from diffcli.charts.colours import DIVERGING, MUTED, PAPER
from diffcli.charts.heat import heat_map
from diffcli.charts.scales import Scale
from diffcli.charts.text import LARGE, SMALL, elided, line, paragraph, write
from diffcli.core.likelihood import Score
from diffcli.core.noise import ImageNoise
from diffcli.data.images import to_model_range, to_pixels
from diffcli.files.pictures import to_pillow
from diffcli.sampling.model import Model
from diffcli.sampling.pictures import Pictures

_LOG_SNRS = (2.0, 0.0, -2.0, -4.0)
_SIDE, _GAP, _MARGIN, _LONGEST_NAME, _LONGEST_FILE = 116, 8, 24, 110, 220


def score_figure(model: Model, pictures: Pictures, score: Score) -> Image.Image:
    """A block for each picture.

    Args:
        model: that scored them.
        pictures: few of them.
        score: of these pictures.
    """
    blocks = [_block(model, pictures, score, index) for index in range(len(pictures.names))]
    text = (
        "Each picture with more and more noise; what the network estimates under the two labels "
        "that explain it best; and the first estimate minus the second."
    )
    width = max(block.width for block in blocks)
    return padded(stack([paragraph(text, width, colour=MUTED), *blocks], 18), _MARGIN)


def _block(model: Model, pictures: Pictures, score: Score, index: int) -> Image.Image:
    posterior = score.posterior[index]
    labels = posterior.topk(min(2, len(posterior))).indices.tolist()
    names = [model.class_names[label] for label in labels]
    shares = ", ".join(
        f"{elided(name, _LONGEST_NAME)} {posterior[label]:.1%}"
        for name, label in zip(names, labels, strict=True)
    )
    bits = f"{score.bits[index]:.2f} ± {score.standard_error[index]:.2f} bits per dimension"
    schedule = model.denoiser.schedule
    pixels = pictures.pixels[index]
    x0 = to_model_range(pixels)[None].to(schedule.device)
    epsilon = ImageNoise([0], x0.shape[1:], schedule.device)()
    columns = [_names(pixels, [f"under {name}" for name in names])]
    for log_snr in _LOG_SNRS:
        t = int((schedule.log_snr - log_snr).abs().argmin())
        x_t = schedule.add_noise(x0, t, epsilon)
        columns.append(_column(model, x_t, t, labels))
    name = elided(Path(pictures.names[index]).name, _LONGEST_FILE, LARGE)
    return stack([line(f"{name}: {shares}; {bits}", LARGE), beside(columns, _GAP)], 6)


@torch.inference_mode()
def _column(model: Model, x_t: Tensor, t: int, labels: Sequence[int]) -> Image.Image:
    estimates = [
        model.denoiser.clipped(x_t, t, torch.tensor([label], device=x_t.device)).x0[0]
        for label in labels
    ]
    shown = [to_pillow(to_pixels(x).cpu()) for x in (x_t[0], *estimates)]
    difference = (estimates[0] - estimates[-1]).mean(0).cpu()
    shown.append(heat_map(difference, Scale(-1, 1), DIVERGING))
    caption = line(f"t = {t}", SMALL, MUTED)
    return stack([caption, *(enlarged(picture, _SIDE) for picture in shown)], _GAP)


def _names(pixels: Tensor, names: Sequence[str]) -> Image.Image:
    """The first column: the picture, and what the rows below it show."""
    first = enlarged(to_pillow(pixels), _SIDE)
    cells = [line("", SMALL), first]
    for name in (*names, "difference"):
        cell = Image.new("RGB", first.size, PAPER)
        place = (first.width - _GAP, first.height / 2)
        write(cell, place, elided(name, first.width - _GAP, SMALL), "rm", SMALL, MUTED)
        cells.append(cell)
    return stack(cells, _GAP)
