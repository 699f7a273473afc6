"""What to draw: the labels, the seeds and the settings that decide every pixel."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from diffcli.core.generate import SamplingSettings

MAX_SEED = 2**32 - 1  # what the CPU generator of torch tells apart
MAX_PICTURES = 10**9
MAX_SHEET_ROWS = 100

Varied = Literal["guidance", "steps"]


@dataclass(frozen=True)
class SampleRequest:
    """A number of pictures for each of a number of labels.

    Picture ``i`` is of ``labels[i // per_label]`` and drawn from seed ``seed + i``: with the
    weights, these and the settings decide it, whatever else is asked for.

    Args:
        labels: class numbers, in the order they are drawn.
        per_label: pictures of each.
        seed: of the first picture.
        settings: how they are drawn.
        strength: how far they may go from a picture that they start from, in (0, 1]; absent
            if they start from noise.

    Raises:
        ValueError: if a field is out of range.
    """

    labels: tuple[int, ...]
    per_label: int
    seed: int
    settings: SamplingSettings
    strength: float | None = None

    def __post_init__(self) -> None:
        if not self.labels or min(self.labels) < 0:
            raise ValueError("there must be labels to draw, 0 or above")
        if not 1 <= self.per_label <= MAX_PICTURES or len(self) > MAX_PICTURES:
            raise ValueError(
                f"{len(self.labels)} labels x {self.per_label} pictures is not in 1 .. "
                f"{MAX_PICTURES:,}"
            )
        if not 0 <= self.seed <= MAX_SEED + 1 - len(self):
            raise ValueError(f"seeds must be in 0 .. {MAX_SEED}, and they begin at {self.seed}")
        if self.strength is not None and not 0 < self.strength <= 1:
            raise ValueError(f"strength must be above 0 and at most 1, not {self.strength:g}")

    def __len__(self) -> int:
        return len(self.labels) * self.per_label

    def label(self, index: int) -> int:
        """The class of picture ``index``."""
        return self.labels[index // self.per_label]

    def one(self, index: int) -> "SampleRequest":
        """The request for picture ``index`` alone."""
        return replace(self, labels=(self.label(index),), per_label=1, seed=self.seed + index)

    def batches(self, size: int) -> Iterator["Batch"]:
        """The pictures in order, at most ``size`` at a time."""
        for start in range(0, len(self), size):
            indices = range(start, min(start + size, len(self)))
            yield Batch(
                indices,
                [self.label(index) for index in indices],
                [self.seed + index for index in indices],
            )


class Batch(NamedTuple):
    """Consecutive pictures of a request."""

    indices: range
    labels: list[int]
    seeds: list[int]


@dataclass(frozen=True)
class Sheet:
    """One setting in several values, each a row of a contact sheet.

    Raises:
        ValueError: if there are no values, too many, or one that the setting cannot have.
    """

    varied: Varied
    values: tuple[float, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.values) <= MAX_SHEET_ROWS:
            raise ValueError(f"a sheet has 1 to {MAX_SHEET_ROWS} rows, not {len(self.values)}")
        if self.varied == "steps" and any(value % 1 for value in self.values):
            raise ValueError("steps are whole numbers")

    def rows(self, request: SampleRequest) -> Iterator[tuple[str, SampleRequest]]:
        """A caption and a request for each row: the same pictures, but for the setting.

        Raises:
            ValueError: for a value that the setting cannot have.
        """
        for value in self.values:
            if self.varied == "guidance":
                settings = replace(request.settings, guidance_scale=value)
            else:
                settings = replace(request.settings, steps=int(value))
            yield f"{self.varied} {value:g}", replace(request, settings=settings)
