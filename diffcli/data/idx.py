"""The IDX format of MNIST and similar data sets."""

import gzip
import math
import zlib
from pathlib import Path
from typing import BinaryIO, cast

import torch
from torch import Tensor

from diffcli.data.images import LabelledImages
from diffcli.errors import DiffcliError

_UINT8 = 8
_MAX_BYTES = 4 << 30


def read_idx(file: BinaryIO) -> Tensor:
    """The uint8 array in an IDX file, of the shape in its header.

    No more is read than the header says, since a few packed kilobytes can unpack to terabytes.

    Raises:
        ValueError: if it is no IDX file of bytes, has over 4 GiB, or is longer or shorter than its
            header says.
    """
    start = file.read(4)
    if len(start) < 4 or start[:2] != b"\0\0" or start[2] != _UINT8:
        raise ValueError("it is no IDX file of bytes")
    sizes = file.read(4 * start[3])
    shape = [int.from_bytes(sizes[at : at + 4], "big") for at in range(0, 4 * start[3], 4)]
    size = math.prod(shape)
    # Without what is zero, too: an empty array has strides, which can be too large as well.
    if math.prod(length for length in shape if length) > _MAX_BYTES:
        raise ValueError(f"its header says {shape}, which is over {_MAX_BYTES >> 30} GiB")
    content = file.read(size + 1)
    if len(content) != size:
        longer = "longer" if len(content) > size else "shorter"
        raise ValueError(f"its header says {shape}, and it is {longer}")
    # A copy, because bytes are read-only; one longer, because an empty array cannot be viewed.
    return torch.frombuffer(bytearray(content + b"\0"), dtype=torch.uint8)[:size].view(shape)


def load_idx_pair(images_path: Path) -> LabelledImages:
    """Images from one IDX file, plain or gzip, and their labels from another one beside it.

    The labels' name is the images' with ``images`` and ``idx3`` replaced by ``labels`` and
    ``idx1``, as in ``train-images-idx3-ubyte.gz``.

    Raises:
        DiffcliError: if either is missing or damaged, or they do not belong together.
    """
    labels_name = images_path.name.replace("images", "labels").replace("idx3", "idx1")
    if labels_name == images_path.name:
        raise DiffcliError(
            f"{images_path} is no IDX file of images: its name must contain 'images' or 'idx3', as "
            "in train-images-idx3-ubyte, whose labels are in train-labels-idx1-ubyte"
        )
    images = _read(images_path)
    labels = _read(images_path.with_name(labels_name)).long()
    if images.ndim != 3 or labels.ndim != 1 or len(images) != len(labels):
        raise DiffcliError(
            f"{images_path} and {labels_name} do not fit together: their shapes are "
            f"{list(images.shape)} and {list(labels.shape)}"
        )
    if not images.numel():
        raise DiffcliError(
            f"{images_path} has no pixels: its shape is {list(images.shape)}; use another file"
        )
    names = tuple(str(label) for label in range(int(labels.max()) + 1))
    return LabelledImages(images[:, None], labels, names)


def _read(path: Path) -> Tensor:
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            return read_idx(cast("BinaryIO", file))
    except (ValueError, EOFError, OSError, zlib.error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise DiffcliError(f"cannot read {path}: {reason}") from error
