import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffcli.charts.scales import Scale, tick_label


def test_fractions() -> None:
    assert [Scale(-1, 3).fraction(value) for value in (-1, 0, 3)] == [0, 0.25, 1]
    assert [Scale(4, 0).fraction(value) for value in (4, 1)] == [0, 0.75]
    assert Scale(1, 1000, log=True).fraction(100) == pytest.approx(2 / 3)


def test_cells_are_centred_on_their_numbers() -> None:
    assert [Scale.of_cells(4).fraction(index) for index in range(4)] == [
        0.125,
        0.375,
        0.625,
        0.875,
    ]
    assert Scale.of_cells(4, downwards=True).fraction(0) == 0.875


@pytest.mark.parametrize(
    ("scale", "most", "ticks"),
    [
        (Scale(0, 1), 5, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (Scale.of_cells(300), 6, [0, 50, 100, 150, 200, 250]),
        (Scale.of_cells(3, downwards=True), 10, [0, 1, 2]),
        (Scale(5, 70_000, log=True), 5, [10, 100, 1000, 10_000]),
        (Scale(1, 1e8, log=True), 3, [1, 1000, 1e6]),
        (Scale(3.3, 9.4, log=True), 5, [4, 6, 8]),
        (Scale(9, 0.9, log=True), 5, [2, 4, 6, 8]),
    ],
)
def test_ticks(scale: Scale, most: int, ticks: list[float]) -> None:
    assert scale.ticks(most) == pytest.approx(ticks)


@given(
    st.floats(-1e6, 1e6),
    st.floats(1e-6, 1e6),
    st.integers(1, 20),
    st.booleans(),
)
def test_ticks_are_within_the_axis_and_not_too_many(
    low: float, length: float, most: int, down: bool
) -> None:
    ends = (low, low + length)
    scale = Scale(*(reversed(ends) if down else ends))
    ticks = scale.ticks(most)
    assert len(ticks) <= most + 1
    assert ticks == sorted(set(ticks))
    slack = 1e-6 * max(length, abs(low), 1)
    assert all(ends[0] - slack <= tick <= ends[1] + slack for tick in ticks)


@given(st.floats(1e-3, 1e5), st.floats(100, 1e6), st.integers(1, 9))
def test_log_ticks_are_powers_of_ten_within_the_axis(low: float, ratio: float, most: int) -> None:
    ticks = Scale(low, low * ratio, log=True).ticks(most)
    assert len(ticks) <= most
    assert all(math.log10(tick) == pytest.approx(round(math.log10(tick))) for tick in ticks)
    assert all(low * 0.999 <= tick <= low * ratio * 1.001 for tick in ticks)


@pytest.mark.parametrize(
    ("value", "label"),
    [
        (0, "0"),
        (-0.0, "0"),
        (0.1 + 0.2, "0.3"),
        (50, "50"),
        (9999, "9999"),
        (10_000, "10k"),
        (150_000, "150k"),
        (-250_000, "-250k"),
        (1_500_000, "1.5M"),
        (1e-5, "1e-05"),
        (1e13, "1e+13"),
    ],
)
def test_labels(value: float, label: str) -> None:
    assert tick_label(value) == label


def parsed(label: str) -> float:
    units = {"k": 1e3, "M": 1e6, "G": 1e9}
    return float(label.rstrip("kMG")) * units.get(label[-1], 1)


@given(st.floats(-1e9, 1e9), st.floats(-9, 12), st.integers(1, 20))
def test_the_labels_of_an_axis_differ_and_are_the_numbers_of_their_places(
    low: float, magnitude: float, most: int
) -> None:
    scale = Scale(low, low + max(10**magnitude, abs(low) * 1e-6))
    ticks = scale.ticks(most)
    labels = [tick_label(tick) for tick in ticks]
    assert len(set(labels)) == len(labels)
    for label, tick in zip(labels, ticks, strict=True):
        assert scale.fraction(parsed(label)) == pytest.approx(scale.fraction(tick), abs=1e-4)
