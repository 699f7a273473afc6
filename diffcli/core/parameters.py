"""The parameters of schedule, network and sampling, and the names of all choices.

They are stored in checkpoints and pictures.  This module does not import torch, so that the
command line can show its help, and read and check parameters, without loading it.
"""

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, TypedDict, get_args

ScheduleName = Literal["linear", "linear-rescaled", "cosine", "rectified-flow"]
PredictionType = Literal["epsilon", "x0", "v_prediction", "flow"]
SamplerName = Literal["ddpm", "ddim", "dpmpp", "dpmpp-sde", "consistency"]
Variance = Literal["beta", "beta-tilde"]

SAMPLER_WITH: dict[str, SamplerName] = {"variance": "ddpm", "eta": "dpmpp-sde"}
"""The settings that a single sampler has, and which."""

CHANNELS_PER_GROUP = 16
AUGMENTATIONS = 5
"""How many numbers tell a network how an image was augmented."""
MAX_TIMESTEPS = 100_000
MAX_SEED = 2**32 - 1  # torch's generator on the CPU uses no more bits
MAX_GUIDANCE_SCALE = 1000.0

# 1 - beta has 16 digits: six are left of this beta, which linear-rescaled can divide by 100.  None
# are left of one below 1e-16, and a timestep without noise would be divided by.
_LEAST_BETA = 1e-8

# Above this side in pixels, a level of single pixels costs more than it brings.
_LARGEST_WITHOUT_PATCHES = 48


@dataclass(frozen=True)
class ScheduleConfig:
    """The parameters of a noise schedule.

    Args:
        name: ``linear`` (Ho et al. 2020, section 4), ``linear-rescaled`` (the same betas
            times ``1000 / num_timesteps``, so that fewer timesteps end in as much noise),
            ``cosine`` (Nichol & Dhariwal 2021, eq. 17) or ``rectified-flow`` (Liu et al. 2023,
            eq. 1); the last two do not use the range of betas.
        num_timesteps: T.
        beta_start: beta of timestep 0, at least 1e-8.
        beta_end: beta of timestep T - 1.

    Raises:
        ValueError: if a field is out of range.
    """

    name: ScheduleName = "linear"
    num_timesteps: int = 300
    beta_start: float = 1e-4
    beta_end: float = 0.02

    def __post_init__(self) -> None:
        _check_choice("schedule", self.name, ScheduleName)
        if not 1 <= self.num_timesteps <= MAX_TIMESTEPS:
            raise ValueError(
                f"num_timesteps must be in 1 .. {MAX_TIMESTEPS}, not {self.num_timesteps}"
            )
        if not _LEAST_BETA <= self.beta_start <= self.beta_end < 1:
            raise ValueError(
                f"betas must satisfy {_LEAST_BETA:g} <= beta_start <= beta_end < 1, "
                f"not {self.beta_start} .. {self.beta_end}"
            )


@dataclass(frozen=True)
class UNetConfig:
    """The parameters of a ``ConditionalUNet``.

    Args:
        image_channels: 1 (grey) or 3 (RGB).
        image_height: in pixels; a multiple of ``stride``.
        image_width: in pixels; a multiple of ``stride``.
        num_classes: number of labels.
        patch_size: side of the square of pixels that the stem folds into channels.  The cost
            of the first level falls with its square.
        channels: width of each level, the finest first; each level halves the sides.
            Multiples of 16.
        blocks: residual blocks per level.  All levels but the deepest have them twice, in
            the encoder and in the decoder.
        embedding_dim: width of the embedding that conditions the blocks.
        augmented: whether the network can be told how an image was augmented.

    Raises:
        ValueError: if a field is out of range, or the image size does not fit the levels.
    """

    image_channels: int = 1
    image_height: int = 28
    image_width: int = 28
    num_classes: int = 10
    patch_size: int = 2
    channels: tuple[int, ...] = (64, 128)
    blocks: tuple[int, ...] = (1, 3)
    embedding_dim: int = 256
    augmented: bool = False

    def __post_init__(self) -> None:
        if self.image_channels not in (1, 3):
            raise ValueError(f"images have 1 or 3 channels, not {self.image_channels}")
        ranges = {
            "num_classes": (1, 100_000),
            "patch_size": (1, 16),
            "embedding_dim": (4, 8192),
            "image_height": (1, 4096),
            "image_width": (1, 4096),
        }
        for name, (low, high) in ranges.items():
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name} must be in {low} .. {high}, not {getattr(self, name)}")
        if not 1 <= len(self.channels) <= 8 or any(
            c % CHANNELS_PER_GROUP or not 0 < c <= 4096 for c in self.channels
        ):
            raise ValueError(
                f"channels must be 1 to 8 multiples of {CHANNELS_PER_GROUP}, not {self.channels}"
            )
        if len(self.blocks) != len(self.channels) or not all(0 < n <= 16 for n in self.blocks):
            raise ValueError(f"blocks must be 1 to 16 for each level, not {self.blocks}")
        if self.embedding_dim % 2:
            raise ValueError(f"embedding_dim must be even, not {self.embedding_dim}")
        if self.image_height % self.stride or self.image_width % self.stride:
            raise ValueError(
                f"the image is {self.image_width}x{self.image_height}, but this network needs "
                f"sides that are multiples of {self.stride}"
            )

    @classmethod
    def for_images(
        cls,
        image_channels: int,
        image_height: int,
        image_width: int,
        num_classes: int,
        width: int = 64,
        detailed: bool = False,
    ) -> "UNetConfig":
        """The network for images of a size.

        Levels are added until the deepest one has at most 8 positions per side, which its
        blocks span, or the sides cannot be halved again.  The finest has patches of 2x2 pixels;
        small images whose details these would blur get one of single pixels before it.

        Args:
            image_channels: see above.
            image_height: see above.
            image_width: see above.
            num_classes: see above.
            width: channels of the finest level; the others have twice as many.
            detailed: whether the images have details of single pixels.
        """
        config = cls(
            image_channels, image_height, image_width, num_classes, channels=(width, 2 * width)
        )
        while max(image_height, image_width) > 8 * config.stride:
            if image_height % (2 * config.stride) or image_width % (2 * config.stride):
                break
            config = replace(
                config, channels=(*config.channels, config.channels[-1]), blocks=(1, *config.blocks)
            )
        if detailed and max(image_height, image_width) <= _LARGEST_WITHOUT_PATCHES:
            config = replace(
                config, patch_size=1, channels=(width, *config.channels), blocks=(1, *config.blocks)
            )
        return config

    @property
    def stride(self) -> int:
        """Pixels per side of one position of the deepest level."""
        return int(self.patch_size * 2 ** (len(self.channels) - 1))

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """``(C, H, W)`` of an image."""
        return self.image_channels, self.image_height, self.image_width


