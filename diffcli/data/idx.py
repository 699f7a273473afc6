"""The IDX format of MNIST and similar data sets."""

import gzip
import math
from pathlib import Path

import torch
from torch import Tensor

from diffcli.data.images import LabelledImages
from diffcli.errors import DiffcliError

_UINT8 = 8


def parse_idx(content: bytes | bytearray) -> Tensor:
    """The uint8 array in an IDX file, of the shape in its header.

    Raises:
        ValueError: if it is no IDX file of bytes, or its length is not what the header says.
    """
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] != _UINT8:
        raise ValueError("it is no IDX file of bytes")
    start = 4 + 4 * content[3]
    shape = [int.from_bytes(content[at : at + 4], "big") for at in range(4, start, 4)]
    if len(content) != start + math.prod(shape):
        raise ValueError(f"its header says {shape} and its length is {len(content)} bytes")
    # A copy, because the bytes may be read-only, and an empty array has no memory to view.
    return torch.frombuffer(bytearray(content), dtype=torch.uint8)[start:].view(shape)


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
    if images.ndim != 3 or labels.ndim != 1 or len(images) != len(labels) or not len(images):
        raise DiffcliError(
            f"{images_path} and {labels_name} do not fit together: their shapes are "
            f"{list(images.shape)} and {list(labels.shape)}"
        )
    names = tuple(str(label) for label in range(int(labels.max()) + 1))
    return LabelledImages(images[:, None], labels, names)


def _read(path: Path) -> Tensor:
    try:
        content = path.read_bytes()
        return parse_idx(gzip.decompress(content) if path.suffix == ".gz" else content)
    except (ValueError, EOFError, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise DiffcliError(f"cannot read {path}: {reason}") from error
