"""A trained model as one safetensors file: weights, and one JSON document about them."""

import hashlib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from diffcli.core.denoiser import Denoiser, PredictionType
from diffcli.core.generate import SamplingSettings
from diffcli.core.schedule import NoiseSchedule, ScheduleConfig
from diffcli.core.unet import ConditionalUNet, UNetConfig
from diffcli.files.metadata import MODEL, decode, not_a_model, read_metadata
from diffcli.files.weights import load_weights, save_weights


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
    save_weights(path, asdict(description), weights)


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
    network = load_weights(path, lambda: ConditionalUNet(description.architecture), MODEL)
    denoiser = Denoiser(
        network, NoiseSchedule.from_config(description.schedule), description.prediction_type
    )
    return description, denoiser.eval()


def fingerprint(path: Path) -> str:
    """The SHA-256 of a checkpoint, by which a picture names the weights that drew it.

    Raises:
        OSError: if the file cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
