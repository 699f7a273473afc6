"""Labelled pictures as NumPy arrays in an ``npz``, which any tool can write and read.

``images`` is uint8 ``(N, H, W)`` for grey pictures or ``(N, H, W, 3)`` for RGB, ``labels``
int64 ``(N,)``, and ``seeds``, if known, int64 ``(N,)``.
"""

import io
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from diffcli.errors import DiffcliError, UsageError
from diffcli.files.writing import write_atomically

# A few megabytes of an archive can be terabytes of zeros.
_MAX_BYTES = 4 << 30


class PictureArrays(NamedTuple):
    """What an ``npz`` holds."""

    images: Tensor
    """uint8 ``(N, C, H, W)``, with 1 or 3 channels."""
    labels: Tensor
    """int64 ``(N,)``."""
    seeds: Tensor | None
    """int64 ``(N,)``, if known."""


def encode_npz(images: Tensor, labels: Tensor, seeds: Sequence[int] | None = None) -> bytes:
    """The bytes of an ``npz``.

    Args:
        images: uint8 ``(N, 1 or 3, H, W)``, on the CPU.
        labels: int64 ``(N,)``.
        seeds: one per picture, if known.
    """
    grey = images.shape[1] == 1
    arrays = {
        "images": (images[:, 0] if grey else images.permute(0, 2, 3, 1)).contiguous().numpy(),
        "labels": labels.long().numpy(),
    }
    if seeds is not None:
        arrays["seeds"] = np.array(seeds, dtype=np.int64)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def save_npz(
    path: Path, images: Tensor, labels: Tensor, seeds: Sequence[int] | None = None
) -> None:
    """Write pictures, their labels and their seeds, atomically; see ``encode_npz``.

    Raises:
        OSError: if the file cannot be written; it is then unchanged.
    """
    write_atomically(path, encode_npz(images, labels, seeds))


def load_npz(path: Path) -> PictureArrays:
    """Read pictures and their labels.

    Raises:
        UsageError: if there is no such file.
        DiffcliError: if the file is damaged, or its arrays are not as above.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            images, labels = _read_array(archive, "images"), _read_array(archive, "labels")
            seeds = _read_array(archive, "seeds") if "seeds.npy" in archive.namelist() else None
    except FileNotFoundError as error:
        raise UsageError(f"there is no npz {path}", "samples") from error
    except OSError as error:
        raise DiffcliError(f"cannot read {path}: {error.strerror or error}", "samples") from error
    except Exception as error:  # compressions have errors of their own, a false header has others
        raise _unusable(path, str(error)) from error
    shape = images.shape
    if images.dtype != "uint8" or not (len(shape) == 3 or (len(shape) == 4 and shape[3] == 3)):
        raise _unusable(
            path,
            f"images is {images.dtype} {shape}, and should be uint8 (N, H, W) or (N, H, W, 3)",
        )
    if 0 in shape:
        raise _unusable(path, f"images is {shape}: there is nothing in it")
    for name, array in (("labels", labels), ("seeds", seeds)):
        if array is not None and (array.dtype.kind not in "iu" or array.shape != shape[:1]):
            raise _unusable(
                path,
                f"{name} is {array.dtype} {array.shape}, and should be int64 ({shape[0]},)",
            )
    pixels = torch.from_numpy(images)
    return PictureArrays(
        pixels[:, None] if len(shape) == 3 else pixels.permute(0, 3, 1, 2).contiguous(),
        torch.from_numpy(labels.astype("int64")),
        None if seeds is None else torch.from_numpy(seeds.astype("int64")),
    )


def _read_array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    """One array.

    Raises:
        ValueError: if there is none, it is too large, or it holds objects.
    """
    try:
        member = archive.getinfo(f"{name}.npy")
    except KeyError as error:
        raise ValueError(f"it has no array {name!r}") from error
    if member.file_size > _MAX_BYTES:
        raise ValueError(f"its array {name!r} has {member.file_size:,} bytes")
    # NumPy's own archive would rather read a member without the suffix, whatever its size.
    with archive.open(member) as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def _unusable(path: Path, why: str) -> DiffcliError:
    return DiffcliError(
        f"{path} is no npz of labelled pictures: {why}; it needs images, uint8 (N, H, W) or "
        "(N, H, W, 3), and labels, int64 (N,)",
        "samples",
    )
