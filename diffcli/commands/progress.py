"""Showing how a training run goes: a bar on a terminal, a line now and then in a log."""

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from diffcli.training.run import Progress

_SECONDS_BETWEEN_LINES = 10.0


class TrainingDisplay:
    """A context in which ``show`` tells a person where a run stands, on stderr."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TaskProgressColumn, TextColumn
        from rich.progress import Progress as Bar

        self._console = Console(stderr=True)
        self._bar: Bar | None = None
        if self._console.is_terminal:
            self._bar = Bar(
                TextColumn("{task.fields[epoch]}"),
                BarColumn(bar_width=None),
                TaskProgressColumn(),
                TextColumn("{task.fields[figures]}"),
                console=self._console,
            )
            self._task = self._bar.add_task("", total=1.0, epoch="epoch 0", figures="")
        self._last_line = 0.0

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar:
            self._bar.stop()

    def show(self, progress: "Progress") -> None:
        """Show the newest record."""
        figures = _figures(progress)
        if self._bar:
            epoch = f"epoch {progress.epoch}"
            self._bar.update(self._task, completed=progress.share, epoch=epoch, figures=figures)
        elif time.monotonic() - self._last_line > _SECONDS_BETWEEN_LINES or progress.share >= 1:
            self._last_line = time.monotonic()
            line = f"{progress.share:4.0%}  step {progress.step}  epoch {progress.epoch}  {figures}"
            print(line, file=sys.stderr, flush=True)


def _figures(progress: "Progress") -> str:
    parts = [f"loss {progress.loss:.4f}"]
    if progress.validation_loss is not None:
        parts.append(f"held out {progress.validation_loss:.4f}")
    parts.append(f"{progress.images_per_second:,.0f} images/s")
    if 0 < progress.share < 1:
        left = progress.seconds / progress.share * (1 - progress.share)
        parts.append(f"{_clock(left)} left")
    else:
        parts.append(f"took {_clock(progress.seconds)}")
    return "  ".join(parts)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
