"""Folders of pictures as data sets."""

import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path, PurePath
from tempfile import TemporaryDirectory

import pytest
import torch
from PIL import Image

from diffcli.data import folder as folders
from diffcli.data.folder import list_pictures, load_folder
from diffcli.data.sources import load_data
from diffcli.errors import DiffcliError, UsageError
from diffcli.files.reading import open_picture
from tests.rights import unprivileged
from tests.training.pictures import CLASSES, tiny_digits, write_folder


def solid(
    path: Path, size: tuple[int, int], colour: float | tuple[int, ...], mode: str = "RGB"
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path)


def test_a_folder_holds_what_was_written(tmp_path: Path) -> None:
    digits = tiny_digits()
    read, unreadable, _ = load_folder(write_folder(tmp_path, digits))
    assert unreadable == []
    assert read.class_names == CLASSES
    order = digits.labels.argsort(stable=True)
    assert torch.equal(read.labels, digits.labels[order])
    assert torch.equal(read.images, digits.images[order])


def test_the_order_is_that_of_names_on_all_systems(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("B", "a", "a b", "a-b", "ä")
    for name in names:
        for file in ("B.png", "a.png", "a-1/c.png", "a/c.png", "D/c.png"):
            solid(tmp_path / name / file, (4, 4), 10, "L")
    # Paths of Windows are compared without case.
    monkeypatch.setattr(PurePath, "__lt__", lambda a, b: str(a).lower() < str(b).lower())
    found, files = list_pictures(tmp_path)
    assert found == names
    for label, name in enumerate(names):
        own = [path.relative_to(tmp_path / name).as_posix() for path, of in files if of == label]
        assert own == ["B.png", "D/c.png", "a/c.png", "a-1/c.png", "a.png"]


@pytest.mark.skipif(
    not hasattr(os, "seteuid"), reason="Windows folders do not have the rights of chmod"
)
def test_a_folder_that_may_not_be_read_is_not_an_empty_one() -> None:
    # The folders of pytest cannot even be entered without the rights of root.
    with TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        solid(Path(place, "a", "new", "a.png"), (4, 4), 10, "L")
        solid(Path(place, "a", "old", "b.png"), (4, 4), 10, "L")
        closed = Path(place, "a", "new")
        closed.chmod(0o000)
        with unprivileged(), pytest.raises(PermissionError) as error:
            load_folder(Path(place))
        assert error.value.filename == str(closed)
        closed.chmod(0o755)


def test_a_flat_folder_is_one_class(tmp_path: Path) -> None:
    solid(tmp_path / "cats" / "a.png", (8, 4), 10, "L")
    read, *_ = load_folder(tmp_path / "cats")
    assert read.class_names == ("cats",)
    assert read.images.shape == (1, 1, 4, 8)


def test_one_picture_in_colour_makes_all_rgb(tmp_path: Path) -> None:
    solid(tmp_path / "a" / "grey.png", (4, 4), 7, "L")
    solid(tmp_path / "b" / "red.png", (4, 4), (255, 0, 0))
    read, *_ = load_folder(tmp_path)
    assert read.images[:, :, 0, 0].tolist() == [[7, 7, 7], [255, 0, 0]]


def test_shades_of_grey_in_rgb_are_grey(tmp_path: Path) -> None:
    digits = tiny_digits(20)
    write_folder(tmp_path, digits)
    paths = sorted(tmp_path.rglob("*.png"))
    for path in paths[::2]:
        with Image.open(path) as picture:
            drawing = picture.convert("RGB")
        drawing.save(path)
    read, *_ = load_folder(tmp_path)
    assert torch.equal(read.images, digits.images[digits.labels.argsort(stable=True)])
    drawing.putpixel((7, 7), (9, 9, 8))
    drawing.save(path)
    coloured, *_ = load_folder(tmp_path)
    assert coloured.images.shape[1] == 3
    changed = (coloured.images != read.images).nonzero()
    assert changed[:, 2:].unique(dim=0).tolist() == [[7, 7]]


def test_other_shapes_are_cropped_at_the_centre(tmp_path: Path) -> None:
    wide = Image.new("L", (8, 4), 0)
    wide.paste(200, (2, 0, 6, 4))
    (tmp_path / "a").mkdir()
    wide.save(tmp_path / "a" / "wide.png")
    read, *_ = load_folder(tmp_path, (4, 4))
    assert torch.equal(read.images, torch.full((1, 1, 4, 4), 200, dtype=torch.uint8))


def test_a_few_pictures_of_other_sizes_are_resized(tmp_path: Path) -> None:
    for number in range(18):
        solid(tmp_path / "a" / f"{number}.png", (8, 6), 10, "L")
    for number in range(2):
        solid(tmp_path / "b" / f"{number}.png", (9 + number, 8), 200, "L")
    read, _, resized = load_folder(tmp_path)
    assert (read.images.shape, resized) == ((20, 1, 6, 8), 2)
    assert read.images[18:].unique().tolist() == [200]
    assert load_folder(tmp_path, (6, 8)).resized == 2
    solid(tmp_path / "b" / "3.png", (8, 8), 200, "L")
    with pytest.raises(UsageError, match=r"4 different sizes \(8x6 in 18 of 21\)"):
        load_folder(tmp_path)


def test_pictures_that_differ_in_size_need_one(tmp_path: Path) -> None:
    solid(tmp_path / "a" / "1.png", (8, 8), 0, "L")
    solid(tmp_path / "a" / "2.png", (9, 8), 0, "L")
    with pytest.raises(UsageError, match="different sizes") as caught:
        load_folder(tmp_path)
    assert caught.value.argument == "image_size"
    assert "--" not in str(caught.value)


def test_a_class_without_a_picture_that_can_be_read_is_refused(tmp_path: Path) -> None:
    write_folder(tmp_path, tiny_digits(40))
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "a.png").write_text("no picture")
    with pytest.raises(UsageError, match=r"class folder .*torn can be read"):
        load_folder(tmp_path)


