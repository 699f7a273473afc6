"""The plan that ``diffcli train`` prints before it starts."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load, load_file

from diffcli.commands.console import typed
from diffcli.files.checkpoint import load_model, read_description
from diffcli.training import plan
from diffcli.training.run_folder import RunFolder
from diffcli.training.trainer import Trainer
from tests.conftest import Command
from tests.training.pictures import tiny_digits, write_folder

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("pictures"), tiny_digits(20))


def weights(run: Path) -> dict[str, bytes]:
    return {
        name: tensor.numpy().tobytes()
        for name, tensor in load_file(run / "model.safetensors").items()
    }


def rows(text: str) -> dict[str, list[str]]:
    """The table: what stands after the name of each setting."""
    cells = (re.split(r"\s{2,}", line.strip()) for line in text.splitlines())
    return {name: rest for name, *rest in cells}


def test_a_dry_run_prints_the_plan_and_writes_nothing(
    diffcli: Command, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options = ("--data", pictures, "--batch-size", "4", "--max-time", "2m", "--epochs", "100000")
    done = diffcli("train", "--dry-run", *options)
    assert (done.code, done.out) == (0, "")
    assert not list(tmp_path.iterdir())
    first, second, *_ = done.err.splitlines()
    assert first == "  0%  0 of 20 pictures, 0.0 MB in memory"
    assert second.startswith("100%  20 of 20 pictures")
    said = rows(done.err)
    assert said["batch size"] == ["4", "flag"]
    assert said["max time"] == ["2:00", "flag"]
    assert said["seed"] == ["0", "default"]
    assert said["expected to take"] == ["2:00"]
    assert "warning" not in done.err
    for name in ("parameters", "FLOPs per image", "ᾱ at the last timestep", "speed"):
        assert said[name]


def test_a_run_in_training_is_refused_before_anything_is_read_or_measured(
    diffcli: Command, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options = ("--data", pictures, "--batch-size", "4", "--max-steps", "2", "--name", "a run")
    done = diffcli("train", *options)
    assert done.code == 0, done.err
    assert f"diffcli tune {typed(Path('runs', 'a run'))}" in done.err
    with RunFolder(Path("runs", "a run")).locked():
        for again in (("--resume", "a run", "--max-steps", "3"), options, (*options, "--force")):
            assert diffcli("train", *again).is_one_line_error(2, "another process is using")
    assert diffcli("train", *options).is_one_line_error(2, "exists; replace it")


def test_a_limit_that_a_stopped_run_has_passed_is_refused(
    diffcli: Command, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    small = ("--data", pictures, "--batch-size", "4", "--width", "16")
    assert diffcli("train", *small, "--max-steps", "4", "--name", "a", "-q").code == 0
    folder = RunFolder(Path("runs", "a"))
    description, model = load_model(folder.model)
    stopped = replace(description, training={**description.training, "complete": False})
    folder.save_model(stopped, model.network.state_dict())
    before = folder.config()
    for limit in ("3", "2"):
        early = diffcli("train", "--resume", "a", "--max-steps", limit)
        assert early.code == 2
        assert "has had 4 steps" in early.err
        assert "give a later limit" in early.err
    assert folder.config() == before
    finished = diffcli("train", "--resume", "a", "--max-steps", "4")
    assert finished.code == 0, finished.err
    assert read_description(folder.model).training["complete"] is True


def test_paths_are_printed_as_they_are(
    diffcli: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Path("sets", "[new]", "a [/b] :smile: \u202e")
    write_folder(folder, tiny_digits(20))
    done = diffcli("train", "--dry-run", "--data", folder, "--batch-size", "4", "--max-steps", "1")
    assert done.code == 0, done.err
    assert rows(done.err)["data"] == [str(folder).replace("\u202e", r"\u202e"), "flag"]


def test_sources_are_those_of_the_settings(
    diffcli: Command, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    small = ("--batch-size", "4", "--width", "16", "--max-steps", "2")
    assert diffcli("train", "--data", pictures, *small, "--name", "a", "-q").code == 0
    distilled = diffcli("distill", "a", "--max-steps", "2", "--name", "b")
    assert distilled.code == 0, distilled.err
    said = rows(distilled.err)
    assert said["model"] == ["a", "flag"]
    for name in ("data", "guidance", "image size", "width"):
        assert said[name][-1] == "model", name
    resumed = rows(diffcli("train", "--resume", "b", "--max-steps", "3", "--dry-run").err)
    for name in ("model", "guidance", "data", "sampling", "batch size"):
        assert resumed[name][-1] == "file", name
    assert resumed["max steps"] == ["3", "flag"]
    further = rows(diffcli("train", "--from", "a", "--data", pictures, "--dry-run").err)
    assert (further["image size"][-1], further["width"][-1]) == ("model", "model")


def test_what_is_fitted_is_shown_recorded_and_kept(
    diffcli: Command, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options = ("--data", pictures, "--max-time", "1s")
    said = rows(diffcli("train", "--dry-run", *options).err)
    assert said["width"] == ["32", "fitted"]
    assert said["batch size"][1] == said["sampling"][1] == "fitted"
    chosen = rows(diffcli("train", "--dry-run", *options, "--width", "16").err)
    assert chosen["width"] == ["16", "flag"]
    assert chosen["batch size"][1] == "fitted"

    done = diffcli("train", "--quiet", "--json", "--name", "a", *options, "--width", "16")
    assert done.code == 0
    recipe = json.loads((tmp_path / "runs" / "a" / "config.json").read_text())["recipe"]
    info = json.loads(diffcli("info", "a", "--json").out)["metadata"]
    assert info["architecture"]["channels"] == [16, 16, 32]
    assert info["sampling"] == recipe["sampling"]
    again = rows(diffcli("train", "--resume", "a", "--max-time", "1h", "--dry-run").err)
    assert again["batch size"] == [str(recipe["batch_size"]), "file"]
    assert again["width"] == ["16", "file"]


@pytest.mark.parametrize("width", ["20", "0", "-16", "528"])
def test_a_width_that_no_network_has_is_refused(diffcli: Command, width: str) -> None:
    done = diffcli("train", "--dry-run", "--width", width)
    assert done.is_one_line_error(2, "--width", "multiple of 16", width)


def test_the_classic_schedule_is_warned_of(
    diffcli: Command, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = diffcli("train", "--dry-run", "--recipe", "ddpm", "--data", pictures)
    assert done.code == 0
    assert "warning: " in done.err
    assert "--recipe fast" in done.err


def test_settings_of_a_resumed_run_are_those_of_its_file(
    diffcli: Command, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options = ("--data", pictures, "--batch-size", "4", "--max-time", "1s", "--name", "a")
    assert diffcli("train", "--quiet", *options).code == 0
    again = rows(diffcli("train", "--resume", "a", "--dry-run").err)
    assert again["batch size"] == ["4", "file"]
    assert again["seed"] == ["0", "file"]
    assert again["max time"] == ["0:01", "file"]
    longer = rows(diffcli("train", "--resume", "a", "--max-time", "9s", "--dry-run").err)
    assert longer["batch size"] == ["4", "file"]
    assert longer["max time"] == ["0:09", "flag"]


def test_a_plan_as_json(
    diffcli: Command, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options = ("--data", pictures, "--batch-size", "4", "--max-time", "2m", "--quiet")
    done = diffcli("train", "--dry-run", "--json", *options)
    assert (done.code, done.err) == (0, "")
    said = json.loads(done.out)
    assert said["config"]["recipe"]["batch_size"] == 4
    assert said["plan"]["seconds"] == 120
    width = said["config"]["recipe"]["width"]
    assert said["config"]["architecture"]["channels"] == [width, width, 2 * width]
    assert said["plan"]["parameters"] > 1e5


def test_a_run_past_its_limit_is_not_changed(
    diffcli: Command, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options = ("--data", pictures, "--batch-size", "4", "--max-steps", "3", "--name", "a")
    first = diffcli("train", "--quiet", "--json", *options)
    assert first.code == 0
    assert json.loads(first.out)["folder"] == str(Path("runs", "a"))
    run = tmp_path / "runs" / "a"
    before = {path.name: path.read_bytes() for path in run.iterdir()}

    past = diffcli("train", "--resume", "a", "--max-steps", "2")
    assert past.code == 2
    assert "3 steps" in past.err.splitlines()[-1]
    assert past.err.endswith("give a later limit\n")
    assert "expected to take" not in past.err
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before

    again = diffcli("train", "--resume", "a", "--json")
    assert json.loads(again.out) == json.loads(first.out)
    assert "3 steps" in again.err
    assert "complete" in again.err
    assert "expected to take" not in again.err
    assert weights(run) == {
        name: tensor.numpy().tobytes() for name, tensor in load(before["model.safetensors"]).items()
    }

    longer = diffcli("train", "--resume", "a", "--max-steps", "5", "--quiet", "--json")
    assert json.loads(longer.out)["steps"] == 5


def test_a_name_that_is_taken_is_noticed_before_anything_is_read(
    diffcli: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "a").mkdir(parents=True)
    done = diffcli("train", "--name", "a", "--dry-run", "--data", "nowhere")
    assert done.is_one_line_error(2, "runs", "a exists", "--force")


@pytest.mark.process
def test_without_a_compiler_a_message_is_printed_and_training_goes_on(
    diffcli_process: Command, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", str(tmp_path / "no-such-compiler"))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    options = ("--data", pictures, "--batch-size", "4", "--max-steps", "3", "--device", "cpu")
    plain = diffcli_process("train", "--name", "plain", *options, cwd=tmp_path)
    tried = diffcli_process("train", "--name", "tried", "--compile", *options, cwd=tmp_path)
    assert (plain.code, tried.code) == (0, 0), tried.err
    reasons = [line for line in tried.err.splitlines() if "cannot be compiled" in line]
    assert len(reasons) == 1
    assert "no-such-compiler" in reasons[0]
    assert "Traceback" not in tried.err
    assert len(tried.err.splitlines()) == len(plain.err.splitlines()) + 2
    assert weights(tmp_path / "runs" / "tried") == weights(tmp_path / "runs" / "plain")

    config = json.loads((tmp_path / "runs" / "tried" / "config.json").read_text())
    assert config["compile"] is True


def test_a_resumed_run_is_compiled_if_asked_or_if_it_was_before(
    diffcli: Command, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[Trainer] = []

    def record(trainer: Trainer) -> None:
        compiled.append(trainer)

    monkeypatch.setattr(Trainer, "compile", record)
    monkeypatch.chdir(tmp_path)
    steps = iter(range(2, 9))

    def train(*options: object) -> int:
        compiled.clear()
        done = diffcli("train", *options, "--max-steps", next(steps), "--quiet")
        assert done.code == 0, done.err
        return len(compiled)

    assert train("--data", pictures, "--batch-size", "4", "--name", "a") == 0
    assert train("--resume", "a") == 0
    assert train("--resume", "a", "--compile") == 1
    assert train("--resume", "a") == 1


def test_the_plan_of_a_resumed_run_is_what_is_left_of_it(
    diffcli: Command, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plan, "measure_speed", lambda _: 8.0)
    options = ("--data", pictures, "--batch-size", "4", "--name", "a", "--quiet")
    assert diffcli("train", *options, "--max-steps", "3").code == 0
    for limit, seconds in (("12", 4.5), ("4", 0.5)):
        again = ("train", "--resume", "a", "--max-steps", limit, "--dry-run", "--json")
        assert json.loads(diffcli(*again).out)["plan"]["seconds"] == pytest.approx(seconds)


def test_options_of_the_run_are_in_its_configuration(
    diffcli: Command, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options = ("--seed", 9, "--flip", "--batch-size", 4, "--learning-rate", 0.01, "--max-steps", 7)
    done = diffcli("train", "--data", pictures, "--dry-run", "--json", "--quiet", *options)
    config = json.loads(done.out)["config"]
    assert (config["seed"], config["flip"], config["max_steps"]) == (9, True, 7)
    assert (config["recipe"]["batch_size"], config["recipe"]["learning_rate"]) == (4, 0.01)
