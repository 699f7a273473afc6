"""A folder of pictures, one sub-folder per class, as a data set."""

import os
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import psutil
import torch
from PIL import Image, ImageChops
from torch import Tensor

from diffcli.data.images import LabelledImages
from diffcli.errors import DiffcliError, UsageError
from diffcli.files.naming import is_unicode
from diffcli.files.pictures import fitted, from_pillow
from diffcli.files.reading import READABLE_SUFFIXES, open_picture

_MOST_UNREADABLE = 0.1
_MOST_OF_OTHER_SIZES = 0.1
_SHARE_OF_MEMORY = 0.5

# Each holds a picture, which may be of 89 million pixels, up to twice while it is decoded.
_READERS = 8

OnProgress = Callable[[int, int, int], None]
"""Called with the number of pictures read, that of all, and the bytes that all of them take."""


@dataclass(frozen=True)
class Unreadable:
    """A file with a picture's suffix that cannot be read as one."""

    path: Path
    why: str


class Folder(NamedTuple):
    """What a folder holds."""

    pictures: LabelledImages
    unreadable: list[Unreadable]
    """Files that were skipped because they cannot be read."""
    resized: int
    """How many pictures had another size."""


def load_folder(
    folder: Path, size: tuple[int, int] | None = None, on_progress: OnProgress | None = None
) -> Folder:
    """Read all pictures in a folder and its sub-folders.

    Each sub-folder is a class of its name, in alphabetical order; a folder without sub-folders
    is one class.  Pictures become grey if all of them show shades of grey only, however they are
    stored, else RGB.  Those of another shape than ``size`` are cropped at the centre to its aspect
    ratio and resized.

    Args:
        folder: where the pictures are.
        size: ``(height, width)`` in pixels; if None, that of at least nine tenths of the
            pictures.
        on_progress: called before the first picture is read, and after each.

    Raises:
        UsageError: see ``list_pictures``; or if pictures differ in size and ``size`` is None.
        DiffcliError: if over a tenth of the files cannot be read, or they need too much memory.
    """
    class_names, files = list_pictures(folder)
    with ThreadPoolExecutor(_READERS) as pool:
        probes = list(pool.map(_probe, [path for path, _ in files]))
        unreadable = [probe for probe in probes if isinstance(probe, Unreadable)]
        _refuse_too_many(unreadable, len(files))
        readable = [
            (path, label, probe)
            for (path, label), probe in zip(files, probes, strict=True)
            if not isinstance(probe, Unreadable)
        ]
        height, width = size or _common_size(folder, [probe for *_, probe in readable])
        channels = 1 if all(probe.grey for *_, probe in readable) else 3
        size_in_memory = len(readable) * channels * height * width
        _refuse_too_large(size_in_memory)
        if on_progress:
            on_progress(0, len(readable), size_in_memory)

        def read(item: tuple[Path, int, _Probe]) -> Tensor | Unreadable:
            return _read(item[0], (height, width), channels)

        images = torch.empty((len(readable), channels, height, width), dtype=torch.uint8)
        good = torch.ones(len(readable), dtype=torch.bool)
        for index, picture in enumerate(pool.map(read, readable)):
            if isinstance(picture, Unreadable):
                unreadable.append(picture)
                good[index] = False
            else:
                images[index] = picture
            if on_progress:
                on_progress(index + 1, len(readable), size_in_memory)
    _refuse_too_many(unreadable, len(files))
    labels = torch.tensor([label for _, label, _ in readable])
    if not good.all():
        images, labels = images[good], labels[good]
    _refuse_empty_classes(folder, class_names, labels)
    resized = sum(probe.size != (height, width) for *_, probe in readable)
    return Folder(LabelledImages(images, labels, class_names), unreadable, resized)


@dataclass(frozen=True)
class _Probe:
    size: tuple[int, int]
    grey: bool


