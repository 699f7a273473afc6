from pathlib import Path
from typing import Literal

import pytest
import torch

from diffcli.data.images import to_model_range
from diffcli.data.sources import load_data
from diffcli.errors import DiffcliError
from diffcli.evaluation import network as module
from diffcli.evaluation.network import (
    FeatureNetwork,
    FeatureNetworkConfig,
    bounded,
    check_held_out,
    read_images,
)
from tests.evaluation.pictures import bars
from tests.memory import LargestTensor
from tests.training.pictures import write_folder


def noise(*shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, shape, generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("size", "seen"),
    [
        ((1, 1), (8, 8)),
        ((4, 6), (8, 12)),
        ((7, 20), (8, 23)),
        ((65, 65), (64, 64)),
        ((100, 50), (64, 32)),
        ((480, 640), (48, 64)),
        ((1000, 10), (64, 8)),
        ((2, 60), (8, 64)),
    ],
)
def test_small_and_large_images_are_scaled(size: tuple[int, int], seen: tuple[int, int]) -> None:
    assert bounded(noise(3, 3, *size)).shape == (3, 3, *seen)
    assert torch.equal(bounded(torch.full((2, 1, *size), 255).byte()).unique(), torch.tensor([255]))


@pytest.mark.parametrize("size", [(8, 8), (28, 28), (64, 8), (33, 64)])
def test_others_stay_as_they_are(size: tuple[int, int]) -> None:
    images = noise(2, 1, *size)
    assert bounded(images) is images


def test_stripes_too_fine_to_be_seen_become_grey() -> None:
    stripes = torch.tensor([0, 200], dtype=torch.uint8).repeat(64).expand(1, 1, 128, 128)
    assert (bounded(stripes)[..., 2:-2].float() - 100).abs().max() <= 1


def test_large_images_are_never_all_in_float(monkeypatch: pytest.MonkeyPatch) -> None:
    images = noise(9, 1, 100, 90)
    expected = bounded(images)
    monkeypatch.setattr(module, "_PIXELS", 2 * 100 * 90)
    with LargestTensor(torch.is_floating_point) as largest:
        assert torch.equal(bounded(images), expected)
    assert largest.nbytes == 4 * 2 * 100 * 90


@pytest.mark.parametrize("architecture", ["residual", "plain"])
@pytest.mark.parametrize("size", [(1, 3), (7, 7), (300, 200)])
def test_images_of_any_size_have_features(
    architecture: Literal["residual", "plain"], size: tuple[int, int]
) -> None:
    config = FeatureNetworkConfig(architecture, 1, 3, (8, 8, 16))
    network = FeatureNetwork(config).eval()
    images = noise(5, 1, *size)
    found = read_images(network, images)
    assert found.features.shape == (5, 16)
    assert found.features.isfinite().all()
    assert torch.equal(found.features, read_images(network, bounded(images)).features)


@torch.inference_mode()
def test_digits_have_the_features_that_the_network_computes_of_them() -> None:
    network = FeatureNetwork(FeatureNetworkConfig("residual", 1, 3, (8, 8, 16))).eval()
    images = noise(20, 1, 28, 28)
    found = read_images(network, images)
    assert torch.equal(found.features, network.features(to_model_range(images)))
    assert torch.equal(found.logits, network(to_model_range(images)))


@pytest.mark.parametrize(("features", "pictures"), [(8, "45"), (15, "80"), (16, "340")])
def test_it_is_said_how_many_pictures_would_do(
    features: int, pictures: str, tmp_path: Path
) -> None:
    with pytest.raises(DiffcliError, match=rf"too few for {features} .* about {pictures} pictures"):
        check_held_out(features, features, "held-out images")
    folder = write_folder(tmp_path / "enough", bars(int(pictures), seed=1))
    check_held_out(len(load_data(str(folder)).held_out), features, "held-out images")
