"""An exponential moving average of the weights whose horizon is a share of the run."""

import copy
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)


class PowerEMA(Generic[M]):
    """A power-function moving average of a network's parameters.

    The decay before step ``n`` is ``(1 - 1 / n) ** (gamma + 1)`` (Karras et al. 2024, eq. 127):
    it is 0 at first, so that nothing of the initialisation is left, and the weight of a step
    grows as ``n ** gamma``.

    Args:
        network: the one to average; the average starts as its copy.
        gamma: 16 gives a standard deviation of 5 % of the run.
    """

    def __init__(self, network: M, gamma: float = 16.0) -> None:
        self.network: M = copy.deepcopy(network).eval().requires_grad_(False)
        self.gamma = gamma

    def decay(self, step: int) -> float:
        """The weight of the old average at ``step``, counted from 1."""
        return float((1 - 1 / step) ** (self.gamma + 1))

    @torch.no_grad()
    def update(self, network: M, step: int) -> None:
        """Average in the parameters after ``step`` steps, counted from 1."""
        averages: list[Tensor] = list(self.network.parameters())
        weights: list[Tensor] = list(network.parameters())
        torch._foreach_lerp_(averages, weights, 1 - self.decay(step))
