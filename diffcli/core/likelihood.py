"""How likely a model finds images, and under which label it finds them likeliest."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from diffcli.core.denoiser import Denoiser, finite

# Timesteps to compare labels at, so many at a time, and to estimate the bound at.
_TIMESTEPS_PER_ROUND, _ROUNDS = 2, 32
_TIMESTEPS_OF_BOUND = 16

# A label is given up if its bound is worse than the best one's by this many standard errors of
# the difference, and by this many nats: after few rounds, the errors are rough themselves.
_GIVE_UP_ERRORS, _GIVE_UP_NATS = 4.0, 5.0

# Labels are compared by the terms up to this log-SNR: above it, the network's errors under two
# labels differ by more than what the picture says of them.
_FINEST = 0.0

# Where the terms of two labels of the shipped digits differ most, and over which range.  With
# other pictures, another density needs more rounds for the same error, and is as free of bias.
_CENTRE, _WIDTH = -1.6, 1.6

# On the scale of [-1, 1], half the distance between two grey levels.
_HALF_LEVEL = 1 / 255


Timesteps = list[tuple[int, float]]
"""Timesteps, and the weights of their terms in an estimate of a sum."""


class Score(NamedTuple):
    """What a model says of images."""

    bits: Tensor
    """Bits per dimension under the best label, an upper bound, float64 ``(B,)``."""
    standard_error: Tensor
    """Of the estimate of ``bits`` by its diffusion terms, float64 ``(B,)``.  Images have noise and
    timesteps in common, so the error of a mean of several is not much smaller."""
    posterior: Tensor
    """The probability of each label if all are equally likely before, float64 ``(B, classes)``."""


class VariationalBound:
    """The variational bound on the negative log-likelihood (Ho et al. 2020, eq. 5), in nats.

    It is the sum of three parts::

        prior       KL(q(x_{T-1} | x_0) || N(0, 1))
        diffusion   of t = 1 .. T - 1: (SNR_{t-1} - SNR_t) / 2 * ||x_0 - estimate(x_t)||^2
        decoder     -log p(x_0 | x at t = 0), a normal distribution over the 256 grey levels

    with the posterior variance in the diffusion part (Kingma et al. 2021, eq. 13) and the decoder
    of Ho et al. 2020, eq. 13, whose standard deviation is the noise at ``t = 0``.

    Args:
        denoiser: of diffusion; its estimates are clipped to [-1, 1].

    Raises:
        ValueError: if it has a single timestep, and so no diffusion part.

    Attributes:
        density: of timesteps, to draw those of an estimate of the diffusion part from; float64
            ``(T,)``.
        label_density: the same for the terms that labels are compared by.
    """

    def __init__(self, denoiser: Denoiser) -> None:
        if denoiser.schedule.num_timesteps == 1:
            raise ValueError("likelihoods are estimated at timesteps above 0, and there are none")
        self._denoiser = denoiser
        log_snr = denoiser.schedule.log_snr
        snr = log_snr.exp()
        # The term of t = 0 is the decoder's.
        self._weights = -snr.diff(prepend=snr[:1]) / 2
        # Of white noise of variance 1 in place of images, these are the terms.
        terms = self._weights / (1 + snr)
        self.density = terms / terms.sum()
        bump = ((log_snr - _CENTRE) / _WIDTH).square().mul(-0.5).exp()
        steps = log_snr.diff(prepend=log_snr[:1]).abs()
        finest = max(_FINEST, float(log_snr[-1]))
        terms = (steps * bump).where(log_snr <= finest, 0.0)
        self.label_density = terms / terms.sum()

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
        # On the CPU, because MPS has no float64.
        mean = finite(_denoised(self._denoiser, x0, 0, labels, epsilon).cpu()).double()
        normal = torch.distributions.Normal(mean, sigma)
        x0 = x0.cpu().double()
        upper = normal.cdf(x0 + _HALF_LEVEL).where(x0 < 1 - _HALF_LEVEL, 1.0)
        lower = normal.cdf(x0 - _HALF_LEVEL).where(x0 > -1 + _HALF_LEVEL, 0.0)
        return -(upper - lower).clamp(min=1e-12).log().sum(dim=(1, 2, 3))

    def diffusion(self, x0: Tensor, t: int, labels: Tensor, epsilon: Tensor) -> Tensor:
        """An estimate of the term of a timestep above 0, ``(B,)``; arguments as of ``decoder``."""
        return squared_error(self._denoiser, x0, t, labels, epsilon) * float(self._weights[t])


def squared_error(
    denoiser: Denoiser, x0: Tensor, t: int, labels: Tensor, epsilon: Tensor
) -> Tensor:
    """``||x_0 - estimate(x_t)||^2``, float64 ``(B,)``: the mean for noise and the opposite noise.

    Both have the same distribution, so the mean is an estimate without bias.

    Args:
        denoiser: whose estimates are clipped to [-1, 1].
        x0: images ``(B, C, H, W)`` in [-1, 1].
        t: the timestep of all of them.
        labels: ``(B,)``.
        epsilon: standard normal noise, of the shape of an image.

    Raises:
        FloatingPointError: if the network's output is not finite.
    """
    # Errors of the estimate that are odd in the noise cancel, and these are most of what two
    # labels differ by at random.
    errors = [
        (x0 - _denoised(denoiser, x0, t, labels, noise)).square().sum(dim=(1, 2, 3))
        for noise in (epsilon, -epsilon)
    ]
    return finite(torch.stack(errors).mean(0).cpu()).double()


def _denoised(denoiser: Denoiser, x0: Tensor, t: int, labels: Tensor, epsilon: Tensor) -> Tensor:
    return denoiser.clipped(denoiser.schedule.add_noise(x0, t, epsilon), t, labels).x0


def draw_timesteps(density: Tensor, count: int, seed: int) -> Timesteps:
    """Draw timesteps for importance sampling, at scrambled Sobol points of the density.

    The mean of weights times terms is an estimate of the sum of the terms at all timesteps of the
    density, without bias.  The first timesteps are spread as evenly as all of them.

    Args:
        density: float64 ``(T,)``, whose sum is 1.
        count: how many to draw.
        seed: of the draw.
    """
    engine = torch.quasirandom.SobolEngine(1, scramble=True, seed=seed)
    u = engine.draw(count, dtype=torch.float64).squeeze(1)
    drawn = torch.searchsorted(density.cumsum(0), u, right=True)
    last = int(density.nonzero().max())
    return [(t, 1 / float(density[t])) for t in drawn.clamp(max=last).tolist()]


@torch.inference_mode()
def score(denoiser: Denoiser, images: Tensor, batch_size: int, seed: int = 0) -> Score:
    """Compare the bounds of images under all labels, and estimate the best one.

    An image's score does not depend on the others.

    Args:
        denoiser: a trained one, on the device to use.
        images: ``(B, C, H, W)`` in [-1, 1] of 256 levels.
        batch_size: how many evaluations to make at once.
        seed: of noise and timesteps.

    Raises:
        ValueError: if the denoiser has a single timestep.
    """
    scoring = _Scoring(denoiser, images, batch_size, seed)
    posterior = scoring.posterior()
    return Score(*scoring.bits(posterior.argmax(1)), posterior)


class _Scoring:
    """The evaluations of a score; arguments as of ``score``."""

    def __init__(self, denoiser: Denoiser, images: Tensor, batch_size: int, seed: int) -> None:
        self._bound = VariationalBound(denoiser)
        self._device = denoiser.schedule.device
        self._classes = denoiser.network.config.num_classes
        self._images = images.to(self._device)
        self._batch_size, self._seed = batch_size, seed

    def posterior(self) -> Tensor:
        """The posterior of the labels (Li et al. 2023, algorithm 1; Clark & Jaini 2023).

        The bounds that are compared have the terms of a log-SNR up to 0 only: they are those of
        the images with as much noise as that (Kingma & Gao 2023, section 4).  All labels get the
        same noise.  Labels that are clearly worse than the best one are given up early.
        """
        noise = self._noises()
        count = len(self._images)
        candidates = torch.ones(count, self._classes, dtype=torch.bool)
        gaps = torch.zeros(candidates.shape, dtype=torch.float64)
        undecided = torch.arange(count)
        found = torch.empty(*candidates.shape, 0, dtype=torch.float64)
        timesteps = draw_timesteps(
            self._bound.label_density, _ROUNDS * _TIMESTEPS_PER_ROUND, self._seed
        )
        for first in range(0, len(timesteps), _TIMESTEPS_PER_ROUND):
            part = timesteps[first : first + _TIMESTEPS_PER_ROUND]
            left = candidates[undecided]
            new = torch.full((*left.shape, len(part)), math.nan, dtype=torch.float64)
            image, label = left.nonzero(as_tuple=True)
            new[left] = self._terms(undecided[image], label, part, noise)
            found = torch.cat([found, new], dim=2)
            # What was given up has no numbers any more, and is not the best.
            best = found.mean(2).nan_to_num(math.inf).argmin(1)
            difference = found - found[torch.arange(len(found)), best][:, None]
            gap = difference.mean(2)
            error = difference.std(2) / found.shape[2] ** 0.5
            gaps[undecided] = gap.where(left, gaps[undecided])
            left &= (gap <= _GIVE_UP_ERRORS * error) | (gap <= _GIVE_UP_NATS)
            candidates[undecided] = left
            several = left.sum(1) > 1
            undecided, found = undecided[several], found[several]
            if not len(undecided):
                break
        return torch.softmax(-gaps, dim=1)

    def bits(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The bound under labels ``(B,)`` in bits per dimension, and its standard error."""
        noise = self._noises()
        timesteps = draw_timesteps(self._bound.density, _TIMESTEPS_OF_BOUND, self._seed)
        terms = self._terms(torch.arange(len(labels)), labels, timesteps, noise)
        epsilon, labels = next(noise), labels.to(self._device)
        parts = zip(
            self._images.split(self._batch_size), labels.split(self._batch_size), strict=True
        )
        decoder = torch.cat([self._bound.decoder(x0, part, epsilon) for x0, part in parts])
        nats = self._bound.prior(self._images) + decoder + terms.mean(1)
        # Neighbouring timesteps differ by noise alone, not by their place.
        order = torch.tensor([t for t, _ in timesteps]).argsort()
        variance = terms[:, order].diff(dim=1).square().mean(1) / 2
        per_bit = self._images[0].numel() * math.log(2)
        return nats / per_bit, (variance / len(timesteps)).sqrt() / per_bit

    def _terms(
        self, index: Tensor, labels: Tensor, timesteps: Timesteps, noise: Iterator[Tensor]
    ) -> Tensor:
        """Weighted terms ``(P, len(timesteps))`` of images, given by number, under labels."""
        batches = list(
            zip(
                index.to(self._device).split(self._batch_size),
                labels.to(self._device).split(self._batch_size),
                strict=True,
            )
        )
        columns = []
        for t, weight in timesteps:
            epsilon = next(noise)
            # A batch at a time: with many labels, the images of all pairs would fill the memory.
            terms = [
                self._bound.diffusion(self._images[some], t, part, epsilon)
                for some, part in batches
            ]
            columns.append(torch.cat(terms) * weight)
        return torch.stack(columns, dim=1)

    def _noises(self) -> Iterator[Tensor]:
        """The noise of one timestep after another, always the same, which all images share."""
        generator = torch.Generator().manual_seed(self._seed)
        while True:
            yield torch.randn(self._images.shape[1:], generator=generator).to(self._device)
