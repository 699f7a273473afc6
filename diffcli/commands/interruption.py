"""Ctrl-C and SIGTERM: once to stop in good order, twice to leave at once."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interruption:
    """Whether the user, or the system, has asked the program to stop."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None

    def __call__(self) -> bool:
        """Whether it is time to stop."""
        return self.signal is not None

    @property
    def exit_code(self) -> int:
        """What a shell expects of a program that a signal ended: 130 or 143."""
        return 128 + (self.signal or 0)

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        if self.signal is not None:
            # Files are written under another name first, so leaving now damages none.
            raise SystemExit(128 + number)
        self.signal = signal.Signals(number)
        print("\nstopping after this step; once more to leave at once", file=sys.stderr)


@contextmanager
def deferred_interruption() -> Iterator[Interruption]:
    """A block in which the first SIGINT or SIGTERM is only noted."""
    interruption = Interruption()
    wanted = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, interruption._receive) for number in wanted}
    try:
        yield interruption
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
