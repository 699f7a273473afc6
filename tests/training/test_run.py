"""Runs: an interrupted and resumed run equals, byte for byte, one that is not interrupted."""

import json
import math
import tarfile
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from diffcli.core.parameters import SamplingSettings, UNetConfig
from diffcli.data.sources import load_data
from diffcli.errors import DiffcliError
from diffcli.files.checkpoint import read_description
from diffcli.training.config import RunConfig
from diffcli.training.distributed import Distributed
from diffcli.training.recipe import RECIPES
from diffcli.training.run import Run
from diffcli.training.run_folder import (
    METRICS_FILE,
    STATE_FILE,
    Metrics,
    RunFolder,
)
from diffcli.training.timesteps import TimestepDensity
from tests.training.pictures import tiny_digits, write_folder
from tests.training.runs import (
    CPU,
    STEPS,
    create,
    data,
    distilling_config,
    reopen,
    results,
    stop_after,
    tiny_config,
)

pytestmark = pytest.mark.long


@pytest.fixture(scope="module", params=["fast", "ddpm", "distillation"])
def config(request: pytest.FixtureRequest) -> RunConfig:
    return distilling_config() if request.param == "distillation" else tiny_config(request.param)


@pytest.fixture(scope="module")
def uninterrupted(config: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / config.recipe.name
    list(create(folder, config).train(lambda: False))
    return folder


@pytest.mark.parametrize("stops", [(1,), (13,), (7, 30, 51), (50,)])
def test_resumed_is_uninterrupted(
    config: RunConfig, uninterrupted: Path, stops: tuple[int, ...], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    run = create(folder, config)
    before = 0
    for stop in stops:
        list(run.train(stop_after(stop - before)))
        assert run.trainer.steps_done == stop
        before = stop
        run = reopen(folder)
        assert run.trainer.steps_done == before
    list(run.train(lambda: False))
    assert results(folder) == results(uninterrupted)


def test_lines_written_after_the_last_save_are_not_doubled(
    config: RunConfig, uninterrupted: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    list(create(folder, config).train(stop_after(40)))
    # What a kill leaves: lines of steps after the last save, and half a line.
    with (folder / METRICS_FILE).open("a") as file:
        file.write(json.dumps(asdict(Metrics(44, 3, 176, 0.5, None, None))) + '\n{"step": 6')
    list(reopen(folder).train(lambda: False))
    assert results(folder) == results(uninterrupted)


def test_other_seeds_give_other_runs(
    config: RunConfig, uninterrupted: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    list(create(folder, replace(config, seed=4)).train(lambda: False))
    ours, theirs = results(folder), results(uninterrupted)
    assert ours.keys() == theirs.keys()
    assert all(ours[name] != theirs[name] for name in (METRICS_FILE, "samples.png", "stem.weight"))


def test_metrics_do_not_depend_on_the_clock(config: RunConfig, uninterrupted: Path) -> None:
    lines = (uninterrupted / METRICS_FILE).read_text().splitlines()
    records = [json.loads(line) for line in lines]
    assert [record["step"] for record in records] == sorted({r["step"] for r in records})
    assert records[-1]["step"] == STEPS
    assert not {"seconds", "time", "images_per_second"} & set(records[0])
    assert all(len(record["validation_quarters"]) == 4 for record in records if record["epoch"])


def test_the_last_line_has_the_validation_loss_of_the_end(tmp_path: Path) -> None:
    """Also if it is an ordinary record, before the end of an epoch."""
    folder = RunFolder(tmp_path / "run")
    config = tiny_config(batch_size=1, max_steps=49)
    list(Run.create(folder.path, config, data(50), CPU, Distributed()).train(lambda: False))
    (line,) = folder.metrics()
    assert (line.step, line.epoch) == (49, 0)
    assert line.validation_quarters is not None


def test_status_is_known_from_the_first_step(tmp_path: Path) -> None:
    first, *_, last = create(tmp_path / "run", tiny_config()).train(lambda: False)
    assert first.loss is not None
    assert first.loss > 0
    assert first.images_per_second > 0
    assert 0 < first.progress < 1
    assert last.progress == 1
    assert last.validation_loss is not None


def test_a_complete_run_is_not_changed_by_resuming(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    list(create(folder, tiny_config(max_steps=8)).train(lambda: False))
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    run = reopen(folder)
    assert run.progress >= 1
    assert list(run.train(lambda: False)) == []
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_run_that_is_killed_while_its_last_model_is_saved_is_finished_by_resuming(
    config: RunConfig, uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / uninterrupted.name
    run = create(folder, config)
    with monkeypatch.context() as patch:
        # When the state is saved and the final samples are drawn.
        patch.setattr("diffcli.training.samples.nearest_images", lambda *_: exit(130))
        with pytest.raises(SystemExit):
            list(run.train(lambda: False))
    again = reopen(folder)
    assert again.progress >= 1
    assert not again.is_complete
    (last,) = again.train(lambda: False)
    assert last.progress == 1
    assert reopen(folder).is_complete
    assert results(folder) == results(uninterrupted)
    found, expected = (
        read_description(path / "model.safetensors") for path in (folder, uninterrupted)
    )
    assert {**found.training, "seconds": 0} == {**expected.training, "seconds": 0}


def test_a_resumed_run_knows_its_last_loss_and_copies(config: RunConfig, tmp_path: Path) -> None:
    run = create(tmp_path / "run", config)
    list(run.train(stop_after(52)))
    stopped = run.summary()
    assert stopped["loss"] is not None
    resumed = reopen(tmp_path / "run")
    assert resumed.summary() == stopped
    list(resumed.train(stop_after(0)))  # before anything is recorded
    assert read_description(tmp_path / "run" / "model.safetensors").training["loss"]
    list(resumed.train(lambda: False))
    done = resumed.summary()
    assert done["copies"] is not None
    assert reopen(tmp_path / "run").summary() == done


def test_the_grid_is_there_before_the_run_is_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr("diffcli.training.run_folder.save_png", lambda *_: exit(1))
        with pytest.raises(SystemExit):
            list(create(folder, tiny_config(max_steps=3)).train(lambda: False))
    assert not reopen(folder).is_complete
    list(reopen(folder).train(lambda: False))
    assert (folder / "samples.png").exists()
    assert reopen(folder).is_complete


def test_a_run_that_is_to_end_where_it_was_stopped_is_finished(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    list(create(folder, tiny_config(max_steps=9)).train(stop_after(6)))
    assert not (folder / "samples.png").exists()
    early = reopen(folder, max_steps=6)
    assert early.progress == 1
    assert not early.is_complete
    list(early.train(lambda: False))
    assert (folder / "samples.png").exists()
    assert reopen(folder, max_steps=6).is_complete
    last = early.folder.metrics()[-1]
    assert last.step == 6
    training = read_description(folder / "model.safetensors").training
    assert training["validation_quarters"] == list(last.validation_quarters or ())


def test_copies_are_those_of_the_model_they_are_said_of(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    list(create(folder, tiny_config(max_steps=5)).train(lambda: False))
    assert read_description(folder / "model.safetensors").training["copies"] is not None
    list(reopen(folder, max_steps=9).train(stop_after(1)))
    training = read_description(folder / "model.safetensors").training
    assert (training["steps"], training["copies"], training["complete"]) == (6, None, False)


def test_the_loss_of_a_model_is_that_of_the_average_that_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    run = create(folder, tiny_config(max_steps=40))
    found = [0.3, 0.2, 0.1, 0.4]
    losses = iter(found)
    monkeypatch.setattr(run._validation, "quarters", lambda _: (next(losses, 0.5),) * 4)
    list(run.train(lambda: False))
    best = sorted({line.step for line in run.folder.metrics()})[2]
    training = read_description(folder / "model.safetensors").training
    assert training["kept_step"] == best == run.kept_step
    assert training["validation_quarters"] == [0.1] * 4
    assert reopen(folder).summary() == run.summary()


def test_a_held_out_loss_that_is_not_finite_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    run = create(folder, tiny_config(max_steps=20))
    monkeypatch.setattr(run._validation, "quarters", lambda _: (math.nan,) * 4)
    with pytest.raises(DiffcliError, match="training diverged at step"):
        list(run.train(lambda: False))
    list(reopen(folder).train(lambda: False))
    assert reopen(folder).is_complete


def test_a_run_keeps_its_recipe_whatever_the_name_means_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config()
    create(tmp_path / "run", config)
    changed = replace(RECIPES["fast"], learning_rate=0.5, label_dropout=0.9)
    monkeypatch.setitem(RECIPES, "fast", changed)
    assert RunFolder(tmp_path / "run").config() == config


@pytest.mark.parametrize(
    "damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b"\0" * len(b)]
)
def test_a_damaged_state_is_a_one_line_error(
    damage: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    list(create(folder, tiny_config()).train(stop_after(2)))
    state = folder / STATE_FILE
    state.write_bytes(damage(state.read_bytes()))
    with pytest.raises(DiffcliError) as caught:
        reopen(folder)
    assert STATE_FILE in str(caught.value)
    assert caught.value.argument == "name"
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content", [b"", b"[]", b'{"format_version": 3}', b'{"format_version": 2, "recipe": "fast"}']
)
def test_a_damaged_configuration_is_a_one_line_error(content: bytes, tmp_path: Path) -> None:
    create(tmp_path / "run", tiny_config())
    (tmp_path / "run" / "config.json").write_bytes(content)
    with pytest.raises(DiffcliError, match=r"config\.json cannot be read") as caught:
        RunFolder(tmp_path / "run").config()
    assert "\n" not in str(caught.value)


def test_without_its_state_a_run_that_has_a_model_is_not_changed(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    list(create(folder, tiny_config()).train(stop_after(2)))
    (folder / STATE_FILE).unlink()
    kept = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(DiffcliError, match=f"{STATE_FILE} is missing"):
        reopen(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == kept
    # A run that was killed before anything was saved starts anew.
    (folder / "model.safetensors").unlink()
    assert reopen(folder).trainer.steps_done == 0


def test_the_state_of_another_run_is_refused(tmp_path: Path) -> None:
    for name in ("fast", "ddpm"):
        list(create(tmp_path / name, tiny_config(name)).train(stop_after(2)))
    (tmp_path / "ddpm" / STATE_FILE).replace(tmp_path / "fast" / STATE_FILE)
    with pytest.raises(DiffcliError, match="its weights do not fit"):
        reopen(tmp_path / "fast")


def test_a_run_of_version_0_1_is_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Written by that version, except that all weights are zero, to be small."""
    monkeypatch.chdir(tmp_path)
    folder = RunFolder(tmp_path / "runs" / "a")
    with tarfile.open(Path(__file__).with_name("run_0_1.tar.xz")) as archive:
        archive.extractall(folder.path, filter="data")
    write_folder(Path("pictures"), tiny_digits(40))
    before = folder.metrics()
    assert [line.step for line in before] == [10, 12]
    config = replace(folder.config(), max_steps=15)
    expected = replace(
        RECIPES["fast"],
        sampling=SamplingSettings("dpmpp-sde", 6, 1.5, (220, 260), spacing=1.5),
        learning_rate=1e-3,
        timesteps=TimestepDensity(2.0, -1.0, 2**0.5),
        batch_size=4,
        momentum=0.95,
        detail=1.0,
    )
    assert (config.recipe, config.data, config.seed) == (expected, "pictures", 5)
    run = Run.open(folder, config, load_data(config.data), CPU, Distributed())
    assert run.trainer.steps_done == 12
    list(run.train(lambda: False))
    assert [line.step for line in folder.metrics()] == [10, 12, 15]
    assert read_description(folder.path / "model.safetensors").training["steps"] == 15
    assert RunFolder(folder.path).config().architecture == UNetConfig(1, 8, 8, 3)


def test_a_model_says_how_it_was_trained(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    list(create(folder, tiny_config(max_steps=30, seed=7)).train(lambda: False))
    said = read_description(folder / "model.safetensors").training
    assert (said["recipe"], said["seed"], said["batch_size"]) == ("fast", 7, 4)
    assert (said["steps"], said["images_seen"], said["epochs"]) == (30, 120, 2.4)


def test_the_speed_of_a_resumed_run_is_that_since_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, now = tmp_path / "run", 0.0
    clock = SimpleNamespace(perf_counter=lambda: now)
    monkeypatch.setattr("diffcli.training.run.time", clock)

    def slowly() -> bool:
        nonlocal now
        now += 10
        return now > 45

    list(create(folder, tiny_config(max_steps=9)).train(slowly))
    now = 100.0

    def quickly() -> bool:
        nonlocal now
        now += 1
        return False

    first, *_ = reopen(folder).train(quickly)
    # A step of four images, and a second before it ends.
    assert (first.images_per_second, first.seconds) == (4, 41)
