"""Axes: from numbers to positions, and the round numbers written beside them."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Scale:
    """An axis.

    Args:
        low: the number at its beginning, left or bottom.
        high: the number at its end; below ``low`` for a reversed axis.
        log: whether the axis is logarithmic; both ends are then above 0.
        whole: whether ticks are whole numbers.
    """

    low: float
    high: float
    log: bool = False
    whole: bool = False

    @classmethod
    def of_cells(cls, count: int, downwards: bool = False) -> "Scale":
        """An axis of ``count`` cells, cell ``i`` from ``i - 0.5`` to ``i + 0.5``."""
        ends = (count - 0.5, -0.5) if downwards else (-0.5, count - 0.5)
        return cls(*ends, whole=True)

    def fraction(self, value: float) -> float:
        """The position of ``value``, 0 at the beginning and 1 at the end."""
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def ticks(self, most: int) -> list[float]:
        """Round numbers within the axis in increasing order, up to ``most`` distances apart.

        On a logarithmic axis they are powers of ten, if it has two or more.
        """
        low, high = sorted((self.low, self.high))
        if self.log:
            powers = range(
                math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9) + 1
            )
            if len(powers) > 1:
                return [10.0**power for power in powers[:: max(1, -(-len(powers) // most))]]
        step = _round_step((high - low) / most)
        if self.whole:
            step = max(1.0, step)
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        return [index * step for index in range(first, last + 1)]


def _round_step(least: float) -> float:
    """The smallest of 1, 2, 5, 10, 20, ... and 0.5, 0.2, ... that is not below ``least``."""
    unit = 10.0 ** math.floor(math.log10(least))
    return next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= least * (1 - 1e-9))


_SUFFIXES = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


def tick_label(value: float) -> str:
    """A tick as short text: 20000 is ``20k``, 1500000 is ``1.5M``."""
    if abs(value) >= 1e4:
        for unit, suffix in _SUFFIXES:
            if unit <= abs(value) < 1000 * unit:
                return f"{value / unit:.12g}{suffix}"
    # Twelve digits hide the rounding errors of multiples of a step.
    return f"{value + 0.0:.12g}"
