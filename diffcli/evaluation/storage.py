"""A feature network as one safetensors file: weights, and one JSON document about them."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from diffcli.evaluation.network import FeatureNetwork, FeatureNetworkConfig
from diffcli.files.metadata import FileKind, decode, read_metadata, unusable
from diffcli.files.weights import load_weights, save_weights

FEATURE_NETWORK = FileKind("feature network", "leave --features out to use the shipped one")


@dataclass(frozen=True)
class FeatureDescription:
    """What a feature network's file says besides the weights.

    Args:
        network: what it is made of.
        image_size: height and width of the images that it was trained on.
        class_names: what the labels mean.
        training_data: the digest of what it was trained on, see ``provide.digest``.
        training: a summary for people; any JSON object.

    Raises:
        ValueError: if the fields contradict each other.
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
        OSError: if the file cannot be written; what was there before then still is.
    """
    save_weights(path, asdict(description), network.state_dict())


def read_features_description(path: Path) -> FeatureDescription:
    """What a feature network's file says of itself, checked but without its weights.

    Raises:
        DiffcliError: if the file is missing or none of a feature network.
    """
    document = read_metadata(path, FEATURE_NETWORK)
    del document["format_version"]
    try:
        network = decode(FeatureNetworkConfig, document.pop("network", None))
        return FeatureDescription(network, **vars(decode(_Plain, document)))
    except ValueError as error:
        raise unusable(path, str(error), FEATURE_NETWORK) from error


@dataclass(frozen=True)
class _Plain:
    image_size: tuple[int, ...]
    class_names: tuple[str, ...]
    training_data: str
    training: dict[str, Any]


def load_features(path: Path) -> tuple[FeatureDescription, FeatureNetwork]:
    """Read a feature network.

    Raises:
        DiffcliError: if the file is missing, none of a feature network, damaged, or holds
            other weights than its architecture has.
    """
    description = read_features_description(path)
    network = load_weights(path, lambda: FeatureNetwork(description.network), FEATURE_NETWORK)
    return description, network
