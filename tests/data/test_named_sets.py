"""Data sets by name, from files that are already there, and when they cannot be fetched."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from diffcli.data.sources import load_data
from diffcli.errors import DiffcliError
from tests.data.files import idx, put

COUNTS = {"train": 6, "t10k": 4}


def pictures(count: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (count, 28, 28), generator=generator).to(torch.uint8)


@pytest.mark.parametrize(
    ("name", "folder", "last"),
    [("fashion-mnist", "FashionMNIST", "Ankle boot"), ("kmnist", "KMNIST", "wo")],
)
def test_relatives_of_mnist(
    name: str, folder: str, last: str, tmp_path: Path, offline: None
) -> None:
    for part, count in COUNTS.items():
        images = tmp_path / folder / "raw" / f"{part}-images-idx3-ubyte"
        put(images, pictures(count, count), torch.arange(count) + 10 - count)
    data = load_data(name, folder=tmp_path)
    for got, count in zip((data.train, data.held_out), COUNTS.values(), strict=True):
        assert torch.equal(got.images, pictures(count, count)[:, None])
        assert torch.equal(got.labels, torch.arange(count) + 10 - count)
        assert len(got.class_names) == 10
        assert got.class_names[-1] == last


@pytest.mark.parametrize(
    ("split", "stored", "labels", "first", "last"),
    [("letters", (1, 26), (0, 25), "a", "z"), ("balanced", (0, 46), (0, 46), "0", "t")],
)
def test_letters_stand_upright_and_count_from_0(
    split: str,
    stored: tuple[int, int],
    labels: tuple[int, int],
    first: str,
    last: str,
    tmp_path: Path,
    offline: None,
) -> None:
    upright = pictures(2, 0)
    for part in ("train", "test"):
        images = tmp_path / "EMNIST" / "raw" / f"emnist-{split}-{part}-images-idx3-ubyte"
        put(images, upright.mT.contiguous(), torch.tensor(stored))
    data = load_data(f"emnist-{split}", folder=tmp_path)
    for got in (data.train, data.held_out):
        assert torch.equal(got.images, upright[:, None])
        assert tuple(got.labels.tolist()) == labels
        assert (got.class_names[0], got.class_names[-1]) == (first, last)


def test_cifar10_is_a_label_and_three_planes_per_picture(tmp_path: Path, offline: None) -> None:
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    rows = torch.randint(256, (12, 3073), generator=torch.Generator().manual_seed(0))
    rows[:, 0] = torch.arange(12) % 10
    rows = rows.to(torch.uint8)
    names = [*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"]
    for name, pair in zip(names, rows.split(2), strict=True):
        (folder / name).write_bytes(pair.numpy().tobytes())
    data = load_data("cifar10", folder=tmp_path)
    assert torch.equal(data.train.images, rows[:10, 1:].view(10, 3, 32, 32))
    assert data.train.labels.tolist() == list(range(10))
    assert data.held_out.labels.tolist() == [0, 1]
    assert (data.train.class_names[0], data.train.class_names[9]) == ("airplane", "truck")


NAMES = {
    "fashion-mnist": "FashionMNIST/raw",
    "kmnist": "KMNIST/raw",
    "emnist-letters": "EMNIST/raw",
    "emnist-balanced": "EMNIST/raw",
    "cifar10": "cifar-10-batches-bin",
}


@pytest.mark.parametrize(("name", "place"), NAMES.items())
def test_without_a_network_it_says_which_files_go_where(
    name: str, place: str, tmp_path: Path, offline: None, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(DiffcliError, match=f"cannot download or read {name} ") as caught:
        load_data(name, folder=tmp_path)
    assert str(tmp_path / place) in str(caught.value)
    assert "put " in str(caught.value)
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize("damage", ["cut", "text", "too few labels", "a label too high"])
def test_damaged_files_are_an_error_that_says_what_to_remove(
    damage: str, tmp_path: Path, offline: None
) -> None:
    place = tmp_path / "FashionMNIST" / "raw"
    for part, count in COUNTS.items():
        put(place / f"{part}-images-idx3-ubyte", pictures(count, 0), torch.arange(count))
    images, labels = place / "train-images-idx3-ubyte", place / "train-labels-idx1-ubyte"
    if damage == "cut":
        images.write_bytes(images.read_bytes()[:-1])
    elif damage == "text":
        images.write_text("<html>moved</html>")
    elif damage == "too few labels":
        labels.write_bytes(idx((5,), bytes(range(5))))
    else:
        labels.write_bytes(idx((6,), bytes(range(5, 11))))
    with pytest.raises(DiffcliError, match="cannot download or read fashion-mnist ") as caught:
        load_data("fashion-mnist", folder=tmp_path)
    assert f"remove {place}" in str(caught.value)


def test_damaged_cifar10_is_an_error_too(tmp_path: Path, offline: None) -> None:
    place = tmp_path / "cifar-10-batches-bin"
    place.mkdir()
    for number in range(1, 6):
        (place / f"data_batch_{number}.bin").write_bytes(bytes(3000))
    with pytest.raises(DiffcliError, match="cannot download or read cifar10 ") as caught:
        load_data("cifar10", folder=tmp_path)
    assert f"remove {place}" in str(caught.value)
