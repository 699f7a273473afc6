"""Which timesteps a model is trained on, and how often."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class TimestepDensity:
    """How often each timestep is drawn: evenly, and more so around some log-SNR.

    ::

        p(t) ~ 1 + height * exp(-(log_snr_t - centre)^2 / (2 * width^2))

    The loss of a step is not weighted, so that this is also the weight of the timesteps in
    what is minimised (Kingma & Gao 2023, section 3; Karras et al. 2022, section 5).

    Args:
        height: of the bell; 0 draws all timesteps alike.
        centre: log-SNR at the top of the bell.
        width: its standard deviation, in the same unit.
    """

    height: float = 0.0
    centre: float = 0.0
    width: float = 1.0

    def probabilities(self, log_snr: Tensor) -> Tensor:
        """Of every timestep, given their log-SNRs, float64 ``(T,)``; they sum to 1."""
        bell = torch.exp(-(log_snr.double() - self.centre).square() / (2 * self.width**2))
        weights = 1 + self.height * bell
        return weights / weights.sum()
