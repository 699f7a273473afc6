"""Pictures of several pictures: the way from noise to a digit, sheets, animations."""

from collections.abc import Sequence

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from diffcli.core.samplers import Step
from diffcli.data.images import to_pixels
from diffcli.files.embedded import Embedded
from diffcli.files.pictures import encode_animation, tile, to_pillow

ANIMATED = {".gif": "GIF", ".webp": "WEBP", ".apng": "PNG"}

_MOST_STRIP_COLUMNS = 10
_MOST_FRAMES = 60
_FRAME_SECONDS = 2.5
_LAST_FRAME_SECONDS = 1.5
_CAPTION_MARGIN = 4


def strip(steps: Sequence[Step]) -> Image.Image:
    """The way of each image as a row, and under it the estimates of where it leads.

    Args:
        steps: all that a sampler yielded for ``(B, C, H, W)``; at most ten are shown.

    Returns:
        ``2 B`` rows: the images after each step, then ``x_0`` as estimated for that step.
    """
    shown = _spread(steps, _MOST_STRIP_COLUMNS)
    images = torch.stack([torch.stack([step.x, step.x0]) for step in shown])
    rows = images.permute(2, 1, 0, 3, 4, 5).flatten(0, 2)
    return to_pillow(tile(to_pixels(rows).cpu(), len(shown)))


def sheet(rows: Sequence[Tensor], captions: Sequence[str]) -> Image.Image:
    """Rows of pictures with a caption before each.

    Args:
        rows: uint8 ``(N, C, H, W)`` each.
        captions: one per row.
    """
    pictures = to_pillow(tile(torch.cat(list(rows)), columns=len(rows[0])))
    font = ImageFont.load_default(11)
    boxes = [font.getbbox(caption) for caption in captions]
    margin = int(max(box[2] for box in boxes)) + 2 * _CAPTION_MARGIN
    page = Image.new(pictures.mode, (margin + pictures.width, pictures.height), "white")
    page.paste(pictures, (margin, 0))
    pen = ImageDraw.Draw(page)
    for index, caption in enumerate(captions):
        middle = (index + 0.5) * pictures.height / len(captions)
        pen.text((_CAPTION_MARGIN, middle), caption, fill="black", font=font, anchor="lm")
    return page


def animation(
    steps: Sequence[Step], columns: int, kind: str, embedded: Embedded | None = None
) -> bytes:
    """A grid of images at every step, as a GIF, WEBP or (animated) PNG that repeats.

    Args:
        steps: all that a sampler yielded; at most sixty become frames.
        columns: images per row.
        kind: ``GIF``, ``WEBP`` or ``PNG``.
        embedded: what to keep in the file.
    """
    shown = _spread(steps, _MOST_FRAMES)
    frames = [to_pillow(tile(to_pixels(step.x).cpu(), columns)) for step in shown]
    durations = [round(1000 * _FRAME_SECONDS / len(frames))] * len(frames)
    durations[-1] = round(1000 * _LAST_FRAME_SECONDS)
    return encode_animation(frames, durations, kind, embedded)


def _spread(steps: Sequence[Step], most: int) -> list[Step]:
    """At most so many of the steps, evenly, the last one among them."""
    count = min(len(steps), most)
    return [steps[(index + 1) * len(steps) // count - 1] for index in range(count)]
