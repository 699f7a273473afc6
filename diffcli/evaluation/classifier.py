"""Training a feature network on labelled images."""

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from diffcli.data.images import LabelledImages
from diffcli.device import mixed_precision
from diffcli.evaluation.network import (
    FeatureNetwork,
    FeatureNetworkConfig,
    OnProgress,
    bounded,
)

_FEWEST_EPOCHS, _MOST_EPOCHS = 6, 300
_IMAGES_SEEN = 250_000
_BATCH = 128
_RATE = 4e-3


def jitter(images: Tensor, generator: torch.Generator) -> Tensor:
    """Rotate, scale, shear and shift images ``(B, C, H, W)`` slightly, each differently."""
    turn, scale_x, scale_y, shear, shift_x, shift_y = (
        torch.rand(6, len(images), generator=generator) * 2 - 1
    )
    cos, sin = (0.2 * turn).cos(), (0.2 * turn).sin()
    scale_x, scale_y = 1 + 0.12 * scale_x, 1 + 0.12 * scale_y
    affine = torch.stack(
        [
            torch.stack([cos * scale_x, 0.15 * shear - sin, 0.15 * shift_x], dim=1),
            torch.stack([sin, cos * scale_y, 0.15 * shift_y], dim=1),
        ],
        dim=1,
    ).to(images.device)
    grid = F.affine_grid(affine, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def default_epochs(count: int) -> int:
    """The number of epochs for ``count`` images: 6, and of few as many as see 250,000 images.

    There are at most 300: after 75 passes over 144 icons of ten classes, as many held-out ones are
    recognised as after 1,737.
    """
    return max(_FEWEST_EPOCHS, min(_MOST_EPOCHS, -(-_IMAGES_SEEN // count)))


def train_classifier(
    config: FeatureNetworkConfig,
    data: LabelledImages,
    seed: int,
    epochs: int,
    on_progress: OnProgress | None = None,
) -> FeatureNetwork:
    """Train a feature network on the device where the data is.

    AdamW on one cycle of the learning rate (Smith & Topin 2018), cross-entropy with smoothed
    labels, and ``jitter`` drawn anew for every image of every epoch.  Batches go on across the
    ends of epochs: each image is seen once in every epoch.

    Args:
        config: the network's parameters.
        data: the training images, of any size, see ``bounded``.
        seed: of weights, order and augmentation.
        epochs: passes over the images.
        on_progress: called after every step with the number of images seen and of all.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = FeatureNetwork(config).to(data.images.device).train()
    generator = torch.Generator().manual_seed(seed)
    data = replace(data, images=bounded(data.images))
    order = torch.cat([torch.randperm(len(data), generator=generator) for _ in range(epochs)])
    # Of equal sizes, up to one image: batch normalisation learns nothing from a single one.
    batches = order.tensor_split(-(-len(order) // min(_BATCH, len(data))))
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.02, fused=True)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, total_steps=len(batches))
    seen = 0
    for batch in batches:
        images, labels = data.batch(batch)
        images = jitter(images, generator)
        with mixed_precision(images.device):
            loss = F.cross_entropy(network(images), labels, label_smoothing=0.05)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rate.step()
        seen += len(batch)
        if on_progress:
            on_progress(seen, len(order))
    return network.eval().requires_grad_(False)
