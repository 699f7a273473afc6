"""What drawing starts from instead of noise of its own: pictures, and the noise of pictures."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from diffcli.core.denoiser import Denoiser
from diffcli.core.generate import Init
from diffcli.core.inversion import invert
from diffcli.core.noise import interpolate_noise
from diffcli.data.images import to_model_range
from diffcli.errors import UsageError
from diffcli.files.pictures import fitted, from_pillow
from diffcli.files.reading import open_picture
from diffcli.sampling.request import SampleRequest

_WHITE = 128


class Inversion(NamedTuple):
    """Pictures whose noise drawing starts from."""

    images: Tensor
    """``(1, C, H, W)`` in [-1, 1], or of an interpolation ``(2, C, H, W)``."""
    labels: tuple[int, ...]
    """Under which the noise of each gives it."""

    def noise(self, denoiser: Denoiser, request: SampleRequest) -> Callable[[range], Tensor]:
        """What pictures of a request start from.

        Args:
            denoiser: that draws them.
            request: of pictures that start from these.

        Returns:
            A function from the numbers of some of them to their noise, ``(B, C, H, W)``.
        """
        labels = torch.tensor(self.labels)
        if request.interpolation is None:

            def found(indices: range) -> Tensor:
                count = len(indices)
                seeds = [request.seed + index for index in indices]
                images = self.images.expand(count, -1, -1, -1)
                return invert(denoiser, images, labels.expand(count), seeds, request.settings)

            return found
        seeds = [request.seed, request.interpolation.last_seed]
        first, last = invert(denoiser, self.images, labels, seeds, request.settings)

        def between(indices: range) -> Tensor:
            shares = map(request.share, indices)
            return torch.stack([interpolate_noise(first, last, share) for share in shares])

        return between


def read_init(picture: Path, mask: Path | None, shape: tuple[int, int, int]) -> Init:
    """A picture to start from.

    Args:
        picture: a file, which is fitted to the shape.
        mask: a file of the same size, white where the picture is drawn anew and black where it
            stays as it is; None draws all of it anew.
        shape: ``(C, H, W)`` of a model's images.

    Raises:
        DiffcliError: if a file cannot be read.
        UsageError: if the mask has another size, or no white.
    """
    channels, height, width = shape
    original = open_picture(picture)
    images = to_model_range(from_pillow(fitted(original, channels, height, width))[None])
    if mask is None:
        return Init(images)
    drawn = open_picture(mask)
    if drawn.size != original.size:
        raise UsageError(
            f"the mask {mask} has {drawn.width}x{drawn.height} pixels and {picture} has "
            f"{original.width}x{original.height}; a mask has the size of its picture"
        )
    redrawn = from_pillow(fitted(drawn, 1, height, width))[None] >= _WHITE
    if not redrawn.any():
        raise UsageError(
            f"the mask {mask} has no white, so nothing would be drawn; paint white what is "
            "to be drawn anew"
        )
    return Init(images, redrawn)
