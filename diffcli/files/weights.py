"""A network's weights and a JSON document about them, as one safetensors file."""

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from diffcli.files.header import FORMAT_VERSION, METADATA_KEY, FileKind, open_weights, unusable
from diffcli.files.writing import write_atomically

N = TypeVar("N", bound=nn.Module)

# As safetensors names them; integers are the counters of batch normalisation.
_DTYPES = {torch.float32: "F32", torch.int64: "I64"}


def encode_weights(document: Mapping[str, Any], weights: Mapping[str, Tensor]) -> bytes:
    """The bytes of a file of tensors and a JSON object about them."""
    content = {"format_version": FORMAT_VERSION, **document}
    metadata = {METADATA_KEY: json.dumps(content, ensure_ascii=False, allow_nan=False)}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    return save(tensors, metadata)


def save_weights(path: Path, document: Mapping[str, Any], weights: Mapping[str, Tensor]) -> None:
    """Write tensors and a JSON object about them, atomically.

    Raises:
        OSError: if the file cannot be written; it is then unchanged.
    """
    write_atomically(path, encode_weights(document, weights))


def read_weights(path: Path, expected: Mapping[str, Tensor], kind: FileKind) -> dict[str, Tensor]:
    """The tensors of a file, on the CPU.

    Names, types and shapes are compared before anything is read, so that no more memory is
    used than is expected.

    Args:
        path: the file.
        expected: tensors of the names, types and shapes that it should hold, on any device.
        kind: what the file should be.

    Raises:
        DiffcliError: if the file is damaged, or holds other tensors or numbers that are not finite.
    """
    wanted = {name: (_DTYPES[value.dtype], list(value.shape)) for name, value in expected.items()}
    with open_weights(path, kind, "pt") as file:
        slices = {name: file.get_slice(name) for name in file.offset_keys()}
        stored = {name: (part.get_dtype(), part.get_shape()) for name, part in slices.items()}
        if stored != wanted:
            names = sorted(stored.keys() | wanted.keys())
            odd = next(name for name in names if stored.get(name) != wanted.get(name))
            raise unusable(path, f"its weights do not fit its architecture (see {odd!r})", kind)
        tensors = {name: file.get_tensor(name) for name in wanted}
    if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values()):
        raise unusable(path, "its weights are not all finite", kind)
    return tensors


def load_weights(path: Path, make: Callable[[], N], kind: FileKind) -> N:
    """A network with the weights of a file, in evaluation mode and without gradients.

    Args:
        path: the file.
        make: makes the network that the file's document describes.
        kind: what the file should be.

    Raises:
        DiffcliError: see ``read_weights``.
    """
    # Without memory, so that a large architecture costs nothing until the file is known to
    # hold as much; and without drawing weights that are replaced at once.
    with torch.device("meta"), _WithoutInitialisation():
        network = make()
    network.load_state_dict(read_weights(path, network.state_dict(), kind), assign=True)
    network.to(memory_format=torch.channels_last)  # files keep the plain layout
    return network.eval().requires_grad_(False)


class _WithoutInitialisation(TorchFunctionMode):
    """A context in which the functions of ``torch.nn.init`` leave tensors as they are."""

    def __torch_function__(
        self,
        func: Callable[..., Tensor],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Tensor:
        named = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init":
            return cast("Tensor", args[0] if args else named["tensor"])
        return func(*args, **named)
