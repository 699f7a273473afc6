import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from diffcli.data.mnist import load_mnist
from diffcli.errors import DiffcliError
from diffcli.evaluation.network import FeatureNetwork, FeatureNetworkConfig, read_images
from diffcli.evaluation.provide import digest
from diffcli.evaluation.storage import FeatureDescription, load_features, save_features
from diffcli.files.locations import shipped_file
from tests.evaluation.pictures import NAMES

pytestmark = pytest.mark.long

CONFIG = FeatureNetworkConfig("plain", 1, 3, (4, 8))
DESCRIPTION = FeatureDescription(CONFIG, (8, 8), NAMES, "abc", {"epochs": 2})


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "features.safetensors"
    save_features(path, DESCRIPTION, FeatureNetwork(CONFIG).eval())
    return path


@pytest.mark.parametrize("architecture", ["residual", "plain"])
def test_what_is_written_is_read(tmp_path: Path, architecture: str) -> None:
    config = FeatureNetworkConfig(
        "residual" if architecture == "residual" else "plain", 3, 4, (8, 16)
    )
    network = FeatureNetwork(config).eval()
    description = FeatureDescription(config, (9, 7), ("a", "b", "ü", "d"), "ff")
    path = tmp_path / "features.safetensors"
    save_features(path, description, network)
    read, loaded = load_features(path)
    assert read == description
    images = torch.randint(256, (5, 3, 9, 7), dtype=torch.uint8)
    expected, found = read_images(network, images), read_images(loaded, images)
    assert torch.equal(found.features, expected.features)
    assert torch.equal(found.logits, expected.logits)
    assert found.features.shape == (5, 16)
    assert found.logits.shape == (5, 4)


@pytest.mark.parametrize("name", ["features-mnist", "features-mnist-check"])
def test_the_shipped_networks_know_the_test_digits(name: str) -> None:
    path = shipped_file(f"{name}.safetensors")
    description, network = load_features(path)
    test = load_mnist("test")
    recognised = read_images(network, test.images).logits.argmax(dim=1)
    accuracy = float((recognised == test.labels).double().mean())
    assert accuracy >= 0.995
    assert description.training["test_accuracy"] == pytest.approx(accuracy, abs=2e-4)
    assert description.training_data == digest(load_mnist("train"))
    assert path.stat().st_size < 1_200_000


def test_the_check_network_is_another_one() -> None:
    main, check = (
        load_features(shipped_file(f"features-mnist{suffix}.safetensors"))[0].network
        for suffix in ("", "-check")
    )
    assert main.architecture != check.architecture
    assert main.channels != check.channels


def change(path: Path, **changes: object) -> None:
    with safe_open(path, "pt") as file:
        document = json.loads(file.metadata()["diffcli"])
    document.update(changes)
    save_file(load_file(path), path, {"diffcli": json.dumps(document)})


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"network": None}, "no JSON object"),
        ({"network": {**CONFIG.__dict__, "architecture": "deep"}}, "architecture"),
        ({"network": {**CONFIG.__dict__, "channels": [10**9]}}, "widths"),
        ({"network": {**CONFIG.__dict__, "channels": [8, 8]}}, "do not fit"),
        ({"network": {**CONFIG.__dict__, "num_classes": 4}}, "3 class names for 4 classes"),
        ({"network": {**CONFIG.__dict__, "image_channels": 2}}, "image_channels"),
        ({"class_names": "abc"}, "class_names"),
        ({"training_data": 3}, "training_data"),
        ({"surprise": 3}, "surprise"),
        ({"format_version": 99}, "99"),
    ],
)
def test_other_descriptions_are_refused(saved: Path, changes: dict[str, object], what: str) -> None:
    change(saved, **changes)
    with pytest.raises(DiffcliError, match=f"not a usable feature network.*{what}"):
        load_features(saved)


def test_other_weights_are_refused(saved: Path) -> None:
    weights = load_file(saved)
    with safe_open(saved, "pt") as file:
        metadata = file.metadata()
    bad = {name: w.clone().fill_(torch.nan) if "head" in name else w for name, w in weights.items()}
    save_file(bad, saved, metadata)
    with pytest.raises(DiffcliError, match="not all finite"):
        load_features(saved)
    del weights["head.bias"]
    save_file(weights, saved, metadata)
    with pytest.raises(DiffcliError, match="do not fit"):
        load_features(saved)


def test_damaged_files_are_refused(saved: Path) -> None:
    whole = saved.read_bytes()
    for content in (b"", whole[:100], whole[:-100]):
        saved.write_bytes(content)
        with pytest.raises(DiffcliError, match=r"features\.safetensors"):
            load_features(saved)
    with pytest.raises(DiffcliError, match=r"there is no feature network .*absent"):
        load_features(saved.with_name("absent"))
