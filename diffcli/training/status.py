"""Where a run is, as it is shown while it trains."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

_SMOOTHING = 0.9


@dataclass(frozen=True)
class Status:
    """Where a run is.

    Args:
        progress: the share of the run that is done, 0 .. 1.
        seconds: spent on the run so far.
        epoch: passes over the training images.
        images_per_second: since the run was started or resumed.
        loss: a moving average of the training loss, once known.
        validation_loss: the last loss on held-out images, once known.
    """

    progress: float
    seconds: float
    epoch: int
    images_per_second: float
    loss: float | None
    validation_loss: float | None


class LatestLoss:
    """A moving average of the losses that can be read without waiting for the device."""

    def __init__(self) -> None:
        self.value: float | None = None
        self._pending: tuple[Tensor, torch.Event] | None = None

    def offer(self, loss: Tensor) -> None:
        """Take the loss of a step, now or when the device has computed it."""
        if loss.device.type == "cpu":
            self._take(loss.item())
            return
        if self._pending and self._pending[1].query():
            self._take(self._pending[0].item())
            self._pending = None
        if self._pending is None:
            copy = loss.to("cpu", non_blocking=True)
            event = torch.Event(loss.device)
            event.record()
            self._pending = copy, event

    def _take(self, loss: float) -> None:
        if self.value is None or not math.isfinite(self.value):
            self.value = loss
        else:
            self.value = _SMOOTHING * self.value + (1 - _SMOOTHING) * loss
