"""A picture in the forward process and back: the numbers and pictures of the figure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor

from diffcli.core.denoiser import Denoiser, finite
from diffcli.core.generate import Init, generate
from diffcli.core.noise import ImageNoise
from diffcli.core.parameters import SamplingSettings
from diffcli.core.schedule import NoiseSchedule
from diffcli.data.images import to_model_range, to_pixels
from diffcli.files.pictures import from_pillow, to_pillow

HISTOGRAM_RANGE, HISTOGRAM_BINS = (-4.0, 4.0), 48

_REVERSE = SamplingSettings("dpmpp", 16, guidance_scale=0.0)
"""The reverse process, without a label: only the picture decides the result."""


class Values(NamedTuple):
    """An image of any range, as a picture and as a histogram.

    Args:
        picture: the values, clipped to [-1, 1].
        density: their histogram over ``HISTOGRAM_RANGE``, with area 1 if none are outside.
    """

    picture: Image.Image
    density: list[float]


class Reconstruction(NamedTuple):
    """What a network reconstructs from a noisy picture."""

    picture: Image.Image
    mse: float
    """Mean squared error per value, on the scale of [-1, 1]."""


@dataclass(frozen=True)
class Noised:
    """The picture at one timestep.

    Args:
        t: the timestep.
        alphas_cumprod: of the schedule at ``t``.
        values: the noisy picture.
        estimate: of the original in one step, if there is a network.
        denoised: of the original in many steps, if requested.
    """

    t: int
    alphas_cumprod: float
    values: Values
    estimate: Reconstruction | None = None
    denoised: Reconstruction | None = None

    @property
    def alpha(self) -> float:
        """The amplitude of the picture."""
        return math.sqrt(self.alphas_cumprod)

    @property
    def sigma(self) -> float:
        """The amplitude of the noise."""
        return math.sqrt(1 - self.alphas_cumprod)

    @property
    def snr(self) -> float:
        """The signal-to-noise ratio, ``alpha^2 / sigma^2``."""
        return self.alphas_cumprod / (1 - self.alphas_cumprod)

    @property
    def log_snr(self) -> float:
        """The natural logarithm of ``snr``."""
        return math.log(self.alphas_cumprod) - math.log1p(-self.alphas_cumprod)


@dataclass(frozen=True)
class ForwardProcess:
    """A schedule, and the picture at some of its timesteps.

    Args:
        name: of the schedule.
        alphas_cumprod: of every timestep.
        steps: the picture at the chosen timesteps.
        prior_kl: KL divergence of the picture at the last timestep from N(0, 1), in nats.
    """

    name: str
    alphas_cumprod: list[float]
    steps: list[Noised]
    prior_kl: float


class Noising:
    """One picture with one noise, for any schedules and timesteps.

    Args:
        picture: grey or RGB.
        seed: of the noise; sampling with this seed starts from the same noise.
    """

    def __init__(self, picture: Image.Image, seed: int) -> None:
        self.seed = seed
        self._x0 = to_model_range(from_pillow(picture))[None]
        self._epsilon = ImageNoise([seed], self._x0.shape[1:], self._x0.device)()

    @property
    def original(self) -> Values:
        """The picture itself."""
        return _values(self._x0)

    @property
    def noise(self) -> Values:
        """The noise."""
        return _values(self._epsilon)

    def at(self, schedule: NoiseSchedule, t: int) -> Noised:
        """The picture at ``t`` (Ho et al. 2020, eq. 4)."""
        x_t = schedule.add_noise(self._x0, t, self._epsilon)
        return Noised(t, float(schedule.alphas_cumprod[t]), _values(x_t))

    def process(
        self,
        name: str,
        schedule: NoiseSchedule,
        timesteps: Sequence[int],
        denoiser: Denoiser | None = None,
        denoise: bool = False,
    ) -> ForwardProcess:
        """The picture at ``timesteps``, and reconstructions if there is a denoiser.

        Args:
            name: of the schedule.
            schedule: the process.
            timesteps: to show.
            denoiser: of pictures of this shape, on the CPU.
            denoise: whether to reconstruct in many steps too, and not only in one.
        """
        steps = [self.at(schedule, t) for t in timesteps]
        if denoiser:
            steps = [self._reconstructed(step, denoiser, denoise) for step in steps]
        prior_kl = schedule.prior_kl(float(self._x0.square().mean())) * self._x0.numel()
        return ForwardProcess(name, schedule.alphas_cumprod.tolist(), steps, prior_kl)

    def _reconstructed(self, step: Noised, denoiser: Denoiser, denoise: bool) -> Noised:
        schedule = denoiser.schedule
        # If the network was trained on another schedule, it is evaluated at its own timestep of
        # the nearest log-SNR.
        t = int((schedule.log_snr - step.log_snr).abs().argmin())
        labels = torch.tensor([denoiser.network.no_label])
        strength = (t + 1) / schedule.num_timesteps
        steps = generate(denoiser, labels, [self.seed], _REVERSE, Init(self._x0), strength)
        first = next(steps)
        step = replace(step, estimate=self._reconstruction(first.x0))
        if denoise:
            *_, last = [first, *steps]
            step = replace(step, denoised=self._reconstruction(last.x))
        return step

    def _reconstruction(self, x0: Tensor) -> Reconstruction:
        mse = float((finite(x0) - self._x0).square().mean())
        return Reconstruction(to_pillow(to_pixels(x0[0])), mse)


def _values(x: Tensor) -> Values:
    low, high = HISTOGRAM_RANGE
    counts = torch.histc(x, HISTOGRAM_BINS, low, high)
    density = counts * (HISTOGRAM_BINS / (high - low) / x.numel())
    return Values(to_pillow(to_pixels(x[0])), density.tolist())
