"""Drawn pictures put together: grids, strips, contact sheets, animations."""

import math
from collections.abc import Iterable, Sequence

import torch
from PIL import Image
from torch import Tensor

from diffcli.charts.text import SMALL, width_of, write
from diffcli.core.samplers import Step
from diffcli.data.images import to_pixels
from diffcli.files.embedded import Embedded
from diffcli.files.pictures import encode_animation, to_pillow

GAP = 2
"""Pixels between and around pictures."""
STRIP_COLUMNS = 10
"""The most steps that a strip shows."""
FRAMES = 60
"""The most steps that an animation shows."""

_SINGLES_PER_ROW = 10
_ANIMATION_SECONDS = 2.5
_LAST_FRAME_SECONDS = 1.5
_FRAME_MILLISECONDS = 80
_CAPTION_MARGIN = 4


def tile(images: Tensor, columns: int, gap: int = GAP, ground: int = 255) -> Tensor:
    """Arrange images in rows.

    Args:
        images: uint8 ``(N, C, H, W)``.
        columns: images per row.
        gap: pixels between and around images.
        ground: the grey value of the gaps.

    Returns:
        uint8 ``(C, height, width)``.
    """
    count, channels, height, width = images.shape
    rows = -(-count // columns)
    sheet = images.new_full(
        (channels, rows * (height + gap) + gap, columns * (width + gap) + gap), ground
    )
    for index, image in enumerate(images):
        top = gap + index // columns * (height + gap)
        left = gap + index % columns * (width + gap)
        sheet[:, top : top + height, left : left + width] = image
    return sheet


def grid(images: Tensor, columns: int) -> Image.Image:
    """Images, uint8 ``(N, C, H, W)``, as one picture; a single one has no border."""
    return to_pillow(images[0] if len(images) == 1 else tile(images, columns))


def grid_columns(labels: int, per_label: int) -> int:
    """Pictures per row of a grid.

    With several labels and several pictures of each, a label is a row.  The pictures of a single
    label form a square; single pictures of several labels form rows of ten.
    """
    if labels == 1:
        return math.ceil(math.sqrt(per_label))
    return min(labels, _SINGLES_PER_ROW) if per_label == 1 else per_label


def strip(steps: Sequence[Step]) -> Image.Image:
    """The images after each step in a row, and below them the estimates of ``x_0``.

    Args:
        steps: that a sampler yielded for ``(B, C, H, W)``.

    Returns:
        ``2 B`` rows, two for each image.
    """
    images = torch.stack([torch.stack([step.x, step.x0]) for step in steps])
    rows = images.permute(2, 1, 0, 3, 4, 5).flatten(0, 2)
    return to_pillow(tile(to_pixels(rows).cpu(), len(steps)))


def sheet(rows: Sequence[Tensor], captions: Sequence[str]) -> Image.Image:
    """Rows of pictures with a caption before each.

    Args:
        rows: uint8 ``(N, C, H, W)`` each.
        captions: one per row.
    """
    pictures = to_pillow(tile(torch.cat(list(rows)), columns=len(rows[0])))
    margin = max(width_of(caption, SMALL) for caption in captions) + 2 * _CAPTION_MARGIN
    page = Image.new("RGB", (margin + pictures.width, pictures.height), "white")
    page.paste(pictures, (margin, 0))
    for index, caption in enumerate(captions):
        middle = (index + 0.5) * pictures.height / len(captions)
        write(page, (_CAPTION_MARGIN, middle), caption, "lm", SMALL)
    return page.convert(pictures.mode)


def animation(
    steps: Sequence[Step], columns: int, kind: str, embedded: Embedded | None = None
) -> bytes:
    """A grid of images after each step, as an animation that repeats.

    Args:
        steps: that a sampler yielded.
        columns: images per row.
        kind: ``GIF``, ``WEBP`` or ``PNG``.
        embedded: metadata.
    """
    frames = [to_pillow(tile(to_pixels(step.x).cpu(), columns)) for step in steps]
    durations = [round(1000 * _ANIMATION_SECONDS / len(frames))] * len(frames)
    durations[-1] = round(1000 * _LAST_FRAME_SECONDS)
    return encode_animation(frames, durations, kind, embedded)


def there_and_back(images: Tensor, kind: str, embedded: Embedded | None = None) -> bytes:
    """Images one after another and back again, as an animation that repeats.

    Args:
        images: uint8 ``(N, C, H, W)``.
        kind: see ``animation``.
        embedded: metadata.
    """
    frames = [to_pillow(tile(image[None], 1)) for image in images]
    frames += frames[-2:0:-1]
    return encode_animation(frames, [_FRAME_MILLISECONDS] * len(frames), kind, embedded)


def spread(steps: Iterable[Step], count: int, most: int) -> list[Step]:
    """At most ``most`` of ``count`` steps, evenly spaced, the last one included.

    The others are not kept: together they may need more memory than there is.
    """
    shown = min(count, most)
    wanted = {(index + 1) * count // shown - 1 for index in range(shown)}
    return [step for number, step in enumerate(steps) if number in wanted]
