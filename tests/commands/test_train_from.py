"""``diffcli train --from``: going on with a model on other pictures."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from diffcli.files.checkpoint import fingerprint, read_description
from diffcli.files.pictures import save_png, to_pillow
from tests.conftest import Command
from tests.training.pictures import tiny_digits, write_folder

pytestmark = pytest.mark.long

MODEL = "model.safetensors"
SHORT = ("--batch-size", "4", "--max-steps", "2", "--quiet")


@pytest.fixture
def work(diffcli: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with a run on digits, and colour pictures of one of them and others."""
    monkeypatch.chdir(tmp_path)
    digits = tiny_digits(20)
    write_folder(tmp_path / "digits", digits)
    options = ("--data", "digits", "--width", "16", "--name", "first")
    assert diffcli("train", *options, *SHORT).code == 0
    for name in ("seven", "star"):
        (tmp_path / "others" / name).mkdir(parents=True)
        for number, image in enumerate(digits.images[:8]):
            grey = to_pillow(image)
            picture = Image.merge("RGB", (grey, grey, Image.new("L", grey.size)))
            save_png(tmp_path / "others" / name / f"{number}.png", picture)
    return tmp_path


@pytest.mark.parametrize("command", [("train", "--from"), ("distill",)])
def test_a_run_may_replace_the_one_that_it_starts_from(
    diffcli: Command, work: Path, command: tuple[str, ...]
) -> None:
    run = work / "runs" / "first"
    before = fingerprint(run / MODEL)
    options = ("--data", "digits", "--name", "first", "--force", "--max-steps", "1", "--quiet")
    done = diffcli(*command, "first", *options)
    assert done.code == 0, done.err
    (copy,) = (
        run / name
        for name in ("origin.safetensors", "teacher.safetensors")
        if (run / name).exists()
    )
    assert fingerprint(copy) == before != fingerprint(run / MODEL)


def test_weights_and_labels_are_taken_over(diffcli: Command, work: Path) -> None:
    options = ("--from", "first", "--data", "others", "--name", "second", "--learning-rate", "1e-9")
    done = diffcli("train", *options, *SHORT[:-1])
    assert done.code == 0, done.err
    assert "going on from first: 1 labels that it knows, 1 new ones" in done.err
    assert "fine-tuning" in done.err
    first, second = work / "runs" / "first", work / "runs" / "second"
    before, after = read_description(first / MODEL), read_description(second / MODEL)
    assert after.class_names == ("seven", "star")
    assert after.architecture.image_shape == (3, 8, 8)
    assert after.architecture.channels == before.architecture.channels == (16, 16, 32)
    assert after.schedule == before.schedule
    assert after.sampling.guidance_scale == 1.5
    assert after.training["went_on_from"] == {
        "model": "first",
        "sha256": fingerprint(first / MODEL),
    }
    old, new = load_file(first / MODEL), load_file(second / MODEL)
    for name in ("middle.blocks.0.conv1.weight", "downs.0.weight"):
        assert torch.allclose(old[name], new[name], atol=1e-6)
    table = "label_embedding.weight"
    seven = before.class_names.index("seven")
    assert torch.allclose(new[table][[0, 2]], old[table][[seven, 3]], atol=1e-6)


@pytest.mark.parametrize("saved", [True, False])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("a new class", ("classes",)),
        ("another name", ()),
        ("a picture in colour", ("RGB",)),
        ("another size", ("16x16", "8x8")),
        ("a picture less", ("training pictures of class", "which had")),
    ],
)
def test_a_run_is_not_resumed_with_other_pictures(
    change: str, words: tuple[str, ...], saved: bool, diffcli: Command, work: Path
) -> None:
    run, digits = work / "runs" / "first", work / "digits"
    if not saved:  # killed in its first seconds
        for name in (MODEL, "state.safetensors"):
            (run / name).unlink()
    pictures = sorted(digits.rglob("*.png"))
    if change == "a new class":
        (digits / "new").mkdir()
        shutil.copy(pictures[0], digits / "new")
    elif change == "another name":
        pictures[0].parent.rename(digits / "zzz")
    elif change == "a picture less":
        pictures[0].unlink()
    elif change == "a picture in colour":
        Image.new("RGB", (8, 8), "red").save(pictures[0])
    else:
        for path in pictures:
            Image.open(path).resize((16, 16)).save(path)
    before = {path: path.read_bytes() for path in run.iterdir()}
    again = diffcli("train", "--resume", "first", "--max-steps", "4", "--quiet")
    if change in ("another name", "a picture less") and not saved:
        assert again.code == 0  # nothing that was saved depends on it
        return
    assert again.is_one_line_error(2, "start a new run", *words)
    assert "--data" not in again.err
    assert {path: path.read_bytes() for path in run.iterdir()} == before


