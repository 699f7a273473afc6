import math

from hypothesis import given
from hypothesis import strategies as st

from diffcli.training.pauses import Pauses

SIZES = st.integers(1, 300)


def most(steps: int, batch_size: int, evaluations: int) -> int:
    """A tenth of three evaluations for each image, but no more than the root; eight short ones."""
    first = 8 if evaluations <= 300 else 0
    return min(math.isqrt(steps), first + 3 * steps * batch_size // (10 * evaluations))


@given(SIZES, SIZES, st.integers(1, 5000), st.integers(1, 400))
def test_pauses_are_ends_of_epochs_and_no_more_than_affordable(
    images: int, batch_size: int, evaluations: int, steps: int
) -> None:
    pauses = Pauses(images, batch_size)
    due = [step for step in range(1, steps + 1) if pauses.due(step, evaluations)]
    for step in due:
        assert step * batch_size // images > (step - 1) * batch_size // images
    assert len(due) <= most(steps, batch_size, evaluations)


@given(SIZES, st.integers(1, 5000), st.integers(1, 400))
def test_where_every_step_is_an_epoch_none_is_left_out(
    batch_size: int, evaluations: int, steps: int
) -> None:
    pauses = Pauses(batch_size, batch_size)
    due = [step for step in range(1, steps + 1) if pauses.due(step, evaluations)]
    assert len(due) == most(steps, batch_size, evaluations)


def test_long_epochs_have_a_pause_each() -> None:
    pauses = Pauses(60_000, 64)
    due = [step for step in range(1, 4000) if pauses.due(step, 1024 + 80 * 32)]
    assert due == [938, 1875, 2813, 3750]


def test_grids_do_not_take_the_time_of_a_short_run_on_few_pictures() -> None:
    """Of 168 pictures of 14 classes: ten rows of eight in 16 steps with guidance."""
    pauses, grid = Pauses(168, 16), 128 + 80 * 32
    due = [step for step in range(1, 2000) if pauses.due(step, grid)]
    # After ten times as many images as a grid takes evaluations, at a third of the price.
    assert due[0] * 16 > 10 * grid / 3
    assert len(due) * grid <= 2000 * 16 * 3 / 10
