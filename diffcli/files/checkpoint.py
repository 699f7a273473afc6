"""A trained model as one safetensors file: weights, and one JSON document about them."""

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor
from torch.overrides import TorchFunctionMode

from diffcli.core.denoiser import Denoiser, PredictionType
from diffcli.core.generate import SamplingSettings
from diffcli.core.schedule import NoiseSchedule, ScheduleConfig
from diffcli.core.unet import ConditionalUNet, UNetConfig
from diffcli.files.atomic import write_atomically
from diffcli.files.metadata import (
    FORMAT_VERSION,
    METADATA_KEY,
    decode,
    not_a_model,
    read_header,
    read_metadata,
)


@dataclass(frozen=True)
class ModelDescription:
    """All that sampling needs to know of a model besides its weights.

    Args:
        architecture: the network.
        schedule: the process that it was trained on.
        prediction_type: what it predicts.
        sampling: how to draw from it, unless asked otherwise.
        class_names: what the labels mean.
        dataset: what it was trained on.
        training: a summary for people; any JSON object.

    Raises:
        ValueError: if the fields contradict each other.
    """

    architecture: UNetConfig
    schedule: ScheduleConfig
    prediction_type: PredictionType
    sampling: SamplingSettings
    class_names: tuple[str, ...]
    dataset: str
    training: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.class_names) != self.architecture.num_classes:
            raise ValueError(
                f"there are {len(self.class_names)} class names "
                f"for {self.architecture.num_classes} classes"
            )

    def build(self) -> Denoiser:
        """A denoiser of this description, untrained."""
        return Denoiser(
            ConditionalUNet(self.architecture),
            NoiseSchedule.from_config(self.schedule),
            self.prediction_type,
        )


def save_model(path: Path, description: ModelDescription, weights: dict[str, Tensor]) -> None:
    """Write the network's weights and their description, atomically.

    Raises:
        OSError: if the file cannot be written; what was there before then still is.
    """
    document = {"format_version": FORMAT_VERSION, **asdict(description)}
    metadata = {METADATA_KEY: json.dumps(document, ensure_ascii=False, allow_nan=False)}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    write_atomically(path, save(tensors, metadata))


def read_description(path: Path) -> ModelDescription:
    """What a checkpoint says of itself, checked but without its weights.

    Raises:
        DiffcliError: if the file is missing or no checkpoint.
    """
    document = read_metadata(path)
    del document["format_version"]
    try:
        return ModelDescription(
            architecture=decode(UNetConfig, document.pop("architecture", None)),
            schedule=decode(ScheduleConfig, document.pop("schedule", None)),
            sampling=decode(SamplingSettings, document.pop("sampling", None)),
            **decode(_Plain, document).__dict__,
        )
    except ValueError as error:
        raise not_a_model(path, str(error)) from error


@dataclass(frozen=True)
class _Plain:
    prediction_type: PredictionType
    class_names: tuple[str, ...]
    dataset: str
    training: dict[str, Any]


def load_model(path: Path) -> tuple[ModelDescription, Denoiser]:
    """Read a checkpoint.

    Raises:
        DiffcliError: if the file is missing, no checkpoint, damaged, or holds other weights
            than its architecture has.
    """
    description = read_description(path)
    # Without memory, so that an architecture costs nothing before the file is known to hold
    # as much, and without drawing weights that are about to be replaced.
    with torch.device("meta"), _WithoutInitialisation():
        network = ConditionalUNet(description.architecture)
    expected = {name: ("F32", list(w.shape)) for name, w in network.state_dict().items()}
    stored = {
        name: (entry.get("dtype"), entry.get("shape")) if isinstance(entry, dict) else None
        for name, entry in read_header(path).items()
        if name != "__metadata__"
    }
    if stored != expected:
        names = sorted(stored.keys() | expected.keys())
        odd = next(name for name in names if stored.get(name) != expected.get(name))
        raise not_a_model(path, f"its weights do not fit its architecture (see {odd})")
    try:
        weights = load_file(path)
    except (SafetensorError, OSError) as error:
        raise not_a_model(path, f"its weights cannot be read ({error})") from error
    if not all(bool(torch.isfinite(weight).all()) for weight in weights.values()):
        raise not_a_model(path, "its weights are not all finite")
    network.load_state_dict(weights, assign=True)
    network.to(memory_format=torch.channels_last)  # the file's layout is the plain one
    denoiser = Denoiser(
        network, NoiseSchedule.from_config(description.schedule), description.prediction_type
    )
    return description, denoiser.eval().requires_grad_(False)


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


def fingerprint(path: Path) -> str:
    """The SHA-256 of a checkpoint, by which a picture names the weights that drew it.

    Raises:
        OSError: if the file cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
