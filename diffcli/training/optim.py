"""The optimizers: Muon for the matrices inside the network, AdamW for everything else."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

# Jordan 2024: a quintic whose slope at zero is as steep as convergence allows.
_NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)


def orthogonalize(matrices: Tensor, iterations: int = 5) -> Tensor:
    """Replace the singular values of each matrix by values close to 1.

    Newton-Schulz iteration ``X <- P(XX') X`` with ``P(G) = aI + bG + cG^2`` (Jordan 2024,
    "Muon").  All that happens to ``X`` is multiplication by polynomials of ``G = XX'``, which
    commute: so the small ``G <- P(G)^2 G`` is iterated alone, the polynomials are gathered,
    and ``X`` is multiplied once.

    Args:
        matrices: ``(B, rows, columns)``, float32 or float64.
        iterations: five bring all but the smallest singular values into 0.7 .. 1.2.
    """
    a, b, c = _NEWTON_SCHULZ
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    gram = x @ x.mT
    # The trace is the squared Frobenius norm of x, which bounds its singular values.
    square = gram.diagonal(dim1=-2, dim2=-1).sum(-1)[:, None, None] + 1e-30
    gram = gram / square
    gathered = square.rsqrt() * torch.eye(gram.shape[-1], dtype=x.dtype, device=x.device)
    for _ in range(iterations):
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        polynomial.diagonal(dim1=-2, dim2=-1).add_(a)
        gathered = polynomial @ gathered
        gram = polynomial @ (polynomial @ gram)
    x = gathered @ x
    return x.mT if tall else x


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
    """

    def __init__(self, params: Iterable[nn.Parameter], lr: float, momentum: float = 0.95) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})
        for group in self.param_groups:
            for param in group["params"]:
                self.state[param]["momentum_buffer"] = torch.zeros_like(param)

    # The base class overloads this method, with and without a closure; one body serves both.
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
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
                self._update(params, group["lr"], group["momentum"])
        return loss

    def _update(self, params: list[nn.Parameter], lr: float, momentum: float) -> None:
        grads = [param.grad for param in params if param.grad is not None]
        buffers: list[Tensor] = [self.state[param]["momentum_buffer"] for param in params]
        torch._foreach_lerp_(buffers, grads, 1 - momentum)
        updates = torch._foreach_lerp(grads, buffers, momentum)
        # Columns in the order of channels-last memory: the order does not matter, copying does.
        matrices = torch.stack([update.movedim(1, -1).flatten(1) for update in updates])
        scale = 0.2 * max(matrices.shape[-2:]) ** 0.5
        for param, matrix in zip(params, orthogonalize(matrices), strict=True):
            rows, columns, *kernel = param.shape
            direction = matrix.view(rows, *kernel, columns).movedim(-1, 1)
            param.add_(direction, alpha=-lr * scale)
