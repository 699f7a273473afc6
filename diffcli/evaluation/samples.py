"""Samples to evaluate: drawn or read, with the labels of a data set."""

from pathlib import Path

import torch

from diffcli.core.parameters import SamplingSettings
from diffcli.data.folder import load_folder
from diffcli.data.images import LabelledImages, proportional_subset
from diffcli.errors import DiffcliError
from diffcli.evaluation.network import OnProgress
from diffcli.files.arrays import PictureArrays, load_npz
from diffcli.sampling.model import Model


def check_data(model: Model, data: LabelledImages) -> None:
    """Check that a data set has the classes and the colours of a model.

    Raises:
        UsageError: if not.
    """
    model.description.check_data(data.class_names, data.images.shape[1])


def draw_samples(
    model: Model,
    data: LabelledImages,
    count: int,
    seed: int,
    settings: SamplingSettings,
    on_progress: OnProgress | None = None,
) -> PictureArrays:
    """Draw samples of all classes, with the shares that these have in a data set.

    Args:
        model: to draw with.
        data: the real images.
        count: how many to draw.
        seed: of the first sample; the next one has ``seed + 1``.
        settings: how to draw.
        on_progress: called after every batch.

    Raises:
        UsageError: if the model does not fit to the data set, or a seed is too large.
    """
    check_data(model, data)
    labels = data.labels[proportional_subset(data.labels, count, seed)]
    request = model.request(labels.tolist(), 1, seed, settings)
    parts = []
    for drawn in model.draw(request):
        parts.append(drawn.pixels)
        if on_progress:
            on_progress(drawn.indices.stop, count)
    return PictureArrays(torch.cat(parts), labels, torch.arange(seed, seed + count))


def load_samples(path: Path, data: LabelledImages) -> PictureArrays:
    """Read samples from an ``npz``, or from a folder with one folder per class.

    The folders' names are class names of the data set.  If all pictures are grey, they get
    as many channels as the data set has.

    Args:
        path: a file or a folder.
        data: the real images.

    Raises:
        DiffcliError: if they cannot be read, or a folder has no class's name.
    """
    images, labels, seeds = _read_folder(path, data) if path.is_dir() else load_npz(path)
    grey = images[:, :1]
    if bool((images == grey).all()):
        images = grey.expand(-1, data.images.shape[1], -1, -1).contiguous()
    return PictureArrays(images, labels, seeds)


def _read_folder(path: Path, data: LabelledImages) -> PictureArrays:
    pictures, unreadable, _ = load_folder(path)
    if unreadable:
        raise DiffcliError(
            f"{len(unreadable)} pictures in {path} cannot be read, the first because "
            f"{unreadable[0].why}; repair or remove them"
        )
    for name in pictures.class_names:
        if name not in data.class_names:
            raise DiffcliError(
                f"{path} has a folder {name!r}, which is no class of the data set",
                "data",
            )
    numbers = torch.tensor([data.class_names.index(name) for name in pictures.class_names])
    return PictureArrays(pictures.images, numbers[pictures.labels], None)
