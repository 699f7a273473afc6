"""How long a run may take, and how far along it is."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Budget:
    """An end in steps, in seconds, or in both, whichever comes first.

    Raises:
        ValueError: if neither is given, or one is not positive.
    """

    steps: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        if self.steps is None and self.seconds is None:
            raise ValueError("a run needs an end: steps or seconds")
        if (self.steps is not None and self.steps <= 0) or (
            self.seconds is not None and self.seconds <= 0
        ):
            raise ValueError("steps and seconds must be positive")

    def progress(self, steps: int, seconds: float) -> float:
        """The share of the run that lies behind; 1 or more means that it is over."""
        by_steps = steps / self.steps if self.steps else 0.0
        by_time = seconds / self.seconds if self.seconds else 0.0
        return max(by_steps, by_time)
