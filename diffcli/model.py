"""A trained model, ready to draw: what the commands use, and notebooks too."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from diffcli.core.denoiser import Denoiser
from diffcli.core.generate import SamplingSettings, generate
from diffcli.core.samplers import SamplerName
from diffcli.data.images import to_pixels
from diffcli.errors import UsageError
from diffcli.files.checkpoint import ModelDescription, load_model

_BATCH = 250


class Model:
    """A denoiser with what its checkpoint says of it.

    Args:
        description: from the checkpoint.
        denoiser: trained, on the device to use.
    """

    def __init__(self, description: ModelDescription, denoiser: Denoiser) -> None:
        self.description = description
        self.denoiser = denoiser

    @classmethod
    def load(cls, path: Path, device: torch.device | str = "cpu") -> "Model":
        """Read a checkpoint.

        Raises:
            DiffcliError: if the file is missing, no checkpoint, or damaged.
        """
        description, denoiser = load_model(path)
        return cls(description, denoiser.to(device))

    @property
    def class_names(self) -> tuple[str, ...]:
        """What the labels mean."""
        return self.description.class_names

    def settings(
        self, sampler: SamplerName | None, steps: int | None, guidance_scale: float | None
    ) -> SamplingSettings:
        """The model's own settings where nothing else is asked for.

        Raises:
            UsageError: if the number of steps does not suit the schedule or the sampler.
        """
        own = self.description.sampling
        num_timesteps = self.description.schedule.num_timesteps
        sampler = sampler or own.sampler
        if steps is None:
            steps = own.steps if sampler == own.sampler else None
        if steps is None:
            steps = num_timesteps if sampler == "ddpm" else min(16, num_timesteps)
        if not 1 <= steps <= num_timesteps:
            raise UsageError(f"--steps must be in 1 .. {num_timesteps} for this model, not {steps}")
        if sampler == "ddpm" and steps != num_timesteps:
            raise UsageError(
                f"the ddpm sampler takes all {num_timesteps} steps; "
                "leave --steps out, or choose --sampler ddim or dpmpp"
            )
        scale = own.guidance_scale if guidance_scale is None else guidance_scale
        return SamplingSettings(sampler, steps, scale)

    def sample(
        self, labels: Sequence[int], seeds: Sequence[int], settings: SamplingSettings | None = None
    ) -> Tensor:
        """Draw pictures.

        Args:
            labels: a class number per picture.
            seeds: a seed per picture; it, the label and the settings decide the picture.
            settings: those of the model if absent.

        Returns:
            uint8 ``(N, C, H, W)``, on the CPU.
        """
        wanted = torch.tensor(labels)
        pictures = []
        for start in range(0, len(labels), _BATCH):
            batch = slice(start, start + _BATCH)
            *_, last = generate(
                self.denoiser, wanted[batch], seeds[batch], settings or self.description.sampling
            )
            pictures.append(to_pixels(last.x).cpu())
        return torch.cat(pictures)
