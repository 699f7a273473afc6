"""The loss that is shown while a run trains."""

import math

import torch

from diffcli.training.status import LatestLoss


def test_the_loss_is_a_moving_average_that_nan_does_not_spoil() -> None:
    latest = LatestLoss()
    shown = []
    for loss in (1.0, 0.0, math.nan, 2.0):
        latest.offer(torch.tensor(loss))
        shown.append(latest.value)
    assert shown[:2] == [1.0, 0.9]
    assert shown[3] == 2.0
