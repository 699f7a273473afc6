"""The configuration of a run: the content of its ``config.json``.

This module does not import torch.
"""

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

from diffcli.core.parameters import SamplingSettings, ScheduleConfig, UNetConfig
from diffcli.files.documents import decode
from diffcli.training.recipe import RECIPES, Recipe
from diffcli.training.timesteps import TimestepDensity

_VERSION = 2

# Version 1 named the recipe, whose numbers were these, and had patches for all images.
_RECIPES_1 = {
    "fast": Recipe(
        name="fast",
        schedule=ScheduleConfig("cosine", 300),
        prediction_type="v_prediction",
        sampling=SamplingSettings(
            "dpmpp-sde", 6, guidance_scale=1.5, guidance_interval=(220, 260), spacing=1.5
        ),
        optimizer="muon",
        learning_rate=2e-3,
        timesteps=TimestepDensity(height=2.0, centre=-1.0, width=2**0.5),
        stratified=True,
        label_dropout=0.02,
        batch_size=64,
        width=64,
        momentum=0.95,
        augmentation=0.0,
        detail=1.0,
    ),
    "ddpm": Recipe(
        name="ddpm",
        schedule=ScheduleConfig("linear", 300),
        prediction_type="epsilon",
        sampling=SamplingSettings("ddpm", 300, variance="beta"),
        optimizer="adam",
        learning_rate=1e-3,
        timesteps=TimestepDensity(),
        stratified=False,
        label_dropout=0.1,
        batch_size=64,
        width=64,
        momentum=0.95,
        augmentation=0.0,
        detail=1.0,
    ),
}


@dataclass(frozen=True)
class Budget:
    """The end of a run, in steps, in seconds, or in both, whichever comes first.

    Raises:
        ValueError: if neither is given, or one is not positive.
    """

    steps: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        if self.steps is None and self.seconds is None:
            raise ValueError("a run needs an end: steps or seconds")
        if (self.steps is not None and self.steps <= 0) or (
            self.seconds is not None and self.seconds <= 0
        ):
            raise ValueError("steps and seconds must be positive")

    def progress(self, steps: int, seconds: float) -> float:
        """The share of the budget that is used; 1 or more means that the run is complete."""
        by_steps = steps / self.steps if self.steps else 0.0
        by_time = seconds / self.seconds if self.seconds else 0.0
        return max(by_steps, by_time)

    def duration(self, steps_per_second: float) -> float:
        """The expected duration of the whole run in seconds."""
        by_steps = self.steps / steps_per_second if self.steps else float("inf")
        return min(by_steps, self.seconds or float("inf"))


@dataclass(frozen=True)
class Distillation:
    """The teacher of a run, and the guidance that its student learns.

    Args:
        teacher: what the user called it, for people.
        sha256: of the teacher's file.
        guidance_scale: see ``SamplingSettings``.
        guidance_interval: see ``SamplingSettings``.
    """

    teacher: str
    sha256: str
    guidance_scale: float
    guidance_interval: tuple[int, int] | None

    @property
    def guidance(self) -> SamplingSettings:
        """The guidance as settings.

        Raises:
            ValueError: if a field is out of range.
        """
        return SamplingSettings(
            guidance_scale=self.guidance_scale, guidance_interval=self.guidance_interval
        )


@dataclass(frozen=True)
class Origin:
    """The model that a run goes on from.

    Args:
        model: what the user called it, for people.
        sha256: of its file.
    """

    model: str
    sha256: str


@dataclass(frozen=True)
class RunConfig:
    """All that decides what a run does: equal configurations give equal runs.

    On one processor, with the same versions and number of threads, and without a limit in time.

    Args:
        recipe: the training choices, with all numbers that are used.
        data: a data set's name, or the path of a folder or an IDX file.
        image_size: height and width to resize the pictures to; if None, their own.
        flip: whether training images are mirrored at random.
        seed: of initialisation, order, noise and all other random choices.
        compile: whether to compile the network: faster steps, other rounding.
        epochs: see ``budget``.
        max_steps: see ``budget``.
        max_seconds: see ``budget``.
        architecture: of the network; see ``for_images``.
        distillation: the teacher, if the run has one.
        origin: the model whose weights the run starts with, if it has one.

    Raises:
        ValueError: if a field is out of range.
    """

    recipe: Recipe = RECIPES["fast"]
    data: str = "mnist"
    image_size: tuple[int, int] | None = None
    flip: bool = False
    seed: int = 0
    compile: bool = False
    epochs: float | None = None
    max_steps: int | None = None
    max_seconds: float | None = None
    architecture: UNetConfig | None = None
    distillation: Distillation | None = None
    origin: Origin | None = None

    def __post_init__(self) -> None:
        if self.image_size is not None and (len(self.image_size) != 2 or min(self.image_size) < 1):
            raise ValueError(f"image_size must be two positive numbers, not {self.image_size}")
        for name in ("epochs", "max_steps", "max_seconds"):
            limit = getattr(self, name)
            if limit is not None and not 0 < limit < math.inf:
                raise ValueError(f"{name} must be positive and finite, not {limit:g}")

    def budget(self, images: int) -> Budget:
        """The end of the run on a data set of that many images: whichever limit comes first."""
        steps = [] if self.max_steps is None else [self.max_steps]
        if self.epochs is not None:
            steps.append(max(1, round(self.epochs * images / self.recipe.batch_size)))
        return Budget(min(steps, default=None), self.max_seconds)

    def for_images(
        self, shape: tuple[int, int, int], num_classes: int, detailed: bool
    ) -> "RunConfig":
        """The same with the architecture for images ``(C, H, W)``.

        One that is there stays, but for being told of augmentation if the recipe has that.

        Args:
            shape: of an image.
            num_classes: number of labels.
            detailed: see ``UNetConfig.for_images``.

        Raises:
            ValueError: if the network cannot take images of this size.
        """
        architecture = self.architecture
        if architecture is None:
            architecture = UNetConfig.for_images(*shape, num_classes, self.recipe.width, detailed)
        if self.recipe.augmentation:
            architecture = replace(architecture, augmented=True)
        return replace(self, architecture=architecture)

    def document(self) -> dict[str, Any]:
        """The JSON object of ``config.json``."""
        return {"format_version": _VERSION, **asdict(self)}

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> "RunConfig":
        """The configuration in a ``config.json`` of this or an earlier release.

        Raises:
            ValueError: if it is not valid.
        """
        document = dict(document)
        version = document.pop("format_version", 1)
        if version == 1:
            document = _upgraded(document)
        elif version != _VERSION:
            raise ValueError(
                f"its format version is {version!r} and this release reads up to {_VERSION}; "
                "install a newer diffcli"
            )
        config = decode(cls, document)
        if config.epochs is config.max_steps is config.max_seconds is None:
            raise ValueError("it has no limit: epochs, max_steps or max_seconds")
        return config


def _upgraded(document: dict[str, Any]) -> dict[str, Any]:
    """A document of version 1, which named the recipe and had two of its fields beside it.

    They were null where the recipe's were used.
    """
    name = document.get("recipe")
    if not isinstance(name, str) or name not in _RECIPES_1:
        raise ValueError(f"its recipe is {name!r}")
    given = {field: document.pop(field, None) for field in ("batch_size", "learning_rate")}
    own = {field: value for field, value in given.items() if value is not None}
    document["compile"] = document.pop("compiled", False)
    return {**document, "recipe": {**asdict(_RECIPES_1[name]), **own}}
