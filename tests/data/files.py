"""IDX files as bytes, and on disk."""

from pathlib import Path

import torch
from torch import Tensor


def idx(shape: tuple[int, ...], content: bytes) -> bytes:
    """A header that says ``shape``, and after it ``content``, whether or not they agree."""
    sizes = b"".join(size.to_bytes(4, "big") for size in shape)
    return bytes([0, 0, 8, len(shape)]) + sizes + content


def put(images_path: Path, images: Tensor, labels: Tensor) -> None:
    """Write images ``(N, H, W)``, and beside them their labels."""
    images_path.parent.mkdir(parents=True, exist_ok=True)
    labels_name = images_path.name.replace("images-idx3", "labels-idx1")
    for name, array in ((images_path.name, images), (labels_name, labels)):
        content = array.to(torch.uint8).numpy().tobytes()
        images_path.with_name(name).write_bytes(idx(tuple(array.shape), content))
