"""What the user sees while a command runs: messages, progress, interruption."""

import math
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Self

from diffcli.errors import printable
from diffcli.threads import THREADS

if TYPE_CHECKING:
    from rich.progress import Progress

    from diffcli.core.parameters import SamplingSettings
    from diffcli.data.folder import Unreadable

_SECONDS_BETWEEN_LINES = 10.0
_MAX_LISTED = 5


def say(line: str) -> None:
    """Print a line to stderr; stdout is for results.  It may quote names and texts from files."""
    print(printable(line), file=sys.stderr, flush=True)


def typed(argument: object) -> str:
    """An argument of a command as the shell of this system takes it."""
    text = str(argument)
    return subprocess.list2cmdline([text]) if os.name == "nt" else shlex.quote(text)


def warn_of_copies(
    share: float, held_out: int, advice: str = "train for a shorter time, or on more pictures"
) -> None:
    """Say so if pictures are copies of training images.

    Args:
        share: of the pictures that are, see ``neighbours.share_of_copies``.
        held_out: the number of held-out images that it was found with.
        advice: what to do about it.
    """
    from diffcli.evaluation.neighbours import many_copies

    if share > many_copies(held_out):
        say(
            f"warning: about {share:.0%} of the pictures are closer to a training image than "
            f"held-out images are, as copies would be; {advice}"
        )


class ProgressDisplay:
    """Shows the progress of work: a bar on a terminal, else a line every ten seconds.

    Args:
        quiet: whether to show nothing.
    """

    def __init__(self, quiet: bool = False) -> None:
        self._bar: Progress | None = None
        self._stage = ""
        self._last_line = -math.inf
        if quiet:
            return
        from rich import progress
        from rich.console import Console

        console = Console(stderr=True)
        self._bar = progress.Progress(
            progress.BarColumn(bar_width=None),
            progress.TaskProgressColumn(),
            progress.TextColumn("{task.description}"),
            progress.TimeRemainingColumn(elapsed_when_finished=True),
            console=console,
            disable=not console.is_interactive,
        )
        self._task = self._bar.add_task("starting", total=1.0)

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

    def show(self, progress: float, text: str) -> None:
        """Show the share of the work that is done, 0 .. 1, and a text."""
        # All long work comes by here, between two of its parts.
        THREADS.fit()
        if self._bar is None:
            return
        self._bar.update(self._task, completed=progress, description=text)
        now = time.monotonic()
        due = progress == 1 or now - self._last_line > _SECONDS_BETWEEN_LINES
        if self._bar.disable and due:
            self._last_line = now
            remaining = self._bar.tasks[self._task].time_remaining
            left = f"  {clock(remaining)} left" if remaining else ""
            say(f"{progress:4.0%}  {text}{left}")

    def show_stage(self, name: str, done: int, total: int) -> None:
        """Show how many of the items of a stage are done; a new name begins a new stage."""
        if name != self._stage:
            self._stage = name
            if self._bar:
                self._bar.reset(self._task)
        self.show(done / total, f"{name}: {done:,} of {total:,}")

    def stage(self, name: str) -> Callable[[int, int], None]:
        """A function that shows how many of the items of one stage are done."""
        return lambda done, total: self.show_stage(name, done, total)


def clock(seconds: float) -> str:
    """A duration as ``1:05`` or ``2:03:04``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def list_unreadable(unreadable: "Sequence[Unreadable]") -> None:
    """List the files that a data set lacks."""
    if unreadable:
        say(f"files that cannot be read and are skipped: {len(unreadable)}")
    for item in unreadable[:_MAX_LISTED]:
        say(f"  {item.why}")
    if len(unreadable) > _MAX_LISTED:
        say("  ...")


def sampling_text(settings: "SamplingSettings") -> str:
    """Settings in words: ``dpmpp-sde, 7 steps, guidance 1.5 at t = 171 to 213``."""
    parts = [settings.sampler, f"{settings.steps} step{'s' * (settings.steps != 1)}"]
    if settings.sampler == "dpmpp-sde" and settings.eta != 1:
        parts.append(f"eta {settings.eta:g}")
    if settings.spacing != 1:
        parts.append(f"spacing {settings.spacing:g}")
    if settings.guidance_scale != 1:
        guided = f"guidance {settings.guidance_scale:g}"
        if settings.guidance_interval:
            guided += " at t = {} to {}".format(*settings.guidance_interval)
        parts.append(guided)
    return ", ".join(parts)


class Interruption:
    """Whether SIGINT or SIGTERM was received."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None

    def __call__(self) -> bool:
        """Whether to stop."""
        return self.signal is not None

    @property
    def exit_code(self) -> int:
        """The exit code that a shell gives to a process ended by the signal: 130 or 143."""
        return 128 + (self.signal or 0)

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        if self.signal is not None:
            # Files are written under another name first, so none is damaged.
            raise SystemExit(128 + number)
        self.signal = signal.Signals(number)
        say("")  # behind the ^C that a terminal shows
        say("stopping after this step; repeat to stop at once")


@contextmanager
def deferred_interruption() -> Iterator[Interruption]:
    """A block in which the first SIGINT or SIGTERM is recorded and the second ends the process."""
    interruption = Interruption()
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, interruption._receive) for number in numbers}
    try:
        yield interruption
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
