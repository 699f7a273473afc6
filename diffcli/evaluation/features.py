"""The feature network: a small classifier whose last hidden layer is the space to judge in."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffcli.data.images import LabelledImages, to_model_range


class FeatureNetwork(nn.Module):
    """A plain convolutional classifier (in the style of Simonyan & Zisserman 2015).

    Args:
        image_channels: 1 or 3.
        num_classes: how many labels there are.
        channels: width of each of the levels; two 3x3 convolutions each, halving the sides
            in between.
    """

    def __init__(
        self, image_channels: int, num_classes: int, channels: tuple[int, ...] = (32, 64, 128)
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = image_channels
        for level, width in enumerate(channels):
            if level:
                layers.append(nn.MaxPool2d(2))
            for _ in range(2):
                layers += [
                    nn.Conv2d(before, width, 3, padding=1, bias=False),
                    nn.BatchNorm2d(width),
                    nn.ReLU(),
                ]
                before = width
        self.layers = nn.Sequential(*layers)
        self.head = nn.Linear(before, num_classes)
        self.to(memory_format=torch.channels_last)

    def features(self, images: Tensor) -> Tensor:
        """Images ``(B, C, H, W)`` in [-1, 1] to features ``(B, D)``."""
        images = images.contiguous(memory_format=torch.channels_last)
        return self.layers(images).mean(dim=(2, 3))

    def forward(self, images: Tensor) -> Tensor:
        """Images ``(B, C, H, W)`` in [-1, 1] to logits ``(B, num_classes)``."""
        return self.head(self.features(images))


def jitter(images: Tensor, generator: torch.Generator) -> Tensor:
    """Rotate, scale, shear and shift images a little, each on its own."""
    count = len(images)
    angle, scale_x, scale_y, shear, shift_x, shift_y = (
        torch.rand(6, count, generator=generator) * 2 - 1
    )
    cos, sin = (angle * 0.2).cos(), (angle * 0.2).sin()
    scale_x, scale_y = 1 + 0.12 * scale_x, 1 + 0.12 * scale_y
    affine = torch.stack(
        [
            torch.stack([cos * scale_x, -sin + 0.15 * shear, 0.15 * shift_x], dim=1),
            torch.stack([sin, cos * scale_y, 0.15 * shift_y], dim=1),
        ],
        dim=1,
    )
    grid = F.affine_grid(affine, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def train_classifier(
    data: LabelledImages, epochs: int, seed: int = 0, batch_size: int = 128
) -> Iterator[tuple[FeatureNetwork, float]]:
    """Train a feature network from nothing; yields it with the loss after every epoch."""
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    network = FeatureNetwork(data.images.shape[1], len(data.class_names))
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.02, fused=True)
    steps_per_epoch = len(data) // batch_size
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, epochs * steps_per_epoch)
    for _ in range(epochs):
        network.train()
        total = 0.0
        order = torch.randperm(len(data), generator=generator)
        for index in order[: steps_per_epoch * batch_size].split(batch_size):
            images, labels = data.batch(index)
            logits = network(jitter(images, generator))
            loss = F.cross_entropy(logits, labels, label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            rate.step()
            total += loss.item()
        yield network.eval(), total / steps_per_epoch
