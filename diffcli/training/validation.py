"""The loss on held-out images."""

import torch
from torch import Tensor

from diffcli.core.denoiser import Denoiser
from diffcli.data.images import LabelledImages
from diffcli.device import has_native_bfloat16
from diffcli.training.order import derived_seed

QUARTERS = 4
_MIN_IMAGES, _MAX_IMAGES = 128, 1024
_BATCH = 128


class Validation:
    """The loss on held-out images, always with the same noise at the same timesteps.

    It has no noise of its own, which in the training loss hides the progress.

    Args:
        held_out: images that are not trained on.
        num_timesteps: T.
        device: where the model is.

    Attributes:
        count: how many evaluations of the network it takes.
    """

    def __init__(
        self,
        held_out: LabelledImages,
        num_timesteps: int,
        device: torch.device,
    ) -> None:
        # If there are few images, each is used several times, with different noise.
        self.count = count = min(max(len(held_out), _MIN_IMAGES), _MAX_IMAGES)
        generator = torch.Generator().manual_seed(derived_seed("validation"))
        order = torch.randperm(len(held_out), generator=generator)
        x0, labels = held_out.batch(order[torch.arange(count) % len(order)])
        t = torch.arange(count) * num_timesteps // count
        epsilon = torch.randn(x0.shape, generator=generator)
        batch = (x0, t, labels, epsilon)
        self._parts = [[piece.to(device) for piece in part.split(_BATCH)] for part in batch]
        self._device_type = device.type
        self._bfloat16 = has_native_bfloat16(device)

    def quarters(self, denoiser: Denoiser) -> tuple[float, ...]:
        """The mean loss in each quarter of the timesteps, the least noisy first."""
        return tuple(self.losses(denoiser).tolist())

    @torch.inference_mode()
    def losses(self, denoiser: Denoiser) -> Tensor:
        """The same as a tensor ``(4,)`` on the device."""
        with torch.autocast(self._device_type, torch.bfloat16, enabled=self._bfloat16):
            losses = [denoiser.loss(*part) for part in zip(*self._parts, strict=True)]
        return torch.stack([part.mean() for part in torch.cat(losses).tensor_split(QUARTERS)])
