"""The samples of a run: some of each class, always of the same seeds, to be compared."""

import torch
from torch import Tensor

from diffcli.core.denoiser import Denoiser
from diffcli.core.generate import count_evaluations, generate
from diffcli.core.parameters import SamplingSettings
from diffcli.data.images import to_pixels

COLUMNS = 8
_MOST_ROWS = 10


def draw_samples(denoiser: Denoiser, settings: SamplingSettings) -> Tensor:
    """Pictures of each class but those after the tenth, uint8 ``(N, C, H, W)`` on the CPU."""
    labels = _labels(denoiser)
    *_, last = generate(denoiser, labels, range(len(labels)), settings)
    return to_pixels(last.x).cpu()


def cost_of_samples(denoiser: Denoiser, settings: SamplingSettings) -> int:
    """How many evaluations of the network, of one image each, these pictures take."""
    each = count_evaluations(settings, denoiser.schedule.num_timesteps)
    return len(_labels(denoiser)) * each


def _labels(denoiser: Denoiser) -> Tensor:
    classes = min(denoiser.network.config.num_classes, _MOST_ROWS)
    return torch.arange(classes).repeat_interleave(COLUMNS)
