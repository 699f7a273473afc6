"""Data sets by name or path."""

import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from diffcli.data.folder import OnProgress, Unreadable, load_folder
from diffcli.data.idx import load_idx_pair
from diffcli.data.images import LabelledImages, proportional_subset, resized
from diffcli.data.mnist import load_mnist
from diffcli.errors import DiffcliError, UsageError
from diffcli.files.locations import cache_folder
from diffcli.files.naming import is_unicode

if TYPE_CHECKING:
    from torchvision.datasets import MNIST

Splits = tuple[LabelledImages, LabelledImages]
"""Training and held-out images."""

_HELD_OUT_SHARE = 0.05
_FEWEST_HELD_OUT, _LARGEST_HELD_OUT_SHARE = 16, 0.2
_CIFAR10_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
_CIFAR10_MD5 = "c32a1d4ab5d03f1284b67883e8d87530"
_CIFAR10_CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip


@dataclass(frozen=True)
class DataSet:
    """A data set to train on.

    Args:
        train: the images to train on.
        held_out: images of the same kind that are not trained on.
        unreadable: files that were skipped.
        resized: how many pictures had another size.
    """

    train: LabelledImages
    held_out: LabelledImages
    unreadable: tuple[Unreadable, ...] = ()
    resized: int = 0


def load_data(
    source: str,
    size: tuple[int, int] | None = None,
    folder: Path | None = None,
    on_progress: OnProgress | None = None,
) -> DataSet:
    """Read a data set; a named one is downloaded first if it is not there yet.

    Args:
        source: ``mnist``, ``fashion-mnist``, ``kmnist``, ``emnist-letters``, ``emnist-balanced``,
            ``cifar10``, or the path of a folder of pictures or of an IDX file of images.
        size: ``(height, width)`` to resize the images to; if None, their own.
        folder: where downloaded data sets are kept; if None, the cache folder.
        on_progress: called while a folder is read.

    Raises:
        UsageError: if there is no such name or path, or the path is not valid Unicode.
        DiffcliError: if it cannot be downloaded or read.
    """
    # A model is saved with the name of its data set, as UTF-8.
    if not is_unicode(source):
        raise UsageError(f"the path {source} is not valid Unicode; rename it", "data")
    path = _path_of(source)
    unreadable: list[Unreadable] = []
    other_sizes = 0
    if source == "mnist":
        train, held_out = load_mnist("train"), load_mnist("test")
    elif source in _FETCHERS:
        train, held_out = _fetch(source, folder or cache_folder())
    elif path.is_dir():
        pictures, unreadable, other_sizes = load_folder(path, size, on_progress)
        train, held_out = _hold_out(pictures)
    elif path.is_file():
        train, held_out = _hold_out(load_idx_pair(path))
    else:
        raise UsageError(
            f"the data set {source!r} is neither a path nor one of mnist, {', '.join(_FETCHERS)}",
            "data",
        )
    if size:
        train, held_out = resized(train, size), resized(held_out, size)
    return DataSet(train, held_out, tuple(unreadable), other_sizes)


def is_folder(source: str) -> bool:
    """Whether a data set is a folder of pictures, and not a name or a file."""
    return source != "mnist" and source not in _FETCHERS and _path_of(source).is_dir()


def _path_of(source: str) -> Path:
    path = Path(source)
    with suppress(RuntimeError):  # "~name" of no user is no path that there is
        path = path.expanduser()
    return path


def pictures_to_hold_out(count: int) -> int:
    """About how many pictures a folder needs for so many of them to be held out."""
    share = _LARGEST_HELD_OUT_SHARE if count <= _FEWEST_HELD_OUT else _HELD_OUT_SHARE
    return math.ceil(count / share)


