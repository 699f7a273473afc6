"""Recipes: all the choices that make a training run, under one name."""

from dataclasses import dataclass
from typing import Literal

from diffcli.core.denoiser import PredictionType
from diffcli.core.generate import SamplingSettings
from diffcli.core.schedule import ScheduleConfig
from diffcli.training.timesteps import TimestepDensity

RecipeName = Literal["fast", "ddpm"]


@dataclass(frozen=True)
class Recipe:
    """How a model is trained, and how it is then sampled.

    Args:
        schedule: the diffusion process.
        prediction_type: what the network learns to predict.
        sampling: the sampler that suits it.
        optimizer: ``muon`` (Muon for matrices, Adam for the rest) or ``adam``.
        learning_rate: of Adam; Muon's is derived from it.
        timesteps: how often each is trained on.
        stratified: spread the timesteps of a batch evenly instead of drawing each alone.
        label_dropout: the probability of training an image without its label.
    """

    schedule: ScheduleConfig
    prediction_type: PredictionType
    sampling: SamplingSettings
    optimizer: Literal["muon", "adam"]
    learning_rate: float
    timesteps: TimestepDensity
    stratified: bool
    label_dropout: float = 0.1


RECIPES: dict[RecipeName, Recipe] = {
    # Made for the best digits per minute on a CPU; what came of it is in models/README.md.
    "fast": Recipe(
        schedule=ScheduleConfig("cosine", 300),
        prediction_type="v_prediction",
        # Of all tried with at most eight evaluations of the network, the best for a few minutes
        # of training; half an hour wants less guidance: see tests/benchmarks/README.md.
        sampling=SamplingSettings(
            "dpmpp-sde", 6, guidance_scale=1.5, guidance_interval=(220, 260), spacing=1.5
        ),
        optimizer="muon",
        learning_rate=2e-3,
        # Where a digit's shape is decided, at somewhat more noise than signal.
        timesteps=TimestepDensity(height=2.0, centre=-1.0, width=2**0.5),
        stratified=True,
        # Enough for guidance; the usual tenth makes labelled digits visibly worse.
        label_dropout=0.02,
    ),
    # The classic system (Ho et al. 2020) at T = 300.
    "ddpm": Recipe(
        schedule=ScheduleConfig("linear", 300),
        prediction_type="epsilon",
        sampling=SamplingSettings("ddpm", 300),
        optimizer="adam",
        learning_rate=1e-3,
        timesteps=TimestepDensity(),
        stratified=False,
    ),
}
