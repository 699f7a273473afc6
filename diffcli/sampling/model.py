"""A trained model, ready to draw: used by the commands and by notebooks."""

import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from diffcli.core.denoiser import Denoiser
from diffcli.core.generate import Init, generate
from diffcli.core.likelihood import Score, score
from diffcli.core.parameters import SamplerName, SamplingSettings, Variance
from diffcli.core.samplers import Step
from diffcli.data.images import to_model_range, to_pixels
from diffcli.device import images_per_batch
from diffcli.errors import UsageError
from diffcli.files.checkpoint import ModelDescription, load_model
from diffcli.files.locations import find_model
from diffcli.files.pictures import fitted, from_pillow
from diffcli.files.reading import open_picture
from diffcli.sampling.labels import parse_labels
from diffcli.sampling.request import (
    DEFAULT_STRENGTH,
    MASKED_STRENGTH,
    Batch,
    SampleRequest,
)

_STEPS_OF_OTHER_SAMPLERS = 16
_WHITE = 128
_SCORED_AT_ONCE = 64


class Drawn(NamedTuple):
    """A batch of finished pictures."""

    batch: Batch
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
        self,
        sampler: SamplerName | None = None,
        steps: int | None = None,
        guidance_scale: float | None = None,
        guidance_interval: tuple[int, int] | None = None,
        variance: Variance | None = None,
        base: SamplingSettings | None = None,
    ) -> SamplingSettings:
        """The settings ``base``, or the model's own, with those changed that are not None.

        A guidance scale applies at all timesteps unless an interval is given with it, because the
        model's own interval was chosen for its own scale.

        Raises:
            UsageError: if the settings do not suit the model.
        """
        own = base or self.description.sampling
        changes: dict[str, Any] = {
            "sampler": sampler,
            "guidance_scale": guidance_scale,
            "guidance_interval": guidance_interval,
            "variance": variance,
            "steps": steps,
        }
        changes = {name: value for name, value in changes.items() if value is not None}
        if steps is None and sampler not in (None, own.sampler):
            few = min(_STEPS_OF_OTHER_SAMPLERS, self.num_timesteps)
            changes["steps"] = self.num_timesteps if sampler == "ddpm" else few
        if guidance_scale is not None and base is None:
            changes["guidance_interval"] = guidance_interval
        try:
            settings = replace(own, **changes)
        except ValueError as error:
            raise UsageError(str(error)) from error
        self.check(settings)
        return settings

    def check(self, settings: SamplingSettings) -> None:
        """Check that this model can be drawn from with these settings.

        Raises:
            UsageError: if there are more steps than timesteps.
        """
        if settings.steps > self.num_timesteps:
            raise UsageError(
                f"steps must be in 1 .. {self.num_timesteps} for this model, not {settings.steps}"
            )

    def request(
        self,
        labels: Sequence[str | int],
        n: int,
        seed: int | None,
        settings: SamplingSettings,
        strength: float | None = None,
        masked: bool = False,
    ) -> SampleRequest:
        """A request for ``n`` pictures of each label, from a random seed if ``seed`` is None.

        Raises:
            UsageError: if the model has no such class, or a number is out of range.
        """
        numbers = tuple(parse_labels(labels, self.class_names))
        seed = secrets.randbelow(2**31) if seed is None else seed
        try:
            return SampleRequest(numbers, n, seed, settings, strength, masked)
        except ValueError as error:
            raise UsageError(str(error)) from error

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
        channels, height, width = self.description.architecture.image_shape
        original = open_picture(picture)
        images = to_model_range(from_pillow(fitted(original, channels, height, width))[None])
        if mask is None:
            return Init(images)
        drawn = open_picture(mask)
        if drawn.size != original.size:
            raise UsageError(
                f"the mask {mask} has {drawn.width}x{drawn.height} pixels and {picture} has "
                f"{original.width}x{original.height}; a mask has the size of its picture"
            )
        redrawn = from_pillow(fitted(drawn, 1, height, width))[None] >= _WHITE
        if not redrawn.any():
            raise UsageError(
                f"the mask {mask} has no white, so nothing would be drawn; paint white what is "
                "to be drawn anew"
            )
        return Init(images, redrawn)

    def batch_size(self, settings: SamplingSettings) -> int:
        """How many pictures to draw at once."""
        _, height, width = self.description.architecture.image_shape
        size = images_per_batch(self.denoiser.schedule.device, height * width)
        branches = 1 if settings.guidance_scale in (0, 1) else 2
        return max(1, size // branches)

    def draw(
        self,
        request: SampleRequest,
        init: Init | None = None,
        interrupted: Callable[[], bool] = lambda: False,
    ) -> Iterator[Drawn]:
        """Draw what is requested, a batch at a time.

        Args:
            request: labels, seeds and settings.
            init: the picture to start from, if the request has a strength.
            interrupted: called after every step; if true, drawing ends, without the batch that
                is not finished.
        """
        for batch in request.batches(self.batch_size(request.settings)):
            x = torch.empty(0)
            for step in self._steps(batch, request, init):
                x = step.x
                if interrupted():
                    return
            yield Drawn(batch, to_pixels(x).cpu())

    def trace(self, request: SampleRequest, init: Init | None = None) -> Iterator[Step]:
        """Draw all pictures in one batch, yielding every step."""
        for batch in request.batches(len(request)):
            yield from self._steps(batch, request, init)

    def _steps(self, batch: Batch, request: SampleRequest, init: Init | None) -> Iterator[Step]:
        strength = 1.0 if request.strength is None else request.strength
        labels = torch.tensor(batch.labels)
        return generate(self.denoiser, labels, batch.seeds, request.settings, init, strength)

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
            UsageError: if the model is distilled, and gives no likelihood, or the pictures have
                another shape.
        """
        if self.description.is_distilled:
            raise UsageError(
                f"{self.path} is distilled, and gives no likelihood; its teacher does", "model"
            )
        shape = self.description.architecture.image_shape
        if pixels.shape[1:] != shape or not len(pixels):
            raise UsageError(f"pictures must be (N, {', '.join(map(str, shape))})")
        parts = []
        for part in pixels.split(_SCORED_AT_ONCE):
            size = self.batch_size(SamplingSettings())
            parts.append(score(self.denoiser, to_model_range(part), size, seed))
            if on_progress:
                on_progress(sum(len(done.bits) for done in parts), len(pixels))
        return Score(*map(torch.cat, zip(*parts, strict=True)))

    def sample(
        self,
        labels: str | int | Sequence[str | int] = "all",
        n: int = 8,
        seed: int | None = None,
        *,
        sampler: SamplerName | None = None,
        steps: int | None = None,
        guidance_scale: float | None = None,
        init: Init | None = None,
        strength: float | None = None,
    ) -> Tensor:
        """Draw pictures.

        Args:
            labels: a class by name or number, several of them, a range ("0-4"), or "all".
            n: pictures of each label.
            seed: of the first picture, the next one has ``seed + 1``; random if None.
            sampler: a name in ``samplers.SAMPLERS``; the model's own if None, like the rest.
            steps: number of steps.
            guidance_scale: 1 is plain conditional, 0 ignores the label.
            init: a picture to start from, see ``init``.
            strength: how much of it is changed, in (0, 1]; if None, 0.6, or with a mask 1.

        Returns:
            uint8 ``(len(labels) * n, C, H, W)``, all of the first label first.

        Raises:
            UsageError: if the model has no such class, or an argument is out of range.
        """
        wanted = [labels] if isinstance(labels, str | int) else labels
        settings = self.settings(sampler, steps, guidance_scale)
        masked = init is not None and init.redrawn is not None
        if init is not None and strength is None:
            strength = MASKED_STRENGTH if masked else DEFAULT_STRENGTH
        request = self.request(wanted, n, seed, settings, strength, masked)
        return torch.cat([drawn.pixels for drawn in self.draw(request, init)])


def load(model: str | Path | None = None, device: torch.device | str = "cpu") -> Model:
    """Load a model to draw with.

    Args:
        model: a ``.safetensors`` file, or a run by folder or name; if None, the newest run in
            ``runs/``, or else the shipped digits.
        device: where to draw.

    Raises:
        UsageError: if there is no such model.
        DiffcliError: if the file is no checkpoint, or damaged.
    """
    return Model.load(find_model(None if model is None else Path(model)), device)
