"""Long use: memory, open files and folders stay as they are."""

import gc
import os
import sys
from pathlib import Path

import pytest
import torch

from diffcli.data.sources import DataSet
from diffcli.sampling.model import Model
from diffcli.training.config import RunConfig
from diffcli.training.distributed import Distributed
from diffcli.training.recipe import RECIPES
from diffcli.training.run import Run
from tests import tiny
from tests.training.pictures import tiny_digits

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="/proc tells memory and open files"),
]

MEGABYTE = 1 << 20


def memory() -> int:
    """Of this process, in bytes."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_two_thousand_steps_and_twenty_thousand_samples(tmp_path: Path) -> None:
    digits = tiny_digits()
    data = DataSet(digits.subset(torch.arange(50)), digits.subset(torch.arange(50, 60)))
    config = RunConfig(recipe=RECIPES["fast"], max_steps=2000, architecture=tiny.config())
    run = Run.create(tmp_path / "run", config, data, torch.device("cpu"), Distributed())
    early: tuple[int, int] | None = None
    for status in run.train(lambda: False):
        if early is None and status.progress > 0.2:
            early = memory(), open_files()
    assert early is not None
    assert memory() - early[0] < 20 * MEGABYTE
    assert open_files() == early[1]
    names = sorted(path.name for path in run.folder.path.iterdir())
    grids = [name for name in names if name.startswith("samples-")]
    # At most one grid for every step of the square root.
    assert len(grids) <= 2000**0.5
    others = {"config.json", "metrics.jsonl", "model.safetensors", "samples.png", "loss.png"}
    assert set(names) - set(grids) == others | {"state.safetensors"}

    model = Model.load(run.folder.path / "model.safetensors")
    first = None
    drawn = 0
    for batch in model.draw(model.request(["all"], 20_000 // 3 + 1, 0, model.settings(steps=2))):
        drawn += len(batch.pixels)
        if first is None and drawn > 5000:
            first = memory(), open_files()
    assert drawn > 20_000
    assert first is not None
    assert memory() - first[0] < 5 * MEGABYTE
    assert open_files() == first[1]
