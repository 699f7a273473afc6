import json
from dataclasses import asdict

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from diffcli.data.images import LabelledImages, proportional_subset
from diffcli.errors import DiffcliError
from diffcli.evaluation.frechet import fit_gaussian, frechet_distance
from diffcli.evaluation.judge import (
    Judge,
    closest_of_each_label,
    disjoint_parts,
    grey_values,
    worst,
)
from diffcli.evaluation.neighbours import Nearest, compare_manifolds
from diffcli.evaluation.network import FeatureNetwork, FeatureNetworkConfig, read_images
from diffcli.evaluation.summary import Evaluation
from diffcli.files.arrays import PictureArrays
from tests.evaluation.pictures import bars

pytestmark = pytest.mark.long


def test_real_digits_are_at_the_floor(judge: Judge, test: LabelledImages) -> None:
    evaluation = Evaluation(judge, test.class_names)
    evaluation.add(PictureArrays(test.images, test.labels, None))
    median = evaluation.summary().median
    assert median["frechet_train_over_shift"] == 1.0
    assert median["frechet_test"] == pytest.approx(0, abs=1e-8)
    assert median["agreement"] is not None
    assert median["agreement"] > 0.99
    document = evaluation.document()
    assert document["median"] == document["low"] == document["high"]
    # Test images say nothing by how far they are from themselves.
    itself = {
        "frechet_test": None,
        "frechet_test_over_noise": None,
        "frechet_test_over_shift": None,
        "copies": None,
    }
    assert document["real"] == document["median"] | itself


def test_a_part_of_the_training_images_is_at_the_sampling_noise(
    network: FeatureNetwork, train: LabelledImages, test: LabelledImages
) -> None:
    chosen = torch.zeros(6000, dtype=torch.bool)
    chosen[proportional_subset(train.labels, 3000, seed=1)] = True
    judge = Judge(network, train.subset(chosen), test, seed=0)
    rest = train.subset(~chosen)
    other = rest.subset(proportional_subset(rest.labels, 600, seed=2))
    figures, _ = judge.judge(other.images, other.labels)
    assert 0.7 < figures.frechet_train / judge.sampling_noise(600) < 1.4
    for share in (figures.precision, figures.recall, figures.coverage, figures.density):
        assert 0.85 < share < 1.15


@pytest.mark.parametrize("count", [70, 1000])
def test_no_more_samples_than_test_images_are_compared_as_a_whole(
    judge: Judge,
    network: FeatureNetwork,
    train: LabelledImages,
    test: LabelledImages,
    count: int,
) -> None:
    images, labels = train.images[2000:][:count], train.labels[2000:][:count]
    figures, _ = judge.judge(images, labels)
    samples, known, held_out = (
        read_images(network, part).features for part in (images, train.images, test.images)
    )
    gaussian = fit_gaussian(samples)
    assert figures.parts == 1
    assert figures.frechet_train == frechet_distance(gaussian, fit_gaussian(known))
    assert figures.frechet_test == frechet_distance(gaussian, fit_gaussian(held_out))
    chosen = torch.zeros(len(train), dtype=torch.bool)
    chosen[proportional_subset(train.labels, count, 0)] = True
    for name, value in compare_manifolds(known[chosen], samples)._asdict().items():
        assert getattr(figures, name) == value
    noise = frechet_distance(fit_gaussian(known[chosen]), fit_gaussian(known[~chosen]))
    assert judge.sampling_noise(count) == noise


def test_more_samples_are_compared_in_parts_of_as_many_as_test_images(
    judge: Judge, train: LabelledImages
) -> None:
    images, labels = train.images[:2600], train.labels[:2600]
    parts = disjoint_parts(labels, 1000, seed=0)
    figures = asdict(judge.judge(images, labels)[0])
    of_parts = [asdict(judge.judge(images[part], labels[part])[0]) for part in parts]
    assert figures["parts"] == len(parts) == 2
    for name in ("frechet_train", "frechet_test", "precision", "recall", "density", "coverage"):
        assert figures[name] == pytest.approx(sum(part[name] for part in of_parts) / 2, rel=1e-4)
    assert figures["images"] == 2600
    assert (figures["grey_mean"], figures["grey_std"]) == grey_values(images)
    assert figures["nearest_median"] == 0  # all of them are training images


