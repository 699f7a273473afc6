import pytest
import torch
from torch import Tensor

from diffcli.data.images import LabelledImages
from diffcli.evaluation.judge import Judge
from diffcli.evaluation.network import FeatureNetwork, FeatureNetworkConfig
from diffcli.evaluation.summary import Evaluation
from diffcli.figures.report import draw_report
from diffcli.files.arrays import PictureArrays

pytestmark = pytest.mark.long


def report(judge: Judge, train: LabelledImages, images: Tensor, labels: Tensor) -> bytes:
    evaluation = Evaluation(judge, train.class_names)
    samples = PictureArrays(images, labels, None)
    evaluation.add(samples)
    picture = draw_report(samples, evaluation, train, "a title")
    assert picture.width < 1100
    assert picture.height < 1300
    return picture.tobytes()


def test_it_shows_the_samples_and_nothing_else(
    judge: Judge, train: LabelledImages, test: LabelledImages
) -> None:
    images, labels = test.images[:200], test.labels[:200]
    first = report(judge, train, images, labels)
    assert report(judge, train, images, labels) == first
    changed = images.clone()
    changed[0] = 255 - changed[0]
    assert report(judge, train, changed, labels) != first
    assert report(judge, train, images, (labels + 1) % 10) != first


def test_one_label_without_mistakes_is_drawn_too(
    judge: Judge, train: LabelledImages, test: LabelledImages
) -> None:
    ones = train.images[train.labels == 1][:80]
    _, evidence = judge.judge(ones, torch.ones(80, dtype=torch.long))
    sure = ones[evidence.recognised == 1].repeat(2, 1, 1, 1)[:80]
    report(judge, train, sure, torch.ones(80, dtype=torch.long))


@pytest.mark.parametrize("size", [(30, 455), (300, 1000), (600, 5), (130, 130)])
def test_large_pictures_are_reduced(size: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (40, 3, *size), generator=generator, dtype=torch.uint8)
    data = LabelledImages(images, torch.arange(40) % 2, ("a", "b"))
    network = FeatureNetwork(FeatureNetworkConfig("residual", 3, 2, (8, 8))).eval()
    report(Judge(network, data, data.subset(torch.arange(20)), 0), data, images, data.labels)
