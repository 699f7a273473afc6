"""A feature network as one safetensors file: weights, and one JSON document about them."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from diffcli.evaluation.network import FeatureNetwork, FeatureNetworkConfig
from diffcli.files.documents import decode
from diffcli.files.header import FileKind, read_metadata, unusable
from diffcli.files.weights import load_weights, save_weights

FEATURE_NETWORK = FileKind("feature network", "features")


@dataclass(frozen=True)
class FeatureDescription:
    """What a feature network's file says besides the weights.

    Args:
        network: its parameters.
        image_size: height and width of the images that it is trained on.
        class_names: the names of the labels.
        training_data: the digest of its training images, see ``provide.digest``.
        training: a summary of the training for people; any JSON object.

    Raises:
        ValueError: if there are not as many class names as classes.
    """

    network: FeatureNetworkConfig
    image_size: tuple[int, ...]
    class_names: tuple[str, ...]
    training_data: str
    training: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.class_names) != self.network.num_classes:
            raise ValueError(
                f"there are {len(self.class_names)} class names "
                f"for {self.network.num_classes} classes"
            )


def save_features(path: Path, description: FeatureDescription, network: FeatureNetwork) -> None:
    """Write a feature network, atomically.

    Raises:
        OSError: if the file cannot be written; it is then unchanged.
    """
    save_weights(path, asdict(description), network.state_dict())


def read_features_description(path: Path) -> FeatureDescription:
    """The description in a feature network's file, checked, without its weights.

    Raises:
        DiffcliError: if the file is missing or of another kind.
    """
    try:
        return decode(FeatureDescription, read_metadata(path, FEATURE_NETWORK))
    except ValueError as error:
        raise unusable(path, str(error), FEATURE_NETWORK) from error


def load_features(path: Path) -> tuple[FeatureDescription, FeatureNetwork]:
    """Read a feature network.

    Raises:
        DiffcliError: if the file is missing, of another kind, damaged, or holds other weights
            than its architecture has.
    """
    description = read_features_description(path)
    network = load_weights(path, lambda: FeatureNetwork(description.network), FEATURE_NETWORK)
    return description, network
