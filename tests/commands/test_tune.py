import itertools
import json
import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from diffcli.core.parameters import SamplingSettings
from diffcli.evaluation import classifier, tuning
from diffcli.files.checkpoint import load_model, read_description, save_model
from diffcli.training.config import RunConfig
from diffcli.training.run_folder import RunFolder
from tests import tiny
from tests.conftest import Command
from tests.evaluation.pictures import NAMES, bars
from tests.training.pictures import write_folder

pytestmark = pytest.mark.long

# So few weights, none of them trained, draw worse with more steps; they are not many.
START = SamplingSettings("ddpm", 12)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("bars"), bars(300, seed=1))


@pytest.fixture(autouse=True)
def _little_training(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    cache = tmp_path_factory.getbasetemp() / "features-of-tune"
    monkeypatch.setenv("DIFFCLI_DATA_DIR", str(cache))
    monkeypatch.setattr(classifier, "_IMAGES_SEEN", 1000)


@pytest.fixture(autouse=True)
def _seconds_are_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a slow machine makes as many as a fast one."""
    clock = SimpleNamespace(perf_counter=itertools.count().__next__)
    monkeypatch.setattr(tuning, "time", clock)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: Path) -> RunFolder:
    """A run with a model that was never trained."""
    monkeypatch.chdir(tmp_path)
    made = RunFolder(Path("runs", "bars"))
    made.create(RunConfig(data=str(folder), max_steps=5), force=False)
    description = replace(tiny.description(sampling=START), class_names=NAMES, dataset=str(folder))
    made.save_model(description, tiny.network().state_dict())
    return made


def test_a_model_keeps_its_weights_and_draws_otherwise(diffcli: Command, run: RunFolder) -> None:
    path = run.path / "model.safetensors"
    before, denoiser = load_model(path)
    result = diffcli("tune", "bars", "--max-time", "8s", "--evaluations", 9, "--json")
    assert result.code == 0, result.err
    found = json.loads(result.out)
    after, tuned = load_model(path)
    assert found["model"] == str(path)
    assert found["after"]["frechet_train"] < found["before"]["frechet_train"]
    assert found["before"]["steps"] == 9
    assert after.sampling != START
    assert found["after"]["steps"] == after.sampling.steps <= 9
    assert replace(after, sampling=START) == before
    weights = denoiser.network.state_dict()
    assert tuned.network.state_dict().keys() == weights.keys()
    for name, tensor in tuned.network.state_dict().items():
        assert torch.equal(tensor, weights[name])
    assert run.config().recipe.sampling == after.sampling
    assert run.config().max_steps == 5
    assert found["trials"] == 8
    assert "8 settings tried" in result.err
    assert "until now       ddpm, 12 steps: 12 evaluations, not compared" in result.err


def test_another_file(diffcli: Command, run: RunFolder, tmp_path: Path) -> None:
    bytes_before = (run.path / "model.safetensors").read_bytes()
    config = (run.path / "config.json").read_bytes()
    tune = ("tune", "bars", "--max-time", "3s", "--evaluations", 9)
    for name in ("tuned.safetensors", "tuned-1.safetensors"):
        result = diffcli(*tune, "-o", "new/tuned.safetensors")
        assert result.out == f"{Path('new', name)}\n", result.err
        assert read_description(tmp_path / "new" / name).sampling.steps <= 9
    assert (run.path / "model.safetensors").read_bytes() == bytes_before
    assert (run.path / "config.json").read_bytes() == config


def test_a_runs_model_as_the_other_file(diffcli: Command, run: RunFolder) -> None:
    tune = ("tune", "bars", "--max-time", "8s", "--evaluations", 9, "-o", run.model)
    before = run.config()
    result = diffcli(*tune)
    assert result.out == f"{run.path / 'model-1.safetensors'}\n", result.err
    assert run.config() == before
    assert read_description(run.model).sampling == START
    with run.locked():
        assert diffcli(*tune, "--force").is_one_line_error(2, "another process")
    result = diffcli(*tune, "--force")
    assert result.out == f"{run.model}\n", result.err
    tuned = read_description(run.model).sampling
    assert run.config().recipe.sampling == tuned != START


def test_a_model_that_cannot_be_written_is_found_before_the_search(
    diffcli: Command, run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "bars.safetensors"
    path.write_bytes(run.model.read_bytes())
    # Without the rights of root, the copy of the program that is tested may not be read either.
    monkeypatch.setattr(os, "access", lambda _path, mode, **_: mode != os.W_OK)
    result = diffcli("tune", path)
    assert result.is_one_line_error(2, f"the folder {tmp_path} cannot be written")


def test_files_that_are_skipped_are_listed(
    diffcli: Command, run: RunFolder, folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(folder, tmp_path / "data")
    (tmp_path / "data" / "none" / "torn.png").write_bytes(b"no picture")
    tune = ("tune", "bars", "--max-time", "1s", "--evaluations", 2, "--data", "data")
    assert "files that cannot be read and are skipped: 1\n" in diffcli(*tune).err
    assert diffcli(*tune, "--quiet").err == ""


def test_without_an_improvement_nothing_changes(diffcli: Command, run: RunFolder) -> None:
    before = (run.path / "model.safetensors").read_bytes()
    result = diffcli("tune", "bars", "--max-time", "1s")
    assert result.code == 0, result.err
    assert "nothing better was found" in result.err
    assert "until now" not in result.err  # the settings that it begins with are the model's
    assert (run.path / "model.safetensors").read_bytes() == before
    result = diffcli("tune", "bars", "--max-time", "1s", "-o", "copy.safetensors")
    assert (result.code, result.out) == (0, "copy.safetensors\n")
    assert read_description(Path("copy.safetensors")) == read_description(
        run.path / "model.safetensors"
    )


def test_ctrl_c_keeps_what_was_found(
    diffcli: Command, run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = itertools.count()

    def clock() -> int:
        if (tick := next(ticks)) == 5:
            signal.raise_signal(signal.SIGINT)
        return tick

    monkeypatch.setattr(tuning, "time", SimpleNamespace(perf_counter=clock))
    result = diffcli("tune", "bars", "--max-time", "1h", "--evaluations", 9, "--json")
    assert result.code == 130
    assert "interrupted: 5 settings tried" in result.err
    found = json.loads(result.out)
    assert found["after"]["frechet_train"] < found["before"]["frechet_train"]
    tuned = read_description(run.path / "model.safetensors").sampling
    assert tuned.steps == found["after"]["steps"]
    assert run.config().recipe.sampling == tuned
    with run.locked():
        pass


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_in_the_first_trial_changes_nothing(
    diffcli: Command,
    run: RunFolder,
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
    code: int,
) -> None:
    before = run.model.read_bytes()

    def clock() -> int:
        signal.raise_signal(number)  # once: before the first trial
        return 0

    monkeypatch.setattr(tuning, "time", SimpleNamespace(perf_counter=clock))
    result = diffcli("tune", "bars", "--max-time", "1h")
    assert (result.code, result.out) == (code, "")
    assert "interrupted before anything was tried" in result.err
    assert run.model.read_bytes() == before
    with run.locked():
        pass


def test_what_a_training_saved_last_is_tuned(
    diffcli: Command, run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    description = read_description(run.path / "model.safetensors")
    newer = tiny.network(seed=1).state_dict()
    locked = RunFolder.locked

    @contextmanager
    def locked_after_a_training(folder: RunFolder) -> Iterator[None]:
        folder.save_model(description, newer)
        with locked(folder):
            yield

    monkeypatch.setattr(RunFolder, "locked", locked_after_a_training)
    result = diffcli("tune", "bars", "--max-time", "8s", "--evaluations", 9)
    assert result.code == 0, result.err
    after, tuned = load_model(run.path / "model.safetensors")
    assert after.sampling != START
    for name, tensor in tuned.network.state_dict().items():
        assert torch.equal(tensor, newer[name])


def test_what_cannot_be_tuned(diffcli: Command, run: RunFolder, tmp_path: Path) -> None:
    assert diffcli("tune", "mnist").is_one_line_error(2, "belongs to the program", "--output")
    assert diffcli("tune", "mnist-2step").is_one_line_error(2, "distilled")
    assert diffcli("tune", "bars", "-o", "a.png").is_one_line_error(2, ".safetensors")
    assert diffcli("tune", "none").is_one_line_error(2, "there is no model none")
    other = diffcli("tune", "bars", "--data", "mnist")
    assert other.is_one_line_error(2, "the model has the classes")
    with run.locked():
        assert diffcli("tune", "bars").is_one_line_error(2, "another process")
    judge = diffcli("tune", "bars", "--features", "judge.safetensors")
    assert judge.is_one_line_error(2, "judge.safetensors")
    lost = tmp_path / "lost.safetensors"
    description = replace(read_description(run.path / "model.safetensors"), dataset="gone")
    save_model(lost, description, tiny.network().state_dict())
    assert diffcli("tune", lost).is_one_line_error(2, "gone", "--data")
