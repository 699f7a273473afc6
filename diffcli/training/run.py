"""A run: a trainer, an end, and a folder for all that it produces."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diffcli import __version__
from diffcli.core.denoiser import Denoiser
from diffcli.data.sources import DataSet
from diffcli.sampling.model import Model
from diffcli.training.config import RunConfig
from diffcli.training.distributed import Distributed
from diffcli.training.pauses import Pauses
from diffcli.training.run_folder import Metrics, Position, RunFolder
from diffcli.training.samples import Samples
from diffcli.training.selection import BestAverage, diverged
from diffcli.training.setup import describe, make_trainer, resolved
from diffcli.training.status import LatestLoss, Status
from diffcli.training.validation import Validation

_STEPS_BETWEEN_METRICS = 50
_SECONDS_BETWEEN_SAVES, _TRAINING_PER_SAVE = 30.0, 20
_SECONDS_BETWEEN_REPORTS = 0.5
_LAST_GRID = "samples.png"


class _Saves:
    """When to save the state: half a minute after the last time.

    If saving takes long, a twentieth of the time at most is spent on it.
    """

    def __init__(self) -> None:
        self._next = -math.inf

    @property
    def due(self) -> bool:
        return time.perf_counter() > self._next

    def saved(self, seconds: float = 0.0) -> None:
        """The state was just saved, which took so long."""
        rest = max(_SECONDS_BETWEEN_SAVES, _TRAINING_PER_SAVE * seconds)
        self._next = time.perf_counter() - seconds + rest


class Run:
    """A training run in its folder.

    Args:
        folder: of this run alone.
        config: of the run.
        data: the data set.
        device: where to train.
        distributed: the processes that share the run; only the leader writes.
        source: the model file that the run starts from, if there is one.

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
        source: Path | None,
    ) -> None:
        self.folder = folder
        self.trainer = make_trainer(config, data.train, device, distributed, source)
        self.seconds = 0.0
        self._description = describe(config, data.train)
        self._budget = config.budget(len(data.train))
        schedule = self.trainer.denoiser.schedule
        averaged = Denoiser(self.trainer.ema.network, schedule, self._description.prediction_type)
        self._validation = Validation(data.held_out, schedule.num_timesteps, device)
        self._best = BestAverage(self.trainer, averaged, self._validation)
        self._samples = Samples(Model(self._description, averaged, folder.model), data)
        self._class_counts = data.train.class_counts
        self._distributed = distributed
        self._pauses = Pauses(len(data.train), config.recipe.batch_size)
        self._latest = LatestLoss()
        self._losses: list[Tensor] = []
        self._loss = math.nan
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
        """A new run in a new folder, which the leader has locked.

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
        # The copy, since the folder that it came from may have been replaced; processes that do
        # not write may know the folder by another name.
        copy = folder.source(config)
        return cls(
            folder, config, data, device, distributed, copy if copy and copy.exists() else source
        )

    @classmethod
    def open(
        cls,
        folder: RunFolder,
        config: RunConfig,
        data: DataSet,
        device: torch.device,
        distributed: Distributed,
    ) -> "Run":
        """The run in a folder, where it was saved last; to go on, the leader locks the folder.

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
        run = cls(folder, config, data, device, distributed, folder.source(config))
        saved = folder.load_state(run._expected_state)
        if saved is not None:
            tensors, position = saved
            run.trainer.load_state(tensors, position.steps_done)
            run._best.restore(tensors, position)
            run.seconds = position.seconds
            run._losses = [torch.tensor(loss, device=device) for loss in position.losses]
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

    @property
    def kept_step(self) -> int:
        """The number of steps after which the average was that is kept as the model."""
        return self._best.kept_step

    @property
    def held_out_compared(self) -> int:
        """With how many held-out images the final samples are compared, to find copies."""
        return self._samples.held_out_compared

    def train(self, interrupted: Callable[[], bool]) -> Iterator[Status]:
        """Train to the end of the budget, yielding twice a second where the run is.

        The state is saved every half minute, or less often if that takes long.  Model and grid are
        saved at the end and after every epoch; if epochs are short, only so often that this takes
        little of the time.

        Args:
            interrupted: called after every step; if true, all is saved and the run ends.

        Raises:
            DiffcliError: if the loss is not finite; what was saved before stays.
            OSError: if the folder cannot be written; likewise.
        """
        if self.is_complete:
            return
        self._copies = None  # of samples of an earlier model
        if self._distributed.is_leader:
            self.folder.save_config(self.trainer.config)
            self.folder.forget_metrics_after(self.trainer.steps_done)
        yield from self._train(interrupted)

    def _train(self, interrupted: Callable[[], bool]) -> Iterator[Status]:
        start = time.perf_counter() - self.seconds
        last_report, saves = -math.inf, _Saves()
        images_before, seconds_before = self.trainer.images_seen, self.seconds

        def look() -> tuple[float, bool]:
            """The progress, and whether to stop: the same in all processes."""
            self.seconds = time.perf_counter() - start
            progress, stop = self._distributed.from_leader(self.progress, float(interrupted()))
            return progress, bool(stop)

        def status() -> Status:
            images = self.trainer.images_seen - images_before
            return Status(
                progress=min(1.0, progress),
                seconds=self.seconds,
                epoch=self.epoch,
                images_per_second=images / max(self.seconds - seconds_before, 1e-9),
                loss=self._latest.value,
                validation_loss=self._best.loss,
            )

        progress, stop = look()
        if progress >= 1:  # and yet not complete: the process ended before the last model
            self._best.check()
            if self._losses:
                self._record()
            self._save([_LAST_GRID])
            yield status()
            return
        while progress < 1 and not stop:
            loss = self.trainer.step(progress)
            self._losses.append(loss)
            self._latest.offer(loss)
            progress, stop = look()
            complete = progress >= 1
            steps, cost = self.trainer.steps_done, self._validation.cost
            pause = self._pauses.due(steps, cost + self._samples.cost)
            check = complete or pause or self._pauses.due(steps, cost)
            if check:
                self._best.check()
            if check or steps % _STEPS_BETWEEN_METRICS == 0:
                self._record()
            if complete or pause:
                names = [f"samples-{self.epoch:04d}.png"] * pause + [_LAST_GRID] * complete
                self._save(names)
                saves.saved()
            elif saves.due:
                began = time.perf_counter()
                self._save_state()
                saves.saved(time.perf_counter() - began)
            if complete or time.perf_counter() - last_report > _SECONDS_BETWEEN_REPORTS:
                yield status()
                last_report = time.perf_counter()
        if progress < 1:
            self._save([])

    def _record(self) -> None:
        """Add the mean loss since the last record to the metrics."""
        self._loss = float(torch.stack(self._losses).mean())
        if not math.isfinite(self._loss):
            raise diverged(self.trainer.steps_done)
        self._losses.clear()
        if self._distributed.is_leader:
            self.folder.append_metrics(
                Metrics(
                    step=self.trainer.steps_done,
                    epoch=self.epoch,
                    images_seen=self.trainer.images_seen,
                    loss=self._loss,
                    validation_loss=self._best.loss,
                    validation_quarters=self._best.quarters,
                )
            )

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
            "validation_quarters": self._best.kept_quarters,
            "copies": self._copies,
            "complete": self.progress >= 1,
            "diffcli": __version__,
            "torch": torch.__version__,
        }

    def _save(self, grids: list[str]) -> None:
        """Write the state, a grid of samples under each of the names, the chart and the model."""
        self._save_state()
        if not self._distributed.is_leader:
            return
        if grids:
            complete = self.progress >= 1
            pixels = self._samples.draw(self._best.weights() if complete else None)
            picture = self._samples.grid(pixels)
            for name in grids:
                self.folder.save_grid(name, picture)
            if complete:
                self._copies = self._samples.share_of_copies(pixels)
        self.folder.save_loss_chart()
        # The last one, because that of the end says that all is there.
        description = replace(self._description, training=self.summary())
        self.folder.save_model(description, self._best.weights())

    def _save_state(self) -> None:
        if not self._distributed.is_leader:
            return
        tensors = self.trainer.state() | self._best.state()
        if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values()):
            raise diverged(self.trainer.steps_done)
        losses = tuple(loss.item() for loss in self._losses)
        position = Position(
            self.trainer.steps_done, self.seconds, losses, class_counts=self._class_counts
        )
        self.folder.save_state(tensors, self._best.saved_as(position))

    def _expected_state(self, position: Position) -> dict[str, Tensor]:
        """Tensors like those that are saved at a position."""
        return self.trainer.state() | self._best.expected_state(position)
