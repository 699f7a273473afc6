"""The timestep embedding in plain numbers, for charts and tables that need no torch."""

import math
from collections.abc import Sequence


def frequencies(dim: int, max_period: float = 10_000.0) -> list[float]:
    """``exp(-i * log(max_period) / (half - 1))`` for ``i = 0 .. half - 1``, ``half = dim / 2``.

    ``dim = 2`` leaves a single pair, at frequency 1.

    Args:
        dim: width of the embedding; even and positive.
        max_period: ratio of the longest wavelength to the shortest; above 1.

    Returns:
        Radians per timestep of each of the ``dim / 2`` pairs of sine and cosine.

    Raises:
        ValueError: if ``dim`` is odd or not positive, or ``max_period`` is not above 1.
    """
    if dim <= 0 or dim % 2:
        raise ValueError(f"the embedding's dim must be even and positive, not {dim}")
    if not (max_period > 1 and math.isfinite(max_period)):
        raise ValueError(f"max_period must be a finite number above 1, not {max_period}")
    half = dim // 2
    return [math.exp(-i * math.log(max_period) / max(half - 1, 1)) for i in range(half)]


def embed(t: float, frequencies: Sequence[float]) -> list[float]:
    """The embedding of one timestep: the sines, then the cosines."""
    angles = [t * frequency for frequency in frequencies]
    return [*map(math.sin, angles), *map(math.cos, angles)]


def similarity(distance: float, frequencies: Sequence[float]) -> float:
    """The cosine between the embeddings of two timesteps, which only their distance decides.

    As ``sin a sin b + cos a cos b = cos(a - b)``, their product is the sum of the cosines of
    ``distance * frequency``, and every embedding has the length ``sqrt(dim / 2)``.
    """
    return math.fsum(math.cos(distance * f) for f in frequencies) / len(frequencies)
