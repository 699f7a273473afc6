import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from diffcli.errors import DiffcliError
from diffcli.evaluation import neighbours
from diffcli.evaluation.neighbours import (
    Manifolds,
    compare_manifolds,
    many_copies,
    nearest_images,
    share_of_copies,
)
from tests.memory import LargestTensor


def points(seed: int, count: int, dimension: int = 3) -> Tensor:
    return torch.randn(count, dimension, generator=torch.Generator().manual_seed(seed))


def by_definition(real: Tensor, samples: Tensor, k: int) -> Manifolds:
    def distance(a: Tensor, b: Tensor) -> float:
        return float((a.double() - b.double()).norm())

    def radius(index: int, among: Tensor) -> float:
        others = [distance(among[index], x) for j, x in enumerate(among) if j != index]
        return sorted(others)[k - 1]

    real_radii = [radius(i, real) for i in range(len(real))]
    sample_radii = [radius(i, samples) for i in range(len(samples))]
    balls = [
        sum(distance(x, y) <= r for x, r in zip(real, real_radii, strict=True)) for y in samples
    ]
    return Manifolds(
        precision=sum(count > 0 for count in balls) / len(samples),
        recall=sum(
            any(distance(x, y) <= r for y, r in zip(samples, sample_radii, strict=True))
            for x in real
        )
        / len(real),
        density=sum(balls) / (k * len(samples)),
        coverage=sum(
            any(distance(x, y) <= r for y in samples) for x, r in zip(real, real_radii, strict=True)
        )
        / len(real),
    )


@settings(max_examples=30)
@given(seed=st.integers(0, 10**6), k=st.integers(1, 4), shift=st.floats(0, 2))
def test_they_are_what_the_papers_define(seed: int, k: int, shift: float) -> None:
    real, samples = points(seed, 13), points(seed + 1, 9) + shift
    assert compare_manifolds(real, samples, k) == pytest.approx(by_definition(real, samples, k))


def test_blocks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    real, samples = points(1, 50), points(2, 41)
    whole = compare_manifolds(real, samples)
    monkeypatch.setattr(neighbours, "_ROWS", 7)
    assert compare_manifolds(real, samples) == pytest.approx(whole)


def test_a_collapsed_set_is_precise_and_recalls_nothing() -> None:
    real = points(1, 200)
    collapsed = real[:1] + 1e-3 * points(2, 50)
    found = compare_manifolds(real, collapsed)
    assert found.precision == 1
    assert found.recall < 0.01
    assert found.coverage < 0.1


def test_copies_of_one_point_recall_nothing_else() -> None:
    found = compare_manifolds(points(1, 100), torch.zeros(20, 3))
    assert found.precision == 1
    assert found.recall == 0


def test_a_set_covers_itself() -> None:
    real = points(1, 100)
    found = compare_manifolds(real, real)
    assert (found.precision, found.recall, found.coverage) == (1, 1, 1)


def test_sets_far_apart_have_nothing_in_common() -> None:
    assert compare_manifolds(points(1, 60), points(2, 60) + 100) == (0, 0, 0, 0)


def test_too_few_points_for_the_neighbours_are_refused() -> None:
    with pytest.raises(DiffcliError, match="5 images are too few for 5 neighbours"):
        compare_manifolds(points(1, 9), points(2, 5))


