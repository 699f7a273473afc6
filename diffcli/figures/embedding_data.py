"""The timestep embedding and what a network learned of it, in numbers.

This module does not import torch.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diffcli.core.sinusoids import frequencies

Array = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Embedding:
    """The sinusoidal embedding of all timesteps of a process.

    Args:
        dim: its width.
        num_timesteps: T.
        max_period: ratio of the longest wavelength to the shortest.

    Raises:
        ValueError: if an argument is out of range.
    """

    dim: int
    num_timesteps: int
    max_period: float

    def __post_init__(self) -> None:
        if self.num_timesteps < 1:
            raise ValueError(f"num_timesteps must be above 0, not {self.num_timesteps}")
        frequencies(self.dim, self.max_period)

    @cached_property
    def frequencies(self) -> Array:
        """Radians per timestep of each pair of sine and cosine, ``(dim / 2,)``."""
        return np.array(frequencies(self.dim, self.max_period))

    @cached_property
    def wavelengths(self) -> Array:
        """Timesteps per period of each pair, ``(dim / 2,)``."""
        return 2 * np.pi / self.frequencies

    @cached_property
    def incomplete(self) -> range:
        """The pairs with a wavelength above T: as wavelengths grow, these are the last ones."""
        half = self.dim // 2
        return range(int((self.wavelengths <= self.num_timesteps).sum()), half)

    def rows(self, timesteps: ArrayLike) -> Array:
        """The embeddings of timesteps ``(N,)``: the sines, then the cosines; ``(N, dim)``."""
        angles = np.outer(np.asarray(timesteps), self.frequencies)
        return np.concatenate([np.sin(angles), np.cos(angles)], axis=1)

    def similarity(self, timesteps: ArrayLike) -> Array:
        """The cosine between the embeddings of each two timesteps, ``(N, N)``.

        All embeddings have the length ``sqrt(dim / 2)``.
        """
        rows = self.rows(timesteps)
        return rows @ rows.T / (self.dim / 2)

    @property
    def completeness(self) -> str:
        """A sentence on the dimensions that complete no period within T."""
        half, pairs = self.dim // 2, self.incomplete
        if not pairs:
            return f"All dimensions complete a period within T = {self.num_timesteps}."
        first, last = pairs[0], pairs[-1]
        named = (
            f"Dimensions {first} and {first + half}"
            if first == last
            else f"Dimensions {first} to {last} and {first + half} to {last + half}"
        )
        return (
            f"{named} ({len(pairs)} of {half} pairs) do not complete a period "
            f"within T = {self.num_timesteps}."
        )


@dataclass(frozen=True)
class LearnedEmbedding:
    """What a trained network learned of timesteps and labels.

    Args:
        rows: the time embedding after its two layers, one row per timestep.
        class_names: the names of the labels, and one for "no label".
        label_similarity: the cosine between each two label embeddings.
        effect_similarity: the cosine between the effects of each two labels on the network's
            blocks, less the mean effect of all classes.
    """

    rows: Array
    class_names: tuple[str, ...]
    label_similarity: Array
    effect_similarity: Array

    @cached_property
    def changes(self) -> Array:
        """The rows less their mean, which is large and hides how they differ."""
        rows = self.rows.astype(np.float64)  # of huge numbers, float32 could hold no sums
        return rows - rows.mean(axis=0)

    @property
    def similarity(self) -> Array:
        """The cosine between each two rows of ``changes``."""
        lengths = np.linalg.norm(self.changes, axis=1, keepdims=True)
        directions = self.changes / np.maximum(lengths, 1e-12)
        return directions @ directions.T

    @property
    def most_similar(self) -> str:
        """A sentence on the two classes whose effects are most similar."""
        classes = len(self.class_names) - 1
        if classes < 2:
            return "There is only one class."
        rows, columns = np.tril_indices(classes, -1)
        cosines = self.effect_similarity[rows, columns]
        best = int(cosines.argmax())
        return (
            f"The most similar labels are {self.class_names[columns[best]]} and "
            f"{self.class_names[rows[best]]}: the cosine between their effects on the blocks is "
            f"{cosines[best]:.2f}."
        )


def distances(rows: Array) -> Array:
    """The Euclidean distance between each two of the rows, ``(N, N)``."""
    return np.array([np.linalg.norm(rows - row, axis=1) for row in rows])
