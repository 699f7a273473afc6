"""A trained model, ready to draw: used by the commands and by notebooks."""

import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, Unpack

import torch
from torch import Tensor

from diffcli.core.denoiser import Denoiser, Mixture, finite
from diffcli.core.generate import Init, generate
from diffcli.core.likelihood import Score, score
from diffcli.core.parameters import SAMPLER_WITH, SamplingSettings, SettingChanges
from diffcli.core.samplers import Step
from diffcli.data.images import to_model_range, to_pixels
from diffcli.device import images_per_batch
from diffcli.errors import UsageError, as_usage_error
from diffcli.files.checkpoint import ModelDescription, load_model
from diffcli.files.locations import find_model
from diffcli.sampling.labels import Wanted, parse_labels
from diffcli.sampling.request import (
    DEFAULT_STRENGTH,
    MASKED_STRENGTH,
    Interpolation,
    SampleRequest,
)
from diffcli.sampling.start import Inversion, read_init

_STEPS_OF_OTHER_SAMPLERS = 16
_STEPS_OF_INVERSION = 50
_INVERTED_LESS = 4
_SCORED_AT_ONCE = 64


class Drawn(NamedTuple):
    """A batch of finished pictures."""

    indices: range
    """Their numbers in the request."""
    pixels: Tensor
    """uint8 ``(B, C, H, W)`` on the CPU."""


