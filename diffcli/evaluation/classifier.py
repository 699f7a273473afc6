"""Training a feature network on labelled images."""

import torch
import torch.nn.functional as F
from torch import Tensor

from diffcli.data.images import LabelledImages
from diffcli.evaluation.network import FeatureNetwork, FeatureNetworkConfig, OnProgress
from diffcli.training.trainer import has_native_bfloat16

_MIN_EPOCHS = 6
_MIN_IMAGES_SEEN = 250_000
_BATCH = 128
_RATE = 4e-3


def jitter(images: Tensor, generator: torch.Generator) -> Tensor:
    """Rotate, scale, shear and shift images ``(B, C, H, W)`` a little, each on its own."""
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
    """Times that each of ``count`` images should be seen: 6, or more if they are few."""
    return max(_MIN_EPOCHS, -(-_MIN_IMAGES_SEEN // count))


def train_classifier(
    config: FeatureNetworkConfig,
    data: LabelledImages,
    seed: int,
    epochs: int,
    on_progress: OnProgress | None = None,
) -> FeatureNetwork:
    """Train a feature network from nothing, on the device where the data is.

    AdamW on one cycle of the learning rate (Smith & Topin 2018), cross-entropy with smoothed
    labels, every image jittered anew each time that it is seen.

    Args:
        config: what to build.
        data: what to learn.
        seed: of the weights, the order and the jitter.
        epochs: times that every image is seen.
        on_progress: told after every step how many images were seen, of how many.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = FeatureNetwork(config).to(data.images.device).train()
    generator = torch.Generator().manual_seed(seed)
    batch_size = min(_BATCH, len(data))
    steps = epochs * (len(data) // batch_size)
    half_precision = has_native_bfloat16(data.images.device)
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.02, fused=True)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, total_steps=steps)
    for step in range(steps):
        place = step % (len(data) // batch_size)
        if place == 0:
            order = torch.randperm(len(data), generator=generator)
        images, labels = data.batch(order[place * batch_size :][:batch_size])
        images = jitter(images, generator)
        with torch.autocast(images.device.type, torch.bfloat16, enabled=half_precision):
            loss = F.cross_entropy(network(images), labels, label_smoothing=0.05)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rate.step()
        if on_progress:
            on_progress((step + 1) * batch_size, steps * batch_size)
    return network.eval().requires_grad_(False)
