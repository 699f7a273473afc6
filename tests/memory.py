"""How much memory tensors take while something runs."""

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode


class LargestTensor(TorchFunctionMode):
    """The number of bytes of the largest tensor that torch makes, those without memory aside.

    Args:
        counted: which tensors count; all if None.
    """

    nbytes = 0

    def __init__(self, counted: Callable[[Tensor], bool] | None = None) -> None:
        super().__init__()
        self._counted = counted or (lambda _: True)

    def __torch_function__(
        self,
        function: Callable[..., Any],
        _types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        made = function(*args, **(kwargs or {}))
        if isinstance(made, Tensor) and made.device.type != "meta" and self._counted(made):
            self.nbytes = max(self.nbytes, made.nbytes)
        return made
