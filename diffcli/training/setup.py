"""From a configuration and data to a model and its trainer."""

import copy
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from diffcli.data.images import LabelledImages, detail
from diffcli.errors import as_usage_error
from diffcli.files.checkpoint import ModelDescription, load_model
from diffcli.training.config import RunConfig
from diffcli.training.distributed import Distributed
from diffcli.training.objectives import DistributionMatching
from diffcli.training.origin import adopt
from diffcli.training.trainer import Trainer


def resolved(config: RunConfig, data: LabelledImages) -> RunConfig:
    """The configuration with all that depends on the data.

    Raises:
        UsageError: if the network cannot take images of this size.
    """
    channels, height, width = data.images.shape[1:]
    detailed = config.architecture is None and detail(data.images) > config.recipe.detail
    with as_usage_error("image_size"):
        return config.for_images((channels, height, width), len(data.class_names), detailed)


def describe(config: RunConfig, data: LabelledImages) -> ModelDescription:
    """The model that a configuration makes.

    Raises:
        UsageError: see ``resolved``.
    """
    config = resolved(config, data)
    assert config.architecture is not None
    recipe = config.recipe
    training: dict[str, Any] = {
        "recipe": recipe.name,
        "seed": config.seed,
        "batch_size": recipe.batch_size,
    }
    if config.distillation:
        training["distilled_from"] = asdict(config.distillation)
    if config.origin:
        training["went_on_from"] = asdict(config.origin)
    return ModelDescription(
        architecture=config.architecture,
        schedule=recipe.schedule,
        prediction_type=recipe.prediction_type,
        sampling=recipe.sampling,
        class_names=data.class_names,
        dataset=config.data,
        training=training,
    )


def make_trainer(
    config: RunConfig,
    data: LabelledImages,
    device: torch.device,
    distributed: Distributed,
    source: Path | None = None,
) -> Trainer:
    """A trainer at the start of a run; equal configurations give equal weights.

    Args:
        config: of the run.
        data: the training images.
        device: where to train.
        distributed: the processes that share the run.
        source: the model file that the run starts from, if there is one.

    Raises:
        DiffcliError: if that file cannot be read.
    """
    torch.manual_seed(config.seed)
    denoiser = describe(config, data).build().to(device)
    if source is None:
        return Trainer(denoiser, data, config, distributed)
    description, model = load_model(source)
    adopt(denoiser.network, data.class_names, model.network, description.class_names)
    if config.distillation is None:
        return Trainer(denoiser, data, config, distributed)
    objective = DistributionMatching(
        model.to(device),
        copy.deepcopy(denoiser),
        config.distillation.guidance,
        config.recipe.sampling.steps,
    )
    return Trainer(denoiser, data, config, distributed, objective)
