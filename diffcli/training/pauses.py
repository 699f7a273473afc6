"""When a run pauses, to compute its loss on held-out images or to draw samples."""

import math

_TRAINING_PER_PAUSE = 10
_FIRST_PAUSES, _EVALUATIONS_AT_FIRST = 8, 300


class Pauses:
    """Chooses among the ends of epochs.

    Pauses take a tenth of the time that training takes, whose backward pass costs twice as much as
    an evaluation; the first ones are exempt if they are short, of up to three hundred evaluations.
    Larger grids are not: of sixty pictures in two classes, whose grids take some six hundred, 15
    seconds make 560 steps, and 469 if they were (means of three, tests/benchmarks/README.md).  The
    number of pauses is no more than the square root of that of the steps.  It depends on these
    alone, and not on the clock.

    Args:
        num_images: in an epoch.
        batch_size: images of a step.
    """

    def __init__(self, num_images: int, batch_size: int) -> None:
        self._num_images = num_images
        self._batch_size = batch_size

    def due(self, steps_done: int, evaluations: int) -> bool:
        """Whether the last step ended an epoch, and there is time for a pause.

        Args:
            steps_done: since the beginning of the run, at least 1.
            evaluations: of the network for one image, in a pause.
        """
        before = (steps_done - 1) * self._batch_size // self._num_images
        if steps_done * self._batch_size // self._num_images == before:
            return False
        began = -(-before * self._num_images // self._batch_size)
        return self._affordable(steps_done, evaluations) > self._affordable(began, evaluations)

    def _affordable(self, steps: int, evaluations: int) -> int:
        by_cost = 3 * steps * self._batch_size // (_TRAINING_PER_PAUSE * evaluations)
        first = _FIRST_PAUSES if evaluations <= _EVALUATIONS_AT_FIRST else 0
        return min(math.isqrt(steps), first + by_cost)
