"""Real signals to real training processes: nothing that was saved is ever lost."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import pytest

from diffcli.files.checkpoint import load_model
from diffcli.training.run_folder import METRICS_FILE
from tests.conftest import Command
from tests.training.pictures import tiny_digits, write_folder

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(
        sys.platform == "win32", reason="Windows sends no SIGINT or SIGTERM to a process"
    ),
]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("pictures"), tiny_digits(20))


def start(folder: Path, *arguments: str | Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "diffcli", "train", *map(str, arguments)],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    while not path.exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_and_prints_how_to_go_on(
    number: signal.Signals, code: int, pictures: Path, tmp_path: Path, diffcli_process: Command
) -> None:
    run = tmp_path / "runs" / "a"
    process = start(
        tmp_path, "--data", pictures, "--name", "a", "--max-steps", "100000", "--batch-size", "4"
    )
    wait_for(run / METRICS_FILE, process)
    process.send_signal(number)
    out, err = process.communicate(timeout=120)
    assert process.returncode == code, err
    assert out == ""
    assert f"diffcli train --resume {Path('runs', 'a')}" in err
    assert "Traceback" not in err
    _, denoiser = load_model(run / "model.safetensors")
    assert denoiser.prediction_type == "v_prediction"
    lines = (run / METRICS_FILE).read_text().splitlines()

    steps = str(json.loads(lines[-1])["step"] + 8)
    resumed = diffcli_process("train", "--resume", "a", "--max-steps", steps, "-q", cwd=tmp_path)
    assert resumed.code == 0, resumed.err
    assert resumed.out.strip() == str(Path("runs/a"))
    assert (run / METRICS_FILE).read_text().splitlines()[: len(lines)] == lines


def test_the_second_signal_leaves_at_once(pictures: Path, tmp_path: Path) -> None:
    # One step on 5,000 pictures takes seconds, so that the second signal falls into it.
    run = tmp_path / "runs" / "a"
    options = ("--max-steps", "9", "--batch-size", "5000", "-q")
    process = start(tmp_path, "--data", pictures, "--name", "a", *options)
    wait_for(run, process)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=120)
    assert process.returncode == 130
    assert not list(run.glob(".*.tmp"))


def test_when_the_disk_takes_no_more_the_last_good_state_and_model_stay(
    pictures: Path, tmp_path: Path, diffcli_process: Command
) -> None:
    """The kernel refuses the write half-way, as on a full disk: here by a limit on file sizes."""
    import resource

    run = tmp_path / "runs" / "a"
    options = ("--data", pictures, "--name", "a", "--max-steps", "3", "--batch-size", "4", "-q")
    assert diffcli_process("train", *options, cwd=tmp_path).code == 0
    before = {path.name: path.read_bytes() for path in run.glob("*.safetensors")}
    assert {"model.safetensors", "state.safetensors"} == set(before)
    half = min(map(len, before.values())) // 2
    failed = subprocess.run(
        [sys.executable, "-m", "diffcli", "train", "--resume", "a", "--max-steps", "6", "-q"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (half, half)),
    )
    assert failed.returncode == 1
    assert failed.stderr.startswith("diffcli: ")
    assert failed.stderr.count("\n") == 1, failed.stderr
    assert "File too large" in failed.stderr
    assert {path.name: path.read_bytes() for path in run.glob("*.safetensors")} == before
    assert [path.name for path in run.glob(".*")] == [".lock"]

    resumed = diffcli_process("train", "--resume", "a", "--max-steps", "6", "-q", cwd=tmp_path)
    assert resumed.code == 0, resumed.err
    assert load_model(run / "model.safetensors")[0].training["steps"] == 6


@pytest.mark.slow
def test_fifty_kills_lose_nothing(pictures: Path, tmp_path: Path) -> None:
    """SIGKILL at random moments; every time, what is on disk loads and training goes on."""
    os.environ["PYTHONPATH"] = str(Path(__file__).parents[2])
    driver = start_driver(pictures, tmp_path)
    assert driver.returncode == 0, driver.stderr[-2000:]
    assert driver.stdout.strip().endswith("50 kills survived")


def start_driver(pictures: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, __file__, str(pictures)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


def kill_fifty_times(pictures: str) -> None:
    """Fork, train, kill: forking spares each life the loading of everything."""
    import torch

    from diffcli.commands.app import app

    for name in ("data.sources", "training.plan", "training.run"):
        import_module(f"diffcli.{name}")

    torch.set_num_threads(1)
    random.seed(0)
    options = ["--data", pictures, "--max-steps", "100000", "--batch-size", "4", "-q"]
    last_step = -1
    for life in range(50):
        child = os.fork()
        if child == 0:
            again = ["--resume", "a"] if Path("runs/a").exists() else ["--name", "a"]
            app(["train", *again, *(options if again[0] == "--name" else ["-q"])])
        # The first step comes after about a second and a half, an epoch a quarter of one later.
        time.sleep(random.uniform(0.05, 3.0))
        os.kill(child, signal.SIGKILL)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL, life
        if Path("runs/a/model.safetensors").exists():
            description, _ = load_model(Path("runs/a/model.safetensors"))
            assert description.training["steps"] >= last_step
            last_step = description.training["steps"]
    assert last_step > 0
    print("50 kills survived")


if __name__ == "__main__":
    kill_fifty_times(sys.argv[1])


def test_what_is_loaded_while_a_run_writes_is_a_whole_model(pictures: Path, tmp_path: Path) -> None:
    model = tmp_path / "runs" / "a" / "model.safetensors"
    process = start(
        tmp_path, "--data", pictures, "--name", "a", "--max-steps", "150", "--batch-size", "20"
    )
    wait_for(model, process)
    steps = []
    while process.poll() is None:
        steps.append(load_model(model)[0].training["steps"])
    _, err = process.communicate()
    assert process.returncode == 0, err
    assert steps == sorted(steps)
    # It was replaced under the eyes of the reader.
    assert len(set(steps)) > 3
    assert load_model(model)[0].training["steps"] == 150
