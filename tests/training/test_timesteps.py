import math

import pytest
import torch

from diffcli.training.timesteps import TimestepDensity

LOG_SNR = torch.linspace(10, -10, 201, dtype=torch.float64)


def test_without_a_bell_all_timesteps_are_alike() -> None:
    probabilities = TimestepDensity().probabilities(LOG_SNR)
    assert torch.allclose(probabilities, torch.full((201,), 1 / 201, dtype=torch.float64))


@pytest.mark.parametrize(
    ("height", "width"), [(-0.1, 1.0), (1.0, 0.0), (1.0, math.nan), (math.inf, 1.0)]
)
def test_what_is_no_density_is_refused(height: float, width: float) -> None:
    with pytest.raises(ValueError, match="height of at least 0 and a width above 0"):
        TimestepDensity(height, 0.0, width)


def test_the_bell_curve_has_its_height_centre_and_width() -> None:
    probabilities = TimestepDensity(height=3, centre=-2, width=1.5).probabilities(LOG_SNR)
    assert probabilities.sum().item() == pytest.approx(1)
    top = int(probabilities.argmax())
    assert LOG_SNR[top].item() == pytest.approx(-2)
    far = probabilities[0]
    assert (probabilities[top] / far).item() == pytest.approx(4)
    beside = int((LOG_SNR - (-2 + 1.5)).abs().argmin())
    assert (probabilities[beside] / far).item() == pytest.approx(1 + 3 * math.exp(-0.5))
