"""From a configuration to a run: the model, the trainer, the folder."""

import json
import shutil
import tempfile
from dataclasses import asdict, replace
from pathlib import Path

import torch

from diffcli.core.unet import UNetConfig
from diffcli.data.images import LabelledImages
from diffcli.data.sources import DataSet
from diffcli.errors import DiffcliError, UsageError
from diffcli.files.atomic import write_atomically
from diffcli.files.checkpoint import ModelDescription
from diffcli.files.metadata import decode
from diffcli.training.config import RunConfig
from diffcli.training.distribution import World
from diffcli.training.recipe import RECIPES
from diffcli.training.run import Run
from diffcli.training.trainer import Trainer
from diffcli.training.validation import Validation

CONFIG_FILE = "config.json"


def describe(config: RunConfig, data: LabelledImages) -> ModelDescription:
    """The model that a configuration asks for on that data.

    Raises:
        UsageError: if the pictures do not suit the network.
    """
    recipe = RECIPES[config.recipe]
    _, channels, height, width = data.images.shape
    try:
        architecture = UNetConfig.for_images(channels, height, width, len(data.class_names))
    except ValueError as error:
        raise UsageError(f"{error}; choose one with --image-size") from error
    return ModelDescription(
        architecture=architecture,
        schedule=recipe.schedule,
        prediction_type=recipe.prediction_type,
        sampling=recipe.sampling,
        class_names=data.class_names,
        dataset=config.data,
        training={"recipe": config.recipe, "seed": config.seed, "batch_size": config.batch_size},
    )


def make_trainer(
    config: RunConfig,
    description: ModelDescription,
    data: LabelledImages,
    device: torch.device,
    world: World,
) -> Trainer:
    """A trainer at the start of a run; the same configuration gives the same weights."""
    torch.manual_seed(config.seed)
    recipe = RECIPES[config.recipe]
    if config.learning_rate is not None:
        recipe = replace(recipe, learning_rate=config.learning_rate)
    return Trainer(description.build().to(device), data, recipe, config, world)


def make_run(
    folder: Path,
    config: RunConfig,
    description: ModelDescription,
    data: DataSet,
    device: torch.device,
    world: World,
) -> Run:
    """A run in its folder, at its start."""
    trainer = make_trainer(config, description, data.train, device, world)
    validation = Validation(
        data.held_out, description.schedule.num_timesteps, trainer.half_precision, device
    )
    return Run(folder, trainer, description, config.budget(len(data.train)), validation, world)


def check_name(folder: Path, overwrite: bool) -> None:
    """See that a new run takes no other one's folder.

    Raises:
        UsageError: if there is one, and it is not to be overwritten.
    """
    if folder.exists() and not overwrite:
        raise UsageError(
            f"the run {folder} exists; go on with it (--resume {folder.name}), replace it "
            "(--overwrite) or choose another --name"
        )


def create_folder(folder: Path, config: RunConfig, overwrite: bool) -> None:
    """Make the folder of a run, with its configuration in it.

    Raises:
        UsageError: if there is one of that name, and it is not to be overwritten.
        OSError: if it cannot be made.
    """
    check_name(folder, overwrite)
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Made under another name, so that a run's folder is never without its configuration.
    fresh = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        fresh.chmod(0o755)
        save_config(fresh, config)
        if folder.exists():
            shutil.rmtree(folder)
        fresh.rename(folder)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise


def save_config(folder: Path, config: RunConfig) -> None:
    """Keep the configuration of a run in its folder."""
    content = json.dumps(asdict(config), indent=2, ensure_ascii=False) + "\n"
    write_atomically(folder / CONFIG_FILE, content.encode())


def load_config(folder: Path) -> RunConfig:
    """The configuration of the run in a folder.

    Raises:
        DiffcliError: if it is missing or damaged.
    """
    path = folder / CONFIG_FILE
    try:
        return decode(RunConfig, json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, RecursionError) as error:
        raise DiffcliError(f"{path} cannot be read ({error}); is {folder} a run?") from error
