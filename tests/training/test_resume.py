"""A run that is interrupted and resumed is, byte for byte, the run that was not."""

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from diffcli.core.generate import SamplingSettings
from diffcli.data.sources import DataSet
from diffcli.errors import DiffcliError
from diffcli.training.config import RunConfig
from diffcli.training.distribution import World
from diffcli.training.metrics import METRICS_FILE, Metrics
from diffcli.training.run import Run
from diffcli.training.setup import describe, make_run
from diffcli.training.state import STATE_FILE
from tests import tiny
from tests.training.pictures import tiny_digits

# 50 images in batches of 4: epochs end within batches, and step 50 is an ordinary record.
BATCH = 4
STEPS = 53


def tiny_run(folder: Path, config: RunConfig) -> Run:
    data = tiny_digits()
    dataset = DataSet(data.subset(torch.arange(50)), data.subset(torch.arange(50, 60)))
    folder.mkdir(exist_ok=True)
    # A smaller network and fewer steps of sampling than a user gets, to be quick.
    description = replace(
        describe(config, data),
        architecture=tiny.config(),
        sampling=SamplingSettings("ddim", 3),
    )
    return make_run(folder, config, description, dataset, torch.device("cpu"), World())


def stop_after(steps: int) -> Callable[[], bool]:
    calls = iter(range(steps + 1))
    return lambda: next(calls) == steps


def results(folder: Path) -> dict[str, bytes]:
    """All that a run leaves; of the model, the weights, since its summary holds the time."""
    found = {
        path.name: path.read_bytes()
        for path in folder.iterdir()
        if path.suffix in (".png", ".jsonl")
    }
    for name, tensor in load_file(folder / "model.safetensors").items():
        found[name] = tensor.numpy().tobytes()
    return found


@pytest.fixture(scope="module", params=["fast", "ddpm"])
def config(request: pytest.FixtureRequest) -> RunConfig:
    return RunConfig(recipe=request.param, batch_size=BATCH, max_steps=STEPS, flip=True, seed=3)


