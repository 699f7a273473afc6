"""A trained model as one safetensors file: weights, and one JSON document about them."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

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
    stored = {
        name: tuple(entry.get("shape", ())) if isinstance(entry, dict) else ()
        for name, entry in read_header(path).items()
        if name != "__metadata__"
    }
    with torch.device("meta"):
        expected = {
            name: tuple(tensor.shape)
            for name, tensor in ConditionalUNet(description.architecture).state_dict().items()
        }
    if stored != expected:
        odd = sorted(set(stored.items()) ^ set(expected.items()))[0][0]
        raise not_a_model(path, f"its weights do not fit its architecture (see {odd})")
    try:
        weights = load_file(path)
    except (SafetensorError, OSError) as error:
        raise not_a_model(path, f"its weights cannot be read ({error})") from error
    if not all(bool(torch.isfinite(weight).all()) for weight in weights.values()):
        raise not_a_model(path, "its weights are not all finite")
    denoiser = description.build()
    denoiser.network.load_state_dict(weights)
    return description, denoiser.eval().requires_grad_(False)
