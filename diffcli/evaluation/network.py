"""The feature network: a small classifier whose last hidden layer is the feature space."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffcli.data.images import to_model_range
from diffcli.data.sources import pictures_to_hold_out
from diffcli.errors import DiffcliError

OnProgress = Callable[[int, int], None]
"""Called with the number of images done and of all."""

_BATCH = 500
# The first is what three levels need, the second bounds the time and memory that an image takes.
_SMALLEST_SIDE, _LARGEST_SIDE = 8, 64
# Of images in float32 before they are scaled.
_PIXELS = 2**22


@dataclass(frozen=True)
class FeatureNetworkConfig:
    """The parameters of a feature network.

    Args:
        architecture: ``residual`` (He et al. 2016, the pre-activated kind, with strided
            convolutions) or ``plain`` (Simonyan & Zisserman 2015, with batch norm).
        image_channels: 1 or 3.
        num_classes: number of labels.
        channels: width of each level, which has half the sides of the level before; the last
            one is D, the dimension of the features.

    Raises:
        ValueError: if a field is out of range.
    """

    architecture: Literal["residual", "plain"]
    image_channels: int
    num_classes: int
    channels: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.architecture not in ("residual", "plain"):
            raise ValueError(f"unknown architecture {self.architecture!r}")
        if self.image_channels not in (1, 3):
            raise ValueError(f"image_channels must be 1 or 3, not {self.image_channels}")
        if not 1 <= self.num_classes <= 100_000:
            raise ValueError(f"num_classes must be in 1 .. 100000, not {self.num_classes}")
        if not 1 <= len(self.channels) <= 8 or not all(1 <= c <= 2048 for c in self.channels):
            raise ValueError(f"channels must be 1 to 8 widths up to 2048, not {self.channels}")


class FeatureNetwork(nn.Module):
    """A convolutional classifier; its features are the input of the linear head.

    Args:
        config: the parameters.
    """

    def __init__(self, config: FeatureNetworkConfig) -> None:
        super().__init__()
        self.config = config
        level = {"residual": _residual_level, "plain": _plain_level}[config.architecture]
        widths = (config.image_channels, *config.channels)
        layers = [layer for before, width in pairwise(widths) for layer in level(before, width)]
        self.layers = nn.Sequential(*layers)
        self.head = nn.Linear(widths[-1], config.num_classes)
        self.to(memory_format=torch.channels_last)

    def features(self, images: Tensor) -> Tensor:
        """Images ``(B, C, H, W)`` in [-1, 1] to features ``(B, D)``."""
        return self.layers(images.contiguous(memory_format=torch.channels_last)).mean(dim=(2, 3))

    def forward(self, images: Tensor) -> Tensor:
        """Images ``(B, C, H, W)`` in [-1, 1] to logits ``(B, num_classes)``."""
        return self.head(self.features(images))


def _plain_level(before: int, width: int) -> list[nn.Module]:
    layers: list[nn.Module] = [nn.MaxPool2d(2)] if before > 3 else []
    for channels in (before, width):
        convolution = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        layers += [convolution, nn.BatchNorm2d(width), nn.ReLU()]
    return layers


def _residual_level(before: int, width: int) -> list[nn.Module]:
    return [
        nn.Conv2d(before, width, 4, stride=2, padding=1, bias=False),
        _ResidualBlock(width),
        nn.BatchNorm2d(width),
        nn.SiLU(),
    ]


class _ResidualBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.change = nn.Sequential(
            nn.BatchNorm2d(width),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.change(x)


def check_count(count: int, dimension: int, what: str, remedy: str = "") -> None:
    """Check that there are enough images for a covariance of their features.

    Args:
        count: how many there are.
        dimension: the number of features.
        what: the images' name in the error.
        remedy: where to get them from, for the end of the error.

    Raises:
        DiffcliError: if there are not more than there are features.
    """
    if count <= dimension:
        raise DiffcliError(
            f"{count:,} {what} are too few for {dimension:,} features; {dimension + 1:,} are "
            f"needed{remedy}"
        )


def check_held_out(count: int, dimension: int, what: str) -> None:
    """The same of held-out images; the error says how many pictures would do.

    Args:
        count: how many there are.
        dimension: the number of features.
        what: the images' name in the error.

    Raises:
        DiffcliError: if there are not more than there are features.
    """
    remedy = f", as are held out of about {pictures_to_hold_out(dimension + 1):,} pictures"
    check_count(count, dimension, what, remedy)


def bounded(images: Tensor) -> Tensor:
    """Images as a feature network sees them, with both sides in 8 .. 64 pixels.

    Others are scaled, with a filter against aliasing; the aspect ratio stays, as far as the
    bounds allow.

    Args:
        images: uint8 ``(N, C, H, W)``.

    Returns:
        uint8 ``(N, C, H', W')``; ``images`` themselves if they are within the bounds.
    """
    height, width = images.shape[2:]
    shorter, longer = min(height, width), max(height, width)
    scale = min(max(1, _SMALLEST_SIDE / shorter), _LARGEST_SIDE / longer)
    size = [max(_SMALLEST_SIDE, round(side * scale)) for side in (height, width)]
    if size == [height, width]:
        return images
    parts = [
        F.interpolate(part.float(), size, mode="bilinear", antialias=True).round_().to(torch.uint8)
        for part in images.split(max(1, _PIXELS // (height * width)))
    ]
    return torch.cat(parts)


class Reading(NamedTuple):
    """The output of a feature network."""

    features: Tensor
    """float32 ``(N, D)``."""
    logits: Tensor
    """float32 ``(N, num_classes)``."""


@torch.inference_mode()
def read_images(
    network: FeatureNetwork, images: Tensor, on_progress: OnProgress | None = None
) -> Reading:
    """Features and logits of images, a batch at a time on the network's device.

    Args:
        network: a trained one.
        images: uint8 ``(N, C, H, W)``, of any size, see ``bounded``.
        on_progress: called after every batch.
    """
    device = network.head.weight.device
    features = torch.empty(len(images), network.head.in_features)
    logits = torch.empty(len(images), network.head.out_features)
    for start in range(0, len(images), _BATCH):
        batch = slice(start, start + _BATCH)
        found = network.features(to_model_range(bounded(images[batch]).to(device)))
        features[batch] = found
        logits[batch] = network.head(found)
        if on_progress:
            on_progress(min(start + _BATCH, len(images)), len(images))
    return Reading(features, logits)
