"""A run: a trainer, an end, and a folder in which everything that comes of it is kept."""

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from diffcli.core.denoiser import Denoiser
from diffcli.core.generate import SamplingSettings, generate
from diffcli.data.images import LabelledImages, to_pixels
from diffcli.files.atomic import write_atomically
from diffcli.files.checkpoint import ModelDescription, save_model
from diffcli.files.pictures import save_png, tile, to_pillow
from diffcli.training.budget import Budget
from diffcli.training.trainer import Trainer, derived_seed, diffusion_loss

MODEL_FILE = "model.safetensors"
METRICS_FILE = "metrics.jsonl"
CONFIG_FILE = "config.json"

_RECORD_EVERY = 50
_VALIDATION_IMAGES = 1024
_VALIDATION_BATCH = 128
_QUARTERS = 4
_GRID_ROWS = 10
_GRID_COLUMNS = 8


@dataclass(frozen=True)
class Progress:
    """Where a run stands; what ``metrics.jsonl`` holds, but for the clock.

    Args:
        step: steps done.
        epoch: how many times every training image has been seen.
        images_seen: images trained on so far.
        loss: mean training loss since the last record.
        validation_loss: of the averaged weights on held-out images with fixed noise, once
            known; ``validation_quarters`` is the same per quarter of the timesteps, from the
            least noisy.
        share: how much of the run lies behind, 0 .. 1.
        seconds: spent on the run so far.
        images_per_second: since the run was started or resumed.
    """

    step: int
    epoch: int
    images_seen: int
    loss: float
    validation_loss: float | None
    validation_quarters: tuple[float, ...] | None
    share: float
    seconds: float
    images_per_second: float


_CLOCK_FIELDS = ("share", "seconds", "images_per_second")


class Run:
    """A training run in its folder.

    Args:
        folder: exists and is the run's own.
        trainer: does the steps.
        description: of the model; its training summary is filled in here.
        budget: when to stop.
        held_out: images that are not trained on.
    """

    def __init__(
        self,
        folder: Path,
        trainer: Trainer,
        description: ModelDescription,
        budget: Budget,
        held_out: LabelledImages,
    ) -> None:
        self.folder = folder
        self.trainer = trainer
        self.description = description
        self.budget = budget
        self.seconds = 0.0
        self._validation = Validation(held_out, trainer)
        self._averaged = Denoiser(
            trainer.ema.network, trainer.denoiser.schedule, description.prediction_type
        )
        self._losses: list[Tensor] = []
        self._loss = float("nan")
        self._quarters: tuple[float, ...] | None = None

    @property
    def epoch(self) -> int:
        """How many times every training image has been seen."""
        return self.trainer.images_seen // len(self.trainer.data)

    def write_config(self, config: dict[str, Any]) -> None:
        """Keep the resolved configuration beside the results."""
        content = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
        write_atomically(self.folder / CONFIG_FILE, content.encode())

    def train(self) -> Iterator[Progress]:
        """Train to the end of the budget, yielding a record every few steps.

        The model and a grid of samples are written after every epoch and at the end.
        """
        start = time.perf_counter() - self.seconds
        first_image, first_second = self.trainer.images_seen, self.seconds

        def record() -> Progress:
            self.seconds = time.perf_counter() - start
            self._loss = float(torch.stack(self._losses).mean())
            self._losses.clear()
            elapsed = self.seconds - first_second
            progress = Progress(
                step=self.trainer.steps_done,
                epoch=self.epoch,
                images_seen=self.trainer.images_seen,
                loss=self._loss,
                validation_loss=self._quarters and sum(self._quarters) / len(self._quarters),
                validation_quarters=self._quarters,
                share=min(1.0, self.budget.progress(self.trainer.steps_done, self.seconds)),
                seconds=self.seconds,
                images_per_second=(self.trainer.images_seen - first_image) / elapsed,
            )
            self._append_metrics(progress)
            return progress

        while (share := self.budget.progress(self.trainer.steps_done, self.seconds)) < 1:
            epoch = self.epoch
            self._losses.append(self.trainer.step(share))
            self.seconds = time.perf_counter() - start
            epoch_ended = self.epoch > epoch
            if epoch_ended:
                self._quarters = self._validation.loss(self._averaged)
            if epoch_ended or self.trainer.steps_done % _RECORD_EVERY == 0:
                yield record()
            if epoch_ended:
                self._keep(self.epoch)
        if self._losses:
            self._quarters = self._validation.loss(self._averaged)
            yield record()
            self._keep(self.epoch + 1)

    def _append_metrics(self, progress: Progress) -> None:
        # Without the clock, so that two runs of one seed can be compared line by line.
        content = {k: v for k, v in asdict(progress).items() if k not in _CLOCK_FIELDS}
        with (self.folder / METRICS_FILE).open("a", encoding="utf-8") as file:
            file.write(json.dumps(content) + "\n")

    def _keep(self, epoch: int) -> None:
        """Write the model as it is now, and what it draws."""
        summary = {
            "steps": self.trainer.steps_done,
            "images_seen": self.trainer.images_seen,
            "epochs": self.trainer.images_seen / len(self.trainer.data),
            "seconds": round(self.seconds, 1),
            "loss": self._loss,
            "validation_quarters": self._quarters,
            "seed": self.trainer.seed,
            "batch_size": self.trainer.batch_size,
            "diffcli": version("diffcli"),
            "torch": torch.__version__,
        }
        description = replace(
            self.description, training={**self.description.training, **summary}
        )
        save_model(
            self.folder / MODEL_FILE, description, self.trainer.ema.network.state_dict()
        )
        grid = _sample_grid(self._averaged, self.description.sampling)
        save_png(self.folder / f"samples-{epoch:04d}.png", grid)


def _sample_grid(denoiser: Denoiser, settings: SamplingSettings) -> Image.Image:
    """A row per class, always from the same seeds, so that grids can be compared."""
    classes = min(denoiser.network.config.num_classes, _GRID_ROWS)
    labels = torch.arange(classes).repeat_interleave(_GRID_COLUMNS)
    *_, last = generate(denoiser, labels, range(len(labels)), settings)
    return to_pillow(tile(to_pixels(last.x).cpu(), _GRID_COLUMNS))


class Validation:
    """The loss on held-out images, always with the same noise at the same timesteps.

    The training loss hardly moves once the shapes are learned, and its noise hides what it
    does; this one has no noise of its own.
    """

    def __init__(self, held_out: LabelledImages, trainer: Trainer) -> None:
        count = min(len(held_out), _VALIDATION_IMAGES) // _QUARTERS * _QUARTERS
        generator = torch.Generator().manual_seed(derived_seed("validation"))
        index = torch.randperm(len(held_out), generator=generator)[:count]
        x0, labels = held_out.batch(index)
        # Spread evenly, in order: the first quarter of the images gets the first of t.
        t = torch.arange(count) * trainer.denoiser.schedule.num_timesteps // count
        epsilon = torch.randn(x0.shape, generator=generator)
        self._batch = [part.to(trainer.device) for part in (x0, labels, t, epsilon)]
        self._half_precision = trainer.half_precision

    @torch.inference_mode()
    def loss(self, denoiser: Denoiser) -> tuple[float, ...]:
        """The mean loss in each quarter of the timesteps, from the least noisy."""
        parts = zip(*(part.split(_VALIDATION_BATCH) for part in self._batch), strict=True)
        losses = torch.cat(
            [diffusion_loss(denoiser, *part, self._half_precision) for part in parts]
        )
        return tuple(losses.view(_QUARTERS, -1).mean(dim=1).tolist())
