"""``diffcli distill``: from any model of this program to one that draws in a step or two."""

import json
from pathlib import Path

import pytest
from PIL import Image

from diffcli.files.checkpoint import fingerprint, read_description
from diffcli.files.pictures import save_png, to_pillow
from tests.conftest import Command
from tests.training.pictures import tiny_digits, write_folder

pytestmark = pytest.mark.long


@pytest.fixture
def work(diffcli: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with pictures and a run on them."""
    monkeypatch.chdir(tmp_path)
    write_folder(tmp_path / "pictures", tiny_digits(20))
    options = ("--data", "pictures", "--batch-size", "4", "--max-steps", "3", "--width", "16")
    assert diffcli("train", "--quiet", "--name", "teacher", *options).code == 0
    return tmp_path


def test_a_run_is_distilled_resumed_drawn_from_and_described(
    diffcli: Command, work: Path, tmp_path: Path
) -> None:
    options = ("--max-steps", "4", "--name", "student", "--guidance", "1.5", "--force")
    done = diffcli("distill", "teacher", *options)
    assert (done.code, done.out) == (0, f"{Path('runs', 'student')}\n")
    assert "consistency, 2 steps" in done.err
    assert "draw with it: diffcli sample --model " in done.err
    assert "tune" not in done.err
    teacher = work / "runs" / "teacher" / "model.safetensors"
    description = read_description(work / "runs" / "student" / "model.safetensors")
    assert description.sampling.steps == 2
    assert description.training["distilled_from"] == {
        "teacher": "teacher",
        "sha256": fingerprint(teacher),
        "guidance_scale": 1.5,
        "guidance_interval": None,
    }
    for name in ("samples.png", "loss.png", "metrics.jsonl", "teacher.safetensors"):
        assert (work / "runs" / "student" / name).is_file()

    longer = diffcli("train", "--resume", "student", "--max-steps", "6", "--quiet", "--json")
    assert json.loads(longer.out)["steps"] == 6

    one = tmp_path / "one.png"
    assert diffcli("sample", "-m", "student", "--label", "one", "-n", "1", "-o", one).code == 0
    shown = json.loads(diffcli("info", one, "--json").out)
    assert "consistency" in json.dumps(shown)
    watched = diffcli("watch", "-m", "student", "--label", "one", "--seed", "1")
    assert (watched.code, watched.out.count("step 2/2") + watched.err.count("step 2/2")) == (0, 1)
    strip = tmp_path / "strip.png"
    assert diffcli("sample", "-m", "student", "--strip", "-n", "1", "-o", strip).code == 0


def test_a_distilled_model_is_not_distilled_again(diffcli: Command, work: Path) -> None:
    first = ("--max-steps", "2", "--steps", "1", "--quiet", "--name", "once")
    assert diffcli("distill", "teacher", *first).code == 0
    for again in (("once",), ()):  # the newest run is that, too
        done = diffcli("distill", *again, "--name", "twice")
        assert done.is_one_line_error(2, "once", "distilled already", "teacher")
    assert not (work / "runs" / "twice").exists()


def test_bad_input_is_one_line_and_leaves_nothing(
    diffcli: Command, work: Path, tmp_path: Path
) -> None:
    others = tmp_path / "others"
    for name in ("cat", "dog"):
        (others / name).mkdir(parents=True)
        for number, image in enumerate(tiny_digits(6).images):
            save_png(others / name / f"{number}.png", to_pillow(image))
    coloured = write_folder(tmp_path / "coloured", tiny_digits(20))
    for path in coloured.rglob("*.png"):
        grey = Image.open(path).convert("L")
        Image.merge("RGB", (grey, grey, Image.new("L", grey.size))).save(path)
    before = sorted(path.name for path in (work / "runs").iterdir())
    for arguments, words in {
        ("nowhere",): ("no model nowhere",),
        ("teacher", "--steps", "301"): ("steps", "1 .. 300"),
        ("teacher", "--guidance", "-1"): ("guidance",),
        ("teacher", "--name", "teacher"): ("teacher exists", "--force"),
        ("teacher", "--data", str(others)): ("classes", "cat", "--data"),
        ("teacher", "--data", str(coloured)): ("draws grey pictures", "data set are RGB", "--data"),
        ("teacher", "--data", "nothing-here"): ("nothing-here",),
        ("teacher", "--epochs", "0"): ("--epochs",),
    }.items():
        done = diffcli("distill", *arguments, "--quiet")
        assert done.is_one_line_error(2, *words), (arguments, done)
    assert sorted(path.name for path in (work / "runs").iterdir()) == before


def test_a_dry_run_writes_nothing(diffcli: Command, work: Path) -> None:
    before = sorted(path.name for path in (work / "runs").iterdir())
    options = ("--seed", 9, "--steps", 3, "--guidance", 1.5)
    done = diffcli("distill", "teacher", "--dry-run", "--json", "--quiet", *options)
    said = json.loads(done.out)
    assert said["config"]["seed"] == 9
    assert said["config"]["recipe"]["sampling"]["steps"] == 3
    assert said["config"]["distillation"]["guidance_scale"] == 1.5
    assert said["config"]["distillation"]["teacher"] == "teacher"
    assert said["config"]["architecture"]["channels"] == [16, 16, 32]
    assert said["config"]["recipe"]["width"] == 16
    assert sorted(path.name for path in (work / "runs").iterdir()) == before