class Model:
    """A denoiser with the description in its checkpoint.

    Args:
        description: from the checkpoint.
        denoiser: trained, on the device to use.
        path: of the checkpoint.
    """

    def __init__(self, description: ModelDescription, denoiser: Denoiser, path: Path) -> None:
        self.description = description
        self.denoiser = denoiser
        self.path = path

    @classmethod
    def load(cls, path: Path, device: torch.device | str = "cpu") -> "Model":
        """Read a checkpoint.

        Raises:
            DiffcliError: if the file is missing, no checkpoint, or damaged.
        """
        description, denoiser = load_model(path)
        return cls(description, denoiser.to(device), path)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the labels."""
        return self.description.class_names

    @property
    def num_timesteps(self) -> int:
        """T of the model's schedule."""
        return self.description.schedule.num_timesteps

    def settings(
        self, base: SamplingSettings | None = None, **changes: Unpack[SettingChanges]
    ) -> SamplingSettings:
        """The settings ``base``, or the model's own, with changes.

        A guidance scale applies at all timesteps unless an interval is given with it, because an
        interval is chosen for one scale.  Another sampler makes 16 steps, ``ddpm`` all T, unless
        their number is given.

        Raises:
            UsageError: if the settings do not suit the model.
        """
        own = base or self.description.sampling
        changed: dict[str, Any] = {
            name: value for name, value in changes.items() if value is not None
        }
        used = changed.get("sampler", own.sampler)
        for name, only in SAMPLER_WITH.items():
            if name in changed and used != only:
                raise UsageError(f"the sampler {used} has no {name}; {only} has one")
        if "steps" not in changed and used != own.sampler:
            few = min(_STEPS_OF_OTHER_SAMPLERS, self.num_timesteps)
            changed["steps"] = self.num_timesteps if used == "ddpm" else few
        if "guidance_scale" in changed:
            changed.setdefault("guidance_interval", None)
        with as_usage_error():
            settings = replace(own, **changed)
        self.check(settings)
        return settings

    def inversion_settings(self) -> SamplingSettings:
        """How the noise of pictures is found, and drawn from unless something else is asked."""
        steps = min(_STEPS_OF_INVERSION, self.num_timesteps)
        return self.settings(sampler="ddim", steps=steps, guidance_scale=1.0)

    def check(self, settings: SamplingSettings) -> None:
        """Check that this model can be drawn from with these settings.

        Raises:
            UsageError: if there are more steps than timesteps, or guidance beyond the last one.
        """
        with as_usage_error():
            settings.check_timesteps(self.num_timesteps)

    def request(
        self,
        labels: Wanted,
        n: int,
        seed: int | None,
        settings: SamplingSettings,
        strength: float | None = None,
        masked: bool = False,
        inverted: tuple[int, ...] | None = None,
        weights: tuple[float, ...] | None = None,
    ) -> SampleRequest:
        """A request for ``n`` pictures of each label, from a random seed if ``seed`` is None.

        Class numbers can be given with the ``weights`` of a mixture.

        Raises:
            UsageError: if the model has no such class, or a number is out of range.
        """
        numbers, parsed = parse_labels(labels, self.class_names)
        seed = _random_seed() if seed is None else seed
        with as_usage_error():
            return SampleRequest(
                numbers, n, seed, settings, strength, masked, parsed or weights, inverted=inverted
            )

    def request_between(
        self,
        labels: Wanted,
        n: int,
        seeds: tuple[int, int] | None,
        settings: SamplingSettings,
        inverted: tuple[int, ...] | None = None,
        part: tuple[float, float] = (0.0, 1.0),
    ) -> SampleRequest:
        """A request for ``n`` pictures on the way from one label and seed to another.

        Without seeds, a random one is that of all.  ``part`` is where they begin and end on it.

        Raises:
            UsageError: if these are not two classes of the model, or a number is out of range.
        """
        numbers, weights = parse_labels(labels, self.class_names)
        if len(numbers) != 2 or weights:
            raise UsageError("an interpolation is between two labels, like 3,8 or 3,3")
        first, last = seeds or [_random_seed()] * 2
        with as_usage_error():
            way = Interpolation(last, *part)
            return SampleRequest(numbers, n, first, settings, interpolation=way, inverted=inverted)

    def init(self, picture: Path, mask: Path | None = None) -> Init:
        """A picture to start from, fitted to the size and the colours of the model.

        Args:
            picture: a file.
            mask: a file of the same size, white where the picture is drawn anew and black where
                it stays as it is; None draws all of it anew.

        Raises:
            DiffcliError: if a file cannot be read.
            UsageError: if the mask has another size, or no white.
        """
        return read_init(picture, mask, self.description.architecture.image_shape)

    def invert(self, pictures: Sequence[Path], labels: Wanted) -> Inversion:
        """Find the noise that pictures come from (DDIM inversion), to draw from it.

        Args:
            pictures: files, fitted to the size and the colours of the model; one, or two to
                interpolate between.
            labels: one for each, under which their noise is found.

        Raises:
            DiffcliError: if a file cannot be read.
            UsageError: if the model is distilled, or has no such classes.
        """
        if self.description.is_distilled:
            raise UsageError(
                f"{self.path} is distilled, and no longer draws along one way from noise to "
                "picture; its teacher does",
                "model",
            )
        numbers, weights = parse_labels(labels, self.class_names)
        if weights or len(numbers) != len(pictures):
            raise UsageError("the noise of a picture is found under one label")
        images = torch.cat([self.init(picture).images for picture in pictures])
        return Inversion(images, numbers)

    def batch_size(self, settings: SamplingSettings, inverted: bool = False) -> int:
        """How many pictures to draw at once, from noise or from that of pictures."""
        size = images_per_batch(self.denoiser.schedule.device, self.description.architecture)
        branches = 1 if settings.guidance_scale in (0, 1) else 2
        # Before the first step, which can be interrupted, noise is found in as much time.
        return max(1, size // branches // (_INVERTED_LESS if inverted else 1))

    def draw(
        self,
        request: SampleRequest,
        init: Init | Inversion | None = None,
        interrupted: Callable[[], bool] = lambda: False,
    ) -> Iterator[Drawn]:
        """Draw what is requested, a batch at a time.

        Args:
            request: labels, seeds and settings.
            init: the picture to start from, if the request has a strength; or the pictures
                whose noise to start from.
            interrupted: called after every step; if true, drawing ends, without the batch that
                is not finished.
        """
        noise = self._noise(request, init)
        for indices in request.batches(self.batch_size(request.settings, bool(request.inverted))):
            x = torch.empty(0)
            for step in self._steps(indices, request, init, noise):
                x = step.x
                if interrupted():
                    return
            yield Drawn(indices, to_pixels(x).cpu())

    def trace(self, request: SampleRequest, init: Init | Inversion | None = None) -> Iterator[Step]:
        """Draw all pictures in one batch, yielding every step."""
        return self._steps(range(len(request)), request, init, self._noise(request, init))

    def _noise(
        self, request: SampleRequest, init: Init | Inversion | None
    ) -> Callable[[range], Tensor] | None:
        """Makes the noise that pictures start from, if it is not that of their seeds."""
        return init.noise(self.denoiser, request) if isinstance(init, Inversion) else None

    def _steps(
        self,
        indices: range,
        request: SampleRequest,
        init: Init | Inversion | None,
        noise: Callable[[range], Tensor] | None,
    ) -> Iterator[Step]:
        strength = 1.0 if request.strength is None else request.strength
        numbers = torch.tensor([request.labels_of(index) for index in indices])
        weights = torch.tensor([request.weights_of(index) for index in indices])
        labels = Mixture(numbers, weights) if request.mixed else numbers[:, 0]
        seeds = [request.seed_of(index) for index in indices]
        start = init if isinstance(init, Init) else None
        given = noise(indices) if noise else None
        steps = generate(self.denoiser, labels, seeds, request.settings, start, strength, given)
        for step in steps:
            if step.s < 0:
                finite(step.x)
            yield step

    def score(
        self,
        pixels: Tensor,
        seed: int = 0,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> Score:
        """How likely pictures are, and under which label, see ``likelihood.score``.

        Args:
            pixels: uint8 ``(N, C, H, W)``.
            seed: of noise and timesteps.
            on_progress: called with the number of pictures done and of all.

        Raises:
            UsageError: if the model gives no likelihood, because it is distilled or has a single
                timestep, or the pictures have another shape or type.
            FloatingPointError: if the network's output is not finite.
        """
        if self.description.is_distilled:
            raise UsageError(
                f"{self.path} is distilled, and gives no likelihood; its teacher does", "model"
            )
        if self.num_timesteps == 1:
            raise UsageError(
                f"{self.path} has a single timestep, and likelihoods are estimated at others",
                "model",
            )
        shape = self.description.architecture.image_shape
        if pixels.shape[1:] != shape or not len(pixels) or pixels.dtype != torch.uint8:
            raise UsageError(f"pictures must be uint8 (N, {', '.join(map(str, shape))})")
        size = self.batch_size(SamplingSettings())
        parts = []
        for part in pixels.split(_SCORED_AT_ONCE):
            parts.append(score(self.denoiser, to_model_range(part), size, seed))
            if on_progress:
                on_progress(sum(len(done.bits) for done in parts), len(pixels))
        return Score(*map(torch.cat, zip(*parts, strict=True)))

    def sample(
        self,
        labels: Wanted | None = None,
        n: int = 8,
        seed: int | None = None,
        *,
        init: Init | Inversion | None = None,
        strength: float | None = None,
        **settings: Unpack[SettingChanges],
    ) -> Tensor:
        """Draw pictures.

        Args:
            labels: a class by name or number, several of them, a range ("0-4"), "all", or a
                mixture ("3:0.7,8:0.3"); None is all.
            n: pictures of each label.
            seed: of the first picture, the next one has ``seed + 1``; random if None.
            init: a picture to start from, see ``init``; or the noise of one, see ``invert``,
                whose default is the sampler ``ddim`` in 50 steps without guidance.
            strength: how much of it is changed, in (0, 1]; if None, 0.6, or with a mask 1.
            settings: what is not as the model draws by default, see ``SettingChanges``.

        Returns:
            uint8 ``(len(labels) * n, C, H, W)``, all of the first label first.

        Raises:
            UsageError: if the model has no such class, or an argument is out of range.
            FloatingPointError: if the network's output is not finite.
        """
        wanted = range(len(self.class_names)) if labels is None else labels
        inverted = init.labels if isinstance(init, Inversion) else None
        base = self.inversion_settings() if inverted else None
        used = self.settings(base, **settings)
        masked = isinstance(init, Init) and init.redrawn is not None
        if isinstance(init, Init) and strength is None:
            strength = MASKED_STRENGTH if masked else DEFAULT_STRENGTH
        elif not isinstance(init, Init) and strength is not None:
            raise UsageError("strength is how much a picture is changed, and init is none")
        request = self.request(wanted, n, seed, used, strength, masked, inverted)
        return torch.cat([drawn.pixels for drawn in self.draw(request, init)])

    def interpolate(
        self,
        labels: Wanted,
        n: int = 10,
        seeds: tuple[int, int] | None = None,
        *,
        init: Inversion | None = None,
        **settings: Unpack[SettingChanges],
    ) -> Tensor:
        """Draw pictures on the way from one label and noise to another.

        Labels change as a mixture whose weights do, and noise by spherical interpolation.

        Args:
            labels: the two.
            n: how many pictures, both ends included.
            seeds: of the noise at both ends; if None, a random one for all.
            init: the noise of two pictures instead, see ``invert``.
            settings: what is not as the model draws by default, see ``SettingChanges``.

        Returns:
            uint8 ``(n, C, H, W)``.

        Raises:
            UsageError: if these are not two classes of the model, or an argument is out of range.
        """
        base = self.inversion_settings() if init else None
        used = self.settings(base, **settings)
        request = self.request_between(labels, n, seeds, used, init.labels if init else None)
        return torch.cat([drawn.pixels for drawn in self.draw(request, init)])


def _random_seed() -> int:
    return secrets.randbelow(2**31)


def load(model: str | Path | None = None, device: torch.device | str = "cpu") -> Model:
    """Load a model to draw with.

    Args:
        model: a ``.safetensors`` file, a run by folder or name, or a shipped model (``"mnist"``,
            ``"mnist-2step"``); if None, the newest run in ``runs/``, or else the shipped digits.
        device: where to draw.

    Raises:
        UsageError: if there is no such model.
        DiffcliError: if the file is no checkpoint, or damaged.
    """
    return Model.load(find_model(None if model is None else Path(model)), device)
