"""What a run saves, when, and in which folder."""

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from diffcli.core.parameters import SamplingSettings
from diffcli.data.sources import DataSet
from diffcli.errors import DiffcliError, UsageError
from diffcli.files.checkpoint import save_model
from diffcli.training.config import Origin
from diffcli.training.distributed import Distributed
from diffcli.training.run import Run
from diffcli.training.run_folder import (
    STATE_FILE,
    Position,
    RunFolder,
    find_run,
)
from tests import tiny
from tests.training.pictures import tiny_digits
from tests.training.runs import (
    CPU,
    create,
    data,
    reopen,
    stop_after,
    tiny_config,
)

pytestmark = pytest.mark.long


def test_a_last_step_that_ends_an_epoch_is_saved_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[str] = []
    for name in ("save_state", "save_model", "append_metrics"):
        original = getattr(RunFolder, name)

        def save(
            *arguments: object, name: str = name, original: Callable[..., None] = original
        ) -> None:
            saved.append(name)
            original(*arguments)

        monkeypatch.setattr(RunFolder, name, save)
    folder = tmp_path / "run"
    run = create(folder, tiny_config(batch_size=5, max_steps=10))
    first = run.train(lambda: False)
    next(first)  # the state is saved after the first step
    assert saved.pop(0) == "save_state"
    list(first)
    assert saved == ["append_metrics", "save_state", "save_model"]
    grids = [(folder / name).read_bytes() for name in ("samples-0001.png", "samples.png")]
    assert grids[0] == grids[1]


