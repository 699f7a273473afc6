"""Requests and how they are divided into batches."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffcli.core.parameters import SamplingSettings
from diffcli.sampling.request import MAX_SEED, SampleRequest, Sheet

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
    assert all(len(batch.labels) <= size for batch in batches)
    assert [i for batch in batches for i in batch.indices] == list(range(len(request)))
    expected = [label for label in labels for _ in range(per_label)]
    assert [label for batch in batches for label in batch.labels] == expected
    assert [s for batch in batches for s in batch.seeds] == list(range(seed, seed + len(expected)))
    for index in range(len(request)):
        assert request.one(index) == SampleRequest((expected[index],), 1, seed + index, SETTINGS)


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


@pytest.mark.parametrize("values", [(), (1.0,) * 101])
def test_a_sheet_of_no_rows_or_too_many_is_refused(values: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="rows"):
        Sheet("guidance", values)
