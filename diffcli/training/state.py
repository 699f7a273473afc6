"""What resuming needs, in one file: the trainer's tensors and where the run stands."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from diffcli.errors import DiffcliError
from diffcli.files.atomic import write_atomically
from diffcli.files.metadata import METADATA_KEY, FileKind, decode, read_metadata
from diffcli.files.models import MODEL_FILE
from diffcli.training.trainer import Trainer

STATE_FILE = "state.safetensors"
_STATE_VERSION = 1
_REMEDY = "the model beside it stays as it is; start a new run, with another --name"
_STATE = FileKind("state to go on from", _REMEDY)


@dataclass(frozen=True)
class Position:
    """Where a run stands between two steps.

    Args:
        steps_done: of training.
        seconds: spent so far.
        losses: of the steps since the last record.
        quarters: the newest validation loss.
    """

    steps_done: int
    seconds: float
    losses: tuple[float, ...]
    quarters: tuple[float, ...] | None


def save_state(folder: Path, trainer: Trainer, position: Position) -> None:
    """Write the state of a run, atomically.

    Raises:
        DiffcliError: if training has come apart; the state on disk is then left as it was.
        OSError: if the file cannot be written; likewise.
    """
    tensors = trainer.state()
    if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values()):
        raise diverged(position.steps_done)
    metadata = {METADATA_KEY: json.dumps({"format_version": _STATE_VERSION, **asdict(position)})}
    content = save({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, metadata)
    write_atomically(folder / STATE_FILE, content)


def load_state(folder: Path, trainer: Trainer) -> Position | None:
    """Bring a trainer to where the run in ``folder`` was last saved; None if it never was.

    Raises:
        DiffcliError: if the state is damaged, of another run, or gone.
    """
    path = folder / STATE_FILE
    if not path.exists():
        if (folder / MODEL_FILE).exists():  # which is never written before a state
            raise DiffcliError(f"{path} is gone, without which a run cannot go on; {_REMEDY}")
        return None
    try:
        document = read_metadata(path, _STATE)
        del document["format_version"]
        position = decode(Position, document)
        trainer.load_state(load_file(path), position.steps_done)
    except (SafetensorError, ValueError) as error:
        raise DiffcliError(f"{path} cannot be resumed from: {error}") from error
    return position


def diverged(step: int) -> DiffcliError:
    """The error for a loss, or weights, that are no numbers any more."""
    return DiffcliError(
        f"training came apart at step {step} (the loss is not finite); the last good model and "
        "state are kept; try a lower --learning-rate"
    )