def test_unreadable_files_are_listed_up_to_a_tenth(tmp_path: Path) -> None:
    write_folder(tmp_path, tiny_digits(18))
    (tmp_path / "one" / "torn.png").write_bytes(b"no picture")
    (tmp_path / "one" / "notes.txt").write_text("not looked at")
    read, unreadable, _ = load_folder(tmp_path)
    assert len(read) == 18
    assert [item.path.name for item in unreadable] == ["torn.png"]
    for name in ("b.png", "c.png"):
        (tmp_path / "one" / name).write_bytes(b"no picture")
    with pytest.raises(DiffcliError, match="3 of 21"):
        load_folder(tmp_path)


def test_reading_is_reported_to_the_last_picture(tmp_path: Path) -> None:
    told: list[tuple[int, int, int]] = []
    load_folder(
        write_folder(tmp_path, tiny_digits(10)),
        None,
        lambda *progress: told.append(progress),
    )
    assert told == [(done, 10, 10 * 8 * 8) for done in range(11)]


@pytest.mark.parametrize("flat", [False, True])
def test_hidden_files_and_folders_are_not_looked_at(tmp_path: Path, flat: bool) -> None:
    """As other programs leave them: of macOS, of notebooks, of viewers of pictures."""
    place = tmp_path if flat else tmp_path / "b"
    for number in range(3):
        solid(place / f"{number}.png", (8, 4), number, "L")
        if not flat:
            solid(tmp_path / "a" / f"{number}.png", (8, 4), 10 + number, "L")
    before = load_folder(tmp_path)
    (place / "._0.png").write_bytes(b"no picture")
    (place / "._later.png").write_bytes(b"no picture")
    for folder in (tmp_path / ".ipynb_checkpoints", place / ".thumbnails" / "small"):
        solid(folder / "0.png", (2, 2), (255, 0, 0))
    after = load_folder(tmp_path)
    assert after.pictures.class_names == ((tmp_path.name,) if flat else ("a", "b"))
    assert after.pictures.class_counts == before.pictures.class_counts
    assert torch.equal(after.pictures.images, before.pictures.images)
    assert (after.unreadable, after.resized) == ([], 0)


