"""A trained model, ready to draw: what the commands use, and notebooks too."""

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from diffcli.core.denoiser import Denoiser
from diffcli.core.generate import Beginning, SamplingSettings, generate
from diffcli.core.samplers import SamplerName, Step
from diffcli.data.images import to_pixels
from diffcli.errors import UsageError
from diffcli.files.checkpoint import ModelDescription, load_model
from diffcli.files.models import find_model
from diffcli.labels import parse_labels
from diffcli.request import Batch, SampleRequest

_STEPS_ELSEWHERE = 16  # of a sampler that is not the model's own

# Large enough for the convolutions to be fast, small enough for what passes between two of
# them to stay in a processor's cache; see tests/benchmarks/sampling_speed.py.
_PIXELS_PER_BATCH = {"cpu": 64 * 28 * 28, "cuda": 4096 * 28 * 28, "mps": 512 * 28 * 28}


class Drawn(NamedTuple):
    """A batch of finished pictures: which they are, and uint8 ``(B, C, H, W)`` on the CPU."""

    batch: Batch
    pixels: Tensor


class Model:
    """A denoiser with what its checkpoint says of it.

    Args:
        description: from the checkpoint.
        denoiser: trained, on the device to use.
        path: the checkpoint, if it came from one.
    """

    def __init__(
        self, description: ModelDescription, denoiser: Denoiser, path: Path | None = None
    ) -> None:
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
        """What the labels mean."""
        return self.description.class_names

    def settings(
        self,
        sampler: SamplerName | None = None,
        steps: int | None = None,
        guidance_scale: float | None = None,
        guidance_interval: tuple[int, int] | None = None,
        base: SamplingSettings | None = None,
    ) -> SamplingSettings:
        """The model's own settings, or ``base``, where nothing else is asked for.

        Another guidance scale than the model's own applies at all timesteps, unless an interval
        is given with it: the model's own interval was chosen for its own scale.

        Raises:
            UsageError: if the settings do not suit the model.
        """
        own = base or self.description.sampling
        num_timesteps = self.description.schedule.num_timesteps
        chosen = sampler or own.sampler
        if steps is None and chosen == own.sampler:
            steps = own.steps
        elif steps is None:
            steps = num_timesteps if chosen == "ddpm" else min(_STEPS_ELSEWHERE, num_timesteps)
        if guidance_interval is None and (base or guidance_scale is None):
            guidance_interval = own.guidance_interval
        try:
            settings = replace(
                own,
                sampler=chosen,
                steps=steps,
                guidance_scale=own.guidance_scale if guidance_scale is None else guidance_scale,
                guidance_interval=guidance_interval,
            )
        except ValueError as error:
            raise UsageError(str(error)) from error
        self.check(settings)
        return settings

    def check(self, settings: SamplingSettings) -> None:
        """Refuse settings that this model cannot follow.

        Raises:
            UsageError: if the number of steps does not suit the schedule.
        """
        num_timesteps = self.description.schedule.num_timesteps
        if settings.steps > num_timesteps:
            raise UsageError(
                f"--steps must be in 1 .. {num_timesteps} for this model, not {settings.steps}"
            )

    def request(
        self,
        labels: Sequence[str | int],
        n: int,
        seed: int | None,
        settings: SamplingSettings,
        strength: float | None = None,
    ) -> SampleRequest:
        """Ask for ``n`` pictures of each label; without a seed, from a random one.

        Raises:
            UsageError: if the model has no such class, or a number is out of range.
        """
        numbers = tuple(parse_labels(labels, self.class_names))
        seed = secrets.randbelow(2**31) if seed is None else seed
        try:
            return SampleRequest(numbers, n, seed, settings, strength)
        except ValueError as error:
            raise UsageError(str(error)) from error

    def batch_size(self, settings: SamplingSettings) -> int:
        """How many pictures to draw at once."""
        architecture = self.description.architecture
        pixels = _PIXELS_PER_BATCH.get(self.denoiser.schedule.signal.device.type, 64 * 28 * 28)
        size = pixels // (architecture.image_height * architecture.image_width)
        branches = 1 if settings.guidance_scale in (0, 1) else 2
        return max(1, size // branches)

    def draw(self, request: SampleRequest, init: Tensor | None = None) -> Iterator[Drawn]:
        """Draw what is asked for, a batch at a time.

        Args:
            request: labels, seeds and settings.
            init: the picture to start from, float32 ``(1, C, H, W)`` in [-1, 1], where the
                request has a strength.
        """
        for batch in request.batches(self.batch_size(request.settings)):
            *_, last = self._steps(batch, request, init)
            yield Drawn(batch, to_pixels(last.x).cpu())

    def trace(self, request: SampleRequest, init: Tensor | None = None) -> Iterator[Step]:
        """Draw all pictures in one batch, yielding every step on the way."""
        for batch in request.batches(len(request)):
            yield from self._steps(batch, request, init)

    def _steps(self, batch: Batch, request: SampleRequest, init: Tensor | None) -> Iterator[Step]:
        beginning = None
        if init is not None and request.strength is not None:
            beginning = Beginning(init, request.strength)
        labels = torch.tensor(batch.labels)
        return generate(self.denoiser, labels, batch.seeds, request.settings, beginning)

    def sample(
        self,
        labels: str | int | Sequence[str | int] = "all",
        n: int = 8,
        seed: int | None = None,
        *,
        sampler: SamplerName | None = None,
        steps: int | None = None,
        guidance_scale: float | None = None,
    ) -> Tensor:
        """Draw pictures.

        Args:
            labels: a class by name or number, several of them, a range ("0-4"), or "all".
            n: pictures of each.
            seed: of the first picture, the next one has ``seed + 1``; random if absent.
            sampler: ``ddpm``, ``ddim``, ``dpmpp`` or ``dpmpp-sde``; the model's own if absent, like
                the rest.
            steps: network evaluations per picture.
            guidance_scale: 1 is plain conditional, 0 ignores the label.

        Returns:
            uint8 ``(len(labels) * n, C, H, W)``, all of the first label first.

        Raises:
            UsageError: if the model has no such class, or cannot draw so.
        """
        wanted = [labels] if isinstance(labels, str | int) else labels
        settings = self.settings(sampler, steps, guidance_scale)
        request = self.request(wanted, n, seed, settings)
        return torch.cat([drawn.pixels for drawn in self.draw(request)])


def load(model: str | Path | None = None, device: torch.device | str = "cpu") -> Model:
    """Load a model.

    Args:
        model: a ``.safetensors`` file, or a run by folder or name; the newest run under
            ``runs/`` if absent, else the digits that are shipped.
        device: where to draw.

    Raises:
        UsageError: if there is no such model.
        DiffcliError: if the file is no checkpoint, or damaged.
    """
    return Model.load(find_model(None if model is None else Path(model)), device)
