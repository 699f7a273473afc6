"""Recipes: named sets of training choices.

This module does not import torch.
"""

from dataclasses import dataclass, replace
from typing import Literal

from diffcli.core.parameters import (
    CHANNELS_PER_GROUP,
    PredictionType,
    SamplingSettings,
    ScheduleConfig,
)
from diffcli.training.timesteps import TimestepDensity

RecipeName = Literal["fast", "ddpm"]
"""What ``diffcli train`` offers."""


@dataclass(frozen=True)
class Recipe:
    """How a model is trained, and how images are drawn from it by default.

    Args:
        name: of the recipe; ``distillation`` and ``fine-tuning`` are made for each model.
        schedule: the noise schedule.
        prediction_type: what the network predicts.
        sampling: the default settings of the finished model.
        optimizer: ``muon`` (Muon for matrices, Adam for the rest) or ``adam``.
        learning_rate: the peak learning rate of Adam; that of Muon is derived from it.
        timesteps: how often each timestep is trained on.
        stratified: whether the timesteps of a batch are spread evenly over the density,
            instead of drawn independently.
        label_dropout: the probability of training an image without its label.
        batch_size: images per step, over all processes.
        width: channels of the network's finest level, see ``UNetConfig.for_images``.
        momentum: of Muon.
        augmentation: the probability of each change, see ``augmentation.augment``.
        detail: if images have more of it, see ``images.detail``, the network has a level of
            single pixels.

    Raises:
        ValueError: if a number is out of range.
    """

    name: Literal["fast", "ddpm", "distillation", "fine-tuning"]
    schedule: ScheduleConfig
    prediction_type: PredictionType
    sampling: SamplingSettings
    optimizer: Literal["muon", "adam"]
    learning_rate: float
    timesteps: TimestepDensity
    stratified: bool
    label_dropout: float
    batch_size: int = 64
    width: int = 64
    momentum: float = 0.95
    augmentation: float = 0.0
    # Digits and letters have 0.04, icons 0.10.  Of icons, patches leave a grid in what is drawn,
    # and a held-out loss of 0.113 instead of 0.095 after seven minutes on one core.
    detail: float = 0.07

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be positive, not {self.batch_size}")
        if self.width < CHANNELS_PER_GROUP or self.width % CHANNELS_PER_GROUP:
            raise ValueError(f"width must be a multiple of {CHANNELS_PER_GROUP}, not {self.width}")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum must be at least 0 and below 1, not {self.momentum:g}")
        if not 0 < self.learning_rate <= 1:
            raise ValueError(
                f"learning_rate must be above 0 and at most 1, not {self.learning_rate:g}"
            )
        if not 0 <= self.label_dropout <= 1:
            raise ValueError(f"label_dropout must be in 0 .. 1, not {self.label_dropout:g}")
        if not 0 <= self.augmentation <= 1:
            raise ValueError(f"augmentation must be in 0 .. 1, not {self.augmentation:g}")
        self.sampling.check_timesteps(self.schedule.num_timesteps)


def distillation_recipe(
    schedule: ScheduleConfig, prediction_type: PredictionType, steps: int, width: int
) -> Recipe:
    """The recipe for a student that draws in a few steps.

    Args:
        schedule: of the teacher.
        prediction_type: of the teacher.
        steps: to draw in.
        width: of the teacher.

    Raises:
        ValueError: if there are more steps than timesteps.
    """
    return replace(
        RECIPES["fast"],
        name="distillation",
        schedule=schedule,
        prediction_type=prediction_type,
        sampling=SamplingSettings("consistency", steps),
        width=width,
        learning_rate=1e-3,
        timesteps=TimestepDensity(),
    )


def fine_tuning_recipe(
    schedule: ScheduleConfig,
    prediction_type: PredictionType,
    sampling: SamplingSettings,
    width: int,
) -> Recipe:
    """The recipe to go on with a model on other pictures.

    Args:
        schedule: of the model.
        prediction_type: of the model.
        sampling: of the model.
        width: of the model.
    """
    return replace(
        RECIPES["fast"],
        name="fine-tuning",
        schedule=schedule,
        prediction_type=prediction_type,
        # New labels are soon drawn well, but not at once apart: more guidance than usual.
        sampling=replace(
            sampling,
            steps=min(schedule.num_timesteps, max(sampling.steps, 16)),
            guidance_scale=max(1.5, sampling.guidance_scale),
            guidance_interval=None,
        ),
        batch_size=16,
        width=width,
    )


RECIPES: dict[RecipeName, Recipe] = {
    # The best digits per minute on a CPU; tests/benchmarks/EXPERIMENTS.md has the comparisons.
    "fast": Recipe(
        name="fast",
        schedule=ScheduleConfig("cosine", 300),
        prediction_type="v_prediction",
        # Fewer steps bring pictures closer to the data and make them less varied, as guidance
        # does.
        sampling=SamplingSettings("dpmpp-sde", 16, guidance_scale=1.1, spacing=1.5),
        optimizer="muon",
        learning_rate=3e-3,
        # More often at the noise level at which the shape of a digit is decided.
        timesteps=TimestepDensity(height=3.0, centre=-1.0, width=2**0.5),
        stratified=True,
        # Enough for guidance; with the usual 0.1, digits drawn with labels are worse.
        label_dropout=0.02,
        momentum=0.9,
    ),
    # The classic system (Ho et al. 2020) with T = 300.
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
    ),
}
