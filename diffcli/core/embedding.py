"""The sinusoidal embedding of the timestep (Vaswani et al. 2017, section 3.5; Ho et al. 2020)."""

import torch
from torch import Tensor, nn

from diffcli.core.sinusoids import frequencies


class SinusoidalPositionEmbedding(nn.Module):
    """Map timesteps to vectors of sines and cosines at log-spaced frequencies.

    With ``half = dim / 2`` and ``i = 0 .. half - 1``::

        frequency_i = exp(-i * log(max_period) / (half - 1))
        embedding   = [sin(t * frequency_0), ..., cos(t * frequency_0), ...]

    so the period of the first pair is ``2 pi`` timesteps and that of the last one
    ``2 pi * max_period``.  ``dim = 2`` leaves a single pair, at frequency 1.  This is the form in
    the code of Ho et al. 2020; Vaswani et al. 2017 alternate sines and cosines, and divide by
    ``half``.

    Args:
        dim: width of the embedding; even and positive.
        max_period: ratio of the longest wavelength to the shortest; above 1.

    Raises:
        ValueError: if ``dim`` is odd or not positive, or ``max_period`` is not above 1.
    """

    frequencies: Tensor

    def __init__(self, dim: int, max_period: float = 10_000.0) -> None:
        super().__init__()
        self.dim = dim
        self.max_period = max_period
        # On the CPU even if the module is built on the meta device, without memory.
        table = torch.tensor(frequencies(dim, max_period), dtype=torch.float64, device="cpu")
        self.register_buffer("frequencies", table.float(), persistent=False)

    def forward(self, t: Tensor) -> Tensor:
        """Embed timesteps ``(B,)`` of any numeric type as float32 ``(B, dim)``."""
        angles = t.float()[:, None] * self.frequencies
        return torch.cat([angles.sin(), angles.cos()], dim=1)
