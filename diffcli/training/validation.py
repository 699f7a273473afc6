"""The loss on held-out images."""

import torch
from torch import Tensor

from diffcli.core.denoiser import Denoiser
from diffcli.data.images import LabelledImages, to_model_range
from diffcli.device import mixed_precision
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
        cost: how many evaluations of the network, of one image each, it takes.
    """

    def __init__(
        self,
        held_out: LabelledImages,
        num_timesteps: int,
        device: torch.device,
    ) -> None:
        # If there are few images, each is used several times, with different noise.
        self.cost = count = min(max(len(held_out), _MIN_IMAGES), _MAX_IMAGES)
        self._generator = torch.Generator().manual_seed(derived_seed("validation"))
        order = torch.randperm(len(held_out), generator=self._generator)
        # Noise is drawn anew for each loss: of large images, it is more than memory holds.
        self._noise_state = self._generator.get_state()
        some = held_out.subset(order[torch.arange(count) % len(order)])
        t = torch.arange(count) * num_timesteps // count
        batch = (some.images, t, some.labels)
        self._parts = [[piece.to(device) for piece in part.split(_BATCH)] for part in batch]
        self._device = device

    def quarters(self, denoiser: Denoiser) -> tuple[float, ...]:
        """The mean loss in each quarter of the timesteps, the least noisy first."""
        return tuple(self.losses(denoiser).tolist())

    @torch.inference_mode()
    def losses(self, denoiser: Denoiser) -> Tensor:
        """The same as a tensor ``(4,)`` on the device."""
        self._generator.set_state(self._noise_state)
        losses = []
        for pixels, t, labels in zip(*self._parts, strict=True):
            epsilon = torch.randn(pixels.shape, generator=self._generator).to(self._device)
            with mixed_precision(self._device):
                losses.append(denoiser.loss(to_model_range(pixels), t, labels, epsilon))
        return torch.stack([part.mean() for part in torch.cat(losses).tensor_split(QUARTERS)])
