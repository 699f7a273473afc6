"""Samples to evaluate: drawn or read, with the labels of a data set."""

from pathlib import Path
from typing import NamedTuple

import torch

from diffcli.core.parameters import SamplingSettings
from diffcli.data.folder import load_folder
from diffcli.data.images import LabelledImages, proportional_subset
from diffcli.errors import DiffcliError, UsageError
from diffcli.evaluation.judge import check_alike
from diffcli.evaluation.network import OnProgress
from diffcli.files.arrays import PictureArrays, load_npz
from diffcli.files.naming import class_numbers
from diffcli.sampling.model import Model


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
    model.description.check_data(data.class_names, data.images.shape[1])
    labels = data.labels[proportional_subset(data.labels, count, seed)]
    request = model.request(labels.tolist(), 1, seed, settings)
    parts = []
    for drawn in model.draw(request):
        parts.append(drawn.pixels)
        if on_progress:
            on_progress(drawn.indices.stop, count)
    return PictureArrays(torch.cat(parts), labels, torch.arange(seed, seed + count))


class Samples(NamedTuple):
    """Samples as they are stored."""

    pictures: PictureArrays
    """With labels that number ``folders``, or the classes of the data set if that is None."""
    folders: tuple[str, ...] | None
    """The names of the class folders."""


def read_samples(path: Path) -> Samples:
    """Read samples from an ``npz``, or from a folder with one folder per class.

    Raises:
        DiffcliError: if they cannot be read, or those of a folder differ in size.
    """
    if not path.is_dir():
        return Samples(load_npz(path), None)
    pictures, unreadable, _ = load_folder(path)
    if unreadable:
        raise DiffcliError(
            f"{len(unreadable)} pictures in {path} cannot be read, the first because "
            f"{unreadable[0].why}; repair or remove them"
        )
    return Samples(PictureArrays(pictures.images, pictures.labels, None), pictures.class_names)


def fit_samples(samples: Samples, data: LabelledImages) -> PictureArrays:
    """Samples with the labels of a data set.

    Their folders have the names of its classes, or those that ``file_names`` gives them.  If all
    pictures are grey, they get as many channels as the data set has.

    Args:
        samples: as read.
        data: the real images.

    Raises:
        UsageError: if a folder has no class's name, or shape or labels are not the data set's.
    """
    images, labels, seeds = samples.pictures
    if samples.folders is not None:
        known = class_numbers(data.class_names)
        for name in samples.folders:
            if name not in known:
                raise UsageError(
                    f"the samples have a folder {name!r}, which is no class of the data set", "data"
                )
        labels = torch.tensor([known[name] for name in samples.folders])[labels]
    grey = images[:, :1]
    if bool((images == grey).all()):
        images = grey.expand(-1, data.images.shape[1], -1, -1).contiguous()
    check_alike(images, labels, data, "samples")
    return PictureArrays(images, labels, seeds)
