"""The loss on held-out images."""

import math

import pytest
import torch
from torch import Tensor

from diffcli.core.denoiser import Denoiser
from diffcli.training.validation import QUARTERS, Validation
from tests import tiny
from tests.training.pictures import tiny_digits


@pytest.mark.parametrize("count", [1, 3, 200])
def test_any_number_of_images_gives_every_quarter_a_loss(count: int) -> None:
    held_out = tiny_digits(count)
    validation = Validation(held_out, 20, torch.device("cpu"))
    first, second = (validation.quarters(tiny.denoiser()) for _ in range(2))
    assert first == second
    assert len(first) == QUARTERS
    assert all(math.isfinite(loss) and loss > 0 for loss in first)


def test_a_network_that_answers_zero_loses_the_variance_of_its_target() -> None:
    """For v, E[v^2] = alpha_bar E[epsilon^2] + (1 - alpha_bar) E[x0^2], per quarter of t."""
    held_out = tiny_digits(200)
    denoiser = tiny.denoiser()
    for param in denoiser.network.parameters():
        param.zero_()
    losses = Validation(held_out, 20, torch.device("cpu")).quarters(denoiser)
    mean_square = float(held_out.batch(torch.arange(200))[0].square().mean())
    alphas = denoiser.schedule.alphas_cumprod.view(QUARTERS, -1)
    expected = (alphas + (1 - alphas) * mean_square).mean(dim=1)
    assert losses == pytest.approx(expected.tolist(), rel=0.1)


@pytest.mark.parametrize(("count", "cost"), [(1, 128), (500, 500), (2000, 1024)])
def test_it_costs_as_many_evaluations_as_it_uses_images(count: int, cost: int) -> None:
    assert Validation(tiny_digits(count), 20, torch.device("cpu")).cost == cost


def test_every_quarter_has_images_of_every_label(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if the images are in the order of their labels, as those of a folder are."""
    digits = tiny_digits(400)
    ordered = digits.subset(digits.labels.argsort(stable=True))
    seen: list[tuple[Tensor, Tensor]] = []
    loss = Denoiser.loss

    def record(denoiser: Denoiser, x0: Tensor, t: Tensor, labels: Tensor, noise: Tensor) -> Tensor:
        seen.append((t, labels))
        return loss(denoiser, x0, t, labels, noise)

    monkeypatch.setattr(Denoiser, "loss", record)
    Validation(ordered, 20, torch.device("cpu")).quarters(tiny.denoiser())
    t, labels = (torch.cat(parts) for parts in zip(*seen, strict=True))
    for quarter in range(QUARTERS):
        within = t * QUARTERS // 20 == quarter
        assert len(labels[within].unique()) == len(digits.labels.unique())
