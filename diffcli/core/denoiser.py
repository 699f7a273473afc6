"""A network, a schedule and a prediction type make a denoiser."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from diffcli.core.schedule import NoiseSchedule
from diffcli.core.unet import ConditionalUNet

PredictionType = Literal["epsilon", "v_prediction"]


class Estimate(NamedTuple):
    """What a denoiser makes of noisy images: the clean images and the noise, ``(B, C, H, W)``."""

    x0: Tensor
    epsilon: Tensor

    def clipped(self, schedule: NoiseSchedule, x_t: Tensor, t: Tensor) -> "Estimate":
        """The same with ``x0`` inside [-1, 1] and ``epsilon`` derived again from it.

        Without the second half the two would no longer add up to ``x_t``, and at timesteps
        with little signal left ``epsilon`` would carry the error that clipping removed.
        """
        x0 = self.x0.clamp(-1, 1)
        return Estimate(x0, schedule.epsilon_from_x0(x_t, x0, t))


class Denoiser(nn.Module):
    """Turns a network's prediction into an estimate of the image and of the noise.

    Args:
        network: predicts ``epsilon`` or ``v``.
        schedule: the process that the network was trained on.
        prediction_type: which of the two.
    """

    def __init__(
        self, network: ConditionalUNet, schedule: NoiseSchedule, prediction_type: PredictionType
    ) -> None:
        super().__init__()
        self.network = network
        self.schedule = schedule
        self.prediction_type = prediction_type

    def target(self, x0: Tensor, epsilon: Tensor, t: Tensor) -> Tensor:
        """What the network should answer for ``x0`` noised with ``epsilon`` at ``t``."""
        if self.prediction_type == "epsilon":
            return epsilon
        return self.schedule.velocity(x0, epsilon, t)

    def forward(
        self, x_t: Tensor, t: Tensor, labels: Tensor, guidance_scale: float = 1.0
    ) -> Estimate:
        """Estimate the image and the noise in ``x_t``, with classifier-free guidance.

        The guided prediction is ``uncond + scale * (cond - uncond)`` (Ho & Salimans 2022,
        eq. 6, whose ``w`` is ``scale - 1``): scale 1 is plain conditional, 0 unconditional.
        Each costs one evaluation; any other scale evaluates both branches in one batch.

        Args:
            x_t: noisy images ``(B, C, H, W)``.
            t: timesteps ``(B,)``, or ``(1,)`` for all images the same.
            labels: ``(B,)`` in ``0 .. num_classes``.
            guidance_scale: see above.
        """
        none = torch.full_like(labels, self.network.no_label)
        if guidance_scale == 1:
            prediction = self.network(x_t, t, labels)
        elif guidance_scale == 0:
            prediction = self.network(x_t, t, none)
        else:
            both = torch.cat([x_t, x_t])
            twice = t if len(t) == 1 else torch.cat([t, t])
            conditional, unconditional = self.network(both, twice, torch.cat([labels, none])).chunk(
                2
            )
            prediction = torch.lerp(unconditional, conditional, guidance_scale)
        if self.prediction_type == "epsilon":
            return Estimate(self.schedule.x0_from_epsilon(x_t, prediction, t), prediction)
        return Estimate(
            self.schedule.x0_from_velocity(x_t, prediction, t),
            self.schedule.epsilon_from_velocity(x_t, prediction, t),
        )