def pictures(seed: int, count: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (count, 1, 6, 6), generator=generator, dtype=torch.uint8)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of seven images, and of ten to search."""
    monkeypatch.setattr(neighbours, "_ROWS", 7)
    monkeypatch.setattr(neighbours, "_VALUES", 10 * 36)


@pytest.mark.usefixtures("small_blocks")
def test_nearest_images_are_those_of_a_plain_search() -> None:
    images, among = pictures(1, 30), pictures(2, 45)
    exact = torch.cdist(images.flatten(1).double() / 255, among.flatten(1).double() / 255)
    found = nearest_images(images, among)
    assert torch.equal(found.indices, exact.argmin(dim=1))
    assert torch.allclose(found.distances.double(), exact.amin(dim=1), atol=1e-5)


@pytest.mark.usefixtures("small_blocks")
def test_of_equal_images_the_first_is_the_nearest() -> None:
    among = pictures(1, 12).repeat(5, 1, 1, 1)
    assert nearest_images(among, among).indices.tolist() == 5 * [*range(12)]


@pytest.mark.usefixtures("small_blocks")
def test_a_data_set_is_never_as_a_whole_in_float() -> None:
    with LargestTensor(torch.is_floating_point) as largest:
        nearest_images(pictures(1, 30), pictures(2, 45))
    assert largest.nbytes == 4 * 10 * 36


def test_planted_copies_are_at_distance_zero() -> None:
    images, among = pictures(1, 20), pictures(2, 300)
    images[3], images[17] = among[250], among[0]
    found = nearest_images(images, among)
    assert found.distances.eq(0).nonzero()[:, 0].tolist() == [3, 17]
    assert found.indices[[3, 17]].tolist() == [250, 0]


@pytest.mark.usefixtures("small_blocks")
def test_progress_ends_at_the_last_image() -> None:
    reports: list[tuple[int, int]] = []
    nearest_images(pictures(1, 3), pictures(2, 23), lambda *report: reports.append(report))
    assert reports == [(10, 23), (20, 23), (23, 23)]


def distances(seed: int, count: int) -> Tensor:
    return 1 + torch.rand(count, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("duplicates", [0, 0.05])
def test_the_share_of_copies_is_estimated(share: float, duplicates: float) -> None:
    usual, found = distances(1, 4000), distances(2, 4000)
    usual[: round(duplicates * 4000)] = 0
    found[: round(max(share, duplicates) * 4000)] = 0
    # Of duplicates in the data, as many samples are as near as held-out images are.
    expected = (share - duplicates) / (1 - duplicates) if share > duplicates else 0
    assert share_of_copies(found, usual) == pytest.approx(expected, abs=0.02)


def test_the_share_of_copies_is_a_lower_bound_in_closed_form() -> None:
    usual = torch.arange(1.0, 20)  # of 19, the k-th smallest is k
    found = torch.full((100,), 100.0)
    found[:40] = 0.5
    # The first one has the least chance to be closer, 1 in 20.
    chance = 1 / 20 + 2 * math.sqrt(1 / 20 * 19 / 20 * (1 / 21 + 1 / 100))
    assert share_of_copies(found, usual) == pytest.approx((0.4 - chance) / (1 - chance))
    found[:40] = 4.5  # closer than the fifth, and no other that is looked at
    chance = 5 / 20 + 2 * math.sqrt(5 / 20 * 15 / 20 * (1 / 21 + 1 / 100))
    assert share_of_copies(found, usual) == 0
    found[:90] = 4.5
    assert share_of_copies(found, usual) == pytest.approx((0.9 - chance) / (1 - chance))


def test_of_one_held_out_image_no_share_of_copies_follows() -> None:
    assert share_of_copies(torch.zeros(1000), torch.ones(1)) == 0
    assert share_of_copies(torch.zeros(1000), torch.ones(2)) == 1


SETS = 500


def simulated(share: float, count: int) -> Tensor:
    """The shares found in sets of 80 images, each compared with so many held-out ones."""
    found, usual = distances(1, SETS * 80).view(SETS, 80), distances(2, SETS * count)
    found[:, : round(share * 80)] = 0
    pairs = zip(found, usual.view(SETS, count), strict=True)
    return torch.tensor([share_of_copies(*pair) for pair in pairs])


@pytest.mark.parametrize(
    ("share", "means"),
    [(0.0, (0.008, 0.004, 0.002)), (0.1, (0.03, 0.06, 0.08)), (0.3, (0.21, 0.27, 0.29))],
)
def test_few_held_out_images_make_no_copies(share: float, means: tuple[float, ...]) -> None:
    for count, mean in zip((16, 50, 250), means, strict=True):
        shares = simulated(share, count)
        assert float(shares.mean()) == pytest.approx(mean, abs=0.01)
        assert float((shares > share).double().mean()) < 0.2


def test_chance_gives_no_alarm() -> None:
    for count, most in ((2, 0.02), (5, 0.03), (16, 0.02), (50, 0.01), (500, 0.01)):
        alarms = simulated(0.0, count) > many_copies(count)
        assert float(alarms.double().mean()) <= most


def test_copies_give_an_alarm() -> None:
    for share, count, least in ((0.3, 16, 0.6), (0.3, 50, 1), (0.2, 250, 1), (1, 2, 1)):
        alarms = simulated(share, count) > many_copies(count)
        assert float(alarms.double().mean()) >= least
