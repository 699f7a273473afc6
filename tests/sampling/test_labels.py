"""Labels as people write them."""

from collections.abc import Sequence

import pytest

from diffcli.errors import UsageError
from diffcli.sampling.labels import parse_labels

DIGITS = tuple("0123456789")
# Names that look like something else: numbers of other classes, ranges, lists, and "all".
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
        (["1,2-3"], ODD, [1, 2, 3]),
    ],
)
def test_labels(wanted: Sequence[str | int], names: Sequence[str], labels: list[int]) -> None:
    assert parse_labels(wanted, names) == labels


@pytest.mark.parametrize(
    "wanted", ["10", "4-2", "8-10", "cat", "", "3,", "-1", "1-", "٣", "1e0", "9" * 30, 10, -1]
)
def test_others_are_refused_with_those_there_are(wanted: str | int) -> None:
    with pytest.raises(UsageError, match="no class of the model, which has 0, 1, 2"):
        parse_labels([wanted], DIGITS)


def test_of_many_classes_only_some_are_listed() -> None:
    with pytest.raises(UsageError, match=r"19, \.\.\. \(500 in all\)"):
        parse_labels(["x"], [str(number) for number in range(500)])
