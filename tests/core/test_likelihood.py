"""The variational bound and the diffusion classifier, on data whose densities are known."""

import math
import weakref
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from diffcli.core.denoiser import Denoiser
from diffcli.core.likelihood import VariationalBound, draw_timesteps, score
from diffcli.core.parameters import ScheduleConfig
from diffcli.core.schedule import NoiseSchedule
from tests.core.gaussian import Normal, denoiser_with

STD = 0.2
"""Of the data, around the mean of each class; clipping to [-1, 1] then hardly matters."""
SHAPE = (1, 16, 16)


def denoiser(means: Tensor, schedule: NoiseSchedule | None = None, std: float = STD) -> Denoiser:
    """Exact for images around the mean of each class, and never asked without a label."""
    schedule = schedule or NoiseSchedule.from_config(ScheduleConfig("cosine", 300))
    unlabelled = torch.full((1, *SHAPE), torch.nan)
    return denoiser_with(Normal(schedule, torch.cat([means, unlabelled]), std), schedule)


def even_schedule(timesteps: int) -> NoiseSchedule:
    """Timesteps at even distances of log-SNR, from 9 to -9."""
    alphas_cumprod = torch.linspace(9, -9, timesteps, dtype=torch.float64).sigmoid()
    before = torch.cat([torch.ones(1), alphas_cumprod[:-1]])
    return NoiseSchedule(1 - alphas_cumprod / before)


def normal(count: int, seed: int = 0) -> Tensor:
    return STD * torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(seed))


ZERO = torch.zeros(1, *SHAPE)


def diffusion(bound: VariationalBound, x0: Tensor, timesteps: int) -> float:
    """The second part, of all timesteps."""
    generator = torch.Generator().manual_seed(1)
    labels = torch.zeros(len(x0), dtype=torch.long)
    nats = [
        bound.diffusion(x0, t, labels, torch.randn(SHAPE, generator=generator))
        for t in range(1, timesteps)
    ]
    return float(torch.stack(nats).sum(0).mean())


def test_prior_and_diffusion_are_the_information_in_the_least_noisy_image() -> None:
    """Of normal data: 1/2 log(1 + SNR * variance) per pixel, which fewer timesteps exceed."""
    x0 = normal(64)
    excess = []
    for timesteps in (50, 1000):
        schedule = even_schedule(timesteps)
        bound = VariationalBound(denoiser(ZERO, schedule))
        found = float(bound.prior(x0).mean()) + diffusion(bound, x0, timesteps)
        snr = float(schedule.log_snr[0].exp())
        excess.append(found / (0.5 * math.log1p(snr * STD**2) * x0[0].numel()) - 1)
    assert 0.1 < excess[0] < 0.3
    assert abs(excess[1]) < 0.02


def test_few_timesteps_estimate_the_sum_of_all() -> None:
    model = denoiser(ZERO)
    bound, signal = VariationalBound(model), model.schedule.alphas_cumprod
    snr = signal / (1 - signal)
    error = STD**2 * (1 - signal) / (signal * STD**2 + 1 - signal)
    exact = float(((snr[:-1] - snr[1:]) / 2 * error[1:]).sum()) * ZERO.numel()
    x0 = normal(16)
    labels = torch.zeros(len(x0), dtype=torch.long)
    generator = torch.Generator().manual_seed(2)
    estimates = []
    for seed in range(60):
        for t, weight in draw_timesteps(bound.density, 8, seed):
            epsilon = torch.randn(SHAPE, generator=generator)
            estimates.append(weight * bound.diffusion(x0, t, labels, epsilon).mean())
    assert float(torch.stack(estimates).mean()) == pytest.approx(exact, rel=0.02)


def test_the_timesteps_are_spread_over_their_density_and_never_0() -> None:
    bound = VariationalBound(denoiser(ZERO))
    for density in (bound.density, bound.label_density):
        assert float(density.sum()) == pytest.approx(1)
        assert density[0] == 0
        for count in (8, 64):
            drawn = [t for t, _ in draw_timesteps(density, count, seed=3)]
            exact = density.cumsum(0)
            for t in (40, 100, 200, 280):
                share = sum(at <= t for at in drawn) / count
                assert share == pytest.approx(float(exact[t]), abs=1.5 / count)


def test_labels_are_compared_where_they_differ_most_and_under_more_noise_too() -> None:
    model = denoiser(ZERO)
    density = VariationalBound(model).label_density
    log_snr = model.schedule.log_snr
    assert float(density[(log_snr > -4) & (log_snr <= 0)].sum()) > 0.9
    assert torch.equal(density > 0, log_snr <= 0)


def test_labels_are_compared_at_the_last_timestep_if_no_other_has_as_much_noise() -> None:
    model = denoiser(ZERO, NoiseSchedule(torch.full((20,), 0.01)))
    assert model.schedule.log_snr[-1] > 0
    density = VariationalBound(model).label_density
    assert density.nonzero().flatten().tolist() == [19]


