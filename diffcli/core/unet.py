"""The network: a U-Net that is told the timestep and the label in every residual block."""

from dataclasses import dataclass, replace
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffcli.core.embedding import SinusoidalPositionEmbedding

CHANNELS_PER_GROUP = 16


@dataclass(frozen=True)
class UNetConfig:
    """The architecture of a ``ConditionalUNet``; everything in it goes into a checkpoint.

    Args:
        image_channels: 1 (grey) or 3 (RGB).
        image_height: pixels; a multiple of ``stride``.
        image_width: pixels; a multiple of ``stride``.
        num_classes: how many labels there are.
        patch_size: side of the square of pixels that the stem folds into channels.
            The early layers' cost falls with its square.
        channels: width of each level, the finest first; each level halves the sides.
            Multiples of 16.
        blocks: residual blocks of each level; all but the deepest have them twice, on the way
            down and on the way up.
        embedding_dim: width of the embedding that the blocks are conditioned on.

    Raises:
        ValueError: if a field is out of range, or the image does not fit the levels.
    """

    image_channels: int = 1
    image_height: int = 28
    image_width: int = 28
    num_classes: int = 10
    patch_size: int = 2
    channels: tuple[int, ...] = (64, 128)
    blocks: tuple[int, ...] = (1, 3)
    embedding_dim: int = 256

    def __post_init__(self) -> None:
        if self.image_channels not in (1, 3):
            raise ValueError(f"images have 1 or 3 channels, not {self.image_channels}")
        ranges = {
            "num_classes": (1, 100_000),
            "patch_size": (1, 16),
            "embedding_dim": (4, 8192),
            "image_height": (1, 4096),
            "image_width": (1, 4096),
        }
        for name, (low, high) in ranges.items():
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name} must be in {low} .. {high}, not {getattr(self, name)}")
        if not 1 <= len(self.channels) <= 8 or any(
            c % CHANNELS_PER_GROUP or not 0 < c <= 4096 for c in self.channels
        ):
            raise ValueError(
                f"channels must be 1 to 8 multiples of {CHANNELS_PER_GROUP}, not {self.channels}"
            )
        if len(self.blocks) != len(self.channels) or not all(0 < n <= 16 for n in self.blocks):
            raise ValueError(f"blocks must be 1 to 16 for each level, not {self.blocks}")
        if self.embedding_dim % 2:
            raise ValueError(f"embedding_dim must be even, not {self.embedding_dim}")
        if self.image_height % self.stride or self.image_width % self.stride:
            raise ValueError(
                f"the image is {self.image_width}x{self.image_height}, but this network needs "
                f"sides that are multiples of {self.stride}"
            )

    @classmethod
    def for_images(cls, channels: int, height: int, width: int, num_classes: int) -> "UNetConfig":
        """The default network, of as many levels as it takes to see images of a size as a whole.

        The deepest level is to have no more than 8 positions a side, which its blocks span.
        """
        config = cls(channels, height, width, num_classes)
        while max(height, width) > 8 * config.stride:
            if height % (2 * config.stride) or width % (2 * config.stride):
                break
            config = replace(
                config, channels=(*config.channels, config.channels[-1]), blocks=(1, *config.blocks)
            )
        return config

    @property
    def stride(self) -> int:
        """Pixels per side that end in one position of the deepest level."""
        return int(self.patch_size * 2 ** (len(self.channels) - 1))


def _zero(layer: nn.Conv2d | nn.Linear) -> None:
    for param in layer.parameters():
        nn.init.zeros_(param)