def test_a_run_whose_pictures_have_moved_says_what_to_do(diffcli: Command, work: Path) -> None:
    (work / "digits").rename(work / "moved")
    again = diffcli("train", "--resume", "first", "--max-steps", "4", "--quiet")
    first = Path("runs", "first")
    assert again.is_one_line_error(2, "'digits'", "put it back", f"new run with --from {first}")
    assert "--data" not in again.err


def test_a_run_does_not_depend_on_where_it_came_from(diffcli: Command, work: Path) -> None:
    options = ("--from", "first", "--data", "others", "--quiet", "--batch-size", "4")
    whole = diffcli("train", *options, "--max-steps", "4", "--name", "whole")
    part = diffcli("train", *options, "--max-steps", "2", "--name", "part")
    assert (whole.code, part.code) == (0, 0)
    (work / "runs" / "first" / MODEL).unlink()
    # As if it had been killed before its state was saved.
    for name in (MODEL, "state.safetensors"):
        (work / "runs" / "part" / name).unlink()
    again = diffcli("train", "--resume", "part", "--max-steps", "4", "--quiet")
    assert again.code == 0, again.err
    old, new = (load_file(work / "runs" / name / MODEL) for name in ("whole", "part"))
    assert all(torch.equal(old[name], new[name]) for name in old)
    refused = diffcli("train", "--resume", "part", "--from", "whole")
    assert refused.is_one_line_error(2, "keeps its --from")


def test_bad_input_is_one_line_and_leaves_nothing(diffcli: Command, work: Path) -> None:
    distilled = ("distill", "first", "--max-steps", "1", "--quiet", "--name", "student")
    assert diffcli(*distilled).code == 0
    before = sorted(path.name for path in (work / "runs").iterdir())
    for options, words in {
        ("nowhere",): ("no model nowhere",),
        ("first", "--width", "32"): ("keeps the width", "--width"),
        ("first", "--recipe", "ddpm"): ("keeps the recipe", "--recipe"),
        ("first", "--image-size", "9"): ("9x9", "multiples of 4", "--image-size"),
        ("student",): ("is distilled", "teacher"),
    }.items():
        done = diffcli("train", "--data", "others", "--quiet", "--from", *options)
        assert done.is_one_line_error(2, *words), (options, done)
    assert sorted(path.name for path in (work / "runs").iterdir()) == before


def test_the_plan_says_where_it_comes_from(diffcli: Command, work: Path) -> None:
    done = diffcli("train", "--from", "first", "--data", "others", "--dry-run", "--json", "--quiet")
    config = json.loads(done.out)["config"]
    assert config["origin"]["model"] == "first"
    assert config["recipe"]["name"] == "fine-tuning"
    assert config["architecture"]["num_classes"] == 2


def test_few_pictures_are_augmented_unless_that_is_turned_off(diffcli: Command, work: Path) -> None:
    # 60 steps of 8 are 37 passes over 13 pictures.
    options = ("--from", "first", "--data", "others", "--batch-size", "8", "--max-steps", "60")
    assert diffcli("train", *options, "--name", "few").code == 0
    assert read_description(work / "runs" / "few" / MODEL).architecture.augmented
    done = diffcli("train", *options, "--name", "plain", "--augmentation", "0", "--dry-run")
    assert re.search(r"augmentation +0(\.0)? +flag", done.err)
    # Such a model is distilled, and drawn from, as any other.
    done = diffcli("distill", "few", "--data", "others", "--max-steps", "6", "--name", "fast")
    assert done.code == 0, done.err
    assert diffcli("sample", "--model", "fast", "-o", "fast.png").code == 0
    done = diffcli("train", *options, "--augmentation", "1.5")
    assert done.is_one_line_error(2, "--augmentation", "1.5")
