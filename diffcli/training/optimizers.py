"""The optimizers: Muon for the hidden matrices of the network, Adam for all else."""

from collections.abc import Callable, Iterable
from typing import overload

import torch
from torch import Tensor, nn

from diffcli.core.unet import ConditionalUNet
from diffcli.training.recipe import Recipe

# Three odd polynomials of degree 5, each the closest to 1 on the range that those before it map
# 0.01 .. 1 to; together they are as close as five equal ones (Amsel et al. 2025, section 3).
POLAR_EXPRESS = (
    (8.093368512548, -23.620430328824, 17.446151749836),
    (3.636585554259, -2.721926746609, 0.536546288327),
    (2.661299985777, -1.977154521885, 0.452616406997),
)


def orthogonalize(matrices: Tensor, bfloat16: bool = False) -> Tensor:
    """Replace the singular values of each matrix by values close to 1.

    In float32, singular values of at least a hundredth of the Frobenius norm end in 0.73 .. 1.27,
    smaller ones below (Jordan 2024, "Muon"; Amsel et al. 2025).  A matrix ``X`` is multiplied by
    polynomials ``P = aI + bG + cG^2`` of ``G = XX'``.  As these commute, only the small matrix
    ``G <- P^2 G`` is iterated and the product of the polynomials is computed; ``X`` is
    multiplied once.

    Args:
        matrices: ``(B, rows, columns)``, float32 or float64.
        bfloat16: whether the two products with ``X``, which are the largest, are in bfloat16.
            ``G`` is not iterated in it: each rounding would make small eigenvalues negative, and
            these grow.  Its first rounding does so, too: of noise beside one singular value that
            is a thousand times as large, the results reach 1.7.
    """
    tall = matrices.shape[-2] > matrices.shape[-1]
    wide = matrices.mT if tall else matrices
    x = wide.bfloat16() if bfloat16 else wide
    gram = (x @ x.mT).to(matrices.dtype)
    # The trace is the squared Frobenius norm of x, which bounds its singular values.
    square = gram.diagonal(dim1=-2, dim2=-1).sum(-1)[:, None, None] + 1e-30
    gram = gram / square
    product = polynomial = _polynomial(gram, *POLAR_EXPRESS[0])
    for coefficients in POLAR_EXPRESS[1:]:
        gram = polynomial @ (polynomial @ gram)
        polynomial = _polynomial(gram, *coefficients)
        product = polynomial @ product
    x = ((product * square.rsqrt()).to(x.dtype) @ x).to(matrices.dtype)
    return x.mT if tall else x


def _polynomial(gram: Tensor, a: float, b: float, c: float) -> Tensor:
    """``aI + bG + cG^2`` for a batch of matrices G."""
    polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
    polynomial.diagonal(dim1=-2, dim2=-1).add_(a)
    return polynomial


class Muon(torch.optim.Optimizer):
    """Momentum with orthogonalized updates (Jordan 2024).

    A convolution's weight ``(out, in, h, w)`` is used as a matrix ``(out, in * h * w)``.
    Updates are scaled by ``0.2 * sqrt(max(rows, columns))``, which makes their root mean
    square that of AdamW's (Liu et al. 2025, section 2.2).  Weights of the same shape are
    orthogonalized in one batch.

    Args:
        params: weights of two or more dimensions.
        lr: learning rate.
        momentum: of the Nesterov average of gradients.
        bfloat16: see ``orthogonalize``.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float,
        momentum: float = 0.95,
        bfloat16: bool = False,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "bfloat16": bfloat16})
        for group in self.param_groups:
            for param in group["params"]:
                self.state[param]["momentum_buffer"] = torch.zeros_like(param)

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Update every weight that has a gradient.

        Args:
            closure: evaluates the loss again, see ``torch.optim.Optimizer``.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[nn.Parameter]] = {}
            for param in group["params"]:
                if param.grad is not None:
                    by_shape.setdefault(param.shape, []).append(param)
            for params in by_shape.values():
                self._update(params, group["lr"], group["momentum"], group["bfloat16"])
        return loss

    def _update(
        self, params: list[nn.Parameter], lr: float, momentum: float, bfloat16: bool
    ) -> None:
        grads = [param.grad for param in params if param.grad is not None]
        buffers: list[Tensor] = [self.state[param]["momentum_buffer"] for param in params]
        torch._foreach_lerp_(buffers, grads, 1 - momentum)
        # Nesterov's: the average as it would be after the same gradient once more.
        updates = torch._foreach_lerp(grads, buffers, momentum)
        # The columns may have any order; that of channels-last memory avoids a copy.
        matrices = torch.stack([update.movedim(1, -1).flatten(1) for update in updates])
        scale = 0.2 * max(matrices.shape[-2:]) ** 0.5
        for param, matrix in zip(params, orthogonalize(matrices, bfloat16), strict=True):
            out, inputs, *kernel = param.shape
            direction = matrix.view(out, *kernel, inputs).movedim(-1, 1)
            param.add_(direction, alpha=-lr * scale)


# Orthogonal updates allow a larger learning rate than Adam's.
MUON_RATE = 1.25


def make_optimizers(
    network: ConditionalUNet, recipe: Recipe, bfloat16: bool
) -> list[torch.optim.Optimizer]:
    """The optimizers of a recipe, with their state.

    Args:
        network: to train.
        recipe: which optimizers, and the learning rate.
        bfloat16: whether the device has fast bfloat16.
    """
    rate = recipe.learning_rate
    if recipe.optimizer == "adam":
        return [_with_state(torch.optim.Adam(network.parameters(), rate, fused=True))]
    matrices = network.hidden_matrices()
    hidden = {id(matrix) for matrix in matrices}
    rest = [param for param in network.parameters() if id(param) not in hidden]
    adam = torch.optim.Adam(rest, rate, betas=(0.9, 0.99), fused=True)
    return [
        Muon(matrices, rate * MUON_RATE, recipe.momentum, bfloat16),
        _with_state(adam),
    ]


def _with_state(adam: torch.optim.Adam) -> torch.optim.Adam:
    """Give Adam the state that it would make in its first step, so that it can be restored."""
    for group in adam.param_groups:
        for param in group["params"]:
            adam.state[param] = {
                "step": torch.zeros((), device=param.device),
                "exp_avg": torch.zeros_like(param),
                "exp_avg_sq": torch.zeros_like(param),
            }
    return adam
