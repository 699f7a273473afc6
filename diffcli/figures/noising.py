"""A picture on its way to noise and back: the numbers and pictures that the figure shows."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor

from diffcli.core.denoiser import Denoiser
from diffcli.core.generate import Beginning, ImageNoise, SamplingSettings, generate
from diffcli.core.schedule import NoiseSchedule
from diffcli.data.images import to_model_range, to_pixels
from diffcli.files.pictures import from_pillow, to_pillow

HISTOGRAM_RANGE, HISTOGRAM_BINS = (-4.0, 4.0), 48

_BACK = SamplingSettings("dpmpp", 16, guidance_scale=0.0)
"""The way back is drawn without a label: the picture alone is to say what it was."""


class Shown(NamedTuple):
    """Values as a picture and as a distribution.

    Args:
        picture: the values, those outside [-1, 1] clipped to black and white.
        density: their histogram over ``HISTOGRAM_RANGE``, with area 1 where nothing is outside.
    """

    picture: Image.Image
    density: list[float]


class Recovered(NamedTuple):
    """What a network makes of a noisy picture, and how far that is from the original."""

    picture: Image.Image
    mse: float
    """Mean squared error per value, on the scale of [-1, 1]."""


@dataclass(frozen=True)
class Noised:
    """The picture at one timestep.

    Args:
        t: the timestep.
        alpha_bar: of the schedule at ``t``.
        shown: the noisy picture.
        estimate: of the original in one step, if there is a network.
        denoised: of the original in many steps, if asked for.
    """

    t: int
    alpha_bar: float
    shown: Shown
    estimate: Recovered | None = None
    denoised: Recovered | None = None

    @property
    def signal(self) -> float:
        """``sqrt(alpha_bar)``."""
        return math.sqrt(self.alpha_bar)

    @property
    def noise(self) -> float:
        """``sqrt(1 - alpha_bar)``."""
        return math.sqrt(1 - self.alpha_bar)

    @property
    def snr(self) -> float:
        """``alpha_bar / (1 - alpha_bar)``."""
        return self.alpha_bar / (1 - self.alpha_bar)

    @property
    def log_snr(self) -> float:
        """The natural logarithm of ``snr``."""
        return math.log(self.alpha_bar) - math.log1p(-self.alpha_bar)


@dataclass(frozen=True)
class Process:
    """A schedule, and the picture at some of its timesteps.

    Args:
        name: of the schedule.
        alphas_cumprod: alpha_bar of every timestep.
        steps: the chosen timesteps.
        mismatch: KL divergence from the picture at the last timestep to N(0, 1), in nats.
    """

    name: str
    alphas_cumprod: list[float]
    steps: list[Noised]
    mismatch: float


class Noising:
    """One picture with one noise, for any schedules and timesteps.

    Args:
        picture: grey or RGB.
        seed: of the noise, which is what image ``seed`` of a sampling run starts from.
    """

    def __init__(self, picture: Image.Image, seed: int) -> None:
        self.seed = seed
        self._x0 = to_model_range(from_pillow(picture))[None]
        self._epsilon = ImageNoise([seed], self._x0.shape[1:], self._x0.device)()

    @property
    def original(self) -> Shown:
        """The picture itself."""
        return _show(self._x0)

    @property
    def noise(self) -> Shown:
        """The noise, N(0, 1) at every value."""
        return _show(self._epsilon)

    def at(self, schedule: NoiseSchedule, t: int) -> Noised:
        """The picture at ``t`` (Ho et al. 2020, eq. 4)."""
        x_t, _ = schedule.add_noise(self._x0, torch.tensor([t]), self._epsilon)
        return Noised(t, float(schedule.alphas_cumprod[t]), _show(x_t))

    def process(
        self,
        name: str,
        schedule: NoiseSchedule,
        timesteps: Sequence[int],
        denoiser: Denoiser | None = None,
        denoise: bool = False,
    ) -> Process:
        """The picture at ``timesteps``, and the way back from each if there is a denoiser.

        Args:
            name: of the schedule.
            schedule: the process.
            timesteps: those to show.
            denoiser: of pictures of this shape, on the CPU.
            denoise: whether to go all the way back, and not only to estimate its end.
        """
        steps = [self.at(schedule, t) for t in timesteps]
        if denoiser:
            steps = [self._with_way_back(step, denoiser, denoise) for step in steps]
        mismatch = schedule.prior_mismatch(float(self._x0.square().mean())) * self._x0.numel()
        return Process(name, schedule.alphas_cumprod.tolist(), steps, mismatch)

    def _with_way_back(self, step: Noised, denoiser: Denoiser, denoise: bool) -> Noised:
        schedule = denoiser.schedule
        # A network knows the noise level, not whose timestep it is: where the schedules
        # differ, it is asked at its own timestep of the nearest log-SNR.
        at = int((schedule.log_snr - step.log_snr).abs().argmin())
        beginning = Beginning(self._x0, (at + 1) / schedule.num_timesteps)
        labels = torch.tensor([denoiser.network.no_label])
        way = generate(denoiser, labels, [self.seed], _BACK, beginning)
        first = next(way)
        step = replace(step, estimate=self._recovered(first.x0))
        if denoise:
            *_, last = [first, *way]
            step = replace(step, denoised=self._recovered(last.x))
        return step

    def _recovered(self, x0: Tensor) -> Recovered:
        mse = float((x0 - self._x0).square().mean())
        return Recovered(to_pillow(to_pixels(x0[0])), mse)


def _show(x: Tensor) -> Shown:
    low, high = HISTOGRAM_RANGE
    counts = torch.histc(x, HISTOGRAM_BINS, low, high)
    density = counts * (HISTOGRAM_BINS / (high - low) / x.numel())
    return Shown(to_pillow(to_pixels(x[0])), density.tolist())
