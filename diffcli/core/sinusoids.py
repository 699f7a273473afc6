"""The frequencies of the timestep embedding, without torch: figures and tables need no more."""

import math


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