@pytest.mark.parametrize("make", [lambda p: p / "none", lambda p: p])
def test_an_empty_folder_is_an_error(make: Callable[[Path], Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no folder|no pictures"):
        load_folder(make(tmp_path))


def test_an_empty_class_is_an_error(tmp_path: Path) -> None:
    solid(tmp_path / "a" / "1.png", (8, 8), 0, "L")
    (tmp_path / "b").mkdir()
    with pytest.raises(UsageError, match="no pictures"):
        load_folder(tmp_path)


@pytest.mark.parametrize("read", [load_folder, list_pictures])
def test_pictures_beside_class_folders_are_refused(
    read: Callable[[Path], object], tmp_path: Path
) -> None:
    """Else a folder with one sub-folder would be that sub-folder alone."""
    for name in ("old/1", "2", "3"):
        solid(tmp_path / f"{name}.png", (8, 8), 0, "L")
    with pytest.raises(UsageError, match=r"beside the class .* \(2, the first one is 2.png\)"):
        read(tmp_path)
    for name in ("2.png", "3.png"):
        (tmp_path / name).rename(tmp_path / f".{name}")
    (tmp_path / "notes.txt").write_text("not looked at")
    read(tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="others have no such names of files")
@pytest.mark.parametrize("flat", [False, True])
def test_a_class_whose_name_is_not_unicode_is_refused(tmp_path: Path, flat: bool) -> None:
    place = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    solid(place / "1.png", (8, 8), 0, "L")
    with pytest.raises(UsageError, match=r"caf\\udce9 is not valid Unicode; rename it") as caught:
        load_folder(place if flat else tmp_path)
    assert str(caught.value).isprintable()


def test_few_pictures_are_in_memory_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where there are many processors."""
    readers: set[int] = set()

    def slow(path: Path) -> Image.Image:
        readers.add(threading.get_ident())
        time.sleep(0.002)
        return open_picture(path)

    for number in range(60):
        solid(tmp_path / f"{number}.png", (4, 4), number, "L")
    monkeypatch.setattr(folders, "open_picture", slow)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "process_cpu_count", lambda: 64, raising=False)
    assert len(load_folder(tmp_path).pictures) == 60
    assert 1 < len(readers) <= 8


PEAK = """
import re
from pathlib import Path
from diffcli.data.folder import load_folder
peak = lambda: int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
load_folder(Path("small"))
before = peak()
load_folder(Path("large"), (8, 8))
print(peak() - before)
"""


@pytest.mark.long
@pytest.mark.process
@pytest.mark.skipif(sys.platform != "linux", reason="others have no /proc")
def test_a_large_picture_is_in_memory_twice_at_most(tmp_path: Path) -> None:
    """Pillow takes four bytes for a pixel in colour."""
    solid(tmp_path / "small" / "a.png", (8, 8), (9, 9, 9))
    (tmp_path / "large").mkdir()
    Image.new("RGB", (6000, 5000), (9, 9, 9)).save(tmp_path / "large" / "a.png", compress_level=1)
    done = subprocess.run(
        [sys.executable, "-c", PEAK], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    copies = int(done.stdout) * 1024 / (6000 * 5000 * 4)
    assert 1 < copies < 2.4


def test_a_set_beyond_memory_is_refused_before_it_is_read(tmp_path: Path) -> None:
    solid(tmp_path / "a" / "1.png", (8, 8), 0)
    with pytest.raises(DiffcliError, match="GiB"):
        load_folder(tmp_path, (1_000_000, 1_000_000))


@pytest.mark.parametrize(("count", "held_out"), [(1, 1), (3, 1), (50, 10), (100, 16), (340, 17)])
def test_a_twentieth_is_held_out_and_more_of_few(tmp_path: Path, count: int, held_out: int) -> None:
    for number in range(count):
        Image.new("L", (4, 4), number % 256).save(tmp_path / f"{number}.png")
    data = load_data(str(tmp_path))
    assert len(data.held_out) == held_out
    assert len(data.train) == max(1, count - held_out)


def test_each_class_is_held_out_in_its_share(tmp_path: Path) -> None:
    for number in range(200):
        label = "few" if number % 4 == 0 else "many"
        solid(tmp_path / label / f"{number}.png", (4, 4), number, "L")
    data = load_data(str(tmp_path))
    assert data.train.labels.bincount().tolist() == [46, 138]
    assert data.held_out.labels.bincount().tolist() == [4, 12]
    shades = torch.cat([data.train.images, data.held_out.images])[:, 0, 0, 0]
    assert sorted(shades.tolist()) == list(range(200))


def write_many(folder: Path, count: int) -> None:
    for number in range(count):
        solid(folder / "a" / f"{number:02}.png", (8, 8), (number, 0, 0))


@pytest.mark.parametrize("gone", [3, 4])
def test_a_picture_that_is_damaged_after_the_first_look_is_left_out(
    gone: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_many(tmp_path, 30)
    looks: Counter[Path] = Counter()

    def look(path: Path) -> Image.Image:
        looks[path] += 1
        if looks[path] == 2 and int(path.stem) < gone:
            raise DiffcliError(f"{path} is damaged")
        return open_picture(path)

    monkeypatch.setattr(folders, "open_picture", look)
    if gone > 3:
        with pytest.raises(DiffcliError, match="4 of 30 pictures cannot be read"):
            load_folder(tmp_path)
        return
    pictures, unreadable, _ = load_folder(tmp_path)
    assert [int(skipped.path.stem) for skipped in unreadable] == [0, 1, 2]
    assert pictures.images[:, 0, 0, 0].tolist() == [*range(3, 30)]
    assert len(pictures.labels) == 27
