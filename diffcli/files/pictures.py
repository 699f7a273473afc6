"""Tensors as pictures: grids, and writing them."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, ImageOps

from diffcli.files.atomic import write_atomically
from diffcli.files.embedded import Embedded

if TYPE_CHECKING:  # charts are written without torch
    from torch import Tensor


def tile(images: "Tensor", columns: int, gap: int = 2, ground: int = 255) -> "Tensor":
    """Lay images out in rows.

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


def to_pillow(pixels: "Tensor") -> Image.Image:
    """uint8 ``(1 or 3, H, W)`` as a grey or RGB picture."""
    channels, height, width = pixels.shape
    content = pixels.permute(1, 2, 0).contiguous().flatten().numpy().tobytes()
    return Image.frombytes("L" if channels == 1 else "RGB", (width, height), content)


def fitted(picture: Image.Image, channels: int, height: int, width: int) -> Image.Image:
    """A picture in grey (one channel) or RGB, cropped at the centre to that shape and resized."""
    converted = picture.convert("L" if channels == 1 else "RGB")
    if converted.size == (width, height):
        return converted
    return ImageOps.fit(converted, (width, height), Image.Resampling.LANCZOS)


def from_pillow(picture: Image.Image) -> "Tensor":
    """A picture of mode ``L`` or ``RGB`` as uint8 ``(1 or 3, H, W)``."""
    import torch  # noqa: PLC0415 - a chart is drawn and saved without it

    content = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8)
    return content.view(picture.height, picture.width, -1).permute(2, 0, 1)


def encode_png(picture: Image.Image, embedded: Embedded | None = None) -> bytes:
    """A PNG as bytes, with what is to be kept in it."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", **(embedded.options("PNG") if embedded else {}))
    return buffer.getvalue()


def encode_animation(
    frames: Sequence[Image.Image],
    milliseconds: Sequence[int],
    kind: str = "GIF",
    embedded: Embedded | None = None,
) -> bytes:
    """Frames that repeat for ever, as bytes.

    Args:
        frames: of one size and mode.
        milliseconds: how long each is shown.
        kind: ``GIF``, ``WEBP`` or ``PNG``.
        embedded: what to keep in the file.
    """
    buffer = io.BytesIO()
    frames[0].save(
        buffer,
        kind,
        save_all=True,
        append_images=frames[1:],
        duration=list(milliseconds),
        loop=0,
        **({"lossless": True} if kind == "WEBP" else {}),
        **(embedded.options(kind) if embedded else {}),
    )
    return buffer.getvalue()


def save_png(path: Path, picture: Image.Image) -> None:
    """Write a PNG, atomically.

    Raises:
        OSError: if it cannot be written.
    """
    write_atomically(path, encode_png(picture))
