"""The folder of a run: its configuration, state, metrics, model, grids and loss chart."""

import json
import math
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from PIL import Image
from torch import Tensor

from diffcli.errors import DiffcliError, UsageError
from diffcli.figures.losses import Check, loss_chart
from diffcli.files.checkpoint import (
    ModelDescription,
    fingerprint,
    read_description,
    save_model,
)
from diffcli.files.documents import decode
from diffcli.files.header import FileKind, read_metadata
from diffcli.files.locations import CONFIG_FILE, MODEL_FILE, RUNS_FOLDER
from diffcli.files.pictures import save_png
from diffcli.files.weights import read_weights, save_weights
from diffcli.files.writing import TEMPORARY_PATTERN, write_atomically
from diffcli.training.config import Budget, RunConfig

STATE_FILE = "state.safetensors"
TEACHER_FILE = "teacher.safetensors"
ORIGIN_FILE = "origin.safetensors"
METRICS_FILE = "metrics.jsonl"
LOSS_FILE = "loss.png"

_STATE = FileKind("state of a run", "name")
_MOST_STEPS = 10**12


@dataclass(frozen=True)
class Position:
    """Where a run is between two steps.

    Args:
        steps_done: number of training steps.
        seconds: spent so far.
        losses: of the steps since the last metrics.
        quarters: the last loss on held-out images, by quarter of the timesteps; None if it was
            not computed yet.
        best_step: the number of steps after which that loss was lowest, if it was measured.
        best_loss: the loss then.
        best_quarters: the same by quarter; None in states of 0.1.0, too.
        class_counts: the number of training images of each class, on which their order depends;
            None in states of 0.1.0.

    Raises:
        ValueError: if steps or seconds are out of range.
    """

    steps_done: int
    seconds: float
    losses: tuple[float, ...]
    quarters: tuple[float, ...] | None = None
    best_step: int | None = None
    best_loss: float | None = None
    best_quarters: tuple[float, ...] | None = None
    class_counts: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.steps_done <= _MOST_STEPS or not 0 <= self.seconds < math.inf:
            raise ValueError("its number of steps or seconds is out of range")


@dataclass(frozen=True)
class Metrics:
    """One line of ``metrics.jsonl``.

    It does not depend on the clock, so that runs of one seed can be compared line by line.

    Args:
        step: number of training steps.
        epoch: passes over the training images.
        images_seen: images trained on so far, with repetitions.
        loss: mean training loss since the last line; in a distillation, of both networks.
        validation_loss: of the averaged weights on held-out images, once known; in a distillation,
            of the critic.
        validation_quarters: the same by quarter of the timesteps, the least noisy first.
    """

    step: int
    epoch: int
    images_seen: int
    loss: float
    validation_loss: float | None
    validation_quarters: tuple[float, ...] | None


