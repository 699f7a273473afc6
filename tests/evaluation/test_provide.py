from pathlib import Path

import pytest
import torch

from diffcli.data.images import LabelledImages
from diffcli.data.mnist import load_mnist
from diffcli.errors import DiffcliError
from diffcli.evaluation import classifier
from diffcli.evaluation.provide import digest, find_features, provide, usual_place
from diffcli.files.locations import shipped_file
from tests.evaluation.pictures import bars

CPU = torch.device("cpu")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of its own, and so little training that a test can wait for it."""
    monkeypatch.setenv("DIFFCLI_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(classifier, "_MIN_IMAGES_SEEN", 1000)
    return tmp_path


def test_the_networks_of_mnist_are_shipped(cache: Path) -> None:
    train = load_mnist("train")
    assert usual_place("main", train) == shipped_file("features-mnist.safetensors")
    assert usual_place("check", train) == shipped_file("features-mnist-check.safetensors")
    assert cache in usual_place("main", train.subset(torch.arange(59_999))).parents


def test_that_of_another_data_set_is_trained_once(cache: Path) -> None:
    train, test = bars(200, seed=1), bars(150, seed=2)
    seen: list[int] = []

    def count(done: int, _: int) -> None:
        seen.append(done)

    description, network = provide("main", train, test, CPU, count)
    assert seen
    assert description.class_names == train.class_names
    assert description.image_size == (8, 8)
    assert description.training["seed"] == 0
    assert usual_place("main", train).is_file()
    seen.clear()
    again, loaded = provide("main", train, test, CPU, count)
    assert not seen
    assert again == description
    assert all(
        torch.equal(a, b)
        for a, b in zip(network.state_dict().values(), loaded.state_dict().values(), strict=True)
    )
    check, _ = provide("check", train, test, CPU, count)
    assert seen
    assert check.network.architecture != description.network.architecture
    assert check.training["seed"] != description.training["seed"]
    assert len(list(cache.rglob("*.safetensors"))) == 2


def test_nothing_is_trained_for_a_data_set_too_small_to_judge_by(cache: Path) -> None:
    for train, test, what in (
        (bars(200, seed=1), bars(8, seed=2), "8 held-out images, of 208,"),
        (bars(30, seed=1), bars(90, seed=2), "30 training images"),
    ):
        with pytest.raises(DiffcliError, match=f"{what} are too few"):
            provide("main", train, test, CPU)
    assert not list(cache.rglob("*"))


@pytest.mark.parametrize(("held_out", "features"), [(9, 8), (31, 8), (32, 16), (130, 64)])
def test_few_held_out_images_are_judged_by_few_features(
    cache: Path, held_out: int, features: int
) -> None:
    description, network = provide("check", bars(200, seed=1), bars(held_out, seed=2), CPU)
    assert description.network.channels[-1] == network.head.in_features == features


def test_a_file_is_used_only_for_images_it_was_trained_on(cache: Path) -> None:
    train, test = bars(200, seed=1), bars(150, seed=2)
    provide("main", train, test, CPU)
    path = usual_place("main", train)
    description, _ = find_features(str(path), bars(50, seed=3), test, CPU)
    assert description.training_data == digest(train)
    digits = load_mnist("test")
    with pytest.raises(DiffcliError, match="other images or classes"):
        find_features(str(path), digits, digits, CPU)


def test_the_digest_sees_every_part(cache: Path) -> None:
    data = bars(30, seed=1)
    images, labels = data.images.clone(), data.labels.clone()
    images[7, 0, 3, 3] += 1
    labels[7] = (labels[7] + 1) % 3
    others = [
        LabelledImages(images, data.labels, data.class_names),
        LabelledImages(data.images, labels, data.class_names),
        LabelledImages(data.images, data.labels, ("a", "b", "c")),
    ]
    assert len({digest(other) for other in [data, bars(30, seed=1), *others]}) == 4