def split(data: LabelledImages, count: int) -> tuple[LabelledImages, LabelledImages]:
    """All but ``count`` images, and these, which have the same share of each label."""
    chosen = torch.zeros(len(data), dtype=torch.bool)
    chosen[proportional_subset(data.labels, count, seed=0)] = True
    return data.subset(~chosen), data.subset(chosen)


def test_how_good_real_images_are_does_not_depend_on_how_many_there_are(
    network: FeatureNetwork, train: LabelledImages
) -> None:
    # The network was trained on all of them.
    rest, others = split(train, 3000)
    known, held_out = split(rest, 100)
    evaluation = Evaluation(Judge(network, known, held_out, seed=0), train.class_names)
    evaluation.add(PictureArrays(others.images, others.labels, None))
    document = evaluation.document()
    samples, real = document["median"], document["real"]
    assert (samples["parts"], samples["images"]) == (30, 3000)
    assert (real["parts"], real["images"]) == (1, 100)
    # Of all at once they would be less than a tenth.
    assert 0.7 < samples["frechet_train_over_shift"] < 1.4
    assert 0.7 < samples["frechet_train_over_noise"] < 1.4
    for name in ("precision", "recall", "density", "coverage"):
        assert samples[name] == pytest.approx(real[name], abs=0.15)


def test_the_progress_of_parts_is_that_of_all(
    network: FeatureNetwork, train: LabelledImages, test: LabelledImages
) -> None:
    reports: list[tuple[int, int]] = []

    def see(stage: str, done: int, total: int) -> None:
        if stage == "neighbours of samples":
            reports.append((done, total))

    judge = Judge(network, train, test.subset(torch.arange(100)), 0, see)
    judge.judge(train.images[:350], train.labels[:350])
    assert reports == [(100, 300), (200, 300), (300, 300)]


def test_copies_of_one_image_have_no_multiples_of_a_distance() -> None:
    """Nor is anything divided by zero."""
    one, other = bars(2, seed=1).images.split(1)

    def copies(image: torch.Tensor, count: int) -> LabelledImages:
        return LabelledImages(image.expand(count, -1, -1, -1), torch.zeros(count).long(), ("a",))

    torch.manual_seed(0)
    network = FeatureNetwork(FeatureNetworkConfig("residual", 1, 1, (8, 8))).eval()
    judge = Judge(network, copies(one, 600), copies(one, 40), seed=0)
    evaluation = Evaluation(judge, ("a",))
    for image in (one, other):
        samples = copies(image, 90)
        evaluation.add(PictureArrays(samples.images, samples.labels, None))
    document = json.loads(json.dumps(evaluation.document(), allow_nan=False))
    for row in (document["real"], document["median"], document["high"], *document["runs"]):
        assert row["frechet_train_over_noise"] is row["frechet_train_over_shift"] is None
        assert row["frechet_test_over_noise"] is row["frechet_test_over_shift"] is None
    assert document["runs"][0]["frechet_train"] == pytest.approx(0, abs=1e-9)
    assert document["runs"][1]["frechet_train"] > 1e-6


def test_shuffled_labels_agree_by_chance(judge: Judge, test: LabelledImages) -> None:
    order = torch.randperm(len(test), generator=torch.Generator().manual_seed(0))
    figures, evidence = judge.judge(test.images, test.labels[order])
    assert 0.07 < figures.agreement < 0.13
    assert evidence.confusion.sum(dim=1).tolist() == test.labels.bincount(minlength=10).tolist()
    unshuffled, _ = judge.judge(test.images, test.labels)
    assert figures.frechet_train == unshuffled.frechet_train


def test_noise_is_far_away(judge: Judge, test: LabelledImages) -> None:
    noise = torch.randint(256, test.images.shape, generator=torch.Generator().manual_seed(0))
    figures, _ = judge.judge(noise.to(torch.uint8), test.labels)
    real, _ = judge.real(len(test))
    assert figures.frechet_train > 100 * real.frechet_train
    assert figures.precision < 0.01
    assert figures.recall < 0.01
    assert figures.nearest_median > 2 * real.nearest_median


