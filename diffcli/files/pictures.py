"""Pictures: tensors and bytes of them."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps

from diffcli.files.embedded import Embedded
from diffcli.files.writing import write_atomically

if TYPE_CHECKING:  # charts are written without torch
    from torch import Tensor


def to_pillow(pixels: "Tensor") -> Image.Image:
    """uint8 ``(1 or 3, H, W)`` as a grey or RGB picture."""
    array = pixels.permute(1, 2, 0).contiguous().numpy()
    return Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)


def from_pillow(picture: Image.Image) -> "Tensor":
    """A picture of mode ``L`` or ``RGB`` as uint8 ``(1 or 3, H, W)``."""
    import torch  # noqa: PLC0415 - takes seconds, and charts are saved without it

    pixels = torch.from_numpy(np.array(picture))
    return pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1)


def fitted(picture: Image.Image, channels: int, height: int, width: int) -> Image.Image:
    """A picture in grey (one channel) or RGB, cropped at the centre to that shape and resized."""
    converted = picture.convert("L" if channels == 1 else "RGB")
    if converted.size == (width, height):
        return converted
    return ImageOps.fit(converted, (width, height), Image.Resampling.LANCZOS)


def encode_png(picture: Image.Image, embedded: Embedded | None = None) -> bytes:
    """The bytes of a PNG with metadata, if given."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", **(embedded.options("PNG") if embedded else {}))
    return buffer.getvalue()


def encode_animation(
    frames: Sequence[Image.Image],
    milliseconds: Sequence[int],
    kind: str = "GIF",
    embedded: Embedded | None = None,
) -> bytes:
    """The bytes of an animation that repeats for ever.

    Args:
        frames: of one size and mode.
        milliseconds: how long each is shown.
        kind: ``GIF``, ``WEBP`` or ``PNG``.
        embedded: metadata.
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
