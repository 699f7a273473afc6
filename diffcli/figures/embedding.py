"""The timestep embedding and what a network made of it, in numbers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from diffcli.core.sinusoids import embed, frequencies

Rows = Sequence[Sequence[float]]


@dataclass(frozen=True)
class Embedding:
    """The sinusoidal embedding of all timesteps of a process.

    Args:
        dim: its width.
        num_timesteps: T.
        max_period: ratio of the longest wavelength to the shortest.

    Raises:
        ValueError: if there is no such embedding.
    """

    dim: int
    num_timesteps: int
    max_period: float

    def __post_init__(self) -> None:
        if self.num_timesteps < 1:
            raise ValueError(f"num_timesteps must be above 0, not {self.num_timesteps}")
        frequencies(self.dim, self.max_period)

    @cached_property
    def frequencies(self) -> list[float]:
        """Radians per timestep of each pair of sine and cosine."""
        return frequencies(self.dim, self.max_period)

    @cached_property
    def wavelengths(self) -> list[float]:
        """Timesteps per full turn of each pair."""
        return [2 * math.pi / frequency for frequency in self.frequencies]

    @cached_property
    def incomplete(self) -> range:
        """The pairs that never complete a turn within T; wavelengths grow, so they are the last."""
        half = self.dim // 2
        first = next((i for i, w in enumerate(self.wavelengths) if w > self.num_timesteps), half)
        return range(first, half)

    def row(self, t: int) -> list[float]:
        """The embedding of ``t``, ``dim`` numbers."""
        return embed(t, self.frequencies)

    @property
    def completeness(self) -> str:
        """In a sentence, which dimensions never complete a turn."""
        half, pairs = self.dim // 2, self.incomplete
        if not pairs:
            return f"Every dimension completes a turn within T = {self.num_timesteps}."
        first, last = pairs[0], pairs[-1]
        named = (
            f"Dimensions {first} and {first + half}"
            if first == last
            else f"Dimensions {first} to {last} and {first + half} to {last + half}"
        )
        return (
            f"{named} ({len(pairs)} of {half} pairs) never complete a turn "
            f"within T = {self.num_timesteps}."
        )


@dataclass(frozen=True)
class LearnedEmbedding:
    """What a trained network made of timesteps and labels.

    Args:
        timesteps: those that the rows are of, in increasing order.
        rows: the time embedding after its two layers, one row per timestep.
        similarity: the cosine between each two of the rows.
        class_names: what the labels mean, and a name for "no label".
        label_similarity: the cosine between the embeddings of each two of these.
        effect_similarity: the same of what these do to the network's blocks, less what all
            classes do.
    """

    timesteps: Sequence[int]
    rows: Rows
    similarity: Rows
    class_names: Sequence[str]
    label_similarity: Rows
    effect_similarity: Rows

    @property
    def likeness(self) -> str:
        """In a sentence, which two classes are most alike; "no label" does not count."""
        pairs = [
            (self.effect_similarity[i][j], i, j)
            for i in range(len(self.class_names) - 1)
            for j in range(i)
        ]
        if not pairs:
            return "There is one class alone, and so none that is like it."
        cosine, i, j = max(pairs)
        return (
            f"The network holds {self.class_names[j]} and {self.class_names[i]} to be most "
            f"alike: the cosine between what they do to its blocks is {cosine:.2f}."
        )


def distances(rows: Rows) -> list[list[float]]:
    """The Euclidean distance between each two of the rows."""
    return [[math.dist(a, b) for b in rows] for a in rows]
