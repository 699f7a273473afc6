"""What a step of training minimises: the loss of diffusion, or that of a consistency model."""

from typing import Protocol

import torch
from torch import Tensor

from diffcli.core.denoiser import Denoiser
from diffcli.core.parameters import SamplingSettings


class Objective(Protocol):
    """A loss per image."""

    def __call__(
        self,
        denoiser: Denoiser,
        x0: Tensor,
        t: Tensor,
        labels: Tensor,
        epsilon: Tensor,
        progress: float,
    ) -> Tensor:
        """The losses, float32 ``(B,)``.

        Args:
            denoiser: in training.
            x0: images ``(B, C, H, W)``.
            t: timesteps ``(B,)``.
            labels: ``(B,)`` in ``0 .. num_classes``.
            epsilon: standard normal noise, of the shape of ``x0``.
            progress: the share of the run that is done, 0 .. 1.
        """


def diffusion_loss(
    denoiser: Denoiser, x0: Tensor, t: Tensor, labels: Tensor, epsilon: Tensor, progress: float
) -> Tensor:
    """The mean squared error of the network's prediction, see ``Denoiser.loss``."""
    del progress
    return denoiser.loss(x0, t, labels, epsilon)


# The gap starts at half of the noise level and is halved so often during the run.
_HALVINGS = 5.0


class ConsistencyLoss:
    """Easy consistency tuning (Geng et al. 2024, section 3), with guidance distilled in.

    A consistency model maps every point of a trajectory of the probability flow to its end, the
    clean image.  It is trained to give the same at two points of a trajectory, where the less
    noisy one, at ``r < t``, is the target.  Their distance shrinks in the run: at first ``r``
    is clean for the low noise levels, which is training of diffusion.

    The way from ``t`` to ``r`` leads along the true image of the pair, whose mean is what a
    denoiser would estimate.  Guidance (Ho & Salimans 2022) shifts that image by what the teacher
    says.

    Args:
        teacher: the model that the student starts as; it is not trained.
        guidance: the scale at each timestep is that of these settings.
    """

    def __init__(self, teacher: Denoiser, guidance: SamplingSettings) -> None:
        self.teacher = teacher.eval().requires_grad_(False)
        schedule = teacher.schedule
        self._noise_level = schedule.sigma / schedule.alpha
        scales = [guidance.guidance_at(t) for t in range(schedule.num_timesteps)]
        self._extra = torch.tensor(scales, device=schedule.device) - 1
        self._guided = bool(self._extra.any())

    def __call__(
        self,
        denoiser: Denoiser,
        x0: Tensor,
        t: Tensor,
        labels: Tensor,
        epsilon: Tensor,
        progress: float,
    ) -> Tensor:
        """The losses, see ``Objective``."""
        schedule = denoiser.schedule
        x_t = schedule.add_noise(x0, t, epsilon)
        r = self.earlier(t, progress)
        with torch.no_grad():
            if self._guided:
                x0 = x0 + self._shift(x_t, t, labels)
            alpha, sigma = schedule.alpha_sigma(t)
            epsilon = (x_t - alpha * x0) / sigma
            clean = (r < 0)[:, None, None, None]
            r = r.clamp(min=0)
            x_r = schedule.add_noise(x0, r, epsilon)
            target = x0.where(clean, self._end(denoiser, x_r, r, labels)).clamp(-1, 1)
        error = self._end(denoiser, x_t, t, labels) - target
        return (error / sigma).square().mean(dim=(1, 2, 3))

    def earlier(self, t: Tensor, progress: float) -> Tensor:
        """The less noisy timestep of each pair, ``(B,)``; -1 is clean."""
        level = self._noise_level[t]
        gap = 0.5 ** (1 + _HALVINGS * progress)
        # Wider below a noise level of 1, where neighbours are alike (section 3.2).
        share = gap * (1 + 8 * torch.sigmoid(-level))
        lower = torch.searchsorted(self._noise_level, level * (1 - share), right=True) - 1
        return torch.minimum(lower, t - 1)

    @staticmethod
    def _end(denoiser: Denoiser, x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        """The end of the trajectory through ``x``, float32."""
        return denoiser.estimate(x, t, denoiser.network(x, t, labels).float()).x0

    def _shift(self, x_t: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        """What guidance adds to the estimate of the image."""
        network = self.teacher.network
        no_label = torch.full_like(labels, network.no_label)
        both = network(torch.cat([x_t, x_t]), torch.cat([t, t]), torch.cat([labels, no_label]))
        with_label, without = (
            self.teacher.estimate(x_t, t, prediction).x0 for prediction in both.float().chunk(2)
        )
        return self._extra[t][:, None, None, None] * (with_label - without)
