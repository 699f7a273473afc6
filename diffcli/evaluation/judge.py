"""Comparing labelled samples with a data set, by a feature network and by their pixels."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import NamedTuple

import torch
from torch import Tensor

from diffcli.data.images import LabelledImages, describe_shape, proportional_subset
from diffcli.errors import UsageError
from diffcli.evaluation.classifier import default_epochs, train_classifier
from diffcli.evaluation.frechet import fit_gaussian, frechet_distance
from diffcli.evaluation.neighbours import Nearest, compare_manifolds, nearest_images
from diffcli.evaluation.network import (
    FeatureNetwork,
    OnProgress,
    check_count,
    check_held_out,
    read_images,
)

OnStage = Callable[[str, int, int], None]
"""Called with the name of a stage, and the number of images done and of all."""

_PIXEL_BATCH = 4096


@dataclass(frozen=True)
class Figures:
    """The figures of one set of samples.

    Frechet distances, precision, recall, density and coverage depend on how many images there are.
    They are those of no more samples than test images, so that the two can be compared: of more,
    means over disjoint parts, each of as many samples as there are test images.

    Args:
        images: number of samples.
        parts: number of these parts.
        frechet_train: squared Frechet distance of their features to the training images'.
        frechet_test: the same to the test images'.
        agreement: share of the samples that are recognised as the label asked for.
        precision: see ``compare_manifolds``, with as many training images as a part has samples.
        recall: likewise.
        density: likewise.
        coverage: likewise.
        nearest_median: median distance to the nearest training image, see ``nearest_images``.
        nearest_first_percentile: 1st percentile of the same.
        grey_mean: mean of all pixels, 0 .. 255.
        grey_std: their standard deviation.
        classification_accuracy: share of the test images recognised by a classifier that is
            trained on the samples alone (Ravuri & Vinyals 2019), if requested.
    """

    images: int
    parts: int
    frechet_train: float
    frechet_test: float
    agreement: float
    precision: float
    recall: float
    density: float
    coverage: float
    nearest_median: float
    nearest_first_percentile: float
    grey_mean: float
    grey_std: float
    classification_accuracy: float | None


class Evidence(NamedTuple):
    """What the figures were computed from, for each sample."""

    confusion: Tensor
    """Number of samples by requested label (rows) and recognised label (columns), int64."""
    surprise: Tensor
    """Minus the log-probability of the requested label, float32 ``(N,)``."""
    recognised: Tensor
    """int64 ``(N,)``."""
    nearest: Nearest
    """Among the training images."""


class Judge:
    """Compares samples with one data set, whose features are computed once.

    Args:
        network: the feature network.
        train: the images that samples should resemble.
        test: images of the same kind that the network was not trained on.
        seed: of the choice of real images, if fewer are needed than there are.
        on_stage: called with the progress of each stage.

    Raises:
        DiffcliError: if there are too few images.
    """

    def __init__(
        self,
        network: FeatureNetwork,
        train: LabelledImages,
        test: LabelledImages,
        seed: int,
        on_stage: OnStage | None = None,
    ) -> None:
        self._network = network
        self._train = train
        self._test = test
        self._seed = seed
        self._on_stage = on_stage
        self._dimension = network.head.in_features
        check_count(len(train), self._dimension, "training images")
        check_held_out(len(test), self._dimension, "test images")
        self._train_features = read_images(
            network, train.images, self._stage("reading training images")
        ).features
        test_features = read_images(network, test.images, self._stage("reading test images"))
        self._train_gaussian = fit_gaussian(self._train_features)
        self._test_gaussian = fit_gaussian(test_features.features)

    def sampling_noise(self, count: int) -> float:
        """The Frechet distance of parts of the training images from all others of them, a mean.

        A sampler of the training images themselves would get this distance.  The parts are as large
        and as many as those of the samples, see ``Figures``, as far as half of the training images
        are enough for them.
        """
        most = len(self._train) // 2
        size = min(self._part_size(count), most)
        some = self._some(self._train, min(count, most) // size * size)
        distances = []
        for part in disjoint_parts(self._train.labels[some], size, self._seed):
            chosen = torch.zeros(len(self._train), dtype=torch.bool)
            chosen[some[part]] = True
            features = [self._train_features[mask] for mask in (chosen, ~chosen)]
            distances.append(frechet_distance(*map(fit_gaussian, features)))
        return fmean(distances)

    def real(self, count: int) -> tuple[Figures, Evidence]:
        """The figures of ``count`` test images, or of all if there are fewer."""
        index = self._some(self._test, count)
        return self.judge(self._test.images[index], self._test.labels[index], what="test images")

    def judge(
        self, images: Tensor, labels: Tensor, cas: bool = False, what: str = "samples"
    ) -> tuple[Figures, Evidence]:
        """The figures of samples.

        Args:
            images: uint8 ``(N, C, H, W)``, of the data set's shape.
            labels: the requested ones, int64 ``(N,)``.
            cas: whether to train a classifier on them.
            what: their name in progress messages and errors.

        Raises:
            DiffcliError: if there are too few.
            UsageError: if their shape or labels differ from the data.
        """
        check_count(len(images), self._dimension, what)
        check_alike(images, labels, self._train, what)
        features, logits = read_images(self._network, images, self._stage(f"reading {what}"))
        parts = disjoint_parts(labels, self._part_size(len(images)), self._seed)
        means = self._means(
            [features[part] for part in parts], self._stage(f"neighbours of {what}")
        )
        nearest = nearest_images(
            images, self._train.images, self._stage(f"nearest training images of {what}")
        )
        recognised = logits.argmax(dim=1)
        classes = len(self._train.class_names)
        confusion = torch.bincount(labels * classes + recognised, minlength=classes**2)
        mean, std = grey_values(images)
        figures = Figures(
            images=len(images),
            parts=len(parts),
            **means,
            agreement=float((recognised == labels).double().mean()),
            nearest_median=float(nearest.distances.quantile(0.5)),
            nearest_first_percentile=float(nearest.distances.quantile(0.01)),
            grey_mean=mean,
            grey_std=std,
            classification_accuracy=self._classification_accuracy(images, labels) if cas else None,
        )
        surprise = -logits.log_softmax(dim=1).gather(1, labels[:, None])[:, 0]
        return figures, Evidence(confusion.view(classes, classes), surprise, recognised, nearest)

    def _means(self, parts: Sequence[Tensor], on_progress: OnProgress | None) -> dict[str, float]:
        """The figures that depend on the number of images: means over the features of parts."""
        real = self._train_features[self._some(self._train, len(parts[0]))]
        figures = []
        for number, features in enumerate(parts):
            show = on_progress and _of_part(on_progress, number, len(parts))
            gaussian = fit_gaussian(features)
            figures.append(
                {
                    "frechet_train": frechet_distance(gaussian, self._train_gaussian),
                    "frechet_test": frechet_distance(gaussian, self._test_gaussian),
                    **compare_manifolds(real, features, on_progress=show)._asdict(),
                }
            )
        return {name: fmean(part[name] for part in figures) for name in figures[0]}

    def _classification_accuracy(self, images: Tensor, labels: Tensor) -> float:
        data = LabelledImages(images, labels, self._train.class_names)
        device = self._network.head.weight.device
        classifier = train_classifier(
            self._network.config,
            data.to(device),
            self._seed,
            default_epochs(len(data)),
            on_progress=self._stage("training a classifier on the samples"),
        )
        recognised = read_images(classifier, self._test.images).logits.argmax(dim=1)
        return float((recognised == self._test.labels).double().mean())

    def _part_size(self, count: int) -> int:
        return min(count, len(self._test))

    def _some(self, data: LabelledImages, count: int) -> Tensor:
        return proportional_subset(data.labels, min(count, len(data)), self._seed)

    def _stage(self, name: str) -> OnProgress | None:
        report = self._on_stage
        return report and (lambda done, total: report(name, done, total))


def _of_part(report: OnProgress, number: int, count: int) -> OnProgress:
    """Reports the progress of one of ``count`` equal parts as that of all."""
    return lambda done, total: report(number * total + done, count * total)


def check_alike(images: Tensor, labels: Tensor, data: LabelledImages, what: str) -> None:
    """Check that images ``(N, C, H, W)`` have the shape and the labels ``(N,)`` of a data set.

    Args:
        images: to check.
        labels: theirs.
        data: the data set.
        what: the images' name in errors.

    Raises:
        UsageError: if not.
    """
    if images.shape[1:] != data.images.shape[1:]:
        raise UsageError(
            f"the {what} are {describe_shape(images)}, and the data set's images are "
            f"{describe_shape(data.images)}",
            "data",
        )
    known = len(data.class_names)
    if not 0 <= int(labels.min()) <= int(labels.max()) < known:
        raise UsageError(
            f"the {what} have labels from {int(labels.min())} to {int(labels.max())}, and "
            f"the data set has 0 to {known - 1}",
            "data",
        )


def disjoint_parts(labels: Tensor, size: int, seed: int) -> list[Tensor]:
    """Divide images into as many disjoint parts of ``size`` as they are enough for.

    Each part has each label in proportion to its share.  Images that are left over are in none.

    Args:
        labels: of the images, int64 ``(N,)``.
        size: number of images of a part, up to N.
        seed: of the choice of those that are left over.

    Returns:
        Indices in increasing order, int64 ``(size,)`` each.
    """
    count = len(labels) // size
    chosen = proportional_subset(labels, count * size, seed)
    by_label = chosen[labels[chosen].argsort(stable=True)]
    return [by_label[first::count].sort().values for first in range(count)]


def worst(labels: Tensor, evidence: Evidence, count: int) -> list[int]:
    """Up to ``count`` samples recognised as another label, the most certain mistakes first."""
    wrong = (evidence.recognised != labels).nonzero()[:, 0]
    return wrong[evidence.surprise[wrong].argsort(descending=True)][:count].tolist()


def closest_of_each_label(labels: Tensor, nearest: Nearest) -> list[int]:
    """For each label in order, the sample that is closest to a training image.

    Over all labels, these would be pictures with few bright pixels, such as ones.
    """
    found = []
    for label in labels.unique():
        own = (labels == label).nonzero()[:, 0]
        found.append(int(own[nearest.distances[own].argmin()]))
    return found


def grey_values(images: Tensor) -> tuple[float, float]:
    """Mean and standard deviation of all pixels of uint8 images, in float64."""
    counts = torch.zeros(256, dtype=torch.long)
    for part in images.split(_PIXEL_BATCH):
        counts += torch.bincount(part.flatten(), minlength=256)
    values, weights = torch.arange(256).double(), counts.double() / counts.sum()
    mean = (values * weights).sum()
    return float(mean), float((((values - mean) ** 2) * weights).sum().sqrt())
