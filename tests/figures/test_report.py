import pytest
import torch
from PIL import Image
from torch import Tensor

from diffcli.charts.text import SMALL, elided
from diffcli.data.images import LabelledImages
from diffcli.evaluation.judge import Evidence, Judge
from diffcli.evaluation.neighbours import Nearest
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


def colour_of(label: int) -> Tensor:
    """A colour that nothing else in the report has."""
    return torch.tensor([20 * label, 255, 7], dtype=torch.uint8)


def coloured(count: int, names: tuple[str, ...], size: int = 8) -> LabelledImages:
    """Pictures that have the colour of their label all over."""
    labels = torch.arange(count) % len(names)
    images = torch.stack([colour_of(label) for label in labels.tolist()])[:, :, None, None]
    return LabelledImages(images.expand(-1, -1, size, size).contiguous(), labels, names)


def evaluated(recognised: Tensor, data: LabelledImages) -> Evaluation:
    """As if the network had recognised these labels."""
    classes, count = len(data.class_names), len(data)
    nearest = Nearest(torch.ones(count), torch.arange(count))
    confusion = torch.ones(classes, classes, dtype=torch.long)
    evaluation = Evaluation.__new__(Evaluation)
    evaluation.evidence = Evidence(confusion, torch.ones(count), recognised, nearest)
    evaluation.real_evidence = evaluation.evidence
    return evaluation


def test_of_many_labels_the_same_ten_are_shown_everywhere() -> None:
    data = coloured(36, tuple("abcdefghijkl"))
    samples = PictureArrays(data.images, data.labels, None)
    picture = draw_report(samples, evaluated(data.labels, data), data, "a title")
    shown = set(picture.get_flattened_data())
    labels = [label for label in range(12) if tuple(colour_of(label).tolist()) in shown]
    assert labels == [0, 1, 2, 3, 4, 6, 7, 8, 9, 10]


@pytest.mark.parametrize(("size", "width"), [(8, 58), (90, 92)])
def test_a_long_name_does_not_push_out_what_was_recognised(
    size: int, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[tuple[str, int]] = []

    def see(picture: Image.Image, _: object, text: str, *__: object) -> None:
        written.append((text, picture.width))

    monkeypatch.setattr("diffcli.figures.report.write", see)
    name = "w" * 30
    shown = elided(name, width, SMALL)
    for names, lines in ((("a", "b"), ["a → b", "b → a"]), ((name, "b"), [shown, "→ b"])):
        data = coloured(4, names, size)
        samples = PictureArrays(data.images, data.labels, None)
        draw_report(samples, evaluated(1 - data.labels, data), data, "a title")
        assert {(line, width) for line in lines} <= set(written)
        written.clear()
