"""A feature network as one safetensors file: weights, and one JSON document about them."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from diffcli.evaluation.network import FeatureNetwork, FeatureNetworkConfig
from diffcli.files.atomic import write_atomically
from diffcli.files.metadata import (
    FORMAT_VERSION,
    METADATA_KEY,
    FileKind,
    decode,
    read_header,
    read_metadata,
    unusable,
)

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
    document = {"format_version": FORMAT_VERSION, **asdict(description)}
    metadata = {METADATA_KEY: json.dumps(document, ensure_ascii=False, allow_nan=False)}
    weights = {name: w.detach().cpu().contiguous() for name, w in network.state_dict().items()}
    write_atomically(path, save(weights, metadata))


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
    with torch.device("meta"):
        network = FeatureNetwork(description.network)
    expected = {name: list(tensor.shape) for name, tensor in network.state_dict().items()}
    stored = {
        name: entry.get("shape") if isinstance(entry, dict) else None
        for name, entry in read_header(path, FEATURE_NETWORK).items()
        if name != "__metadata__"
    }
    if stored != expected:
        raise unusable(path, "its weights do not fit its architecture", FEATURE_NETWORK)
    try:
        weights = load_file(path)
    except (SafetensorError, OSError) as error:
        raise unusable(path, f"its weights cannot be read ({error})", FEATURE_NETWORK) from error
    if not all(bool(torch.isfinite(weight).all()) for weight in weights.values()):
        raise unusable(path, "its weights are not all finite", FEATURE_NETWORK)
    network.load_state_dict(weights, assign=True)
    network.to(memory_format=torch.channels_last)
    return description, network.eval().requires_grad_(False)
