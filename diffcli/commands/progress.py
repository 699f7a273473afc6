"""Showing how a training run goes: a bar on a terminal, a line now and then in a log."""

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

    from diffcli.data.folder import Unreadable
    from diffcli.training.config import RunConfig
    from diffcli.training.plan import Plan
    from diffcli.training.run import Progress

_SECONDS_BETWEEN_LINES = 10.0
_MOST_LISTED = 5


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


class _Display:
    """A context with a Rich bar, if stderr is a terminal and the user wants to be told."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._bar: Bar | None = None
        self._last_line = time.monotonic()

    def __enter__(self) -> Self:
        from rich.console import Console
        from rich.progress import BarColumn, TaskProgressColumn, TextColumn
        from rich.progress import Progress as Bar

        console = Console(stderr=True)
        if console.is_terminal and not self._quiet:
            columns = (BarColumn(bar_width=None), TaskProgressColumn())
            self._bar = Bar(*columns, TextColumn("{task.description}"), console=console)
            self._task = self._bar.add_task("", total=1.0)
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

    def _show(self, share: float, text: str) -> None:
        if self._bar:
            self._bar.update(self._task, completed=share, description=text)
        elif not self._quiet and (
            share in (0, 1) or time.monotonic() - self._last_line > _SECONDS_BETWEEN_LINES
        ):
            self._last_line = time.monotonic()
            _say(f"{share:4.0%}  {text}")


class ReadingDisplay(_Display):
    """Tells how far the reading of a folder of pictures is."""

    def show(self, done: int, total: int, size: int) -> None:
        """Show how many pictures of how many are read, and how many bytes all of them take."""
        self._show(done / total, f"{done:,} of {total:,} pictures, {size / 1e6:.1f} MB in memory")

    def report(self, unreadable: Sequence["Unreadable"]) -> None:
        """List the files that were left out."""
        if self._quiet or not unreadable:
            return
        _say(f"{len(unreadable)} files left out, since they cannot be read:")
        for item in unreadable[:_MOST_LISTED]:
            _say(f"  {item.why}")
        if len(unreadable) > _MOST_LISTED:
            _say("  ...")


class StageDisplay(_Display):
    """Tells how far work is that has several stages, one after the other."""

    _name, _done, _start = "", 0, 0.0

    def show(self, name: str, done: int, total: int) -> None:
        """Show how many pictures of how many a stage has behind it."""
        if name != self._name or done <= self._done:
            self._name, self._start = name, time.monotonic()
        self._done = done
        left = (time.monotonic() - self._start) / done * (total - done)
        self._show(done / total, f"{name}: {done:,} of {total:,}  {_clock(left)} left")

    def stage(self, name: str) -> Callable[[int, int], None]:
        """What shows how far one stage is."""
        return lambda done, total: self.show(name, done, total)


class TrainingDisplay(_Display):
    """Tells where a training run stands."""

    def show(self, progress: "Progress") -> None:
        """Show the newest record."""
        metrics = progress.metrics
        parts = [f"epoch {metrics.epoch}", f"loss {metrics.loss:.4f}"]
        if metrics.validation_loss is not None:
            parts.append(f"held out {metrics.validation_loss:.4f}")
        parts.append(f"{progress.images_per_second:,.0f} images/s")
        if 0 < progress.share < 1:
            left = progress.seconds / progress.share * (1 - progress.share)
            parts.append(f"{_clock(left)} left")
        else:
            parts.append(f"took {_clock(progress.seconds)}")
        self._show(progress.share, "  ".join(parts))


def show_plan(plan: "Plan", config: "RunConfig", sources: Mapping[str, str]) -> None:
    """Say what a run is going to be, where each setting comes from, and what it will cost."""
    from rich.console import Console
    from rich.table import Table

    console = Console(stderr=True)
    table = Table(box=None, show_header=False, pad_edge=False)
    for name, value in asdict(config).items():
        if value is not None:
            source = sources.get(name, "default")
            table.add_row(name.replace("_", " "), str(value), source.replace("commandline", "flag"))
    table.add_section()
    table.add_row("parameters", f"{plan.parameters:,}")
    table.add_row("FLOPs per image", f"{plan.flops_per_image / 1e6:,.0f} million, forward")
    table.add_row("alpha_bar at the end", f"{plan.final_alpha_bar:.2g}")
    table.add_row("prior mismatch", f"{plan.prior_mismatch:.2g} nats per image")
    table.add_row("initialisation left", f"{plan.initialisation_left:.0%} of the average")
    table.add_row("speed", f"{plan.images_per_second:,.0f} images/s, measured")
    table.add_row("expected to take", _clock(plan.seconds))
    console.print(table)
    if plan.warning:
        console.print(f"warning: {plan.warning}", style="yellow", soft_wrap=True)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
