"""Augmentation that does not leak into what is drawn (Karras et al. 2022, appendix F.2).

Training images are mirrored, scaled, stretched and shifted at random, and the network is told
how.  What is drawn is told that nothing was done to it.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

# The standard deviation of each: of the binary logarithm of a scale, and of a shift as a share
# of the side.
_SCALE, _STRETCH, _SHIFT = 0.2, 0.2, 0.125


def augment(
    images: Tensor, probability: float, chance: Tensor, normal: Tensor
) -> tuple[Tensor, Tensor]:
    """Change images in each of five ways with a probability.

    Args:
        images: ``(B, C, H, W)``.
        probability: of each change; images are mirrored half as often.
        chance: uniform in [0, 1), ``(B, AUGMENTATIONS)``: which changes to make.
        normal: standard normal, of the same shape: how large they are.

    Returns:
        The images, and what was done to each: whether it was mirrored, which is done last, and
        its scale, stretch and shifts, in standard deviations, ``(B, AUGMENTATIONS)``.  Of an
        image that is not changed, all are 0.
    """
    mirrored = (chance[:, 0] < probability / 2).to(normal.dtype)
    scale, stretch, right, down = (normal * (chance < probability))[:, 1:].T
    code = torch.stack([mirrored, scale, stretch, right, down], dim=1)
    # From places in the result to places in the image.
    across = torch.exp2(-(_SCALE * scale + _STRETCH * stretch))
    along = torch.exp2(-(_SCALE * scale - _STRETCH * stretch))
    zero = torch.zeros_like(scale)
    rows = [
        torch.stack([across * (1 - 2 * mirrored), zero, -2 * _SHIFT * right * across], dim=1),
        torch.stack([zero, along, -2 * _SHIFT * down * along], dim=1),
    ]
    grid = F.affine_grid(torch.stack(rows, dim=1), list(images.shape), align_corners=False)
    changed = F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
    untouched = (code == 0).all(dim=1)
    return images.where(untouched[:, None, None, None], changed), code
