"""A run: a trainer, an end, and a folder for all that it produces."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from diffcli.core.denoiser import Denoiser
from diffcli.data.images import proportional_subset
from diffcli.data.sources import DataSet
from diffcli.errors import DiffcliError, UsageError
from diffcli.evaluation.neighbours import nearest_images, share_of_copies
from diffcli.figures.grid import grid
from diffcli.training.config import RunConfig
from diffcli.training.distributed import Distributed
from diffcli.training.pauses import Pauses
from diffcli.training.run_folder import Metrics, Position, RunFolder
from diffcli.training.samples import COLUMNS, cost_of_samples, draw_samples
from diffcli.training.setup import describe, make_trainer, resolved
from diffcli.training.status import LatestLoss, Status
from diffcli.training.validation import Validation

_STEPS_BETWEEN_METRICS = 50
_SECONDS_BETWEEN_SAVES = 30.0
_SECONDS_BETWEEN_REPORTS = 0.5
_MOST_COMPARED = 500
_BEST = "best."
_LAST_GRID = "samples.png"


class _Best(NamedTuple):
    """The average of the weights with the lowest loss on held-out images."""

    step: int
    loss: float
    weights: dict[str, Tensor]


class Run:
    """A training run in its folder.

    Args:
        folder: of this run alone.
        config: of the run.
        data: the data set.
        device: where to train.
        distributed: the processes that share the run; only the leader writes.

    Attributes:
        trainer: makes the steps.
        seconds: spent so far.
    """

    def __init__(
        self,
        folder: RunFolder,
        config: RunConfig,
        data: DataSet,
        device: torch.device,
        distributed: Distributed,
    ) -> None:
        self.folder = folder
        source = folder.source(config)
        self.trainer = make_trainer(config, data.train, device, distributed, source)
        self.seconds = 0.0
        self._description = describe(config, data.train)
        self._budget = config.budget(len(data.train))
        schedule = self.trainer.denoiser.schedule
        self._validation = Validation(data.held_out, schedule.num_timesteps, device)
        held_out = data.held_out
        compared = proportional_subset(held_out.labels, min(_MOST_COMPARED, len(held_out)), 0)
        self._held_out = held_out.images[compared]
        self._class_counts = data.train.class_counts
        self._distributed = distributed
        self._averaged = Denoiser(
            self.trainer.ema.network, schedule, self._description.prediction_type
        )
        self._pauses = Pauses(len(data.train), config.recipe.batch_size)
        self._latest = LatestLoss()
        self._losses: list[Tensor] = []
        self._loss = math.nan
        self._quarters: tuple[float, ...] | None = None
        self._grid_evaluations = cost_of_samples(self._averaged, self._description.sampling)
        self._best: _Best | None = None
        self._copies: float | None = None

    @classmethod
    def create(
        cls,
        path: Path,
        config: RunConfig,
        data: DataSet,
        device: torch.device,
        distributed: Distributed,
        force: bool = False,
        source: Path | None = None,
    ) -> "Run":
        """A new run in a new folder.

        Args:
            path: of the folder.
            config: of the run.
            data: the data set.
            device: where to train.
            distributed: the processes that share the run.
            force: whether a folder of that name may be replaced.
            source: the model file that the run starts from, if there is one.

        Raises:
            UsageError: if the folder exists and must not be replaced.
            OSError: if it cannot be made.
        """
        folder, config = RunFolder(path), resolved(config, data.train)
        with distributed.leader_first():
            if distributed.is_leader:
                folder.create(config, force, source)
        return cls(folder, config, data, device, distributed)

    @classmethod
    def open(
        cls,
        folder: RunFolder,
        config: RunConfig,
        data: DataSet,
        device: torch.device,
        distributed: Distributed,
    ) -> "Run":
        """The run in a folder, where it was saved last.

        Args:
            folder: of the run.
            config: of the folder, possibly with other limits.
            data: the run's data set.
            device: where to train.
            distributed: the processes that share the run.

        Raises:
            DiffcliError: if what was saved cannot be read.
        """
        config = resolved(config, data.train)
        run = cls(folder, config, data, device, distributed)
        saved = folder.load_state(run._expected_state)
        if saved is not None:
            tensors, position = saved
            run.trainer.load_state(tensors, position.steps_done)
            if position.best_step is not None and position.best_loss is not None:
                best = {
                    name.removeprefix(_BEST): tensor.to(device)
                    for name, tensor in tensors.items()
                    if name.startswith(_BEST)
                }
                run._best = _Best(position.best_step, position.best_loss, best)
            run.seconds = position.seconds
            run._losses = [torch.tensor(loss, device=device) for loss in position.losses]
            run._quarters = position.quarters
            for line in folder.metrics():
                if line.step <= position.steps_done:
                    run._loss = line.loss
            copies = (folder.summary_of(position.steps_done) or {}).get("copies")
            run._copies = copies if isinstance(copies, float) else None
        return run

    @property
    def epoch(self) -> int:
        """Passes over the training images."""
        return self.trainer.images_seen // len(self.trainer.data)

    @property
    def progress(self) -> float:
        """The share of the budget that is used; 1 or more means that the run is complete."""
        return self._budget.progress(self.trainer.steps_done, self.seconds)

    @property
    def is_complete(self) -> bool:
        """Whether the budget is used, and the model of its end is saved."""
        return self.folder.is_complete(self._budget)

    def train(self, interrupted: Callable[[], bool]) -> Iterator[Status]:
        """Train to the end of the budget, yielding twice a second where the run is.

        The state is saved every half minute.  Model and grid are saved at the end and after every
        epoch; if epochs are short, only so often that this takes little of the time.

        Args:
            interrupted: called after every step; if true, all is saved and the run ends.

        Raises:
            UsageError: if another process trains in this folder, or has since the run was opened.
            DiffcliError: if the loss is not finite; what was saved before stays.
            OSError: if the folder cannot be written; likewise.
        """
        if self.is_complete:
            return
        with self.folder.locked() if self._distributed.is_leader else nullcontext():
            if self._distributed.is_leader:
                self._check_latest()
                self.folder.save_config(self.trainer.config)
                self.folder.forget_metrics_after(self.trainer.steps_done)
            yield from self._train(interrupted)

    def _check_latest(self) -> None:
        saved = self.folder.position()
        if saved and saved.steps_done != self.trainer.steps_done:
            raise UsageError(
                f"another process has gone on with {self.folder.path}; resume it again"
            )

    def _train(self, interrupted: Callable[[], bool]) -> Iterator[Status]:
        start = time.perf_counter() - self.seconds
        last_save = last_report = -math.inf
        images_before, seconds_before = self.trainer.images_seen, self.seconds

        def ask() -> tuple[float, ...]:
            self.seconds = time.perf_counter() - start
            return self._distributed.from_leader(self.progress, float(interrupted()))

        def status() -> Status:
            images = self.trainer.images_seen - images_before
            seconds = time.perf_counter() - start
            speed = images / max(seconds - seconds_before, 1e-9)
            progress = min(1.0, self._budget.progress(self.trainer.steps_done, seconds))
            return Status(
                progress, seconds, self.epoch, speed, self._latest.value, self._validation_loss
            )

        progress, stop = ask()
        if progress >= 1:  # and yet not complete: the process ended while it saved the last model
            self._save([_LAST_GRID])
            yield status()
            return
        while progress < 1 and not stop:
            loss = self.trainer.step(progress)
            self._losses.append(loss)
            self._latest.offer(loss)
            progress, stop = ask()
            complete = progress >= 1
            steps, cost = self.trainer.steps_done, self._validation.count
            pause = self._pauses.due(steps, cost + self._grid_evaluations)
            check = complete or pause or self._pauses.due(steps, cost)
            if check:
                self._validate()
            if check or self.trainer.steps_done % _STEPS_BETWEEN_METRICS == 0:
                self._record()
            if complete or pause:
                names = [f"samples-{self.epoch:04d}.png"] * pause + [_LAST_GRID] * complete
                self._save(names)
                last_save = time.monotonic()
            elif time.monotonic() - last_save > _SECONDS_BETWEEN_SAVES:
                self._save_state()
                last_save = time.monotonic()
            if complete or time.monotonic() - last_report > _SECONDS_BETWEEN_REPORTS:
                yield status()
                last_report = time.monotonic()
        if progress < 1:
            self._save([])

    def _validate(self) -> None:
        """Measure the loss on held-out images, and remember the average if it is the best."""
        critic = self.trainer.objective.critic
        self._quarters = self._validation.quarters(critic or self._averaged)
        loss = sum(self._quarters) / len(self._quarters)
        # A critic's loss does not say how good the model is.
        if critic is None and (self._best is None or loss <= self._best.loss):
            latest = self.trainer.ema.network.state_dict().items()
            weights = {name: tensor.clone() for name, tensor in latest}
            self._best = _Best(self.trainer.steps_done, loss, weights)

    @property
    def kept_step(self) -> int:
        """The number of steps after which the average was that is kept as the model.

        It is the latest one, unless the loss on held-out images was lower before: then the later
        steps only taught the training images by heart.
        """
        best, loss = self._best, self._validation_loss
        return best.step if best and loss and loss > best.loss else self.trainer.steps_done

    def _kept_weights(self) -> dict[str, Tensor]:
        if self._best and self.kept_step == self._best.step:
            return self._best.weights
        return self.trainer.ema.network.state_dict()

    @property
    def _validation_loss(self) -> float | None:
        return sum(self._quarters) / len(self._quarters) if self._quarters else None

    def _record(self) -> None:
        """Add the mean loss since the last record to the metrics."""
        self._loss = float(torch.stack(self._losses).mean())
        if not math.isfinite(self._loss):
            raise self._diverged()
        self._losses.clear()
        if self._distributed.is_leader:
            self.folder.append_metrics(
                Metrics(
                    step=self.trainer.steps_done,
                    epoch=self.epoch,
                    images_seen=self.trainer.images_seen,
                    loss=self._loss,
                    validation_loss=self._validation_loss,
                    validation_quarters=self._quarters,
                )
            )

    @property
    def held_out_compared(self) -> int:
        """With how many held-out images the final samples are compared, to find copies."""
        return len(self._held_out)

    def summary(self) -> dict[str, Any]:
        """The results of the run so far, as they stand in the checkpoint."""
        return {
            **self._description.training,
            "steps": self.trainer.steps_done,
            "kept_step": self.kept_step,
            "images_seen": self.trainer.images_seen,
            "epochs": self.trainer.images_seen / len(self.trainer.data),
            "seconds": round(self.seconds, 1),
            "loss": self._loss if math.isfinite(self._loss) else None,
            "validation_quarters": self._quarters,
            "copies": self._copies,
            "diffcli": version("diffcli"),
            "torch": torch.__version__,
        }

    def _save(self, grids: list[str]) -> None:
        """Write the state, the model, and a grid of its samples under each of the names."""
        self._save_state()
        if not self._distributed.is_leader:
            return
        kept, complete = self._kept_weights(), self.progress >= 1
        if complete:
            self.trainer.ema.network.load_state_dict(kept)
        samples = draw_samples(self._averaged, self._description.sampling) if grids else None
        if samples is not None and complete:
            self._copies = self._share_of_copies(samples)
        description = replace(self._description, training=self.summary())
        self.folder.save_model(description, kept)
        if samples is not None:
            picture = grid(samples, COLUMNS)
            for name in grids:
                self.folder.save_grid(name, picture)

    def _share_of_copies(self, samples: Tensor) -> float:
        known = self.trainer.data.images.cpu()
        compared = [nearest_images(some, known).distances for some in (samples, self._held_out)]
        return share_of_copies(*compared)

    def _save_state(self) -> None:
        if not self._distributed.is_leader:
            return
        tensors = self.trainer.state()
        if self._best:
            tensors |= _prefixed(self._best.weights)
        if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values()):
            raise self._diverged()
        losses = tuple(loss.item() for loss in self._losses)
        position = Position(
            self.trainer.steps_done,
            self.seconds,
            losses,
            self._quarters,
            self._best and self._best.step,
            self._best and self._best.loss,
            self._class_counts,
        )
        self.folder.save_state(tensors, position)

    def _expected_state(self, position: Position) -> dict[str, Tensor]:
        """Tensors like those that are saved at a position."""
        expected = self.trainer.state()
        if position.best_step is not None:
            expected |= _prefixed(self.trainer.ema.network.state_dict())
        return expected

    def _diverged(self) -> DiffcliError:
        return DiffcliError(
            f"training diverged at step {self.trainer.steps_done} (the loss is not finite); the "
            "model and state that were saved last are kept",
            "learning_rate",
        )


def _prefixed(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The best average as a part of the state."""
    return {_BEST + name: tensor for name, tensor in weights.items()}
