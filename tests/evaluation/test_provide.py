import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import get_args

import pytest
import torch

from diffcli.data.images import LabelledImages
from diffcli.data.mnist import load_mnist
from diffcli.errors import DiffcliError
from diffcli.evaluation import classifier
from diffcli.evaluation import provide as providing
from diffcli.evaluation.network import FeatureNetwork, read_images
from diffcli.evaluation.provide import (
    Role,
    count_features,
    digest,
    find_features,
    provide,
    train_features,
    usual_place,
)
from diffcli.evaluation.storage import FeatureDescription, save_features
from diffcli.files.locations import shipped_file
from tests.evaluation.pictures import bars

CPU = torch.device("cpu")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of its own, and so little training that a test can wait for it."""
    monkeypatch.setenv("DIFFCLI_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(classifier, "_IMAGES_SEEN", 1000)
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
    recognised = read_images(network, test.images).logits.argmax(1) == test.labels
    assert 0 < description.training["test_accuracy"] == float(recognised.double().mean()) < 1
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


def test_of_several_at_the_same_time_one_trains(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, test = bars(200, seed=1), bars(150, seed=2)
    made = train_features("main", train, test, CPU, epochs=1)
    began: list[float] = []

    def slowly(*_: object, **__: object) -> tuple[FeatureDescription, FeatureNetwork]:
        began.append(time.monotonic())
        time.sleep(0.3)  # the others come meanwhile
        return made

    monkeypatch.setattr(providing, "train_features", slowly)
    with ThreadPoolExecutor() as pool:
        found = list(pool.map(lambda _: provide("main", train, test, CPU), range(3)))
    assert len(began) == 1
    assert [description for description, _ in found] == 3 * [made[0]]


def test_a_damaged_cached_file_is_replaced(cache: Path) -> None:
    train, test = bars(200, seed=1), bars(150, seed=2)
    description, _ = provide("main", train, test, CPU)
    place = usual_place("main", train)
    place.write_bytes(place.read_bytes()[:-100])
    with pytest.raises(DiffcliError, match="damaged"):
        find_features(str(place), train, test, CPU)
    again, _ = provide("main", train, test, CPU)
    assert again.network == description.network
    assert find_features(str(place), train, test, CPU).config == again.network


def test_a_damaged_shipped_file_is_not(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train, test = bars(200, seed=1), bars(150, seed=2)
    description, network = train_features("main", train, test, CPU, epochs=1)
    network.head.weight.fill_(torch.nan)
    monkeypatch.setattr(providing, "shipped_file", lambda name: cache / name)
    save_features(cache / "features-mnist.safetensors", description, network)
    with pytest.raises(DiffcliError, match="not all finite"):
        provide("main", train, test, CPU)


def test_networks_of_the_first_release_are_not_used(cache: Path) -> None:
    train = bars(200, seed=1)
    assert usual_place("main", train).name == f"{digest(train)}-2.safetensors"
    assert usual_place("check", train).name == f"{digest(train)}-2-check.safetensors"


@pytest.mark.parametrize("role", get_args(Role))
@pytest.mark.parametrize("held_out", [20, 50, 300])
def test_the_number_of_features_is_known_before(cache: Path, role: Role, held_out: int) -> None:
    train, test = bars(200, seed=1), bars(held_out, seed=2)
    expected = train_features(role, train, test, CPU, epochs=1)
    save_features(cache / "own.safetensors", *expected)
    for wanted in (role, str(cache / "own.safetensors")):
        assert count_features(wanted, train, test) == expected[1].head.in_features


def test_the_number_of_features_of_shipped_networks_is_known() -> None:
    train, test = load_mnist("train"), load_mnist("test")
    for role in get_args(Role):
        _, network = provide(role, train, test, CPU)
        assert count_features(role, train, test) == network.head.in_features


def test_nothing_is_trained_for_a_data_set_too_small_to_judge_by(cache: Path) -> None:
    for train, test, what in (
        (
            bars(1200, seed=1),
            bars(8, seed=2),
            "8 held-out images, of 1,208, are .* about 45 pictures",
        ),
        (bars(30, seed=1), bars(90, seed=2), "30 training images are too few.*33 are needed$"),
    ):
        with pytest.raises(DiffcliError, match=what):
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
    _, network = provide("main", train, test, CPU)
    path = usual_place("main", train)
    found = find_features(str(path), bars(50, seed=3), test, CPU)
    assert torch.equal(found.head.weight, network.head.weight)
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
