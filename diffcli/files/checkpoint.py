"""A trained model as one safetensors file: weights, and one JSON document about them."""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path, PureWindowsPath
from typing import Any

from torch import Tensor

from diffcli.core.denoiser import Denoiser
from diffcli.core.parameters import PredictionType, SamplingSettings, ScheduleConfig, UNetConfig
from diffcli.core.schedule import NoiseSchedule
from diffcli.core.unet import ConditionalUNet
from diffcli.errors import UsageError
from diffcli.files.documents import decode
from diffcli.files.header import MODEL, read_metadata, unusable
from diffcli.files.weights import encode_weights, load_weights
from diffcli.files.writing import write_atomically


@dataclass(frozen=True)
class ModelDescription:
    """All that drawing needs to know of a model besides its weights.

    Args:
        architecture: the parameters of the network.
        schedule: the process that it is trained on.
        prediction_type: what it predicts.
        sampling: how to draw from it by default.
        class_names: the names of the labels.
        dataset: what it is trained on.
        training: a summary of the training for people; any JSON object.

    Raises:
        ValueError: if there are not as many class names as classes, or the settings are not for
            as few timesteps.
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
        self.sampling.check_timesteps(self.schedule.num_timesteps)

    @property
    def dataset_name(self) -> str:
        """What it is trained on, without the folders that lead there: they are private.

        The paths of all systems count, on whichever it was trained.
        """
        name = PureWindowsPath(self.dataset).name
        return name if name.strip(".") else "pictures"

    @property
    def is_distilled(self) -> bool:
        """Whether its estimates are finished images, and not means of all that could be."""
        return self.sampling.sampler == "consistency"

    def check_data(self, class_names: tuple[str, ...], channels: int) -> None:
        """Check that a data set has the classes and the colours of the model.

        Args:
            class_names: of the data set.
            channels: of its images.

        Raises:
            UsageError: if not.
        """
        if class_names != self.class_names:
            raise UsageError(
                f"the model has the classes {', '.join(self.class_names)}, and the data set has "
                f"{', '.join(class_names)}",
                "data",
            )
        if channels != self.architecture.image_channels:
            kinds = {1: "grey", 3: "RGB"}
            raise UsageError(
                f"the model draws {kinds[self.architecture.image_channels]} pictures, and those of "
                f"the data set are {kinds[channels]}",
                "data",
            )

    def build(self) -> Denoiser:
        """An untrained denoiser of this description."""
        return self._denoiser(ConditionalUNet(self.architecture))

    def _denoiser(self, network: ConditionalUNet) -> Denoiser:
        return Denoiser(network, NoiseSchedule.from_config(self.schedule), self.prediction_type)

    def load(self, path: Path) -> Denoiser:
        """A denoiser with the weights of a checkpoint of this description.

        Raises:
            DiffcliError: if the file is damaged, or holds other weights.
        """
        network = load_weights(path, lambda: ConditionalUNet(self.architecture), MODEL)
        return self._denoiser(network).eval()


def encode_model(description: ModelDescription, weights: Mapping[str, Tensor]) -> bytes:
    """The bytes of a checkpoint."""
    return encode_weights(asdict(description), weights)


def save_model(path: Path, description: ModelDescription, weights: Mapping[str, Tensor]) -> None:
    """Write the network's weights and their description, atomically.

    Raises:
        OSError: if the file cannot be written; it is then unchanged.
    """
    write_atomically(path, encode_model(description, weights))


def read_description(path: Path) -> ModelDescription:
    """The description in a checkpoint, checked, without its weights.

    Raises:
        DiffcliError: if the file is missing or no checkpoint.
    """
    try:
        return decode(ModelDescription, read_metadata(path))
    except ValueError as error:
        raise unusable(path, str(error), MODEL) from error


def load_model(path: Path) -> tuple[ModelDescription, Denoiser]:
    """Read a checkpoint.

    Raises:
        DiffcliError: if the file is missing, no checkpoint, damaged, or holds other weights
            than its architecture has.
    """
    description = read_description(path)
    return description, description.load(path)


def fingerprint(path: Path) -> str:
    """The SHA-256 of a checkpoint, which identifies the weights in a picture's metadata.

    Raises:
        OSError: if the file cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