@pytest.mark.parametrize(
    ("seconds", "expected"), [(29, [1, 3, 4, 6, 7]), (31, [1, 2, 3, 4, 5, 6, 7])]
)
def test_the_state_is_saved_every_half_minute(
    seconds: int, expected: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And with the model, which is saved at the end of the epoch in step 4 and of the run."""
    now = 0
    saved: list[int] = []
    original = RunFolder.save_state
    # The clock of this module alone: others wait for locks by theirs.
    clock = SimpleNamespace(perf_counter=lambda: now)
    monkeypatch.setattr("diffcli.training.run.time", clock)

    def after_a_step() -> bool:
        nonlocal now
        now += seconds
        return False

    def save_state(folder: RunFolder, tensors: Mapping[str, Tensor], position: Position) -> None:
        saved.append(position.steps_done)
        original(folder, tensors, position)

    monkeypatch.setattr(RunFolder, "save_state", save_state)
    list(create(tmp_path / "run", tiny_config(batch_size=13, max_steps=7)).train(after_a_step))
    assert saved == expected


def test_a_model_that_changes_while_a_run_is_prepared_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "model.safetensors"
    save_model(source, tiny.description(), tiny.network().state_dict())
    config = replace(tiny_config(), origin=Origin("other", "0" * 64))
    with pytest.raises(UsageError, match="has changed since it was read"):
        RunFolder(tmp_path / "run").create(config, force=False, source=source)
    assert list(tmp_path.iterdir()) == [source]


def test_samples_are_compared_with_held_out_images_of_all_classes(tmp_path: Path) -> None:
    digits = tiny_digits(900)
    by_class = digits.subset(digits.labels.argsort(stable=True))
    sets = DataSet(by_class.subset(torch.arange(50)), by_class)
    run = Run.create(tmp_path / "run", tiny_config(), sets, CPU, Distributed())
    assert run.held_out_compared == 500
    compared = {image.numpy().tobytes() for image in run._samples._held_out}
    shares = [
        sum(image.numpy().tobytes() in compared for image in digits.images[digits.labels == label])
        / int((digits.labels == label).sum())
        for label in range(3)
    ]
    assert shares == pytest.approx([500 / len(digits)] * 3, abs=0.02)


def test_an_existing_run_is_replaced_only_on_request(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    create(folder, tiny_config(seed=1))
    with pytest.raises(UsageError, match="run exists") as caught:
        create(folder, tiny_config(seed=2))
    assert caught.value.argument == "force"
    assert RunFolder(folder).config().seed == 1
    (folder / "old").touch()
    Run.create(folder, tiny_config(seed=2), data(), CPU, Distributed(), force=True)
    assert RunFolder(folder).config().seed == 2
    assert not (folder / "old").exists()


def test_the_last_run_is_the_one_that_was_trained_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="there is no run in runs"):
        find_run(None)
    for age, name in ((30, "a"), (10, "b"), (20, "c")):
        list(create(Path("runs") / name, tiny_config(max_steps=1)).train(lambda: False))
        os.utime(Path("runs") / name / STATE_FILE, (1e9 - age, 1e9 - age))
    # What is left of a process that was killed while it made a run.
    shutil.copytree("runs/b", "runs/.d.new")
    os.utime(Path("runs/.d.new") / STATE_FILE)
    # Looking at a run, or copying into its folder, is not training.
    Path("runs/a/notes.txt").touch()
    Path("runs/c/config.json").touch()
    assert find_run(None).path == Path("runs/b")
    assert find_run("a").path == Path("runs/a")
    assert find_run("runs/c").path == Path("runs/c")
    with pytest.raises(UsageError, match="there is no run d"):
        find_run("d")


@pytest.mark.parametrize("batch_size", [4, 16, 40, 120])
def test_short_epochs_are_saved_no_oftener_than_squares_come(
    batch_size: int, tmp_path: Path
) -> None:
    steps, images = 60, 50
    folder = tmp_path / "run"
    list(create(folder, tiny_config(batch_size=batch_size, max_steps=steps)).train(stop_after(31)))
    list(reopen(folder).train(lambda: False))
    epochs = [step * batch_size // images for step in range(steps + 1)]
    ends = [0, *(step for step in range(1, steps + 1) if epochs[step] > epochs[step - 1])]
    squares = {root**2 for root in range(1, 9)}
    pauses = [end for start, end in pairwise(ends) if squares & {*range(start + 1, end + 1)}]
    assert sorted(path.name for path in folder.glob("samples-*.png")) == [
        f"samples-{epochs[end]:04d}.png" for end in pauses
    ]
    assert len(pauses) <= 7


def test_costly_grids_are_rarer_than_checks(tmp_path: Path) -> None:
    """Every step is an epoch; a grid takes as long as training on 4,427 images."""
    config = tiny_config(batch_size=50, max_steps=300)
    slow = replace(config.recipe, sampling=SamplingSettings("ddim", 50))
    config = replace(config, recipe=slow, architecture=replace(tiny.config(), channels=(16, 16)))
    run = create(tmp_path / "run", config)
    list(run.train(lambda: False))
    evaluations = 128 + 24 * 50
    grids = list(run.folder.path.glob("samples-*.png"))
    assert len(grids) == 3 * 50 * 300 // (10 * evaluations)
    # Checks alone are limited by the square root of the number of steps.
    # Some others are made for a grid, and one for the end.
    checks = {line.validation_loss for line in run.folder.metrics()} - {None}
    assert 17 <= len(checks) <= 17 + len(grids) + 1


def test_a_loss_that_is_not_finite_ends_the_run_and_keeps_what_was_saved(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    list(create(folder, tiny_config(max_steps=200)).train(stop_after(6)))
    kept = {path.name: path.read_bytes() for path in folder.iterdir()}
    run = reopen(folder)
    with torch.no_grad():
        next(run.trainer.denoiser.network.parameters()).fill_(torch.inf)
    with pytest.raises(DiffcliError, match="training diverged at step") as caught:
        list(run.train(lambda: False))
    assert caught.value.argument == "learning_rate"
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == kept


def test_one_process_at_a_time_has_a_run_also_while_it_is_replaced(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    for _ in range(2):  # before there is a run, and while there is one
        with folder.locked():
            with (
                pytest.raises(UsageError, match=r"another process is using .*run; stop it first"),
                RunFolder(folder.path).locked(),
            ):
                pass
            with RunFolder(tmp_path / "other").locked():
                pass
            folder.create(tiny_config(seed=9), force=True)
            with (
                pytest.raises(UsageError, match="another process is using"),
                RunFolder(folder.path).locked(),
            ):
                pass
    assert folder.config().seed == 9
    visible = [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")]
    assert visible == ["run"]


def test_a_run_has_one_lock_by_whatever_path_it_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.create(tiny_config(), force=False)
    others = [folder.path, Path("..", "run")]
    if os.name != "nt":  # where links need rights
        (tmp_path / "link").symlink_to(folder.path)
        others.append(tmp_path / "link")
    monkeypatch.chdir(folder.path)
    with RunFolder(Path()).locked():
        for path in others:
            with (
                pytest.raises(UsageError, match="another process is using"),
                RunFolder(path).locked(),
            ):
                pass


def test_a_run_is_replaced_only_by_one_that_is_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.create(tiny_config(seed=1), force=False)
    rename = Path.rename

    def failing(path: Path, target: Path) -> Path:
        if path.name.endswith(".new"):
            raise OSError(28, "no space")
        return rename(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", failing)
        with pytest.raises(OSError, match="no space"):
            folder.create(tiny_config(seed=2), force=True)
    assert folder.config().seed == 1
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    # Left by processes that were killed.
    for what in ("new", "old"):
        (tmp_path / f".run.{what}" / "left").mkdir(parents=True)
    folder.create(tiny_config(seed=3), force=True)
    assert folder.config().seed == 3
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_slow_disk_does_not_take_more_than_a_twentieth_of_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    saved: list[int] = []
    clock = SimpleNamespace(perf_counter=lambda: now)
    monkeypatch.setattr("diffcli.training.run.time", clock)

    def after_a_step() -> bool:
        nonlocal now
        now += 40
        return False

    def save_state(folder: RunFolder, tensors: object, position: Position) -> None:
        nonlocal now
        now += 10
        saved.append(position.steps_done)

    monkeypatch.setattr(RunFolder, "save_state", save_state)
    list(create(tmp_path / "run", tiny_config(batch_size=1, max_steps=13)).train(after_a_step))
    # Every 200 seconds: five steps, of which the first save is a part.
    assert saved == [1, 6, 11, 13]


def test_what_a_killed_process_left_half_written_is_removed(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    list(create(folder, tiny_config()).train(stop_after(2)))
    for name in (".0123456789abcdef.tmp", ".notes.tmp", "0123456789abcdef.tmp"):
        (folder / name).touch()
    with RunFolder(folder).locked():
        pass
    assert not (folder / ".0123456789abcdef.tmp").exists()
    assert (folder / ".notes.tmp").exists()
    assert (folder / "0123456789abcdef.tmp").exists()
