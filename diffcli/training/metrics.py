"""``metrics.jsonl``: a line for every few steps of a run."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from diffcli.errors import DiffcliError
from diffcli.files.atomic import write_atomically
from diffcli.files.metadata import decode

METRICS_FILE = "metrics.jsonl"


@dataclass(frozen=True)
class Metrics:
    """One line.

    It has nothing to do with the clock, so that runs of one seed can be compared line by line.

    Args:
        step: steps done.
        epoch: how many times every training image has been seen.
        images_seen: images trained on so far.
        loss: mean training loss since the last line.
        validation_loss: of the averaged weights on held-out images, once known.
        validation_quarters: the same per quarter of the timesteps, from the least noisy.
    """

    step: int
    epoch: int
    images_seen: int
    loss: float
    validation_loss: float | None
    validation_quarters: tuple[float, ...] | None


def append_metrics(folder: Path, metrics: Metrics) -> None:
    """Add a line.

    Raises:
        OSError: if it cannot be written.
    """
    with (folder / METRICS_FILE).open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(metrics)) + "\n")


def read_metrics(folder: Path) -> list[Metrics]:
    """All lines, oldest first, but for a last one that a kill cut short.

    Raises:
        DiffcliError: if a line is damaged.
    """
    path = folder / METRICS_FILE
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    try:
        return [decode(Metrics, json.loads(line)) for line in lines if line.endswith("\n")]
    except (ValueError, RecursionError) as error:
        raise DiffcliError(f"{path} is damaged: {error}; remove it to go on without it") from error


def forget_metrics_after(folder: Path, step: int) -> None:
    """Drop the lines of later steps, which a resumed run is going to write again."""
    kept = [asdict(metrics) for metrics in read_metrics(folder) if metrics.step <= step]
    content = "".join(json.dumps(metrics) + "\n" for metrics in kept)
    if kept:
        write_atomically(folder / METRICS_FILE, content.encode())
    else:
        (folder / METRICS_FILE).unlink(missing_ok=True)
