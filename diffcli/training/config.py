"""The configuration of a run: what ``config.json`` holds and ``--resume`` reads."""

from dataclasses import dataclass

from diffcli.training.budget import Budget
from diffcli.training.recipe import RecipeName


@dataclass(frozen=True)
class RunConfig:
    """All that decides what a run does; the same configuration gives the same run.

    Args:
        data: a data set's name, or the path of a folder or an IDX file.
        image_size: height and width to bring the pictures to, if not their own.
        flip: mirror half of the training images, drawn anew each time.
        recipe: name of the recipe.
        batch_size: images per step, over all processes.
        seed: of the initialisation, the order, the noise and everything else drawn.
        compiled: compile the network, which makes steps faster and rounds otherwise.
        learning_rate: that of the recipe if absent.
        epochs: see ``budget``.
        max_steps: see ``budget``.
        max_seconds: see ``budget``.

    Raises:
        ValueError: if a field is out of range.
    """

    data: str = "mnist"
    image_size: tuple[int, ...] | None = None
    flip: bool = False
    recipe: RecipeName = "fast"
    batch_size: int = 64
    seed: int = 0
    compiled: bool = False
    learning_rate: float | None = None
    epochs: float | None = None
    max_steps: int | None = None
    max_seconds: float | None = None

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be positive, not {self.batch_size}")
        if self.learning_rate is not None and self.learning_rate <= 0:
            raise ValueError(f"learning_rate must be positive, not {self.learning_rate}")
        if self.image_size is not None and (len(self.image_size) != 2 or min(self.image_size) < 1):
            raise ValueError(f"image_size must be two positive numbers, not {self.image_size}")

    @property
    def size(self) -> tuple[int, int] | None:
        """``image_size`` as a pair."""
        return (self.image_size[0], self.image_size[1]) if self.image_size else None

    def budget(self, images: int) -> Budget:
        """The end of the run on a data set of that many images: whichever limit comes first."""
        steps = [] if self.max_steps is None else [self.max_steps]
        if self.epochs is not None:
            steps.append(max(1, round(self.epochs * images / self.batch_size)))
        return Budget(min(steps, default=None), self.max_seconds)
