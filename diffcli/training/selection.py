"""Which average of the weights becomes the model."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

from torch import Tensor

from diffcli.core.denoiser import Denoiser
from diffcli.errors import DiffcliError
from diffcli.training.run_folder import Position
from diffcli.training.trainer import Trainer
from diffcli.training.validation import Validation

_PREFIX = "best."


class _Checked(NamedTuple):
    """An average of the weights, with its loss on held-out images."""

    step: int
    loss: float
    quarters: tuple[float, ...] | None
    """The loss by quarter of the timesteps; None in states that do not have it."""
    weights: dict[str, Tensor]


class BestAverage:
    """Keeps the average of the weights with the lowest loss on held-out images.

    If the loss was lower before than it is now, the later steps only taught the training images
    by heart.  Of a distillation, the latest average is kept: a critic's loss does not say how
    good the model is.

    Args:
        trainer: makes the averages.
        averaged: the denoiser with the latest of them.
        validation: the loss on held-out images.

    Attributes:
        quarters: the latest loss by quarter of the timesteps, once known; of the critic, if the
            trainer has one.
    """

    def __init__(self, trainer: Trainer, averaged: Denoiser, validation: Validation) -> None:
        self.quarters: tuple[float, ...] | None = None
        self._trainer = trainer
        self._averaged = averaged
        self._validation = validation
        self._best: _Checked | None = None

    @property
    def loss(self) -> float | None:
        """The mean of the quarters, once known."""
        return sum(self.quarters) / len(self.quarters) if self.quarters else None

    def check(self) -> None:
        """Compute the loss of the latest average, and keep that average if it is the best.

        Raises:
            DiffcliError: if the loss is not finite.
        """
        critic = self._trainer.objective.critic
        self.quarters = self._validation.quarters(critic or self._averaged)
        loss = self.loss
        if loss is None or not math.isfinite(loss):
            raise diverged(self._trainer.steps_done)
        if critic is None and (self._best is None or loss <= self._best.loss):
            latest = self._averaged.network.state_dict().items()
            weights = {name: tensor.clone() for name, tensor in latest}
            self._best = _Checked(self._trainer.steps_done, loss, self.quarters, weights)

    @property
    def _kept(self) -> _Checked | None:
        """The best average; None if the latest one is kept."""
        best, loss = self._best, self.loss
        return best if best and loss is not None and loss > best.loss else None

    @property
    def kept_step(self) -> int:
        """The number of steps after which the average was that is kept."""
        return self._kept.step if self._kept else self._trainer.steps_done

    @property
    def kept_quarters(self) -> tuple[float, ...] | None:
        """The loss by quarter of the average that is kept, or of the last one that was checked."""
        return self._kept.quarters if self._kept else self.quarters

    def weights(self) -> dict[str, Tensor]:
        """The weights that are kept."""
        return self._kept.weights if self._kept else self._averaged.network.state_dict()

    def state(self) -> dict[str, Tensor]:
        """The tensors to restore it from, by name."""
        return _prefixed(self._best.weights) if self._best else {}

    def expected_state(self, position: Position) -> dict[str, Tensor]:
        """Tensors like those of a state that was saved at a position."""
        if position.best_step is None:
            return {}
        return _prefixed(self._averaged.network.state_dict())

    def saved_as(self, position: Position) -> Position:
        """A position with the fields that belong to the state."""
        best = self._best
        return replace(
            position,
            quarters=self.quarters,
            best_step=best and best.step,
            best_loss=best and best.loss,
            best_quarters=best and best.quarters,
        )

    def restore(self, tensors: Mapping[str, Tensor], position: Position) -> None:
        """Go on from a saved state, which may have other tensors, too."""
        self.quarters = position.quarters
        if position.best_step is None or position.best_loss is None:
            return
        device = self._trainer.device
        weights = {
            name.removeprefix(_PREFIX): tensor.to(device)
            for name, tensor in tensors.items()
            if name.startswith(_PREFIX)
        }
        self._best = _Checked(
            position.best_step, position.best_loss, position.best_quarters, weights
        )


def _prefixed(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {_PREFIX + name: tensor for name, tensor in weights.items()}


def diverged(step: int) -> DiffcliError:
    """The error for a loss or weights that are not finite."""
    return DiffcliError(
        f"training diverged at step {step} (the loss is not finite); the model and state that "
        "were saved last are kept",
        "learning_rate",
    )
