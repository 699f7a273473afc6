"""Pictures that a model looks at: read, and fitted to its size and colours."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor

from diffcli.data.folder import Unreadable, list_pictures
from diffcli.errors import DiffcliError
from diffcli.files.arrays import load_npz
from diffcli.files.naming import class_numbers
from diffcli.files.pictures import fitted, from_pillow, to_pillow
from diffcli.files.reading import open_picture

UNKNOWN = -1
"""The label of a picture whose class is not known, or none of the model's."""


class Pictures(NamedTuple):
    """Pictures of a model's shape."""

    names: list[str]
    """Their files, or their places in arrays."""
    pixels: Tensor
    """uint8 ``(N, C, H, W)``."""
    labels: list[int]
    """Class numbers of the model, or ``UNKNOWN``."""
    converted: int
    """How many had another size or other colours."""
    unreadable: list[Unreadable]
    """Files in folders that were skipped."""


def read_pictures(
    paths: Sequence[Path], shape: tuple[int, int, int], class_names: Sequence[str]
) -> Pictures:
    """Read pictures and convert them as drawing from a picture does.

    Args:
        paths: of pictures, whose classes are not known; of folders, whose sub-folders are
            classes, by name or by the file name that drawn ones get; of ``npz`` files, whose
            labels are class numbers.
        shape: ``(C, H, W)`` of the model.
        class_names: of the model.

    Raises:
        DiffcliError: if one that is named cannot be read, or none of a folder.
    """
    channels, height, width = shape
    known = class_numbers(class_names)
    unreadable: list[Unreadable] = []
    converted = 0

    def fit(picture: Image.Image) -> Tensor:
        nonlocal converted
        converted += (picture.size, len(picture.getbands())) != ((width, height), channels)
        return from_pillow(fitted(picture, channels, height, width))

    names: list[str] = []
    pixels: list[Tensor] = []
    labels: list[int] = []
    for path in paths:
        if path.is_dir():
            classes, files = list_pictures(path)
            for file, label in files:
                try:
                    pixels.append(fit(open_picture(file)))
                except DiffcliError as error:
                    unreadable.append(Unreadable(file, str(error)))
                    continue
                names.append(str(file))
                labels.append(known.get(classes[label], UNKNOWN))
        elif path.suffix.lower() == ".npz":
            arrays = load_npz(path)
            names += [f"{path}[{index}]" for index in range(len(arrays.images))]
            pixels += [fit(to_pillow(image)) for image in arrays.images]
            numbers = range(len(class_names))
            labels += [label if label in numbers else UNKNOWN for label in arrays.labels.tolist()]
        else:
            names.append(str(path))
            pixels.append(fit(open_picture(path)))
            labels.append(UNKNOWN)
    if not pixels:
        raise DiffcliError(f"no picture can be read; the first one: {unreadable[0].why}")
    return Pictures(names, torch.stack(pixels), labels, converted, unreadable)
