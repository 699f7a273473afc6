"""The fit of a recipe to what a machine can do within the limits of a run.

A minute on one processor is an hour on another.  What the limits of a run allow is therefore
counted in images of the default network: its measured speed, times the time.  The best choices
change slowly with that number: half or twice the speed makes little difference.
"""

import math
from collections.abc import Collection
from dataclasses import replace
from typing import Any

import torch

from diffcli.core.parameters import SamplingSettings
from diffcli.data.images import LabelledImages
from diffcli.training.config import RunConfig
from diffcli.training.distributed import Distributed
from diffcli.training.plan import measure_speed
from diffcli.training.recipe import RECIPES
from diffcli.training.setup import make_trainer

# Up to so many images of the default network that the time allows: the width to train instead.
# A narrow network makes more steps in the time; a wide one learns more in a step.
_WIDTHS = ((100_000, 32), (500_000, 48))

# Up to so many images: the guidance to draw grey pictures with.  It brings pictures closer to the
# data and makes them less varied; the longer the training, the less of it is needed.
_GUIDANCE = (
    (10_000, 2.25),
    (50_000, 1.75),
    (100_000, 1.4),
    (200_000, 1.3),
    (500_000, 1.2),
    (2_000_000, 1.1),
    (math.inf, 1.05),
)
# Pictures in colour show more kinds of things than digits and letters do.
_GUIDANCE_OF_COLOUR = ((500_000, 2.5), (math.inf, 1.5))

# The batch grows with the square root of the number of images, and so does the number of steps.
_IMAGES_OF_BATCH_16 = 11_000
_LARGEST_BATCH = 256

# From so many passes over the images on, counted in steps of the default network, a network
# learns them by heart.  With these changes to them, the loss on held-out images falls on: of 158
# icons, after five minutes, to 0.119 instead of rising from 0.130 to 0.183.
_MANY_PASSES, _AUGMENTATION = 30, 0.4

# A GPU is slow with small batches, and fast only with larger ones.
_TRIAL_BATCH, _TRIAL_BATCH_OF_GPU = 64, 512


def fitted(
    config: RunConfig,
    data: LabelledImages,
    device: torch.device,
    distributed: Distributed,
    given: Collection[str],
) -> dict[str, Any]:
    """The fields of the recipe that are fitted to this machine, with their values.

    Only the ``fast`` recipe is fitted, and the augmentation of one for fine-tuning.

    Args:
        config: of the run.
        data: the training images.
        device: where to train.
        distributed: the processes that share the run; all of them call this.
        given: the fields that the user has chosen.
    """
    if config.recipe.name not in ("fast", "fine-tuning"):
        return {}
    speed = 0.0
    if config.max_seconds is not None:
        (speed,) = distributed.from_leader(_reference_speed(config, data, device))
    colour = data.images.shape[1] == 3
    choices = choose(config, len(data), speed * distributed.size, colour)
    return {name: value for name, value in choices.items() if name not in given}


def choose(config: RunConfig, count: int, speed: float, colour: bool = False) -> dict[str, Any]:
    """The fields of the recipe for the limits of a run.

    Args:
        config: of the run.
        count: number of training images.
        speed: images per second of the default network, if the run has a limit in time.
        colour: whether the images have colours.
    """
    limits = {}
    if config.max_steps is not None:
        limits["steps"] = float(config.max_steps * config.recipe.batch_size)
    if config.epochs is not None:
        limits["passes"] = config.epochs * count
    if config.max_seconds is not None:
        limits["time"] = config.max_seconds * speed
    reached_first = min(limits, key=limits.__getitem__)
    images = limits[reached_first]
    augmentation = _AUGMENTATION if images > _MANY_PASSES * count else 0.0
    choices: dict[str, Any] = {"augmentation": augmentation}
    if reached_first != "steps" and config.recipe.name == "fast":
        choices["sampling"] = _choose_sampling(images, colour)
        choices |= _choose_network(images, reached_first == "passes")
    return choices


def _choose_sampling(images: float, colour: bool) -> SamplingSettings:
    table = _GUIDANCE_OF_COLOUR if colour else _GUIDANCE
    scale = next(scale for most, scale in table if images <= most)
    return replace(RECIPES["fast"].sampling, guidance_scale=scale)


def _choose_network(images: float, by_passes: bool) -> dict[str, Any]:
    """Width and batch size for a number of images, which passes or time limit."""
    default = RECIPES["fast"]
    batch_size = 8 * max(1, round(2 * (images / _IMAGES_OF_BATCH_16) ** 0.5))
    if by_passes:
        # Time is no limit: nothing is gained by a narrow network or a large batch.
        return {"batch_size": min(batch_size, default.batch_size)}
    width = next((width for most, width in _WIDTHS if images <= most), default.width)
    return {"batch_size": min(batch_size, _LARGEST_BATCH), "width": width}


def _reference_speed(config: RunConfig, data: LabelledImages, device: torch.device) -> float:
    """Images per second of the default network."""
    batch_size = _TRIAL_BATCH if device.type == "cpu" else _TRIAL_BATCH_OF_GPU
    recipe = replace(config.recipe, width=RECIPES["fast"].width, batch_size=batch_size)
    trial = replace(config, recipe=recipe, architecture=None)
    return measure_speed(make_trainer(trial, data, device, Distributed()))
