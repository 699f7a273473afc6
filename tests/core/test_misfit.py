"""How little images look like those of a model, on data whose densities are known."""

import pytest
import torch

from diffcli.core.misfit import misfit
from diffcli.core.schedule import NoiseSchedule
from tests.core.gaussian import Normal, denoiser_with
from tests.core.test_likelihood import SHAPE, STD, even_schedule, normal


@pytest.mark.parametrize(
    "schedule",
    [even_schedule(200), NoiseSchedule(torch.tensor([0.7]))],
    ids=["many timesteps", "one timestep"],
)
def test_the_misfit_of_normal_images_is_that_of_their_distances(schedule: NoiseSchedule) -> None:
    """The estimate and the error follow from the exact posterior mean: no network, no sampling."""
    means = torch.tensor([-0.4, 0.0, 0.3]).view(3, 1, 1, 1).expand(3, *SHAPE)
    known = denoiser_with(Normal(schedule, means, STD), schedule)
    x0 = normal(4)
    labels = torch.tensor([0, 1, 0, 1])
    generator = torch.Generator().manual_seed(5)
    expected = torch.zeros(4, dtype=torch.float64)
    for log_snr in (0, -0.5, -1, -1.5, -2, -2.5, -3, -3.5, -4):
        epsilon = torch.randn(SHAPE, generator=generator).double()
        t = int((schedule.log_snr - log_snr).abs().argmin())
        alpha, sigma = schedule.alpha_sigma(t)
        gain = alpha * STD**2 / (alpha**2 * STD**2 + sigma**2)
        noise = (gain * sigma) ** 2 * epsilon.square().sum()
        errors = [
            (1 - gain * alpha) ** 2 * (x0 - means[mean]).double().square().sum((1, 2, 3)) + noise
            for mean in (labels, torch.full_like(labels, 2))
        ]
        expected += (3 * errors[0].log() - 2 * errors[1].log()) / 9
    found = misfit(known, x0, labels, seed=5)
    assert found.tolist() == pytest.approx(expected.tolist(), rel=1e-3)
    assert found[1] < found[0]
    assert torch.equal(misfit(known, x0[2:], labels[2:], seed=5), found[2:])
