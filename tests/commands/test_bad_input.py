"""Whatever is asked for wrongly is one line on stderr, and leaves nothing behind.

The line says what, why and what to do; the exit code is 2 for wrong usage, 1 for failures.
"""

import sys
from pathlib import Path

import pytest
from PIL import Image

from diffcli.files.checkpoint import save_model
from tests import tiny
from tests.conftest import Command

pytestmark = pytest.mark.long

USAGE, FAILURE = 2, 1

RUNS = {
    "cut": '{"batch_size": 4',
    "list": "[]",
    "unknown": '{"batch_sizes": 4}',
    "nothing": '{"batch_size": 0}',
    "flat": '{"image_size": [8]}',
    "still": '{"learning_rate": -1.0}',
    "endless": '{"recipe": "fast"}',
    "deep": "[" * 100_000,
}
"""Configurations of runs that cannot be."""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a good model, a good picture, and some that are neither."""
    monkeypatch.chdir(tmp_path)
    save_model(Path("good.safetensors"), tiny.description(), tiny.network().state_dict())
    other = tiny.network(tiny.config(classes=5)).state_dict()
    save_model(Path("other.safetensors"), tiny.description(), other)
    broken = tiny.network().state_dict()
    broken[next(iter(broken))][:] = float("nan")
    save_model(Path("nan.safetensors"), tiny.description(), broken)
    content = Path("good.safetensors").read_bytes()
    Path("truncated.safetensors").write_bytes(content[: len(content) // 2])
    Path("empty.safetensors").touch()
    Image.effect_noise((16, 16), 50).save("good.png")
    Path("truncated.png").write_bytes(Path("good.png").read_bytes()[:100])
    Path("text.png").write_text("this is no picture")
    Path("folder.png").mkdir()
    Path("runs").mkdir()
    (Path("runs") / "taken").mkdir()
    for run, text in {"good": "{}", **RUNS}.items():
        (Path("broken") / run).mkdir(parents=True)
        (Path("broken") / run / "config.json").write_text(text)
    return tmp_path


def contents(folder: Path) -> dict[Path, bytes | None]:
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def assert_refused(
    diffcli: Command, place: Path, line: str, code: int, words: tuple[str, ...]
) -> None:
    before = contents(place)
    result = diffcli(*line.split())
    assert result.is_one_line_error(code, *words), result
    assert contents(place) == before


SAMPLE = "sample --model good.safetensors "

WRONG_USAGE = [
    ("nonsense", ["nonsense"]),
    ("sample --nonsense", ["--nonsense"]),
    ("sample extra", ["extra"]),
    (SAMPLE + "--label 3", ["'3'", "class", "zero"]),
    (SAMPLE + "--label -1", ["-1"]),
    (SAMPLE + "--label 0-3", ["0-3", "class"]),
    (SAMPLE + "--label 2-1", ["2-1", "write 1-2"]),
    (SAMPLE + "--label nobody", ["nobody", "class"]),
    (SAMPLE + "--n 0", ["0"]),
    (SAMPLE + "--n -3", ["-3"]),
    (SAMPLE + "--n many", ["many"]),
    (SAMPLE + "--n 99999999999", ["99999999999"]),
    (SAMPLE + "--steps 0", ["steps", "0"]),
    (SAMPLE + "--steps 21", ["steps", "1 .. 20", "21"]),
    (SAMPLE + "--steps -1", ["-1"]),
    (SAMPLE + "--steps 1.5", ["1.5"]),
    (SAMPLE + "--sampler euler", ["euler", "ddim"]),
    (SAMPLE + "--guidance nan", ["guidance", "nan"]),
    (SAMPLE + "--guidance inf", ["guidance", "inf"]),
    (SAMPLE + "--guidance -1", ["guidance", "-1"]),
    (SAMPLE + "--seed -1", ["-1"]),
    (SAMPLE + "--seed 4294967296", ["4294967296"]),
    (SAMPLE + "--device cuda:99", ["cuda:99", "cpu"]),
    (SAMPLE + "--device toaster", ["toaster", "cpu"]),
    (SAMPLE + "-o text.png/grid.png", ["text.png"]),
    (SAMPLE + "-o text.png/folder/grid.png", ["text.png is a file"]),
    (SAMPLE + "--guidance-interval 5-9", ["--guidance-interval", "another --guidance"]),
    (SAMPLE + "-o grid.xyz", ["grid.xyz"]),
    ("sample --model nowhere.safetensors", ["nowhere.safetensors", "run"]),
    ("info nowhere", ["there is no nowhere", "the name of a run", "mnist-2step"]),
    ("noise-demo", ["image"]),
    ("noise-demo nowhere.png", ["there is no picture nowhere.png", "name another one"]),
    ("noise-demo good.png --t 300", ["300", "0 .. 299"]),
    ("noise-demo good.png --t -1", ["-1"]),
    ("noise-demo good.png --t 0,x", ["'0,x'"]),
    ("noise-demo good.png --schedule quadratic", ["quadratic", "cosine"]),
    ("noise-demo good.png --timesteps 0", ["0"]),
    ("noise-demo good.png -o noise.xyz", ["noise.xyz"]),
    ("noise-demo good.png -o noise.png --json", ["draws no figure", "--output"]),
    ("noise-demo good.png --model nowhere", ["nowhere"]),
    ("inspect-embedding --dim 3", ["3", "even"]),
    ("inspect-embedding --dim 0", ["0"]),
    ("inspect-embedding --dim -2", ["-2"]),
    ("train --epochs 0", ["--epochs"]),
    ("train --epochs -2", ["--epochs"]),
    ("train --epochs nan", ["--epochs"]),
    ("train --epochs inf", ["--epochs"]),
    ("train --max-steps 0", ["0"]),
    ("train --max-time soon", ["soon", "10m"]),
    ("train --max-time 0s", ["0s"]),
    ("train --batch-size 0", ["0"]),
    ("train --learning-rate 0", ["learning-rate"]),
    ("train --learning-rate nan", ["learning-rate", "nan"]),
    ("train --augmentation -0.5", ["--augmentation must be at least 0 and at most 1, not -0.5"]),
    ("train --augmentation 1.5", ["--augmentation must be at least 0 and at most 1, not 1.5"]),
    ("train --augmentation nan", ["--augmentation", "nan"]),
    ("train --seed -1", ["-1"]),
    ("train --recipe best", ["best", "ddpm"]),
    ("train --device cuda:99", ["cuda:99", "cpu"]),
    ("train --data nowhere", ["nowhere", "mnist"]),
    ("train --image-size 30 --max-steps 1", ["30", "multiples of 4"]),
    ("train --image-size big", ["big", "32"]),
    ("train --name taken --max-steps 1 -q", ["taken", "--force", "--resume"]),
    ("train --name ../outside --max-steps 1", ["outside"]),
    ("train --name= --max-steps 1", ["--name ''"]),
    ("train --name mnist --max-steps 1", ["--name mnist", "shipped model"]),
    ("train --batch-size 1000000000", ["1000000000", "65536"]),
    ("train --name Nul.1 --max-steps 1", ["--name 'Nul.1'", "folder"]),
    ("train --name a. --max-steps 1", ["--name 'a.'", "folder"]),
    ("train --name com¹ --max-steps 1", ["--name 'com¹'", "folder"]),
    ("train --name a\udcff --max-steps 1", ["--name", "folder"]),
    ("tune", ["belongs to the program", "--output"]),
    ("tune --evaluations 0 -o a.safetensors", ["0"]),
    ("tune --max-time 0 -o a.safetensors", ["'0'", "10m"]),
    ("tune nothing", ["nothing", "mnist"]),
    ("distill nothing", ["nothing", "mnist"]),
    ("distill good.safetensors --name taken", ["taken", "--force", "train --resume"]),
    ("train --resume nothing", ["nothing", "config.json"]),
    ("train --resume broken/good --force", ["--force", "leave one out"]),
    ("train --resume broken/good --batch-size 3", ["--batch-size", "new run"]),
    ("train --resume broken/good --name b", ["--name", "new run"]),
    ("train --resume broken/good --seed 1", ["--seed", "new run"]),
]

FAILURES = [
    *(
        (f"{command} --model {name}.safetensors", [name, "not a usable diffcli model", "--model"])
        for name in ("truncated", "empty", "other", "nan")
        for command in ("sample", "watch", "noise-demo good.png")
    ),
    ("sample --model good.png", ["good.png", "not a usable diffcli model"]),
    ("info empty.safetensors", ["empty.safetensors"]),
    ("info truncated.safetensors", ["truncated.safetensors", "truncated"]),
    ("info text.png", ["text.png"]),
    ("noise-demo text.png", ["text.png", "picture"]),
    ("noise-demo truncated.png", ["truncated.png", "picture"]),
    ("noise-demo folder.png", ["folder.png"]),
    ("noise-demo good.safetensors", ["good.safetensors", "picture"]),
    *((f"train --resume broken/{name}", [f"broken/{name}", "config.json"]) for name in RUNS),
]


@pytest.mark.parametrize(("line", "words"), WRONG_USAGE, ids=[line for line, _ in WRONG_USAGE])
def test_wrong_usage(diffcli: Command, place: Path, line: str, words: list[str]) -> None:
    assert_refused(diffcli, place, line, USAGE, tuple(words))


@pytest.mark.parametrize(("line", "words"), FAILURES, ids=[line for line, _ in FAILURES])
def test_failures(diffcli: Command, place: Path, line: str, words: list[str]) -> None:
    assert_refused(diffcli, place, line, FAILURE, tuple(words))


@pytest.mark.parametrize(
    "line",
    ["tune nothing", "distill nothing", "train --from nothing", "sample --model nothing"],
)
def test_advice_names_only_options_that_the_command_has(
    diffcli: Command, place: Path, line: str
) -> None:
    result = diffcli(*line.split())
    assert result.is_one_line_error(USAGE, "nothing"), result
    assert ("--model" in result.err) == line.startswith("sample")


@pytest.mark.parametrize("line", ["train --max-steps 1 --batch-size 2 -q", SAMPLE + "--n 1"])
def test_where_there_should_be_a_folder_there_is_a_file(
    diffcli: Command, place: Path, line: str
) -> None:
    """``runs`` and the output cannot be written to, whoever one is."""
    for path in (place / "runs" / "taken", place / "runs"):
        path.rmdir()
    (place / "runs").write_text("a file")
    (place / "grid").write_text("a file")
    before = contents(place)
    result = diffcli(*line.split(), *(["-o", "grid/a.png"] if "sample" in line else []))
    assert result.code in (USAGE, FAILURE)
    assert result.is_one_line_error(result.code)
    assert contents(place) == before


@pytest.mark.skipif(
    sys.platform != "linux",
    reason="the folder is /sys, to which not even root can write, and only Linux has it",
)
@pytest.mark.parametrize(
    "line", [SAMPLE + "--n 1", "noise-demo good.png", "inspect-embedding"], ids=str.split
)
def test_a_folder_that_cannot_be_written_to(diffcli: Command, place: Path, line: str) -> None:
    before = contents(place)
    result = diffcli(*line.split(), "-o", "/sys/picture.png")
    assert result.code == FAILURE, result
    *earlier, last = result.err.splitlines()
    assert last.startswith("diffcli: ")
    assert "/sys/" in last
    assert not any(line.startswith(("diffcli: ", "Traceback")) for line in earlier)
    assert contents(place) == before


@pytest.mark.process
def test_a_process_reports_just_the_same(diffcli_process: Command, place: Path) -> None:
    usage = diffcli_process("sample", "--model", "good.safetensors", "--steps", "0", cwd=place)
    assert usage.is_one_line_error(USAGE, "steps"), usage
    failure = diffcli_process("sample", "--model", "truncated.safetensors", cwd=place)
    assert failure.is_one_line_error(FAILURE, "truncated.safetensors"), failure


@pytest.mark.process
def test_a_traceback_can_be_asked_for(
    diffcli_process: Command, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIFFCLI_DEBUG", "1")
    result = diffcli_process("sample", "--model", "nowhere", cwd=place)
    assert result.code != 0
    assert "Traceback" in result.err
    assert "UsageError: there is no model nowhere" in result.err