class RunFolder:
    """Reads and writes the files of a run.

    Args:
        path: of the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def model(self) -> Path:
        """The file of its model."""
        return self.path / MODEL_FILE

    def check_free(self, force: bool) -> None:
        """Check that a new run may take this folder.

        Raises:
            UsageError: if it exists and must not be replaced.
        """
        if self.path.exists() and not force:
            raise UsageError(f"the run {self.path} exists", "force")

    def source(self, config: RunConfig) -> Path | None:
        """The copy of the model file that a run starts from, if it starts from one."""
        if config.distillation:
            return self.path / TEACHER_FILE
        return self.path / ORIGIN_FILE if config.origin else None

    def create(self, config: RunConfig, force: bool, source: Path | None = None) -> None:
        """Make the folder of a new run, with its configuration; it must be locked.

        Args:
            config: of the run.
            force: whether a folder of that name may be replaced.
            source: the model file that the run starts from; it is copied, so that the run does
                not depend on another place.

        Raises:
            UsageError: if it exists and must not be replaced, or the model file is not the one that
                the configuration names.
            OSError: if it cannot be made.
        """
        # Made under another name, so that a run's folder always has a configuration, and the old
        # run is there until the new one is complete.
        fresh, old = (self.path.with_name(f".{self.path.name}.{what}") for what in ("new", "old"))
        if old.exists() and not self.path.exists():  # killed between the two changes of names
            old.rename(self.path)
        self.check_free(force)
        for left in (fresh, old):  # by a process that was killed
            if left.exists():
                shutil.rmtree(left)
        fresh.mkdir(parents=True)
        try:
            RunFolder(fresh).save_config(config)
            copy = RunFolder(fresh).source(config)
            if source and copy:
                shutil.copyfile(source, copy)
                start = config.distillation or config.origin
                if start and fingerprint(copy) != start.sha256:
                    raise UsageError(f"{source} has changed since it was read; start again")
            if self.path.exists():
                self.path.rename(old)
            fresh.rename(self.path)
        except BaseException:
            shutil.rmtree(fresh, ignore_errors=True)
            if old.exists():
                old.rename(self.path)
            raise
        shutil.rmtree(old, ignore_errors=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """A block in which no other process makes, trains or tunes this run.

        The lock is a file beside the folder, which is replaced with it.  It ends with its process,
        however that ends.

        Raises:
            UsageError: if another process has it.
            OSError: if it cannot be made.
        """
        place, file = self.path.resolve(), self._lock_file
        new_parent = not place.parent.exists()
        place.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(file, timeout=0)
        try:
            lock.acquire()
        except Timeout:
            raise UsageError(f"another process is using {self.path}; stop it first") from None
        try:
            # Of a process that was killed while it wrote.
            for path in self.path.glob(TEMPORARY_PATTERN):
                path.unlink(missing_ok=True)
            yield
        finally:
            # Nothing is left of a run that was not made.  Windows removes the file itself.
            if not place.exists():
                with suppress(OSError):
                    file.unlink()
            lock.release()
            if new_parent:
                with suppress(OSError):  # it is not empty
                    place.parent.rmdir()

    @property
    def is_in_use(self) -> bool:
        """Whether a process, possibly this one, has it locked."""
        if not self._lock_file.exists():
            return False
        try:
            with FileLock(self._lock_file, timeout=0):
                return False
        except Timeout:
            return True

    @property
    def _lock_file(self) -> Path:
        """One, by whatever path the run is known."""
        place = self.path.resolve()
        return place.with_name(f".{place.name}.lock")

    def save_config(self, config: RunConfig) -> None:
        """Write the configuration."""
        content = json.dumps(config.document(), indent=2, ensure_ascii=False) + "\n"
        write_atomically(self.path / CONFIG_FILE, content.encode())

    def config(self) -> RunConfig:
        """Read the configuration.

        Raises:
            DiffcliError: if it is missing or damaged.
        """
        path = self.path / CONFIG_FILE
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(document, dict):
                raise ValueError("it is no JSON object")
            return RunConfig.from_document(document)
        except (OSError, ValueError, RecursionError) as error:
            raise DiffcliError(f"{path} cannot be read ({error}); is this a run?") from error

    def save_state(self, tensors: Mapping[str, Tensor], position: Position) -> None:
        """Write what is needed to go on.

        Raises:
            OSError: if it cannot be written; the file is then unchanged.
        """
        save_weights(self.path / STATE_FILE, asdict(position), tensors)

    def position(self) -> Position | None:
        """Where the run was saved last; None if nothing was saved yet.

        Raises:
            DiffcliError: if the state is damaged, or missing beside a model.
        """
        path = self.path / STATE_FILE
        if not path.exists():
            if self.model.exists():  # which is never written before a state
                raise DiffcliError(
                    f"{path} is missing, without which the run cannot go on; its model stays as "
                    "it is",
                    "name",
                )
            return None
        try:
            return decode(Position, read_metadata(path, _STATE))
        except ValueError as error:
            raise DiffcliError(f"the run cannot go on from {path}: {error}", "name") from error

    def is_complete(self, budget: Budget) -> bool:
        """Whether the budget is used, and the model of its end is saved.

        Raises:
            DiffcliError: if the state is damaged, or missing beside a model.
        """
        saved = self.position()
        if saved is None or budget.progress(saved.steps_done, saved.seconds) < 1:
            return False
        summary = self.summary_of(saved.steps_done)
        # Release 0.1.0 did not say so.
        return summary is not None and summary.get("complete", True) is True

    def load_state(
        self, expected: Callable[[Position], Mapping[str, Tensor]]
    ) -> tuple[dict[str, Tensor], Position] | None:
        """Read what is needed to go on; None if nothing was saved yet.

        Args:
            expected: returns tensors of the names, types and shapes that the state should have.

        Raises:
            DiffcliError: if the state is damaged, of another run, or missing beside a model.
        """
        position = self.position()
        if position is None:
            return None
        return read_weights(self.path / STATE_FILE, expected(position), _STATE), position

    def append_metrics(self, metrics: Metrics) -> None:
        """Add a line to the metrics."""
        with (self.path / METRICS_FILE).open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(metrics), allow_nan=False) + "\n")

    def metrics(self) -> list[Metrics]:
        """All metrics, the oldest first, without a last line that a kill has cut off.

        Raises:
            DiffcliError: if a line is damaged.
        """
        path = self.path / METRICS_FILE
        if not path.exists():
            return []
        try:
            lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
            return [decode(Metrics, json.loads(line)) for line in lines if line.endswith("\n")]
        except (ValueError, RecursionError) as error:
            raise DiffcliError(f"{path} is damaged: {error}; remove it to go on") from error

    def forget_metrics_after(self, step: int) -> None:
        """Remove the lines of later steps, which a resumed run writes again."""
        lines = [json.dumps(asdict(line)) + "\n" for line in self.metrics() if line.step <= step]
        if lines:
            write_atomically(self.path / METRICS_FILE, "".join(lines).encode())
        else:
            (self.path / METRICS_FILE).unlink(missing_ok=True)

    def save_model(self, description: ModelDescription, weights: Mapping[str, Tensor]) -> None:
        """Write the model."""
        save_model(self.model, description, weights)

    def summary_of(self, steps: int) -> dict[str, Any] | None:
        """What the model says of its training, if it is that after so many steps."""
        try:
            training = read_description(self.model).training
        except DiffcliError:
            return None
        return training if training.get("steps") == steps else None

    def save_grid(self, name: str, grid: Image.Image) -> None:
        """Write a grid of samples."""
        save_png(self.path / name, grid)

    def save_loss_chart(self) -> None:
        """Draw the losses in the metrics, if there are any."""
        lines = self.metrics()
        if not lines:
            return
        checks: list[Check] = []
        for line in lines:  # lines repeat the last loss on held-out images
            quarters = line.validation_quarters
            if quarters and not (checks and checks[-1].quarters == quarters):
                checks.append(Check(line.images_seen, line.validation_loss or 0.0, quarters))
        seen, losses = [line.images_seen for line in lines], [line.loss for line in lines]
        save_png(self.path / LOSS_FILE, loss_chart(seen, losses, checks))


def run_of_model(path: Path) -> RunFolder | None:
    """The run that a model file belongs to; None if it is just a file."""
    is_run = path.name == MODEL_FILE and (path.parent / CONFIG_FILE).is_file()
    return RunFolder(path.parent) if is_run else None


def find_run(wanted: str | None) -> RunFolder:
    """The folder of a run.

    Args:
        wanted: a run's name in ``runs/``, or the path of its folder; if None, the run in ``runs/``
            that was trained last.

    Raises:
        UsageError: if there is no such run.
    """
    if wanted is None:
        # A name with a dot is that of a folder which was not finished, see ``create``.
        folders = [config.parent for config in RUNS_FOLDER.glob(f"[!.]*/{CONFIG_FILE}")]
        if not folders:
            raise UsageError(f"there is no run in {RUNS_FOLDER}/")
        return RunFolder(max(folders, key=_last_trained))
    for folder in (RUNS_FOLDER / wanted, Path(wanted)):
        if (folder / CONFIG_FILE).is_file():
            return RunFolder(folder)
    raise UsageError(
        f"there is no run {wanted}: it must be the name of a run in {RUNS_FOLDER}/, or a folder "
        f"with {CONFIG_FILE}"
    )


def _last_trained(folder: Path) -> float:
    """When a run was last saved, or else created."""
    state = folder / STATE_FILE
    return (state if state.exists() else folder / CONFIG_FILE).stat().st_mtime
