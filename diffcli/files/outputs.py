"""Where drawn pictures go as they come: one file each, one array, one grid."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from diffcli.errors import DiffcliError
from diffcli.files.arrays import save_npz
from diffcli.files.atomic import write_atomically
from diffcli.files.naming import file_names, unused_path
from diffcli.files.pictures import encode_png, tile, to_pillow
from diffcli.files.provenance import Provenance
from diffcli.request import SampleRequest

_SINGLES_PER_ROW = 10


class Output(ABC):
    """Takes pictures in order, as many as come.

    Args:
        request: what is going to be drawn.
    """

    def __init__(self, request: SampleRequest) -> None:
        self.request = request
        self.count = 0

    def add(self, pixels: Tensor) -> None:
        """Take the next pictures, uint8 ``(B, C, H, W)``.

        Raises:
            OSError: if they cannot be written.
        """
        for picture in pixels:
            self._take(picture)
            self.count += 1

    @abstractmethod
    def _take(self, picture: Tensor) -> None:
        """Take picture number ``count``, ``(C, H, W)``."""


class PictureFiles(Output):
    """One PNG per picture, written as it comes.

    Args:
        request: what is going to be drawn.
        pattern: path of each, with ``{label}``, ``{seed}`` and ``{index}`` in it.
        class_names: of all labels of the model; those that are no file names are adapted.
        overwrite: whether existing files may be; otherwise names get a suffix.
        provenance: kept in each picture, if given.
        on_written: told the path of each picture.
    """

    def __init__(
        self,
        request: SampleRequest,
        pattern: str,
        class_names: Sequence[str],
        overwrite: bool,
        provenance: Provenance | None,
        on_written: Callable[[Path], None],
    ) -> None:
        super().__init__(request)
        self.renamed = 0
        self._pattern = pattern
        self._names = file_names(class_names)
        self._overwrite = overwrite
        self._provenance = provenance
        self._on_written = on_written

    def _take(self, picture: Tensor) -> None:
        index = self.count
        label, seed = self.request.label(index), self.request.seed + index
        wanted = Path(self._pattern.format(label=self._names[label], seed=seed, index=index))
        path = wanted if self._overwrite else unused_path(wanted)
        self.renamed += path != wanted
        path.parent.mkdir(parents=True, exist_ok=True)
        embedded = self._provenance.of_one(index).embedded() if self._provenance else None
        write_atomically(path, encode_png(to_pillow(picture), embedded), durable=False)
        self._on_written(path)


class ArraysFile(Output):
    """All pictures in one ``npz``; until it is written they wait in memory, once.

    Args:
        request: what is going to be drawn.
        path: the file.
        shape: ``(C, H, W)``.

    Raises:
        DiffcliError: if memory will not hold them.
    """

    def __init__(self, request: SampleRequest, path: Path, shape: Sequence[int]) -> None:
        super().__init__(request)
        self._path = path
        try:
            self._pixels = torch.empty((len(request), *shape), dtype=torch.uint8)
        except RuntimeError as error:
            raise DiffcliError(
                f"{len(request):,} pictures do not fit into memory at once; "
                "write them to a folder with --out-dir"
            ) from error

    def _take(self, picture: Tensor) -> None:
        self._pixels[self.count] = picture

    def write(self) -> None:
        """Write the pictures that have come, if any.

        Raises:
            OSError: if the file cannot be written.
        """
        if self.count:
            labels = torch.tensor([self.request.label(index) for index in range(self.count)])
            seeds = range(self.request.seed, self.request.seed + self.count)
            save_npz(self._path, self._pixels[: self.count], labels, seeds)


class Grid(Output):
    """All pictures as one, a row per label.

    Args:
        request: what is going to be drawn.
    """

    def __init__(self, request: SampleRequest) -> None:
        super().__init__(request)
        self._pictures: list[Tensor] = []

    def _take(self, picture: Tensor) -> None:
        self._pictures.append(picture)

    def pixels(self) -> Tensor:
        """The pictures that have come, uint8 ``(N, C, H, W)``; at least one must have."""
        return torch.stack(self._pictures)

    def picture(self) -> Image.Image:
        """The same as one picture; a single one has no frame."""
        pixels = self.pixels()
        if len(self.request) == 1:
            return to_pillow(pixels[0])
        return to_pillow(tile(pixels, grid_columns(self.request)))


def grid_columns(request: SampleRequest) -> int:
    """Pictures per row of a grid: one row per label, where there are several of several.

    Those of a single label form a square, and single ones of several labels rows of ten.
    """
    if len(request.labels) == 1:
        return math.ceil(math.sqrt(request.per_label))
    if request.per_label == 1:
        return min(len(request.labels), _SINGLES_PER_ROW)
    return request.per_label