def test_the_decoder_of_a_perfect_estimate() -> None:
    """Every pixel is in the level of its estimate with the same probability."""
    levels = torch.tensor([-1.0, -99 / 255, 55 / 255, 1.0]).repeat(64).view(1, *SHAPE)
    model = denoiser(levels, std=0.0)
    _, sigma = model.schedule.alpha_sigma(0)
    label = torch.zeros(1, dtype=torch.long)
    found = VariationalBound(model).decoder(levels, label, torch.randn(SHAPE))
    half = math.erf(1 / 255 / sigma / math.sqrt(2)) / 2
    # The outermost levels take all that is beyond them.
    expected = -128 * math.log(2 * half) - 128 * math.log(0.5 + half)
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_the_posterior_is_that_of_bayes_for_images_with_noise_of_log_snr_0() -> None:
    """Two classes whose means differ by little, so that most images could be of both."""
    means = torch.stack([torch.full(SHAPE, 0.05), torch.full(SHAPE, -0.05)])
    x0 = normal(24) + means[torch.arange(24) % 2]
    variance = STD**2 + 1  # of the image over that of its noise
    logits = torch.stack([-(x0 - mean).square().sum((1, 2, 3)) / (2 * variance) for mean in means])
    exact = torch.softmax(logits.double(), 0).T
    assert ((exact > 0.1) & (exact < 0.9)).sum() > 10
    found = score(denoiser(means), x0, batch_size=7).posterior
    assert float((found - exact).abs().max()) < 0.15


def test_clear_labels_are_found_among_many() -> None:
    generator = torch.Generator().manual_seed(3)
    means = torch.rand(10, *SHAPE, generator=generator) - 0.5
    x0 = means[[3, 9, 0]] + normal(3)
    found = score(denoiser(means), x0, batch_size=64)
    assert found.posterior.argmax(1).tolist() == [3, 9, 0]
    assert float(found.posterior.amax(1).min()) > 0.999
    assert torch.allclose(found.posterior.sum(1), torch.ones(3).double())


def test_a_label_is_given_up_if_it_is_clearly_worse_and_compared_to_the_end_if_not() -> None:
    far, near = 0.6, 0.1  # nats of difference: 44, and 1.2, which is known without error
    means = torch.cat([ZERO, ZERO + near, ZERO + far])
    model = denoiser(means)
    asked: Counter[int] = Counter()

    def count(_network: torch.nn.Module, given: tuple[Tensor, ...]) -> None:
        asked.update(given[2].tolist())

    model.network.register_forward_pre_hook(count)
    posterior = score(model, ZERO, batch_size=8).posterior
    assert posterior.argmax(1) == 0
    assert 0.1 < float(posterior[0, 1]) < 0.4
    # Two noises at each of 64 timesteps; of the best one also those of the bits.
    assert asked[1] == 128
    assert asked[0] == 128 + 2 * 16 + 1
    assert asked[2] < 32


class MostImages(TorchFunctionMode):
    """How many images, or as many estimates, there were at once."""

    def __init__(self) -> None:
        super().__init__()
        self.most = 0
        self._alive: list[weakref.ref[Tensor]] = []

    def __torch_function__(
        self,
        function: Callable[..., Any],
        _types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        made = function(*args, **(kwargs or {}))
        if isinstance(made, Tensor) and made.shape[1:] == SHAPE:
            self._alive.append(weakref.ref(made))
            alive = [tensor for known in self._alive if (tensor := known()) is not None]
            self._alive = [weakref.ref(tensor) for tensor in alive]
            self.most = max(self.most, sum(map(len, alive)))
        return made


def test_images_of_many_labels_are_in_memory_a_batch_at_a_time() -> None:
    means = torch.rand(50, *SHAPE, generator=torch.Generator().manual_seed(3)) - 0.5
    model, x0 = denoiser(means), means[:12].clone()
    with MostImages() as images:
        score(model, x0, batch_size=4)
    # Of 600 pairs of an image and a label.
    assert 12 < images.most < 120


def test_one_timestep_gives_no_likelihood() -> None:
    """It has no term in which labels could be compared."""
    with pytest.raises(ValueError, match="at timesteps above 0, and there are none"):
        score(denoiser(ZERO, even_schedule(1)), normal(1), batch_size=1)
    assert score(denoiser(ZERO, even_schedule(2)), normal(1), batch_size=1).bits.isfinite().all()


def test_bits_are_those_of_the_density() -> None:
    """-log2 of the density, times the width of a grey level."""
    x0 = (normal(32) * 127.5).round() / 127.5
    found = score(denoiser(ZERO, even_schedule(1000)), x0, batch_size=64)
    density = 0.5 * (x0 / STD).square() + math.log(STD * math.sqrt(2 * math.pi))
    exact = (density.mean((1, 2, 3)) - math.log(2 / 255)) / math.log(2)
    error = found.bits - exact.double()
    # The sum of 1000 terms exceeds the integral a little.
    assert float(error.mean()) == pytest.approx(0.05, abs=0.3)
    assert float(found.standard_error.mean()) == pytest.approx(0.14, rel=0.4)


def test_an_image_is_scored_alike_in_any_company() -> None:
    means = torch.stack([torch.full(SHAPE, 0.01), torch.full(SHAPE, -0.01)])
    model, x0 = denoiser(means), normal(5)
    together, alone = score(model, x0, batch_size=3), score(model, x0[3:4], batch_size=8)
    for many, one in zip(together, alone, strict=True):
        assert torch.allclose(many[3:4], one)
    other = score(model, x0, batch_size=3, seed=1)
    assert not torch.allclose(other.bits, together.bits)