def _hold_out(data: LabelledImages) -> Splits:
    """Set a twentieth of the images of each label aside, or 16 in all, always the same.

    Which average of a run is kept, and whether it copies, is decided by them; but of the fewest
    images, most are needed for training, and the only one of a label always.
    """
    few = min(_FEWEST_HELD_OUT, round(len(data) * _LARGEST_HELD_OUT_SHARE))
    count = max(1, few, round(len(data) * _HELD_OUT_SHARE))
    chosen = proportional_subset(data.labels, count, seed=0)
    # Of two or more images of a label, these are never all: they are at most every second one.
    spare = chosen[data.labels.bincount()[data.labels[chosen]] > 1]
    left = torch.ones(len(data), dtype=torch.bool)
    left[spare] = False
    # If there are none to spare, some are used as both.
    return data.subset(left.nonzero()[:, 0]), data.subset(spare if len(spare) else chosen)


def _fetch(name: str, folder: Path) -> Splits:
    try:
        return _FETCHERS[name](folder)
    except Exception as error:  # torchvision uses assertions for damaged files
        files, place = _FILES[name]
        raise DiffcliError(
            f"cannot download or read {name} ({str(error) or type(error).__name__}); with a "
            f"network, remove {folder / place} and try again; without one, put {files} into it"
        ) from error


def _fashion_mnist(folder: Path) -> Splits:
    from torchvision.datasets import FashionMNIST

    return _splits(lambda train: FashionMNIST(folder, train=train, download=True))


def _kmnist(folder: Path) -> Splits:
    from torchvision.datasets import KMNIST

    return _splits(lambda train: KMNIST(folder, train=train, download=True))


def _emnist(split: str) -> Callable[[Path], Splits]:
    def fetch(folder: Path) -> Splits:
        from torchvision.datasets import EMNIST

        splits = _splits(lambda train: EMNIST(folder, split, train=train, download=True))
        # EMNIST is stored transposed; letters count from 1, with an unused class 0.
        first = 1 if split == "letters" else 0
        train, test = (
            LabelledImages(
                data.images.mT.contiguous(), data.labels - first, data.class_names[first:]
            )
            for data in splits
        )
        return train, test

    return fetch


def _splits(open_split: "Callable[[bool], MNIST]") -> Splits:
    train, test = (
        LabelledImages(part.data[:, None], part.targets.long(), tuple(part.classes))
        for part in (open_split(True), open_split(False))
    )
    return train, test


def _cifar10(folder: Path) -> Splits:
    # The binary version: the one that torchvision knows would have to be unpickled.
    from torchvision.datasets.utils import download_and_extract_archive

    place = folder / "cifar-10-batches-bin"
    if not place.is_dir():
        download_and_extract_archive(_CIFAR10_URL, str(folder), md5=_CIFAR10_MD5)

    def read(names: list[str]) -> LabelledImages:
        content = bytearray(b"".join((place / name).read_bytes() for name in names))
        rows = torch.frombuffer(content, dtype=torch.uint8).view(-1, 1 + 3 * 32 * 32)
        images = rows[:, 1:].reshape(-1, 3, 32, 32)
        return LabelledImages(images, rows[:, 0].long(), _CIFAR10_CLASSES)

    return read([f"data_batch_{n}.bin" for n in range(1, 6)]), read(["test_batch.bin"])


_FETCHERS: dict[str, Callable[[Path], Splits]] = {
    "fashion-mnist": _fashion_mnist,
    "kmnist": _kmnist,
    "emnist-letters": _emnist("letters"),
    "emnist-balanced": _emnist("balanced"),
    "cifar10": _cifar10,
}

# What to put where when there is no network, relative to the data folder.
_FILES = {
    "fashion-mnist": ("its four *-ubyte.gz files, unpacked,", "FashionMNIST/raw"),
    "kmnist": ("its four *-ubyte.gz files, unpacked,", "KMNIST/raw"),
    "emnist-letters": ("the emnist-letters-*-ubyte files of its gzip.zip, unpacked,", "EMNIST/raw"),
    "emnist-balanced": (
        "the emnist-balanced-*-ubyte files of its gzip.zip, unpacked,",
        "EMNIST/raw",
    ),
    "cifar10": ("the *.bin files of cifar-10-binary.tar.gz", "cifar-10-batches-bin"),
}
