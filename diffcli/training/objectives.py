"""What a step of training minimises, if not the loss of diffusion."""

from collections.abc import Callable

import torch
from torch import Tensor

from diffcli.core.denoiser import Denoiser
from diffcli.core.parameters import SamplingSettings

Objective = Callable[[Denoiser, Tensor, Tensor, Tensor, Tensor], Tensor]
"""From a denoiser in training, images, timesteps, labels and noise to a loss per image.

Shapes are those of ``Denoiser.loss``, which is the objective of diffusion.
"""

# The noise level of the target over that of the student's input.
_LEVEL_RATIO = 0.6


class ConsistencyLoss:
    """Consistency distillation (Song et al. 2023, algorithm 2), with guidance distilled in.

    A consistency model maps every point of a trajectory of the probability flow to its end, a
    clean image.  The student learns to give the same at two points of a trajectory of its
    teacher: from the noisier one, at ``t``, a DDIM step of the teacher leads to the other, at
    ``r``, where the student's own answer is the target.  The teacher is guided (Luo et al. 2023,
    section 4.2), so that the student needs no guidance.

    Args:
        teacher: the model that the student starts as; it is not trained.
        guidance: the scale at each timestep is that of these settings.
    """

    def __init__(self, teacher: Denoiser, guidance: SamplingSettings) -> None:
        self.teacher = teacher.eval().requires_grad_(False)
        schedule = teacher.schedule
        self._noise_level = schedule.sigma / schedule.alpha
        scales = [guidance.guidance_at(t) for t in range(schedule.num_timesteps)]
        self._scales = torch.tensor(scales, device=schedule.device)
        self._guided = any(scale != 1 for scale in scales)

    def __call__(
        self,
        denoiser: Denoiser,
        x0: Tensor,
        t: Tensor,
        labels: Tensor,
        epsilon: Tensor,
    ) -> Tensor:
        """The losses, as of ``Denoiser.loss``; an error of the image counts 1 / sigma_t^2."""
        schedule = denoiser.schedule
        x_t = schedule.add_noise(x0, t, epsilon)
        alpha, sigma = schedule.alpha_sigma(t)
        with torch.no_grad():
            x0 = self._estimate(x_t, t, labels)
            epsilon = (x_t - alpha * x0) / sigma
            r = self.earlier(t)
            clean = (r < 0)[:, None, None, None]
            r = r.clamp(min=0)
            target = self._end(denoiser, schedule.add_noise(x0, r, epsilon), r, labels)
            target = x0.where(clean, target.clamp(-1, 1))
        error = self._end(denoiser, x_t, t, labels) - target
        return (error / sigma).square().mean(dim=(1, 2, 3))

    def earlier(self, t: Tensor) -> Tensor:
        """The timesteps ``r`` of timesteps ``t``, both ``(B,)``; -1 is clean."""
        level = _LEVEL_RATIO * self._noise_level[t]
        return torch.minimum(torch.searchsorted(self._noise_level, level, right=True), t) - 1

    @staticmethod
    def _end(denoiser: Denoiser, x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        """The end of the trajectory through ``x``, float32."""
        return denoiser.estimate(x, t, denoiser.network(x, t, labels).float()).x0

    def _estimate(self, x_t: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        """The guided teacher's estimate of the images."""
        if not self._guided:
            return self._end(self.teacher, x_t, t, labels).clamp(-1, 1)
        no_label = torch.full_like(labels, self.teacher.network.no_label)
        both = self._end(
            self.teacher, x_t.repeat(2, 1, 1, 1), t.repeat(2), torch.cat([labels, no_label])
        )
        conditional, unconditional = both.chunk(2)
        scale = self._scales[t][:, None, None, None]
        return torch.lerp(unconditional, conditional, scale).clamp(-1, 1)
