"""A network's weights and a JSON document about them, as one safetensors file."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from diffcli.files.atomic import write_atomically
from diffcli.files.metadata import FORMAT_VERSION, METADATA_KEY, FileKind, read_header, unusable

N = TypeVar("N", bound=nn.Module)

# As safetensors names them; integers are the counters of batch normalisation.
_DTYPES = {torch.float32: "F32", torch.int64: "I64"}


def save_weights(path: Path, document: dict[str, Any], weights: dict[str, Tensor]) -> None:
    """Write weights, and a JSON object about them, atomically.

    Raises:
        OSError: if the file cannot be written; what was there before then still is.
    """
    content = {"format_version": FORMAT_VERSION, **document}
    metadata = {METADATA_KEY: json.dumps(content, ensure_ascii=False, allow_nan=False)}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    write_atomically(path, save(tensors, metadata))


def load_weights(path: Path, make: Callable[[], N], kind: FileKind) -> N:
    """A network with the weights of a file, ready to be used.

    Args:
        path: of the file.
        make: makes the network, as the file's document describes it.
        kind: what the file should be, for errors.

    Raises:
        DiffcliError: if the file is damaged, or holds other weights than the network has.
    """
    # Without memory, so that an architecture costs nothing before the file is known to hold
    # as much, and without drawing weights that are about to be replaced.
    with torch.device("meta"), _WithoutInitialisation():
        network = make()
    expected = {
        name: (_DTYPES[tensor.dtype], list(tensor.shape))
        for name, tensor in network.state_dict().items()
    }
    stored = {
        name: (entry.get("dtype"), entry.get("shape")) if isinstance(entry, dict) else None
        for name, entry in read_header(path, kind).items()
        if name != "__metadata__"
    }
    if stored != expected:
        names = sorted(stored.keys() | expected.keys())
        odd = next(name for name in names if stored.get(name) != expected.get(name))
        raise unusable(path, f"its weights do not fit its architecture (see {odd})", kind)
    try:
        weights = load_file(path)
    except (SafetensorError, OSError) as error:
        raise unusable(path, f"its weights cannot be read ({error})", kind) from error
    if not all(bool(torch.isfinite(weight).all()) for weight in weights.values()):
        raise unusable(path, "its weights are not all finite", kind)
    network.load_state_dict(weights, assign=True)
    network.to(memory_format=torch.channels_last)  # the file's layout is the plain one
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
