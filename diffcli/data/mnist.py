"""MNIST, which is part of the package."""

import hashlib
import io
import lzma
from importlib import resources
from typing import Literal

from diffcli.data.idx import read_idx
from diffcli.data.images import LabelledImages
from diffcli.errors import DiffcliError

Split = Literal["train", "test"]

# md5 of the unpacked IDX files, as published with the data set.
_MD5 = {
    "train-images": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels": "a25bea736e30d166cdddb491f175f624",
    "test-images": "2646ac647ad5339dbf082846283269ea",
    "test-labels": "27ae3e4e09519cfbb04c329615203637",
}


def load_mnist(split: Split) -> LabelledImages:
    """The 60,000 training or 10,000 test digits, ``(N, 1, 28, 28)``.

    Raises:
        DiffcliError: if the packaged files are missing or damaged.
    """
    images, labels = (read_idx(_unpack(f"{split}-{part}")) for part in ("images", "labels"))
    return LabelledImages(images[:, None], labels.long(), tuple("0123456789"))


def _unpack(name: str) -> io.BytesIO:
    packed = resources.files("diffcli.data").joinpath("mnist", f"{name}.idx.xz")
    try:
        content = lzma.decompress(packed.read_bytes())
    except (OSError, lzma.LZMAError) as error:
        raise DiffcliError(
            f"the packaged MNIST file {name} cannot be read ({error}); reinstall diffcli"
        ) from error
    if hashlib.md5(content, usedforsecurity=False).hexdigest() != _MD5[name]:
        raise DiffcliError(f"the packaged MNIST file {name} is damaged; reinstall diffcli")
    return io.BytesIO(content)
