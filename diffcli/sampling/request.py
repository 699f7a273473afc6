"""What to draw: labels, seeds and settings, which together with the weights decide every pixel."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from diffcli.core.parameters import SamplingSettings

MAX_SEED = 2**32 - 1  # the CPU generator of torch uses no more bits
MAX_PICTURES = 10**9
MAX_SHEET_ROWS = 100

DEFAULT_STRENGTH = 0.6
"""How much a picture is changed if it is started from."""
MASKED_STRENGTH = 1.0
"""The same with a mask: nothing is left of the part that is drawn anew."""

Varied = Literal["guidance", "steps"]


@dataclass(frozen=True)
class SampleRequest:
    """A number of pictures for each of some labels.

    Picture ``i`` has the label ``labels[i // per_label]`` and the seed ``seed + i``; it does not
    depend on the other pictures.

    Args:
        labels: class numbers, in the order of drawing.
        per_label: pictures of each label.
        seed: of the first picture.
        settings: how they are drawn.
        strength: if they start from a picture, how much it is changed, in (0, 1]; else None.
        masked: whether a part of that picture stays as it is.

    Raises:
        ValueError: if a field is out of range.
    """

    labels: tuple[int, ...]
    per_label: int
    seed: int
    settings: SamplingSettings
    strength: float | None = None
    masked: bool = False

    def __post_init__(self) -> None:
        if not self.labels or min(self.labels) < 0:
            raise ValueError("there must be at least one label, and none below 0")
        if not 1 <= self.per_label <= MAX_PICTURES or len(self) > MAX_PICTURES:
            raise ValueError(
                f"{len(self.labels)} labels x {self.per_label} pictures is not in 1 .. "
                f"{MAX_PICTURES:,}"
            )
        if not 0 <= self.seed <= MAX_SEED + 1 - len(self):
            raise ValueError(
                f"seeds must be in 0 .. {MAX_SEED}; {len(self)} of them cannot start at {self.seed}"
            )
        if self.strength is not None and not 0 < self.strength <= 1:
            raise ValueError(f"strength must be above 0 and at most 1, not {self.strength:g}")

    def __len__(self) -> int:
        return len(self.labels) * self.per_label

    def label(self, index: int) -> int:
        """The label of picture ``index``."""
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
    """A contact sheet: one setting with several values, a row for each.

    Raises:
        ValueError: if there are no values, too many, or values that are not allowed.
    """

    varied: Varied
    values: tuple[float, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.values) <= MAX_SHEET_ROWS:
            raise ValueError(f"a sheet has 1 to {MAX_SHEET_ROWS} rows, not {len(self.values)}")
        if self.varied == "steps" and any(value % 1 for value in self.values):
            raise ValueError("steps are whole numbers")

    def rows(self, request: SampleRequest) -> Iterator[tuple[str, SampleRequest]]:
        """A caption and a request for each row; the requests differ in the setting alone.

        Raises:
            ValueError: if the setting cannot have a value.
        """
        for value in self.values:
            if self.varied == "guidance":
                settings = replace(request.settings, guidance_scale=value)
            else:
                settings = replace(request.settings, steps=int(value))
            yield f"{self.varied} {value:g}", replace(request, settings=settings)
