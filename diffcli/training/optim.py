"""The optimizers: Muon for the matrices inside the network, Adam for everything else."""

from collections.abc import Callable, Iterable
from typing import overload

import torch
from torch import Tensor, nn

# Three odd quintics, each the closest to 1 on what those before it make of 0.01 .. 1; together
# they come as close as five of one kind do (Amsel et al. 2025, section 3).
POLAR_EXPRESS = (
    (8.093368512548, -23.620430328824, 17.446151749836),
    (3.636585554259, -2.721926746609, 0.536546288327),
    (2.661299985777, -1.977154521885, 0.452616406997),
)


def orthogonalize(matrices: Tensor, half: bool = False) -> Tensor:
    """Replace the singular values of each matrix by values close to 1.

    Singular values of a hundredth of the Frobenius norm and more end in 0.73 .. 1.27, smaller
    ones below (Jordan 2024, "Muon"; Amsel et al. 2025).  All that happens to a matrix ``X`` is
    multiplication by polynomials ``P = aI + bG + cG^2`` of ``G = XX'``, which commute: so the
    small ``G <- P^2 G`` is iterated alone, the polynomials are gathered, and ``X`` is
    multiplied once.

    Args:
        matrices: ``(B, rows, columns)``, float32 or float64.
        half: round the matrices to bfloat16, which multiplies faster; what is iterated stays
            as it is, since rounding would make negative eigenvalues that grow.
    """
    tall = matrices.shape[-2] > matrices.shape[-1]
    wide = matrices.mT if tall else matrices
    x = wide.bfloat16() if half else wide
    gram = (x @ x.mT).to(matrices.dtype)
    # The trace is the squared Frobenius norm of x, which bounds its singular values.
    square = gram.diagonal(dim1=-2, dim2=-1).sum(-1)[:, None, None] + 1e-30
    gram = gram / square
    gathered = polynomial = _polynomial(gram, *POLAR_EXPRESS[0])
    for coefficients in POLAR_EXPRESS[1:]:
        gram = polynomial @ (polynomial @ gram)
        polynomial = _polynomial(gram, *coefficients)
        gathered = polynomial @ gathered
    x = ((gathered * square.rsqrt()).to(x.dtype) @ x).to(matrices.dtype)
    return x.mT if tall else x


def _polynomial(gram: Tensor, a: float, b: float, c: float) -> Tensor:
    """``aI + bG + cG^2``, of a batch of matrices G."""
    polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
    polynomial.diagonal(dim1=-2, dim2=-1).add_(a)
    return polynomial


class Muon(torch.optim.Optimizer):
    """Momentum whose every update is an orthogonal matrix (Jordan 2024).

    A convolution's weight ``(out, in, h, w)`` counts as a matrix ``(out, in * h * w)``.
    Updates are scaled by ``0.2 * sqrt(max(rows, columns))``, which makes their root mean
    square that of AdamW's (Liu et al. 2025, section 2.2).  Weights of the same shape are
    orthogonalized in one batch.

    Args:
        params: weights of two or more dimensions.
        lr: learning rate.
        momentum: of the Nesterov average of gradients.
        half: see ``orthogonalize``.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float,
        momentum: float = 0.95,
        half: bool = False,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "half": half})
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
            closure: evaluates the loss again, as ``torch.optim.Optimizer`` has it.
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
                self._update(params, group["lr"], group["momentum"], group["half"])
        return loss

    def _update(self, params: list[nn.Parameter], lr: float, momentum: float, half: bool) -> None:
        grads = [param.grad for param in params if param.grad is not None]
        buffers: list[Tensor] = [self.state[param]["momentum_buffer"] for param in params]
        torch._foreach_lerp_(buffers, grads, 1 - momentum)
        updates = torch._foreach_lerp(grads, buffers, momentum)
        # Columns in the order of channels-last memory: the order does not matter, copying does.
        matrices = torch.stack([update.movedim(1, -1).flatten(1) for update in updates])
        scale = 0.2 * max(matrices.shape[-2:]) ** 0.5
        for param, matrix in zip(params, orthogonalize(matrices, half), strict=True):
            rows, columns, *kernel = param.shape
            direction = matrix.view(rows, *kernel, columns).movedim(-1, 1)
            param.add_(direction, alpha=-lr * scale)