@dataclass(frozen=True)
class SamplingSettings:
    """How images are drawn.

    Args:
        sampler: a name in ``samplers.SAMPLERS``.
        steps: how many of the T timesteps are visited.
        guidance_scale: 1 is plain conditional, 0 unconditional.
        guidance_interval: the first and the last timestep at which guidance applies; at the
            others the scale is 1 (Kynkäänniemi et al. 2024).  If None, it applies at all.
        spacing: 1 visits timesteps at even distances; above 1, steps are shorter at high
            noise levels (see ``schedule.step_plan``).
        variance: of the noise that ``ddpm`` adds; the other samplers ignore it.
        eta: how much noise ``dpmpp-sde`` adds, 0 .. 1; the other samplers ignore it.

    Raises:
        ValueError: if a field is out of range.
    """

    sampler: SamplerName = "dpmpp"
    steps: int = 16
    guidance_scale: float = 1.0
    guidance_interval: tuple[int, int] | None = None
    spacing: float = 1.0
    variance: Variance = "beta-tilde"
    eta: float = 1.0

    def __post_init__(self) -> None:
        _check_choice("sampler", self.sampler, SamplerName)
        _check_choice("variance", self.variance, Variance)
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, not {self.steps}")
        if not 0 <= self.guidance_scale <= MAX_GUIDANCE_SCALE:
            raise ValueError(
                f"guidance must be in 0 .. {MAX_GUIDANCE_SCALE:g}, not {self.guidance_scale:g}"
            )
        interval = self.guidance_interval
        if interval is not None and (len(interval) != 2 or not 0 <= interval[0] <= interval[1]):
            raise ValueError(f"a guidance interval is two timesteps, low-high, not {interval}")
        if not 0.1 <= self.spacing <= 10:
            raise ValueError(f"spacing must be in 0.1 .. 10, not {self.spacing:g}")
        if not 0 <= self.eta <= 1:
            raise ValueError(f"eta must be in 0 .. 1, not {self.eta:g}")

    def check_timesteps(self, num_timesteps: int) -> None:
        """Check that the settings are for a schedule of that many timesteps.

        Raises:
            ValueError: if there are more steps than timesteps, or the guidance interval ends
                after the last one.
        """
        if self.steps > num_timesteps:
            raise ValueError(f"steps must be in 1 .. {num_timesteps}, not {self.steps}")
        if self.guidance_interval and self.guidance_interval[1] >= num_timesteps:
            raise ValueError(
                f"a guidance interval must be in 0-{num_timesteps - 1}, the model's timesteps"
            )

    def guidance_at(self, t: int) -> float:
        """The guidance scale at a timestep."""
        if self.guidance_interval is None:
            return self.guidance_scale
        first, last = self.guidance_interval
        return self.guidance_scale if first <= t <= last else 1.0


class SettingChanges(TypedDict, total=False):
    """Sampling settings that are not the model's own; None changes nothing."""

    sampler: SamplerName | None
    """A name in ``samplers.SAMPLERS``."""
    steps: int | None
    guidance_scale: float | None
    """1 is plain conditional, 0 ignores the label."""
    guidance_interval: tuple[int, int] | None
    """The first and the last timestep to guide at."""
    spacing: float | None
    """1 is even; above 1, steps are shorter at high noise levels."""
    variance: Variance | None
    """Of the noise that ``ddpm`` adds."""
    eta: float | None
    """How much noise ``dpmpp-sde`` adds."""


class SeedsBetween(NamedTuple):
    """A place on the way from the noise of one seed to that of another."""

    first: int
    last: int
    share: float
    """0 is the first, 1 the last."""


def _check_choice(what: str, name: str, choices: object) -> None:
    known = get_args(choices)
    if name not in known:
        raise ValueError(f"unknown {what} {name!r}; known are {', '.join(known)}")
