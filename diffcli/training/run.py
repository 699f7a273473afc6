"""A run: a trainer, an end, and a folder in which everything that comes of it is kept."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from diffcli.core.denoiser import Denoiser
from diffcli.core.generate import SamplingSettings, generate
from diffcli.data.images import to_pixels
from diffcli.files.checkpoint import ModelDescription, save_model
from diffcli.files.models import MODEL_FILE
from diffcli.files.pictures import save_png, tile, to_pillow
from diffcli.training.budget import Budget
from diffcli.training.distribution import World
from diffcli.training.metrics import Metrics, append_metrics, forget_metrics_after
from diffcli.training.state import Position, diverged, load_state, save_state
from diffcli.training.trainer import Trainer
from diffcli.training.validation import Validation

_RECORD_EVERY = 50
_SECONDS_BETWEEN_SAVES = 30.0
_GRID_ROWS = 10
_GRID_COLUMNS = 8


@dataclass(frozen=True)
class Progress:
    """Where a run stands.

    Args:
        metrics: what was just recorded.
        share: how much of the run lies behind, 0 .. 1.
        seconds: spent on the run so far.
        images_per_second: since the run was started or resumed.
    """

    metrics: Metrics
    share: float
    seconds: float
    images_per_second: float


class Run:
    """A training run in its folder.

    Args:
        folder: exists and is the run's own.
        trainer: does the steps.
        description: of the model; its training summary is completed here.
        budget: when to stop.
        validation: what is measured on the averaged weights whenever they are kept.
        world: the processes that share the run; only the leader writes.
    """

    def __init__(
        self,
        folder: Path,
        trainer: Trainer,
        description: ModelDescription,
        budget: Budget,
        validation: Validation,
        world: World,
    ) -> None:
        self.folder = folder
        self.trainer = trainer
        self.description = description
        self.budget = budget
        self.seconds = 0.0
        self._validation = validation
        self._world = world
        self._averaged = Denoiser(
            trainer.ema.network, trainer.denoiser.schedule, description.prediction_type
        )
        self._losses: list[Tensor] = []
        self._loss = math.nan
        self._quarters: tuple[float, ...] | None = None

    @property
    def epoch(self) -> int:
        """How many times every training image has been seen."""
        return self.trainer.images_seen // len(self.trainer.data)

    @property
    def share(self) -> float:
        """How much of the budget is used; 1 or more means that the run is complete."""
        return self.budget.progress(self.trainer.steps_done, self.seconds)

    def resume(self) -> None:
        """Go back to where the run in the folder was last saved, or else to its start.

        Raises:
            DiffcliError: if that cannot be read.
        """
        position = load_state(self.folder, self.trainer)
        if position is None:
            return
        self.seconds = position.seconds
        self._losses = [torch.tensor(loss) for loss in position.losses]
        self._quarters = position.quarters
        if self._world.leads:
            forget_metrics_after(self.folder, position.steps_done)

    def train(self, interrupted: Callable[[], bool]) -> Iterator[Progress]:
        """Train to the end of the budget, yielding whenever metrics are recorded.

        The state is saved every half minute, the model and a grid of samples at the end and
        after every epoch; where epochs are short, after no more of them than the square root
        of the number of steps, lest most of the time went into drawing.

        Args:
            interrupted: asked after every step; once it says so, all is saved and the run ends.

        Raises:
            DiffcliError: if the loss stops being a number; what was saved before stays.
            OSError: if the folder cannot be written to; likewise.
        """
        start = time.perf_counter() - self.seconds
        images_before, seconds_before = self.trainer.images_seen, self.seconds
        last_save = -math.inf

        def record() -> Progress:
            metrics = self._record()
            self.seconds = time.perf_counter() - start
            speed = (metrics.images_seen - images_before) / (self.seconds - seconds_before)
            return Progress(metrics, min(1.0, self.share), self.seconds, speed)

        def ask() -> tuple[float, ...]:
            self.seconds = time.perf_counter() - start
            return self._world.from_leader(self.share, float(interrupted()))

        share, stop = ask()
        while share < 1 and not stop:
            epoch = self.epoch
            self._losses.append(self.trainer.step(share))
            share, stop = ask()
            paused = self._pauses_after(epoch)
            if paused or share >= 1:
                self._quarters = self._validation.loss(self._averaged)
                yield record()
            elif self.trainer.steps_done % _RECORD_EVERY == 0:
                yield record()
            if paused:
                self._keep(f"samples-{self.epoch:04d}.png")
            if time.monotonic() - last_save > _SECONDS_BETWEEN_SAVES:
                self._save_state()
                last_save = time.monotonic()
        if share >= 1:
            self._keep("samples.png")
        else:
            self._save_state()
            self._save_model()

    def _pauses_after(self, epoch: int) -> bool:
        """Whether ``epoch``, counted from 0, has just ended, and is one after which to pause."""
        if self.epoch == epoch:
            return False
        began = -(-epoch * len(self.trainer.data) // self.trainer.config.batch_size)
        return math.isqrt(self.trainer.steps_done) > math.isqrt(began)

    def _record(self) -> Metrics:
        """Take in the losses since the last record, and append a line to the metrics."""
        self._loss = float(torch.stack(self._losses).mean())
        if not math.isfinite(self._loss):
            raise diverged(self.trainer.steps_done)
        self._losses.clear()
        quarters = self._quarters
        metrics = Metrics(
            step=self.trainer.steps_done,
            epoch=self.epoch,
            images_seen=self.trainer.images_seen,
            loss=self._loss,
            validation_loss=sum(quarters) / len(quarters) if quarters else None,
            validation_quarters=quarters,
        )
        if self._world.leads:
            append_metrics(self.folder, metrics)
        return metrics

    def _keep(self, grid_name: str) -> None:
        """Write the state and the model as they are now, and what the model draws."""
        self._save_state()
        self._save_model()
        if self._world.leads:
            grid = sample_grid(self._averaged, self.description.sampling)
            save_png(self.folder / grid_name, grid)

    def summary(self) -> dict[str, Any]:
        """What came of the run so far; it goes into the checkpoint."""
        return {
            **self.description.training,
            "steps": self.trainer.steps_done,
            "images_seen": self.trainer.images_seen,
            "epochs": self.trainer.images_seen / len(self.trainer.data),
            "seconds": round(self.seconds, 1),
            "loss": self._loss if math.isfinite(self._loss) else None,
            "validation_quarters": self._quarters,
            "diffcli": version("diffcli"),
            "torch": torch.__version__,
        }

    def _save_model(self) -> None:
        if self._world.leads:
            description = replace(self.description, training=self.summary())
            weights = self.trainer.ema.network.state_dict()
            save_model(self.folder / MODEL_FILE, description, weights)

    def _save_state(self) -> None:
        if self._world.leads:
            losses = tuple(loss.item() for loss in self._losses)
            position = Position(self.trainer.steps_done, self.seconds, losses, self._quarters)
            save_state(self.folder, self.trainer, position)


def sample_grid(denoiser: Denoiser, settings: SamplingSettings) -> Image.Image:
    """A row per class, always from the same seeds, so that grids can be compared."""
    classes = min(denoiser.network.config.num_classes, _GRID_ROWS)
    labels = torch.arange(classes).repeat_interleave(_GRID_COLUMNS)
    *_, last = generate(denoiser, labels, range(len(labels)), settings)
    return to_pillow(tile(to_pixels(last.x).cpu(), _GRID_COLUMNS))
