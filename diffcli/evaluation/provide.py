"""The feature network of a data set: shipped, cached, or trained once."""

import hashlib
import math
import time
from pathlib import Path
from typing import Literal, get_args

import torch
from filelock import FileLock

from diffcli import __version__
from diffcli.data.images import LabelledImages
from diffcli.errors import DiffcliError
from diffcli.evaluation.classifier import default_epochs, train_classifier
from diffcli.evaluation.network import (
    FeatureNetwork,
    FeatureNetworkConfig,
    OnProgress,
    check_count,
    check_held_out,
    read_images,
)
from diffcli.evaluation.storage import (
    FEATURE_NETWORK,
    FeatureDescription,
    load_features,
    read_features_description,
    save_features,
)
from diffcli.files.header import unusable
from diffcli.files.locations import cache_folder, shipped_file

Role = Literal["main", "check"]
"""The network to judge with, or a second one that shows whether figures depend on the first."""

_SUFFIX = {"main": "", "check": "-check"}
_SEED = {"main": 0, "check": 1}
_FEWEST_FEATURES = 8
# Part of the names of cached files: of another recipe, figures cannot be compared.
_RECIPE = 2


def usual_place(role: Role, data: LabelledImages) -> Path:
    """The path of a data set's feature network: a shipped file, or one in the cache.

    Args:
        role: which of the two.
        data: the training images.
    """
    key = digest(data)
    shipped = _shipped(role)
    if shipped.exists() and read_features_description(shipped).training_data == key:
        return shipped
    return cache_folder() / "features" / f"{key}-{_RECIPE}{_SUFFIX[role]}.safetensors"


def provide(
    role: Role,
    train: LabelledImages,
    test: LabelledImages,
    device: torch.device,
    on_progress: OnProgress | None = None,
) -> tuple[FeatureDescription, FeatureNetwork]:
    """The feature network of a data set, trained and cached if there is none yet.

    A cached file that is damaged is replaced.  Of several processes, one trains and the others
    wait.

    Raises:
        DiffcliError: if a shipped file is damaged, or the data set is too small.
        OSError: if the cache cannot be written.
    """
    place = usual_place(role, train)
    found = load_features(place) if place == _shipped(role) else _cached(place)
    if found is None:
        dimension = _network_config(role, train, len(test)).channels[-1]
        check_count(len(train), dimension, "training images")
        check_held_out(len(test), dimension, f"held-out images, of {len(train) + len(test):,},")
        place.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(place.with_suffix(".lock")):
            found = _cached(place)
            if found is None:
                found = train_features(role, train, test, device, on_progress=on_progress)
                save_features(place, *found)
    description, network = found
    return description, network.to(device)


def _shipped(role: Role) -> Path:
    return shipped_file(f"features-mnist{_SUFFIX[role]}.safetensors")


def _cached(place: Path) -> tuple[FeatureDescription, FeatureNetwork] | None:
    """The network in the cache; None if it is missing or damaged."""
    try:
        return load_features(place)
    except DiffcliError:
        return None


def find_features(
    wanted: str,
    train: LabelledImages,
    test: LabelledImages,
    device: torch.device,
    on_progress: OnProgress | None = None,
) -> FeatureNetwork:
    """The feature network that ``--features`` names: a role, see ``provide``, or a file.

    Args:
        wanted: the role or the file.
        train: the training images.
        test: images of the same kind.
        device: where it is to be.
        on_progress: called after every step, if it has to be trained.

    Raises:
        DiffcliError: if the file is missing, damaged, or of other images or classes.
    """
    for role in get_args(Role):
        if wanted == role:
            return provide(role, train, test, device, on_progress)[1]
    path = Path(wanted)
    description, network = load_features(path)
    known = (description.network.image_channels, *description.image_size, description.class_names)
    if known != (*train.images.shape[1:], train.class_names):
        raise unusable(path, "it was trained on other images or classes", FEATURE_NETWORK)
    return network.to(device)


def count_features(wanted: str, train: LabelledImages, test: LabelledImages) -> int:
    """D of the network that ``find_features`` finds, which may have to be trained first.

    Raises:
        DiffcliError: if a file is missing or of another kind.
    """
    for role in get_args(Role):
        if wanted == role:
            return _network_config(role, train, len(test)).channels[-1]
    return read_features_description(Path(wanted)).network.channels[-1]


def train_features(
    role: Role,
    train: LabelledImages,
    test: LabelledImages,
    device: torch.device,
    seed: int | None = None,
    epochs: int | None = None,
    on_progress: OnProgress | None = None,
) -> tuple[FeatureDescription, FeatureNetwork]:
    """Train a feature network from nothing.

    Args:
        role: decides the architecture, and the seed if that is None.
        train: what it is trained on; always real images.
        test: what its accuracy is measured on; if these are few, there are fewer features.
        device: where to train.
        seed: of weights, order and augmentation.
        epochs: see ``train_classifier``.
        on_progress: called after every step.
    """
    seed = _SEED[role] if seed is None else seed
    epochs = epochs or default_epochs(len(train))
    start = time.perf_counter()
    network = train_classifier(
        _network_config(role, train, len(test)), train.to(device), seed, epochs, on_progress
    )
    recognised = read_images(network, test.images).logits.argmax(dim=1)
    description = FeatureDescription(
        network.config,
        tuple(train.images.shape[2:]),
        train.class_names,
        digest(train),
        {
            "epochs": epochs,
            "seed": seed,
            "seconds": round(time.perf_counter() - start, 1),
            "test_accuracy": float((recognised == test.labels).double().mean()),
            "diffcli": __version__,
            "torch": torch.__version__,
        },
    )
    return description, network


def _network_config(role: Role, data: LabelledImages, held_out: int) -> FeatureNetworkConfig:
    channels, classes = data.images.shape[1], len(data.class_names)
    # A covariance needs more images than features, and twice as many to be of use.
    most = 2 ** int(math.log2(max(2 * _FEWEST_FEATURES, held_out) / 2))
    if role == "main":
        return FeatureNetworkConfig("residual", channels, classes, (32, 64, min(64, most)))
    return FeatureNetworkConfig("plain", channels, classes, (32, 64, min(128, most)))


def digest(data: LabelledImages) -> str:
    """A short digest of the images, the labels and the class names."""
    content = hashlib.blake2b(repr((data.class_names, data.images.shape)).encode(), digest_size=16)
    for tensor in (data.images, data.labels):
        content.update(tensor.contiguous().numpy().data)
    return content.hexdigest()
