"""Real signals to real training processes: nothing that was saved is ever lost."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from diffcli.files.checkpoint import load_model
from diffcli.training.run_folder import METRICS_FILE
from tests.conftest import Command
from tests.training.pictures import tiny_digits, write_folder

pytestmark = pytest.mark.process

ON_WINDOWS = sys.platform == "win32"
POSIX_SIGNALS = pytest.mark.skipif(
    ON_WINDOWS, reason="on Windows, no process can send another one SIGINT, SIGTERM or SIGKILL"
)


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


@POSIX_SIGNALS
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


SWALLOWS = """
import signal
try:
    signal.raise_signal(signal.SIGINT)
except BaseException:
    print("went on")
"""


def test_a_signal_in_an_import_that_would_swallow_it_ends_the_process(tmp_path: Path) -> None:
    (tmp_path / "swallows.py").write_text(SWALLOWS)
    program = "import signal\nfrom diffcli.__main__ import _interrupt\n"
    program += "signal.signal(signal.SIGINT, _interrupt)\n"
    for line, code, out, err in (
        ("import swallows", 130, "", "diffcli: interrupted\n"),
        (SWALLOWS, 0, "went on\n", ""),
    ):
        done = subprocess.run(
            [sys.executable, "-c", program + line],
            cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stdout, done.stderr) == (code, out, err)


@POSIX_SIGNALS
def test_a_signal_ends_other_commands_with_a_line() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "diffcli", "evaluate", "-m", "mnist"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr
    assert process.stderr.readline() == "model: mnist\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out, err.splitlines()[-1]) == (130, "", "diffcli: interrupted")


@POSIX_SIGNALS
def test_the_second_signal_leaves_at_once(pictures: Path, tmp_path: Path) -> None:
    # One step on 5,000 pictures takes seconds, so that the second signal falls into it.
    run = tmp_path / "runs" / "a"
    options = ("--max-steps", "9", "--batch-size", "5000", "-q")
    process = start(tmp_path, "--data", pictures, "--name", "a", *options)
    wait_for(run / METRICS_FILE, process)  # of the first step
    process.send_signal(signal.SIGINT)
    assert process.stderr
    while "stopping after this step" not in (line := process.stderr.readline()):
        assert line, process.communicate()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (130, "")  # and nothing about a step that is saved
    assert not list(run.glob(".*.tmp"))


@pytest.mark.skipif(ON_WINDOWS, reason="Windows has no limit on the size of files")
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
    assert failed.stderr.endswith(f"go on with: diffcli train --resume {Path('runs', 'a')}\n")
    assert {path.name: path.read_bytes() for path in run.glob("*.safetensors")} == before
    assert not list(run.glob(".*"))

    resumed = diffcli_process("train", "--resume", "a", "--max-steps", "6", "-q", cwd=tmp_path)
    assert resumed.code == 0, resumed.err
    assert load_model(run / "model.safetensors")[0].training["steps"] == 6


@POSIX_SIGNALS
@pytest.mark.slow
def test_fifty_kills_lose_nothing(pictures: Path, tmp_path: Path) -> None:
    """SIGKILL at random moments; every time, what is on disk loads and training goes on."""
    driver = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("fifty_kills.py")), str(pictures)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert driver.returncode == 0, driver.stderr[-2000:]
    assert driver.stdout.strip().endswith("50 kills survived")


@pytest.mark.skipif(
    ON_WINDOWS,
    reason="Windows replaces no file that another process reads, and this one never stops",
)
def test_what_is_loaded_while_a_run_writes_is_a_whole_model(pictures: Path, tmp_path: Path) -> None:
    model = tmp_path / "runs" / "a" / "model.safetensors"
    options = ("--max-steps", "600", "--batch-size", "20", "--width", "16")
    process = start(tmp_path, "--data", pictures, "--name", "a", *options)
    wait_for(model, process)
    steps = []
    while process.poll() is None:
        steps.append(load_model(model)[0].training["steps"])
    _, err = process.communicate()
    assert process.returncode == 0, err
    assert steps == sorted(steps)
    # It was replaced under the eyes of the reader.
    assert len(set(steps)) > 3
    assert load_model(model)[0].training["steps"] == 600
