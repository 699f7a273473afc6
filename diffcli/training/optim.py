"""The optimizers: Muon for the matrices inside the network, AdamW for everything else."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

# Jordan 2024: a quintic whose slope at zero is as steep as convergence allows.
_NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)


def orthogonalize(matrices: Tensor, iterations: int = 5) -> Tensor:
    """Replace the singular values of each matrix by values close to 1.

    Newton-Schulz iteration ``X <- aX + b(XX')X + c(XX')^2 X`` (Jordan 2024, "Muon").

    Args:
        matrices: ``(..., rows, columns)``.
        iterations: five bring all but the smallest singular values into 0.7 .. 1.2.
    """
    a, b, c = _NEWTON_SCHULZ
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(iterations):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
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
        half_precision: whether to orthogonalize in bfloat16.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float,
        momentum: float = 0.95,
        half_precision: bool = False,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})
        self._dtype = torch.bfloat16 if half_precision else torch.float32
        for group in self.param_groups:
            for param in group["params"]:
                self.state[param]["momentum_buffer"] = torch.zeros_like(param)

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
        matrices = torch.stack([update.flatten(1) for update in updates])
        scale = 0.2 * max(matrices.shape[-2:]) ** 0.5
        # The iteration bears bfloat16, since it only has to end near 1.
        directions = orthogonalize(matrices.to(self._dtype)).to(matrices.dtype)
        for param, direction in zip(params, directions, strict=True):
            param.add_(direction.view(param.shape), alpha=-lr * scale)
