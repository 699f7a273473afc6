import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from diffcli.data.images import LabelledImages, proportional_subset
from diffcli.errors import DiffcliError
from diffcli.evaluation.judge import Judge, closest_of_each_label, grey_values, worst
from diffcli.evaluation.neighbours import Nearest
from diffcli.evaluation.network import FeatureNetwork
from diffcli.evaluation.summary import Evaluation
from diffcli.files.arrays import PictureArrays

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
    assert document["real"] == document["median"] == document["low"] == document["high"]


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
    assert document["real"]["copies"] == pytest.approx(0, abs=0.003)


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
    with pytest.raises(DiffcliError, match=r"64 samples are too few.* 65 are needed"):
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
    with pytest.raises(DiffcliError, match="30 test images are too few"):
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
