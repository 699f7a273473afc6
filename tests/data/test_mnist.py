import hashlib
import lzma
import shutil
import struct
from importlib import resources
from pathlib import Path

import pytest
import torch

from diffcli.core.parameters import ScheduleConfig
from diffcli.core.schedule import NoiseSchedule
from diffcli.data.images import to_model_range, to_pixels
from diffcli.data.mnist import Split, load_mnist
from diffcli.errors import DiffcliError

# As published with the data set, of the unpacked IDX files.
PUBLISHED = {
    "train": (60_000, "6bbc9ace898e44ae57da46a324031adb", "a25bea736e30d166cdddb491f175f624"),
    "test": (10_000, "2646ac647ad5339dbf082846283269ea", "27ae3e4e09519cfbb04c329615203637"),
}


@pytest.mark.parametrize("split", ["train", "test"])
def test_not_a_byte_of_mnist_is_lost(split: Split) -> None:
    data = load_mnist(split)
    count, images_md5, labels_md5 = PUBLISHED[split]
    assert data.images.shape == (count, 1, 28, 28)
    assert data.images.dtype == torch.uint8
    assert data.labels.dtype == torch.int64
    assert data.class_names == tuple("0123456789")
    assert len(data) == count
    # The original files again, out of what was loaded.
    images = struct.pack(">4i", 2051, count, 28, 28) + data.images.numpy().tobytes()
    labels = struct.pack(">2i", 2049, count) + data.labels.to(torch.uint8).numpy().tobytes()
    assert hashlib.md5(images).hexdigest() == images_md5
    assert hashlib.md5(labels).hexdigest() == labels_md5


def test_the_prior_kl_of_real_digits() -> None:
    """How far from N(0, 1) the forward process ends, which decides whether sampling starts well."""
    mean_square = float(to_model_range(load_mnist("test").images).square().mean())
    for config, nats in (
        (ScheduleConfig("linear", 300), 17.9),
        (ScheduleConfig("linear", 1000), 0.015),
    ):
        per_pixel = NoiseSchedule.from_config(config).prior_kl(mean_square)
        assert 784 * per_pixel == pytest.approx(nats, rel=0.03)


def test_every_grey_value_survives_both_conversions() -> None:
    pixels = torch.arange(256, dtype=torch.uint8)
    images = to_model_range(pixels)
    assert images.dtype == torch.float32
    assert (images[0].item(), images[255].item()) == (-1, 1)
    assert torch.equal(to_pixels(images), pixels)
    assert to_pixels(torch.tensor([-3.0, 1.5])).tolist() == [0, 255]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the packaged data, which can be damaged."""
    packaged = Path(str(resources.files("diffcli.data").joinpath("mnist")))
    shutil.copytree(packaged, tmp_path / "mnist")
    monkeypatch.setattr("diffcli.data.mnist.resources.files", lambda _: tmp_path)
    return tmp_path / "mnist"


def test_missing_files_are_one_line(package: Path) -> None:
    (package / "test-labels.idx.xz").unlink()
    with pytest.raises(DiffcliError, match=r"test-labels cannot be read .*; reinstall diffcli"):
        load_mnist("test")


def test_truncated_files_are_one_line(package: Path) -> None:
    path = package / "test-images.idx.xz"
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(DiffcliError, match=r"test-images cannot be read .*; reinstall diffcli"):
        load_mnist("test")


def test_a_single_other_pixel_is_noticed(package: Path) -> None:
    path = package / "test-images.idx.xz"
    content = bytearray(lzma.decompress(path.read_bytes()))
    content[-1] ^= 1
    path.write_bytes(lzma.compress(content, preset=0))
    with pytest.raises(DiffcliError, match="test-images is damaged; reinstall diffcli"):
        load_mnist("test")
