"""Requests and how they are divided into batches."""

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffcli.core.parameters import MAX_SEED, SamplingSettings, SeedsBetween
from diffcli.sampling.request import Interpolation, SampleRequest, Sheet, Varied

SETTINGS = SamplingSettings()


@given(
    labels=st.lists(st.integers(0, 9), min_size=1, max_size=5),
    per_label=st.integers(1, 7),
    seed=st.integers(0, MAX_SEED - 35),
    size=st.integers(1, 40),
)
def test_batches_have_every_picture_once_in_order(
    labels: list[int], per_label: int, seed: int, size: int
) -> None:
    request = SampleRequest(tuple(labels), per_label, seed, SETTINGS)
    batches = list(request.batches(size))
    assert all(len(batch) <= size for batch in batches)
    assert [i for batch in batches for i in batch] == list(range(len(request)))
    expected = [label for label in labels for _ in range(per_label)]
    assert len(request) == len(expected)
    for index in range(len(request)):
        assert request.labels_of(index) == (expected[index],)
        assert request.weights_of(index) == (1.0,)
        assert request.seed_of(index) == seed + index
        assert request.one(index) == SampleRequest((expected[index],), 1, seed + index, SETTINGS)


@given(
    weights=st.lists(st.floats(-3, 3), min_size=1, max_size=4).filter(lambda w: max(w) > 0),
    per_label=st.integers(1, 7),
)
def test_every_picture_of_a_mixture_has_all_labels(weights: list[float], per_label: int) -> None:
    labels = tuple(range(len(weights)))
    request = SampleRequest(labels, per_label, 5, SETTINGS, weights=tuple(weights))
    assert (len(request), request.rows, request.mixed) == (per_label, 1, True)
    for index in range(per_label):
        assert request.labels_of(index) == labels
        assert request.weights_of(index) == tuple(weights)
        assert request.one(index) == replace(request, per_label=1, seed=5 + index)


@given(per_label=st.integers(1, 40), start=st.floats(0, 0.5), end=st.floats(0.5, 1))
def test_an_interpolation_goes_evenly_from_one_end_to_the_other(
    per_label: int, start: float, end: float
) -> None:
    way = Interpolation(9, start, end)
    request = SampleRequest((3, 8), per_label, 5, SETTINGS, interpolation=way)
    assert len(request) == per_label
    shares = [request.share(index) for index in range(per_label)]
    assert shares[0] == start
    assert per_label == 1 or shares[-1] == pytest.approx(end)
    steps = [after - before for before, after in pairwise(shares)]
    assert all(step == pytest.approx((end - start) / (per_label - 1)) for step in steps)
    for index, share in enumerate(shares):
        assert request.labels_of(index) == (3, 8)
        assert request.weights_of(index) == (1 - share, share)
        assert request.seed_of(index) == SeedsBetween(5, 9, share)
        alone = request.one(index)
        assert len(alone) == 1
        assert alone.seed_of(0) == request.seed_of(index)
        assert alone.weights_of(0) == request.weights_of(index)


def test_between_equal_labels_nothing_is_mixed() -> None:
    request = SampleRequest((3, 3), 4, 5, SETTINGS, interpolation=Interpolation(9))
    assert not request.mixed
    assert [request.labels_of(index) for index in range(4)] == [(3,)] * 4
    assert request.weights_of(2) == (1.0,)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"weights": (1.0,)}, "a weight for each label"),
        ({"weights": (0.0, 0.0)}, "one above 0"),
        ({"weights": (-1.0, 0.0)}, "one above 0"),
        ({"weights": (101.0, 1.0)}, "from -100 to 100"),
        ({"weights": (0.5, 0.5), "interpolation": Interpolation(1)}, "without weights"),
        ({"labels": (1, 2, 3), "interpolation": Interpolation(1)}, "between two labels"),
        ({"inverted": (1,)}, "with the sampler ddim"),
        ({"inverted": (1, 2)}, "under one label, or for an interpolation two"),
        ({"inverted": (1,), "interpolation": Interpolation(1)}, "for an interpolation two"),
        ({"inverted": (-1,)}, "under one label"),
    ],
)
def test_what_does_not_go_together_is_refused(fields: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        replace(SampleRequest((1, 2), 1, 0, SETTINGS), **fields)


@pytest.mark.parametrize("fields", [(-1,), (2**32,), (0, -0.1), (0, 0.5, 0.4), (0, 0.0, 1.1)])
def test_an_interpolation_stays_in_its_range(fields: tuple[Any, ...]) -> None:
    with pytest.raises(ValueError, match=r"within 0|seeds must be in"):
        Interpolation(*fields)


def test_seeds_stay_among_the_numbers_that_json_keeps_exactly() -> None:
    SampleRequest((0,), 2, MAX_SEED - 1, SETTINGS)
    with pytest.raises(ValueError, match="seeds"):
        SampleRequest((0,), 3, MAX_SEED - 1, SETTINGS)


def test_rows_of_a_sheet_differ_in_one_setting() -> None:
    request = SampleRequest((1, 2), 3, 4, SETTINGS)
    captions, rows = zip(*Sheet("steps", (2.0, 8.0)).rows(request), strict=True)
    assert captions == ("steps 2", "steps 8")
    assert [row.settings.steps for row in rows] == [2, 8]
    captions, rows = zip(*Sheet("guidance", (0.0, 1.5)).rows(request), strict=True)
    assert captions == ("guidance 0", "guidance 1.5")
    assert [row.settings.guidance_scale for row in rows] == [0.0, 1.5]
    assert {(row.labels, row.per_label, row.seed) for row in rows} == {((1, 2), 3, 4)}


@pytest.mark.parametrize(
    ("varied", "value", "why"),
    [
        ("steps", 0.0, "steps must be at least 1"),
        ("steps", 2.5, "whole"),
        ("guidance", 1000.5, "guidance must be in 0 .. 1000"),
        ("guidance", -1.0, "guidance must be in 0 .. 1000"),
    ],
)
def test_a_sheet_has_no_value_that_its_setting_cannot_have(
    varied: Varied, value: float, why: str
) -> None:
    with pytest.raises(ValueError, match=why):
        Sheet(varied, (1.0, value))


@pytest.mark.parametrize("values", [(), (1.0,) * 101])
def test_a_sheet_of_no_rows_or_too_many_is_refused(values: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="rows"):
        Sheet("guidance", values)
