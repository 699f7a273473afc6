import pytest
import torch
from torch import nn

from diffcli.training.ema import PowerEMA


class Follower(nn.Module):
    """One parameter."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([value], dtype=torch.float64))


def follow(values: list[float], gamma: float) -> PowerEMA[Follower]:
    network = Follower(1e6)
    ema = PowerEMA(network, gamma)
    for step, value in enumerate(values, start=1):
        with torch.no_grad():
            network.weight.fill_(value)
        ema.update(network, step)
    return ema


@pytest.mark.parametrize("gamma", [0.0, 1.0, 8.0, 16.9])
@pytest.mark.parametrize("count", [1, 2, 3, 50])
def test_the_weight_of_a_step_grows_as_its_power(count: int, gamma: float) -> None:
    """The product of decays telescopes: step k of n weighs (k^(g+1) - (k-1)^(g+1)) / n^(g+1)."""
    values = [float(k % 7) for k in range(count)]
    power = gamma + 1
    expected = sum(value * (k**power - (k - 1) ** power) for k, value in enumerate(values, start=1))
    got = follow(values, gamma).network.weight.item()
    assert got == pytest.approx(expected / count**power, rel=1e-9)


def test_nothing_of_the_initialisation_stays() -> None:
    assert follow([3.0], 8.0).network.weight.item() == 3.0
    assert follow([3.0] * 10, 8.0).network.weight.item() == pytest.approx(3.0)


def test_the_default_looks_back_over_five_percent_of_the_run() -> None:
    count = 4000
    gamma = PowerEMA(Follower(0.0)).gamma
    mean = follow([float(k) for k in range(1, count + 1)], gamma).network.weight.item()
    square = follow([float(k * k) for k in range(1, count + 1)], gamma).network.weight.item()
    assert (square - mean**2) ** 0.5 / count == pytest.approx(0.0525, abs=0.001)


def test_the_average_shares_nothing_with_the_network() -> None:
    network = Follower(1.0)
    ema = PowerEMA(network)
    with torch.no_grad():
        network.weight.fill_(2.0)
    assert ema.network.weight.item() == 1.0
    assert not ema.network.weight.requires_grad
    assert not ema.network.training
    assert network.training
    assert network.weight.requires_grad
