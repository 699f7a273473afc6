"""Writing drawn pictures as they come: one file each, or one array."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from diffcli.errors import DiffcliError
from diffcli.files.arrays import encode_npz
from diffcli.files.naming import file_names
from diffcli.files.pictures import encode_png, to_pillow
from diffcli.files.writing import write_atomically, write_new
from diffcli.sampling.provenance import Provenance
from diffcli.sampling.request import SampleRequest


class Output(ABC):
    """Takes pictures in the order of a request.

    Args:
        request: what is drawn.
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
    """One PNG per picture, written at once.

    Args:
        request: what is drawn.
        pattern: path of each file, with those of ``{label}``, ``{seed}`` and ``{index}`` that tell
            the pictures apart.
        class_names: of all labels of the model; made into valid file names.
        force: whether existing files may be overwritten; otherwise names get a suffix.
        provenance: the metadata of each picture, if it should have any.
        on_written: called with the path of each picture.
    """

    def __init__(
        self,
        request: SampleRequest,
        pattern: str,
        class_names: Sequence[str],
        force: bool,
        provenance: Provenance | None,
        on_written: Callable[[Path], None],
    ) -> None:
        super().__init__(request)
        self.renamed = 0
        self._pattern = pattern
        self._names = file_names(class_names)
        self._force = force
        self._provenance = provenance
        self._on_written = on_written

    def _take(self, picture: Tensor) -> None:
        index = self.count
        label = "+".join(self._names[number] for number in self.request.labels_of(index))
        seed = self.request.one(index).seed
        wanted = Path(self._pattern.format(label=label, seed=seed, index=index))
        embedded = self._provenance.of_one(index).embedded() if self._provenance else None
        content = encode_png(to_pillow(picture), embedded)
        wanted.parent.mkdir(parents=True, exist_ok=True)
        if self._force:
            write_atomically(wanted, content, durable=False)
            path = wanted
        else:
            path = write_new(wanted, content, durable=False)
        self.renamed += path != wanted
        self._on_written(path)


class PictureArray(Output):
    """All pictures in one array, as for an ``npz`` or a grid.

    Args:
        request: what is drawn.
        shape: ``(C, H, W)`` of a picture.

    Raises:
        DiffcliError: if there is not enough memory.
    """

    def __init__(self, request: SampleRequest, shape: Sequence[int]) -> None:
        super().__init__(request)
        try:
            self._pixels = torch.empty((len(request), *shape), dtype=torch.uint8)
        except RuntimeError as error:
            raise DiffcliError(
                f"{len(request):,} pictures do not fit into memory at once", "out_dir"
            ) from error

    def _take(self, picture: Tensor) -> None:
        self._pixels[self.count] = picture

    @property
    def pixels(self) -> Tensor:
        """The pictures taken so far, uint8 ``(count, C, H, W)``."""
        return self._pixels[: self.count]

    def encoded(self) -> bytes:
        """The pictures taken so far as an ``npz``, with their labels and seeds.

        They must have one label each.
        """
        labels = torch.tensor([self.request.labels_of(index)[0] for index in range(self.count)])
        seeds = range(self.request.seed, self.request.seed + self.count)
        return encode_npz(self.pixels, labels, seeds)