def test_a_single_digit_over_and_over_is_precise_and_nothing_else(
    judge: Judge, test: LabelledImages
) -> None:
    figures, _ = judge.judge(test.images[:1].expand(1000, -1, -1, -1), test.labels[:1].expand(1000))
    assert figures.precision == 1
    assert figures.recall < 0.01
    assert figures.coverage < 0.05


def test_the_share_of_copies(judge: Judge, test: LabelledImages, train: LabelledImages) -> None:
    images = torch.cat([train.images[:150], test.images[:450]])
    labels = torch.cat([train.labels[:150], test.labels[:450]])
    evaluation = Evaluation(judge, test.class_names)
    evaluation.add(PictureArrays(images, labels, None))
    document = evaluation.document()
    assert document["median"]["copies"] == pytest.approx(0.25, abs=0.03)
    assert document["real"]["copies"] is None


def test_planted_copies_are_found(
    judge: Judge, test: LabelledImages, train: LabelledImages
) -> None:
    images = test.images.clone()
    images[100:120] = train.images[4000:4020]
    figures, evidence = judge.judge(images, test.labels)
    assert figures.nearest_first_percentile == 0
    assert evidence.nearest.indices[100:120].tolist() == list(range(4000, 4020))
    assert (evidence.nearest.distances == 0).sum() == 20


def test_the_same_samples_get_the_same_figures(judge: Judge, test: LabelledImages) -> None:
    assert judge.judge(test.images, test.labels)[0] == judge.judge(test.images, test.labels)[0]


def test_what_cannot_be_judged_is_refused(judge: Judge, test: LabelledImages) -> None:
    with pytest.raises(DiffcliError, match=r"64 samples are too few.* 65 are needed$"):
        judge.judge(test.images[:64], test.labels[:64])
    with pytest.raises(DiffcliError, match="14x28 grey, and the data set's images are 28x28 grey"):
        judge.judge(test.images[..., :14], test.labels)
    with pytest.raises(DiffcliError, match="28x28 RGB"):
        judge.judge(test.images.expand(-1, 3, -1, -1), test.labels)
    with pytest.raises(DiffcliError, match=r"labels from 1 to 10, .* has 0 to 9"):
        judge.judge(test.images, test.labels + 1)
    with pytest.raises(DiffcliError, match="labels from -1"):
        judge.judge(test.images, test.labels - 1)


def test_too_few_real_images_are_refused(
    network: FeatureNetwork, train: LabelledImages, test: LabelledImages
) -> None:
    with pytest.raises(DiffcliError, match=r"30 test images are too few.* about 1,300 pictures"):
        Judge(network, train, test.subset(torch.arange(30)), seed=0)


@pytest.mark.slow
def test_a_classifier_learns_from_real_digits_what_it_would_from_good_samples(
    judge: Judge, train: LabelledImages
) -> None:
    figures, _ = judge.judge(train.images[:2000], train.labels[:2000], cas=True)
    assert figures.classification_accuracy is not None
    assert figures.classification_accuracy > 0.95


def test_grey_values_are_numpys() -> None:
    images = torch.randint(256, (9, 3, 5, 4), dtype=torch.uint8)
    mean, std = grey_values(images)
    assert mean == pytest.approx(images.numpy().mean())
    assert std == pytest.approx(np.std(images.numpy().astype(float)))


@given(
    counts=st.lists(st.integers(1, 60), min_size=1, max_size=5),
    share=st.floats(0.01, 1),
    seed=st.integers(0, 99),
)
def test_a_subset_has_the_proportions_of_the_whole(
    counts: list[int], share: float, seed: int
) -> None:
    labels = torch.cat([torch.full((count,), label) for label, count in enumerate(counts)])
    labels = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))]
    count = max(1, int(share * len(labels)))
    chosen = proportional_subset(labels, count, seed)
    assert len(set(chosen.tolist())) == count
    found = labels[chosen].bincount(minlength=len(counts)).tolist()
    for got, there in zip(found, counts, strict=True):
        assert abs(got - there * count / len(labels)) <= 1
    assert torch.equal(chosen, proportional_subset(labels, count, seed))


