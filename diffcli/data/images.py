"""Labelled images in memory: what every data set becomes."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class LabelledImages:
    """A data set, whole.

    Args:
        images: uint8 ``(N, C, H, W)``.
        labels: int64 ``(N,)`` in ``0 .. len(class_names) - 1``.
        class_names: what the labels mean.
    """

    images: Tensor
    labels: Tensor
    class_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.images)

    def to(self, device: torch.device) -> "LabelledImages":
        """The same on another device."""
        return LabelledImages(self.images.to(device), self.labels.to(device), self.class_names)

    def batch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Images ``index`` as float32 in [-1, 1], and their labels."""
        return to_model_range(self.images[index]), self.labels[index]


def to_model_range(pixels: Tensor) -> Tensor:
    """uint8 to float32 in [-1, 1]."""
    return pixels.float().div_(127.5).sub_(1)


def to_pixels(images: Tensor) -> Tensor:
    """Float images in [-1, 1] to the nearest uint8; what lies outside is clipped."""
    return images.float().add(1).mul_(127.5).round_().clamp_(0, 255).to(torch.uint8)
