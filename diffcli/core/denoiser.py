"""A denoiser: a network, a schedule, and what the network predicts."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from diffcli.core.parameters import PredictionType
from diffcli.core.schedule import NoiseSchedule
from diffcli.core.unet import ConditionalUNet

Weights = tuple[Any, Any]
"""``a`` and ``b``, floats or tensors as ``alpha_t`` and ``sigma_t`` are."""

PREDICTION_TYPES: dict[PredictionType, Callable[[Any, Any], Weights]] = {
    "epsilon": lambda _alpha, _sigma: (0.0, 1.0),  # Ho et al. 2020, eq. 14
    "x0": lambda _alpha, _sigma: (1.0, 0.0),
    "v_prediction": lambda alpha, sigma: (-sigma, alpha),  # Salimans & Ho 2022, section 4
    # Liu et al. 2023, eq. 1, with the other sign: from the image to the noise.
    "flow": lambda _alpha, _sigma: (-1.0, 1.0),
}
"""From ``alpha_t, sigma_t`` to ``a, b``: the network predicts ``a * x_0 + b * epsilon``."""


class Estimate(NamedTuple):
    """Estimates of the clean images and of the noise in noisy ones, each ``(B, C, H, W)``."""

    x0: Tensor
    epsilon: Tensor


class Mixture(NamedTuple):
    """Several labels of each image at once, see ``Denoiser.forward``."""

    labels: Tensor
    """int64 ``(B, K)`` in ``0 .. num_classes``."""
    weights: Tensor
    """float32 ``(B, K)``; a negative one leads away from its label."""

    def to(self, device: torch.device) -> "Mixture":
        """The same on a device."""
        return Mixture(self.labels.to(device), self.weights.to(device))


def finite(output: Tensor) -> Tensor:
    """What a network gave, checked.

    Raises:
        FloatingPointError: if it is not finite.  The weights in a file are, but may be huge.
    """
    if not bool(torch.isfinite(output).all()):
        raise FloatingPointError("the network's output is not finite, because of huge weights")
    return output


class Denoiser(nn.Module):
    """Estimates the clean image and the noise from a network's prediction.

    Args:
        network: predicts what ``prediction_type`` says.
        schedule: the process that the network is trained on.
        prediction_type: a name in ``PREDICTION_TYPES``.

    Raises:
        ValueError: if there is no such prediction type.
    """

    def __init__(
        self, network: ConditionalUNet, schedule: NoiseSchedule, prediction_type: PredictionType
    ) -> None:
        super().__init__()
        if prediction_type not in PREDICTION_TYPES:
            raise ValueError(
                f"unknown prediction type {prediction_type!r}; known are "
                f"{', '.join(PREDICTION_TYPES)}"
            )
        self.network = network
        self.schedule = schedule
        self.prediction_type = prediction_type

    def target(self, x0: Tensor, t: Tensor, epsilon: Tensor) -> Tensor:
        """What the network should predict for ``x0`` noised with ``epsilon`` at ``t`` ``(B,)``."""
        a, b = PREDICTION_TYPES[self.prediction_type](*self.schedule.alpha_sigma(t))
        return a * x0 + b * epsilon

    def loss(
        self,
        x0: Tensor,
        t: Tensor,
        labels: Tensor,
        epsilon: Tensor,
        augmentation: Tensor | None = None,
    ) -> Tensor:
        """Mean squared error of the network's prediction (Ho et al. 2020, eq. 14).

        Args:
            x0: images ``(B, C, H, W)``.
            t: timesteps ``(B,)``.
            labels: ``(B,)`` in ``0 .. num_classes``.
            epsilon: standard normal noise, of the shape of ``x0``.
            augmentation: how the images were augmented, see ``ConditionalUNet.forward``.

        Returns:
            One loss per image, float32 ``(B,)``.
        """
        x_t = self.schedule.add_noise(x0, t, epsilon)
        prediction = self.network(x_t, t, labels, augmentation)
        return (prediction.float() - self.target(x0, t, epsilon)).square().mean(dim=(1, 2, 3))

    def forward(
        self,
        x_t: Tensor,
        t: int | Tensor,
        labels: Tensor | Mixture,
        guidance_scale: float | Tensor = 1.0,
    ) -> Estimate:
        """Estimate the image and the noise in ``x_t``, with classifier-free guidance.

        The guided prediction is ``uncond + scale * (cond - uncond)`` (Ho & Salimans 2022,
        eq. 6, whose ``w`` is ``scale - 1``): scale 1 is plain conditional, 0 unconditional.
        Each of these costs one evaluation; any other scale evaluates both in one batch.  Of a
        mixture, ``cond - uncond`` is the weighted sum of those of its labels (Liu et al. 2022,
        Composable Diffusion), which costs an evaluation for each of them and one more.

        Args:
            x_t: noisy images ``(B, C, H, W)``.
            t: the timestep of all of them, or ``(B,)``.
            labels: ``(B,)`` in ``0 .. num_classes``, or a mixture.
            guidance_scale: see above; one for all, or ``(B,)``.
        """
        time = t if isinstance(t, Tensor) else torch.full((1,), t, device=x_t.device)
        scale = guidance_scale
        if isinstance(scale, Tensor):
            scale = scale.view(-1, 1, 1, 1)
        if isinstance(labels, Mixture):
            prediction = self._mixed(x_t, time, labels, scale)
        else:
            prediction = self._guided(x_t, time, labels, scale)
        return self.estimate_from(prediction, x_t, t)

    def _guided(self, x_t: Tensor, time: Tensor, labels: Tensor, scale: float | Tensor) -> Tensor:
        no_label = torch.full_like(labels, self.network.no_label)
        if not isinstance(scale, Tensor) and scale in (0, 1):
            prediction: Tensor = self.network(x_t, time, labels if scale else no_label)
            return prediction
        times = time.repeat(2) if len(time) > 1 else time
        both = self.network(torch.cat([x_t, x_t]), times, torch.cat([labels, no_label]))
        conditional, unconditional = both.chunk(2)
        return torch.lerp(unconditional, conditional, scale)

    def _mixed(self, x_t: Tensor, time: Tensor, mixture: Mixture, scale: float | Tensor) -> Tensor:
        unconditional: Tensor = self.network(
            x_t, time, torch.full_like(mixture.labels[:, 0], self.network.no_label)
        )
        if not isinstance(scale, Tensor) and scale == 0:
            return unconditional
        prediction = unconditional
        for labels, weights in zip(mixture.labels.T, mixture.weights.T, strict=True):
            towards = self.network(x_t, time, labels) - unconditional
            prediction = prediction + scale * weights.view(-1, 1, 1, 1) * towards
        return prediction

    def estimate_from(self, prediction: Tensor, x_t: Tensor, t: int | Tensor) -> Estimate:
        """The image and the noise that follow from the network's prediction.

        ``x_0`` and ``epsilon`` solve ``x_t = alpha * x_0 + sigma * epsilon`` and
        ``prediction = a * x_0 + b * epsilon``.

        Args:
            prediction: of the network, of the shape of ``x_t``.
            x_t: noisy images ``(B, C, H, W)``.
            t: their timesteps, one for all or ``(B,)``.
        """
        alpha, sigma = self.schedule.alpha_sigma(t)
        a, b = PREDICTION_TYPES[self.prediction_type](alpha, sigma)
        determinant = alpha * b - sigma * a
        return Estimate(
            (b * x_t - sigma * prediction) / determinant,
            (alpha * prediction - a * x_t) / determinant,
        )

    def clipped(
        self, x_t: Tensor, t: int, labels: Tensor | Mixture, guidance_scale: float = 1.0
    ) -> Estimate:
        """Estimate as ``forward`` does, and clip ``x0`` to [-1, 1], the range of images.

        ``epsilon`` is computed from the clipped ``x0``.  Otherwise the two would no longer add up
        to ``x_t``; at timesteps of little signal, ``epsilon`` would keep the error that clipping
        removed.

        Args:
            x_t: noisy images ``(B, C, H, W)``.
            t: the timestep of all of them.
            labels: see ``forward``.
            guidance_scale: see ``forward``, one for all.
        """
        return self.with_image(x_t, t, self(x_t, t, labels, guidance_scale).x0.clamp(-1, 1))

    def with_image(self, x_t: Tensor, t: int, x0: Tensor) -> Estimate:
        """The estimate that ``x0`` is the clean image of ``x_t``, and the noise is the rest.

        Args:
            x_t: noisy images ``(B, C, H, W)``.
            t: the timestep of all of them.
            x0: of the same shape.
        """
        alpha, sigma = self.schedule.alpha_sigma(t)
        return Estimate(x0, (x_t - alpha * x0) / sigma)
