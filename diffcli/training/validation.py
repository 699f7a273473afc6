"""The loss on held-out images, which tells whether training still gets anywhere."""

import torch

from diffcli.core.denoiser import Denoiser
from diffcli.data.images import LabelledImages
from diffcli.training.trainer import derived_seed, diffusion_loss

QUARTERS = 4
_LEAST_IMAGES, _MOST_IMAGES = 128, 1024
_BATCH = 128


class Validation:
    """The loss on held-out images, always with the same noise at the same timesteps.

    The training loss hardly moves once the shapes are learned, and its noise hides what it
    does; this one has no noise of its own.

    Args:
        held_out: images that are not trained on.
        num_timesteps: T.
        half_precision: whether to compute in bfloat16, as training does.
        device: where the model is.
    """

    def __init__(
        self,
        held_out: LabelledImages,
        num_timesteps: int,
        half_precision: bool,
        device: torch.device,
    ) -> None:
        # Few images are taken several times, each with other noise.
        count = min(max(len(held_out), _LEAST_IMAGES), _MOST_IMAGES)
        generator = torch.Generator().manual_seed(derived_seed("validation"))
        order = torch.randperm(len(held_out), generator=generator)
        x0, labels = held_out.batch(order[torch.arange(count) % len(order)])
        t = torch.arange(count) * num_timesteps // count
        epsilon = torch.randn(x0.shape, generator=generator)
        batch = (x0, labels, t, epsilon)
        self._parts = [[piece.to(device) for piece in part.split(_BATCH)] for part in batch]
        self._half_precision = half_precision

    @torch.inference_mode()
    def loss(self, denoiser: Denoiser) -> tuple[float, ...]:
        """The mean loss in each quarter of the timesteps, from the least noisy."""
        losses = [
            diffusion_loss(denoiser, x0, labels, t, epsilon, self._half_precision)
            for x0, labels, t, epsilon in zip(*self._parts, strict=True)
        ]
        return tuple(float(part.mean()) for part in torch.cat(losses).tensor_split(QUARTERS))
