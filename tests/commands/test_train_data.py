"""What ``diffcli train`` says of its pictures, and of a model that knows them by heart."""

import re
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from PIL import Image

from diffcli.files.checkpoint import read_description
from tests.conftest import Command
from tests.data.files import put
from tests.training.pictures import tiny_digits

pytestmark = pytest.mark.long


@pytest.fixture
def kmnist(tmp_path: Path) -> Path:
    """A folder for downloads with the files of KMNIST in it, of which a run makes copies.

    Ten training pictures, one of each label, are soon known by heart.  Those held out are the
    same ones, noisy, so that the loss on them falls until they are.
    """
    known = tiny_digits(10).images[:, 0]
    noise = 40 * torch.randn(50, 8, 8, generator=torch.Generator().manual_seed(0))
    held_out = (known.repeat(5, 1, 1) + noise).clamp(0, 255)
    for part, images in (("train", known), ("t10k", held_out)):
        path = tmp_path / "downloads" / "KMNIST" / "raw" / f"{part}-images-idx3-ubyte"
        put(path, images, torch.arange(len(images)) % 10)
    return tmp_path / "downloads"


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working folder, and a folder where downloads are kept if no other is named: both empty."""
    monkeypatch.setenv("DIFFCLI_DATA_DIR", str(tmp_path / "cache"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


@pytest.mark.usefixtures("offline", "elsewhere")
def test_files_that_are_there_are_not_downloaded(
    diffcli: Command, kmnist: Path, tmp_path: Path
) -> None:
    options = ("train", "--data", "kmnist", "--width", "16", "--max-steps", "1", "--dry-run")
    missing = diffcli(*options)
    assert missing.is_one_line_error(1, "kmnist", str(tmp_path / "cache"))
    found = diffcli(*options, "--data-dir", kmnist)
    assert (found.code, found.out) == (0, ""), found.err
    assert re.search(r"^data +kmnist +flag +$", found.err, re.MULTILINE)


@pytest.mark.usefixtures("offline", "elsewhere")
def test_a_run_that_only_copies_says_so_and_which_average_it_kept(
    diffcli: Command, kmnist: Path
) -> None:
    options = ("--data", "kmnist", "--data-dir", kmnist, "--width", "16", "--batch-size", "4")
    limits = ("--max-steps", "700", "--augmentation", "0", "--name", "few")
    done = diffcli("train", *options, *limits)
    assert done.code == 0, done.err
    told = read_description(Path("runs", "few", "model.safetensors")).training
    assert told["kept_step"] < 700
    *_, kept, copied, last = done.err.splitlines()
    assert kept == (
        f"the loss on held-out pictures was lowest after step {told['kept_step']:,} of 700; "
        "the average of then is the model"
    )
    assert copied == (
        f"warning: about {told['copies']:.0%} of the pictures are closer to a training image than "
        "held-out images are, as copies would be; train for a shorter time, or on more pictures"
    )
    assert last.startswith("draw with it: ")

    short = diffcli("train", *options, "--max-steps", "2", "--name", "short")
    assert short.code == 0, short.err
    assert "warning" not in short.err
    assert "the average of then" not in short.err


@pytest.fixture
def uneven(tmp_path: Path) -> Path:
    """A folder of pictures, one of them torn, and one of another size."""
    folder = tmp_path / "uneven" / "all"
    folder.mkdir(parents=True)
    for number in range(20):
        Image.new("L", (8, 12), number).save(folder / f"{number}.png")
    Image.new("L", (9, 12)).save(folder / "odd.png")
    (folder / "torn.png").write_bytes((folder / "1.png").read_bytes()[:40])
    return folder.parent


@pytest.mark.usefixtures("elsewhere")
def test_pictures_that_are_torn_or_of_another_size_are_told_of(
    diffcli: Command, uneven: Path
) -> None:
    options = ("train", "--data", uneven, "--width", "16", "--max-steps", "1", "--dry-run")
    skipped = "files that cannot be read and are skipped: 1"
    odd = "pictures of another size, resized to 8x12: 1"
    lines = diffcli(*options).err.splitlines()
    assert lines.count(odd) == 1
    (reason,) = (b for a, b in pairwise(lines) if a == skipped)
    assert reason.startswith("  ")
    assert str(uneven / "all" / "torn.png") in reason

    # Whoever names a size expects all pictures to have it.
    lines = diffcli(*options, "--image-size", "8x12").err.splitlines()
    assert skipped in lines
    assert not [line for line in lines if "another size" in line]

    quiet = diffcli(*options, "--quiet", "--json")
    assert (quiet.code, quiet.err) == (0, "")


@pytest.mark.usefixtures("elsewhere")
def test_only_the_first_files_that_cannot_be_read_are_listed(
    diffcli: Command, tmp_path: Path
) -> None:
    folder = tmp_path / "torn"
    folder.mkdir()
    for number in range(60):
        Image.new("L", (8, 8), number).save(folder / f"{number}.png")
    for number in range(6):
        (folder / f"torn{number}.png").write_bytes(b"no picture")
    options = ("--width", "16", "--max-steps", "1", "--dry-run")
    lines = diffcli("train", "--data", folder, *options).err.splitlines()
    start = lines.index("files that cannot be read and are skipped: 6")
    told = lines[start + 1 : start + 7]
    assert [str(folder / f"torn{number}.png") in told[number] for number in range(5)] == [True] * 5
    assert told[5] == "  ..."