class ResidualBlock(nn.Module):
    """Two convolutions on a residual branch, the second one modulated by the embedding.

    The embedding scales and shifts the normalised features (Perez et al. 2018; Dhariwal &
    Nichol 2021, section 3).  The last convolution starts at zero, so that the block starts
    as the identity.
    """

    def __init__(self, channels: int, embedding_dim: int) -> None:
        super().__init__()
        groups = channels // CHANNELS_PER_GROUP
        self.norm1 = nn.GroupNorm(groups, channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.modulation = nn.Linear(embedding_dim, 2 * channels)
        self.norm2 = nn.GroupNorm(groups, channels, affine=False)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        _zero(self.conv2)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """``(B, channels, H, W)`` and ``(B, embedding_dim)`` to ``(B, channels, H, W)``."""
        scale, shift = self.modulation(embedding)[:, :, None, None].chunk(2, dim=1)
        h = self.conv1(F.silu(self.norm1(x)))
        h = torch.addcmul(shift, self.norm2(h), 1 + scale)
        return x + self.conv2(F.silu(h))


class Stage(nn.Module):
    """Residual blocks at one resolution."""

    def __init__(self, channels: int, blocks: int, embedding_dim: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(ResidualBlock(channels, embedding_dim) for _ in range(blocks))

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """``(B, channels, H, W)`` and ``(B, embedding_dim)`` to ``(B, channels, H, W)``."""
        for block in self.blocks:
            x = block(x, embedding)
        return x


class ConditionalUNet(nn.Module):
    """A U-Net (Ronneberger et al. 2015) conditioned on the timestep and the label.

    A space-to-depth stem folds patches of pixels into channels.  Each level but the deepest
    keeps its features for the way back, where they are added to what comes up: that costs a
    seventh less than concatenating them, and learns no slower.  There is no attention: one more
    block at the deepest level, whose reach is then the whole image, costs the time that
    attention would, and learns no slower.  The sinusoidal embedding of the timestep, after two
    layers, plus a learned embedding of the label goes into every residual block.
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        folded = config.image_channels * config.patch_size**2
        dim = config.embedding_dim
        self.time_embedding = nn.Sequential(
            SinusoidalPositionEmbedding(dim), nn.Linear(dim, dim), nn.SiLU(), nn.Linear(dim, dim)
        )
        # The last entry stands for "no label".
        self.label_embedding = nn.Embedding(config.num_classes + 1, dim)

        widths, blocks = config.channels, config.blocks
        levels = list(zip(widths[:-1], blocks[:-1], strict=True))
        steps = list(pairwise(widths))
        self.stem = nn.Conv2d(folded, widths[0], 3, padding=1)
        self.down_stages = nn.ModuleList(Stage(c, n, dim) for c, n in levels)
        self.downs = nn.ModuleList(
            nn.Conv2d(fine, coarse, 3, stride=2, padding=1) for fine, coarse in steps
        )
        self.middle = Stage(widths[-1], blocks[-1], dim)
        self.ups = nn.ModuleList(nn.Conv2d(coarse, 4 * fine, 1) for fine, coarse in steps)
        self.up_stages = nn.ModuleList(Stage(c, n, dim) for c, n in levels)
        self.norm = nn.GroupNorm(config.channels[0] // CHANNELS_PER_GROUP, config.channels[0])
        self.head = nn.Conv2d(config.channels[0], folded, 3, padding=1)
        _zero(self.head)
        self.to(memory_format=torch.channels_last)

    @property
    def no_label(self) -> int:
        """The label that stands for "none"."""
        return self.config.num_classes

    def forward(self, x_t: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        """Predict epsilon, v or x_0, whichever the network is trained for.

        Args:
            x_t: noisy images ``(B, C, H, W)``, of the size in the config.
            t: timesteps ``(B,)``, or ``(1,)`` for all images the same.
            labels: ``(B,)`` in ``0 .. num_classes``, the last one meaning "none".

        Returns:
            ``(B, C, H, W)``.
        """
        embedding = F.silu(self.time_embedding(t) + self.label_embedding(labels))
        x = F.pixel_unshuffle(x_t, self.config.patch_size)
        x = self.stem(x.contiguous(memory_format=torch.channels_last))
        kept = []
        for stage, down in zip(self.down_stages, self.downs, strict=True):
            x = stage(x, embedding)
            kept.append(x)
            x = down(x)
        x = self.middle(x, embedding)
        for stage, up in zip(reversed(self.up_stages), reversed(self.ups), strict=True):
            x = stage(F.pixel_shuffle(up(x), 2) + kept.pop(), embedding)
        return F.pixel_shuffle(self.head(F.silu(self.norm(x))), self.config.patch_size)