@given(
    counts=st.lists(st.integers(0, 60), min_size=1, max_size=5).filter(any),
    share=st.floats(0.01, 1),
    seed=st.integers(0, 99),
)
def test_parts_are_disjoint_and_have_the_proportions_of_the_whole(
    counts: list[int], share: float, seed: int
) -> None:
    labels = torch.cat([torch.full((count,), label) for label, count in enumerate(counts)])
    labels = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))]
    size = max(1, int(share * len(labels)))
    parts = disjoint_parts(labels, size, seed)
    assert [len(part) for part in parts] == [size] * (len(labels) // size)
    chosen = torch.cat(parts)
    assert len(chosen.unique()) == len(chosen)
    for part in parts:
        assert torch.equal(part, part.sort().values)
        found = labels[part].bincount(minlength=len(counts)).tolist()
        for got, there in zip(found, counts, strict=True):
            assert abs(got - there * size / len(labels)) < 2


def test_a_single_part_is_the_whole_in_its_order() -> None:
    (part,) = disjoint_parts(torch.tensor([2, 0, 1, 1, 0]), 5, seed=3)
    assert part.tolist() == [0, 1, 2, 3, 4]


def test_more_labels_than_there_are_keep_the_proportions() -> None:
    labels = torch.tensor([0, 1, 1, 1])
    assert labels[proportional_subset(labels, 400, 0)].bincount().tolist() == [100, 300]


def test_the_worst_are_the_surest_mistakes(judge: Judge, test: LabelledImages) -> None:
    labels = test.labels.clone()
    labels[:3] = (labels[:3] + 1) % 10
    _, evidence = judge.judge(test.images, labels)
    found = worst(labels, evidence, 5)
    assert {0, 1, 2} <= set(found)
    surprises = evidence.surprise[found].tolist()
    assert surprises == sorted(surprises, reverse=True)
    assert (evidence.recognised[found] != labels[found]).all()


def test_the_closest_are_one_of_each_label() -> None:
    nearest = Nearest(torch.tensor([3.0, 1.0, 2.0, 0.5]), torch.arange(4))
    assert closest_of_each_label(torch.tensor([7, 7, 0, 0]), nearest) == [3, 1]


def test_a_classifier_learns_nothing_from_shuffled_labels(
    judge: Judge, train: LabelledImages
) -> None:
    """It is trained on the samples, not on the data, and tested on the data, not on the samples."""
    labels = (train.labels[:600] + torch.arange(600) % 10) % 10
    figures, _ = judge.judge(train.images[:600], labels, cas=True)
    assert figures.classification_accuracy is not None
    assert figures.classification_accuracy < 0.3


def test_the_evidence_is_that_of_the_figures(
    judge: Judge, network: FeatureNetwork, test: LabelledImages
) -> None:
    images, labels = test.images[:200], test.labels[:200].roll(1)
    figures, evidence = judge.judge(images, labels)
    logits = read_images(network, images).logits
    surprise = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
    torch.testing.assert_close(evidence.surprise, surprise)
    distances = evidence.nearest.distances
    assert figures.nearest_median == pytest.approx(float(distances.median()), rel=1e-2)
    assert figures.nearest_median == float(distances.quantile(0.5))
    assert figures.nearest_first_percentile == float(distances.quantile(0.01))


def test_multiples_and_shares_are_those_of_each_figure(
    judge: Judge, test: LabelledImages, train: LabelledImages
) -> None:
    evaluation = Evaluation(judge, test.class_names)
    labels = train.labels[:500].roll(1)
    evaluation.add(PictureArrays(train.images[:500], labels, None))
    document = evaluation.document()
    row, run, noise = document["median"], document["runs"][0], document["sampling_noise"]
    for name in ("frechet_train", "frechet_test"):
        assert row[f"{name}_over_noise"] == pytest.approx(row[name] / noise)
    confusion = torch.tensor(run["confusion"])
    for label, name in enumerate(test.class_names):
        share = confusion[label, label] / (labels == label).sum()
        assert run["agreement_per_class"][name] == pytest.approx(float(share))
    for copy in run["closest"]:
        assert int(labels[copy["sample"]]) == test.class_names.index(copy["label"])
        # The samples are training images, each the closest one to itself.
        assert torch.equal(train.images[copy["training_image"]], train.images[copy["sample"]])
