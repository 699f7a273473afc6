"""Labels as people write them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from diffcli.errors import UsageError
from diffcli.sampling.labels import Labels, Wanted, label_text, parse_labels

DIGITS = tuple("0123456789")
# Names that look like something else: numbers of other classes, ranges, lists, and "all".
MONTHS = sorted(map(str, range(1, 13)))
"""As the folders of a data set are sorted: 1, 10, 11, 12, 2, ..."""
ODD = ("2", "1", "0-1", "a, b", "all")


@pytest.mark.parametrize(
    ("wanted", "names", "labels"),
    [
        (["3"], DIGITS, [3]),
        (["0-4,7"], DIGITS, [0, 1, 2, 3, 4, 7]),
        (["9", "0", "9"], DIGITS, [9, 0, 9]),
        (["all"], DIGITS, list(range(10))),
        ([" 3 , 4 "], DIGITS, [3, 4]),
        ([3, "4"], DIGITS, [3, 4]),
        (["dog,1"], ("cat", "dog"), [1, 1]),
        (["2", "1"], ODD, [0, 1]),
        ([2, 1], ODD, [2, 1]),
        (["0-1"], ODD, [2]),
        (["a, b"], ODD, [3]),
        (["all"], ODD, [4]),
        (["1,2-3"], ODD, [1, 0, 3]),
        (["1-3"], MONTHS, [0, 4, 5]),
        (["10-12,2"], MONTHS, [1, 2, 3, 4]),
        (["1-12"], MONTHS, [0, *range(4, 12), 1, 2, 3]),
        (["02-03"], ("01", "02", "03"), [1, 2]),
        ("3,8", DIGITS, [3, 8]),
        (7, DIGITS, [7]),
        (range(2), DIGITS, [0, 1]),
        (np.int64(7), DIGITS, [7]),
        (np.array(7), DIGITS, [7]),
        (np.array([7, 1]), DIGITS, [7, 1]),
        (torch.tensor(7), DIGITS, [7]),
        (torch.tensor([7]), DIGITS, [7]),
        (torch.tensor([7, 1]), DIGITS, [7, 1]),
    ],
)
def test_labels(wanted: Wanted, names: Sequence[str], labels: list[int]) -> None:
    assert parse_labels(wanted, names) == Labels(tuple(labels))


@pytest.mark.parametrize(
    ("wanted", "names", "numbers", "weights"),
    [
        ("3:0.5,8:0.5", DIGITS, (3, 8), (0.5, 0.5)),
        ("3,-8", DIGITS, (3, 8), (1.0, -1.0)),
        ("4:1,9:-0.5", DIGITS, (4, 9), (1.0, -0.5)),
        (" 3:2 , -8:0.25 , 5 ", DIGITS, (3, 8, 5), (2.0, -0.25, 1.0)),
        ("-1", DIGITS, (1,), (-1.0,)),
        ("cat:0.7,dog:0.3", ("cat", "dog"), (0, 1), (0.7, 0.3)),
        # Names that look like weights and minus signs.
        ("a:1,-b", ("a:1", "-b", "b"), (0, 1), None),
        ("a:1:0.5,--b", ("a:1", "-b", "b"), (0, 1), (0.5, -1.0)),
    ],
)
def test_mixtures(
    wanted: str, names: Sequence[str], numbers: tuple[int, ...], weights: tuple[float, ...] | None
) -> None:
    assert parse_labels([wanted], names) == Labels(numbers, weights)


@pytest.mark.parametrize(
    ("wanted", "why"),
    [
        (["3:x,8"], "'3:x' is no label with a weight; write it like 3:0.7"),
        (["3:--1,8"], "no label with a weight"),
        (["3:1e3"], "no label with a weight"),
        (["0-4:0.5"], "more than one class"),
        (["all:0.5"], "more than one class"),
        (["10:0.5"], "'10' is no class of the model"),
        (["-10"], "'10' is no class of the model"),
        (["3:0.5,8:0.5", "4"], "one mixture"),
        ([4, "3,-8"], "one mixture"),
    ],
)
def test_other_mixtures_are_refused(wanted: Sequence[str | int], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        parse_labels(wanted, DIGITS)


def test_labels_are_written_as_they_are_read() -> None:
    assert label_text(["3", "8"], None) == "3, 8"
    assert label_text(["3", "8"], (0.7, -1.0)) == "3:0.7, 8:-1"
    assert label_text(["a\nb"], None) == "a b"


@pytest.mark.parametrize(
    "wanted", ["10", "8-10", "cat", "", "3,", "-", "1-", "٣", "1e0", "9" * 30, 10, -1, True, 3.0]
)
def test_others_are_refused_with_those_there_are(wanted: Any) -> None:
    with pytest.raises(UsageError, match="no class of the model, which has 0, 1, 2"):
        parse_labels([wanted], DIGITS)


def test_a_range_that_runs_backwards_is_named() -> None:
    with pytest.raises(UsageError, match="the range 4-2 runs backwards; write 2-4"):
        parse_labels(["1,4-2"], DIGITS)
    assert parse_labels(["4-4"], DIGITS).numbers == (4,)


def test_of_many_classes_only_some_are_listed() -> None:
    with pytest.raises(UsageError, match=r"19, \.\.\. \(500 in all\)"):
        parse_labels(["x"], [str(number) for number in range(500)])
