"""How likely a model finds images, and under which label it finds them likeliest."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from diffcli.core.denoiser import Denoiser

_TIMESTEPS_PER_ROUND = 8
_ROUNDS = 4

# A label is given up if its bound is worse than the best one's by this many standard errors of
# the difference, and by this many nats.
_GIVE_UP_ERRORS, _GIVE_UP_NATS = 4.0, 5.0

# Timesteps are drawn five times as often around the log-SNR at which labels differ most.
_DENSITY_HEIGHT, _DENSITY_CENTRE, _DENSITY_WIDTH = 4.0, -1.0, 2.0

# On the scale of [-1, 1], half the distance between two grey levels.
_HALF_LEVEL = 1 / 255


class Score(NamedTuple):
    """What a model says of images."""

    bits: Tensor
    """Bits per dimension under the best label, an upper bound, float64 ``(B,)``."""
    standard_error: Tensor
    """Of the estimate of ``bits``, float64 ``(B,)``."""
    posterior: Tensor
    """The probability of each label if all are equally likely before, float64 ``(B, classes)``."""


class VariationalBound:
    """The variational bound on the negative log-likelihood (Ho et al. 2020, eq. 5), in nats.

    It is the sum of three parts::

        prior       KL(q(x_{T-1} | x_0) || N(0, 1))
        diffusion   of t = 1 .. T - 1: (SNR_{t-1} - SNR_t) / 2 * ||x_0 - estimate(x_t)||^2
        decoder     -log p(x_0 | x at t = 0), a normal distribution over the 256 grey levels

    with the posterior variance in the middle (Kingma et al. 2021, eq. 13) and the decoder of
    Ho et al. 2020, eq. 13, whose standard deviation is the noise at ``t = 0``.

    Args:
        denoiser: of diffusion; its estimates are clipped to [-1, 1].
    """

    def __init__(self, denoiser: Denoiser) -> None:
        self._denoiser = denoiser
        log_snr = denoiser.schedule.log_snr
        snr = log_snr.exp()
        self._weights = torch.cat([snr[:1], (snr[:-1] - snr[1:]) / 2])
        # Of white noise of variance 1 in place of images, these are the terms.
        parts = self._weights[1:] / (1 + snr[1:])
        bump = ((log_snr[1:] - _DENSITY_CENTRE) / _DENSITY_WIDTH).square().mul(-0.5).exp()
        parts *= 1 + _DENSITY_HEIGHT * bump
        self._density = torch.cat([torch.zeros(1), parts / parts.sum()])

    def prior(self, x0: Tensor) -> Tensor:
        """The first part, ``(B,)``, of images ``(B, C, H, W)`` in [-1, 1]."""
        square = x0.square().mean(dim=(1, 2, 3)).tolist()
        nats = [self._denoiser.schedule.prior_kl(value) for value in square]
        return torch.tensor(nats, dtype=torch.float64) * x0[0].numel()

    def decoder(self, x0: Tensor, labels: Tensor, epsilon: Tensor) -> Tensor:
        """An estimate of the last part, ``(B,)``.

        Args:
            x0: images ``(B, C, H, W)`` in [-1, 1] of 256 levels.
            labels: ``(B,)``.
            epsilon: standard normal noise, of the shape of an image.
        """
        _, sigma = self._denoiser.schedule.alpha_sigma(0)
        mean = self._estimate(x0, 0, labels, epsilon).double()
        normal = torch.distributions.Normal(mean, sigma)
        x0 = x0.double()
        upper = normal.cdf(x0 + _HALF_LEVEL).where(x0 < 1 - _HALF_LEVEL, 1.0)
        lower = normal.cdf(x0 - _HALF_LEVEL).where(x0 > -1 + _HALF_LEVEL, 0.0)
        return -(upper - lower).clamp(min=1e-12).log().sum(dim=(1, 2, 3)).cpu()

    def diffusion(self, x0: Tensor, t: int, labels: Tensor, epsilon: Tensor) -> Tensor:
        """An estimate of the term of a timestep above 0, ``(B,)``; arguments as of ``decoder``."""
        # With the opposite noise too: what is linear in it, most of the noise of the
        # difference between two labels, cancels.
        errors = [
            (x0 - self._estimate(x0, t, labels, noise)).square().sum(dim=(1, 2, 3))
            for noise in (epsilon, -epsilon)
        ]
        return torch.stack(errors).mean(0).double().cpu() * float(self._weights[t])

    def draw_timesteps(self, count: int, seed: int) -> list[tuple[int, float]]:
        """Timesteps of the second part, and the weights of their terms.

        The mean of weights times terms is an estimate of the part without bias.  The first
        timesteps are spread as evenly as all of them.
        """
        engine = torch.quasirandom.SobolEngine(1, scramble=True, seed=seed)
        u = engine.draw(count, dtype=torch.float64).squeeze(1)
        drawn = torch.searchsorted(self._density.cumsum(0), u, right=True)
        last = len(self._density) - 1
        return [(t, 1 / float(self._density[t])) for t in drawn.clamp(max=last).tolist()]

    def _estimate(self, x0: Tensor, t: int, labels: Tensor, epsilon: Tensor) -> Tensor:
        x_t = self._denoiser.schedule.add_noise(x0, t, epsilon)
        return self._denoiser.clipped(x_t, t, labels).x0


@torch.inference_mode()
def score(denoiser: Denoiser, images: Tensor, batch_size: int, seed: int = 0) -> Score:
    """Estimate the bound of images under each label (Li et al. 2023; Clark & Jaini 2023).

    The bounds of all labels are estimated with the same noise at the same timesteps, so that
    their differences are known better than themselves.  Labels that are clearly worse than the
    best one are given up early.  An image's score does not depend on the others.

    Args:
        denoiser: a trained one, on the device to use.
        images: ``(B, C, H, W)`` in [-1, 1] of 256 levels.
        batch_size: how many evaluations to make at once.
        seed: of noise and timesteps.
    """
    bound, device = VariationalBound(denoiser), denoiser.schedule.device
    images = images.to(device)
    generator = torch.Generator().manual_seed(seed)
    shape = (len(images), denoiser.network.config.num_classes)
    terms = torch.empty(*shape, 0, dtype=torch.float64)
    candidates, gaps = torch.ones(shape, dtype=torch.bool), torch.zeros(shape).double()

    def noise() -> Tensor:
        return torch.randn(images.shape[1:], generator=generator).to(device)

    timesteps = bound.draw_timesteps(_ROUNDS * _TIMESTEPS_PER_ROUND, seed)
    for first in range(0, len(timesteps), _TIMESTEPS_PER_ROUND):
        pairs = candidates.nonzero().to(device).split(batch_size)
        for t, weight in timesteps[first : first + _TIMESTEPS_PER_ROUND]:
            epsilon = noise()
            values = [bound.diffusion(images[i], t, k, epsilon) for i, k in map(_columns, pairs)]
            new = torch.full(shape, math.nan, dtype=torch.float64)
            new[candidates] = torch.cat(values) * weight
            terms = torch.cat([terms, new[..., None]], dim=2)
        # What was given up has no numbers any more, and is not the best.
        best = terms.mean(2).nan_to_num(math.inf).argmin(1)
        difference = terms - terms[torch.arange(len(images)), best][:, None]
        gap = difference.mean(2)
        error = difference.std(2) / terms.shape[2] ** 0.5
        gaps = gap.where(candidates, gaps)
        candidates &= (gap <= _GIVE_UP_ERRORS * error) | (gap <= _GIVE_UP_NATS)
    chosen = terms[torch.arange(len(images)), best]
    labels = best.to(device)
    epsilon = noise()
    rest = [
        bound.decoder(part, k, epsilon)
        for part, k in zip(images.split(batch_size), labels.split(batch_size), strict=True)
    ]
    nats = bound.prior(images) + torch.cat(rest) + chosen.mean(1)
    per_bit = images[0].numel() * math.log(2)
    # Neighbouring timesteps differ by noise alone, not by their place.
    order = torch.tensor([t for t, _ in timesteps]).argsort()
    variance = chosen[:, order].diff(dim=1).square().mean(1) / 2
    error = (variance / len(timesteps)).sqrt()
    return Score(nats / per_bit, error / per_bit, torch.softmax(-gaps, dim=1))


def _columns(pairs: Tensor) -> tuple[Tensor, Tensor]:
    images, labels = pairs.unbind(1)
    return images, labels
