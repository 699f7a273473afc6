"""The smallest real model: the one place in the tests that knows how a network is made."""

import torch

from diffcli.core.denoiser import Denoiser
from diffcli.core.parameters import PredictionType, SamplingSettings, ScheduleConfig, UNetConfig
from diffcli.core.unet import ConditionalUNet
from diffcli.files.checkpoint import ModelDescription

COSINE = ScheduleConfig("cosine", 20)


def config(channels: int = 1, height: int = 8, width: int = 8, classes: int = 3) -> UNetConfig:
    """Two levels, a few ten thousand weights."""
    return UNetConfig(
        image_channels=channels,
        image_height=height,
        image_width=width,
        num_classes=classes,
        channels=(32, 32),
        blocks=(1, 1),
        embedding_dim=32,
    )


def network(architecture: UNetConfig | None = None, seed: int = 0) -> ConditionalUNet:
    """A network none of whose weights is zero, as after training."""
    torch.manual_seed(seed)
    unet = ConditionalUNet(architecture or config())
    with torch.no_grad():
        for param in unet.parameters():
            param.add_(torch.randn(param.shape) * 0.05)
    return unet.eval().requires_grad_(False)


def description(
    schedule: ScheduleConfig = COSINE,
    prediction_type: PredictionType = "v_prediction",
    sampling: SamplingSettings | None = None,
) -> ModelDescription:
    """A model of three classes whose names are worth escaping."""
    return ModelDescription(
        architecture=config(),
        schedule=schedule,
        prediction_type=prediction_type,
        sampling=sampling or SamplingSettings("dpmpp", 4),
        class_names=("zero", 'o"ne', "zwei ü"),
        dataset="none",
        training={"steps": 0},
    )


def denoiser(
    schedule: ScheduleConfig = COSINE, prediction_type: PredictionType = "v_prediction"
) -> Denoiser:
    """A denoiser of random weights."""
    made = description(schedule, prediction_type).build()
    made.network.load_state_dict(network().state_dict())
    return made.eval().requires_grad_(False)