@pytest.fixture(scope="module")
def uninterrupted(config: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / config.recipe
    list(tiny_run(folder, config).train(lambda: False))
    return folder


@pytest.mark.parametrize("stops", [(1,), (13,), (7, 30, 51), (50,)])
def test_resumed_is_uninterrupted(
    config: RunConfig, uninterrupted: Path, stops: tuple[int, ...], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    before = 0
    for stop in stops:
        run = tiny_run(folder, config)
        run.resume()
        assert run.trainer.steps_done == before
        list(run.train(stop_after(stop - before)))
        assert run.trainer.steps_done == stop
        before = stop
    last = tiny_run(folder, config)
    last.resume()
    list(last.train(lambda: False))
    assert results(folder) == results(uninterrupted)


def test_lines_written_after_the_last_save_are_not_doubled(
    config: RunConfig, uninterrupted: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    list(tiny_run(folder, config).train(stop_after(40)))
    # What a kill leaves behind: lines of steps that the state does not know, the last one cut.
    with (folder / METRICS_FILE).open("a") as file:
        file.write(json.dumps(asdict(Metrics(44, 3, 176, 0.5, None, None))) + '\n{"step": 6')
    run = tiny_run(folder, config)
    run.resume()
    list(run.train(lambda: False))
    assert results(folder) == results(uninterrupted)


def test_other_seeds_give_other_runs(
    config: RunConfig, uninterrupted: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    other = RunConfig(recipe=config.recipe, batch_size=BATCH, max_steps=STEPS, flip=True, seed=4)
    list(tiny_run(folder, other).train(lambda: False))
    ours, theirs = results(folder), results(uninterrupted)
    assert ours.keys() == theirs.keys()
    assert all(ours[name] != theirs[name] for name in (METRICS_FILE, "samples.png", "stem.weight"))


def test_metrics_know_nothing_of_the_clock(config: RunConfig, uninterrupted: Path) -> None:
    lines = (uninterrupted / METRICS_FILE).read_text().splitlines()
    records = [json.loads(line) for line in lines]
    assert [record["step"] for record in records] == sorted({r["step"] for r in records})
    assert records[-1]["step"] == STEPS
    assert not {"seconds", "time", "images_per_second"} & set(records[0])
    assert all(len(record["validation_quarters"]) == 4 for record in records if record["epoch"])


def test_the_last_line_tells_the_validation_loss_of_the_end(tmp_path: Path) -> None:
    """Also where it falls on an ordinary record, before any epoch has ended."""
    config = RunConfig(batch_size=1, max_steps=50)
    data = tiny_digits()
    folder = tmp_path / "run"
    run = tiny_run(folder, config)
    run.trainer.data = data  # 60 images, so that no epoch ends within 50 steps of one image
    (only,) = run.train(lambda: False)
    assert only.metrics.step == 50
    assert only.metrics.epoch == 0
    assert only.metrics.validation_quarters is not None


@pytest.mark.parametrize("batch_size", [4, 16, 40, 120])
def test_short_epochs_pause_no_oftener_than_squares_come(batch_size: int, tmp_path: Path) -> None:
    steps, images = 60, 50
    config = RunConfig(batch_size=batch_size, max_steps=steps)
    folder = tmp_path / "run"
    run = tiny_run(folder, config)
    list(run.train(stop_after(31)))
    run = tiny_run(folder, config)
    run.resume()
    list(run.train(lambda: False))
    epochs = [step * batch_size // images for step in range(steps + 1)]
    ends = [0, *(step for step in range(1, steps + 1) if epochs[step] > epochs[step - 1])]
    squares = {root**2 for root in range(1, 9)}
    pauses = [end for start, end in pairwise(ends) if squares & {*range(start + 1, end + 1)}]
    assert sorted(path.name for path in folder.glob("samples-*.png")) == [
        f"samples-{epochs[end]:04d}.png" for end in pauses
    ]
    assert len(pauses) <= 7


@pytest.mark.parametrize(
    "damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b"\0" * len(b)]
)
def test_a_damaged_state_is_said_in_one_line(
    damage: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    config = RunConfig(batch_size=BATCH, max_steps=4)
    folder = tmp_path / "run"
    list(tiny_run(folder, config).train(stop_after(2)))
    state = folder / STATE_FILE
    state.write_bytes(damage(state.read_bytes()))
    with pytest.raises(DiffcliError) as caught:
        tiny_run(folder, config).resume()
    assert STATE_FILE in str(caught.value)
    assert "new run" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_without_its_state_a_run_that_has_a_model_is_left_alone(tmp_path: Path) -> None:
    config = RunConfig(batch_size=BATCH, max_steps=4)
    folder = tmp_path / "run"
    list(tiny_run(folder, config).train(lambda: False))
    (folder / STATE_FILE).unlink()
    kept = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(DiffcliError, match=f"{STATE_FILE} is gone"):
        tiny_run(folder, config).resume()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == kept
    # Killed before anything was saved, it begins anew.
    (folder / "model.safetensors").unlink()
    run = tiny_run(folder, config)
    run.resume()
    assert run.trainer.steps_done == 0


def test_the_state_of_another_run_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    list(tiny_run(folder, RunConfig(batch_size=BATCH, max_steps=2)).train(lambda: False))
    other = RunConfig(batch_size=BATCH, max_steps=2, recipe="ddpm")
    with pytest.raises(DiffcliError, match="not those of this run"):
        tiny_run(folder, other).resume()


def test_a_loss_that_is_no_number_stops_the_run_and_spares_what_was_saved(
    tmp_path: Path,
) -> None:
    config = RunConfig(batch_size=BATCH, max_steps=200)
    folder = tmp_path / "run"
    run = tiny_run(folder, config)
    list(run.train(stop_after(6)))
    kept = {path.name: path.read_bytes() for path in folder.iterdir()}
    run = tiny_run(folder, config)
    run.resume()
    with torch.no_grad():
        next(run.trainer.denoiser.network.parameters()).fill_(torch.inf)
    with pytest.raises(DiffcliError, match=r"came apart at step .*learning-rate"):
        list(run.train(lambda: False))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == kept
