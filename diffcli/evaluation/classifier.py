"""Training a feature network on labelled images."""

import torch
import torch.nn.functional as F
from torch import Tensor

from diffcli.data.images import LabelledImages
from diffcli.device import has_native_bfloat16
from diffcli.evaluation.network import FeatureNetwork, FeatureNetworkConfig, OnProgress

_MIN_EPOCHS = 6
_MIN_IMAGES_SEEN = 250_000
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
    """The number of epochs for ``count`` images: 6, or more if they are few."""
    return max(_MIN_EPOCHS, -(-_MIN_IMAGES_SEEN // count))


def train_classifier(
    config: FeatureNetworkConfig,
    data: LabelledImages,
    seed: int,
    epochs: int,
    on_progress: OnProgress | None = None,
) -> FeatureNetwork:
    """Train a feature network on the device where the data is.

    AdamW on one cycle of the learning rate (Smith & Topin 2018), cross-entropy with smoothed
    labels, and ``jitter`` drawn anew for every image of every epoch.

    Args:
        config: the network's parameters.
        data: the training images.
        seed: of weights, order and augmentation.
        epochs: passes over the images.
        on_progress: called after every step with the number of images seen and of all.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = FeatureNetwork(config).to(data.images.device).train()
    generator = torch.Generator().manual_seed(seed)
    batch_size = min(_BATCH, len(data))
    steps = epochs * (len(data) // batch_size)
    bfloat16 = has_native_bfloat16(data.images.device)
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.02, fused=True)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, total_steps=steps)
    for step in range(steps):
        place = step % (len(data) // batch_size)
        if place == 0:
            order = torch.randperm(len(data), generator=generator)
        images, labels = data.batch(order[place * batch_size :][:batch_size])
        images = jitter(images, generator)
        with torch.autocast(images.device.type, torch.bfloat16, enabled=bfloat16):
            loss = F.cross_entropy(network(images), labels, label_smoothing=0.05)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rate.step()
        if on_progress:
            on_progress((step + 1) * batch_size, steps * batch_size)
    return network.eval().requires_grad_(False)
