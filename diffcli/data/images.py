"""Labelled images in memory: the form of every data set."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

_MOST_LOOKED_AT = 2000
_HIGH_FREQUENCY = 0.35


@dataclass(frozen=True)
class LabelledImages:
    """A data set in memory.

    Args:
        images: uint8 ``(N, C, H, W)``.
        labels: int64 ``(N,)`` in ``0 .. len(class_names) - 1``.
        class_names: the names of the labels.

    Raises:
        ValueError: if the labels are not one per image, or not of those classes.
    """

    images: Tensor
    labels: Tensor
    class_names: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.images) != len(self.labels):
            raise ValueError(f"{len(self.images)} images have {len(self.labels)} labels")
        if len(self) and not 0 <= self.labels.min() <= self.labels.max() < len(self.class_names):
            raise ValueError(
                f"labels are {self.labels.min()} .. {self.labels.max()}, "
                f"of {len(self.class_names)} classes"
            )

    def __len__(self) -> int:
        return len(self.images)

    @property
    def class_counts(self) -> tuple[int, ...]:
        """The number of images of each class."""
        return tuple(torch.bincount(self.labels, minlength=len(self.class_names)).tolist())

    def to(self, device: torch.device) -> "LabelledImages":
        """The same on another device."""
        return LabelledImages(self.images.to(device), self.labels.to(device), self.class_names)

    def subset(self, index: Tensor) -> "LabelledImages":
        """Images ``index``, int64 ``(M,)``, with the same classes."""
        return LabelledImages(self.images[index], self.labels[index], self.class_names)

    def batch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Images ``index`` as float32 in [-1, 1], and their labels."""
        return to_model_range(self.images[index]), self.labels[index]


def resized(data: LabelledImages, size: tuple[int, int]) -> LabelledImages:
    """The same with images of ``(height, width)``, cropped at the centre to that aspect ratio."""
    if tuple(data.images.shape[2:]) == size:
        return data
    height, width = data.images.shape[2:]
    scale = max(size[0] / height, size[1] / width)
    inner = (round(size[0] / scale), round(size[1] / scale))
    top, left = (height - inner[0]) // 2, (width - inner[1]) // 2
    cropped = data.images[:, :, top : top + inner[0], left : left + inner[1]]
    scaled = [
        F.interpolate(part.float(), size, mode="bicubic", antialias=True).round_().clamp_(0, 255)
        for part in cropped.split(1024)
    ]
    images = torch.cat([part.to(torch.uint8) for part in scaled])
    return LabelledImages(images, data.labels, data.class_names)


def proportional_subset(labels: Tensor, count: int, seed: int) -> Tensor:
    """Choose ``count`` images at random, with each label in proportion to its share.

    Classes lie far apart in feature space: random shares would dominate a Frechet distance.

    Returns:
        Indices in increasing order, int64 ``(count,)``; distinct, unless more are wanted than
        there are.
    """
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    order = order[labels[order].argsort(stable=True)]
    return order[(torch.arange(count) * 2 + 1) * len(labels) // (2 * count)].sort().values


def to_model_range(pixels: Tensor) -> Tensor:
    """uint8 to float32 in [-1, 1]."""
    return pixels.float().div_(127.5).sub_(1)


def to_pixels(images: Tensor) -> Tensor:
    """Float images in [-1, 1] to the nearest uint8, clipped."""
    return images.float().add(1).mul_(127.5).round_().clamp_(0, 255).to(torch.uint8)


def describe_shape(images: Tensor) -> str:
    """Images ``(N, C, H, W)`` in words: ``28x28 grey``."""
    _, channels, height, width = images.shape
    return f"{width}x{height} {'grey' if channels == 1 else 'RGB'}"


def detail(images: Tensor) -> float:
    """The share of the power of images in frequencies above 0.35 cycles per pixel.

    Args:
        images: uint8 ``(N, C, H, W)``; up to 2,000 of them, spread evenly, are looked at.
    """
    some = to_model_range(images[:: -(-len(images) // _MOST_LOOKED_AT)]).mean(1).cpu()
    power = torch.fft.fft2(some - some.mean((1, 2), keepdim=True)).abs().square().mean(0)
    down, across = (torch.fft.fftfreq(side) for side in some.shape[1:])
    high = torch.hypot(down[:, None], across[None]) > _HIGH_FREQUENCY
    return float(power[high].sum() / power.sum().clamp(min=1e-12))
