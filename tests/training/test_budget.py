import math

import pytest

from diffcli.training.budget import Budget


@pytest.mark.parametrize(
    ("budget", "steps", "seconds", "progress"),
    [
        (Budget(steps=10), 0, 0.0, 0.0),
        (Budget(steps=10), 5, 1e9, 0.5),
        (Budget(steps=10), 10, 0.0, 1.0),
        (Budget(seconds=60.0), 10**9, 15.0, 0.25),
        (Budget(seconds=60.0), 0, 90.0, 1.5),
        (Budget(10, 60.0), 5, 15.0, 0.5),
        (Budget(10, 60.0), 1, 45.0, 0.75),
    ],
)
def test_progress_is_that_of_the_nearer_end(
    budget: Budget, steps: int, seconds: float, progress: float
) -> None:
    assert budget.progress(steps, seconds) == pytest.approx(progress)


@pytest.mark.parametrize(
    ("steps", "seconds"), [(None, None), (0, None), (-1, None), (None, 0.0), (5, -1.0)]
)
def test_a_run_needs_an_end_that_lies_ahead(steps: int | None, seconds: float | None) -> None:
    with pytest.raises(ValueError, match=r"needs an end|must be positive"):
        Budget(steps, seconds)


def test_an_end_never_reached_is_no_division_by_zero() -> None:
    assert Budget(seconds=math.inf).progress(10**9, 1e9) == 0
