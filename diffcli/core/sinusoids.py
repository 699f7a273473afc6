"""The frequencies of the timestep embedding, without torch: figures and tables need no more."""

import math

_LONGEST_PERIOD = 1e12


def frequencies(dim: int, max_period: float = 10_000.0) -> list[float]:
    """The frequencies of ``embedding.SinusoidalPositionEmbedding``, which has the arguments.

    Returns:
        Radians per timestep of each of the ``dim / 2`` pairs of sine and cosine.

    Raises:
        ValueError: if ``dim`` is odd or not positive, or ``max_period`` not above 1 and at most
            1e12.
    """
    if dim <= 0 or dim % 2:
        raise ValueError(f"the embedding's dim must be even and positive, not {dim}")
    if not 1 < max_period <= _LONGEST_PERIOD:
        raise ValueError(
            f"max_period must be above 1 and at most {_LONGEST_PERIOD:g}, not {max_period:g}"
        )
    half = dim // 2
    return [math.exp(-i * math.log(max_period) / max(half - 1, 1)) for i in range(half)]
