import math

import pytest
import torch
from torch import Tensor, nn

from diffcli.training.optim import Muon, orthogonalize

SHAPES = [(4, 4), (8, 3), (3, 8), (16, 144), (1, 5), (6, 1)]


def matrix(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def squeezed(x: float) -> float:
    """What five iterations make of one singular value."""
    for _ in range(5):
        x = 3.4445 * x - 4.7750 * x**3 + 2.0315 * x**5
    return x


@pytest.mark.parametrize("shape", SHAPES)
def test_orthogonalize_maps_singular_values_and_leaves_the_rest(shape: tuple[int, int]) -> None:
    """An odd polynomial of a matrix is that polynomial of its singular values."""
    given = matrix(*shape)
    u, s, vh = torch.linalg.svd(given, full_matrices=False)
    mapped = torch.tensor([squeezed(float(value)) for value in s / s.norm()]).double()
    assert torch.allclose(orthogonalize(given[None])[0], (u * mapped) @ vh, atol=1e-5)


@pytest.mark.parametrize("shape", [(32, 32), (64, 16), (16, 144)])
def test_what_comes_of_it_is_nearly_orthogonal(shape: tuple[int, int]) -> None:
    s = torch.linalg.svdvals(orthogonalize(matrix(1, *shape) * 1e-3))
    # The iteration is told to reach 0.7 from a hundredth of the norm; a square random matrix
    # has values below that.
    assert s.max() < 1.25
    assert s.median() > 0.65


def test_float32_suffices_where_singular_values_are_zero() -> None:
    """Rounding makes small negative eigenvalues of what is iterated: they must not grow."""
    deficient = matrix(1, 64, 5) @ matrix(1, 5, 300, seed=1)
    rounded = orthogonalize(deficient.float()).double()
    assert torch.allclose(rounded, orthogonalize(deficient), atol=1e-4)


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
