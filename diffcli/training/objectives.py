"""What a step of training minimises."""

from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from diffcli.core.denoiser import Denoiser
from diffcli.core.parameters import SamplingSettings
from diffcli.core.schedule import step_plan

# The critic has to follow the student: it makes four steps before each one of the student.
_STEPS_PER_CYCLE = 5

# Where there is hardly any noise, or nothing else, the two estimates are the same.  Yin et al.
# 2024 a draw t from 0.02 T to 0.98 T; here, what is outside moves to these ends.
_EXTREME_SHARE = 0.02

_LEAST_ERROR = 1e-3


class Batch(NamedTuple):
    """What a step trains on."""

    x0: Tensor
    """Images ``(B, C, H, W)``."""
    t: Tensor
    """Timesteps ``(B,)``."""
    labels: Tensor
    """``(B,)`` in ``0 .. num_classes``."""
    augmentation: Tensor | None
    """How the images were augmented, see ``ConditionalUNet.forward``."""
    draw_noise: Callable[[], Tensor]
    """Returns fresh standard normal noise of the shape of ``x0``."""


class Objective(Protocol):
    """What a step of training minimises."""

    @property
    def critic(self) -> Denoiser | None:
        """A diffusion model of the images that the model in training draws, trained beside it.

        None if the objective needs none.
        """

    def __call__(self, denoiser: Denoiser, batch: Batch, step: int, /) -> Tensor:
        """The losses of a batch.

        Args:
            denoiser: the model in training.
            batch: to train on.
            step: number of the step.

        Returns:
            One loss per image, float32 ``(B,)``.
        """


class DiffusionLoss:
    """The loss of diffusion (Ho et al. 2020, eq. 14)."""

    critic: Denoiser | None = None

    def __call__(self, denoiser: Denoiser, batch: Batch, _step: int, /) -> Tensor:
        """The losses of a batch, see ``Objective``."""
        return denoiser.loss(
            batch.x0, batch.t, batch.labels, batch.draw_noise(), batch.augmentation
        )


class DistributionMatching:
    """Distribution matching distillation (Yin et al. 2024 a, b), with guidance distilled in.

    A student draws images in a few steps.  Its teacher and a critic, which is a diffusion model of
    the student's images, estimate these from noisy versions of them.  Where the critic's estimate
    differs from the teacher's, the student's images are too frequent or too rare; the student
    learns to move them from the one to the other (2024 a, eq. 7 and 8).  Most steps train the
    critic (2024 b, section 4.2).

    The student is trained on the noisy images that it meets when it draws (2024 b, section 4.5),
    and on noisy real ones of all noise levels, so that it can go on from a picture, too.  What it
    makes of these is compared at the same level: at another one, as in 2024 b, two steps drew
    worse and one drew better (tests/benchmarks/README.md).

    Args:
        teacher: the model that student and critic start as; it is not trained.
        critic: a copy of it.
        guidance: the teacher's scale at each timestep is that of these settings.
        steps: that the student draws in.
    """

    def __init__(
        self, teacher: Denoiser, critic: Denoiser, guidance: SamplingSettings, steps: int
    ) -> None:
        self.teacher = teacher.eval().requires_grad_(False)
        self.critic: Denoiser = critic
        count = teacher.schedule.num_timesteps
        scales = [guidance.guidance_at(t) for t in range(count)]
        self._scales = torch.tensor(scales, device=teacher.schedule.device)
        self._guided = any(scale != 1 for scale in scales)
        self._plan = [t for t, _ in step_plan(count, steps)]

    def __call__(self, denoiser: Denoiser, batch: Batch, step: int, /) -> Tensor:
        """The losses of the critic, or in every fifth step of the student.

        How images were augmented is not told: the student draws, and drawings are not augmented.
        """
        t, labels, draw_noise = batch.t, batch.labels, batch.draw_noise
        learns = step % _STEPS_PER_CYCLE == _STEPS_PER_CYCLE - 1
        inputs, at = self._inputs(denoiser, batch)
        with torch.set_grad_enabled(learns and torch.is_grad_enabled()):
            images = estimate_x0(denoiser, inputs, at, labels)
        if not learns:
            return self.critic.loss(images.clamp(-1, 1), t, labels, draw_noise())
        with torch.no_grad():
            margin = round(_EXTREME_SHARE * len(self._scales))
            t = t.clamp(margin, len(self._scales) - 1 - margin)
            # Clipped, as all estimates are: the loss then leads back what is out of range, where
            # teacher and critic agree whatever the student does.
            drawn = images.clamp(-1, 1)
            x_t = denoiser.schedule.add_noise(drawn, t, draw_noise())
            scales = self._scales[t] if self._guided else 1.0
            real = estimate_x0(self.teacher, x_t, t, labels, scales).clamp(-1, 1)
            fake = estimate_x0(self.critic, x_t, t, labels).clamp(-1, 1)
            error = (drawn - real).abs().mean(dim=(1, 2, 3), keepdim=True)
            target = drawn - (fake - real) / error.clamp(min=_LEAST_ERROR)
        return (images - target).square().mean(dim=(1, 2, 3)) / 2

    @torch.no_grad()
    def _inputs(self, denoiser: Denoiser, batch: Batch) -> tuple[Tensor, Tensor]:
        """Noisy images of the student's steps and of the data, and their timesteps."""
        x0, t, labels, _, draw_noise = batch
        schedule = denoiser.schedule
        # Each step, and the data, is the kind of an equal share of the images.  The remainder is
        # as good as random, and does not depend on the place in the batch.
        kind = t % (len(self._plan) + 1)
        x, inputs, at = draw_noise(), schedule.add_noise(x0, t, draw_noise()), t
        for number, now in enumerate(self._plan):
            chosen = kind == number
            inputs = x.where(chosen[:, None, None, None], inputs)
            at = torch.where(chosen, now, at)
            if number + 1 < len(self._plan):
                drawn = estimate_x0(denoiser, x, torch.full_like(t, now), labels).clamp(-1, 1)
                x = schedule.add_noise(drawn, self._plan[number + 1], draw_noise())
        return inputs, at


def estimate_x0(
    denoiser: Denoiser,
    x_t: Tensor,
    t: Tensor,
    labels: Tensor,
    guidance_scale: float | Tensor = 1.0,
) -> Tensor:
    """The estimate of the images in ``x_t``, see ``Denoiser.forward``.

    It is not computed in bfloat16, which rounds off more than two estimates differ by.  On CUDA,
    products are in TF32, which rounds an eighth as much.
    """
    with torch.autocast(x_t.device.type, enabled=False):
        x0: Tensor = denoiser(x_t, t, labels, guidance_scale).x0
    return x0
