"""The noise of images: from a seed each, or on the way between two."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from diffcli.core.parameters import SeedsBetween

_SAME = 1e-3
"""Radians between two noises that are taken for one."""


class ImageNoise:
    """Standard normal noise of which image ``i`` depends on ``seeds[i]`` alone.

    Every image has its own generator, on the CPU, so that neither the size of the batch nor
    the device changes its noise.

    Args:
        seeds: one per image, or two seeds and a place between their noises.
        shape: ``(C, H, W)`` of an image.
        device: where the noise is needed.
    """

    def __init__(
        self, seeds: Sequence[int | SeedsBetween], shape: Sequence[int], device: torch.device
    ) -> None:
        self._sources = [_source(seed, tuple(shape)) for seed in seeds]
        self._device = device

    def __call__(self) -> Tensor:
        """The next noise of every image, float32 ``(B, C, H, W)``."""
        return torch.stack([draw() for draw in self._sources]).to(self._device)


def _source(seed: int | SeedsBetween, shape: tuple[int, ...]) -> Callable[[], Tensor]:
    if isinstance(seed, SeedsBetween):
        first, last = _source(seed.first, shape), _source(seed.last, shape)
        return lambda: interpolate_noise(first(), last(), seed.share)
    generator = torch.Generator().manual_seed(seed)
    return lambda: torch.randn(shape, generator=generator)


def interpolate_noise(first: Tensor, last: Tensor, share: float) -> Tensor:
    """Noise between two, by spherical linear interpolation (slerp, Shoemake 1985).

    A straight line would pass through noise of less power, which no image is drawn from; this is
    the interpolation of Song et al. 2021 (DDIM).

    Args:
        first: noise of one image, of any shape.
        last: of the same shape.
        share: 0 gives the first, 1 the last.
    """
    cosine = torch.dot(first.flatten(), last.flatten()) / (first.norm() * last.norm())
    angle = cosine.clamp(-1, 1).arccos()
    of_first, of_last = ((part * angle).sin() / angle.sin() for part in (1 - share, share))
    return first.where(angle < _SAME, of_first * first + of_last * last)
