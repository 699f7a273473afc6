"""What to draw: labels, seeds and settings, which together with the weights decide every pixel."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import Literal

from diffcli.core.parameters import MAX_SEED, SamplingSettings, SeedsBetween

MAX_PICTURES = 10**9
MAX_SHEET_ROWS = 100
MAX_WEIGHT = 100.0

DEFAULT_STRENGTH = 0.6
"""How much a picture is changed if it is started from."""
MASKED_STRENGTH = 1.0
"""The same with a mask: nothing is left of the part that is drawn anew."""

Varied = Literal["guidance", "steps", "eta"]


@dataclass(frozen=True)
class Interpolation:
    """Pictures on the way from one label and noise to another.

    Args:
        last_seed: of the noise at the end of the way; that at its beginning is the request's.
        start: where the first picture is, from 0 to 1.
        end: where the last one is, from ``start`` to 1.

    Raises:
        ValueError: if a field is out of range.
    """

    last_seed: int
    start: float = 0.0
    end: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.last_seed <= MAX_SEED:
            raise ValueError(f"seeds must be in 0 .. {MAX_SEED}, not {self.last_seed}")
        if not 0 <= self.start <= self.end <= 1:
            raise ValueError(f"an interpolation is within 0 .. 1, not {self.start} .. {self.end}")


@dataclass(frozen=True)
class SampleRequest:
    """A number of pictures for each of some labels, of a mixture of labels, or between two.

    Picture ``i`` has the label ``labels[i // per_label]`` and the seed ``seed + i``; it does not
    depend on the other pictures.  If labels are mixed, each picture has all of them.

    Args:
        labels: class numbers, in the order of drawing.
        per_label: pictures of each label, or of the mixture.
        seed: of the first picture.
        settings: how they are drawn.
        strength: if they start from a picture, how much it is changed, in (0, 1]; else None.
        masked: whether a part of that picture stays as it is.
        weights: of the labels in a mixture; None if there is none.
        interpolation: if the pictures lie between those of two labels and seeds.
        inverted: if they start from the noise of given pictures, the labels that it was found
            under: one, or of an interpolation two.

    Raises:
        ValueError: if a field is out of range.
    """

    labels: tuple[int, ...]
    per_label: int
    seed: int
    settings: SamplingSettings
    strength: float | None = None
    masked: bool = False
    weights: tuple[float, ...] | None = None
    interpolation: Interpolation | None = None
    inverted: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if not self.labels or min(self.labels) < 0:
            raise ValueError("there must be at least one label, and none below 0")
        self._check_mixture()
        if self.inverted is not None and (
            len(self.inverted) != (2 if self.interpolation else 1) or min(self.inverted) < 0
        ):
            raise ValueError("noise is found under one label, or for an interpolation two")
        if self.inverted is not None and self.settings.sampler != "ddim":
            raise ValueError("noise of pictures is drawn from with the sampler ddim")
        if self.per_label < 1:
            raise ValueError(
                f"there must be at least one picture of each label, not {self.per_label}"
            )
        if len(self) > MAX_PICTURES:
            raise ValueError(
                f"{self.per_label} pictures of each label are too many; at most "
                f"{MAX_PICTURES:,} are drawn at once"
            )
        seeds = 1 if self.interpolation else len(self)
        if not 0 <= self.seed <= MAX_SEED + 1 - seeds:
            raise ValueError(
                f"seeds must be in 0 .. {MAX_SEED}; {seeds} of them cannot start at {self.seed}"
            )
        if self.strength is not None and not 0 < self.strength <= 1:
            raise ValueError(f"strength must be above 0 and at most 1, not {self.strength:g}")

    def _check_mixture(self) -> None:
        if self.interpolation and (len(self.labels) != 2 or self.weights is not None):
            raise ValueError("an interpolation is between two labels without weights")
        if self.weights is not None and (
            len(self.weights) != len(self.labels)
            or max(self.weights) <= 0
            or max(map(abs, self.weights)) > MAX_WEIGHT
        ):
            raise ValueError(
                "a mixture has a weight for each label, from "
                f"-{MAX_WEIGHT:g} to {MAX_WEIGHT:g}, and one above 0"
            )

    def __len__(self) -> int:
        return self.rows * self.per_label

    @property
    def rows(self) -> int:
        """How many labels, or mixtures of them, are drawn; an interpolation is one row."""
        return 1 if self.weights or self.interpolation else len(self.labels)

    @property
    def mixed(self) -> bool:
        """Whether a picture has several labels, or a weight."""
        different = self.labels[0] != self.labels[-1]
        return self.weights is not None or (self.interpolation is not None and different)

    def labels_of(self, index: int) -> tuple[int, ...]:
        """The labels of picture ``index``: one, or all that are mixed."""
        row = index // self.per_label
        return self.labels if self.mixed else self.labels[row : row + 1]

    def weights_of(self, index: int) -> tuple[float, ...]:
        """The weights of these labels."""
        if self.weights is not None:
            return self.weights
        share = self.share(index)
        return (1 - share, share) if self.mixed else (1.0,)

    def told_apart_by(self, fields: Collection[str]) -> bool:
        """Whether no two pictures are alike in these: ``label``, ``seed`` and ``index``."""
        if "index" in fields or len(self) == 1:
            return True
        if self.interpolation:
            return False
        one_each = self.per_label == 1 and len(set(self.labels)) == len(self.labels)
        return "seed" in fields or ("label" in fields and one_each and not self.weights)

    def share(self, index: int) -> float:
        """Where picture ``index`` of an interpolation is, from 0 to 1."""
        way = self.interpolation
        if way is None:
            return 0.0
        return way.start + (way.end - way.start) * index / max(1, self.per_label - 1)

    def seed_of(self, index: int) -> int | SeedsBetween:
        """The seed of picture ``index``, or of an interpolation both and the place between."""
        if self.interpolation is None:
            return self.seed + index
        return SeedsBetween(self.seed, self.interpolation.last_seed, self.share(index))

    def one(self, index: int) -> "SampleRequest":
        """The request for picture ``index`` alone."""
        if self.interpolation:
            share = self.share(index)
            place = replace(self.interpolation, start=share, end=share)
            return replace(self, per_label=1, interpolation=place)
        return replace(self, labels=self.labels_of(index), per_label=1, seed=self.seed + index)

    def batches(self, size: int) -> Iterator[range]:
        """The numbers of the pictures in order, at most ``size`` at a time."""
        for start in range(0, len(self), size):
            yield range(start, min(start + size, len(self)))


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
        for value in self.values:
            self._changed(SamplingSettings(), value)

    def rows(self, request: SampleRequest) -> Iterator[tuple[str, SampleRequest]]:
        """A caption and a request for each row; the requests differ in the setting alone."""
        for value in self.values:
            settings = self._changed(request.settings, value)
            yield f"{self.varied} {value:g}", replace(request, settings=settings)

    def _changed(self, settings: SamplingSettings, value: float) -> SamplingSettings:
        if self.varied == "guidance":
            return replace(settings, guidance_scale=value)
        if self.varied == "eta":
            return replace(settings, eta=value)
        return replace(settings, steps=int(value))
