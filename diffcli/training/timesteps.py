"""How often each timestep is trained on."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class TimestepDensity:
    """A density of timesteps: uniform, plus a bell curve around a log-SNR.

    ::

        p(t) is proportional to 1 + height * exp(-(log_snr_t - centre)^2 / (2 * width^2))

    As the loss of a step is not weighted, this is also the weight of the timesteps in the
    objective (Kingma & Gao 2023, section 3; Karras et al. 2022, section 5).

    Args:
        height: of the bell curve; 0 is uniform.
        centre: log-SNR at its maximum.
        width: its standard deviation, in the same unit.

    Raises:
        ValueError: if the height is negative, or the width not positive.
    """

    height: float = 0.0
    centre: float = 0.0
    width: float = 1.0

    def __post_init__(self) -> None:
        finite = all(map(math.isfinite, (self.height, self.centre, self.width)))
        if not finite or not self.height >= 0 or not self.width > 0:
            raise ValueError(
                "a density of timesteps has a height of at least 0 and a width above 0, not "
                f"{self.height:g} and {self.width:g}, and finite numbers"
            )

    def probabilities(self, log_snr: "Tensor") -> "Tensor":
        """The probability of every timestep, given their log-SNRs; float64 ``(T,)``, sum 1."""
        exponent = -(log_snr.double() - self.centre).square() / (2 * self.width**2)
        weights = 1 + self.height * exponent.exp()
        return weights / weights.sum()
