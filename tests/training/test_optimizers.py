import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from diffcli.training.optimizers import POLAR_EXPRESS, Muon, make_optimizers, orthogonalize
from diffcli.training.recipe import RECIPES
from tests import tiny

SHAPES = [(4, 4), (8, 3), (3, 8), (16, 144), (1, 5), (6, 1)]


def matrix(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def with_singular_values(rows: int, columns: int, values: Tensor) -> Tensor:
    """A matrix of those singular values, and otherwise at random."""
    u, _, vh = torch.linalg.svd(matrix(rows, columns), full_matrices=False)
    return (u * values.double()) @ vh


def squeezed(x: Tensor) -> Tensor:
    """What the iterations make of singular values."""
    for a, b, c in POLAR_EXPRESS:
        x = a * x + b * x**3 + c * x**5
    return x


def test_each_quintic_is_the_closest_to_one() -> None:
    """The best approximation errs equally far, in turn above and below, four times (Chebyshev)."""
    low, high = 0.01, 1.0
    for a, b, c in POLAR_EXPRESS:
        x = torch.linspace(low, high, 1_000_001, dtype=torch.float64)
        error = a * x + b * x**3 + c * x**5 - 1
        worst = error.abs().max().item()
        touching = error[(error.abs() > worst * (1 - 1e-6))].sign()
        changes = (touching[1:] != touching[:-1]).sum().item()
        assert changes == 3
        assert torch.allclose(error[[0, -1]], torch.tensor([-worst, worst]).double(), atol=1e-6)
        low, high = 1 - worst, 1 + worst
    assert (low, high) == pytest.approx((0.73, 1.27), abs=0.005)


@pytest.mark.parametrize("shape", SHAPES)
def test_orthogonalize_maps_singular_values_and_leaves_the_rest(shape: tuple[int, int]) -> None:
    """An odd polynomial of a matrix is that polynomial of its singular values."""
    given = matrix(*shape)
    u, s, vh = torch.linalg.svd(given, full_matrices=False)
    mapped = (u * squeezed(s / s.norm())) @ vh
    assert torch.allclose(orthogonalize(given[None])[0], mapped, atol=1e-10)


@pytest.mark.parametrize("bfloat16", [False, True])
@pytest.mark.parametrize("shape", [(32, 32), (64, 16), (16, 144)])
def test_the_result_is_nearly_orthogonal(shape: tuple[int, int], bfloat16: bool) -> None:
    # The norm is about twice the largest; bfloat16 rounds away what is much smaller.
    given = with_singular_values(*shape, torch.logspace(-1.5, 0, min(shape)))
    s = torch.linalg.svdvals(orthogonalize(given.float()[None] * 1e-3, bfloat16))
    slack = 0.1 if bfloat16 else 0.005
    assert 0.73 - slack < s.min() < s.max() < 1.27 + slack


@pytest.mark.parametrize(("bfloat16", "tolerance"), [(False, 1e-4), (True, 0.1)])
def test_rounding_does_not_grow_where_singular_values_are_zero(
    bfloat16: bool, tolerance: float
) -> None:
    """Rounding makes small negative eigenvalues of what is iterated."""
    deficient = matrix(1, 64, 5) @ matrix(1, 5, 300, seed=1)
    rounded = orthogonalize(deficient.float(), bfloat16).double()
    error = torch.linalg.matrix_norm(rounded - orthogonalize(deficient), ord=2)
    assert error.item() < tolerance


def test_a_batch_is_its_matrices_one_by_one() -> None:
    batch = matrix(5, 6, 9)
    alone = torch.cat([orthogonalize(single[None]) for single in batch])
    assert torch.allclose(orthogonalize(batch), alone, atol=1e-10)


def test_zero_stays_zero() -> None:
    assert torch.equal(orthogonalize(torch.zeros(1, 3, 4)), torch.zeros(1, 3, 4))


def stepped(param: nn.Parameter, optimizer: torch.optim.Optimizer, gradient: Tensor) -> Tensor:
    before = param.detach().clone()
    param.grad = gradient
    optimizer.step()
    return param.detach() - before


@pytest.mark.parametrize("shape", [(8, 4, 3, 3), (4, 8, 1, 1), (6, 10)])
def test_steps_are_orthogonal_directions_of_the_momentum(shape: tuple[int, ...]) -> None:
    param = nn.Parameter(torch.zeros(shape))
    optimizer = Muon([param], lr=0.1, momentum=0.9)
    average = torch.zeros(shape)
    for number in range(3):
        gradient = matrix(*shape, seed=number).float()
        average = 0.9 * average + 0.1 * gradient
        # Nesterov: the gradient counts once more than in the average.
        look_ahead = 0.9 * average + 0.1 * gradient
        direction = orthogonalize(look_ahead.flatten(1)[None]).view(shape)
        rows = shape[0]
        columns = math.prod(shape[1:])
        expected = -0.1 * 0.2 * math.sqrt(max(rows, columns)) * direction
        assert torch.allclose(stepped(param, optimizer, gradient), expected, atol=1e-5)


def test_steps_in_bfloat16_differ_by_rounding_alone() -> None:
    gradient = matrix(16, 8, 3, 3).float()
    exact, rounded = (
        stepped(param, Muon([param], lr=1.0, bfloat16=narrow), gradient)
        for param, narrow in ((nn.Parameter(torch.zeros(16, 8, 3, 3)), r) for r in (False, True))
    )
    error = (exact - rounded).norm() / exact.norm()
    assert 1e-4 < error.item() < 1e-2


def test_the_size_of_a_step_is_that_of_adam_and_not_of_the_gradient() -> None:
    for scale in (1e-3, 1e3):
        param = nn.Parameter(torch.zeros(64, 32, 3, 3))
        moved = stepped(param, Muon([param], lr=1.0), matrix(64, 32, 3, 3).float() * scale)
        assert moved.square().mean().sqrt().item() == pytest.approx(0.2, rel=0.2)


def test_weights_of_one_shape_do_not_touch_each_other() -> None:
    gradients = [matrix(4, 6, seed=number).float() for number in range(3)]
    together = [nn.Parameter(torch.zeros(4, 6)) for _ in gradients]
    for param, gradient in zip(together, gradients, strict=True):
        param.grad = gradient
    Muon(together, lr=0.1).step()
    for param, gradient in zip(together, gradients, strict=True):
        alone = nn.Parameter(torch.zeros(4, 6))
        assert torch.allclose(param, stepped(alone, Muon([alone], lr=0.1), gradient), atol=1e-6)


def test_a_weight_without_a_gradient_stays() -> None:
    still, moving = nn.Parameter(torch.ones(3, 4)), nn.Parameter(torch.ones(3, 4))
    moving.grad = matrix(3, 4).float()
    Muon([still, moving], lr=0.1).step()
    assert torch.equal(still, torch.ones(3, 4))
    assert not torch.equal(moving, torch.ones(3, 4))


def test_it_finds_the_least_squares() -> None:
    target = matrix(8, 8).float()
    param = nn.Parameter(torch.zeros(8, 8))
    optimizer = Muon([param], lr=0.2)
    for step in range(200):
        optimizer.param_groups[0]["lr"] = 0.2 * (1 - step / 200)
        optimizer.zero_grad()
        (param - target).square().sum().backward()
        optimizer.step()
    assert (param - target).abs().max() < 0.05


def test_the_recipe_decides_rates_and_momentum() -> None:
    recipe = replace(RECIPES["fast"], learning_rate=0.01, momentum=0.7)
    muon, adam = make_optimizers(tiny.network(), recipe, bfloat16=False)
    assert [group["betas"] for group in adam.param_groups] == [(0.9, 0.99)]
    assert muon.param_groups[0]["momentum"] == 0.7
    assert muon.param_groups[0]["lr"] == pytest.approx(0.0125)
    assert adam.param_groups[0]["lr"] == 0.01
    (plain,) = make_optimizers(tiny.network(), replace(recipe, optimizer="adam"), bfloat16=False)
    assert plain.param_groups[0]["lr"] == 0.01