def list_pictures(folder: Path) -> tuple[tuple[str, ...], list[tuple[Path, int]]]:
    """The classes of a folder, and the path and the class number of each picture.

    Raises:
        UsageError: if there are no pictures, a class has none, pictures lie beside class folders,
            or the name of a class is not valid Unicode.
        OSError: if a folder cannot be read.
    """
    if not folder.is_dir():
        raise UsageError(f"there is no folder {folder}")
    visible = [path for path in folder.iterdir() if not path.name.startswith(".")]
    # By their names as texts: paths have another order on Windows, where case does not count.
    classes = sorted((path for path in visible if path.is_dir()), key=lambda path: path.name)
    if classes and (loose := sorted(path.name for path in visible if _is_picture(path))):
        raise UsageError(
            f"beside the class folders in {folder} lie pictures without a class ({len(loose)}, the "
            f"first one is {loose[0]}); move them into a class folder, or remove them"
        )
    places = classes or [folder]
    # A model is saved with the names of its classes, as UTF-8.
    if odd := [place for place in places if not is_unicode(place.name)]:
        raise UsageError(f"the name of the folder {odd[0]} is not valid Unicode; rename it")
    files = [(path, label) for label, place in enumerate(places) for path in _pictures_in(place)]
    if not files:
        raise UsageError(
            f"there are no pictures in {folder}; it should have one sub-folder per class, with "
            f"{', '.join(sorted(READABLE_SUFFIXES))} files"
        )
    filled = {label for _, label in files}
    if empty := [place.name for label, place in enumerate(classes) if label not in filled]:
        raise UsageError(
            f"the class folder {folder / empty[0]} has no pictures; remove it or fill it"
        )
    return tuple(place.name for place in places), files


def _pictures_in(folder: Path) -> list[Path]:
    """The pictures in a folder and its sub-folders, in an order that all systems have."""
    found = []
    for place, folders, names in os.walk(folder, onerror=_raise):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(place, name) for name in names if not name.startswith(".")]
    found.sort(key=lambda path: path.relative_to(folder).parts)
    return [path for path in found if _is_picture(path)]


def _raise(error: OSError) -> None:
    # A folder that may not be read is not an empty one.
    raise error


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in READABLE_SUFFIXES and path.is_file()


def _probe(path: Path) -> _Probe | Unreadable:
    try:
        with open_picture(path) as picture:
            return _Probe((picture.height, picture.width), _is_grey(picture))
    except DiffcliError as error:
        return Unreadable(path, str(error))


def _is_grey(picture: Image.Image) -> bool:
    """Whether all bands are the same: paint programs store grey drawings as RGB."""
    first = picture.getchannel(0)
    # One band at a time, because a picture can be large.
    return not any(
        ImageChops.difference(first, picture.getchannel(band)).getbbox()
        for band in range(1, len(picture.getbands()))
    )


def _read(path: Path, size: tuple[int, int], channels: int) -> Tensor | Unreadable:
    try:
        with open_picture(path) as picture:
            return from_pillow(fitted(picture, channels, *size))
    except DiffcliError as error:
        return Unreadable(path, str(error))


def _common_size(folder: Path, probes: Sequence[_Probe]) -> tuple[int, int]:
    sizes = Counter(probe.size for probe in probes)
    (height, width), count = sizes.most_common(1)[0]
    if len(probes) - count > _MOST_OF_OTHER_SIZES * len(probes):
        raise UsageError(
            f"the pictures in {folder} have {len(sizes)} different sizes "
            f"({width}x{height} in {count} of {len(probes)})",
            "image_size",
        )
    return height, width


def _refuse_empty_classes(folder: Path, class_names: Sequence[str], labels: Tensor) -> None:
    filled = set(labels.tolist())
    for label, name in enumerate(class_names):
        if label not in filled:
            raise UsageError(
                f"no picture in the class folder {folder / name} can be read; repair them, or "
                "remove the folder"
            )


def _refuse_too_many(unreadable: Sequence[Unreadable], total: int) -> None:
    if len(unreadable) > _MOST_UNREADABLE * total:
        raise DiffcliError(
            f"{len(unreadable)} of {total} pictures cannot be read, more than a tenth; the "
            f"first one: {unreadable[0].why}"
        )


def _refuse_too_large(size: int) -> None:
    # Where the platform does not tell its memory, the allocation will fail if it must.
    try:
        memory = psutil.virtual_memory().total
    except (OSError, psutil.Error):
        return
    if size > memory * _SHARE_OF_MEMORY:
        raise DiffcliError(
            f"the pictures need {size / 2**30:.1f} GiB as pixels, more than half of this "
            f"computer's {memory / 2**30:.1f} GiB",
            "image_size",
        )
