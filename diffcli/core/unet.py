"""The network: a U-Net whose residual blocks are conditioned on the timestep and the label."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffcli.core.embedding import SinusoidalPositionEmbedding
from diffcli.core.parameters import AUGMENTATIONS, CHANNELS_PER_GROUP, UNetConfig


def _zero(layer: nn.Conv2d | nn.Linear) -> None:
    for param in layer.parameters():
        nn.init.zeros_(param)


class ResidualBlock(nn.Module):
    """Two convolutions on a residual branch, the second one modulated by the embedding.

    The embedding scales and shifts the normalised features (Perez et al. 2018; Dhariwal &
    Nichol 2021, section 3).  The last convolution is initialised to zero, so that the block
    is the identity at first.

    Args:
        channels: of its input and output; a multiple of 16.
        embedding_dim: width of the embedding.
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
    """Residual blocks at one resolution.

    Args:
        channels: see ``ResidualBlock``.
        blocks: how many there are.
        embedding_dim: see ``ResidualBlock``.
    """

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

    A space-to-depth stem folds patches of pixels into channels.  The features of each level but
    the deepest are added to those that come up from below; adding costs a seventh less than
    concatenating and learns no slower.  There is no attention: one more block at the deepest
    level, which spans the whole image, costs as much time and learns no slower.  The sum of the
    sinusoidal embedding of the timestep, after two layers, and of a learned embedding of the
    label conditions every residual block; one of the augmentation is added in training.

    Args:
        config: the parameters.
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        folded = config.image_channels * config.patch_size**2
        dim = config.embedding_dim
        self.time_embedding = nn.Sequential(
            SinusoidalPositionEmbedding(dim), nn.Linear(dim, dim), nn.SiLU(), nn.Linear(dim, dim)
        )
        # The last row stands for "no label".
        self.label_embedding = nn.Embedding(config.num_classes + 1, dim)
        if config.augmented:
            self.augmentation_embedding = nn.Linear(AUGMENTATIONS, dim, bias=False)
            _zero(self.augmentation_embedding)

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
        """The label that means "no label"."""
        return self.config.num_classes

    def hidden_matrices(self) -> list[nn.Parameter]:
        """The weights of all convolutions from features to features.

        Optimizers of matrices are meant for these, and not for the first and the last layer or
        the embeddings (Jordan 2024).
        """
        inner = (self.down_stages, self.downs, self.middle, self.ups, self.up_stages)
        layers = [layer for part in inner for layer in part.modules()]
        return [layer.get_parameter("weight") for layer in layers if isinstance(layer, nn.Conv2d)]

    def forward(
        self, x_t: Tensor, t: Tensor, labels: Tensor, augmentation: Tensor | None = None
    ) -> Tensor:
        """Predict what the network is trained for, see ``denoiser.PREDICTION_TYPES``.

        Args:
            x_t: noisy images ``(B, C, H, W)``, of the config's size.
            t: timesteps ``(B,)``, or ``(1,)`` if all images have the same one.
            labels: ``(B,)`` in ``0 .. num_classes``, the last one meaning "no label".
            augmentation: how the images were augmented, ``(B, AUGMENTATIONS)``, if the config has
                it; None is not at all, as if all were 0.

        Returns:
            ``(B, C, H, W)``.
        """
        embedding = self.time_embedding(t) + self.label_embedding(labels)
        if augmentation is not None:
            embedding = embedding + self.augmentation_embedding(augmentation)
        embedding = F.silu(embedding)
        x = F.pixel_unshuffle(x_t, self.config.patch_size)
        x = self.stem(x.contiguous(memory_format=torch.channels_last))
        skips = []
        for stage, down in zip(self.down_stages, self.downs, strict=True):
            x = stage(x, embedding)
            skips.append(x)
            x = down(x)
        x = self.middle(x, embedding)
        for stage, up in zip(reversed(self.up_stages), reversed(self.ups), strict=True):
            x = stage(F.pixel_shuffle(up(x), 2) + skips.pop(), embedding)
        return F.pixel_shuffle(self.head(F.silu(self.norm(x))), self.config.patch_size)
